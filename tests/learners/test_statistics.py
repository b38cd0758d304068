"""The hand-made features, against the benchmark's rules written out, and by hand."""

import numpy as np
import pytest
import torch
from scipy.stats import skew

from mimic_reg import tasks
from mimic_reg.clinical.schema import CHANNELS, VARIABLES
from mimic_reg.errors import InputError
from mimic_reg.learners.statistics import PERIODS, STATISTICS, features, layout, statistics
from mimic_reg.samples import from_rows
from mimic_reg.store.spec import Channel
from tests.networks import channels


def test_the_benchmark_has_714_features():
    of = layout(channels(76))
    assert (len(of.owner), len(PERIODS), len(STATISTICS)) == (17, 7, 6)
    assert of.num_features == 714
    assert [of.of[v].name for v in of.owner] == list(VARIABLES)


def number(variable, row):
    """The value of a variable in an hour: of the Glasgow coma scale, the number of its text."""
    if variable in CHANNELS:
        return row[CHANNELS.index(variable)]
    (text,) = (
        c.removeprefix(f"{variable}->")
        for c in CHANNELS
        if c.startswith(f"{variable}->") and row[CHANNELS.index(c)]
    )
    words = {
        **{"None": 0, "No Response": 1, "No response": 1, "No Response-ETT": 1, "To Pain": 2},
        **{"Incomprehensible sounds": 2, "Abnormal extension": 2, "To Speech": 3},
        **{"Inappropriate Words": 3, "Abnormal Flexion": 3, "Confused": 4, "Spontaneously": 4},
        **{"Flex-withdraws": 4, "Oriented": 5, "Localizes Pain": 5, "Obeys Commands": 6},
    }
    return words[text] if text in words else float(text.split()[0])


def reference(hours):
    """The features of one sample, as the benchmark's code reads them from its events."""
    found = []
    for variable in VARIABLES:
        flag = CHANNELS.index(f"mask->{variable}")
        data = [(t, number(variable, row)) for t, row in enumerate(hours) if row[flag]]
        for end, percent in [(2, 100), (2, 10), (2, 25), (2, 50), (3, 10), (3, 25), (3, 50)]:
            if not data:
                found += [np.nan] * 6
                continue
            begin, stop = data[0][0], data[-1][0]
            span = (stop - begin) * percent / 100
            low, high = (begin, begin + span) if end == 2 else (stop - span, stop)
            x = [v for t, v in data if low - 1e-6 < t < high + 1e-6]
            third = skew(x) if min(x) < max(x) else 0
            found += [min(x), max(x), np.mean(x), np.std(x), third, len(x)]
    return np.array(found)


def test_features_are_the_benchmark_s():
    rng = np.random.default_rng(0)
    values = rng.normal(50, 10, (60, 76)).round(1)
    for variable in VARIABLES:  # one category an hour
        own = [i for i, c in enumerate(CHANNELS) if c.startswith(f"{variable}->")]
        if own:
            values[:, own] = np.eye(len(own))[rng.integers(len(own), size=60)]
    values[:, -17:] = rng.random((60, 17)) < rng.choice([0.02, 0.3, 1], 17)
    first, length = np.array([0, 25, 26]), np.array([25, 1, 34])
    task, constants = tasks.get("in_hospital_mortality"), (np.zeros(76), np.ones(76))
    samples = from_rows(task, values, first, length, constants=constants)
    found = features(samples, layout(channels(76)))
    expected = [reference(values[f : f + n]) for f, n in zip(first, length, strict=True)]
    assert found == pytest.approx(np.array(expected), rel=1e-4, abs=1e-5, nan_ok=True)
    assert np.isnan(found).any()
    assert not np.isnan(found).all()


def test_by_hand():
    """Measured in hours 1, 3 and 5 with 2, 8 and 5; hours 0, 2 and 4 were filled, 6 is padding."""
    given = [
        Channel(name="x", kind="continuous", variable="x"),
        Channel(name="x missing", kind="missing", variable="x"),
    ]
    x = torch.tensor([[[9.0, 1], [2, 0], [9, 1], [8, 0], [9, 1], [5, 0], [99, 0]]])
    found = statistics(x, torch.tensor([6]), layout(given)).view(7, 6)
    # two values of a distance have no skewness; -3, 3 and 0 are symmetric
    assert found[0].tolist() == pytest.approx([2, 8, 5, np.sqrt(6), 0, 3])
    assert found[1].tolist() == [2, 2, 2, 0, 0, 1]  # hours 1 to 1.4
    assert found[3].tolist() == [2, 8, 5, 3, 0, 2]  # hours 1 to 3
    assert found[6].tolist() == [5, 8, 6.5, 1.5, 0, 2]  # hours 3 to 5
    assert statistics(x[:, :1], torch.tensor([1]), layout(given)).isnan().all()


def test_categories_without_numbers_are_series_of_their_own():
    names = ["unit->a", "unit->b", "stage->1", "stage->2.5", "on->nan", "on->1"]
    given = [Channel(name=n, kind="indicator", variable=n.partition("->")[0]) for n in names]
    numbers = layout(given).numbers
    assert numbers.T.tolist() == [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 2.5, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    with pytest.raises(InputError, match="1 channels, and none of them holds values"):
        layout([Channel(name="f", kind="missing", variable="f")])
