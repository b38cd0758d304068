"""Models for tests, of what the benchmark's hours and common images look like."""

from mimic_reg import models

COLOUR = (3, 32, 32)
SHAPES = {"dnn": (1, 28, 28), "cnn": COLOUR, "vgg16": COLOUR, "resnet50": COLOUR}
SHAPES |= {"efficientnet_b0": COLOUR}


def create(name, n_outputs=1, *, shape=None, **settings):
    """Return the model, by default for 76 channels an hour, or for the images it takes."""
    shape = shape or SHAPES.get(name, (76,))
    return models.create(name, n_outputs, shape=shape, **settings)
