"""A worker's own answer to whether it lives and takes work, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.small_server import Page, PageAnswer

PATHS = ("/live", "/ready")


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
    """Return the status and body for a path of `PATHS`.

    `/live`: 503 only for `broken`, which a restart helps. `/ready`: 200 only for `working`.
    """
    health = health_of(worker)
    if path == "/live":
        return (503 if health["status"] == "broken" else 200), health
    return (200 if health["status"] == "working" else 503), health


def health_pages(worker: AsyncioWorker) -> dict[str, Page]:
    """Return the pages of a worker's health, by path."""

    def page_of(path: str) -> Page:
        async def page(headers: Mapping[str, str]) -> PageAnswer:
            del headers
            status, body = answer_to(path, worker)
            return PageAnswer(status, "application/json", json.dumps(body).encode())

        return page

    return {path: page_of(path) for path in PATHS}
