"""Park of a batch: its worker leaves it until a call is settled, or has expired.

    call the others ─► park ─► read what was settled ─┬─► call what was approved ─► submit
                        ▲                             │
                        └── some are open still ◄─────┘

A run that would expire while it waits is ended before: its calls stay open, and their outputs go to
another run, in words.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Park
from assistant_queue.core.flow.context import BatchContext, Flow, Steps
from assistant_queue.core.flow.run_end import end_run
from assistant_queue.core.runs import ActionRequired, FoundBy
from assistant_queue.core.settlements import OpenCall
from assistant_queue.core.thread_state import Phase

RUN_LIFE_S = 600.0
"""Life of a run that says no other. Source: the Assistants API's runs expire after about ten
minutes."""
MARGIN_S = 60.0
"""Seconds before its expiry at which a run is ended. Chosen: a worker that is late by a lease, and
clocks that differ, do not reach it."""
_NEVER_MS = 1 << 53


def park(ctx: BatchContext) -> Flow:
    """Give the thread back until a call is settled, or has expired.

    Raises:
        Hold, Park, BackendError: The run had to be ended before it expires, as `end_run` raises
            them.
    """
    progress = ctx.progress
    event = progress.asked
    assert event is not None, "a batch parks over a round"
    if not progress.detached and _ends_ms(ctx, event) <= ctx.now_ms():
        yield from _detach(ctx)
    now = ctx.now_ms()
    rows = [row for row in progress.waits if row.call_id not in progress.outputs]
    due_ms = min(row.until_ms for row in rows)
    if not progress.detached:
        due_ms = min(due_ms, _ends_ms(ctx, event))
    new = {row.id for row in rows if not row.is_listed}
    calls = {call.id: call for call in event.calls}
    opened = tuple(
        OpenCall(
            id=row.id,
            call=calls[row.call_id],
            kind=cast("Literal['approval', 'answer']", row.kind),
            question=row.question or None,
            until_ms=row.until_ms,
        )
        for row in rows
    )
    progress.waits = tuple(replace(row, question="", is_listed=True) for row in progress.waits)
    progress.parked_ms = now
    if ctx.log.only_waited:
        ctx.log.drop()
    else:
        ctx.log.end(now)
    is_parked: bool = yield steps.ParkBatch(
        wait_s=max(due_ms - now, 0) / 1000,
        phase=ctx.phase,
        progress=progress,
        calls=opened,
        new=len(new),
    )
    if not is_parked:
        raise Park("a call of another batch has the id of one of its calls")
    return steps.Parked(calls=opened, new=tuple(one for one in opened if one.id in new))


def _ends_ms(ctx: BatchContext, event: ActionRequired) -> int:
    """Return when the run has to be ended so that it does not expire, ms; never for most."""
    if ctx.capabilities.found_by is not FoundBy.METADATA or not ctx.capabilities.cancels:
        return _NEVER_MS
    started_ms = ctx.progress.run_sent_ms or ctx.now_ms()
    expires_ms = event.expires_ms or started_ms + round(RUN_LIFE_S * 1000)
    return expires_ms - round(MARGIN_S * 1000)


def _detach(ctx: BatchContext) -> Steps:
    """End the run, which the conversation remembers without its calls."""
    progress = ctx.progress
    asked = progress.asked
    yield from end_run(ctx, ())
    progress.asked = asked
    if progress.run_id:
        progress.cut = (*progress.cut, progress.run_id)
    progress.run_id = None
    progress.calls = progress.submitted = ()
    progress.sent_ms = 0
    progress.already_in_thread = True
    progress.detached = True
    ctx.phase = Phase.FROZEN
