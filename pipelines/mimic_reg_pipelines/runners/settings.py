"""Settings of runners: how trials are run."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from mimic_reg.errors import InputError
from mimic_reg.store.remote import OPTIONS, check_url
from mimic_reg.threads import DEFAULT_THREADS, MAX_THREADS
from mimic_reg.urls import as_url, refuse_url

Threads = Annotated[int, Field(ge=1, le=MAX_THREADS)]


# Prefect keeps the parameters of a run before a flow checks them, so its server refuses those that
# may hold a secret by these patterns. A user's name without a password is none.
_PATH = (
    r"^([./].*|([^@?]*|(gs|abfss?)://[^:@?]*@[^@?]*)"
    rf"(\?(({'|'.join(OPTIONS)})=[^&@]*&?)*)?)$"
)
_TRACKING = r"^([^@?]*|sqlite:///.*|(postgresql|mysql|mssql)(\+\w+)?://[^/:@?]*@[^@?]*)$"


def _with_patterns(schema: dict[str, Any]) -> None:
    for name, field in schema.get("properties", {}).items():
        for kind in field.get("anyOf", [field]):
            if kind.get("format") == "path":
                kind["pattern"] = _PATH
            elif name == "tracking_uri" and kind.get("type") == "string":
                kind["pattern"] = _TRACKING


class Parameters(BaseModel):
    """Typed parameters; unknown ones, and values out of range, are refused at submission."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, json_schema_extra=_with_patterns
    )

    @field_validator("*")
    @classmethod
    def _is_allowed(cls, value: Any, field: ValidationInfo) -> Any:
        try:
            if isinstance(value, Path) and field.field_name != "store":
                refuse_url(value)
            elif isinstance(value, Path) and (url := as_url(value)):
                check_url(url)
        except InputError as error:
            raise ValueError(str(error)) from error
        if field.field_name == "tracking_uri" and value and not re.match(_TRACKING, value):
            raise ValueError(
                "the tracking URI has a login or options, which Prefect would keep: set it as "
                "MIMIC_REG_TRACKING_URI in the environment of the worker"
            )
        return value


class Running(Parameters):
    """How trials are run; the results do not depend on it, except for `threads`.

    runner:  in_process: one by one in this process; pool: in a pool of processes; ray: on a cluster
             that shares the work folder
    workers: trials at a time; null: one for each core (in_process: one)
    per_device: trials at a time on each GPU, or on the CPU, instead of `workers`; auto: as many as
             memory has room for, measured in the first epoch
    threads: of torch for a trial. Another number changes the last digits of a result. A trial that
             was begun keeps its number.
    device:  cpu, cuda or cuda:1; null: all GPUs in turn, or the CPU
    address: HOST:PORT of the Ray cluster, or auto; null: one on this machine, until the sweep ends
    gpus_per_run: the part of a GPU that Ray reserves for a trial; 0: trials run on CPUs
    """

    runner: Literal["in_process", "pool", "ray"] = "pool"
    workers: int | None = Field(default=None, ge=1)
    per_device: Annotated[int, Field(ge=1)] | Literal["auto"] | None = None
    threads: Threads = DEFAULT_THREADS
    device: str | None = None
    address: str | None = None
    gpus_per_run: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> "Running":
        if self.runner != "ray" and (self.address or self.gpus_per_run):
            raise ValueError("--ray-address and --gpus-per-run are for the runner ray only")
        if self.runner == "ray" and self.device not in (
            None,
            "cuda" if self.gpus_per_run else "cpu",
        ):
            raise ValueError(
                f"the runner ray cannot use the device {self.device!r} with --gpus-per-run "
                f"{self.gpus_per_run:g}: give a part of a GPU for cuda, 0 for cpu"
            )
        if self.per_device and (self.runner != "pool" or self.workers):
            raise ValueError(
                "per_device is for the runner pool only, and takes the place of workers"
            )
        if self.runner == "in_process" and (self.workers or 1) > 1:
            raise ValueError("the runner in_process runs one trial at a time; for more, use pool")
        return self


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))
