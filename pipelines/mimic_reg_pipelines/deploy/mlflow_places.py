"""Keep the files of MLflow's server in its own artifact folder.

MLflow lets everybody who reaches its server name a location for an experiment, a model version or a
trace. It then reads and writes there with the rights of the server's user. `confine` applies one
rule (`allowed`) at four points of the server's process:

- requests: every location in a message of the REST API, of whatever version or spelling;
- derived locations: of a run, a logged model or a trace in an experiment that is already there;
- stored locations that are about to be used through the server's own artifact folder;
- the registry of artifact stores, through which everything else is opened, `runs:/` and `models:/`
  included: so a location outside that is already in the database is neither read nor written.

The `source` of a dataset is not checked: it is a note that the server never opens.
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# fields of messages that hold a location; `test_mlflow_places.py` finds new ones
FIELDS = frozenset(
    {
        "mlflow.CreateExperiment.artifact_location",
        "mlflow.CreateModelVersion.source",
        "mlflow.CreateWorkspace.default_artifact_root",
        "mlflow.Experiment.artifact_location",
        "mlflow.LoggedModelInfo.artifact_uri",
        "mlflow.ModelVersion.source",
        "mlflow.RunInfo.artifact_uri",
        "mlflow.TraceArchivalConfig.location",
        "mlflow.UpdateWorkspace.default_artifact_root",
        "mlflow.Workspace.default_artifact_root",
    }
)
TAGS = frozenset({"mlflow.artifactLocation", "mlflow.trace.archiveLocation"})

_RELATIVE = ("mlflow-artifacts", "models", "runs")  # to the artifact folder, or to its content
_LONGEST = 2048  # characters of a location, as MLflow has it
_SHOWN = 200  # of them in a message


def allowed(location: str, root: Path) -> bool:
    """Return whether a location is in the artifact folder, or names a run, a model or a file of it.

    location: a path or a URI
    root:     the artifact folder, with its links followed
    """
    if len(location) > _LONGEST or location != location.strip() or not location.isprintable():
        return False
    if not _stays(location):
        return False
    try:
        parts = urlsplit(location)
    except ValueError:
        return False
    if parts.scheme and (parts.netloc or "?" in location or "#" in location):
        return False
    if parts.scheme in _RELATIVE:
        return location.startswith(f"{parts.scheme}:/") and not parts.path.startswith("//")
    if not location.startswith(("/", "file:/")):
        return False
    from mlflow.utils.file_utils import local_file_uri_to_path  # as MLflow itself will read it

    try:
        path = Path(local_file_uri_to_path(location))  # type: ignore[no-untyped-call]
        return path.is_absolute() and path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # RuntimeError: links in a circle
        return False


def _stays(location: str) -> bool:
    """Return whether no step of a path leads upwards, however often the path is decoded."""
    while True:
        if "\\" in location or "\0" in location or ".." in location.split("/"):
            return False
        decoded = unquote(location)
        if decoded == location:
            return True
        location = decoded


def locations(message: Any) -> Iterator[str]:
    """Yield every location in a message, and in the messages inside it."""
    names = set(message.DESCRIPTOR.fields_by_name)
    if {"key", "value"} <= names and message.key in TAGS:
        yield str(message.value)
    for field, value in message.ListFields():
        if field.full_name in FIELDS:
            yield value
        elif field.message_type is None:
            continue
        elif field.message_type.GetOptions().map_entry:
            yield from (str(value[name]) for name in TAGS if name in value)
        elif hasattr(value, "DESCRIPTOR"):
            yield from locations(value)
        else:
            for item in value:
                yield from locations(item)


def confine(root: Path) -> None:
    """Confine the MLflow server of this process to its artifact folder.

    root: the artifact folder

    Raises:
        AttributeError: this version of MLflow lacks the functions that are guarded here.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    handlers: Any = import_module("mlflow.server.handlers")
    database: Any = import_module("mlflow.store.tracking.sqlalchemy_store")
    stores: Any = import_module("mlflow.store.artifact.artifact_repository_registry")
    root = root.resolve()

    def check(location: str) -> None:
        if not allowed(location, root):
            raise MlflowException(
                f"{location[:_SHOWN]!r} lies outside the folder in which this server keeps "
                "artifacts, and is neither written nor read. Leave the location out, or name one "
                "that begins with mlflow-artifacts:/, runs:/ or models:/, without '..'.",
                PERMISSION_DENIED,
            )

    def checked(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(location: str, *arguments: Any, **options: Any) -> Any:
            check(location)
            return function(location, *arguments, **options)

        return call

    parse = handlers._get_request_message

    def parse_and_check(message: Any, *arguments: Any, **options: Any) -> Any:
        message = parse(message, *arguments, **options)
        # a prompt is kept in the database; its version has a word where a model's has a location
        version = message.DESCRIPTOR.name == "CreateModelVersion"
        words = handlers._PROMPT_SOURCE_PLACEHOLDERS if version else ()
        for location in locations(message):
            if location not in words:
                check(location)
        return message

    class Confined(LocalArtifactRepository):
        """A store whose deletions do not follow links out of its folder."""

        def delete_artifacts(self, artifact_path: str | None = None) -> None:
            check(os.path.join(self.artifact_dir, artifact_path or ""))
            super().delete_artifacts(artifact_path)  # type: ignore[no-untyped-call]

    handlers._get_request_message = parse_and_check
    handlers._is_servable_proxied_run_artifact_root = checked(
        handlers._is_servable_proxied_run_artifact_root
    )
    database.append_to_uri_path = checked(database.append_to_uri_path)
    registry = stores._artifact_repository_registry
    for scheme in ("", "file"):
        registry.register(scheme, Confined)
    registry.get_artifact_repository = checked(registry.get_artifact_repository)
