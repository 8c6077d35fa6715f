"""End of a run that is not wanted any more: it is cancelled, and what became of it is read back.

    cancel the run ─► find what became of it ─► over
          ▲                     │
          └── adopted ◄─────────┘

The provider is asked first about a request without an answer; a run that cannot be cancelled is
waited for.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Hold, Park
from assistant_queue.core.flow.asking import ask
from assistant_queue.core.flow.attempt import save_running, still_undecided, wait_out_grace
from assistant_queue.core.flow.context import ENDED_WELL, BatchContext
from assistant_queue.core.flow.preparation import prepare
from assistant_queue.core.flow.retrying import ask_wait_s
from assistant_queue.core.runs import (
    ActionRequired,
    CannotAsk,
    Finding,
    FoundBy,
    NotFound,
    RunAccepted,
    RunEnded,
    Undecided,
)
from assistant_queue.core.thread_state import Phase
from assistant_queue.models import ToolCall
from assistant_queue.values import valueclass


class StillOpen(Hold):
    """The run cannot be cancelled, or takes a while to end."""


@valueclass(frozen=True, slots=True, kw_only=True)
class Over:
    """A run that is over.

    Attributes:
        said: Texts of the model.
        unsaid: Those of them that the conversation does not hold.
        stored: The conversation holds the batch's own texts.
        held: How many of its messages, if others have joined it since the run had begun; else None.
        open_calls: Calls without outputs there.
        anchor: The conversation's end; None if it is as before the batch, or not known.
        ended: Its end, if it ended well before it could be cancelled.
    """

    said: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()
    stored: bool = False
    held: int | None = None
    open_calls: tuple[ToolCall, ...] = ()
    anchor: str | None = None
    ended: RunEnded | None = None


def end_run(ctx: BatchContext, streamed: tuple[str, ...]) -> Generator[steps.Step, Any, Over]:
    """Cancel the batch's run, if there may be one, and return what became of it.

    `streamed` are the texts that were read of its stream.

    Raises:
        Hold: The provider has to be asked again later.
        Park: It cannot say what became of a request.
        BackendError: As a request to it raised.
    """
    progress = ctx.progress
    if ctx.capabilities.stateless or ctx.capabilities.found_by is FoundBy.NOT_AT_ALL:
        # The stream was the run.
        return Over(said=(*progress.replies, *streamed), unsaid=streamed)
    if ctx.phase is Phase.FROZEN:
        return Over(stored=progress.already_in_thread)
    if ctx.request is None:
        yield from prepare(ctx)
    was_cancelled = False
    while True:
        if not was_cancelled and _may_cancel(ctx):
            was_cancelled = True
            yield steps.Cancel(request=ctx.sent, run_id=progress.run_id or "")
        finding = yield from _find(ctx)
        if isinstance(finding, RunAccepted | ActionRequired) and _is_open(ctx, finding):
            progress.run_id = finding.run_id or progress.run_id
            if ctx.phase is not Phase.RUNNING and progress.run_id:
                yield from save_running(ctx, progress.run_id)
        is_cancelable = ctx.capabilities.cancels and not was_cancelled and bool(progress.run_id)
        if not (_is_open(ctx, finding) and is_cancelable):
            return (yield from _over(ctx, finding, streamed))


def _may_cancel(ctx: BatchContext) -> bool:
    """Whether the run that is known is the one that may be at work."""
    progress = ctx.progress
    is_latest = not progress.calls or ctx.capabilities.found_by is FoundBy.METADATA
    return ctx.capabilities.cancels and bool(progress.run_id) and is_latest


def _find(ctx: BatchContext) -> Generator[steps.Step, Any, Finding]:
    progress = ctx.progress
    run_id = progress.run_id or progress.given_up
    is_one_run = ctx.capabilities.found_by is FoundBy.METADATA
    calls = () if is_one_run and progress.run_id else progress.calls
    finding: Finding = yield from ask(steps.Find(request=ctx.sent, run_id=run_id, calls=calls))
    return finding


def _is_open(ctx: BatchContext, finding: Finding) -> bool:
    """Whether a run is at work, or keeps the conversation from others until it has outputs."""
    waits = isinstance(finding, ActionRequired) and ctx.capabilities.found_by is FoundBy.METADATA
    return isinstance(finding, RunAccepted) or waits


def _over(
    ctx: BatchContext, finding: Finding, streamed: tuple[str, ...]
) -> Generator[steps.Step, Any, Over]:
    """Return what a finding means for the conversation.

    Raises:
        Hold, Park: As `end_run` raises them.
    """
    progress = ctx.progress
    before = progress.replies
    if isinstance(finding, CannotAsk):
        raise Park(finding.reason)
    if isinstance(finding, Undecided):
        raise still_undecided(ctx)
    progress.undecided_since_ms = 0
    if _is_open(ctx, finding) and not ctx.situation.is_overdue:
        raise StillOpen(ask_wait_s(ctx))
    if isinstance(finding, NotFound):
        wait_out_grace(ctx)
        stored = finding.holds_text or progress.already_in_thread or bool(progress.calls)
        return Over(
            said=before,
            stored=stored,
            held=progress.given if progress.has_joined else None,
            open_calls=progress.calls,
            anchor=finding.anchor,
        )
    if isinstance(finding, RunAccepted):  # for ever, as it seems
        kept = ctx.capabilities.keeps_failed_text
        return Over(said=(*before, *streamed), unsaid=streamed, stored=kept)
    shown = finding.replies or streamed
    said = finding.replies if finding.whole and finding.replies else (*before, *shown)
    if isinstance(finding, ActionRequired):
        return Over(
            said=said,
            stored=True,
            held=_held(ctx, finding),
            open_calls=finding.calls,
            anchor=finding.anchor,
        )
    if finding.status in ENDED_WELL:
        held = _held(ctx, finding)
        return Over(said=said, stored=True, held=held, anchor=finding.anchor, ended=finding)
    if ctx.capabilities.found_by is FoundBy.METADATA:
        unsaid = () if finding.replies else streamed
        return Over(said=said, unsaid=unsaid, stored=ctx.capabilities.keeps_failed_text)
    return (yield from _read_back(ctx, said, shown))


def _held(ctx: BatchContext, finding: Finding) -> int | None:
    """Return how many of the batch's messages the conversation holds, as `Over.held` says."""
    progress = ctx.progress
    if not progress.has_joined:
        return None
    read = finding.steered if isinstance(finding, ActionRequired | RunEnded) else None
    if progress.calls:  # found by their outputs
        known = progress.begun + read if read is not None else len(ctx.batch.messages)
        return max(progress.given, known)
    read = read or 0
    return max(progress.given, progress.adding, progress.begun + read)


def _read_back(
    ctx: BatchContext, said: tuple[str, ...], unsaid: tuple[str, ...]
) -> Generator[steps.Step, Any, Over]:
    """Return what the conversation holds of a run that was cancelled."""
    submitted = ctx.progress.submitted
    question = steps.Find(request=ctx.sent, run_id=None, calls=submitted)
    finding: Finding = yield from ask(question)
    if isinstance(finding, NotFound):
        return Over(
            said=said,
            unsaid=unsaid,
            stored=bool(submitted) or ctx.progress.already_in_thread,
            held=ctx.progress.given if ctx.progress.has_joined else None,
            open_calls=submitted,
            anchor=finding.anchor,
        )
    replies = finding.replies if isinstance(finding, ActionRequired | RunEnded) else ()
    calls = finding.calls if isinstance(finding, ActionRequired) else ()
    anchor = finding.anchor if isinstance(finding, ActionRequired | RunEnded) else None
    return Over(
        said=said,
        unsaid=() if replies else unsaid,
        stored=True,
        held=_held(ctx, finding),
        open_calls=calls,
        anchor=anchor,
    )
