"""End of a batch: its result is stored, or it goes to the failed list.

finish ─► store the result ─► outbox
bury   ─► cancel the open run ─► fallback ─► failed list, outbox
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.context import (
    MAX_DEATHS,
    MAX_DEATHS_ELSEWHERE,
    BatchContext,
    Flow,
    Steps,
)
from assistant_queue.core.flow.open_calls import withdraw_calls
from assistant_queue.core.flow.user_code import enter_user_code, leave_user_code
from assistant_queue.core.progress import moment
from assistant_queue.core.runs import EMPTY, RunEnded
from assistant_queue.core.wishes import Wished
from assistant_queue.models import ErrorInfo, RunResult

MAX_DEATHS_BURYING = 3
"""Workers that may die while they cancel the run of a batch that is to be buried; then it is buried
without. Chosen: as many as in one of the user's functions."""

BURIAL_PATIENCE_S = 2.0
"""Longest cancelling before a burial, seconds. Chosen: short, because the next batch waits by
itself for a run that ends later."""


_NOT_STOPPED = frozenset({"parked", "corrupt", "worker_deaths"})
"""Reasons for which a batch goes to the failed list although it is to be stopped: an operator has to
look at it."""


def finish(ctx: BatchContext, event: RunEnded) -> Flow:
    """Store the result of a run that ended well; its reply joins the outbox."""
    if ctx.writes:
        ctx.log.end(ctx.now_ms())
        ctx.progress.shown = event.shown
        written = _written(ctx, event)
        yield steps.Finish(result=written, anchor=event.anchor)
        return steps.Completed(result=written)
    ctx.collect(event)
    ctx.log.end(ctx.now_ms())
    result = yield from _result(ctx, event)
    return (yield from _end(ctx, result, event.anchor))


def _written(ctx: BatchContext, event: RunEnded) -> RunResult:
    """Return the result of a batch that was written without a run: a person's words, or none."""
    messages = ctx.batch.messages
    person = next((one.answered_by for one in messages if one.answered_by is not None), None)
    words = tuple(one.text for one in messages if one.role == "assistant") if person else ()
    return ctx.result_of("", event.status, words, answered_by=person)


def _result(ctx: BatchContext, event: RunEnded) -> Generator[steps.Step, Any, RunResult]:
    progress = ctx.progress
    run_id = event.run_id or str(progress.run_id or "")
    replies = progress.replies
    is_fallback = False
    if event.incomplete_reason == EMPTY and not replies:
        text = yield from _fallback_text(
            ctx, ErrorInfo(code=EMPTY, message="the model ended its answer without a word")
        )
        replies = (text,) if text else ()
        is_fallback = bool(text)
    return ctx.result_of(
        run_id,
        event.status,
        replies,
        model=event.model,
        incomplete_reason=event.incomplete_reason,
        fallback=is_fallback,
    )


def _end(ctx: BatchContext, result: RunResult, anchor: str | None) -> Flow:
    try:
        yield steps.Finish(result=result, anchor=anchor, delivers=ctx.rules.delivers)
    except Wished:
        # The conversation holds the whole reply; the platform is not given it.
        stopped = replace(result, status="stopped")
        yield steps.Stop(result=stopped, anchor=anchor)
        return steps.Stopped(result=stopped)
    return steps.Completed(result=result)


def hand_over(ctx: BatchContext, result: RunResult) -> Flow:
    """End a batch of version 0.1, which kept a batch until its reply was delivered."""
    return (yield from _end(ctx, result, None))


def leave_undeliverable(ctx: BatchContext) -> Flow:
    """End a batch with a run that is over, when neither it nor its record has the result."""
    now = moment(ctx.now_ms())
    result = RunResult(
        thread_id=ctx.batch.thread_id,
        run_id="",
        batch_id=ctx.batch.id,
        message_ids=(),
        messages_processed=0,
        status="completed",
        incomplete_reason=None,
        reply=None,
        replies=(),
        usage=None,
        attempts=0,
        started_at=now,
        ended_at=now,
    )
    error = ErrorInfo(
        code="corrupt",
        message="its record in Redis was changed by another program: its reply is not known",
    )
    yield steps.Finish(result=result, anchor=None, undelivered=error)
    return steps.Failed(reason="corrupt", error=error, progress=ctx.progress)


def bury(ctx: BatchContext, reason: str, info: ErrorInfo, *, deaths: int = 0) -> Flow:
    """Put the batch on the failed list.

    Args:
        ctx: The batch.
        reason: A reason of the failed list.
        info: The error.
        deaths: Workers that died on the way there already.
    """
    progress = ctx.progress
    progress.error = info
    if progress.burying is None:
        ctx.log.end(ctx.now_ms(), info)
    yield from withdraw_calls(ctx)
    if progress.run_id and ctx.capabilities.cancels and _should_cancel(ctx, reason):
        # A run that waits for outputs that are never sent, or that is not watched, keeps the
        # thread's next batch out.
        yield steps.Cancel(
            request=ctx.request or ctx.bare_request(),
            run_id=progress.run_id,
            patience_s=BURIAL_PATIENCE_S,
        )
    if ctx.rules.fallback and not ctx.writes:
        yield from _fall_back(ctx, reason, info, deaths)
    result = progress.result
    yield steps.Bury(
        reason=reason,
        error=info,
        progress=progress,
        open_calls=() if ctx.capabilities.keeps_rounds else ctx.unanswered,
        fallback=None if result is None else result.reply,
        result=result if ctx.rules.delivers else None,
        even_stopped=ctx.is_stopping or reason in _NOT_STOPPED,
    )
    return steps.Failed(reason=reason, error=info, progress=progress)


def _should_cancel(ctx: BatchContext, reason: str) -> bool:
    """Whether the run of a batch may be open, unless too many workers have died cancelling it."""
    progress = ctx.progress
    is_open = (
        bool(progress.calls) if reason in {"attempts", "refused"} else reason == "worker_deaths"
    )
    in_user_code = progress.in_user_code and ctx.deaths >= MAX_DEATHS
    most = MAX_DEATHS if in_user_code else MAX_DEATHS_ELSEWHERE
    return is_open and ctx.all_deaths < most + MAX_DEATHS_BURYING


def _fallback_text(ctx: BatchContext, info: ErrorInfo) -> Generator[steps.Step, Any, str | None]:
    """Return the text to send instead of a reply: of the options, or of the user's callable."""
    fallback = ctx.rules.fallback
    if not isinstance(fallback, bool):
        return fallback
    if not fallback:
        return None
    yield from enter_user_code(ctx, "fallback_reply")
    text: str | None = yield steps.FallBack(batch=ctx.batch, error=info)
    leave_user_code(ctx)
    return text


def _fall_back(ctx: BatchContext, reason: str, info: ErrorInfo, deaths: int) -> Steps:
    """Prepare a fallback for a batch that is given up."""
    progress = ctx.progress
    if progress.burying is None:
        leave_user_code(ctx)  # the function that it is given up for: a fallback is other code
    # Stored with the next step: a worker that takes over sends nothing any more.
    progress.burying = reason
    if progress.result is not None or (deaths >= MAX_DEATHS and ctx.rules.fallback is True):
        return
    text = yield from _fallback_text(ctx, info)
    if text:
        progress.result = ctx.result_of(progress.run_id or "", "failed", (text,), fallback=True)
