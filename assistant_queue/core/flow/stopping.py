"""Stop of a batch: its run ends, the conversation remembers it, its messages are cancelled.

    close the stream ─► cancel the run ─► find what became of it ─┬─► remember ─► stop
                              ▲                                   │
                              └── adopted, or still at work ◄─────┘

Nothing is sent for the batch any more. What cannot be found out is parked, as always.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import Unreachable
from assistant_queue.core.flow.asking import ask
from assistant_queue.core.flow.attempt import still_undecided, wait_out_grace
from assistant_queue.core.flow.context import BatchContext, Flow, Steps
from assistant_queue.core.flow.open_calls import withdraw_calls
from assistant_queue.core.flow.preparation import MAX_WRITTEN, items_from, prepare
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
from assistant_queue.values import valueclass

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
    yield from withdraw_calls(ctx)
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
        progress.asked = None
    if over.anchor is not None:
        progress.anchor = over.anchor
    if over.stored:
        progress.given = over.held or 0
    elif not (progress.calls or progress.asked):  # no round stands that it could have begun with
        progress.forget_rounds()
        ctx.request = None
    ctx.unanswered = tuple(call.id for call in over.open_calls)
    ctx.phase = Phase.FROZEN


# --- the conversation -----------------------------------------------------------------------------


@valueclass(frozen=True, slots=True, kw_only=True)
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
    memory = _Memory(anchor=None, is_as_before=not (is_stored or progress.stored))
    if not (ctx.rules.remembers_stopped and ctx.capabilities.writes):
        return memory
    try:
        while items := (yield from _unwritten(ctx, with_own=not is_stored)):
            memory = _Memory(anchor=(yield from _write(ctx, items)), is_written=True)
            if ctx.capabilities.found_by is FoundBy.NOT_AT_ALL:
                break  # all of them, with the end of the batch
            yield from _note_written(ctx, items, memory.anchor, with_own=not is_stored)
    except (UnknownThread, RunVanished, OutcomeUnknown, Unreachable):
        raise
    except BackendError as error:
        is_last = progress.failures + 1 >= ctx.rules.max_attempts
        if error.retryable and not error.outgrown and not is_last:
            raise
    return memory


def _unwritten(
    ctx: BatchContext, *, with_own: bool
) -> Generator[steps.Step, Any, tuple[InputItem, ...]]:
    """Return the next items that the conversation does not hold, as many as one request takes."""
    if ctx.request is None:
        yield from prepare(ctx)
    own = ctx.sent.items if with_own else _joined(ctx)
    if ctx.capabilities.found_by is not FoundBy.NOT_AT_ALL and len(own) >= MAX_WRITTEN:
        return own[:MAX_WRITTEN]
    text = "\n\n".join(ctx.progress.unsaid)
    if not text:
        return own
    return (*own, InputItem(content=text, message_ids=_mark_of(ctx), role="assistant"))


def _note_written(
    ctx: BatchContext, items: tuple[InputItem, ...], anchor: str | None, *, with_own: bool
) -> Steps:
    """Note in the batch's progress that the conversation holds these items."""
    progress = ctx.progress
    count = sum(len(item.message_ids) for item in items if item.message_ids != _mark_of(ctx))
    if anchor is None and ctx.capabilities.found_by is FoundBy.ANCHOR:
        anchor = yield steps.Locate(conversation_id=ctx.sent.conversation_id)
    if with_own:
        progress.stored += count
    else:
        progress.given += count
    if items[-1].message_ids == _mark_of(ctx):
        progress.unsaid = ()
    progress.anchor = anchor
    progress.calls = ()
    progress.sent_ms = 0
    ctx.unanswered = ()
    ctx.request = None
    ctx.phase = Phase.FROZEN


def _mark_of(ctx: BatchContext) -> tuple[str, ...]:
    """Return the mark of the item with what was said."""
    return (f"{ctx.batch.id}-said",)


def _joined(ctx: BatchContext) -> tuple[InputItem, ...]:
    """Return the items of messages that have joined the batch and went with no round that stands."""
    progress = ctx.progress
    return items_from(ctx, progress.given) if progress.has_joined else ()


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
        open_calls=(*_open_before(ctx), *ctx.unanswered),
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


def _open_before(ctx: BatchContext) -> tuple[str, ...]:
    """Return the calls that an earlier batch left open, unless this batch has answered them."""
    progress = ctx.progress
    is_first = progress.stop_stage == OVER and not progress.stored
    return ctx.sent.open_calls if is_first else ()


def _written(ctx: BatchContext) -> Generator[steps.Step, Any, str | None]:
    """Return the conversation's end after the open stream's."""
    ended: RunEnded = yield steps.Watch(
        deadline_ms=ctx.now_ms() + round(ctx.rules.run_timeout_s * 1000)
    )
    return ended.anchor
