"""backup.sh and restore.sh against a real PostgreSQL; `docker compose` is played by a script."""

import os
import subprocess
import sys

import pytest

from tests.docker.stack import ROOT
from tests.postgresql import PostgreSQL

# What the two scripts ask of Compose, done here: services that start and stop are only noted.
COMPOSE = """#!/bin/sh
set -eu
[ "$1 $2" = "compose --project-directory" ] || exit 9
shift 3
echo "$@" >> "$NOTES"
inside() { sed "s#/app/#$APP/#g"; }
case "$1" in
  ps) echo postgres; echo worker-cpu ;;
  exec) shift 3; first=$1; shift; exec "$first" $(printf '%s\\n' "$@" | inside) ;;
  run)
    case "$*" in
      *"--entrypoint tar cli "*) shift 7; exec tar $(printf '%s\\n' "$@" | inside) ;;
      *"--entrypoint sh "*) for last; do :; done; exec sh -c "$(echo "$last" | inside)" ;;
      *) exit 9 ;;
    esac ;;
  up|stop|start) ;;
  *) exit 9 ;;
esac
"""


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory):
    secrets = tmp_path_factory.mktemp("secrets") / "secrets"
    command = [ROOT / "docker" / "secrets.sh", secrets]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    (secrets / "mlflow_database").write_text("it's \\ a %:passwörd\n")
    server = PostgreSQL()
    try:
        server.start().set_up(secrets)
        yield server
    finally:
        server.remove()


@pytest.fixture
def hospital(postgresql, tmp_path):
    """Databases and folders with something in them; how to run a script on them."""
    app, notes = tmp_path / "app", tmp_path / "notes"
    for part in ("work", "artifacts"):
        (app / part / "deep").mkdir(parents=True)
        (app / part / "deep" / "file").write_text(part)
        (app / part / "deep").chmod(0o700)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(COMPOSE)
    docker.chmod(0o755)
    sync = docker.with_name("sync")
    sync.write_text('#!/bin/sh\necho "sync with $(ls "$BACKUP" | wc -l) files" >> "$NOTES"\n')
    sync.chmod(0o755)
    given = postgresql.environment() | {"APP": str(app), "NOTES": str(notes)}
    given["BACKUP"] = str(tmp_path / "backup")
    given["PATH"] = f"{docker.parent}{os.pathsep}{given['PATH']}"

    def run(script, *arguments):
        command = [ROOT / "docker" / script, *arguments]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False)
        return done, notes.read_text().splitlines() if notes.exists() else []

    return app, run


def test_what_was_backed_up_comes_back(postgresql, hospital, tmp_path):
    app, run = hospital
    for database in ("prefect", "mlflow", "mlflow_users"):
        postgresql.psql("create table t (v text); insert into t values ('before');", database)
    before = {d: postgresql.dump(d) for d in ("prefect", "mlflow", "mlflow_users")}
    done, notes = run("backup.sh", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    assert notes[1] == "stop --timeout 120 worker-cpu"
    assert notes[-2:] == ["start worker-cpu", "sync with 6 files"]
    files = {p.name for p in (tmp_path / "backup").iterdir()}
    assert files == {
        *("prefect.dump", "mlflow.dump", "mlflow_users.dump"),
        *("artifacts.tar", "work.tar", "SHA256SUMS"),
    }
    for path in (tmp_path / "backup", *(tmp_path / "backup").iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path

    for database in before:
        postgresql.psql("update t set v = 'after'; create table later (i int);", database)
    (app / "work" / "deep" / "file").write_text("after")
    (app / "work" / "later").write_text("later")
    done, notes = run("restore.sh", tmp_path / "backup")
    assert done.returncode == 0, done.stderr
    assert notes[-2:] == ["sync with 6 files", "up --detach"]
    assert {d: without_noise(postgresql.dump(d)) for d in before} == {
        d: without_noise(text) for d, text in before.items()
    }
    assert (app / "work" / "deep" / "file").read_text() == "work"
    assert (app / "artifacts" / "deep" / "file").read_text() == "artifacts"
    assert not (app / "work" / "later").exists()
    assert (app / "work" / "deep").stat().st_mode & 0o777 == 0o700
    owners = "select string_agg(rolname, ' ' order by datname) from pg_database d join pg_roles r "
    owners += "on r.oid = datdba where datname in ('prefect', 'mlflow', 'mlflow_users')"
    assert postgresql.psql(owners) == "mlflow mlflow prefect"


def without_noise(dump):
    """Newer versions of pg_dump bracket a dump with a random word."""
    return [line for line in dump.splitlines() if not line.startswith((b"\\restrict", b"\\unres"))]


def test_a_damaged_backup_is_refused_before_anything_is_touched(hospital, tmp_path):
    _, run = hospital
    run("backup.sh", tmp_path / "backup")
    with (tmp_path / "backup" / "work.tar").open("ab") as file:
        file.write(b"x")
    (tmp_path / "notes").unlink()
    done, notes = run("restore.sh", tmp_path / "backup")
    assert done.returncode
    assert "work.tar: FAILED" in done.stdout + done.stderr
    assert notes == []


def test_a_backup_does_not_overwrite_another(hospital, tmp_path):
    _, run = hospital
    (tmp_path / "backup").mkdir()
    done, notes = run("backup.sh", tmp_path / "backup")
    assert done.returncode
    assert "File exists" in done.stderr
    assert notes == []


@pytest.mark.parametrize(
    ("user", "password", "database", "allowed"),
    [
        ("mlflow", "it's \\ a %:passwörd", "mlflow", True),
        ("mlflow", "it's \\ a %:passwörd", "mlflow_users", True),
        ("mlflow", "it's \\ a %:passwörd", "prefect", False),
        ("mlflow", "wrong", "mlflow", False),
        ("prefect", "", "prefect", False),
    ],
)
def test_roles_have_their_own_databases_and_passwords(
    postgresql, tmp_path, user, password, database, allowed
):
    """Through the password file that the containers write, by the driver that they use."""
    code = (
        "import os, sys; from pathlib import Path; import psycopg2;"
        "from mimic_reg_pipelines.deploy import access;"
        f"os.environ |= access.password_file_of_postgresql(Path({str(tmp_path)!r}), "
        f"{{{user!r}: {password!r}}});"
        f"psycopg2.connect('postgresql://{user}@127.0.0.1:{postgresql.port}/{database}')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode == 0) == allowed, done.stderr
