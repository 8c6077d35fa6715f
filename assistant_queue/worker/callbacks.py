"""The user's own functions: what each is given, how long it may take, and what it means if it raises."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Sequence
from typing import Any

from assistant_queue.config import Config
from assistant_queue.core.steps import DeliveryOpen
from assistant_queue.errors import CallbackError, ConfigurationError, InvalidToolResult
from assistant_queue.models import Batch, ErrorInfo, RunResult, ToolCall, ToolOutput
from assistant_queue.user_errors import log_raised, said
from assistant_queue.worker.user_code import Function, Late, Raised, Running, UserCode, name_of

_log = logging.getLogger(__name__)

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


async def answer(handler: Function | None, code: UserCode, thread_id: str, run_id: str, calls: Sequence[ToolCall]) -> dict[str, str]:
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
        result = await code.call(handler, thread_id, run_id, list(calls))
    except Raised as raised:
        where = (thread_id, run_id, name_of(handler))
        log_raised(_log, "thread %r, run %s: %s raised; the model is told that its calls failed", *where, error=raised.error)
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


async def instruct(function: Function, code: UserCode, batch: Batch, limit_s: float) -> str | None:
    """Ask the user's `default_instructions` callable.

    Raises:
        CallbackError: It raised, took too long, or returned something that is not text. Nothing was sent.
    """
    try:
        text = await code.call(function, batch, limit_s=limit_s)
    except Late as late:
        _log_late(late, batch.thread_id, batch.id, function)
        raise CallbackError(f"{name_of(function)} {late}") from None
    except Raised as raised:
        log_raised(_log, "thread %r, batch %s: %s raised", batch.thread_id, batch.id, name_of(function), error=raised.error)
        raise CallbackError(f"{name_of(function)} raised {said(raised.error)}") from None
    if text is not None and not isinstance(text, str):
        raise CallbackError(f"{name_of(function)} returned {type(text).__name__}; instructions are a text or None")
    return text


async def deliver(
    function: Function, code: UserCode, result: RunResult, limit_s: float, on_abandoned: Callable[[Running], None] | None = None
) -> None:
    """Call the user's `on_reply`.

    Raises:
        CallbackError: It raised, or took too long; the result is stored, and `on_reply` will be called again.
        DeliveryOpen: It took too long and goes on; it must not be called again before it has ended.
    """
    try:
        await code.call(function, result, limit_s=limit_s, on_abandoned=on_abandoned)
    except Late as late:
        _log_late(late, result.thread_id, result.batch_id, function)
        message = f"{name_of(function)} {late}"
        raise (DeliveryOpen(message, is_new=True) if late.goes_on else CallbackError(message)) from None
    except Raised as raised:
        log_raised(_log, "thread %r, batch %s: %s raised", result.thread_id, result.batch_id, name_of(function), error=raised.error)
        raise CallbackError(f"{name_of(function)} raised {said(raised.error)}") from None


async def fall_back(function: Function, code: UserCode, batch: Batch, error: ErrorInfo, limit_s: float) -> str | None:
    """Ask the user's `fallback_reply` about a batch that has failed; None if it says nothing, raises, or takes too long.

    A failure on the way to the failed list is logged and no more: the batch gets there all the same.
    """
    try:
        text = await code.call(function, batch, error, limit_s=limit_s)
    except Late as late:
        _log_late(late, batch.thread_id, batch.id, function)
        return None
    except Raised as raised:
        log_raised(_log, "thread %r, batch %s: %s raised", batch.thread_id, batch.id, name_of(function), error=raised.error)
        return None
    if text is not None and not isinstance(text, str):
        _log.error("thread %r, batch %s: %s returned %s, no text", batch.thread_id, batch.id, name_of(function), type(text).__name__)
        return None
    return text if text and text.strip() else None


async def notify(
    listener: Function, code: UserCode, thread_id: str, batch_id: str, *args: Any, limit_s: float, on_loop: bool = False
) -> None:
    """Call a listener; the batch is settled, whatever comes of it. A sync one is called on a thread, or with `on_loop` here."""

    async def here(*args: Any) -> None:
        said = listener(*args)
        if inspect.isawaitable(said):
            await said

    try:
        await code.call(here if on_loop else listener, *args, limit_s=limit_s, name=name_of(listener))
    except Late as late:
        _log_late(late, thread_id, batch_id, listener)
    except Raised as raised:
        log_raised(_log, "thread %r, batch %s: the listener %s raised", thread_id, batch_id, name_of(listener), error=raised.error)


def _log_late(late: Late, thread_id: str, batch_id: str, function: Function) -> None:
    what = "it goes on and is abandoned" if late.goes_on else "it was cancelled"
    _log.warning("thread %r, batch %s: %s %s; %s", thread_id, batch_id, name_of(function), late, what)
