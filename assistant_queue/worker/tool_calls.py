"""Answers a round of tool calls: the queue's own tools in parallel, the rest by `handle_requires_action`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from assistant_queue.models import Batch, ToolCall
from assistant_queue.tools import Tool, Toolbox, ToolContext, WrongArguments
from assistant_queue.user_errors import log_raised
from assistant_queue.worker import callbacks
from assistant_queue.worker.callbacks import error_output
from assistant_queue.worker.user_code import Function, Late, Raised, UserCode

_log = logging.getLogger(__name__)


async def answer(
    toolbox: Toolbox,
    handler: Function | None,
    code: UserCode,
    *,
    batch: Batch,
    run_id: str,
    calls: Sequence[ToolCall],
) -> dict[str, str]:
    """The outputs of one round, one string for each call.

    Raises:
        InvalidToolResult: The handler returned something that is not a list of outputs.
    """
    outputs: dict[str, str] = {}

    async def use(tool: Tool, call: ToolCall) -> None:
        context = ToolContext(thread_id=batch.thread_id, run_id=run_id, call_id=call.id, batch=batch)
        outputs[call.id] = await _use(tool, call, context, code)

    async def hand_over(rest: Sequence[ToolCall]) -> None:
        outputs.update(await callbacks.answer(handler, code, batch.thread_id, run_id, rest))

    work = []
    rest = []
    for call in calls:
        tool = toolbox.get(call.function.name)
        if tool is None:
            rest.append(call)
        else:
            work.append(asyncio.ensure_future(use(tool, call)))
    if rest:
        work.append(asyncio.ensure_future(hand_over(rest)))
    try:
        await asyncio.gather(*work)
    finally:
        for one in work:
            one.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return outputs


async def _use(tool: Tool, call: ToolCall, context: ToolContext, code: UserCode) -> str:
    """One call's output; whatever goes wrong is an output that says so."""
    where = (context.thread_id, context.run_id, tool.name, call.id)
    try:
        ready = tool.bind(call.function.arguments, context)
    except WrongArguments as error:
        _log.warning("thread %r, run %s: %s (%s) was called wrongly; the model is told", *where)
        return error_output(str(error))
    except BaseException as error:  # noqa: BLE001 - the user's own types validate and convert themselves
        log_raised(_log, "thread %r, run %s: the arguments of %s (%s) could not be read", *where, error=error)
        return error_output("the function failed")
    try:
        return encode(await code.call(ready, limit_s=tool.timeout_s, name=f"tool {tool.name}"))
    except Late as late:
        what = "it goes on and is abandoned" if late.goes_on else "it was cancelled"
        _log.error("thread %r, run %s: %s (%s) took longer than its timeout (%g s); %s", *where, late.limit_s, what)
        return error_output(f"the function did not answer within {late.limit_s:g} seconds")
    except Raised as raised:
        log_raised(_log, "thread %r, run %s: %s (%s) raised; the model is told that it failed", *where, error=raised.error)
        return error_output("the function failed")
    except Exception as error:  # noqa: BLE001 - the output's own methods may raise anything
        log_raised(_log, "thread %r, run %s: what %s (%s) returned cannot be written", *where, error=error)
        return error_output("the function failed")


def encode(output: Any) -> str:
    """An output as the model reads it: a string as it is, anything else as JSON (models, dataclasses, dates and sets included)."""
    if isinstance(output, str):
        return output.encode("utf-8", "replace").decode()  # half a surrogate pair is not sendable
    try:
        return to_json(output, fallback=str).decode()
    except (PydanticSerializationError, ValueError):
        return error_output("the function's output cannot be written as JSON")
