"""Attempt of a batch: from its phase, through the tool rounds, to the run's end."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import (
    GiveUp,
    Hold,
    Park,
    Unreachable,
    WorksInBackground,
)
from assistant_queue.core.flow.asking import ask
from assistant_queue.core.flow.background import admit, look
from assistant_queue.core.flow.context import (
    ENDED_WELL,
    OUTCOME_UNKNOWN,
    BatchContext,
    Event,
    Steps,
)
from assistant_queue.core.flow.joining import join
from assistant_queue.core.flow.open_calls import (
    answer_calls,
    carry,
    close_calls,
    forget_rounds,
    resume,
    take_up_round,
)
from assistant_queue.core.flow.preparation import items_from, keep, prepare
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
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import (
    BackendError,
    RunFailed,
    RunVanished,
    StreamCut,
    TooManyToolRounds,
    UnknownThread,
)
from assistant_queue.models import ErrorInfo

MAX_CUTS = 5
"""Streams of one run that may break in a row before the thread is given back for a moment. Chosen:
a proxy that ends every stream is not asked without a pause."""

_LOST = ErrorInfo(
    code="outcome_unknown", message="workers died while they waited for the provider's answer"
)

Reached = Generator[steps.Step, Any, Event]
"""Steps up to the next event: tools are to be called, or the run is over."""


# --- where an earlier holder stopped --------------------------------------------------------------


def reach_event(ctx: BatchContext) -> Reached:
    """Continue from the batch's phase to its next event."""
    parked = resume(ctx)
    if parked is not None:
        return parked
    if ctx.progress.waits:
        # Its round was stored with all outputs.
        yield from close_calls(ctx)
    if ctx.capabilities.stateless and ctx.phase is not Phase.FROZEN:
        return (yield from _repeat(ctx))
    if ctx.phase is Phase.SENDING and _has_outputs_to_send(ctx):
        return (yield from submit(ctx, ctx.progress.run_id or ""))
    if ctx.phase is Phase.SENDING:
        return (yield from _find(ctx))
    if ctx.phase is Phase.RUNNING and ctx.progress.run_id is not None:
        if not ctx.capabilities.follows:
            return (yield from _find(ctx))
        if ctx.awaits_runs:
            return (yield from look(ctx, ctx.progress.run_id))
        return (yield from _follow(ctx, ctx.progress.run_id))
    return (yield from send(ctx))


def _has_outputs_to_send(ctx: BatchContext) -> bool:
    """Whether the outputs are nowhere: the conversation was too long for them, or for their run."""
    progress = ctx.progress
    was_too_long = progress.origin is not None or progress.shortened > 0
    return bool(progress.calls) and not progress.sent_ms and was_too_long


def _repeat(ctx: BatchContext) -> Reached:
    """Continue after the last round that is stored.

    The provider keeps nothing, so nothing is doubled there.
    """
    progress = ctx.progress
    if not progress.deadline_ms:
        ctx.new_deadline()
    if progress.asked is not None:
        # The calls were being answered: the same ones, with the outputs that are known.
        return progress.asked
    if progress.sent_ms:
        # A failure would have taken this back: the worker that sent it died, or was stopped.
        _lose(ctx, _LOST)
    if not progress.calls:
        return (yield from send(ctx))
    progress.attempts += 1
    return (yield from submit(ctx, progress.run_id or ""))


def _lose(ctx: BatchContext, info: ErrorInfo) -> None:
    """Count a request that came to nothing, or take it back if it does not count.

    Raises:
        GiveUp: It was the last attempt.
    """
    progress = ctx.progress
    if progress.passing and ctx.is_patient:
        progress.refusals += 1
        progress.attempts -= not progress.calls  # it is counted again when it is sent again
    elif progress.sent_ms:
        progress.failures += 1
        if progress.failures >= ctx.rules.max_attempts:
            raise GiveUp(progress.error or info)
    progress.passing = False


def _find(ctx: BatchContext) -> Reached:
    """Ask the provider what became of the last request, after the grace."""
    progress = ctx.progress
    wait_out_grace(ctx)
    run_id = progress.run_id or progress.given_up
    finding: Finding = yield from ask(
        steps.Find(request=ctx.sent, run_id=run_id, calls=progress.calls)
    )
    if progress.given_up is not None and not progress.run_id and not progress.calls:
        if _came_to_nothing(finding, progress.given_up):
            progress.given_up = None  # what is left is what the conversation holds
            return (yield from _find(ctx))
        if isinstance(finding, RunAccepted):
            finding = Undecided()
    return (yield from _act_on(ctx, finding))


def _came_to_nothing(finding: Finding, run_id: str) -> bool:
    return (
        isinstance(finding, RunEnded)
        and finding.run_id == run_id
        and finding.status not in ENDED_WELL
    )


def wait_out_grace(ctx: BatchContext) -> None:
    """Wait until the last request can no longer be on its way.

    Raises:
        Hold: The grace is not over.
    """
    sent_ms = ctx.progress.sent_ms
    wait_ms = sent_ms + ctx.rules.grace_s * 1000 - ctx.now_ms()
    if sent_ms and wait_ms > 0:
        raise Hold(wait_ms / 1000)


def _act_on(ctx: BatchContext, finding: Finding) -> Reached:
    """Continue with what the provider knows of the batch."""
    progress = ctx.progress
    if isinstance(finding, CannotAsk):
        raise Park(finding.reason)
    if isinstance(finding, Undecided):
        raise still_undecided(ctx)
    progress.undecided_since_ms = 0
    if isinstance(finding, RunAccepted):
        yield from save_running(ctx, finding.run_id)
        if ctx.awaits_runs:
            return (yield from look(ctx, finding.run_id))
        return (yield from _follow(ctx, finding.run_id))
    if isinstance(finding, NotFound):
        return (yield from _not_found(ctx, finding))
    progress.run_id = finding.run_id or progress.run_id
    ctx.unanswered = ()
    if progress.has_joined and progress.calls:
        # Outputs were found; of the messages that were to go with them, another request may have
        # left before they joined.
        progress.adding = 0
        if isinstance(finding, RunEnded) and finding.steered is not None:
            yield from keep(ctx, max(progress.given, progress.begun + finding.steered, 1))
    if isinstance(finding, ActionRequired):
        ctx.unanswered = tuple(call.id for call in finding.calls)
        if progress.deadline_ms <= ctx.now_ms():
            # Its attempt was given up, or no worker was there: the functions get the time that a
            # run gets, not none.
            ctx.new_deadline()
    return finding


def still_undecided(ctx: BatchContext) -> Hold | Park:
    """Return what to raise while the provider works on the conversation, for whatever request."""
    progress = ctx.progress
    now = ctx.now_ms()
    progress.undecided_since_ms = progress.undecided_since_ms or now
    limit_s = ctx.rules.run_timeout_s if progress.given_up is None else ctx.rules.retry_for_s
    if now - progress.undecided_since_ms > limit_s * 1000:
        return Park(
            "the provider has been working on this conversation for too long: it does not say on"
            " what, or cannot be stopped"
        )
    progress.sent_ms = now
    return Hold(ctx.rules.grace_s)


def _not_found(ctx: BatchContext, finding: NotFound) -> Reached:
    """Send again what the provider does not hold."""
    progress = ctx.progress
    _lose(ctx, OUTCOME_UNKNOWN)
    take_up_round(ctx)
    if progress.calls:
        return (yield from submit(ctx, progress.run_id or ""))
    # Another writer's items may stand where the batch was looked for: it comes after them.
    progress.anchor = finding.anchor
    keeps_text = finding.holds_text and ctx.capabilities.keeps_failed_text
    progress.already_in_thread = progress.already_in_thread or keeps_text
    if progress.has_joined:  # of those that have joined it, nothing is there either
        ctx.phase = Phase.FROZEN
        yield from prepare(ctx)
    items = () if progress.already_in_thread else ctx.sent.items
    ctx.request = replace(ctx.sent, anchor=finding.anchor, items=items)
    return (yield from send(ctx))


def _follow(ctx: BatchContext, run_id: str) -> Reached:
    yield from ask(steps.Follow(request=ctx.sent, run_id=run_id))
    return (yield from watch(ctx))


# --- send, watch, answer --------------------------------------------------------------------------


def send(ctx: BatchContext) -> Reached:
    """Send the batch and watch its run."""
    progress = ctx.progress
    if ctx.sent.writes and ctx.capabilities.found_by is FoundBy.NOT_AT_ALL:
        return (yield from _remember(ctx))
    if ctx.awaits_runs:
        yield from admit()
    progress.attempts += 1
    progress.run_id = None
    progress.transcript = None
    progress.given_up = None
    progress.rounds = 0
    progress.replies = ()
    progress.shown = ()
    progress.usage = None
    forget_rounds(ctx)
    progress.sent_ms = progress.run_sent_ms = ctx.now_ms()
    progress.first_text_ms = 0
    ctx.log.send(progress.attempts, progress.sent_ms)
    ctx.new_deadline()
    # Written before the request leaves: a worker that finds this phase knows that the batch may
    # have been accepted.
    yield from ctx.save(Phase.SENDING, leaves=True)
    started: RunAccepted = yield steps.Start(request=ctx.sent)
    yield from save_running(ctx, started.run_id)
    return (yield from watch_or_park(ctx))


def _remember(ctx: BatchContext) -> Reached:
    """Add the batch to the history, which is stored with the result.

    Nothing leaves, so nothing is stored before: a worker that dies has done nothing.
    """
    ctx.new_deadline()
    yield steps.Start(request=ctx.sent)
    return (yield from watch(ctx))


def save_running(ctx: BatchContext, run_id: str) -> Steps:
    """Store that the run was accepted."""
    progress = ctx.progress
    progress.run_id = run_id
    ctx.log.run(run_id)
    progress.waiting_since_ms = 0
    progress.refusals = 0
    progress.passing = False
    if not ctx.capabilities.stateless:
        progress.submitted, progress.calls = progress.calls, ()
    ctx.unanswered = ()
    yield from ctx.save(Phase.RUNNING)


def watch_or_park(ctx: BatchContext) -> Reached:
    """Read the open stream to its end.

    Raises:
        WorksInBackground: The run needs no reader.
    """
    if ctx.awaits_runs:
        raise WorksInBackground
    return (yield from watch(ctx))


def watch(ctx: BatchContext) -> Reached:
    """Read the open stream to its end; follow the run again if it breaks."""
    cuts = 0
    while True:
        try:
            event: Event = yield steps.Watch(deadline_ms=ctx.progress.deadline_ms)
        except StreamCut as error:
            if ctx.capabilities.stateless:
                raise
            if not ctx.capabilities.follows:
                return (yield from _find(ctx))
            cuts += 1
            if cuts > MAX_CUTS:
                raise Unreachable(error) from error
            yield from ask(steps.Follow(request=ctx.sent, run_id=ctx.progress.run_id or ""))
        except (RunFailed, RunVanished, UnknownThread):
            raise
        except BackendError as error:
            raise Unreachable(error) from error
        else:
            if isinstance(event, ActionRequired):
                ctx.unanswered = tuple(call.id for call in event.calls)
            return event


def answer(ctx: BatchContext, event: ActionRequired) -> Reached:
    """Call the functions of a tool round, store their outputs and submit them.

    Raises:
        RoundOpen: Some of the calls are answered from outside, and are open.
        TooManyToolRounds: The batch has had `max_tool_rounds`.
    """
    progress = ctx.progress
    if progress.rounds >= ctx.rules.max_tool_rounds:
        times = progress.rounds + 1
        raise TooManyToolRounds(
            f"the model asked for tools {times} times in one batch; the limit is max_tool_rounds"
        )
    # Found again by its items, a round has no known id.
    run_id = event.run_id or progress.run_id or ""
    new = tuple(call for call in event.calls if call.id not in progress.outputs)
    if progress.has_joined:
        # A round's texts are in the conversation, or in its transcript, when it has ended.
        read = progress.begun + event.steered
        progress.given = max(progress.given, progress.adding, read)
        progress.adding = 0
    yield from answer_calls(ctx, event, run_id)
    # Only now: a worker that resumes before the outputs are stored sees the same event and
    # collects it then.
    ctx.collect(event)
    progress.rounds += 1
    progress.run_id = run_id
    progress.calls = event.calls
    progress.transcript = event.transcript
    progress.asked = None
    if progress.detached:
        return (yield from _submit_in_words(ctx))
    return (yield from submit(ctx, run_id, tuple(call.id for call in new)))


def _submit_in_words(ctx: BatchContext) -> Reached:
    """Start another run that reads the outputs: the one that asked was ended."""
    progress = ctx.progress
    carry(ctx, progress.calls)
    progress.calls = ()
    # The outputs are stored before their records go.
    yield from ctx.save(Phase.FROZEN)
    yield from close_calls(ctx)
    ctx.request = None
    yield from prepare(ctx)
    return (yield from send(ctx))


def submit(ctx: BatchContext, run_id: str, answered: tuple[str, ...] = ()) -> Reached:
    """Submit the outputs of the open calls and watch the run."""
    progress = ctx.progress
    calls = ctx.progress.calls
    progress.sent_ms = ctx.now_ms()
    # The outputs are stored before they are submitted: a crash between does not call the user's
    # function again.
    ctx.phase = Phase.SENDING
    yield steps.Save(phase=ctx.phase, progress=progress, answered=answered, leaves=True)
    if ctx.wish_now() is Wish.STEER and ctx.capabilities.steers:
        yield from join(ctx, "message_steered")
    added = items_from(ctx, progress.given) if progress.has_joined else ()
    progress.adding = len(ctx.batch.messages) if progress.has_joined else 0
    started: RunAccepted = yield steps.Submit(
        request=replace(ctx.sent, transcript=progress.transcript, added=added),
        run_id=run_id,
        calls=calls,
        outputs={call.id: progress.outputs[call.id] for call in calls},
    )
    yield from save_running(ctx, started.run_id)
    if progress.waits:
        yield from close_calls(ctx)
    return (yield from watch_or_park(ctx))
