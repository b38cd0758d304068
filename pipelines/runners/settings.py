"""Settings of runners: how trials are run."""

import os
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from mimic_reg.threads import DEFAULT_THREADS, MAX_THREADS

Threads = Annotated[int, Field(ge=1, le=MAX_THREADS)]


class Parameters(BaseModel):
    """Typed parameters: what is not known, or out of range, is refused at submission."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Running(Parameters):
    """How trials are run; their results are the same whichever way it is.

    runner:  in_process: one after the other, here; pool: in processes of their own; ray: on a
             cluster, which shares the work folder
    workers: trials at a time; null: as many as processors allow (in_process: one)
    threads: of torch for a trial. Another number changes a result's last digits, so it is a setting
             and not a consequence of the machine; a trial that goes on keeps its own.
    device:  cpu, cuda, cuda:1; null: the GPUs there are, in turn, or the CPU
    address: of the Ray cluster; null: one of this machine, for the time of the sweep
    gpus_per_run: that Ray reserves for a trial; a share is possible
    """

    runner: Literal["in_process", "pool", "ray"] = "pool"
    workers: int | None = Field(default=None, ge=1)
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    address: str | None = None
    gpus_per_run: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "Running":
        if self.runner != "ray" and (self.address or self.gpus_per_run):
            raise ValueError("address and gpus_per_run belong to the runner ray")
        if self.runner == "in_process" and (self.workers or 1) > 1:
            raise ValueError("the runner in_process runs one trial at a time; for more, use pool")
        return self


def processors() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0))
