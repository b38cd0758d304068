"""Training sizes: shares before numbers, one name for each."""

import pytest

from mimic_reg.settings import WHOLE, TrainingSize, training_size


def test_shares_come_before_numbers():
    few, many = (TrainingSize(num_samples=n) for n in (2, 500))
    assert sorted([many, WHOLE, few, training_size(0.25)]) == [
        training_size(0.25),
        WHOLE,
        few,
        many,
    ]
    assert max([few, WHOLE]) == few


@pytest.mark.parametrize(
    ("size", "name", "value", "tags"),
    [
        (training_size(1), "100", 100, {"supervision": "1"}),
        (training_size(0.125), "12.5", 12.5, {"supervision": "0.125"}),
        (training_size(1.0, 2_000_000), "n2000000", 2e6, {"num_samples": "2000000"}),
    ],
)
def test_names_and_values(size, name, value, tags):
    assert (size.name, size.value, size.tags()) == (name, value, tags)
