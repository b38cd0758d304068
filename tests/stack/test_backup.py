"""Backup and restore, with real volumes."""

import subprocess
import time

import pytest

from tests.stack import engine, hospital

COUNTS = {
    "mlflow": "select count(*), md5(string_agg(run_uuid || status || lifecycle_stage, '' "
    "order by run_uuid)) from runs",
    "mlflow_users": "select count(*), md5(string_agg(username || is_admin, '' "
    "order by username)) from users",
    "prefect": "select count(*), md5(string_agg(id::text || state_type, '' order by id)) "
    "from flow_run where state_type in ('COMPLETED', 'FAILED', 'CRASHED')",
}
METRICS = (
    "select md5(string_agg(run_uuid || key || value || step, '' "
    "order by run_uuid, key, step, value)) from metrics"
)


@pytest.fixture(scope="module")
def swept(running):
    """Something to lose: a store, a sweep through the worker, its runs in MLflow."""
    hospital.compose("run --rm cli synthesize --out work/raw-kept --patients 60 --overwrite")
    hospital.inside("rm -rf work/kept")
    hospital.compose("run --rm cli extract --source work/raw-kept --out work/kept/store --force")
    hospital.inside("cat > work/kept.yaml", input=hospital.EXPERIMENT)
    return lambda: started()


def started():
    body = {"parameters": {"parameters": {"experiment": "work/kept.yaml", "work": "work/kept"}}}
    path = f"deployments/{hospital.deployment('weekly')['id']}/create_flow_run"
    return hospital.prefect(path, body)["id"]


def psql(database, text):
    return hospital.compose(
        f'exec -T postgres psql -qtAX -U postgres -d {database} -c "{text}"'
    ).strip()


def content():
    """Hashes of everything that a backup is for."""
    tree = "find . -type f -exec sha256sum {} + | sort -k2; find . -printf '%m %U %y %p\\n' | sort"
    found = {database: psql(database, text) for database, text in COUNTS.items()}
    found["metrics"] = psql("mlflow", METRICS)
    found["work"] = hospital.inside(f"cd /app/work && ({tree}) | sha256sum")
    found["artifacts"] = hospital.inside(
        f"cd /app/artifacts && ({tree}) | sha256sum", service="mlflow"
    )
    return found


def script(name, folder):
    """Run backup.sh or restore.sh, as the guide says."""
    done = hospital.shell(f"docker/{name} {folder}", folder=engine.CHECKOUT)
    assert done.returncode == 0, done.said
    return done.said


def fresh(name):
    folder = engine.FOLDER / name
    subprocess.run(["rm", "-rf", folder], check=True)
    return folder


def down():
    hospital.shell("podman-compose --profile tools --profile cpu down --volumes --timeout 10")
    left = engine.run("podman", "volume", "ls", "--quiet")
    assert "mimic-reg" not in left, left


def test_a_backup_during_a_sweep_comes_back_and_the_sweep_goes_on(swept):
    identity = swept()
    time.sleep(25)
    folder = fresh("backup-running")
    assert "treat it as patients' data" in script("backup.sh", folder)
    run = hospital.flow_run(identity, 1200)
    if run["state_type"] != "COMPLETED":  # the worker was stopped meanwhile
        assert hospital.flow_run(swept(), 1200)["state_type"] == "COMPLETED"
    after = hospital.inside("cat work/kept/runs/*/scores.json | sha256sum")
    down()
    script("restore.sh", folder)
    hospital.compose("up --detach --wait")
    assert hospital.flow_run(swept(), 1200)["state_type"] == "COMPLETED"
    assert hospital.inside("cat work/kept/runs/*/scores.json | sha256sum") == after
    trials = hospital.finished_trials("kept")
    assert len(trials) == len(set(trials)) == 4


def test_volumes_that_were_removed_come_back_as_they_were(swept):
    before = content()
    folder = fresh("backup-quiet")
    script("backup.sh", folder)
    down()
    script("restore.sh", folder)
    hospital.compose("up --detach --wait")
    assert content() == before
