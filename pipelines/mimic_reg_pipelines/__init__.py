"""Prefect and MLflow around `mimic_reg`: orchestration, tracking, registry, serving; no algorithm.

Nothing leaves the machine and nothing is unpickled. Both programs read these settings when they are
imported, so they are made here, before any module of this package can import them.
"""

import os

import mimic_reg  # noqa: F401  # before torch is loaded: how its threads wait

os.environ.update(
    DO_NOT_TRACK="1",
    MLFLOW_DISABLE_TELEMETRY="true",
    MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
    MLFLOW_ALLOW_PICKLE_DESERIALIZATION="false",
    MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",  # with the login, and into the output of --json
    PREFECT_RESULTS_DEFAULT_SERIALIZER="json",  # Prefect's own choice would be pickle
    PREFECT_SERVER_ANALYTICS_ENABLED="false",
    RAY_USAGE_STATS_ENABLED="0",
)
# a server that starts again is back by then; MLflow's own patience is four minutes a request
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")
# dead runs are found by their heartbeats (docker/automations.yaml); Prefect's own 180 are too many
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "60")  # seconds
