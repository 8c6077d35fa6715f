"""Stop of a batch: its run ends, the conversation remembers it, its messages are cancelled.

    close the stream ─► cancel the run ─► find what became of it ─┬─► remember ─► stop
                              ▲                                   │
                              └── adopted, or still at work ◄─────┘

Nothing is sent for the batch any more. What cannot be found out is parked, as always.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Unreachable
from assistant_queue.core.flow.attempt import ask, still_undecided, wait_out_grace
from assistant_queue.core.flow.context import BatchContext, Flow
from assistant_queue.core.flow.preparation import items_from, prepare
from assistant_queue.core.flow.run_end import Over, end_run
from assistant_queue.core.flow.user_code import break_off_user_code
from assistant_queue.core.runs import (
    Finding,
    FoundBy,
    InputItem,
    NotFound,
    RunEnded,
    Undecided,
)
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import BackendError, OutcomeUnknown, RunVanished, UnknownThread

STORED = "stored"
"""`Progress.stop_stage`: the run is over, and the batch's texts are in the conversation."""
OVER = "over"
"""`Progress.stop_stage`: the run is over, and the batch's texts are not in the conversation."""


def stop(ctx: BatchContext) -> Flow:
    """End the batch for good.

    Raises:
        Hold: The provider has to be asked again later.
        Park: It cannot say what became of a request.
        BackendError: As a request to it raised.
    """
    ctx.is_stopping = True
    progress = ctx.progress
    streamed: tuple[str, ...] = yield steps.CloseStream()
    yield from break_off_user_code(ctx)
    run_id = progress.run_id or ""
    try:
        if not progress.stop_stage:
            over = yield from end_run(ctx, streamed)
            run_id = progress.run_id or run_id
            _note(ctx, over)
        memory = yield from _remember(ctx)
    except (UnknownThread, RunVanished):
        memory = _Memory(anchor=None)  # there is no conversation that could remember it
    result = ctx.result_of(run_id, "stopped", progress.said)
    ctx.log.end(ctx.now_ms())
    open_calls = () if ctx.capabilities.stateless or memory.is_written else ctx.unanswered
    yield steps.Stop(
        result=result, anchor=memory.anchor, keep_anchor=memory.is_as_before, open_calls=open_calls
    )
    return steps.Stopped(result=result)


def _note(ctx: BatchContext, over: Over) -> None:
    """Note in the batch's progress that its run is over."""
    progress = ctx.progress
    progress.stop_stage = STORED if over.stored else OVER
    progress.said = over.said
    progress.unsaid = over.unsaid
    progress.sent_ms = 0
    if not ctx.capabilities.stateless:
        # Calls that the conversation holds need outputs there, from any worker.
        is_by_anchor = ctx.capabilities.found_by is FoundBy.ANCHOR
        progress.calls = over.open_calls if is_by_anchor else ()
        progress.submitted = ()
    if over.anchor is not None:
        progress.anchor = over.anchor
    if over.stored:
        progress.given = over.held
    elif not (progress.calls or progress.asked):  # no round stands that it could have begun with
        progress.begun = progress.given = progress.adding = 0
        ctx.request = None
    ctx.unanswered = tuple(call.id for call in over.open_calls)
    ctx.phase = Phase.FROZEN


# --- the conversation -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """The conversation after a stop.

    Attributes:
        anchor: Its end; None if it is not known.
        is_as_before: Nothing of the batch is in it.
        is_written: Items were written to it, with outputs for open calls.
    """

    anchor: str | None
    is_as_before: bool = False
    is_written: bool = False


def _remember(ctx: BatchContext) -> Generator[steps.Step, Any, _Memory]:
    """Write to the conversation what it does not hold."""
    progress = ctx.progress
    is_stored = progress.stop_stage == STORED
    nothing = _Memory(anchor=None, is_as_before=not is_stored)
    if not (ctx.rules.remembers_stopped and ctx.capabilities.writes):
        return nothing
    try:
        items = yield from _unwritten(ctx, with_own=not is_stored)
        if not items:
            return nothing
        return _Memory(anchor=(yield from _write(ctx, items)), is_written=True)
    except (UnknownThread, RunVanished, OutcomeUnknown, Unreachable):
        raise
    except BackendError as error:
        is_last = progress.failures + 1 >= ctx.rules.max_attempts
        if error.retryable and not error.outgrown and not is_last:
            raise
        return nothing


def _unwritten(
    ctx: BatchContext, *, with_own: bool
) -> Generator[steps.Step, Any, tuple[InputItem, ...]]:
    """Return the items that the conversation does not hold."""
    if ctx.request is None:
        yield from prepare(ctx)
    own = ctx.sent.items if with_own else _joined(ctx)
    text = "\n\n".join(ctx.progress.unsaid)
    if not text:
        return own
    mark = f"{ctx.batch.id}-said"
    return (*own, InputItem(content=text, message_ids=(mark,), role="assistant"))


def _joined(ctx: BatchContext) -> tuple[InputItem, ...]:
    """Return the items of messages that have joined the batch and went with no round that stands."""
    progress = ctx.progress
    return items_from(ctx, progress.given) if progress.begun else ()


def _write(ctx: BatchContext, items: tuple[InputItem, ...]) -> Generator[steps.Step, Any, Any]:
    """Write items to the conversation; return its end, None if it is not known."""
    progress = ctx.progress
    was_sent = ctx.phase is Phase.SENDING
    asked = progress.asked.transcript if progress.asked else None
    ctx.request = replace(
        ctx.sent,
        items=items,
        added=_joined(ctx) if ctx.capabilities.stateless else (),
        writes=True,
        anchor=ctx.sent.anchor if ctx.capabilities.stateless else progress.anchor,
        open_calls=(*ctx.sent.open_calls, *ctx.unanswered),
        transcript=asked or progress.transcript,
        outputs=dict(progress.outputs),
        again=was_sent or ctx.sent.again,
    )
    if ctx.capabilities.found_by is FoundBy.NOT_AT_ALL:
        yield steps.Start(request=ctx.request)
        return (yield from _written(ctx))
    if was_sent:
        wait_out_grace(ctx)
        finding: Finding = yield from ask(steps.Find(request=ctx.sent, run_id=None, calls=()))
        if isinstance(finding, Undecided):
            raise still_undecided(ctx)
        if not isinstance(finding, NotFound):
            return finding.anchor if isinstance(finding, RunEnded) else None
    progress.sent_ms = ctx.now_ms()
    ctx.new_deadline()  # until then, and `retry_for` more, the provider is asked about it
    # Written before the request leaves, as that of a run.
    yield from ctx.save(Phase.SENDING, leaves=True)
    yield steps.Start(request=ctx.sent)
    return (yield from _written(ctx))


def _written(ctx: BatchContext) -> Generator[steps.Step, Any, str | None]:
    """Return the conversation's end after the open stream's."""
    ended: RunEnded = yield steps.Watch(
        deadline_ms=ctx.now_ms() + round(ctx.rules.run_timeout_s * 1000)
    )
    return ended.anchor
