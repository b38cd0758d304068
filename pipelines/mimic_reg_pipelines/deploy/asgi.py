"""Helpers for ASGI: ask an application, answer a request."""

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Answer = tuple[int, dict[bytes, bytes], bytes]  # status, headers by lower-case name, body

_CONDITIONS = (b"if-none-match", b"if-modified-since", b"range", b"accept-encoding")


async def collect(
    application: Application,
    scope: Scope,
    *,
    keep_only: Collection[bytes] | None,
    body: bytes = b"",
) -> Answer:
    """Return an application's whole answer to a request, uncompressed.

    keep_only: headers of the request to pass on; None: all
    """
    headers = [
        (key, value)
        for key, value in scope["headers"]
        if key.lower() not in _CONDITIONS and (keep_only is None or key.lower() in keep_only)
    ]
    if body:
        headers.append((b"content-type", b"application/json"))
        headers.append((b"content-length", str(len(body)).encode()))
    sent = False
    status, found, parts = 500, {}, []

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        nonlocal status, found
        if message["type"] == "http.response.start":
            status = message["status"]
            found = {k.lower(): v for k, v in message.get("headers", [])}
        elif message["type"] == "http.response.body":
            parts.append(message.get("body", b""))

    await application({**scope, "headers": headers}, receive, send)
    return status, found, b"".join(parts)


async def answer(send: Send, status: int, body: bytes, headers: Mapping[bytes, bytes]) -> None:
    """Send a whole answer."""
    given = {**headers, b"content-length": str(len(body)).encode()}
    await send({"type": "http.response.start", "status": status, "headers": list(given.items())})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Receive, limit: int) -> bytes | None:
    """Return the body of a request; None if it is longer than `limit` bytes."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return body
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > limit:
            return None
    return body
