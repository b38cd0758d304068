"""MLflow's server without the parts that a hospital has no use for.

MLflow 3 brings an assistant that runs commands on the server's machine, a gateway to language
models, webhooks that call any address, and jobs. None of them has a switch, so requests for them
end here, before MLflow and whoever is logged in. `pyproject.toml` names the two applications, as
MLflow's plug-ins for servers.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

# first words after /api/2.0/mlflow/ and the like
CLOSED = (
    "assistant",
    "demo",
    "gateway",
    "gateway-proxy",
    "genai",
    "jobs",
    "mcp-servers",
    "prompt-optimization",
    "runs/create-promptlab-run",
    "scorer",
    "scorers",
    "webhooks",
)
_PREFIXES = ("/gateway",)
_ANSWER = b"This part of MLflow is switched off here."

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


def closed(path: str) -> bool:
    """Whether a path belongs to one of the parts that are switched off."""
    parts = [part for part in path.split("/") if part]
    rest = "/" + "/".join(parts)
    if any(rest == p or rest.startswith(f"{p}/") for p in _PREFIXES):
        return True
    if parts[:1] not in (["api"], ["ajax-api"]):
        return False
    after = "/".join(parts[2:])  # what follows the version
    after = after.removeprefix("mlflow/")
    return any(after == name or after.startswith(f"{name}/") for name in CLOSED)


class Closing:
    """Answers 404 where `closed`, and passes on everything else."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and closed(scope["path"]):
            headers = [(b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": _ANSWER})
            return
        await self.application(scope, receive, send)


def open_to_all() -> Application:
    """MLflow's server without passwords: for loopback."""
    from mlflow.server.fastapi_app import app

    return Closing(app)


def with_passwords() -> Application:
    """MLflow's server with its basic authentication."""
    from mlflow.server.auth import create_app

    return Closing(create_app())
