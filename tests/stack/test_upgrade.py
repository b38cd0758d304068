"""Upgrade and downgrade, with real images. The last file: it removes the stack that was there."""

import json
import os
import subprocess

from tests.stack import engine, hospital
from tests.stack.test_backup import content, fresh, script, started

WHEELS = hospital.DOCKER / "wheelhouse" / "cpu"
OLDER = os.environ.get("MIMIC_REG_STACK_OLDER", "HEAD~1")  # the commit of the last release
PACKAGES = ("Dockerfile", "Dockerfile.dockerignore", "requirements.txt", "requirements-cpu.txt",
            "requirements-cuda.txt", "slim.py", "sbom.py")  # fmt: skip


def checkout_older():
    """The older commit, but what decides on the packages is of today."""
    engine.copy_repository(WHEELS, OLDER)
    for name in PACKAGES:
        engine.run("cp", engine.ROOT / "docker" / name, hospital.DOCKER / name)
    subprocess.run(
        ["podman", "network", "create", "mimic-reg_pages"], check=False, capture_output=True
    )


def complete():
    run = hospital.flow_run(started(), 1200)
    assert run["state_type"] == "COMPLETED", run["state"]["message"] + hospital.logs("worker-cpu")


def test_upgrade_from_the_last_release_and_back(built):
    """Its code and compose.yaml, in an image with the packages of today."""
    hospital.remove()
    checkout_older()
    for line in ("docker/secrets.sh", "cp docker/.env.example docker/.env"):
        hospital.shell(line, folder=engine.CHECKOUT)
    hospital.configured()
    try:
        hospital.compose("build")
        hospital.compose("up --detach --wait")
        hospital.compose("run --rm cli synthesize --out work/raw-kept --patients 60 --overwrite")
        hospital.compose(
            "run --rm cli extract --source work/raw-kept --out work/kept/store --force"
        )
        hospital.inside("cat > work/kept.yaml", input=hospital.EXPERIMENT)
        complete()
        folder = fresh("backup-older")
        before = content()
        script("backup.sh", folder)

        engine.copy_repository(WHEELS)
        hospital.compose("build")
        hospital.compose("up --detach --wait")
        assert content() == before
        model = hospital.CHAMPION
        predict = (
            f"predict --model {model} --work work --store work/kept/store --out work/later.parquet"
        )
        hospital.compose(f"run --rm cli {predict}")
        complete()

        hospital.shell("podman-compose --profile tools --profile cpu down --timeout 10")
        checkout_older()
        hospital.compose("build")
        script("restore.sh", folder)
        hospital.compose("up --detach --wait")
        assert content() == before
        assert json.loads(
            hospital.ask("mlflow", "api/2.0/mlflow/experiments/search?max_results=9")[1]
        )
    finally:
        hospital.remove()
        engine.copy_repository(WHEELS)
