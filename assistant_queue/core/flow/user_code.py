"""Calls of the user's functions: a worker that dies in one may die of this batch."""

from __future__ import annotations

from assistant_queue.core import steps
from assistant_queue.core.flow.context import BatchContext, Steps
from assistant_queue.models import ToolCall

MOST_NAMES = 5
"""Tools of one round whose names are stored. Chosen: they are for people, and most rounds have
fewer."""


def enter_user_code(ctx: BatchContext, name: str, asked: tuple[ToolCall, ...] = ()) -> Steps:
    """Store that one of the user's functions is called next.

    A crash from here on counts against the batch, until `leave_user_code`.

    Args:
        ctx: The batch.
        name: The option that has the function; "" if it is the tools of `asked`.
        asked: The calls that the tools, or the handler, are to answer.
    """
    ctx.progress.called = name or _names_of(asked)
    ctx.progress.called_ms = ctx.now_ms()
    if ctx.is_suspect:
        yield from _become_exclusive(ctx)
        ctx.progress.called_ms = ctx.now_ms()
    ctx.progress.in_user_code = True
    yield steps.Save(phase=ctx.phase, progress=ctx.progress, asked=asked)


def _names_of(calls: tuple[ToolCall, ...]) -> str:
    names = list(dict.fromkeys(call.function.name for call in calls))
    more = ["..."] if len(names) > MOST_NAMES else []
    return ", ".join([*names[:MOST_NAMES], *more])


def _become_exclusive(ctx: BatchContext) -> Steps:
    """Wait until no other suspect runs user code in this process.

    If two batches that may crash the process ran user code at the same time, each would be blamed
    for the other's crash. A crash while it waits does not count.
    """
    progress = ctx.progress
    progress.crashes_in_user_code = max(ctx.deaths, progress.crashes_in_user_code)
    progress.in_user_code = progress.waits_for_exclusive = True
    yield steps.Save(phase=ctx.phase, progress=progress)
    yield steps.EnterExclusive()
    progress.waits_for_exclusive = False


def leave_user_code(ctx: BatchContext) -> None:
    """The function has returned or raised: earlier crashes were not the batch's."""
    end_user_code(ctx)
    ctx.progress.crashes_in_user_code = ctx.deaths = 0
    ctx.is_suspect = False


def break_off_user_code(ctx: BatchContext) -> Steps:
    """Store that no function of the user's is called any more, if one was.

    A worker that dies while it ends the run does not die of the function.
    """
    if ctx.progress.in_user_code:
        end_user_code(ctx)
        yield steps.Save(phase=ctx.phase, progress=ctx.progress)


def end_user_code(ctx: BatchContext) -> None:
    """No function of the user's is called any more; whether one may crash is as it was."""
    ctx.progress.in_user_code = False
    ctx.progress.called = None
    ctx.progress.called_ms = 0
