import pytest

from mimic_reg.report.frames import scores_frame
from mimic_reg.report.results import collect
from mimic_reg.report.tables import format_cell, score_tables
from mimic_reg.report.verdicts import verdicts
from mimic_reg.settings import WHOLE, training_size
from tests.report.runs import ITPS, only_table, write_seeds, write_sweep

QUARTER = training_size(0.25)


def test_cells_are_mean_sd_and_n_over_seeds(tmp_path):
    write_seeds(tmp_path, ("none",), [0.80, 0.82, 0.84], supervision=0.25)
    write_seeds(tmp_path, ITPS, [0.85])
    table = only_table(tmp_path)
    assert (table.methods, table.focus) == (("none", "itps"), ("itps",))
    assert table.levels == (QUARTER, WHOLE)
    cell = table.cells["none", QUARTER]
    assert cell.summary.mean == pytest.approx(0.82)
    assert cell.summary.sd == pytest.approx(0.02)
    assert format_cell(cell, "auroc") == "0.8200 ± 0.0200 (n = 3)"
    assert format_cell(table.cells["itps", WHOLE], "auroc") == "0.8500 (n = 1, no sd)"
    assert format_cell(table.cells.get(("itps", QUARTER)), "auroc") == "not run"


def test_undefined_scores_stay_undefined(tmp_path):
    write_seeds(tmp_path, ("none",), ["one class", "one class"])
    write_seeds(tmp_path, ITPS, [0.8, "one class"])
    table = only_table(tmp_path)
    assert format_cell(table.cells["none", WHOLE], "auroc") == "undefined: one class"
    text = format_cell(table.cells["itps", WHOLE], "auroc")
    assert text == "0.8000 (n = 1, no sd, 1 undefined: one class)"
    frame = scores_frame([table])
    assert frame.filter(method="none").select("n", "mean", "sd", "undefined").rows() == [
        (0, None, None, 2)
    ]
    (verdict,) = verdicts(table)
    assert verdict.winner is None
    assert "No other method has a defined score." in verdict.sentence


def test_every_score_has_its_table_and_the_selecting_one_comes_first(tmp_path):
    write_sweep(tmp_path, methods=("none",), levels=(1.0,), seeds=range(1))
    assert [t.score for t in score_tables(collect([tmp_path]))] == ["auroc", "brier"]
