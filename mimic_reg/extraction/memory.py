"""Plan the extraction's use of memory from `--memory`."""

import re
from dataclasses import dataclass

from mimic_reg.errors import InputError

GIB = 1 << 30
DEFAULT_MEMORY = 4 * GIB
MIN_MEMORY = 1 * GIB
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_memory(text: str) -> int:
    """Return the bytes of "4GB", "900MB", "2GiB".

    Raises:
        InputError: not an amount, or less than the program itself needs.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text.lower())
    if not match:
        raise InputError(f"--memory {text!r} is not an amount such as 4GB or 1500MB.")
    amount = int(float(match[1]) * (_UNITS | _BINARY_UNITS)[match[2] or ""])
    if amount < 0.9 * MIN_MEMORY:
        raise InputError(f"--memory {text} is too little: give at least 1GB.")
    return amount


@dataclass(frozen=True)
class Plan:
    """Sizes that keep the extraction within its memory; measured, see benchmarks/extraction.py.

    block_bytes:       size of the text that a thread parses at once
    flush_rows:        rows of mapped items collected before they are cleaned and written
    stays_per_bucket:  stays whose episodes and hourly arrays a thread builds at once
    """

    block_bytes: int
    flush_rows: int
    stays_per_bucket: int

    @classmethod
    def within(cls, memory: int) -> "Plan":
        """Return the plan for `memory` bytes."""
        share = min(memory, 2 * DEFAULT_MEMORY) / DEFAULT_MEMORY
        return cls(
            block_bytes=int((8 << 20) * share),
            flush_rows=int(400_000 * share),
            stays_per_bucket=int(800 * share),
        )
