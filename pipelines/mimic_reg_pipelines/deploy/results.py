"""Our pages in MLflow's server: `/mimic-reg/` lists sweeps, `/mimic-reg/<sweep>` shows a report.

Their content is read from MLflow with the headers of the user's request, so MLflow's rules on
hosts, passwords and permissions hold for these pages. The user who logged a sweep wrote its page,
so a page may run no script and load nothing.
"""

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from mimic_reg.errors import InputError
from mimic_reg_pipelines.deploy import asgi
from mimic_reg_pipelines.html import render
from mimic_reg_pipelines.tracking.comparison import PAGES, run_url
from mimic_reg_pipelines.tracking.mlflow_runs import SWEEPS, check_name
from mimic_reg_pipelines.tracking.summary import PAGE, REPORT

ROOT = f"/{PAGES}"
_API = "/api/2.0/mlflow"
_MOST = 1000  # sweeps in the list
_IDENTITY = (b"host", b"authorization", b"cookie")
_HEADERS = {
    b"content-type": b"text/html; charset=utf-8",
    b"cache-control": b"no-store",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"same-origin",
    b"content-security-policy": (
        b"default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        b"sandbox allow-downloads allow-popups allow-popups-to-escape-sandbox "
        b"allow-top-navigation-by-user-activation"
    ),
}


class Refused(Exception):  # noqa: N818 (an answer, and no fault)
    """Holds MLflow's own answer, to pass it on."""

    def __init__(self, given: asgi.Answer) -> None:
        super().__init__(given[0])
        self.answer = given


class Results:
    """The pages, for MLflow's application."""

    def __init__(self, application: asgi.Application) -> None:
        self.application = application

    def owns(self, path: str) -> bool:
        """Return whether a path is one of these pages."""
        return path.startswith(ROOT) or path == ROOT.rstrip("/")

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """ASGI."""
        try:
            status, body, more = await self._page(scope)
        except Refused as refused:
            status, headers, body = refused.answer
            kept = {k: v for k, v in headers.items() if k in (b"content-type", b"www-authenticate")}
            await asgi.answer(send, status, body, kept)
            return
        if scope["method"] == "HEAD":
            body = b""
        await asgi.answer(send, status, body, _HEADERS | more)

    async def _page(self, scope: asgi.Scope) -> tuple[int, bytes, dict[bytes, bytes]]:
        experiment = await self._experiment(scope)  # first, as it checks the user's permission
        name = scope["path"].removeprefix(ROOT)
        if scope["method"] not in ("GET", "HEAD"):
            return 405, b"These pages can only be read.", {b"allow": b"GET, HEAD"}
        if scope["path"] == ROOT.rstrip("/"):
            return 308, b"", {b"location": ROOT.encode()}
        if not name:
            found = await self._sweeps(scope, experiment, "tags.kind = 'summary'")
            rows = [_row(run, str(experiment)) for run in found]
            none = "There is no finished sweep yet. `mimic-reg sweep` adds one when it ends."
            return 200, _list("Sweeps", "" if rows else none, rows), {}
        try:
            check_name(name.rstrip("/"))
        except InputError:
            return 404, _missing(name), {}
        if name.endswith("/"):
            return 308, b"", {b"location": f"{ROOT}{name.rstrip('/')}".encode()}
        found = await self._sweeps(scope, experiment, f"tags.sweep = '{name}'")
        for run in found:
            for file in (PAGE, REPORT):
                query = urlencode({"run_id": run["info"]["run_id"], "path": file})
                status, _, body = await self._ask(scope, "/get-artifact", query)
                if status == 200:
                    return 200, body, {}
        return 404, _without_files(name) if found else _missing(name), {}

    async def _experiment(self, scope: asgi.Scope) -> str | None:
        query = urlencode({"experiment_name": SWEEPS})
        given = await self._ask(scope, f"{_API}/experiments/get-by-name", query)
        if given[0] == 404:
            return None
        if given[0] != 200:
            raise Refused(given)
        return str(json.loads(given[2])["experiment"]["experiment_id"])

    async def _sweeps(
        self, scope: asgi.Scope, experiment: str | None, wanted: str
    ) -> list[dict[str, Any]]:
        """Return the summary runs that MLflow finds, the latest first."""
        if experiment is None:
            return []
        search = {
            "experiment_ids": [experiment],
            "filter": wanted,
            "max_results": _MOST,
            "order_by": ["attributes.start_time DESC"],
        }
        given = await self._ask(scope, f"{_API}/runs/search", body=json.dumps(search).encode())
        if given[0] != 200:
            raise Refused(given)
        runs = json.loads(given[2]).get("runs", [])
        return [run for run in runs if run["info"]["status"] == "FINISHED"]

    async def _ask(
        self, scope: asgi.Scope, path: str, query: str = "", body: bytes = b""
    ) -> asgi.Answer:
        asked = {
            **scope,
            "method": "POST" if body else "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
        }
        return await asgi.collect(self.application, asked, keep_only=_IDENTITY, body=body)


def _row(run: dict[str, Any], experiment: str) -> dict[str, Any]:
    info, data = run["info"], run["data"]
    tags = {tag["key"]: tag["value"] for tag in data.get("tags", [])}
    metrics = {metric["key"]: metric["value"] for metric in data.get("metrics", [])}
    name = tags.get("sweep", "")
    return {
        "name": name,
        "title": tags.get("title", name),
        "trials": _count(metrics.get("trials", 0)),
        "failed": _count(metrics.get("failed", 0)),
        "time": _time(info["start_time"]),
        "summary": run_url("..", experiment, info["run_id"]),
    }


def _count(value: Any) -> int:
    """Return a number of trials; 0 if something else was logged."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return 0


def _time(milliseconds: Any) -> str:
    """Return when a run started; "?" if that is not a date."""
    try:
        return f"{datetime.fromtimestamp(int(milliseconds) / 1000, UTC):%Y-%m-%d %H:%M}"
    except (TypeError, ValueError, OverflowError, OSError):
        return "?"


def _missing(name: str) -> bytes:
    text = f"There are no results of a sweep {name[:200]!r}. They are written when the sweep ends."
    return _list("Not found", text, [])


def _without_files(name: str) -> bytes:
    text = (
        f"MLflow has the summary of the sweep {name!r}, but neither its {PAGE} nor its {REPORT}: "
        "they are not in its folder of artifacts. Start the sweep again: it keeps what is trained "
        "and writes them anew."
    )
    return _list("Files are missing", text, [])


def _list(heading: str, text: str, rows: list[dict[str, Any]]) -> bytes:
    mode = "../?workflowType=machine_learning"
    return render(
        "sweeps.html",
        heading=heading,
        text=text,
        sweeps=rows,
        home=f"{mode}#/experiments",
        models=f"{mode}#/models",
    ).encode()
