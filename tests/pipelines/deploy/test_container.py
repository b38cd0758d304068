"""The roles of the containers, as far as they need no server."""

import os
import re
import stat
import subprocess
import sys
from types import SimpleNamespace

import pytest
from mlflow.exceptions import MlflowException

from mimic_reg.errors import InputError, MimicRegError
from mimic_reg_pipelines.deploy import access, container, ui
from mimic_reg_pipelines.tracking import client

LONG = "a-long-password"


@pytest.fixture
def passwords(monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("PREFECT", "PREFECT_DATABASE", "WORKER", "MLFLOW", "MLFLOW_DATABASE"):
        monkeypatch.setenv(f"MIMIC_REG_{name}_PASSWORD", f"{LONG}-{name}")
    monkeypatch.setenv("MIMIC_REG_MLFLOW_KEY", f"{LONG}-KEY")


@pytest.mark.parametrize("role", sorted(container._SERVERS.keys() - {"gate"}))
def test_no_server_without_its_passwords(role):
    with pytest.raises(InputError, match=r"Set MIMIC_REG_.*_FILE, the path of a file with it"):
        container._SERVERS[role]()


@pytest.mark.parametrize("role", container._SERVERS)
def test_a_server_gets_its_passwords_in_private_files(role, passwords, tmp_path):
    command, environment = container._SERVERS[role]()
    assert LONG not in " ".join(command)
    assert command[0] == sys.executable
    assert not [v for n, v in environment.items() if n.endswith(("_URI", "_URL")) and LONG in v]
    for path in tmp_path.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("kept", ["", "3600", "-1", "90 days", "1e6", "9" * 12])
def test_prefect_keeps_flow_runs_for_a_time_that_it_accepts(kept, passwords, monkeypatch):
    monkeypatch.setenv(container.HISTORY, "3601")
    container.prefect_server()
    monkeypatch.setenv(container.HISTORY, kept)
    with pytest.raises(InputError, match=f"PREFECT_HISTORY is '{kept}'; it must be seconds"):
        container.prefect_server()


def test_the_gate_needs_no_password(monkeypatch):
    command, environment = container._SERVERS["gate"]()
    assert command[3:] == ["4200=prefect:4200", "5000=mlflow:5000"]
    assert environment == {}


def test_mlflow_asks_for_passwords_and_has_its_names(passwords, monkeypatch):
    monkeypatch.setenv("MIMIC_REG_MLFLOW_HOSTS", "mlflow.hospital.example, other:5000")
    command, environment = container.mlflow_server()
    options = dict(zip(command[4::2], command[5::2], strict=False))
    assert options["--app-name"] == "mimic-reg-passwords"
    names = options["--allowed-hosts"].split(",")
    assert names[3:] == ["mlflow:5000", "mlflow.hospital.example", "other:5000"]
    assert "https://mlflow.hospital.example" in options["--cors-allowed-origins"].split(",")
    assert environment["MLFLOW_AUTH_ADMIN_PASSWORD"] == f"{LONG}-MLFLOW"
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://mlflow@postgres:5432/mlflow"


@pytest.mark.parametrize("names", ["*", "a.example, *.b", "\t*", "mlflow:*"])
def test_a_star_is_not_a_host_of_mlflow(names, passwords, monkeypatch):
    monkeypatch.setenv("MIMIC_REG_MLFLOW_HOSTS", names)
    with pytest.raises(InputError, match="any web page"):
        container.mlflow_server()


@pytest.mark.parametrize("variables", [{}, {"X": LONG, "X_FILE": "f"}])
def test_a_secret_is_set_in_one_place(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="Set X or X_FILE"):
        access.secret("X")


@pytest.mark.parametrize("content", ["", "short", "\n" + LONG])
def test_a_short_password_is_refused(content, tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.touch(mode=0o600)
    file.write_text(content)
    monkeypatch.setenv("X_FILE", str(file))
    with pytest.raises(InputError, match="at least 12"):
        access.secret("X")
    file.write_text(f"{LONG}\nsomething else\n")
    assert access.secret("X") == LONG


def test_a_missing_or_binary_password_file_is_reported(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        access.from_file(tmp_path / "none")
    (tmp_path / "binary").touch(mode=0o600)
    (tmp_path / "binary").write_bytes(b"\xff\xfe" * 20)
    with pytest.raises(InputError, match="cannot be read"):
        access.from_file(tmp_path / "binary")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604, 0o444, 0o601])
def test_a_password_that_others_may_read_is_refused(mode, tmp_path, monkeypatch):
    file = tmp_path / "password"
    file.write_text(f"{LONG}\n")
    file.chmod(mode)
    monkeypatch.setenv("X_FILE", str(file))
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(file))
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "x")
    for read in (lambda: access.secret("X"), access.from_environment):
        with pytest.raises(InputError, match=rf"mode is {mode:04o}.*chmod 600 {file}"):
            read()
    monkeypatch.setattr(access, "_MOUNTED", tmp_path)  # but here it can be written
    with pytest.raises(InputError, match="chmod 600"):
        access.secret("X")
    file.chmod(0o400)
    assert access.secret("X") == LONG
    assert access.from_environment()


def test_a_secret_that_docker_mounts_may_have_any_mode(tmp_path, monkeypatch):
    """Docker gives it the mode that it has outside; in the container there is nobody else."""
    file = tmp_path / "mlflow"
    file.write_text(f"{LONG}\n")
    file.chmod(0o444)
    monkeypatch.setattr(os, "fstatvfs", lambda _: SimpleNamespace(f_flag=os.ST_RDONLY))
    with pytest.raises(InputError, match="chmod 600"):  # read-only, but no secret of Docker's
        access.from_file(file)
    monkeypatch.setattr(access, "_MOUNTED", tmp_path)
    assert access.from_file(file) == LONG
    (tmp_path / "away").symlink_to("/etc/hostname")
    with pytest.raises(InputError, match="chmod 600"):
        access.from_file(tmp_path / "away")


def test_half_an_authentication_is_refused(monkeypatch, tmp_path):
    assert access.from_environment() is None
    file = tmp_path / "basic_auth.ini"
    monkeypatch.setenv("MLFLOW_AUTH_CONFIG_PATH", str(file))
    with pytest.raises(InputError, match="also needs MLFLOW_FLASK_SERVER_SECRET_KEY"):
        access.from_environment()
    monkeypatch.setenv("MLFLOW_FLASK_SERVER_SECRET_KEY", "x")
    with pytest.raises(InputError, match="cannot be read"):
        access.from_environment()
    file.touch(mode=0o600)
    assert access.from_environment() == {
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
    }


def test_postgresqls_passwords_are_quoted(tmp_path):
    environment = access.password_file_of_postgresql(tmp_path, {"a": r"p:q\r"})
    assert environment == {"PGPASSFILE": str(tmp_path / "pgpass")}
    assert (tmp_path / "pgpass").read_text() == "*:*:*:a:p\\:q\\\\r\n"


def test_a_password_in_a_uri_is_not_shown():
    assert client.redacted("sqlite:////a/b.db") == "sqlite:////a/b.db"
    for uri in (
        *("postgresql://a:SEC/R@ET@h/db", "http://SECRET@h", "mysql://h/db?password=SECRET"),
        *("postgresql://a:SEC 'R\"ET@h/db", "mysql://h/db?password=SEC@ET@T", "mysql://h?p='SEC"),
    ):
        with (
            pytest.raises(MimicRegError, match="failed: no answer from ") as failed,
            client.answering(uri),
        ):
            raise MlflowException(f"no answer from {uri}")
        with pytest.raises(InputError) as refused:
            client.check(f"x{uri}")
        assert not re.search("SEC|ET@", f"{failed.value} {refused.value}")
    with (
        pytest.raises(InputError, match="in a work folder") as error,
        ui.passwords("postgresql://a:geheim@h/db", "file"),
    ):
        pass
    assert "geheim" not in str(error.value)


def test_other_arguments_go_to_the_command_line():
    done = subprocess.run(
        [sys.executable, "-m", "mimic_reg_pipelines.deploy.container", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("mimic-reg ")
    done = subprocess.run(
        [sys.executable, "-m", "mimic_reg_pipelines.deploy.container", "prefect"],
        capture_output=True,
        text=True,
        check=False,
        env={k: v for k, v in os.environ.items() if not k.startswith("MIMIC_REG")},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: Set MIMIC_REG_PREFECT_PASSWORD")


def test_health_needs_an_answer_or_a_folder(free_port, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MIMIC_REG_HEALTH", f"http://127.0.0.1:{free_port}/")
    assert container.health() == 1
    assert "refused" in capsys.readouterr().err
    monkeypatch.delenv("MIMIC_REG_HEALTH")
    monkeypatch.chdir(tmp_path)
    assert container.health() == 1
    (tmp_path / "work").mkdir()
    assert container.health() == 0
