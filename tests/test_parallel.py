"""Work in threads: results in order, a bounded number of items in memory, errors in their place."""

import threading
import time

import pytest

from mimic_reg.parallel import in_order


def test_results_come_in_the_order_of_the_items_and_few_are_taken_ahead():
    taken = []

    def items():
        for number in range(20):
            taken.append(number)
            yield number

    def work(number):
        time.sleep(0.002 * (number % 3))
        return number * number

    for position, result in enumerate(in_order(items(), work, workers=2)):
        assert result == position**2
        assert len(taken) <= position + 4  # two at work, one waiting, one that was just asked for
    assert len(taken) == 20


def test_both_threads_work_at_once():
    both = threading.Barrier(2)
    assert list(in_order(iter([1, 2]), lambda item: both.wait(10) >= 0 and item, workers=2)) == [
        1,
        2,
    ]


@pytest.mark.parametrize("in_work", [True, False])
def test_an_error_comes_after_the_results_before_it(in_work):
    def check(number):
        if number == 3:
            raise ValueError(number)
        return number

    items = iter(range(6)) if in_work else (check(number) for number in range(6))
    results = in_order(items, check if in_work else (lambda number: number))
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="3"):
        next(results)


def test_a_consumer_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    results = in_order(iter(range(1000)), lambda number: number + 1)
    assert next(results) == 1
    results.close()
    assert threading.active_count() == before
