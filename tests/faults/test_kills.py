"""kill -9 at random moments; `benchmarks/faults.py` does it far more often, and to servers."""

import pytest

from mimic_reg.simulation.synthesis import synthesize
from tests.faults.kills import Case, Extraction, kill_until_done, of_run

pytestmark = pytest.mark.slow


def test_extraction(tmp_path):
    synthesize(tmp_path / "raw", patients=300)
    case = Case(Extraction(tmp_path / "raw", tmp_path / "cases"))
    # an attempt that is faster than the undisturbed one may end before its kill
    fell = next(fell for seed in range(5) if (fell := case.fall(seed)).kills)
    assert fell.same


def test_training(target, undisturbed, tmp_path):
    """Once while it starts, say, and once under way."""
    place = tmp_path / "killed"
    kills, starts = kill_until_done(lambda: target.begin(place), [1.0, 4.0])
    assert kills >= 1
    assert starts == kills + 1 or kills < 2
    assert of_run(place / "run") == of_run(undisturbed)
