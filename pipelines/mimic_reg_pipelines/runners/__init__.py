"""How trials are run: in this process, in a pool of processes, or on a Ray cluster.

The result is the same. A trial that fails, or whose process dies, does not stop the others. Nothing
is trained in a thread. No module of this package imports torch.
"""

from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.in_process import InProcess
from mimic_reg_pipelines.runners.pool import Pool
from mimic_reg_pipelines.runners.ray import Ray
from mimic_reg_pipelines.runners.settings import Running, processors

__all__ = ["Ended", "InProcess", "Order", "Pool", "Ray", "Runner", "describe", "open_runner"]


def open_runner(running: Running, num_trials: int) -> Runner:
    """Return the runner for a number of trials.

    Raises:
        InputError: Ray is not installed; its cluster is not reached, or too small.
    """
    if running.runner == "ray":
        return Ray(running)
    workers = running.workers or max(1, processors() // running.threads)
    if running.runner == "in_process" or num_trials == 0:
        return InProcess()
    return Pool(min(workers, num_trials), running.threads)


def describe(running: Running, runner: Runner) -> str:
    """Return how trials are run, in words."""
    where = {"in_process": "in this process", "pool": "in their own processes", "ray": "on Ray"}
    at_a_time = max(1, runner.workers)
    threads = "1 thread" if running.threads == 1 else f"{running.threads} threads"
    return f"{at_a_time} at a time, {where[running.runner]}, with {threads} each"
