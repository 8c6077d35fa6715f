"""Answers a round of tool calls: the queue's own tools in parallel, the rest by `handle_requires_action`."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from assistant_queue.models import Batch, ToolCall
from assistant_queue.tools import Tool, Toolbox, ToolContext, WrongArguments
from assistant_queue.worker import callbacks
from assistant_queue.worker.callbacks import error_output

_log = logging.getLogger(__name__)


async def answer(
    toolbox: Toolbox,
    handler: callbacks.Function | None,
    executor: Executor,
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
        outputs[call.id] = await _use(tool, call, context, executor)

    async def hand_over(rest: Sequence[ToolCall]) -> None:
        outputs.update(await callbacks.answer(handler, executor, batch.thread_id, run_id, rest))

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


async def _use(tool: Tool, call: ToolCall, context: ToolContext, executor: Executor) -> str:
    """One call's output; whatever goes wrong is an output that says so."""
    where = (context.thread_id, context.run_id, tool.name, call.id)
    try:
        ready = tool.bind(call.function.arguments, context)
        return encode(await _called(tool, ready, executor))
    except WrongArguments as error:
        _log.warning("thread %r, run %s: %s (%s) was called wrongly; the model is told", *where)
        return error_output(str(error))
    except _Late:
        _log.error("thread %r, run %s: %s (%s) took longer than its timeout", *where)
        return error_output(f"the function did not answer within {tool.timeout_s:g} seconds")
    except Exception:  # noqa: BLE001 - the model is told, the run goes on
        _log.exception("thread %r, run %s: %s (%s) raised; the model is told that it failed", *where)
        return error_output("the function failed")


class _Late(Exception):
    """The tool's own time-out; not a subclass of what a tool raises."""


class _Cancelled(Exception):
    """Something within the tool was cancelled: nobody has cancelled the batch."""


async def _called(tool: Tool, ready: Callable[[], Any], executor: Executor) -> Any:
    if inspect.iscoroutinefunction(ready):
        return await _within(tool.timeout_s, ready())
    loop = asyncio.get_running_loop()
    begun = loop.create_future()

    def work() -> Any:
        loop.call_soon_threadsafe(begun.cancel)
        return ready()

    returned = loop.run_in_executor(executor, contextvars.copy_context().run, work)
    # Its time starts when it does, not while it waits for a thread.
    await asyncio.wait({begun, returned}, return_when=asyncio.FIRST_COMPLETED)
    result = await _within(tool.timeout_s, returned)
    return await _within(tool.timeout_s, result) if inspect.isawaitable(result) else result


async def _within(timeout_s: float | None, result: Any) -> Any:
    task = asyncio.ensure_future(result)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
        if task.cancelled():
            raise _Cancelled
        if task.done():
            return task.result()
        raise _Late
    finally:
        if not task.done():
            task.add_done_callback(_drop)
            task.cancel()


def _drop(late: asyncio.Future[Any]) -> None:
    """What comes after the time-out is of no use, but it was looked at."""
    if not late.cancelled():
        late.exception()


def encode(output: Any) -> str:
    """An output as the model reads it: a string as it is, anything else as JSON (models, dataclasses, dates and sets included)."""
    if isinstance(output, str):
        return output.encode("utf-8", "replace").decode()  # half a surrogate pair is not sendable
    try:
        return to_json(output, fallback=str).decode()
    except (PydanticSerializationError, ValueError):
        return error_output("the function's output cannot be written as JSON")
