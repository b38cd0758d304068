"""Small runs for tests of predictions: one epoch of a tiny LSTM."""

from mimic_reg.fitting import train
from mimic_reg.learners.trials import resolve
from mimic_reg.progress import Progress


class Notes(Progress):
    """Progress that keeps what it is told."""

    text = ""

    def note(self, text):
        self.text += text


def fit(store, task, out, fold=None, **training):
    """Train on a store, and return the run folder."""
    settings = {
        "task": task,
        "fold": fold,
        "model": {"lstm": {"units": 4}},
        "regularisers": [{"none": {}}],
        "training": {
            "max_epochs": 1,
            "epoch_steps": 5,
            "learning_rate": 0.05,
            "batch_size": 16,
            "normalizer": "fitted",
            **training,
        },
    }
    train(resolve(settings), store, out, device="cpu")
    return out
