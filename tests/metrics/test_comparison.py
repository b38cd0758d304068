import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mimic_reg.metrics.comparison import compare, compare_best, holm, paired, summarise, winner
from mimic_reg.metrics.folds import Fold

ZEROS = dict.fromkeys(range(5), 0.0)


def scores(*values):
    return dict(enumerate(values))


def test_the_worked_example():
    result = paired(scores(0.01, 0.012, 0.008, 0.011, 0.009), ZEROS)
    assert result.n == 5
    assert result.t == pytest.approx(14.142, abs=5e-4)
    assert result.p == pytest.approx(1.451e-4, abs=5e-8)
    assert result.difference == pytest.approx(0.01)
    assert result.effect == pytest.approx(14.142 / math.sqrt(5), abs=5e-4)
    low, high = result.interval
    assert low == pytest.approx(0.01 - 2.7764 * 0.00158114 / math.sqrt(5), abs=1e-6)
    assert high == pytest.approx(0.02 - low)


def test_pairs_are_by_seed_and_equal_scipys():
    a, b = {3: 0.8, 1: 0.7, 2: 0.75, 9: 0.1}, {1: 0.69, 2: 0.7, 3: 0.76}
    result = paired(a, b)
    expected = stats.ttest_rel([0.7, 0.75, 0.8], [0.69, 0.7, 0.76])
    assert (result.n, result.t, result.p) == (3, *map(pytest.approx, expected))
    assert result.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))


def test_undefined_tests_have_a_reason():
    assert paired(ZEROS, ZEROS).p == 1.0
    assert paired(scores(1, 2), scores(0, 0)).reason == "fewer than 3 pairs"
    assert paired(scores(1, 2), scores(0, 0)).interval is not None
    assert paired(scores(1), scores(0)).reason == "fewer than 3 pairs"
    assert paired({1: 0.5}, {2: 0.5}).reason == "no seed in common"
    same = paired(scores(0.3, 0.4, 0.5), scores(0.2, 0.3, 0.4))
    assert same.p is None
    assert "no variance" in same.reason


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.01, 0.005], num_tests=6) == pytest.approx([0.05, 0.03])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_monotone_and_between_p_and_bonferroni(p):
    corrected = holm(p)
    ranked = [corrected[i] for i in sorted(range(len(p)), key=lambda i: p[i])]
    assert ranked == sorted(ranked)
    for raw, new in zip(p, corrected, strict=True):
        assert raw <= new <= 1
    assert min(corrected) == pytest.approx(min(1, min(p) * len(p)))


def test_a_winner_needs_significant_tests():
    base = scores(0.80, 0.81, 0.79, 0.82, 0.80)
    clear = {seed: value + 0.02 + 0.001 * (seed % 2) for seed, value in base.items()}
    noisy = {seed: value + 0.02 * (-1) ** seed + 0.004 for seed, value in base.items()}
    assert winner({"a": clear, "b": base}) == "a"
    assert winner({"a": noisy, "b": base}) is None
    assert winner({"a": clear}) is None
    assert winner({}) is None


def test_the_best_of_equal_methods_is_rarely_found_better():
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(100):
        drawn = {str(m): dict(enumerate(rng.normal(size=5))) for m in range(16)}
        best = max(drawn, key=lambda name: summarise(list(drawn[name].values())).mean)
        found += any(c.significant for c in compare_best(best, drawn).values())
    assert found <= 5  # corrected over the 15 comparisons alone: 16


def test_the_best_is_compared_with_every_other_corrected_over_all_pairs():
    base = scores(0.80, 0.81, 0.79, 0.82, 0.80)
    better = {seed: value + 0.01 * (1 + seed % 3) for seed, value in base.items()}
    found = compare_best("best", {"best": better, "one": base, "two": {**base, 0: 0.805}})
    assert list(found) == ["one", "two"]
    smaller, larger = sorted(found.values(), key=lambda c: c.p)
    assert smaller.p_holm == pytest.approx(3 * smaller.p)
    assert larger.p_holm == pytest.approx(max(3 * smaller.p, 2 * larger.p))


def test_corrections_count_the_baselines_that_were_tested():
    base = scores(0.80, 0.81, 0.79, 0.82, 0.80)
    better = {seed: value + 0.01 * (1 + seed % 3) for seed, value in base.items()}
    both = compare(better, {"one": base, "two": {**base, 0: 0.7}, "none": {99: 0.5}})
    assert both["none"].p_holm is None
    assert both["one"].p_holm == pytest.approx(min(1, 2 * both["one"].p))


def test_summaries():
    assert summarise([0.5]).sd is None
    assert summarise([0.5, 0.7]).mean == pytest.approx(0.6)
    assert summarise([0.5, 0.7]).sd == pytest.approx(0.1414, abs=1e-4)
    assert math.isnan(summarise([]).mean)


def test_wilcoxon_by_hand_and_corrected_by_holm():
    """Of 2^5 signs, two have a rank sum as extreme as 15 (p = 1/16), four one of 14 (p = 1/8)."""
    up, mixed = scores(1, 2, 3, 4, 5), scores(-1, 2, 3, 4, 5)
    found = compare(ZEROS, {"up": up, "mixed": mixed, "few": scores(1, 2)})
    assert [c.wilcoxon for c in found.values()] == [0.0625, 0.125, None]
    assert [c.wilcoxon_holm for c in found.values()] == [0.125, 0.125, None]
    assert paired(ZEROS, ZEROS).wilcoxon == 1.0
    in_folds = {Fold(i, 5, 0): float(i) for i in range(1, 6)}
    assert paired(in_folds, dict.fromkeys(in_folds, 0.0)).wilcoxon is None
