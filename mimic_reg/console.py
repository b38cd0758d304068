"""What the command line draws: progress and tables, on a terminal or as plain lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mimic_reg.progress import Progress as ProgressProtocol

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

# Without a terminal, a line of progress at most every so many seconds.
_LINE_SECONDS = 10.0


def _amount(done: int, total: int | None, unit: str) -> str:
    if unit == "bytes":
        size = f"{done / 1e6:,.0f}"
        return f"{size} of {total / 1e6:,.0f} MB" if total else f"{size} MB"
    return f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"


class ConsoleProgress:
    """Draws progress: bars on a terminal, else a line when a stage ends or takes long."""

    def __init__(self, console: Console, bars: Progress | None) -> None:
        self.console, self.bars = console, bars
        self.name, self.total, self.unit = "", None, ""  # type: tuple[str, int | None, str]
        self.done_units = self.rows = 0
        self.begin = self.last_line = time.monotonic()
        self.task: TaskID | None = None

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A stage begins."""
        self.name, self.total, self.unit = name, total, unit
        self.done_units = self.rows = 0
        self.begin = self.last_line = time.monotonic()
        if self.bars:
            self.task = self.bars.add_task(name, total=total or None, amount="", rows="")

    def advance(self, amount: int, rows: int = 0) -> None:
        """Some of it is done."""
        self.done_units += amount
        self.rows += rows
        if self.bars and self.task is not None:
            self.bars.update(self.task, advance=amount, amount=self._amount(), rows=self._rows())
        elif time.monotonic() - self.last_line > _LINE_SECONDS:
            self.last_line = time.monotonic()
            self.console.print(f"{self.name}: {self._amount()}{self._rows()}{self._remaining()}")

    def done(self, seconds: float, resumed: bool = False) -> None:
        """The stage ended."""
        if self.bars and self.task is not None:
            self.bars.remove_task(self.task)
        how = "done before, kept" if resumed else f"{seconds:,.1f} s"
        self.console.print(f"{self.name:<14}{how}{self._rows()}", highlight=False)

    def note(self, text: str) -> None:
        """Something worth knowing."""
        self.console.print(f"Note: {text}", highlight=False, soft_wrap=True)

    def _amount(self) -> str:
        return _amount(self.done_units, self.total, self.unit)

    def _rows(self) -> str:
        return f", {self.rows:,} rows" if self.rows else ""

    def _remaining(self) -> str:
        if not self.total or not self.done_units:
            return ""
        spent = time.monotonic() - self.begin
        return f", about {spent * (self.total / self.done_units - 1):,.0f} s left"


@contextmanager
def progress(console: Console) -> Iterator[ProgressProtocol]:
    """Progress on `console` while the context lasts."""
    if not console.is_terminal:
        yield ConsoleProgress(console, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[amount]}{task.fields[rows]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bars:
        yield ConsoleProgress(console, bars)


def table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    """A table: first column left, numbers right with thousands separators."""
    drawn = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        drawn.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*(f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row))
    return drawn
