"""The fully connected network."""

import torch

from tests.networks import create


def test_images_are_flattened():
    model = create("dnn", 10)
    x = torch.randn(3, 1, 28, 28)
    ones = torch.ones(3, dtype=torch.int64)
    assert torch.equal(model(x, ones), model(x.flatten(1), ones))


def test_sites_follow_the_activations():
    model = create("dnn", 10, hidden=[60, 50])
    seen = []
    for site in model.sites:
        site.register_forward_hook(lambda module, x, y: seen.append(y))
    model(torch.randn(3, 784), torch.ones(3, dtype=torch.int64))
    assert [tuple(y.shape) for y in seen] == [(3, 60), (3, 50)]
    assert all((y >= 0).all() and (y == 0).any() for y in seen)
