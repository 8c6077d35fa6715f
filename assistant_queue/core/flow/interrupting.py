"""Interruption of a batch: its run is cancelled, and it is answered with the messages that wait.

close the stream ─► end the run ─┬─► it ended well: it stands
                                 ├─► its calls are open: outputs go with the new messages
                                 └─► else: another run over what the conversation lacks
"""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.context import AuthorRule, BatchContext
from assistant_queue.core.flow.joining import join, revise
from assistant_queue.core.flow.open_calls import withdraw_calls
from assistant_queue.core.flow.outcome import finish
from assistant_queue.core.flow.preparation import keep
from assistant_queue.core.flow.run_end import Over, StillOpen, end_run
from assistant_queue.core.flow.user_code import break_off_user_code
from assistant_queue.core.runs import FoundBy
from assistant_queue.core.thread_state import Phase

NOT_CALLED = json.dumps({"error": "the function was not called: a new message came before"})
"""Output of a call that an interruption left open."""


def refusal_of(ctx: BatchContext) -> str | None:
    """Return why the batch is not interrupted, as events name it; None if it is."""
    capabilities = ctx.capabilities
    if ctx.progress.interrupts >= ctx.rules.max_interrupts:
        return "max_interrupts"
    if not (capabilities.cancels or capabilities.stateless) and not _is_parked(ctx):
        return "cannot_cancel"
    if ctx.progress.gave_away:
        return "cannot_cancel"  # approved calls may be under way
    if ctx.rules.authors is not AuthorRule.SHARE:
        return "separate_authors"
    return "cannot_cancel" if ctx.writes else None


def _is_parked(ctx: BatchContext) -> bool:
    """Whether a round of calls is stored: nothing works on the batch at the backend."""
    return ctx.capabilities.resumes and ctx.progress.asked is not None


def interrupt(ctx: BatchContext) -> Generator[steps.Step, Any, steps.Ending | None]:
    """End the batch's run, and let the messages that wait join it.

    Returns:
        The end of the batch, if its run ended well before; None if it is sent again, or continues.

    Raises:
        Hold, Park, BackendError: As `end_run` raises them.
        Wished: Every message that wants a reply was removed: the batch is stopped.
    """
    progress = ctx.progress
    was_parked = _is_parked(ctx)
    streamed: tuple[str, ...] = yield steps.CloseStream()
    yield from break_off_user_code(ctx)
    yield from withdraw_calls(ctx)
    run_id = progress.run_id or ""
    if ctx.capabilities.stateless:
        _settle_round(ctx)
    elif ctx.capabilities.found_by is FoundBy.NOT_AT_ALL:
        if ctx.phase is not Phase.FROZEN and ctx.request is None and not was_parked:
            # An earlier worker called the function, which may have ended well.
            yield steps.DeclineInterrupt(reason="cannot_cancel")
            return None
        progress.asked = None
        ctx.phase = Phase.FROZEN
    else:
        try:
            over = yield from end_run(ctx, streamed)
        except StillOpen:
            if ctx.phase is not Phase.RUNNING:
                raise
            yield steps.DeclineInterrupt(reason="cannot_cancel")
            return None  # it is followed to its end
        if over.ended is not None and over.held != 0:  # else all that it answers was replaced
            if over.held:  # what joined later is the next batch
                yield from keep(ctx, over.held)
            return (yield from finish(ctx, over.ended))
        _continue_after(ctx, over)
    progress.interrupts += 1
    ctx.unanswered = ()
    yield from revise(ctx)
    yield from join(ctx, "run_interrupted", run_id)
    ctx.request = None
    return None


def _settle_round(ctx: BatchContext) -> None:
    """Have the last round that is stored answered, if the provider keeps nothing."""
    progress = ctx.progress
    asked = progress.asked
    if asked is not None:
        ctx.collect(asked)
        progress.rounds += 1
        progress.run_id = asked.run_id
        progress.calls = asked.calls
        progress.transcript = asked.transcript
        progress.asked = None
    _answer_open_calls(ctx)
    progress.sent_ms = progress.deadline_ms = 0
    ctx.phase = Phase.SENDING if progress.calls else Phase.FROZEN


def _answer_open_calls(ctx: BatchContext) -> None:
    for call in ctx.progress.calls:
        ctx.progress.outputs.setdefault(call.id, NOT_CALLED)


def _continue_after(ctx: BatchContext, over: Over) -> None:
    """Note what is sent next: outputs of open calls, or what the conversation does not hold."""
    progress = ctx.progress
    progress.submitted = ()
    progress.sent_ms = 0
    progress.calls = over.open_calls if ctx.capabilities.found_by is FoundBy.ANCHOR else ()
    if progress.calls:
        progress.given = max(progress.given, over.held or 0)
        progress.adding = 0
        _answer_open_calls(ctx)
        progress.replies = over.said if not over.unsaid else progress.replies
        ctx.phase = Phase.SENDING
        return
    if over.anchor is not None:
        progress.anchor = over.anchor
    if progress.run_id:
        progress.cut = (*progress.cut, progress.run_id)
    progress.run_id = None
    progress.already_in_thread = False
    if over.stored:
        progress.stored = len(ctx.batch.messages) if over.held is None else over.held
    ctx.phase = Phase.FROZEN
