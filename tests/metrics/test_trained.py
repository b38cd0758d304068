"""One rule for what never trained, and every place that must show it."""

import numpy as np
import pytest

from mimic_reg.metrics.trained import hardly_trained
from mimic_reg.report.markdown import to_markdown
from mimic_reg.report.page import write_report
from mimic_reg.report.results import collect
from mimic_reg.report.tables import main_tables
from mimic_reg.settings import WHOLE
from tests.report.runs import ITPS, history, settings, write_run


def rows(explained=None, selected=None, parameters=682_497, epoch=3):
    recorded = {} if selected is None else {"selected_ever": selected}
    row = {"event": "epoch", "epoch": epoch, "recorded": recorded}
    measured = {} if explained is None else {"explained": explained, "parameters": parameters}
    return [{"event": "steps"}, {**row, "epoch": 0, "explained": -5.0}, {**row, **measured}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"explained": 0.2}, None),
        ({"explained": 0.01}, None),
        ({"explained": 0.0099}, "its training loss was only 1.0% below that of a constant"),
        ({"explained": -2.0}, "its training loss was above that of a constant prediction"),
        (
            {"explained": -2.5, "selected": 127},
            "constant prediction and only 127 of its",
        ),
        ({"explained": 0.0, "selected": 683}, "only 0.0% below that of a constant prediction"),
        ({"explained": 0.1, "selected": 400}, None),  # few that explain much
        # an older history
        ({"selected": 127}, "only 127 of its parameters had ever been selected"),
        ({"selected": 20_000}, None),
        ({}, None),
    ],
)
def test_the_rule_is_a_share_of_the_constant_prediction_s_loss(row, reason):
    found = hardly_trained(rows(**row), 3)
    assert found is None if reason is None else reason in found


def test_only_the_selected_epoch_counts():
    assert hardly_trained(rows(explained=0.2), 0) is not None
    assert hardly_trained(rows(explained=0.2), None) is None


def test_tables_and_pages_warn_of_runs_that_hardly_trained(tmp_path):
    rng = np.random.default_rng(0)
    for seed in range(3):
        for method, score, share in ((ITPS, 0.456, -0.1), (("none",), 0.811, 0.3)):
            epochs = history(rng, 0.7, itps=method is ITPS)
            epochs = [{**row, "explained": share, "parameters": 682_497} for row in epochs]
            scores = {"validation": {"auroc": 0.5}, "test": {"auroc": score}}
            folder = tmp_path / f"{seed}-{score}"
            write_run(folder, settings(method, seed=seed), scores, epochs=epochs)
    results = collect([tmp_path])
    (table,) = main_tables(results)
    assert table.cells["itps", WHOLE].mark == "3 of 3 hardly trained"
    assert table.cells["none", WHOLE].mark == ""
    text = to_markdown(results)
    assert "(n = 3, 3 of 3 hardly trained)" in text
    page = write_report(results, tmp_path, title="T").read_text("utf-8")
    for shown in (text, page):
        assert "initial model: itps at 100 % supervision (3 of 3)." in shown
        assert "its training loss was above that of a constant prediction." in shown
