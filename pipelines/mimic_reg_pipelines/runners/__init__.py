"""How trials are run: in this process, in a pool of processes, or on a Ray cluster.

The result is the same. A trial that fails, or whose process dies, does not stop the others. Nothing
is trained in a thread. No module of this package imports torch.
"""

from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.devices import find_gpus
from mimic_reg_pipelines.runners.in_process import InProcess
from mimic_reg_pipelines.runners.pool import Pool
from mimic_reg_pipelines.runners.ray import Ray
from mimic_reg_pipelines.runners.room import Room, share_of
from mimic_reg_pipelines.runners.settings import Running, processors

__all__ = ["Ended", "InProcess", "Order", "Pool", "Ray", "Runner", "describe", "open_runner"]


def open_runner(running: Running, num_trials: int) -> Runner:
    """Return the runner for a number of trials.

    Raises:
        InputError: Ray is not installed; its cluster is not reached, or too small.
    """
    if running.runner == "ray":
        return Ray(running)
    if running.runner == "in_process" or num_trials == 0:
        return InProcess()
    gpus = find_gpus(running.device)
    devices, cores = max(1, len(gpus)), max(1, processors() // running.threads)
    if running.per_device is None:
        return Pool(min(running.workers or cores, num_trials), running.threads, gpus)
    if running.per_device == "auto":
        most = max(1, cores // devices)
        room = Room(gpus, most)
        return Pool(min(most * devices, num_trials), running.threads, gpus, room=room)
    workers = min(running.per_device * devices, num_trials)
    return Pool(workers, running.threads, gpus, share=share_of(running.per_device))


def describe(running: Running, runner: Runner) -> str:
    """Return how trials are run, in words."""
    where = {"in_process": "in this process", "pool": "in their own processes", "ray": "on Ray"}
    at_a_time = max(1, runner.workers)
    threads = "1 thread" if running.threads == 1 else f"{running.threads} threads"
    at_most = "at most " if running.per_device == "auto" else ""
    return f"{at_most}{at_a_time} at a time, {where[running.runner]}, with {threads} each"
