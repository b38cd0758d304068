"""Models for tests, of what the benchmark's hours and common images look like."""

from mimic_reg import models

SHAPES = {"lstm": (76,), "transformer": (76,), "dnn": (1, 28, 28)}


def create(name, n_outputs=1, *, shape=None, **settings):
    """Return the model, by default for 76 channels an hour or for colour images."""
    shape = shape or SHAPES.get(name, (3, 32, 32))
    return models.create(name, n_outputs, shape=shape, **settings)
