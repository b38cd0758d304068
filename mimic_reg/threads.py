"""The number of torch's threads: a setting of each run, recorded with it.

Sums are split between threads, so another number changes the last digits. So the number is fixed,
and depends neither on the machine nor on OMP_NUM_THREADS.
"""

from collections.abc import Iterator
from contextlib import contextmanager

# `benchmarks/training.py --busy` measures the gain of a second thread. If other programs use the
# cores, it is zero or negative.
DEFAULT_THREADS = 1
MAX_THREADS = 1024  # OpenMP ends the process if it cannot start as many as requested


@contextmanager
def torch_threads(number: int) -> Iterator[None]:
    """Use so many threads of torch inside the block."""
    import torch  # late, since a new process sets its environment before it loads torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
