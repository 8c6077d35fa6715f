"""The user's own functions: sync ones on a thread pool, async ones on the worker's loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Any

from assistant_queue.config import Config
from assistant_queue.errors import CallbackError, ConfigurationError, InvalidToolResult
from assistant_queue.models import Batch, ErrorInfo, RunResult, ToolCall, ToolOutput

_log = logging.getLogger(__name__)

Function = Callable[..., Any]


_GIVEN = {
    "handle_requires_action": ("thread_id", "run_id", "tool_calls"),
    "on_reply": ("result",),
    "fallback_reply": ("batch", "error"),
    "default_instructions": ("batch",),
}
"""What each of the user's functions is given, by position."""


def check_callbacks(config: Config) -> None:
    """See to it that the user's functions can be called with what they will be given.

    Raises:
        ConfigurationError: One of them takes something else. Nothing was started.
    """
    for option, given in _GIVEN.items():
        function = getattr(config, option)
        if not callable(function):
            continue
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue  # a builtin that does not say
        try:
            signature.bind(*given)
        except TypeError as error:
            raise ConfigurationError(
                f"{option}= is called with {len(given)} argument{'s' * (len(given) > 1)}, ({', '.join(given)}), "
                f"which {name_of(function)} does not take: {error}"
            ) from None


def name_of(function: Function) -> str:
    """How a function is called in logs and errors."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__name__)}"


async def call(function: Function, executor: Executor, *args: Any) -> Any:
    """Call a sync or async function and wait for it, without blocking the loop."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004 - an object with an async __call__
        return await function(*args)
    context = contextvars.copy_context()
    result = await asyncio.get_running_loop().run_in_executor(executor, partial(context.run, function, *args))
    return await result if inspect.isawaitable(result) else result


async def answer(handler: Function | None, executor: Executor, thread_id: str, run_id: str, calls: Sequence[ToolCall]) -> dict[str, str]:
    """The outputs of one round, one string for each call.

    What the handler leaves out, or raises, becomes an error output: the model can say so, and the run is never left open.

    Raises:
        InvalidToolResult: The handler returned something that is not a list of outputs.
    """
    if handler is None:
        names = ", ".join(sorted({call.function.name for call in calls}))
        _log.error("thread %r: the model calls %s, but there is no handle_requires_action", thread_id, names)
        return {call.id: error_output("no function of this name is available") for call in calls}
    try:
        result = await call_handler(handler, executor, thread_id, run_id, calls)
    except Exception:  # noqa: BLE001 - whatever the user's function raises, the model is told and the run goes on
        _log.exception("thread %r, run %s: %s raised; the model is told that its calls failed", thread_id, run_id, name_of(handler))
        return {call.id: error_output("the function failed") for call in calls}
    if not isinstance(result, list | tuple):
        msg = (
            f"{name_of(handler)} returned {type(result).__name__} for thread {thread_id!r}, run {run_id}; "
            "it has to return a list of {'tool_call_id', 'output'} or ToolOutput"
        )
        raise InvalidToolResult(msg)
    given = _collect(result, handler, thread_id)
    outputs = {}
    for one in calls:
        if one.id not in given:
            _log.error("thread %r, run %s: %s gave no output for %s (%s)", thread_id, run_id, name_of(handler), one.function.name, one.id)
        outputs[one.id] = given.get(one.id, error_output("the function gave no output"))
    return outputs


async def call_handler(handler: Function, executor: Executor, thread_id: str, run_id: str, calls: Sequence[ToolCall]) -> Any:
    """`handle_requires_action(thread_id, run_id, tool_calls)`."""
    return await call(handler, executor, thread_id, run_id, list(calls))


def _collect(rows: Sequence[Any], handler: Function, thread_id: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for row in rows:
        if isinstance(row, ToolOutput):
            call_id, output = row.tool_call_id, row.output
        elif isinstance(row, dict) and isinstance(row.get("tool_call_id"), str) and "output" in row:
            call_id, output = row["tool_call_id"], row["output"]
        else:
            _log.error("thread %r: %s returned an entry that is no tool output: %s", thread_id, name_of(handler), type(row).__name__)
            continue
        given[call_id] = encode_output(output)
    return given


def encode_output(output: Any) -> str:
    """An output as the provider wants it: a string as it is, anything else as JSON."""
    if isinstance(output, str):
        return _as_utf8(output)
    try:
        return _as_utf8(json.dumps(output, ensure_ascii=False, default=str))
    except (TypeError, ValueError, RecursionError):
        return error_output("the function's output cannot be written as JSON")


def _as_utf8(text: str) -> str:
    """The text, with a question mark for each half of a surrogate pair: neither Redis nor the provider would take it."""
    return text.encode("utf-8", "replace").decode()


def error_output(reason: str) -> str:
    """What the model reads instead of an output."""
    return json.dumps({"error": reason})


async def instruct(function: Function, executor: Executor, batch: Batch) -> str | None:
    """The user's `default_instructions` callable.

    Raises:
        CallbackError: It raised, or returned something that is not text. Nothing was sent.
    """
    try:
        text = await call(function, executor, batch)
    except Exception as error:
        raise CallbackError(f"{name_of(function)} raised {type(error).__name__}: {error}") from error
    if text is not None and not isinstance(text, str):
        raise CallbackError(f"{name_of(function)} returned {type(text).__name__}; instructions are a text or None")
    return text


async def deliver(function: Function, executor: Executor, result: RunResult) -> None:
    """The user's `on_reply`.

    Raises:
        CallbackError: It raised; the result is stored, and `on_reply` will be called again.
    """
    try:
        await call(function, executor, result)
    except Exception as error:
        _log.exception("thread %r, batch %s: %s raised", result.thread_id, result.batch_id, name_of(function))
        raise CallbackError(f"{name_of(function)} raised {type(error).__name__}: {error}") from error


async def fall_back(function: Function, executor: Executor, batch: Batch, error: ErrorInfo, *, within_s: float) -> str | None:
    """What the user's `fallback_reply` says of a batch that has failed; None where it says nothing, raises, or takes too long.

    A failure on the way to the failed list is logged and no more: the batch gets there all the same.
    """
    try:
        text = await asyncio.wait_for(call(function, executor, batch, error), within_s)
    except (asyncio.TimeoutError, TimeoutError):
        _log.error("thread %r, batch %s: %s did not answer within %g s", batch.thread_id, batch.id, name_of(function), within_s)
        return None
    except Exception:  # noqa: BLE001 - the user's own
        _log.exception("thread %r, batch %s: %s raised", batch.thread_id, batch.id, name_of(function))
        return None
    if text is not None and not isinstance(text, str):
        _log.error("thread %r, batch %s: %s returned %s, no text", batch.thread_id, batch.id, name_of(function), type(text).__name__)
        return None
    return text if text and text.strip() else None
