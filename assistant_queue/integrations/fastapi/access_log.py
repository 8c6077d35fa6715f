"""An access log: one line per request, with shortened addresses and without queries and bodies."""

from __future__ import annotations

import logging
import sys
import time
from ipaddress import ip_address, ip_network
from typing import Any, TextIO

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assistant_queue.integrations.fastapi.origins import Origins
from assistant_queue.logs import JsonFormatter

log = logging.getLogger("assistant_queue.access")

_NETWORK = {4: 24, 6: 48}
"""Bits of an address that are kept. Chosen: as web analytics do; no single person is left."""
_LONGEST = 300
_CLOSED = 499
"""The status of a request that ended without a response: the client has left. Source: nginx."""


class AccessLog:
    """Logs each request and WebSocket of an app when it ends.

    1. shortens addresses: requests are distinguished by their ids
    2. leaves out queries, which may hold tokens, and everything that a client sends but its browser
    3. logs a stream with the time that it was open
    """

    def __init__(self, app: ASGIApp, origins: Origins) -> None:
        """Log nothing yet."""
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, then log it."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        seen: dict[str, Any] = {"status": _CLOSED, "bytes": 0, "request_id": None}

        async def watch(message: Message) -> None:
            kind = message["type"]
            if kind in {"http.response.start", "websocket.http.response.start"}:
                seen["status"] = message["status"]
                seen["request_id"] = _request_id_in(message)
            elif kind == "http.response.body":
                seen["bytes"] += len(message.get("body", b""))
            elif kind == "websocket.accept":
                seen["status"] = 101
                seen["request_id"] = _request_id_in(message)
            elif kind == "websocket.close" and seen["status"] == _CLOSED:
                seen["status"] = 403
            await send(message)

        began_s = time.perf_counter()
        try:
            await self._app(scope, receive, watch)
        finally:
            self._log(scope, seen, time.perf_counter() - began_s)

    def _log(self, scope: Scope, seen: dict[str, Any], took_s: float) -> None:
        request = HTTPConnection(scope)
        method = scope.get("method", "WEBSOCKET")
        path = _printable(scope.get("raw_path", b"").decode("ascii", "replace") or scope["path"])
        agent = _printable(request.headers.get("user-agent", "-"))
        fields = {
            "address": shortened(self._origins.client_address(request)),
            "method": method,
            "path": path,
            "status": seen["status"],
            "bytes": seen["bytes"],
            "took_ms": round(took_s * 1000),
            "agent": agent,
            "request_id": seen["request_id"],
        }
        log.info(
            '%s - - [%s] "%s %s HTTP/%s" %d %d "-" "%s"',
            fields["address"],
            time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime()),
            method,
            path,
            scope.get("http_version", "1.1"),
            fields["status"],
            fields["bytes"],
            agent,
            extra=fields,
        )


def _request_id_in(message: Message) -> str | None:
    for name, value in message.get("headers", ()):
        if name.lower() == b"x-request-id":
            return str(value.decode("latin-1"))
    return None


def _printable(text: str) -> str:
    """Return a client's text for a line in quotes: nothing in it ends the quotes or the line."""
    return "".join(
        char if char.isprintable() and char not in '"\\' else "." for char in text[:_LONGEST]
    )


def shortened(address: str) -> str:
    """Return the network of an address; `-` for what is no address."""
    try:
        found = ip_address(address)
    except ValueError:
        return "-"
    return str(ip_network((found, _NETWORK[found.version]), strict=False).network_address)


def start(kind: str, stream: TextIO | None = None) -> None:
    """Send the access log to stdout, or to `stream`: `combined` as web servers do, or `json`."""
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter() if kind == "json" else logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
