"""Consequences of a failure. `core/failure_table.py` says which; here they are carried out."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import (
    Decision,
    Failure,
    GiveUp,
    Hold,
    NoRoom,
    Park,
    Row,
    Unreachable,
    meaning_of,
)
from assistant_queue.core.flow.background import await_room, await_run
from assistant_queue.core.flow.context import ENDED_WELL, OUTCOME_UNKNOWN, BatchContext, Flow
from assistant_queue.core.flow.outcome import bury, finish
from assistant_queue.core.flow.outgrown import leave_run, refuse, renew, shorten
from assistant_queue.core.flow.retrying import (
    ask_wait_s,
    await_replica,
    hold,
    run_again,
    take_back,
    try_again,
)
from assistant_queue.core.flow.user_code import end_user_code, leave_user_code
from assistant_queue.core.runs import Finding, FoundBy, RunAccepted, RunEnded
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import (
    BackendError,
    CallbackError,
    ConversationBusy,
    NotConfigured,
    RunExpired,
)
from assistant_queue.models import ErrorInfo


def decide(ctx: BatchContext, failure: Failure) -> Flow:
    """Do what follows from a failure: wait, ask, send again, or give up.

    Raises:
        AssistantQueueError: The failure itself, if it is not the batch's: Redis is away, the lease
            is lost.
    """
    if isinstance(failure, CallbackError):
        leave_user_code(ctx)
    if not isinstance(failure, RunEnded):
        end_user_code(ctx)
    row = meaning_of(failure, ctx.situation)
    if row is not None:
        return (yield from _CONSEQUENCES[row.decision](ctx, failure, row))
    assert isinstance(failure, Exception), "a run that ended always has a row"
    raise failure


def _info_of(failure: Failure, row: Row) -> ErrorInfo:
    """The failure as it is stored and shown."""
    match failure:
        case GiveUp():
            return failure.info
        case RunEnded():
            message = f"the run ended as {failure.status!r}"
            return failure.error or ErrorInfo(code="run_failed", message=message)
        case Park():
            return ErrorInfo(code="parked", message=str(failure))
        case Unreachable() if row.decision is Decision.BURY:
            message = f"the provider could not be asked what became of the batch: {failure}"
            return ErrorInfo(code="parked", message=message)
        case Unreachable():
            return ErrorInfo(code=failure.cause.code, message=str(failure))
        case _:
            return ErrorInfo(code=failure.code, message=str(failure))


def _retry_after_s(failure: Failure) -> float | None:
    return failure.retry_after_s if isinstance(failure, BackendError | RunEnded) else None


# --- one function for each decision ---------------------------------------------------------------


def _hold(ctx: BatchContext, failure: Failure, _: Row) -> Flow:
    assert isinstance(failure, Hold)
    return (yield from hold(ctx, failure.wait_s, ctx.progress.error or OUTCOME_UNKNOWN))


def _await_run(ctx: BatchContext, _: Failure, __: Row) -> Flow:
    return (yield from await_run(ctx))


def _await_room(ctx: BatchContext, failure: Failure, _: Row) -> Flow:
    assert isinstance(failure, NoRoom)
    return (yield from await_room(ctx, failure.wait_s))


def _ask(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    """Hold the thread, then ask: the request may have been accepted, so it is not sent again."""
    assert isinstance(failure, BackendError)
    progress = ctx.progress
    now = ctx.now_ms()
    progress.error = info = _info_of(failure, row)
    progress.sent_ms = now
    progress.passing = not failure.counts
    if progress.passing:
        progress.waiting_since_ms = progress.waiting_since_ms or now
    return (yield from hold(ctx, max(ctx.rules.grace_s, failure.retry_after_s or 0.0), info))


def _ask_again(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    """Hold the thread, then ask again: the provider could not be asked about accepted work."""
    assert isinstance(failure, Unreachable)
    ctx.progress.error = info = _info_of(failure, row)
    wait_s = max(ask_wait_s(ctx), failure.cause.retry_after_s or 0.0)
    return (yield from hold(ctx, wait_s, info))


def _look_first(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    return (yield from run_again(ctx, _info_of(failure, row), still_works=True))


def _send_again(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    """Send the same request again: it was not accepted, or the provider keeps nothing of it."""
    counts = row.attempts.counts(failure)
    was_sent = ctx.phase is Phase.SENDING
    take_back(ctx, counts=counts)
    if was_sent and isinstance(failure, ConversationBusy) and _may_be_its_own_run(ctx):
        ctx.phase = Phase.SENDING
        ctx.progress.sent_ms = 0
    info = _info_of(failure, row)
    retry_after_s = _retry_after_s(failure)
    return (yield from try_again(ctx, info, counts=counts, retry_after_s=retry_after_s))


def _may_be_its_own_run(ctx: BatchContext) -> bool:
    """Whether an earlier attempt, given up and still at work, may keep the conversation busy.

    It is looked for before the next one.
    """
    return ctx.progress.attempts > 0 and ctx.capabilities.found_by is FoundBy.ANCHOR


def _run_again(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    counts = row.attempts.counts(failure)
    ctx.progress.attempts -= not counts  # it is counted again when it is sent again
    info = _info_of(failure, row)
    retry_after_s = _retry_after_s(failure)
    return (yield from run_again(ctx, info, counts=counts, retry_after_s=retry_after_s))


def _resume(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    """Try again from the same phase: nothing was sent or learned."""
    counts = row.attempts.counts(failure)
    return (yield from try_again(ctx, _info_of(failure, row), counts=counts))


def _stop_run(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    """Cancel a run that is of no use any more, so that the conversation is free."""
    progress = ctx.progress
    capabilities = ctx.capabilities
    still_works = isinstance(failure, RunExpired) and not capabilities.cancels
    if progress.run_id is not None and capabilities.cancels:
        yield steps.Cancel(request=ctx.sent, run_id=progress.run_id)
        if isinstance(failure, RunExpired):
            # It may have ended well before it could be cancelled, or while no worker was there:
            # then it is the batch's run. Or it is still working: a server shows only by refusing
            # that it cannot cancel.
            found = yield from _look_again(ctx, progress.run_id)
            if isinstance(found, RunEnded) and found.status in ENDED_WELL:
                return (yield from finish(ctx, found))
            still_works = isinstance(found, RunAccepted) and capabilities.found_by is FoundBy.ANCHOR
    if still_works and capabilities.follows:
        progress.given_up = progress.run_id
    return (yield from run_again(ctx, _info_of(failure, row), still_works=still_works))


def _look_again(ctx: BatchContext, run_id: str) -> Generator[steps.Step, Any, Finding | None]:
    """Find a run that was given up; None if the provider does not say."""
    try:
        finding: Finding = yield steps.Find(request=ctx.sent, run_id=run_id, calls=())
    except BackendError:
        return None
    return finding


def _await_replica(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    return (yield from await_replica(ctx, _info_of(failure, row)))


def _shorten(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    return (yield from shorten(ctx, _info_of(failure, row)))


def _renew(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    if isinstance(failure, RunEnded):
        leave_run(ctx)
    else:
        take_back(ctx, counts=False)
    return (yield from renew(ctx, _info_of(failure, row)))


def _refuse(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    return (yield from refuse(ctx, _info_of(failure, row)))


def _bury(ctx: BatchContext, failure: Failure, row: Row) -> Flow:
    if isinstance(failure, NotConfigured):
        ctx.progress.attempts -= 1  # nothing was sent
    return (yield from bury(ctx, row.reason, _info_of(failure, row)))


_CONSEQUENCES: dict[Decision, Callable[[BatchContext, Failure, Row], Flow]] = {
    Decision.HOLD: _hold,
    Decision.AWAIT_RUN: _await_run,
    Decision.AWAIT_ROOM: _await_room,
    Decision.ASK: _ask,
    Decision.ASK_AGAIN: _ask_again,
    Decision.LOOK_FIRST: _look_first,
    Decision.SEND_AGAIN: _send_again,
    Decision.RUN_AGAIN: _run_again,
    Decision.RESUME: _resume,
    Decision.STOP_RUN: _stop_run,
    Decision.AWAIT_REPLICA: _await_replica,
    Decision.SHORTEN: _shorten,
    Decision.RENEW: _renew,
    Decision.REFUSE: _refuse,
    Decision.BURY: _bury,
}
