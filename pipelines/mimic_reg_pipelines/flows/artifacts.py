"""Artifacts that flows show in Prefect: their keys, and progress."""

from typing import Any

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from mimic_reg.progress import Progress


def artifact_key(*parts: str) -> str:
    """Return a key as Prefect needs it: lower-case letters, digits and dashes."""
    text = "-".join(parts).lower()
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text)


class PrefectProgress(Progress):
    """Shows progress as an artifact, and notes in the flow run's log."""

    def __init__(self, key: str) -> None:
        from prefect.logging import get_run_logger

        self._key, self._log = f"{key}-progress", get_run_logger()
        self._total = self._done = 0
        self._artifact: Any = None

    def stage(self, name: str, total: int | None, unit: str) -> None:
        """Begin an artifact if the amount of work is known."""
        self._total, self._done = total or 0, 0
        if self._total:
            self._artifact = create_progress_artifact(
                progress=0.0, key=self._key, description=f"{name}: {self._total:,} {unit}"
            )

    def advance(self, amount: int, rows: int = 0) -> None:
        """Move on by whole percents."""
        before, self._done = self._percent(), self._done + amount
        if self._total and self._percent() > before:
            update_progress_artifact(self._artifact, progress=float(self._percent()))

    def _percent(self) -> int:
        return min(100, 100 * self._done // self._total) if self._total else 0

    def note(self, text: str) -> None:
        """Log it."""
        self._log.info(text)
