"""The user's callbacks: their arguments, their time limits, and the meaning of their failures."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from typing import Any

from assistant_queue.config import Config
from assistant_queue.core.batching import of_one_author, of_sharing_authors
from assistant_queue.core.delivery import DeliveryOpen
from assistant_queue.errors import (
    CallbackError,
    ConfigurationError,
    DeliveryError,
    InvalidToolResult,
)
from assistant_queue.models import (
    Batch,
    ErrorInfo,
    RunResult,
    ToolCall,
    ToolOutput,
)
from assistant_queue.tools import AnswerLater
from assistant_queue.tools.outputs import UnwritableOutput, encode_output, error_output
from assistant_queue.user_code.caller import Function, Late, Raised, UserCode
from assistant_queue.user_code.error_text import log_raised, said
from assistant_queue.user_code.functions import name_of
from assistant_queue.user_code.running_calls import RunningCall

_log = logging.getLogger(__name__)

_GIVEN = {
    "handle_requires_action": ("thread_id", "run_id", "tool_calls"),
    "on_reply": ("result",),
    "fallback_reply": ("batch", "error"),
    "default_instructions": ("batch",),
    "separate_authors": ("author", "other"),
}
"""The positional arguments of each callback."""


def check_callbacks(config: Config) -> None:
    """Check that the callbacks accept their arguments.

    Raises:
        ConfigurationError: One of them takes other arguments. Nothing was started.
    """
    for option, given in _GIVEN.items():
        function = getattr(config, option)
        if not callable(function):
            continue
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            continue  # a builtin without a signature
        try:
            signature.bind(*given)
        except TypeError as error:
            raise ConfigurationError(
                f"{option}= is called with {len(given)} argument{'s' * (len(given) > 1)}, "
                f"({', '.join(given)}), which {name_of(function)} does not take: {error}"
            ) from None


async def answer(
    handler: Function | None, code: UserCode, thread_id: str, run_id: str, calls: Sequence[ToolCall]
) -> dict[str, tuple[str | None, str | None]]:
    """Call the handler; return the outputs of one round, each with the type of its error or None.

    A missing output, or an exception, becomes an error output: the model can say so, and the run is
    never left open. An output that comes later, from outside, is None.

    Raises:
        InvalidToolResult: The handler returned something that is not a list of outputs.
    """
    if handler is None:
        names = ", ".join(sorted({call.function.name for call in calls}))
        _log.error(
            "thread %r: the model calls %s, but there is no handle_requires_action",
            thread_id,
            names,
        )
        output = error_output("no function of this name is available")
        return dict.fromkeys([call.id for call in calls], (output, "unknown_tool"))
    try:
        result = await code.call(handler, thread_id, run_id, list(calls))
    except Raised as raised:
        where = (thread_id, run_id, name_of(handler))
        log_raised(
            _log,
            "thread %r, run %s: %s raised; the model reads that its calls failed",
            *where,
            error=raised.error,
        )
        failed = (error_output("the function failed"), type(raised.error).__name__)
        return dict.fromkeys([call.id for call in calls], failed)
    if not isinstance(result, list | tuple):
        msg = (
            f"{name_of(handler)} returned {type(result).__name__} for thread {thread_id!r}, "
            f"run {run_id}: expected a list of {{'tool_call_id', 'output'}} or ToolOutput"
        )
        raise InvalidToolResult(msg)
    given = _collect(result, handler, thread_id, run_id)
    outputs: dict[str, tuple[str | None, str | None]] = {}
    for one in calls:
        if one.id not in given:
            _log.error(
                "thread %r, run %s: %s gave no output for %s (%s)",
                thread_id,
                run_id,
                name_of(handler),
                one.function.name,
                one.id,
            )
        missing = (error_output("the function gave no output"), "no_output")
        outputs[one.id] = (given[one.id], None) if one.id in given else missing
    return outputs


def _collect(
    rows: Sequence[Any], handler: Function, thread_id: str, run_id: str
) -> dict[str, str | None]:
    given: dict[str, str | None] = {}
    for row in rows:
        if isinstance(row, ToolOutput):
            call_id = row.tool_call_id
            output = row.output
        elif isinstance(row, dict) and isinstance(row.get("tool_call_id"), str) and "output" in row:
            call_id = row["tool_call_id"]
            output = row["output"]
        else:
            _log.error(
                "thread %r: %s returned an entry that is not a tool output: %s",
                thread_id,
                name_of(handler),
                type(row).__name__,
            )
            continue
        if isinstance(output, AnswerLater):
            given[call_id] = None
            continue
        given[call_id] = encoded(output, thread_id, run_id, name_of(handler), call_id)
    return given


def encoded(output: Any, thread_id: str, run_id: str, name: str, call_id: str) -> str:
    """Return an output as the model reads it; one that cannot be written is an error output."""
    try:
        return encode_output(output)
    except UnwritableOutput as error:
        log_raised(
            _log,
            "thread %r, run %s: the output of %s (%s) cannot be written as JSON",
            thread_id,
            run_id,
            name,
            call_id,
            error=error.__cause__ or error,
        )
        return error_output(str(error))


async def separate(function: Function, code: UserCode, batch: Batch, limit_s: float) -> int:
    """Call `separate_authors`; return how many of the messages, from the first on, share a run.

    If it raises or takes too long, that is logged and each author gets a run: what must not be
    mixed is not.
    """
    try:
        return int(
            await code.call(
                of_sharing_authors,
                batch.messages,
                function,
                limit_s=limit_s,
                name=name_of(function),
            )
        )
    except Late as late:
        _log_late(late, batch.thread_id, batch.id, function)
    except Raised as raised:
        _log_raised(raised, batch.thread_id, batch.id, function)
    return of_one_author(batch.messages)


async def instruct(function: Function, code: UserCode, batch: Batch, limit_s: float) -> str | None:
    """Call `default_instructions`.

    Raises:
        CallbackError: It raised, took too long, or returned neither a string nor None. Nothing was
            sent.
    """
    try:
        text = await code.call(function, batch, limit_s=limit_s)
    except Late as late:
        _log_late(late, batch.thread_id, batch.id, function)
        raise CallbackError(f"{name_of(function)} {late}") from None
    except Raised as raised:
        _log_raised(raised, batch.thread_id, batch.id, function)
        raise CallbackError(f"{name_of(function)} raised {said(raised.error)}") from None
    if text is not None and not isinstance(text, str):
        raise CallbackError(
            f"{name_of(function)} returned {type(text).__name__}: expected a string or None"
        )
    return text


async def deliver(
    function: Function,
    code: UserCode,
    result: RunResult,
    limit_s: float,
    on_abandoned: Callable[[RunningCall], None] | None = None,
) -> None:
    """Call `on_reply`.

    Raises:
        CallbackError: It raised, or took too long; the result is stored, and `on_reply` will be
            called again.
        DeliveryOpen: It took too long and is still running; it must not be called again before it
            has ended.
        DeliveryError: The function's own.
    """
    try:
        await code.call(function, result, limit_s=limit_s, on_abandoned=on_abandoned)
    except Late as late:
        _log_late(late, result.thread_id, result.batch_id, function)
        message = f"{name_of(function)} {late}"
        raise (
            DeliveryOpen(message, is_new=True) if late.is_abandoned else CallbackError(message)
        ) from None
    except Raised as raised:
        if isinstance(raised.error, DeliveryError):
            raise raised.error from None
        _log_raised(raised, result.thread_id, result.batch_id, function)
        raise CallbackError(f"{name_of(function)} raised {said(raised.error)}") from None


async def fall_back(
    function: Function, code: UserCode, batch: Batch, error: ErrorInfo, limit_s: float
) -> str | None:
    """Call `fallback_reply` for a failed batch; None if it returns no text, raises or is late.

    A failure is only logged: the batch goes to the failed list all the same.
    """
    try:
        text = await code.call(function, batch, error, limit_s=limit_s)
    except Late as late:
        _log_late(late, batch.thread_id, batch.id, function)
        return None
    except Raised as raised:
        _log_raised(raised, batch.thread_id, batch.id, function)
        return None
    if text is not None and not isinstance(text, str):
        _log.error(
            "thread %r, batch %s: %s returned %s: expected a string or None",
            batch.thread_id,
            batch.id,
            name_of(function),
            type(text).__name__,
        )
        return None
    return text if text and text.strip() else None


def _log_raised(raised: Raised, thread_id: str, batch_id: str, function: Function) -> None:
    where = (thread_id, batch_id, name_of(function))
    log_raised(_log, "thread %r, batch %s: %s raised", *where, error=raised.error)


def _log_late(late: Late, thread_id: str, batch_id: str, function: Function) -> None:
    what = "it is still running and is abandoned" if late.is_abandoned else "it was cancelled"
    _log.warning(
        "thread %r, batch %s: %s %s; %s", thread_id, batch_id, name_of(function), late, what
    )
