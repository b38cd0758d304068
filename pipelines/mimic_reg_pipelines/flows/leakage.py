"""The table of the leakage checks at the end of a sweep."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from mimic_reg.checks import Outcome
from mimic_reg.store import atomic

FILE = "leakage.csv"


def write(outcomes: Sequence[Outcome], folder: Path) -> Path:
    """Write the outcomes as a CSV file in a folder, and return its path."""
    path = folder / FILE
    atomic.write_text(path, pl.DataFrame([vars(o) for o in outcomes]).write_csv())
    return path
