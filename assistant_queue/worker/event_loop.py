"""Run a worker's event loop to its end, even if user code cannot be cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from assistant_queue.user_code.running_calls import settle_calls_of

T = TypeVar("T")

END_PATIENCE_S = 1.0
"""Seconds that the remaining tasks have to end. Chosen: as long as each has had before
(`user_code/running_calls.py`)."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Do what `asyncio.run` does, but leave a task that swallows its cancellation.

    `asyncio.run` would wait for such a task for ever.
    """
    loop = asyncio.new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        try:
            _end(loop)
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def _end(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.wait(left, timeout=END_PATIENCE_S))
    for task in left:
        # The warning was logged when the call was abandoned.
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # noqa: SLF001
    loop.run_until_complete(loop.shutdown_asyncgens())
    settle_calls_of(loop)
