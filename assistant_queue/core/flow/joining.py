"""Messages that wait join a batch that is under way."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Park
from assistant_queue.core.flow.context import BatchContext, Steps
from assistant_queue.core.flow.preparation import items_from, keep, leading


def join(
    ctx: BatchContext, event: Literal["run_interrupted", "message_steered"], run_id: str = ""
) -> Steps:
    """Let the messages that wait join the batch, as far as the options let them.

    If its run has rounds that stand, they go with the outputs of the next one; else with the batch.

    Raises:
        Park: Some of them cannot be read.
    """
    progress = ctx.progress
    known = len(ctx.batch.messages)
    if progress.calls:
        progress.begun = progress.begun or known
        progress.given = progress.given or known
    joined: steps.Joined = yield steps.Join(
        phase=ctx.phase, progress=progress, event=event, run_id=run_id or progress.run_id or ""
    )
    ctx.batch = replace(ctx.batch, messages=joined.messages)
    if joined.unreadable:
        raise Park(f"{joined.unreadable} of the messages that joined it are not messages")
    most = yield from leading(ctx)
    yield from keep(ctx, max(known, most))
    if ctx.request is not None and progress.begun:
        ctx.request = replace(ctx.request, batch=ctx.batch, steered=items_from(ctx, progress.begun))
