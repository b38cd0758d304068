import pytest

from mimic_reg.metrics.comparison import holm, paired
from mimic_reg.report.headline import headline
from tests.report.runs import DROPOUT, ITPS, only_table, write_seeds

BASE = [0.80, 0.81, 0.79, 0.82, 0.80]
WORSE = [v - 0.02 + 0.001 * (i % 2) for i, v in enumerate(BASE)]
SAME = [v + 0.004 * (-1) ** i for i, v in enumerate(BASE)]


def test_better_worse_and_unclear_methods_are_listed_with_their_differences(tmp_path):
    write_seeds(tmp_path, ("none",), BASE)
    write_seeds(tmp_path, DROPOUT, SAME)
    write_seeds(tmp_path, ITPS, WORSE)
    found = headline(only_table(tmp_path), best_possible=0.9)
    first, *rest = found.sentences
    assert found.question == "Does a regulariser help?"
    low, high = paired(dict(enumerate(WORSE)), dict(enumerate(BASE))).interval
    bounds = f"(95 % interval {low:+.4f} to {high:+.4f})"
    assert first == f"Worse than no regularisation: itps, -0.0196 AUROC {bounds}."
    assert rest[0].startswith("No clear difference: dropout, +0.0008 AUROC (95 % interval -0.")
    assert "The true risk scores 0.9000" in rest[1]


def test_several_sizes_give_one_difference_for_each_seed(tmp_path):
    """At no single size is the test clear; the mean over sizes is."""
    noise = [0.02, -0.02, 0.01, -0.01, 0.0]
    for supervision, sign in ((0.25, 1), (1.0, -1)):
        write_seeds(tmp_path, ("none",), BASE, supervision=supervision)
        scores = [
            v + 0.01 + sign * n + 0.001 * (i % 2)
            for i, (v, n) in enumerate(zip(BASE, noise, strict=True))
        ]
        write_seeds(tmp_path, ITPS, scores, supervision=supervision)
        assert paired(dict(enumerate(scores)), dict(enumerate(BASE))).p > 0.1
    found = headline(only_table(tmp_path))
    assert found.question == "Does itps help, and with how much data?"
    first, *_ = found.sentences
    assert first.startswith(
        "Better than no regularisation (mean over 2 training sizes): itps, +0.0104 AUROC (95 %"
    )


def test_the_tests_are_corrected_over_all_methods(tmp_path):
    """Alone each method would be told from none; among many it is not."""
    shifts = [0.0046 + 0.0001 * number for number in range(8)]
    rates = [number / 10 for number in range(8)]
    write_seeds(tmp_path, ("none",), BASE)
    p_values = []
    for rate, shift in zip(rates, shifts, strict=True):
        scores = [v + shift + 0.002 * ((i * 3) % 5 - 2) for i, v in enumerate(BASE)]
        write_seeds(tmp_path, ({"dropout": {"rate": rate}},), scores)
        p_values.append(paired(dict(enumerate(scores)), dict(enumerate(BASE))).p)
    assert max(p_values) < 0.05 < min(holm(p_values))
    assert headline(only_table(tmp_path)).sentences[0].startswith("No method is significantly")


def test_few_seeds_give_no_answer(tmp_path):
    write_seeds(tmp_path, ("none",), BASE[:2])
    write_seeds(tmp_path, ITPS, WORSE[:2])
    assert headline(only_table(tmp_path)).sentences == (
        "Too few runs for an answer: a test needs 3 seeds of each method.",
    )


def test_errors_are_better_where_they_are_smaller(tmp_path):
    score = "mean_absolute_deviation"
    write_seeds(tmp_path, ("none",), [30.0, 31.0, 32.0, 31.5], score)
    write_seeds(tmp_path, ITPS, [28.0, 29.1, 29.9, 29.6], score)
    found = headline(only_table(tmp_path))
    assert found.question == "Does itps help?"
    assert found.sentences[0].startswith("Better than no regularisation: itps, -1.9")


def test_one_method_has_no_headline(tmp_path):
    write_seeds(tmp_path, ITPS, BASE)
    assert headline(only_table(tmp_path)) is None


@pytest.mark.parametrize(
    ("gain", "ending"), [(0.03, "20)."), (0.0005, "), which may be chance.")], ids=str
)
def test_the_effect_of_more_data_is_a_sentence(tmp_path, gain, ending):
    noise = [0.0, 0.001, -0.001, 0.002, -0.002]
    write_seeds(tmp_path, ("none",), BASE, supervision=0.25)
    write_seeds(tmp_path, ("none",), [v + gain + n for v, n in zip(BASE, noise, strict=True)])
    write_seeds(tmp_path, ITPS, WORSE)
    (sentence,) = [s for s in headline(only_table(tmp_path)).sentences if "More data" in s]
    assert sentence.startswith("More data: from 25 % to 100 %, the AUROC of no regularisation")
    assert f"changes by {gain:+.4f} (95 % interval" in sentence
    assert sentence.endswith(ending)
