"""Options of Prefect's tasks: what tasks write to disk is the truth, not its cache or results."""

from typing import Any

from prefect.cache_policies import NO_CACHE

from mimic_reg_pipelines.flows.settings import TAGS

TASK: dict[str, Any] = {"tags": TAGS, "cache_policy": NO_CACHE, "persist_result": False}
ONCE_MORE = TASK | {"retries": 1, "retry_delay_seconds": 10}
TWICE_MORE = TASK | {"retries": 2, "retry_delay_seconds": [30, 300]}
