"""What augmentation changes, and what it leaves alone."""

import pytest
import torch

from mimic_reg import methods
from mimic_reg.errors import InputError
from mimic_reg.methods.augmentation import hidden_hours, mirrored, shifted
from tests.methods.fits import make_fit
from tests.methods.stays import everything, make_images, make_stays

CONTRACT = {"jitter": 0.1, "scaling": 0.1, "masking": 0.3}


def changed(samples, **options):
    fit = make_fit(train=samples)
    batch, method = everything(samples), methods.create("augmentation", **options)
    method.prepare(None, fit)
    return batch.x, method.batch(batch, fit).x


@pytest.mark.parametrize("option", ["jitter", "scaling"])
def test_measurements_within_a_stay_and_nothing_else(option):
    before, after = changed(make_stays(), **{option: 0.1})
    assert (after != before)[..., 0].sum() == 6 + 3 + 1
    assert torch.equal(after[..., 1:], before[..., 1:])
    factors = (after / before)[0, :, 0]
    assert (factors.std() < 1e-5) == (option == "scaling")  # one factor a sample and channel


def test_a_stretch_is_hidden_that_never_reaches_the_end():
    lengths = torch.tensor([40, 10, 1, 2])
    rng = torch.Generator().manual_seed(0)
    draws = torch.stack([hidden_hours(lengths, 40, 0.3, rng) for _ in range(500)])
    counts = draws.sum(2)
    assert counts.amax(0).tolist() == [12, 3, 0, 0]
    assert counts.amin(0).tolist() == [0, 0, 0, 0]
    for sample, length in enumerate(lengths):
        assert not draws[:, sample, length - 1 :].any()
    starts = draws.long().diff(dim=2, prepend=torch.zeros(500, 4, 1, dtype=torch.long)) == 1
    assert starts.sum(2).max() == 1  # one stretch
    assert draws[:, 1, :9].any(0).all()  # any other hour


def test_hidden_hours_are_zeros():
    _, after = changed(make_stays(), masking=0.9)
    assert (after.abs().sum(2) == 0)[0].any()


def test_images_are_moved_and_mirrored():
    images = make_images(50, shape=(2, 4, 5)).units.values + 1
    padded = torch.nn.functional.pad(images, [1] * 4)
    moved = shifted(images, 1, torch.Generator().manual_seed(0))
    seen = set()
    for sample, window in zip(moved, padded, strict=True):
        fits = [
            (i, j)
            for i in range(3)
            for j in range(3)
            if torch.equal(sample, window[:, i : i + 4, j : j + 5])
        ]
        assert len(fits) == 1
        seen.update(fits)
    assert len(seen) == 9
    turned = mirrored(images, 0.5, torch.Generator().manual_seed(0))
    flips = [torch.equal(a, b.flip(2)) for a, b in zip(turned, images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(turned, images, strict=True)]
    assert sum(flips) + sum(same) == 50
    assert 10 < sum(flips) < 40


@pytest.mark.parametrize(
    ("samples", "defaults"),
    [
        (make_stays(), {"jitter": 0, "scaling": 0.1, "masking": 0.1}),
        (make_images(shape=(1, 12, 12)), {"padding": 4, "flip": 0.5}),
    ],
)
def test_without_options_it_has_the_defaults_for_its_samples(samples, defaults):
    before, after = changed(samples)
    assert not torch.equal(before, after)
    assert torch.equal(after, changed(samples, **defaults)[1])
    assert torch.equal(before, changed(samples, **dict.fromkeys(defaults, 0))[1])


def test_options_of_the_other_kind_are_refused():
    with pytest.raises(InputError, match="padding has no effect on hours"):
        changed(make_stays(), padding=4)
    with pytest.raises(InputError, match=r"masking has no effect on images.*padding, flip"):
        changed(make_images(), masking=0.1)


@pytest.mark.parametrize(
    ("option", "value"),
    [("jitter", -1), ("scaling", -1), ("masking", 1), ("padding", -1), ("flip", 2)],
)
def test_impossible_options_are_refused(option, value):
    with pytest.raises(InputError, match=f"{option} must be .*, got {value}"):
        methods.create("augmentation", **{option: value})
