"""MLflow's server for a hospital: MLflow with our pages, and without parts that are a risk.

MLflow 3 has an assistant that runs commands on the server's machine, a gateway to language models,
webhooks that call any address, and jobs. MLflow has no switch for them, so requests for them are
refused here, before MLflow sees them. Requests from other web pages are refused as well and, where
passwords are set, requests without one. `mlflow_places` keeps the server in its artifact folder.
`pyproject.toml` names the two applications as MLflow's plug-ins for servers.
"""

import os
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Any

from mimic_reg.errors import InputError
from mimic_reg_pipelines.deploy.asgi import Application, Receive, Scope, Send, answer
from mimic_reg_pipelines.deploy.front import Front
from mimic_reg_pipelines.deploy.mlflow_places import confine

# first words after /api/2.0/mlflow/ and the like
CLOSED = (
    *("assistant", "demo", "gateway", "gateway-proxy", "genai", "jobs", "mcp-servers"),
    *("prompt-optimization", "runs/create-promptlab-run", "scorer", "scorers", "webhooks"),
)
# Paths that need no password: Compose's health check has none, and the answer "OK" reveals nothing.
OPEN = ("/health",)
_PREFIXES = ("/gateway",)
# Every table of runs asks for models behind a gateway; without an answer it shows an error.
_EMPTY = {"/ajax-api/2.0/mlflow/gateway-proxy": '{"endpoints": []}'}

Login = Callable[[Scope], bool]


def closed(path: str) -> bool:
    """Return whether a path belongs to one of the parts that are switched off."""
    parts = [part for part in path.split("/") if part]
    rest = "/" + "/".join(parts)
    if any(rest == p or rest.startswith(f"{p}/") for p in _PREFIXES):
        return True
    if parts[:1] not in (["api"], ["ajax-api"]):
        return False
    after = "/".join(parts[2:])  # what follows the version
    after = after.removeprefix("mlflow/")
    return any(after == name or after.startswith(f"{name}/") for name in CLOSED)


class Door:
    """Refuses requests that must not reach MLflow, and passes on all others.

    origins: of the pages that may send requests; MLflow itself allows every port of loopback
    login:   says whether a request has a name and its password; None: no password is needed
    """

    def __init__(
        self, application: Application, origins: Collection[str], login: Login | None = None
    ) -> None:
        self.application = application
        self.origins = frozenset(origins)
        self.login = login

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "websocket":  # MLflow has none
            await send({"type": "websocket.close"})
        elif scope["type"] == "http" and (refusal := await self._refusal(scope)):
            status, text = refusal
            kind = b"text/plain" if status != 200 else b"application/json"
            headers = {b"content-type": kind}
            if status == 401:
                headers[b"www-authenticate"] = b'Basic realm="mlflow"'
            await answer(send, status, text.encode(), headers)
        else:
            await self.application(scope, receive, send)

    async def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return status and text of an answer that does not come from MLflow; None: ask MLflow."""
        from starlette.concurrency import run_in_threadpool

        origins = {v.decode("latin-1") for k, v in scope["headers"] if k.lower() == b"origin"}
        if not origins <= self.origins:
            return 403, "Only MLflow's own pages may send requests here."
        path = scope["path"]
        if self.login and path not in OPEN and not await run_in_threadpool(self.login, scope):
            return 401, "Give the name and the password of a user of this MLflow."
        if scope["method"] == "GET" and path in _EMPTY:
            return 200, _EMPTY[path]
        if closed(path):
            return 404, "This part of MLflow is switched off here."
        return None


def open_to_all() -> Application:
    """Return MLflow's server without passwords, for loopback.

    Raises:
        InputError: see `_checked_origins`.
    """
    origins = _checked_origins()
    _confine()
    from mlflow.server.fastapi_app import app

    return Door(Front(app), origins)


def with_passwords() -> Application:
    """Return MLflow's server with its basic authentication on all pages except those of `OPEN`.

    Raises:
        InputError: see `_checked_origins`.
    """
    origins = _checked_origins()
    _confine()
    auth: Any = import_module("mlflow.server.auth")
    from flask import request
    from werkzeug.datastructures import Authorization

    def login(scope: Scope) -> bool:
        # as MLflow's pages check it: MLflow's other check accepts ASCII passwords only
        headers = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"]]
        with auth.app.test_request_context(method=scope["method"], headers=headers):
            if basic and (request.authorization is None or not request.authorization.username):
                return False  # MLflow fails on a token
            return isinstance(auth.authenticate_request(), Authorization)

    application = auth.create_app()
    basic = auth.auth_config.authorization_function == auth.DEFAULT_AUTHORIZATION_FUNCTION
    return Door(Front(application), origins, login)


def _confine() -> None:
    from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
    from mlflow.utils.file_utils import local_file_uri_to_path

    place = os.environ[ARTIFACTS_DESTINATION_ENV_VAR]
    if "://" in place and not place.startswith("file:///"):
        raise InputError(f"Artifacts go to a folder of this machine, not to {place!r}.")
    confine(Path(local_file_uri_to_path(place)))  # type: ignore[no-untyped-call]


def _checked_origins() -> list[str]:
    """Return the origins of MLflow's own pages.

    Raises:
        InputError: MLflow's checks of hosts are switched off, or a name holds a '*'.
    """
    from mlflow.environment_variables import MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE as DISABLE
    from mlflow.server.security_utils import (
        get_allowed_hosts_from_env,
        get_allowed_origins_from_env,
    )

    hosts, origins = get_allowed_hosts_from_env() or [], get_allowed_origins_from_env() or []
    disabled = DISABLE.get() == "true"  # type: ignore[no-untyped-call]
    if disabled or not hosts or "*" in "".join(hosts + origins):
        raise InputError(
            "MLflow needs the names of its hosts, without '*', and its checks of them."
        )
    return origins
