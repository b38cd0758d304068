"""Progress of long-running functions: they report, whoever calls them shows it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """An epoch that ended.

    number:    counted from 1
    most:      epochs that the fit takes at most
    loss:      mean training loss of the epoch, penalties included; None: not known
    score:     name of the validation score; value: its value
    best:      whether it is the best epoch so far
    may_end_in: further epochs after which early stopping ends the fit if the score does not
               improve; None: the fit has no early stopping
    stopped:   why the fit ends with this epoch; None: it goes on, or has had all its epochs
    task:      whose epoch it is, where several tasks are trained together
    """

    number: int
    most: int
    loss: float | None
    score: str
    value: float
    best: bool = False
    may_end_in: int | None = None
    stopped: str | None = None
    task: str = ""

    @property
    def soonest(self) -> int:
        """Return how many more epochs the fit takes at least."""
        left = 0 if self.stopped else self.most - self.number
        return left if self.may_end_in is None else min(left, self.may_end_in)

    def __str__(self) -> str:
        """Return the epoch as a line."""
        loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
        best = " (best)" if self.best else ""
        stopped = f"; stopped: {self.stopped}" if self.stopped else ""
        task = f"{self.task}, " if self.task else ""
        return (
            f"{task}epoch {self.number} of {self.most}: {loss}validation {self.score} "
            f"{self.value:.4f}{best}{stopped}"
        )


class Progress:
    """The reports of a long-running function; this class shows none of them.

    A subclass that shows notes shows epochs as notes.
    """

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin a stage of `total` units of work; None: their number is unknown."""

    def advance(self, amount: int, rows: int = 0) -> None:
        """Report `amount` more units as done, in which `rows` table rows were read."""

    def epoch(self, epoch: Epoch) -> None:
        """Report the end of an epoch of training."""
        self.note(str(epoch))

    def done(self, seconds: float, resumed: bool = False) -> None:
        """End the stage; `resumed`: an earlier run had finished it."""

    def note(self, text: str) -> None:
        """Report a fact worth knowing that stops nothing."""


SILENT = Progress()


def format_seconds(seconds: float) -> str:
    """Return a duration for people: 40 s, 12 min, 5.2 h, 31 days."""
    for unit, size in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            value = seconds / size
            return f"{value:,.{1 if value < 10 else 0}f} {unit}"
    return f"{seconds:,.0f} s"
