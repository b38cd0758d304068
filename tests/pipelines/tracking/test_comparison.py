"""The views in which MLflow compares a sweep, and the links to them."""

from urllib.parse import quote

import pytest

from mimic_reg.settings import WHOLE, TrainingSize
from mimic_reg_pipelines.tracking import client, comparison, mlflow_runs, tracked_run


def test_the_link_opens_the_comparison():
    assert comparison.comparison_url("http://127.0.0.1:5000/", "7") == (
        "http://127.0.0.1:5000/?workflowType=machine_learning#/experiments/7/runs"
        "?compareRunsMode=CHART&workflowType=machine_learning"
    )
    link = comparison.comparison_url("http://h", "7", sweep="t_1")
    assert link.endswith("&searchFilter=tags.%60sweep.t_1%60%20%3D%20%27yes%27")
    link = comparison.comparison_url("..", "7", view="t_1", level=TrainingSize(0.25))
    assert "#/experiments/7/runs?viewStateShareKey=t_1%3A25&" in link
    link = comparison.comparison_url("..", "7", sweep="t", chosen={"method": "it's"})
    assert link.endswith(quote(""" AND tags.`method` = "it's\"""", safe=""))


def test_a_view_stays_small_however_many_runs_there_are(uri):
    """MLflow keeps 20,000 characters, and sends every tag with every experiment."""
    cells = [
        ("lstm", f"method {n}", TrainingSize(level / 20))
        for n in range(20)
        for level in range(1, 21)
    ]
    once = compared(cells)
    often = compared(cells * 50)
    assert comparison.view(often) == comparison.view(once)
    assert len(comparison.view(often)) < 8_000
    state = comparison.unpack(comparison.view(once))
    assert len(state["groupsExpanded"]) == 400
    for _ in range(2):
        number = comparison.publish(once, uri)
    names = [name for name in client.connect(uri).get_experiment(number).tags if "View" in name]
    assert len(names) == len(set(names)) == 21


def compared(groups, sections=()):
    return comparison.Compared("s", "phenotyping", "macro_auroc", groups, sections)


@pytest.mark.parametrize(
    ("models", "levels", "key", "group"),
    [
        (["lstm"], [WHOLE], "method", "itps"),
        (["lstm"], [TrainingSize(num_samples=50), WHOLE], "method level", "itps at 50 samples"),
        (["cnn", "lstm"], [WHOLE], "model method level", "cnn, itps at 100 %"),
    ],
)
def test_one_tag_groups_the_runs(models, levels, key, group):
    """MLflow's table cuts the names of groups by several tags."""
    groups = [(model, "itps", level) for model in models for level in levels]
    state = comparison.unpack(comparison.view(compared(groups)))
    assert state["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": key}]
    assert f"tag.{key}.{group}" in state["groupsExpanded"]
    assert mlflow_runs.group_tags(models[0], "itps", levels[0])[key] == group


def test_a_view_has_the_sections_that_its_runs_fill(run):
    found = tracked_run.chart_sections(tracked_run.read_run(run))
    assert {"test", "cost", "selection", "selection/selected_now", "method/J"} <= set(found)
    for sections, selects in ((found, True), (["train", "test"], False)):
        state = comparison.unpack(comparison.view(compared([("lstm", "a", WHOLE)], sections)))
        closed = [s["name"] for s in state["compareRunSections"] if not s["display"]]
        assert set(closed) == set(sections)
        assert closed[0] == "test"
        names = {section["name"] for section in state["compareRunSections"]}
        assert ("Selected parameters by epoch" in names) == selects
        places = {chart["metricSectionId"] for chart in state["compareRunCharts"]}
        assert places <= {section["uuid"] for section in state["compareRunSections"]}
