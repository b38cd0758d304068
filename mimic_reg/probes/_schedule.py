"""When a probe measures: after the first epoch, and after every `every`-th."""

from mimic_reg.methods.base import Event, Fit


def is_due(every: int, event: Event, fit: Fit) -> bool:
    """Return whether a probe measures at this event."""
    number = fit.epoch + 1
    return event == "epoch_end" and (number == 1 or number % every == 0)


def num_looks(every: int, max_epochs: int) -> int:
    """Return the number of measurements in a fit that takes all its epochs."""
    return max_epochs // every + (every > 1)
