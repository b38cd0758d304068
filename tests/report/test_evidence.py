"""Each comparison has one sentence, which claims what its tests and intervals allow."""

import pytest

from mimic_reg.errors import InputError
from mimic_reg.metrics.comparison import Comparison, paired
from mimic_reg.metrics.uncertainty import combined
from mimic_reg.report.conclusions import conclude, is_open, needed
from mimic_reg.report.evidence import weigh
from mimic_reg.report.frames import evidence_frame
from mimic_reg.report.results import collect
from mimic_reg.report.tables import ScoreTable
from mimic_reg.report.verdicts import Compared
from mimic_reg.settings import WHOLE
from mimic_reg.store import Store
from tests.report.runs import write_sweep
from tests.stores import write_store

TABLE = ScoreTable("t", "lstm", "auroc", ("none", "itps"), ("itps",), (WHOLE,), {})


def compared(values, p_holm):
    found = paired(dict(enumerate(values)), dict.fromkeys(range(len(values)), 0.0))
    result = Comparison(**{**vars(found), "p_holm": p_holm})
    return Compared(WHOLE, "itps", "none", result, result.difference > 0)


@pytest.mark.parametrize(
    ("values", "p_holm", "error", "begins", "opens"),
    [
        ((0.02, 0.03, 0.04), 0.01, 0.001, "itps is better than “none”: +0.0300, and +0.00", False),
        ((-0.02, -0.03, -0.04), 0.01, 0.001, "itps is worse than “none”: -0.0300, and", False),
        ((0.02, 0.03, 0.04), 0.01, 0.05, "itps is better than “none” on these test subj", True),
        ((0.02, 0.03, 0.04), 0.01, None, "itps is better than “none” on these test subj", False),
        ((-0.001, 0.001, 0.002), 0.9, 0.001, "itps and “none” differ by less than 0.01:", False),
        ((-0.01, 0.03, 0.04), 0.3, 0.01, "itps and “none” show no clear difference: the", True),
        ((0.02, 0.03, 0.04), 0.1, 0.001, "itps and “none” show no clear difference after", True),
        ((0.01, 0.03), None, 0.01, "itps against “none”: +0.0200 in 2 pairs, which is too", True),
        ((0.01,), None, 0.01, "itps against “none”: +0.0100 in 1 pair, which is too few", True),
        ((0.25, 0.25, 0.25), None, 0.1, "itps against “none”: +0.2500 in every pair", True),
        ((), None, None, "itps and “none” have no seed in common: nothing can", True),
    ],
)
def test_sentences(values, p_holm, error, begins, opens):
    found = compared(values, p_holm)
    both = None if error is None else combined(values, error, 100)
    assert conclude(found, TABLE, both, "subject", 0.01).startswith(begins)
    assert is_open(found, both, 0.01) == opens


def test_what_is_needed_by_hand():
    found = compared((0.0, 0.01, 0.02), 0.3)  # sd 0.01: an effect of 1 needs 10 seeds
    assert needed(found, 0.01, 100, "subject", 0.01) == (
        "To find a difference of 0.01 with 80 % power, a single test needs 10 seeds (7 more) and "
        "785 test subjects (685 more)."
    )
    assert "3 seeds (there are 3) and 2 test images (there are 100)." in needed(
        found, 0.01, 100, "image", 1.0
    )
    assert "10 seeds (7 more) and more test subjects than there are." in needed(
        found, 0.01, 100, "subject", 0.01, tell=False
    )
    assert "more than 10,000 seeds" in needed(found, None, 0, "subject", 1e-5)
    assert needed(compared((0.1,), None), None, 0, "subject", 0.01) == ""


def test_both_sources_are_in_one_interval_and_the_csv(tmp_path):
    store = Store.open(write_store(tmp_path / "store", num_subjects=150, hours=(48, 49)))
    runs = write_sweep(
        tmp_path / "runs",
        store=store,
        methods=("none", "itps"),
        levels=(1.0,),
        seeds=range(3),
        predictions=True,
    )
    results = collect([runs])
    (weighed,) = weigh(results, [store])
    (row,) = weighed.focus
    assert row.delong == row.delong_holm  # of one test
    seeds, both = row.compared.result.interval, row.both.bounds
    assert both[1] - both[0] > max(seeds[1] - seeds[0], row.subjects[1] - row.subjects[0])
    assert both[0] + both[1] == pytest.approx(seeds[0] + seeds[1])
    (of_focus,) = evidence_frame([weighed]).filter(method="itps").to_dicts()
    assert of_focus["both_low"] == both[0]
    assert of_focus["conclusion"] == row.sentence
    (without,) = weigh(results, [])
    assert without.focus[0].both is without.focus[0].delong is None
    for delta in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="give one above 0"):
            weigh(results, [store], delta)
