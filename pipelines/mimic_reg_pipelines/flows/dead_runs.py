"""Flow runs whose worker ended before they did."""

from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from mimic_reg.errors import MimicRegError

_ALIVE = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]


def end(pool: str) -> int:
    """Mark the unfinished runs of a work pool as crashed, with their subflows; return how many.

    For a pool with one worker, when it starts: its runs are its processes, and ended with the one
    before. The server would wait for their heartbeats, and meanwhile start no run in their place.

    Raises:
        MimicRegError: the server does not answer, or refuses.
    """
    try:
        with get_client(sync_client=True) as client:
            runs = _read(
                client, work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[pool]))
            )
            ended = list(runs)
            while runs:  # subflows are in no pool
                runs = _read(client, parents=[run.id for run in runs])
                ended += runs
            for run in ended:
                client.set_flow_run_state(run.id, Crashed(message="Its worker ended."), force=True)
    except httpx.HTTPError as error:
        raise MimicRegError(f"Prefect's server did not say which runs are dead: {error}") from error
    return len(ended)


def _read(client: Any, parents: list[UUID] | None = None, **filters: Any) -> list[Any]:
    """Return unfinished runs, of a page of 200 after the other."""
    wanted = FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=_ALIVE)))
    if parents is not None:
        wanted.parent_flow_run_id = FlowRunFilterParentFlowRunId(any_=parents)
    found: list[Any] = []
    while page := client.read_flow_runs(
        flow_run_filter=wanted, limit=200, offset=len(found), **filters
    ):
        found += page
    return found
