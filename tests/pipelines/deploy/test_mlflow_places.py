"""MLflow's server writes and reads in its artifact folder, and answers its own pages only."""

import json
import os
import socket
import sqlite3
import urllib.error
import urllib.request

import pytest
from mlflow.entities.model_registry import ModelVersion
from mlflow.protos import mlflow_artifacts_pb2, model_registry_pb2, service_pb2
from mlflow.tracking import MlflowClient

from mimic_reg_pipelines.deploy import mlflow_places, ui
from mimic_reg_pipelines.tracking import client
from tests.pipelines.conftest import copy_of

SECRET = "what nobody else may read"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The artifact folder, with a link out of it, and another folder with a secret."""
    work = tmp_path_factory.mktemp("work")
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret").write_text(SECRET)
    inside = work / client.ARTIFACTS
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    return inside, outside


@pytest.mark.parametrize(
    "location",
    [
        "{inside}",
        "{inside}/one",
        "file://{inside}/one",
        "mlflow-artifacts:/1/a b",
        "models:/m-1",
        "models:/name@champion",
        "runs:/1/model",
    ],
)
def test_locations_inside_are_allowed(location, folders):
    assert mlflow_places.allowed(location.format(inside=folders[0]), folders[0])


@pytest.mark.parametrize(
    "location",
    [
        *("/etc", "file:///etc", "file:/etc", "FILE:///etc", "{outside}", "file://{outside}"),
        *(" {inside}", "{inside}\n", "{inside}/\0", "file://evil{inside}", "//evil{inside}"),
        *("file://{inside}/a?../../..", "file://{inside}/a#/../..", "{inside}-not"),
        *(
            "{inside}/../x",
            "{inside}/%2e%2e/x",
            "{inside}/%252E%252e/x",
            "{inside}/a%2f..%2f..%2fx",
        ),
        *("{inside}/link", "{inside}/link/new", "{inside}/%6cink", "{inside}\\..\\x", "relative"),
        *("mlflow-artifacts:/../x", "mlflow-artifacts:/%2e%2e/x", "mlflow-artifacts:/%252e%252e/x"),
        *("mlflow-artifacts://evil/x", "mlflow-artifacts:////evil/x", "mlflow-artifacts:x"),
        *("models:/../../etc", "runs:/1/../../etc", "models://evil/x", "runs:/1?x=/../.."),
        *("s3://bucket/x", "http://evil/api/2.0/mlflow-artifacts/artifacts/x", "ftp://evil/x"),
        *("dbfs:/x", "C:/x", "http://[", "", ".", "mlflow-artifacts:/" + "%25" * 1_000_000),
    ],
)
def test_locations_outside_are_not(location, folders):
    inside, outside = folders
    assert not mlflow_places.allowed(location.format(inside=inside, outside=outside), inside)


def test_links_in_a_circle_are_outside(folders):
    circle = folders[0] / "circle"
    circle.symlink_to(circle)
    assert not mlflow_places.allowed(f"{circle}/x", folders[0])
    circle.unlink()


def test_every_field_with_a_location_is_known():
    """A new version of MLflow with others is noticed here."""
    harmless = {
        "source_type", "source_run_id", "trace_location", "locations",  # a kind, or ids
        "source_inference_table", "source_databricks_request_id", "source_prompt_uri",
        "resource_type", "resource_id",
    }  # fmt: skip
    notes = {"mlflow.Dataset.source", "mlflow.CreateDataset.source"}  # the server opens neither

    def fields(descriptor):
        for field in descriptor.fields:
            if any(w in field.name for w in ("location", "source", "uri", "root")):
                yield field
        for nested in descriptor.nested_types:
            if nested.name != "Response":
                yield from fields(nested)

    found = {
        field.full_name
        for module in (service_pb2, model_registry_pb2, mlflow_artifacts_pb2)
        for descriptor in module.DESCRIPTOR.message_types_by_name.values()
        for field in fields(descriptor)
        if field.name not in harmless
    }
    assert found - notes == mlflow_places.FIELDS


def test_locations_are_found_in_maps_and_tags():
    trace = service_pb2.StartTraceV3()
    trace.trace.trace_info.tags["mlflow.artifactLocation"] = "/etc"
    tag = service_pb2.SetTraceTag(request_id="1", key="mlflow.trace.archiveLocation", value="/x")
    free = service_pb2.LogBatch(tags=[service_pb2.RunTag(key="note", value="/y")])
    messages = (trace, tag, free)
    assert [list(mlflow_places.locations(m)) for m in messages] == [["/etc"], ["/x"], []]


def test_mlflows_default_experiment_is_inside(empty):
    api = MlflowClient(tracking_uri=f"sqlite:///{empty}")
    inside = empty.parent / client.ARTIFACTS
    assert mlflow_places.allowed(api.get_experiment("0").artifact_location, inside)


@pytest.fixture(scope="module")
def server(empty, folders, free_port_of_module):
    """A server without passwords, on a database in which somebody planted locations outside."""
    inside, outside = folders
    uri = copy_of(empty, inside.parent)
    api = MlflowClient(tracking_uri=uri, registry_uri=uri)
    experiment = api.create_experiment("planted", artifact_location=str(outside))
    run = api.create_run(experiment).info.run_id
    api.create_registered_model("planted")
    assert isinstance(api.create_model_version("planted", str(outside)), ModelVersion)
    model = api.create_logged_model(experiment).model_id
    climbing = api.create_run(api.create_experiment("climbing", str(inside / "c"))).info.run_id
    path = client.sqlite_path(uri)
    with sqlite3.connect(path) as database:
        database.execute(
            "UPDATE runs SET artifact_uri = ? WHERE run_uuid = ?",
            (f"mlflow-artifacts:/../{outside.name}", climbing),
        )
    database.close()
    (inside / "link").unlink()  # beside a link no server starts; one made later is not followed
    with ui.running(uri, port=free_port_of_module) as started:
        (inside / "link").symlink_to(outside)
        yield started.url, {"experiment": experiment, "run": run, "model": model, "up": climbing}


@pytest.fixture(scope="module")
def free_port_of_module():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def send(url, method="GET", body=None, **headers):
    """Status and text of an answer."""
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    headers.setdefault("Content-Type", "application/json")  # else urllib says that it is a form
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.mark.parametrize("name", ["artifact_location", "artifactLocation"])
@pytest.mark.parametrize("api", ["api", "ajax-api"])
def test_an_experiment_stays_inside(server, folders, api, name):
    url, _ = server
    inside, outside = folders
    create = f"{url}/{api}/2.0/mlflow/experiments/create"
    places = (str(outside), f"{inside}/%2e%2e/x", "mlflow-artifacts:/../x", "prompt-template")
    for number, place in enumerate(places):
        status, text = send(create, "POST", {"name": f"{api}{name}{number}", name: place})
        assert status == 403, text
        assert "lies outside the folder in which this server keeps artifacts" in text
        # older clients send their JSON as a string
        twice = json.dumps(json.dumps({"name": f"{api}{name}{number}", name: place})).encode()
        assert send(create, "POST", twice)[0] == 403
    assert send(create, "POST", {"name": f"{api}{name}"})[0] == 200
    assert send(create, "POST", {"name": f"{api}{name}in", name: f"{inside}/in"})[0] == 200


def test_nothing_is_made_in_an_experiment_that_is_outside(server, folders):
    url, ids = server
    experiment = {"experiment_id": ids["experiment"]}
    assert send(f"{url}/api/2.0/mlflow/runs/create", "POST", experiment)[0] == 403
    assert send(f"{url}/api/2.0/mlflow/logged-models", "POST", experiment)[0] == 403
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": experiment}
    info = {"trace_id": "tr-1", "trace_location": place, "state": "OK"}
    info["request_time"] = "2020-01-01T00:00:00Z"
    trace = {"trace": {"trace_info": info}}
    traces = f"{url}/api/3.0/mlflow/traces"
    status, text = send(traces, "POST", trace)
    assert status == 403, text
    made = send(f"{url}/api/2.0/mlflow/experiments/create", "POST", {"name": "for traces"})[1]
    place["mlflow_experiment"] = json.loads(made)
    info["tags"] = {"mlflow.artifactLocation": str(folders[1])}
    assert send(traces, "POST", trace)[0] == 403
    del info["tags"]
    assert send(traces, "POST", trace)[0] == 200
    tag = {"key": "mlflow.artifactLocation", "value": str(folders[1])}
    assert send(f"{traces}/tr-1/tags", "PATCH", tag)[0] == 403
    assert send(f"{traces}/tr-1/tags", "PATCH", tag | {"key": "note"})[0] == 200


def test_a_models_source_stays_inside(server, folders):
    url, _ = server
    send(f"{url}/api/2.0/mlflow/registered-models/create", "POST", {"name": "m"})
    create = f"{url}/api/2.0/mlflow/model-versions/create"
    for source in (f"file://{folders[1]}", "/etc", "http://evil/x", "s3://evil/x"):
        status, text = send(create, "POST", {"name": "m", "source": source})
        assert status in (400, 403), text
    assert send(create, "POST", {"name": "m", "source": "http://evil/x"})[0] == 403


def test_locations_planted_in_the_database_are_neither_read_nor_written(server, folders):
    url, ids = server
    outside = folders[1]
    ajax, run, model = f"{url}/ajax-api/2.0/mlflow", ids["run"], ids["model"]
    asked = f'mlflowListArtifacts(input: {{runId: "{run}"}}) {{ files {{ path }} }}'
    graphql = {"query": f"query {{ {asked} }}", "operationName": None}
    for identity in (run, ids["up"]):
        requests = [
            send(f"{url}/get-artifact?path=secret&run_id={identity}"),
            send(f"{url}/get-artifact?path=secret&run_uuid={identity}"),
            send(f"{ajax}/artifacts/list?run_id={identity}"),
            send(f"{ajax}/upload-artifact?run_uuid={identity}&path=new", "POST", b"x"),
            send(f"{ajax}/upload-artifact?run_uuid={identity}&path=a/new", "POST", b"x"),
        ]
        assert [status for status, _ in requests] == [403] * len(requests), requests
    version = "name=planted&version=1&path=secret"
    requests = [
        send(f"{url}/model-versions/get-artifact?{version}"),
        send(f"{ajax}/logged-models/{model}/artifacts/files?artifact_file_path=secret"),
        send(f"{ajax}/logged-models/{model}/artifacts/directories"),
        send(f"{url}/graphql", "POST", graphql),
    ]
    for _, text in requests:
        assert SECRET not in text
        assert '"secret"' not in text
    assert [status for status, _ in requests[:3]] == [403] * 3
    assert os.listdir(outside) == ["secret"]
    assert (outside / "secret").read_text() == SECRET


def test_a_planted_archive_is_neither_read_nor_deleted(server, folders):
    """Not by way of the handlers: through MLflow's database and its registry of stores."""
    url, _ = server
    inside, outside = folders
    made = json.loads(
        send(f"{url}/api/2.0/mlflow/experiments/create", "POST", {"name": "archived"})[1]
    )
    place = {"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": made}
    info = {"trace_id": "tr-2", "trace_location": place, "state": "OK"}
    info["request_time"] = "2020-01-01T00:00:00Z"
    traces = f"{url}/api/3.0/mlflow/traces"
    assert send(traces, "POST", {"trace": {"trace_info": info}})[0] == 200
    tags = {
        "mlflow.trace.archiveLocation": str(outside),
        "mlflow.trace.spansLocation": "ARCHIVE_REPO",
    }
    with sqlite3.connect(inside.parent / client.DATABASE) as database:
        for tag in tags.items():
            database.execute(
                "INSERT OR REPLACE INTO trace_tags (request_id, key, value) VALUES ('tr-2', ?, ?)",
                tag,
            )
    database.close()
    archive = outside / "traces.pb"
    archive.write_bytes(b"")
    status, text = send(f"{traces}/get?trace_id=tr-2")
    assert status == 403, text
    asked = made | {"request_ids": ["tr-2"]}
    send(f"{url}/api/2.0/mlflow/traces/delete-traces", "POST", asked)
    assert archive.exists()
    archive.unlink()


def test_the_artifact_routes_stay_inside(server, folders):
    url, _ = server
    inside, outside = folders
    before = sorted(p for p in inside.parent.iterdir() if "mlflow.db" not in p.name)
    for api in ("api", "ajax-api"):
        base = f"{url}/{api}/2.0/mlflow-artifacts/artifacts"
        for up in ("..", "%2e%2e", "%252e%252e", "link", f"..%2f{outside.name}", "..%5c"):
            for method, body in (("PUT", b"x"), ("GET", None), ("DELETE", None)):
                for path in (f"{up}/secret", f"a/{up}/{up}/secret"):
                    assert SECRET not in send(f"{base}/{path}", method, body)[1], path
    assert send(f"{base}/deep/er/file", "PUT", b"kept")[0] == 200
    assert send(f"{base}/deep/er/file") == (200, "kept")
    assert (inside / "deep" / "er" / "file").read_text() == "kept"
    assert send(f"{base}/deep/er/file", "DELETE")[0] == 200
    assert os.listdir(outside) == ["secret"]
    assert sorted(p for p in inside.parent.iterdir() if "mlflow.db" not in p.name) == before


def test_only_its_own_pages_may_send_requests(server):
    url, _ = server
    port = int(url.rpartition(":")[2])
    create = f"{url}/api/2.0/mlflow/experiments/create"
    search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
    foreign = [f"http://127.0.0.1:{port + 1}", f"http://localhost:{port + 1}", "http://127.0.0.1"]
    foreign += [
        "null",
        "",
        f"https://127.0.0.1:{port}",
        f"http://evil.example:{port}",
        f"{url}, {url}",
    ]
    for origin in foreign:
        for path in (create, create.replace("/api/", "/ajax-api/"), f"{url}/graphql"):
            assert send(path, "POST", {"name": "foreign"}, Origin=origin)[0] == 403, origin
        assert send(search, Origin=origin)[0] == 403, origin
        asking = {"Access-Control-Request-Method": "POST"}
        assert send(create, "OPTIONS", None, Origin=origin, **asking)[0] == 403, origin
    assert "foreign" not in send(f"{search}00")[1]
    for number, host in enumerate(("127.0.0.1", "localhost", "[::1]")):
        own = f"http://{host}:{port}"
        assert send(search, Origin=own)[0] == 200
        assert send(create, "POST", {"name": f"own{number}"}, Origin=own)[0] == 200
