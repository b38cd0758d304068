"""Output of the command line: progress and tables, on a terminal or as plain lines."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console

from mimic_reg.progress import Epoch, Progress, format_seconds

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# Without a terminal, a line of progress at most every so many seconds.
_LINE_SECONDS = 10.0


def say(text: object, to: Console = out) -> None:
    """Print a text as it is: without markup, and unwrapped for whoever copies it."""
    to.print(text, markup=False, soft_wrap=True)


@dataclass
class Verbosity:
    """What a command prints besides its result.

    quiet:   results and errors only
    verbose: resolved settings, every epoch of many fits, and where an error arose
    """

    quiet: bool = False
    verbose: bool = False


verbosity = Verbosity()


class ConsoleProgress(Progress):
    """Draw bars on a terminal, else print a line when a stage ends or takes long."""

    def __init__(self, console: Console, bars: "Bars | None") -> None:
        self.console, self.bars = console, bars
        self.task: TaskID | None = None
        self.stage("", None, "")

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin a stage."""
        self.name, self.total, self.unit = name, total, unit
        self.done_units = self.rows = 0
        self.soonest: float | None = None  # units at which early stopping may end the stage
        self.last_epoch = 0
        self.begin = self.last_line = time.monotonic()
        if self.bars and name:
            self._remove_bar()
            self.task = self.bars.add_task(name, total=total or None, told="")

    def advance(self, amount: int, rows: int = 0) -> None:
        """Move the bar; without one, print a line from time to time."""
        self.done_units += amount
        self.rows += rows
        told = f"{self._amount()}{self._rows()}{self._left()}"
        if self.bars and self.task is not None:
            self.bars.update(self.task, advance=amount, told=told)
        elif time.monotonic() - self.last_line > _LINE_SECONDS:
            self._print(f"{self.name}: {told}")

    def epoch(self, epoch: Epoch) -> None:
        """Print the epoch, and the time left with early stopping in mind."""
        left = epoch.most - epoch.number
        if self.total and left:
            ahead = (self.total - self.done_units) * epoch.soonest / left
            others = self.soonest if epoch.number == self.last_epoch else None  # of other tasks
            self.soonest = max(self.done_units + ahead, others or 0.0)
        self.last_epoch = epoch.number
        self._print(f"{epoch}{self._left() if left and not epoch.stopped else ''}")

    def done(self, seconds: float, resumed: bool = False) -> None:
        """Print what the stage took."""
        self._remove_bar()
        took = "done before, kept" if resumed else f"{seconds:,.1f} s"
        self._print(f"{self.name:<14}{took}{self._rows()}")

    def note(self, text: str) -> None:
        """Print a line."""
        self._print(text)

    def _print(self, text: str) -> None:
        self.last_line = time.monotonic()
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _remove_bar(self) -> None:
        if self.bars and self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None

    def _amount(self) -> str:
        done, total, unit = self.done_units, self.total, self.unit
        if unit == "bytes":
            size = f"{done / 1e6:,.0f}"
            return f"{size} of {total / 1e6:,.0f} MB" if total else f"{size} MB"
        return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"

    def _rows(self) -> str:
        return f", {self.rows:,} rows" if self.rows else ""

    def _left(self) -> str:
        """Return the time left: a range where early stopping may end the stage sooner."""
        if not self.total or not self.done_units:
            return ""
        rate = (time.monotonic() - self.begin) / self.done_units
        most = format_seconds(rate * (self.total - self.done_units))
        if self.soonest is None:
            return f", about {most} left"
        least = format_seconds(rate * max(self.soonest - self.done_units, 0.0))
        return f", about {most} left" if least == most else f", {least} to {most} left"


@contextmanager
def progress(console: Console) -> Iterator[Progress]:
    """Show progress on `console` while the context lasts; nothing with --quiet."""
    if verbosity.quiet:
        yield Progress()
        return
    if not console.is_terminal:
        yield ConsoleProgress(console, None)
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[told]}"),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield ConsoleProgress(console, bars)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> "Table":
    """Return a table: numbers right with thousands separators, columns of text left."""
    from rich.table import Table

    drawn = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return drawn
