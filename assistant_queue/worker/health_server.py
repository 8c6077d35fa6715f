"""A worker's own answer to whether it lives and takes work, over HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from http import HTTPStatus
from typing import Any

from assistant_queue.errors import ConfigurationError
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.asyncio_worker import AsyncioWorker

_HEAD_S = 5.0
"""Seconds for a request to arrive. Chosen: a probe sends it at once."""
_MOST = 8192
"""Bytes of a request's head. Chosen: a probe sends some hundred."""


def health_of(worker: AsyncioWorker) -> dict[str, Any]:
    """Return a worker's state, as its event loop sees it now.

    `status` is `starting`, `working`, `suspended` (by RQ), `waiting` (Redis is away or refuses),
    `stopping`, or `broken`: a thread that it cannot do without has ended.
    """
    return {
        "status": _status_of(worker),
        "running": worker.running,
        "concurrency": worker.config.concurrency,
        "taken": worker.taken,
        "abandoned_calls": ABANDONED.count,
    }


def _status_of(worker: AsyncioWorker) -> str:
    if not worker.ready.is_set():
        return "starting"
    if worker.is_stopping:
        return "stopping"
    if not all(scheduler.is_alive for scheduler in worker.schedulers):
        return "broken"
    if worker.runtime.outage.is_on:
        return "waiting"
    return "suspended" if worker.is_suspended else "working"


def answer_to(path: str, worker: AsyncioWorker) -> tuple[int, dict[str, Any]]:
    """Return the status and body for a path.

    `/live`: 503 only for `broken`, which a restart helps. `/ready`: 200 only for `working`.
    """
    health = health_of(worker)
    if path == "/live":
        return (503 if health["status"] == "broken" else 200), health
    if path == "/ready":
        return (200 if health["status"] == "working" else 503), health
    return 404, {"status": "unknown path: /live or /ready"}


@asynccontextmanager
async def serving_health(worker: AsyncioWorker, host: str, port: int | None) -> AsyncIterator[None]:
    """Answer probes on the worker's event loop: one that is blocked does not answer.

    Raises:
        ConfigurationError: The address cannot be bound. Nothing was started.
    """
    if port is None:
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unreadable = (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        with closing(writer), suppress(OSError, TimeoutError, *unreadable):
            async with asyncio.timeout(_HEAD_S):
                head = await reader.readuntil(b"\r\n\r\n")
            method, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ", 2)
            status, body = answer_to(path, worker) if method == "GET" else (404, {})
            text = json.dumps(body).encode()
            writer.write(
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n".encode()
                + text
            )
            await writer.drain()

    try:
        server = await asyncio.start_server(answer, host, port, limit=_MOST)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen at {host}:{port} for health checks: {error.strerror or error}; "
            "give another --health-port"
        ) from error
    try:
        yield
    finally:
        server.close()
