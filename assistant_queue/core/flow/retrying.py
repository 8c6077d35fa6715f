"""Another attempt: what is taken back of the one that failed, and when the next one is made."""

from __future__ import annotations

from assistant_queue.core import steps
from assistant_queue.core.flow.context import BatchContext, Flow
from assistant_queue.core.flow.open_calls import carry
from assistant_queue.core.flow.outcome import bury
from assistant_queue.core.runs import FoundBy
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import ErrorInfo

MAX_ASK_WAIT_S = 60.0
"""The longest wait between two questions about work that may have been accepted. Chosen: it holds
its thread, so a minute at most."""


def try_again(
    ctx: BatchContext, info: ErrorInfo, *, counts: bool, retry_after_s: float | None = None
) -> Flow:
    """Give the thread back until the next attempt, or bury the batch if there is none left."""
    progress = ctx.progress
    backoff = ctx.rules.backoff
    progress.error = info
    if ctx.capabilities.stateless:
        progress.sent_ms = progress.deadline_ms = 0  # the next attempt has its own deadline
    elif ctx.capabilities.resumes:
        progress.deadline_ms = 0
    if not counts:
        progress.waiting_since_ms = progress.waiting_since_ms or ctx.now_ms()
        counts = not ctx.is_patient
    if counts:
        progress.failures += 1
        if progress.failures >= ctx.rules.max_attempts:
            return (yield from bury(ctx, "attempts", info))
        wait_s = backoff.wait_s(progress.failures, retry_after_s)
    else:
        progress.refusals += 1
        wait_s = backoff.wait_s(progress.refusals, retry_after_s)
        wait_s = min(wait_s, max(ctx.rules.retry_for_s, retry_after_s or 0.0))
    return (yield from _postpone(ctx, ThreadState.RETRYING, wait_s, info))


def try_at_once(ctx: BatchContext, info: ErrorInfo) -> Flow:
    """Give the thread back for the next claim."""
    ctx.progress.error = info
    return (yield from _postpone(ctx, ThreadState.RETRYING, 0, info))


def hold(ctx: BatchContext, wait_s: float, info: ErrorInfo) -> Flow:
    """Hold the thread until the provider is asked."""
    return (yield from _postpone(ctx, ThreadState.HELD, wait_s, info))


def ask_wait_s(ctx: BatchContext) -> float:
    """Count a failure that uses up no attempt; return the seconds to wait after it."""
    ctx.progress.refusals += 1
    return min(ctx.rules.backoff.wait_s(ctx.progress.refusals), MAX_ASK_WAIT_S)


def await_replica(ctx: BatchContext, info: ErrorInfo) -> Flow:
    """Give the thread back: no replica of Redis knows of the request, so it did not leave.

    As with a Redis that is away, no batch is given up for that.
    """
    take_back(ctx, counts=False)
    ctx.progress.error = info
    return (yield from _postpone(ctx, ThreadState.RETRYING, ask_wait_s(ctx), info))


def _postpone(ctx: BatchContext, state: ThreadState, wait_s: float, info: ErrorInfo) -> Flow:
    only_waited = state is ThreadState.HELD and ctx.log.only_waited
    if only_waited:
        ctx.log.drop()
    else:
        ctx.log.end(ctx.now_ms(), info)
    yield steps.Postpone(
        state=state,
        wait_s=wait_s,
        phase=ctx.phase,
        progress=ctx.progress,
        failed=None if only_waited else info,
    )
    return steps.Postponed(state=state, error=info)


def take_back(ctx: BatchContext, *, counts: bool) -> None:
    """Forget a request that was not accepted."""
    progress = ctx.progress
    if progress.calls:
        # The run that was to have the outputs may be working, or have ended: ask about it, without
        # a grace.
        progress.sent_ms = 0
        if ctx.capabilities.stateless and not counts:
            progress.attempts -= 1  # it is counted again when the outputs are sent again
        return
    if ctx.phase is Phase.SENDING and not counts:
        progress.attempts -= 1
    ctx.phase = Phase.FROZEN


def run_again(
    ctx: BatchContext,
    info: ErrorInfo,
    *,
    counts: bool = True,
    retry_after_s: float | None = None,
    still_works: bool = False,
) -> Flow:
    """Start another run after one that was accepted and failed.

    The provider keeps some of the failed run; that decides what the next attempt sends.
    `still_works`: the run may yet end well.
    """
    if ctx.capabilities.stateless:
        in_round = ctx.progress.calls or ctx.progress.asked
        ctx.phase = Phase.SENDING if in_round else Phase.FROZEN
    elif not (ctx.capabilities.resumes and _keep_round(ctx, still_works=still_works)):
        forget_run(ctx, still_works=still_works)
    return (yield from try_again(ctx, info, counts=counts, retry_after_s=retry_after_s))


def _keep_round(ctx: BatchContext, *, still_works: bool) -> bool:
    """Continue after the last round that is stored; return False if there is none.

    A run that may have made approved calls, or still works, is not repeated before the backend has
    been asked.
    """
    progress = ctx.progress
    if progress.asked is None and not progress.submitted:
        return False
    progress.sent_ms = 0
    if progress.asked is not None:
        return True  # its calls were being answered
    if not (progress.gave_away or still_works):
        progress.calls, progress.submitted = progress.submitted, ()
        ctx.phase = Phase.SENDING
    return True


def forget_run(ctx: BatchContext, *, still_works: bool = False) -> None:
    """Forget a run that has failed: its calls need no outputs any more."""
    progress = ctx.progress
    if progress.settled and ctx.capabilities.found_by is FoundBy.METADATA:
        # What was approved, and done, is not asked for again.
        carry(ctx, progress.calls or progress.submitted)
    progress.calls = ()
    progress.run_id = None
    if still_works or ctx.capabilities.found_by is FoundBy.ANCHOR:
        # Rounds that completed before the failure are in the conversation: look there before
        # anything is sent.
        ctx.phase = Phase.SENDING
        progress.sent_ms = ctx.now_ms() if still_works else 0
        progress.adding = 0
    else:
        kept = ctx.capabilities.keeps_failed_text
        progress.already_in_thread = progress.already_in_thread or kept
        ctx.phase = Phase.FROZEN
