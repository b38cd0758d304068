"""MLflow's pages and ours beside them, after a real sweep: what people meet, in a real browser."""

import base64
import contextlib
import http.client
import json
import re
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest

from mimic_reg.settings import TrainingSize
from mimic_reg_pipelines.deploy import container, front, results, ui
from mimic_reg_pipelines.flows import views
from mimic_reg_pipelines.tracking import client, comparison, mlflow_runs
from tests.pipelines.deploy.browser import browser, text, wait
from tests.pipelines.deploy.conftest import PASSWORD, TITLE, swept

pytestmark = pytest.mark.slow


def get(url, method="GET", login=None, **headers):
    if login:
        headers["Authorization"] = "Basic " + base64.b64encode(login.encode()).decode()
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def see_comparison(opened, link):
    """The link shows all methods, the baseline first, with their test scores; nothing is hidden."""
    opened.get(link)
    wait(opened, lambda: "Strength and level" in text(opened))
    wait(opened, lambda: opened.find_elements("css selector", ".js-plotly-plot .bars path"))
    shown = text(opened)
    for method in ("none", "dropout", "itps"):
        for level in ("50 %", "100 %"):
            assert f"Group: {method} at {level}" in shown
    bars = opened.find_elements("css selector", ".js-plotly-plot .bars path")
    assert len(bars) == 6, "all groups in the first chart: nothing is hidden"
    sections = ["Test AUROC: method by level", "Validation AUROC by epoch", "Selected parameters"]
    sections += ["Test AUROC against validation", "Strength and level", "selection/selected_now\n"]
    places = [shown.index(title) for title in sections]
    assert places == sorted(places)
    assert shown.count("Add chart") == 5, "the sections of all other metrics are closed"
    assert "No charts in this section" not in shown
    assert "test/auroc" in shown
    assert "12 matching runs" in shown
    assert shown.index("none at 50 %") < shown.index("dropout at 50 %")


NOISE = re.compile(
    r"assistant|genai|switched off|prompt|gateway|something went wrong", re.IGNORECASE
)


def check_quiet(opened):
    assert not NOISE.search(text(opened)), NOISE.search(text(opened))
    for shown in opened.find_elements("css selector", "[data-assistant-ui], [role=alert]"):
        assert not shown.is_displayed() or "shared view" in shown.text, shown.text


def see_results(opened, server):
    """The page of results has the answer, and leads to the runs of a method and back."""
    opened.get(f"{server.url}/mimic-reg/methods")
    shown = text(opened)
    assert "Does a regulariser help, and with how much data?" in shown
    assert TITLE in shown
    assert "How certain are the differences?" in shown
    opened.find_element("css selector", "nav.mlflow summary").click()
    opened.find_element("link text", "itps").click()
    wait(opened, lambda: "4 matching runs" in text(opened))
    assert "dropout lstm" not in text(opened)
    check_quiet(opened)
    run = wait(opened, lambda: opened.find_elements("partial link text", "itps lstm"))[0]
    run.click()
    wait(opened, lambda: opened.find_elements("link text", "Results of the sweep methods"))
    opened.get(
        opened.find_element("link text", "Results of the sweep methods").get_attribute("href")
    )
    assert "Does a regulariser help, and with how much data?" in text(opened)


def test_the_printed_link_opens_the_comparison(work, server):
    link = server.links["mimic-reg-in_hospital_mortality"]
    assert link == ui.links(client.database(work), server.url)["mimic-reg-in_hospital_mortality"]
    with browser() as opened:
        see_comparison(opened, link)
        check_quiet(opened)
        see_results(opened, server)
        model = "mimic-reg-in_hospital_mortality-lstm"
        for page, expected in {
            "#/experiments": "mimic-reg-sweeps",
            "?workflowType=genai#/experiments": "mimic-reg-sweeps",
            "#/models": model,
            f"#/models/{model}/versions/1": "Model card",
            "#/settings": "Theme preference",
        }.items():
            opened.get("about:blank")
            opened.get(f"{server.url}/{page}")
            wait(opened, lambda expected=expected: expected in text(opened))
            check_quiet(opened)
        for start in ("", "//", "#/experiments/1/traces"):
            opened.get("about:blank")
            opened.get(f"{server.url}/{start}")
            wait(opened, lambda: opened.current_url.endswith("/mimic-reg/"))
        opened.get(f"{server.url}/#/experiments")
        opened.execute_script("window.location.hash = '#/experiments/1/prompts'")  # typed by hand
        wait(opened, lambda: opened.current_url.endswith("/mimic-reg/"))
        assert TITLE in text(opened)
        assert opened.title == "Sweeps"


def test_the_same_with_a_password(guarded):
    with browser() as opened:
        login = f"http://admin:{quote(PASSWORD, safe='')}@"
        opened.get(guarded.url.replace("http://", login) + "/mimic-reg/")
        see_comparison(opened, guarded.links["mimic-reg-in_hospital_mortality"])
        check_quiet(opened)
        see_results(opened, guarded)


def test_the_plain_link_opens_the_runs_whatever_mlflow_makes_of_a_view(work, server):
    """A later MLflow may keep views in another way."""
    api = client.connect(client.database(work))
    number = mlflow_runs.experiment_id(client.database(work), "in_hospital_mortality")
    not_understood = comparison.pack({"compareRunCharts": 1, "groupBy": {"groupByKeys": 3}})
    runs, stopped = "itps lstm", "Something went wrong"
    with browser() as opened:
        for view, expected in (("deflate;!", [runs]), (not_understood, [runs, stopped])):
            api.set_experiment_tag(number, f"{comparison.VIEW}broken", view)
            opened.get("about:blank")
            opened.get(comparison.comparison_url(server.url, number, view="broken"))
            wait(opened, lambda expected=expected: any(one in text(opened) for one in expected))
        opened.get("about:blank")
        opened.get(server.links["mimic-reg-in_hospital_mortality, all runs"])
        wait(opened, lambda: runs in text(opened))
    api.delete_experiment_tag(number, f"{comparison.VIEW}broken")


def test_a_level_has_a_view_with_a_line_for_each_method(work, server):
    uri = client.database(work)
    link = comparison.comparison_url(
        server.url,
        mlflow_runs.experiment_id(uri, "in_hospital_mortality"),
        view="methods",
        level=TrainingSize(0.5),
    )
    with browser() as opened:
        opened.get(link)
        wait(opened, lambda: opened.find_elements("css selector", ".js-plotly-plot .bars path"))
        assert len(opened.find_elements("css selector", ".js-plotly-plot .bars path")) == 3
        assert "6 matching runs" in text(opened)
        assert {"Group: none", "Group: dropout", "Group: itps"} <= set(text(opened).split("\n"))
        opened.get(opened.current_url.replace("compareRunsMode=CHART&", ""))  # the table
        wait(opened, lambda: "validation/best_auroc" in text(opened))
        heads = opened.find_elements("css selector", ".ag-header-cell")
        places = {head.text: head.location["x"] for head in heads}
        columns = ["test/auroc", "validation/best_auroc", "selection/at_best", "method"]
        assert [places[name] for name in columns] == sorted(places[name] for name in columns)


def test_pages_of_results_answer_as_mlflow_does(server, guarded):
    for path in ("/mimic-reg/", "/mimic-reg/methods", "/mimic-reg/other.sweep_2-x"):
        code, page, headers = get(server.url + path)
        assert code == 200
        assert "&lt;img src=x" in page
        assert "<img src=x" not in page
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert re.search(r"sandbox(?!.*allow-(scripts|same-origin))", policy)
        assert get(server.url + path, Host="evil.example")[0] == 403
        assert get(server.url + path, Origin="http://evil.example")[0] == 403
        assert get(server.url + path, method="POST")[0] == 405
        assert get(server.url + path, method="HEAD")[:2] == (200, "")
        assert get(guarded.url + path)[0] == 401
        assert get(guarded.url + path, login="admin:wrong-password")[0] == 401
        assert get(guarded.url + path, login=f"admin:{PASSWORD}", Host="evil.example")[0] == 403
        assert get(guarded.url + path, login=f"admin:{PASSWORD}")[:2] == (code, page)
    for name in ("none", "..", "a%20b", "a'b", "x" * 300, "/", "%2e%2e/methods", "<b>", "<b>/"):
        code, page, _ = raw(server.url, f"/mimic-reg/{name}")
        assert code == 404, name
        assert "<b>" not in page
    for path, place in (
        ("/mimic-reg", "/mimic-reg/"),
        ("/mimic-reg/methods/", "/mimic-reg/methods"),
        ("//", "/"),
    ):
        code, _, headers = raw(server.url, path)
        assert (code, headers["Location"]) == (308, place)


def test_a_page_without_files_says_so(server, work):
    artifacts = work / client.ARTIFACTS / mlflow_runs.SWEEPS
    moved = artifacts.rename(artifacts.with_name("moved"))
    code, page, _ = get(f"{server.url}/mimic-reg/methods")
    moved.rename(artifacts)
    assert code == 404
    assert "neither its page.html nor its report.html" in page
    assert "Start the sweep again" in page


def raw(url, path):
    """A request whose path no client tidies."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers


def test_pages_of_results_need_mlflows_permission_to_read(guarded, work):
    admin = ("admin", PASSWORD)
    container.put_user(guarded.url, admin, "guest", "guests-password")
    page = f"{guarded.url}/mimic-reg/methods"
    assert get(page, login="guest:guests-password")[0] == 200
    number = mlflow_runs.experiments(client.database(work))[mlflow_runs.SWEEPS]
    container._send(
        f"{guarded.url}/api/3.0/mlflow/users/permissions/grant",
        admin,
        "POST",
        {
            **{"username": "guest", "permission": "DENY"},
            **{"resource_type": "experiment", "resource_id": number},
        },
    )
    for address in (page, f"{guarded.url}/mimic-reg/"):
        code, told, _ = get(address, login="guest:guests-password")
        assert code in (403, 404)
        assert "Does a regulariser" not in told
        assert "methods" not in told


def test_a_sweep_that_goes_on_renews_its_views(work, store):
    uri = client.database(work)
    api, number = client.connect(uri), mlflow_runs.experiment_id(uri, "in_hospital_mortality")
    tags = api.get_experiment(number).tags

    def names():
        found = api.get_experiment(number).tags
        return {name.removeprefix(comparison.VIEW) for name in found if comparison.VIEW in name}

    before = names()
    assert before == {"methods", "methods:50", "methods:100", "other.sweep_2-x"}
    note = f"Read first.\n\n{tags[mlflow_runs.NOTE]}\n\nSee the wiki."
    api.set_experiment_tag(number, mlflow_runs.NOTE, note)
    _, result = swept(work, store, "other.sweep_2-x", methods=["none"], supervision=[0.5, 1.0])
    assert names() == before | {"other.sweep_2-x:50", "other.sweep_2-x:100"}
    swept(work, store, "other.sweep_2-x", methods=["none"], seeds=1)
    assert names() == before
    note = api.get_experiment(number).tags[mlflow_runs.NOTE]
    assert note.startswith("Read first.\n\nLatest sweep: [results](")
    assert note.endswith("[All sweeps](mimic-reg/)\n\nSee the wiki.")
    assert note.count("mimic-reg/other.sweep_2-x") == 1
    assert comparison.sweeps(api, number) == ["other.sweep_2-x", "methods"]
    (summary,) = api.search_runs(
        [mlflow_runs.experiments(uri)[mlflow_runs.SWEEPS]], "tags.sweep = 'other.sweep_2-x'"
    )
    note = summary.data.tags[mlflow_runs.NOTE]
    assert note.startswith("[Open the results](mimic-reg/other.sweep_2-x)")
    assert "is the best of" in note or "champion" in note
    assert views.compared(result)[0].score == "auroc"


def test_an_odd_summary_does_not_stop_the_list_of_sweeps():
    data = {"tags": [], "metrics": [{"key": "trials", "value": "NaN"}]}
    row = results._row({"info": {"start_time": 10**17, "run_id": "1"}, "data": data}, "7")
    assert (row["trials"], row["failed"], row["time"]) == (0, 0, "?")


def test_a_search_of_the_pages_finds_all_runs_of_a_sweep():
    scope = {"headers": [(b"content-length", b"3"), (b"host", b"h")]}
    wanted = mlflow_runs.sweep_filter("a")
    for search, expected in (
        ({"max_results": 100, "filter": wanted}, front.RUNS),
        ({"filter": f"{wanted} AND tags.method = 'itps'"}, front.RUNS),
        ({"max_results": 50, "filter": wanted}, 50),
        ({"max_results": 700, "filter": wanted}, 700),
        ({"max_results": 100, "filter": "tags.method = 'itps'"}, 100),
    ):
        changed, body = front.with_all_runs(scope, json.dumps(search).encode())
        assert json.loads(body) == search | {"max_results": expected}
        length = dict(changed["headers"])[b"content-length"]
        assert length == (str(len(body)).encode() if expected == front.RUNS else b"3")
    for odd in (b"no JSON", b"[]", b'{"filter": 1}'):
        assert front.with_all_runs(scope, odd) == (scope, odd)
