"""Image classification: which of the classes does an image show?

Its samples come from a store of images (`sources.images`), which knows the classes; ten, as in all
data sets of the paper, unless the store says otherwise.
"""

from mimic_reg.tasks.base import Task

TASK = Task(
    "image_classification",
    "multiclass",
    ("y",),
    "accuracy",
    num_outputs=10,
    keys=("image",),
    subject="image",
)
