"""Listeners of a worker's `completed` and `failed` events: hooks of one worker."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from assistant_queue.errors import InvalidArgument, error_of
from assistant_queue.models import FailedBatch
from assistant_queue.user_code.functions import name_of
from assistant_queue.user_code.hooks import Hook
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
    if event not in {"completed", "failed"}:
        raise InvalidArgument(
            f"there is no event {event!r}; the events are 'completed' and 'failed'"
        )
    function = listener if event == "completed" else partial(_with_error, listener)
    hook = Hook(function, name_of(listener), on_loop=runtime.listens_on_loop, is_listener=True)
    runtime.listeners.add(event, hook)


def _with_error(listener: Callable[..., Any], batch: FailedBatch) -> Any:
    """Call a listener with the batch and its error; an async one returns its coroutine."""
    error = error_of(batch.error.code, batch.error.message, batch_id=batch.batch_id)
    return listener(batch, error)
