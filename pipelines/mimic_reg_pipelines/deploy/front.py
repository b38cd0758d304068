"""Changes to MLflow's pages: model training only, all runs of a sweep, our pages of results.

MLflow opens in a mode for language models, with an assistant, unless the browser remembers another
mode. It has no switch for that, so we add a few lines to its start page. They set what the browser
remembers, and hide the parts that are switched off. They rest on names in the pages of MLflow 3.17:
if a later version has other names, its pages work as MLflow made them.

MLflow's charts show the first 100 runs that a search finds. A sweep may have more, so a search of
the pages for its runs returns up to `RUNS`.
"""

import json
from typing import Any

from mimic_reg_pipelines.deploy import asgi
from mimic_reg_pipelines.deploy.results import Results
from mimic_reg_pipelines.html import render
from mimic_reg_pipelines.tracking.mlflow_runs import OF_A_SWEEP

RUNS = 2000  # that charts show at once
_PAGE = 100  # runs that MLflow's pages ask for
_SEARCHES = ("/ajax-api/2.0/mlflow/runs/search",)
_LONGEST = 1_000_000  # bytes of a search
_HEAD = b"<head>"


class Front:
    """MLflow's application with our pages beside its own, and its start page changed."""

    def __init__(self, application: asgi.Application) -> None:
        self.application = application
        self.results = Results(application)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """ASGI."""
        path = scope.get("path", "")
        if scope["type"] != "http":
            await self.application(scope, receive, send)
        elif self.results.owns(path):
            await self.results(scope, receive, send)
        elif not path.strip("/") and path != "/":  # MLflow answers with its unchanged page
            await asgi.answer(send, 308, b"", {b"location": b"/"})
        elif path == "/" and scope["method"] == "GET":
            await self._start_page(scope, send)
        elif path in _SEARCHES and scope["method"] == "POST":
            await self._search(scope, receive, send)
        else:
            await self.application(scope, receive, send)

    async def _start_page(self, scope: asgi.Scope, send: asgi.Send) -> None:
        # never from a browser's cache: another MLflow may have answered at this address before
        status, headers, body = await asgi.collect(self.application, scope, keep_only=None)
        if status == 200 and _HEAD in body:
            body = body.replace(_HEAD, _HEAD + render("training.html").encode(), 1)
        headers = {k: v for k, v in headers.items() if k not in (b"etag", b"last-modified")}
        await asgi.answer(send, status, body, headers | {b"cache-control": b"no-store"})

    async def _search(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        body = await asgi.body_of(receive, _LONGEST)
        if body is None:
            await asgi.answer(
                send, 413, b"This search is too long.", {b"content-type": b"text/plain"}
            )
            return
        scope, body = with_all_runs(scope, body)

        async def received() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.application(scope, received, send)


def with_all_runs(scope: asgi.Scope, body: bytes) -> tuple[asgi.Scope, bytes]:
    """Return a search for the runs of a sweep that asks for `RUNS` instead of MLflow's 100."""
    try:
        search = json.loads(body)
    except ValueError:  # MLflow answers with an error
        return scope, body
    if (
        not isinstance(search, dict)
        or search.get("max_results", _PAGE) != _PAGE
        or OF_A_SWEEP not in str(search.get("filter"))
    ):
        return scope, body
    body = json.dumps(search | {"max_results": RUNS}).encode()
    headers = [(k, v) for k, v in scope["headers"] if k.lower() != b"content-length"]
    length = (b"content-length", str(len(body)).encode())
    return {**scope, "headers": [*headers, length]}, body
