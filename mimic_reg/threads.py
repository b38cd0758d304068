"""How many threads torch computes with: a setting of each run, recorded with it.

Sums are split between threads, so another number gives other last digits. That is why the number is
fixed and no consequence of the machine or of OMP_NUM_THREADS.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# `benchmarks/training.py --busy` measures what a second thread gains. Where other programs use the
# cores, it is nothing or less.
DEFAULT_THREADS = 1
MAX_THREADS = 1024  # OpenMP ends the process where it cannot start as many as it was told


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Let torch compute with so many threads, inside the block."""
    import torch  # here, since a new process sets its environment before it loads torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
