"""Progress, for whoever shows it: the long-running functions report, the command line draws."""

from typing import Protocol


class Progress(Protocol):
    """What a long-running function tells about its advance."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """A stage begins; `total` units of work lie ahead (None: unknown)."""

    def advance(self, amount: int, rows: int = 0) -> None:
        """`amount` more units are done, in which `rows` table rows were read."""

    def done(self, seconds: float, resumed: bool = False) -> None:
        """The stage ended; `resumed`: it was there already from an earlier run."""

    def note(self, text: str) -> None:
        """Something worth knowing that stops nothing."""


class Silent:
    """Shows nothing."""

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Ignore."""

    def advance(self, amount: int, rows: int = 0) -> None:
        """Ignore."""

    def done(self, seconds: float, resumed: bool = False) -> None:
        """Ignore."""

    def note(self, text: str) -> None:
        """Ignore."""
