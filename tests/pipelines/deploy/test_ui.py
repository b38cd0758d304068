"""MLflow's pages: on loopback, under their own names, or not at all."""

import base64
import http.client
import json
import re
import sys
import urllib.error
import urllib.request
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest

from mimic_reg import cli
from mimic_reg.errors import InputError, MimicRegError
from mimic_reg.serving.tables import example
from mimic_reg.store import Store
from mimic_reg_pipelines.commands import add_to
from mimic_reg_pipelines.deploy import app, container, ui
from mimic_reg_pipelines.tracking import client, mlflow_runs, registry
from tests.cli.called import mimic_reg, words
from tests.pipelines.conftest import predict
from tests.pipelines.deploy.conftest import PASSWORD

pytestmark = pytest.mark.slow
URI = "sqlite:////data/mlflow.db"
ASKING = {"MLFLOW_AUTH_CONFIG_PATH": "x", "MLFLOW_FLASK_SERVER_SECRET_KEY": "x"}


def options(command):
    return dict(zip(command[4::2], command[5::2], strict=True))


def test_the_command_answers_this_machine_only():
    command = ui.command(URI, port=5001)
    assert command[:4] == [sys.executable, "-m", "mlflow", "server"]
    assert options(command) == {
        "--app-name": "mimic-reg",
        "--host": "127.0.0.1",
        "--port": "5001",
        "--workers": "1",
        "--allowed-hosts": "localhost:5001,127.0.0.1:5001,[::1]:5001",
        "--cors-allowed-origins": "http://localhost:5001,http://127.0.0.1:5001,http://[::1]:5001",
        "--x-frame-options": "DENY",
        "--uvicorn-opts": "--log-level warning",
        "--artifacts-destination": "/data/mlflow-artifacts",
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "mlflow.hospital.example"])
def test_a_wider_host_needs_authentication_and_names(host):
    with pytest.raises(InputError, match=r"only answers this machine.*ssh -L.*--password-file"):
        ui.command(URI, host)
    with pytest.raises(InputError, match="name the hosts"):
        ui.command(URI, host, authentication=ASKING)
    found = options(ui.command(URI, host, authentication=ASKING, allowed_hosts=["a.example"]))
    assert found["--app-name"] == "mimic-reg-passwords"
    assert found["--allowed-hosts"].endswith(",a.example")
    assert found["--cors-allowed-origins"].endswith(",http://a.example,https://a.example")


@pytest.mark.parametrize("name", ["*", "*.x", " * ", "a.example,*", "mlflow.*:5000", "127.0.0.1:*"])
def test_a_star_is_not_a_host(name, monkeypatch):
    with pytest.raises(InputError, match="any web page"):
        ui.command(URI, allowed_hosts=["b.example", name])
    for variable in ("ALLOWED_HOSTS", "CORS_ALLOWED_ORIGINS"):
        monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "a.example")
        monkeypatch.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "http://a.example")
        monkeypatch.setenv(f"MLFLOW_SERVER_{variable}", f"http://b.example,{name}")
        for application in (app.open_to_all, app.with_passwords):
            with pytest.raises(InputError, match=r"without '\*'"):
                application()


@pytest.mark.parametrize(
    "name", ["", "a,b", "a b", "http://a", "a/b", "a:", "a:b", "a?", "\u2217", "[*]"]
)
def test_other_texts_that_are_not_hosts_are_refused(name):
    with pytest.raises(InputError, match="is not the name of a host"):
        ui.command(URI, allowed_hosts=[name])


def test_the_checks_of_hosts_cannot_be_switched_off(monkeypatch):
    told = ui.environment(URI)
    assert told["MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"] == "false"
    assert told["MLFLOW_STATIC_PREFIX"] == told["MLFLOW_DEFAULT_ARTIFACT_ROOT"] == ""
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "a.example")
    monkeypatch.setenv("MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE", "true")
    with pytest.raises(InputError, match="checks of them"):
        app.open_to_all()


@pytest.mark.parametrize("place", ["s3://bucket/x", "https://evil/x"])
def test_artifacts_go_to_a_folder(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_SERVER_ALLOWED_HOSTS", "a.example")
    monkeypatch.setenv("_MLFLOW_SERVER_ARTIFACT_DESTINATION", place)
    with pytest.raises(InputError, match="a folder of this machine"):
        app.open_to_all()


def test_the_command_line_refuses_to_open_to_everybody(tmp_path, monkeypatch):
    """As a user would meet it."""
    (tmp_path / "mlflow.db").touch()
    monkeypatch.setattr(cli.app, "registered_commands", [*cli.app.registered_commands])
    add_to(cli.app)
    done = mimic_reg("ui", "--work", tmp_path, "--host", "0.0.0.0")
    assert done.returncode == 2
    told = "Without authentication MLflow only answers this machine, not on 0.0.0.0"
    assert told in words(done.stderr)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/ajax-api/3.0/mlflow/assistant/sessions", True),
        ("//ajax-api/3.0/mlflow//assistant", True),
        ("/gateway/chat/mlflow/invocations", True),
        ("/api/3.0/mlflow/gateway/endpoints/list", True),
        ("/ajax-api/2.0/mlflow/gateway-proxy", True),
        ("/api/2.0/mlflow/webhooks", True),
        ("/ajax-api/3.0/mlflow/jobs/1", True),
        ("/ajax-api/2.0/mlflow/runs/create-promptlab-run", True),
        ("/ajax-api/2.0/mlflow/runs/search", False),
        ("/api/2.0/mlflow-artifacts/artifacts/assistant/model.yaml", False),
        ("/assistant", False),
        ("/", False),
    ],
)
def test_parts_that_are_switched_off(path, answer):
    assert app.closed(path) == answer


def test_mlflow_has_the_parts_that_are_switched_off():
    """A new version of MLflow that calls them otherwise is noticed here."""
    root = Path(mlflow.__file__).parent
    files = [*(root / "server").glob("*.py"), *(root / "server" / "assistant").glob("*.py")]
    files += [root / "protos" / "service_pb2.py", root / "protos" / "webhooks_pb2.py"]
    text = "".join(path.read_text("utf-8") for path in files)
    for name in app.CLOSED:
        assert re.search(rf"mlflow/{name}|3.0/{name}", text), name


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.9", "::1", "[::1]"])
def test_loopback_is_recognised(host):
    assert ui.is_loopback(host)


def test_a_server_or_a_folder_is_not_a_database():
    with pytest.raises(InputError, match="is a server already"):
        ui.command("http://127.0.0.1:5000")
    with pytest.raises(InputError, match="folders of files"):
        ui.command("mlruns")


def get(url, body=None, **headers):
    if body is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(url, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_server_answers_and_keeps_runs(server, work, trained, store, tmp_path):
    uri, url = client.database(work), server.url
    assert f"MLflow answers at {url} until Ctrl-C." in words(server.printed)
    code, page = get(url)
    assert code == 200
    assert "<title>MLflow</title>" in page
    assert get(url, Host="evil.example")[0] == 403
    port = int(url.rpartition(":")[2])
    with pytest.raises(InputError, match="cannot be used"), ui.running(uri, port=port):
        pass
    run = trained("decompensation", "itps", normalizer="fitted")
    use_as_several_machines_would(url, run, store, tmp_path)


def use_as_several_machines_would(url, run, store, folder):
    """The same functions, through the server."""
    assert mlflow_runs.log_trial(run, uri=url, sweep="s")
    found = registry.register(run, uri=url)
    assert found.champion
    assert registry.register(run, uri=url).version == found.version
    predict(found.uri, store, folder / "p.parquet", uri=url, device="cpu")
    with client.default(url):
        answer = mlflow.pyfunc.load_model(found.uri).predict(
            example(Store.open(store).spec, np.zeros(76))
        )
    assert 0 < answer["probability"][0] < 1
    assert not list(folder.glob("mlruns")) + list(folder.glob("mlartifacts"))


def test_a_server_that_does_not_start_is_reported(uri, free_port, monkeypatch):
    monkeypatch.setattr(
        ui, "command", lambda *a, **k: [sys.executable, "-c", "raise SystemExit(3)"]
    )
    with (
        pytest.raises(MimicRegError, match=r"did not start \(code 3\)"),
        ui.running(uri, port=free_port),
    ):
        pass


def test_a_password_is_asked_for(guarded, work, tmp_path):
    """With the options of `mimic-reg ui`, on loopback."""
    users = work / ui.USERS
    url = f"{guarded.url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert get(url)[0] == 401
    assert get(url, Authorization=basic("admin:wrong"))[0] == 401
    login = basic(f"admin:{PASSWORD}")
    assert get(url, Authorization=login)[0] == 200
    assert get(f"{guarded.url}/api/3.0/mlflow/server-info", Authorization=login)[0] == 200
    assert get(f"{guarded.url}/version", Authorization=login)[0] == 200
    assert get(f"{guarded.url}/", Authorization=login)[0] == 200
    assert what_answers_anybody(guarded.url) == set(app.OPEN) == {"/health"}
    for wrong in ("Bearer x", "Basic", "Basic !", "Basic eA==", basic(":"), basic("admin:")):
        assert get(f"{guarded.url}/version", Authorization=wrong)[0] == 401, wrong
    container.put_user(guarded.url, ("admin", PASSWORD), "worker", "a-long-password")
    create = f"{guarded.url}/api/2.0/mlflow/experiments/create"
    for given in (login, basic("worker:a-long-password")):
        body = json.dumps({"name": "e", "artifact_location": str(tmp_path / "outside")})
        code, text = get(create, body.encode(), Authorization=given)
        assert code == 403
        assert "lies outside the folder" in text
    assistant = f"{guarded.url}/ajax-api/3.0/mlflow/assistant/config"
    assert get(assistant, Authorization=login)[0] == 404
    assert users.stat().st_mode & 0o077 == 0


def what_answers_anybody(url):
    """The paths of MLflow's server that do not say 401 to somebody without a password."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what MLflow imports says that it will end
        from mlflow.server import auth, fastapi_app

    routes = {
        (method, rule.rule) for rule in auth.app.url_map.iter_rules() for method in rule.methods
    }
    routes |= {
        (method, r.path) for r in fastapi_app.app.routes for method in getattr(r, "methods", ())
    }
    paths = {path for name, path in vars(auth.routes).items() if name.isupper()}
    routes |= {(method, path) for path in paths for method in ("GET", "POST", "PATCH", "DELETE")}
    routes |= {
        ("GET", path) for path in ("/static-files/x", "/favicon.ico", "/healthy", "/health/x")
    }
    assert len(routes) > 300
    filled = {(method, re.sub(r"<.*?>|{.*?}", "1", path)) for method, path in routes}
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    found = set()
    for method, path in sorted(filled):
        connection.request(method, path)
        with connection.getresponse() as answer:
            if answer.status != 401:
                found.add(path)
            answer.read()
    connection.close()
    return found


def basic(login):
    return "Basic " + base64.b64encode(login.encode()).decode()
