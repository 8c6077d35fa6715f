"""Calls of the user's functions: a worker that dies in one may die of this batch."""

from __future__ import annotations

from assistant_queue.core import steps
from assistant_queue.core.flow.context import BatchContext, Steps
from assistant_queue.models import ToolCall


def enter_user_code(ctx: BatchContext, asked: tuple[ToolCall, ...] = ()) -> Steps:
    """Store that one of the user's functions is called next.

    A crash from here on counts against the batch, until `leave_user_code`.
    """
    if ctx.is_suspect:
        yield from _become_exclusive(ctx)
    ctx.progress.in_user_code = True
    yield steps.Save(phase=ctx.phase, progress=ctx.progress, asked=asked)


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
    ctx.progress.in_user_code = False
    ctx.progress.crashes_in_user_code = ctx.deaths = 0
    ctx.is_suspect = False
