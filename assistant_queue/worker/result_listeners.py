"""Listeners of a worker's `completed` and `failed` events."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from assistant_queue.errors import InvalidArgument
from assistant_queue.worker.runtime import Runtime


def listen(runtime: Runtime | None, event: str, listener: Callable[..., Any]) -> None:
    """Register a listener of a worker's `completed` or `failed` event.

    Raises:
        InvalidArgument: There is no such event, the listener cannot be called, or the worker has
            stopped.
    """
    if not callable(listener):
        raise InvalidArgument(f"a listener must be callable, this one is {type(listener).__name__}")
    if runtime is None:
        raise InvalidArgument("the worker has stopped; start another one")
    if event == "completed":
        runtime.on_completed.append(listener)
    elif event == "failed":
        runtime.on_failed.append(listener)
    else:
        raise InvalidArgument(
            f"there is no event {event!r}; the events are 'completed' and 'failed'"
        )
