"""Work on the items of an iterator in several threads, with the results in the items' order."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

# With more threads, most would wait for the one that reads.
WORKERS = min(4, os.cpu_count() or 1)

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_order(
    items: Iterator[_Item], work: Callable[[_Item], _Result], workers: int = WORKERS
) -> Iterator[_Result]:
    """Yield `work(item)` of each item, in the order of the items; neither may be None.

    One thread takes the items, `workers` threads work on them. Beside the result that was yielded
    last, at most `workers` + 1 items or results are in memory.

    Raises:
        What taking or working on an item raised, after the results of those before it.
    """

    def done(taken: "Future[_Item | None]") -> _Result | None:
        item = taken.result()
        return None if item is None else work(item)

    with ThreadPoolExecutor(1) as taking, ThreadPoolExecutor(workers) as working:

        def submit() -> "Future[_Result | None]":
            return working.submit(done, taking.submit(next, items, None))

        pending = deque(submit() for _ in range(workers + 1))
        while (result := pending.popleft().result()) is not None:
            pending.append(submit())
            yield result
