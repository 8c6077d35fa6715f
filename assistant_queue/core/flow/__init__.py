"""One batch, from the claim to its end, as a generator of steps without I/O.

The driver (`worker/driver.py`) carries out each step and sends its answer, or throws its error,
into the generator. So the order of what is written and what is sent - the whole promise - can be
read here and tested without Redis, HTTP or time.

    claim ─► prepare ─► save "sending" ─► start ─► save "running" ─► watch ─┬─► finish
                ▲                                      ▲               ▲    │
                │ not found                            │ found         │    └─► answer
              find ◄── grace ◄── died, or the answer   │            submit ◄─ save "sending"
                │                was lost              │                      and the outputs
                └──────────────────────────────────────┘

Functions over one `BatchContext`; each module imports only those below it:

    joining       lets messages that wait join the batch
    preparation   makes the request: what fits, the conversation, its end, the instructions
    interrupting  ends a run, and has the batch answered with the messages that wait
    stopping      ends a batch that was to be stopped, and has the conversation remember it
    leaving       leaves a batch whose calls are answered from outside
    run_end       ends a run that is not wanted any more
    attempt       continues where an earlier holder stopped; sends, watches, answers tool rounds
    failure       does what `core/failure_table.py` says of a failure
    outgrown      shortens a conversation that is too long, or begins it anew
    retrying      takes back what failed and waits for the next attempt
    outcome       stores the result, or puts the batch on the failed list
    open_calls    knows which calls are answered from outside, and reads what came of them
    user_code     marks calls of the user's functions
    context       the claimed batch, the rules and the request
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.attempt import answer, reach_event
from assistant_queue.core.flow.context import (
    ENDED_WELL,
    MAX_DEATHS,
    MAX_DEATHS_ELSEWHERE,
    AuthorRule,
    BatchContext,
    Claimed,
    Flow,
    Rules,
)
from assistant_queue.core.flow.failure import decide
from assistant_queue.core.flow.interrupting import interrupt, refusal_of
from assistant_queue.core.flow.leaving import park
from assistant_queue.core.flow.open_calls import RoundOpen
from assistant_queue.core.flow.outcome import bury, finish, hand_over, leave_undeliverable
from assistant_queue.core.flow.preparation import prepare
from assistant_queue.core.flow.retrying import take_back
from assistant_queue.core.flow.stopping import stop
from assistant_queue.core.runs import ActionRequired
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import ErrorInfo

__all__ = [
    "MAX_DEATHS",
    "MAX_DEATHS_ELSEWHERE",
    "AuthorRule",
    "BatchContext",
    "Claimed",
    "Flow",
    "Rules",
    "run_batch",
]


def run_batch(ctx: BatchContext) -> Flow:
    """Take one claimed batch to its end, or as far as it can go now."""
    if ctx.phase is not Phase.DELIVERING and ctx.progress.burying is None:
        ctx.begin_attempt()
    wish = ctx.claimed.wish if _can_be_steered(ctx) else None
    while True:
        try:
            if wish is Wish.STOP:
                return (yield from _stop(ctx))
            if wish is Wish.INTERRUPT or (wish is Wish.STEER and ctx.phase is Phase.FROZEN):
                ending = yield from _interrupt(ctx)
                if ending is not None:
                    return ending
            return (yield from _take(ctx))
        except Wished as wished:
            wish = wished.wish
            if wished.unsent:
                take_back(ctx, counts=False)


def _can_be_steered(ctx: BatchContext) -> bool:
    """Whether the batch's record can be read, and workers do not die of it."""
    is_readable = ctx.claimed.unreadable is None and ctx.phase is not Phase.DELIVERING
    return is_readable and not ctx.is_deadly


def _stop(ctx: BatchContext) -> Flow:
    try:
        return (yield from stop(ctx))
    except AssistantQueueError as error:
        return (yield from decide(ctx, error))


def _interrupt(ctx: BatchContext) -> Generator[steps.Step, Any, steps.Ending | None]:
    if refusal_of(ctx) is not None:
        return None
    try:
        return (yield from interrupt(ctx))
    except Wished:
        raise
    except AssistantQueueError as error:
        return (yield from decide(ctx, error))


def _take(ctx: BatchContext) -> Flow:
    progress = ctx.progress
    unreadable = ctx.claimed.unreadable
    if ctx.phase is Phase.DELIVERING and progress.result is not None:
        return (yield from hand_over(ctx, progress.result))
    if ctx.phase is Phase.DELIVERING:
        return (yield from leave_undeliverable(ctx))
    if progress.burying is not None and progress.error is not None:
        return (yield from bury(ctx, progress.burying, progress.error, deaths=ctx.deaths))
    if unreadable is not None:
        message = f"its record in Redis was changed by another program: {unreadable}"
        info = ErrorInfo(code="corrupt", message=message)
        return (yield from bury(ctx, "corrupt", info, deaths=ctx.deaths))
    if ctx.is_deadly:
        message = (
            f"{ctx.all_deaths} workers died in phase {ctx.phase.value!r} of this batch; look for"
            " what it does to them"
        )
        return (
            yield from bury(ctx, "worker_deaths", ErrorInfo(code="worker_deaths", message=message))
        )
    try:
        return (yield from _answer_batch(ctx))
    except Wished:
        raise
    except AssistantQueueError as error:
        return (yield from decide(ctx, error))


def _answer_batch(ctx: BatchContext) -> Flow:
    yield from prepare(ctx)
    event = yield from reach_event(ctx)
    try:
        while isinstance(event, ActionRequired):
            event = yield from answer(ctx, event)
    except RoundOpen:
        return (yield from park(ctx))
    if event.status in ENDED_WELL:
        return (yield from finish(ctx, event))
    return (yield from decide(ctx, event))
