"""Choose the verdict on a message or a thread from the stored facts. Pure.

The order of the questions is that of an operator: what ended comes first, then what a person did
(pauses), then the thread's own time, then the workers.
"""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.core.explaining.explanation import (
    Judgement,
    clock_time,
    error_words,
    in_future,
)
from assistant_queue.core.explaining.facts import MessageFacts
from assistant_queue.core.explaining.of_ends import ended, idle, in_outbox, stopped
from assistant_queue.core.explaining.of_runs import in_run, in_stop, parked
from assistant_queue.core.explaining.of_workers import (
    is_deserted,
    paused_verdict,
    taken_over_verdict,
    without_worker,
)
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import is_never
from assistant_queue.models import ExplanationVerdict


def judge_facts(facts: MessageFacts) -> Judgement:
    """Return the verdict, with its evidence."""
    found = _judge(facts)
    if not facts.job_id:
        return found
    because = (f"wake-up {facts.job_id} is one of this thread", *found.because)
    return replace(found, because=because, evidence={**found.evidence, "job_id": facts.job_id})


def _judge(facts: MessageFacts) -> Judgement:
    if not facts.is_known:
        return Judgement(
            verdict=ExplanationVerdict.UNKNOWN,
            because=("Redis has neither a message, a thread nor a wake-up of this id",),
        )
    if facts.is_cancelled and facts.batch_id:
        return stopped(facts)
    if facts.is_cancelled:
        return Judgement(
            verdict=ExplanationVerdict.CANCELLED, because=(_queued(facts), "it was withdrawn")
        )
    if _is_in_old_delivery(facts):
        found = _open_thread(facts)
        if found.verdict is ExplanationVerdict.BACKING_OFF:
            found = replace(found, verdict=ExplanationVerdict.DELIVERY_RETRYING)
        return replace(found, because=("it was answered", *found.because))
    if facts.outcome.state:
        return ended(facts)
    if facts.is_message:
        return _open_message(facts)
    if facts.thread.state is ThreadState.IDLE:
        if facts.outbox.waiting:
            return in_outbox(replace(facts, batch_id=facts.outbox.batch_id))
        return idle(facts)
    return _open_thread(facts)


def _is_in_old_delivery(facts: MessageFacts) -> bool:
    """Whether a worker of version 0.1 delivers the reply: the thread keeps its batch meanwhile."""
    thread = facts.thread
    is_of_batch = bool(facts.batch_id) and thread.batch_id == facts.batch_id
    return is_of_batch and thread.phase is Phase.DELIVERING and facts.outcome.state == "completed"


def needs_line(facts: MessageFacts) -> bool:
    """Whether the answer depends on the line of due threads and the workers' signs of life."""
    thread = facts.thread
    outbox = facts.outbox
    now = facts.now_ms
    if not facts.is_known or facts.is_cancelled or facts.outcome.delivery == "delivered":
        return False
    is_over = bool(facts.outcome.state) and not _is_in_old_delivery(facts)
    if is_over or thread.state is ThreadState.IDLE:
        return bool(outbox.waiting) and outbox.due_ms <= now and not outbox.is_leased
    if thread.is_leased and thread.until_ms > now:
        return False
    return thread.state is ThreadState.ACTIVE or thread.due_ms <= now


def _open_message(facts: MessageFacts) -> Judgement:
    if facts.batch_id and not facts.is_in_batch:
        return Judgement(
            verdict=ExplanationVerdict.UNKNOWN,
            because=(_queued(facts), f"it was in batch {facts.batch_id}, whose record is gone"),
            batch_id=facts.batch_id,
        )
    if facts.thread.state is ThreadState.IDLE:
        return Judgement(
            verdict=ExplanationVerdict.UNKNOWN,
            because=(
                _queued(facts),
                "its thread does not hold it any more: the keys of the thread were removed",
            ),
        )
    found = _open_thread(facts)
    is_behind = bool(facts.thread.batch_id) and not facts.is_in_batch
    before = "an earlier batch of its thread is before it" if is_behind else ""
    return replace(
        found,
        because=(_queued(facts), before, *found.because),
        evidence={**found.evidence, "is_behind": is_behind or None},
    )


def _queued(facts: MessageFacts) -> str:
    return f"it was added at {clock_time(facts.queued_ms)}" if facts.queued_ms else ""


def _open_thread(facts: MessageFacts) -> Judgement:
    thread = facts.thread
    now = facts.now_ms
    is_held = thread.state is ThreadState.ACTIVE and thread.is_leased and thread.until_ms > now
    if is_held:
        return in_stop(facts, in_run(facts)) if thread.is_stopping else in_run(facts)
    paused = paused_verdict(facts)
    if paused is not None and not thread.is_stopping:  # a pause does not keep a stop
        error = thread.progress.error
        failed = f"its last attempt failed with {error_words(error)}" if error else ""
        return replace(
            paused, because=(*paused.because, failed), batch_id=thread.batch_id, error=error
        )
    taken = taken_over_verdict(facts)
    if taken is not None:
        return taken
    if thread.state is ThreadState.PENDING and is_never(thread.due_ms):
        return Judgement(
            verdict=ExplanationVerdict.NO_REPLY_WANTED,
            because=(f"{thread.waiting} message(s) wait, none of which wants a reply",),
            evidence={"waiting": thread.waiting},
        )
    if thread.state is not ThreadState.ACTIVE and thread.due_ms > now:
        found = _before_its_time(facts)
        return in_stop(facts, found) if thread.is_stopping else found
    if thread.state is ThreadState.PENDING and thread.is_leased and thread.until_ms > now:
        return Judgement(
            verdict=ExplanationVerdict.DIRECT_CALL,
            because=(f"its lease lasts until {in_future(thread.until_ms, now)}",),
            since_ms=thread.due_ms,
            until_ms=thread.until_ms,
        )
    found = without_worker(facts)
    asked = "it is to be stopped" if thread.is_stopping else ""
    return replace(found, because=(asked, *found.because))


def _before_its_time(facts: MessageFacts) -> Judgement:
    thread = facts.thread
    now = facts.now_ms
    progress = thread.progress
    when = in_future(thread.due_ms, now)
    if thread.state is ThreadState.PENDING:
        return Judgement(
            verdict=ExplanationVerdict.WINDOW_OPEN,
            because=(
                f"{thread.waiting} message(s) wait for its end at {when}",
                "no worker is alive either: start assistant-queue worker"
                if is_deserted(facts.workers)
                else "",
            ),
            since_ms=thread.first_ms,
            until_ms=thread.due_ms,
            evidence={"waiting": thread.waiting},
        )
    if thread.state is ThreadState.PARKED:
        return parked(thread, when)
    rows = progress.tries
    evidence = {"attempts": progress.attempts, "refusals": progress.refusals or None}
    if thread.state is ThreadState.HELD:
        return Judgement(
            verdict=ExplanationVerdict.HELD,
            because=(
                f"attempt {progress.attempts} ended with {error_words(progress.error)}",
                f"the provider is asked at {when}",
            ),
            since_ms=progress.sent_ms,
            until_ms=thread.due_ms,
            batch_id=thread.batch_id,
            error=progress.error,
            evidence=evidence,
        )
    waited = f", of which {progress.refusals} do not count" if progress.refusals else ""
    return Judgement(
        verdict=ExplanationVerdict.BACKING_OFF,
        because=(
            f"after {progress.attempts + progress.refusals} attempt(s){waited}",
            f"the last failure is {error_words(progress.error)}",
            f"the next attempt is made at {when}",
        ),
        since_ms=rows[-1].ended_ms if rows else 0,
        until_ms=thread.due_ms,
        batch_id=thread.batch_id,
        error=progress.error,
        evidence=evidence,
    )
