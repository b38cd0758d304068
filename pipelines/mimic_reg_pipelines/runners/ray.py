"""Trials on a Ray cluster."""

import time
from importlib import import_module
from typing import Any

from mimic_reg.errors import InputError, install_advice
from mimic_reg_pipelines.runners.base import Ended, Order, Runner
from mimic_reg_pipelines.runners.execute import execute


class Ray(Runner):
    """A Ray cluster; its machines need the work folder and this package under the same paths."""

    def __init__(
        self, address: str | None, workers: int | None, threads: int, gpus_per_run: float
    ) -> None:
        try:
            ray: Any = import_module("ray")
        except ImportError as error:
            raise InputError(
                "The runner ray needs Ray, which is not installed. Use the runner pool, or: "
                + install_advice("ray")
            ) from error
        self._ray = ray
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
        self._remote = ray.remote(num_cpus=threads, num_gpus=gpus_per_run, max_retries=0)(execute)
        self._running: set[Any] = set()
        self.workers = workers or self._fitting(threads, gpus_per_run)

    def _fitting(self, threads: int, gpus_per_run: float) -> int:
        """Return how many trials fit into the cluster at a time."""
        have = self._ray.cluster_resources()
        fits = [have.get("CPU", 0.0) / threads]
        if gpus_per_run:
            fits.append(have.get("GPU", 0.0) / gpus_per_run)
        if min(fits) < 1:
            raise InputError(
                f"A trial does not fit into the Ray cluster: it has {have.get('CPU', 0.0):g} CPUs "
                f"and {have.get('GPU', 0.0):g} GPUs, a trial takes {threads} and {gpus_per_run:g}."
            )
        return int(min(fits))

    def run(self, order: Order) -> Ended:
        """Run a trial where there is room."""
        started = time.perf_counter()
        reference = self._remote.remote(order.model_dump_json())
        self._running.add(reference)
        try:
            return Ended.model_validate_json(self._ray.get(reference))
        except self._ray.exceptions.RayError as error:
            return Ended(
                status="failed",
                seconds=time.perf_counter() - started,
                error=f"Ray lost the trial: {type(error).__name__}",
                again=True,
            )
        finally:
            self._running.discard(reference)

    def interrupt(self) -> None:
        """Send Ctrl-C to every running trial."""
        for reference in list(self._running):
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Leave the cluster, and end it if it was started for this sweep."""
        self._ray.shutdown()
