"""Models for tests, of what the benchmark's hours and common images look like."""

from mimic_reg import models, tasks
from mimic_reg.store.spec import Channel

COLOUR = (3, 32, 32)
SHAPES = {"dnn": (1, 28, 28), "cnn": COLOUR, "vgg16": COLOUR, "resnet50": COLOUR}
SHAPES |= {"efficientnet_b0": COLOUR}


def create(name, n_outputs=1, *, shape=None, **settings):
    """Return the model, by default for 76 channels an hour, or for the images it takes."""
    shape = shape or SHAPES.get(name, (76,))
    settings = {"cohort_channels": channels(*shape), **settings}
    return models.create(name, n_outputs, shape=shape, **settings)


def channels(num, *of_images):
    """Return the benchmark's 76 channels; or variables of one channel, the last of them a flag."""
    if of_images:
        return None
    if num == 76:
        return tasks.cohort(tasks.names()).channels
    *values, flag = (Channel(name=f"x{i}", kind="continuous", variable=f"x{i}") for i in range(num))
    if not values:
        return (flag,)
    return (*values, flag.model_copy(update={"kind": "observed", "variable": "x0"}))
