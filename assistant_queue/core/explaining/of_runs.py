"""Verdicts on threads whose batch a worker holds. Pure."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.core.explaining.explanation import (
    Judgement,
    clock_time,
    for_so_long,
    span,
)
from assistant_queue.core.explaining.facts import MessageFacts, ThreadFacts
from assistant_queue.core.thread_state import Phase
from assistant_queue.models import ExplanationVerdict


def in_stop(facts: MessageFacts, found: Judgement) -> Judgement:
    """Return the verdict on a batch that is to be stopped; `found` is that without the stop."""
    since_ms = min(facts.thread.wished_ms, facts.now_ms)
    asked = f"it is to be stopped {for_so_long(since_ms, facts.now_ms)}" if since_ms else ""
    return replace(
        found,
        verdict=ExplanationVerdict.STOPPING,
        because=(asked, *found.because),
        since_ms=since_ms,
    )


def in_run(facts: MessageFacts) -> Judgement:
    """Return the verdict on a batch that a worker holds."""
    thread = facts.thread
    now = facts.now_ms
    progress = thread.progress
    rows = progress.tries
    worker = rows[-1].worker if rows else ""
    found = Judgement(
        verdict=ExplanationVerdict.RUNNING,
        because=(),
        until_ms=progress.deadline_ms,
        batch_id=thread.batch_id,
        error=progress.error,
        evidence={
            "attempts": progress.attempts,
            "run_id": progress.run_id,
            "worker": worker,
            "phase": thread.phase.value if thread.phase else None,
            "deaths": thread.deaths or None,
        },
    )
    by = f"worker {worker} has it" if worker else "a worker has it"
    lost = f"{thread.deaths} worker(s) died over it in this phase" if thread.deaths else ""
    if progress.in_user_code and not thread.deaths:
        name = progress.called or "a function"
        since = for_so_long(progress.called_ms, now) if progress.called_ms else ""
        what = (
            f"{name} waits until no other batch that may crash the process runs such code"
            if progress.waits_for_exclusive
            else f"{name} is being called {since}".rstrip()
        )
        return replace(
            found,
            verdict=ExplanationVerdict.USER_CODE,
            because=(by, what),
            since_ms=progress.called_ms,
            evidence={**found.evidence, "function": progress.called},
        )
    if thread.phase is Phase.DELIVERING:
        return replace(found, verdict=ExplanationVerdict.DELIVERING, because=(by, lost), until_ms=0)
    sent_ms = progress.run_sent_ms
    if thread.phase is Phase.FROZEN or not sent_ms:
        taken = f"it was claimed at {clock_time(thread.claimed_ms)} ({span(now - thread.claimed_ms)} ago)"
        return replace(
            found,
            because=(by, f"{taken}, and nothing was sent yet", lost),
            since_ms=thread.claimed_ms,
        )
    sent = for_so_long(sent_ms, now)
    if thread.phase is Phase.SENDING:
        what = f"the request left, and the provider has not named a run yet, {sent}"
    elif progress.first_text_ms:
        what = f"run {progress.run_id} writes {for_so_long(progress.first_text_ms, now)}"
    else:
        what = f"run {progress.run_id} has no text yet, {sent}"
    return replace(found, because=(by, what, lost), since_ms=sent_ms)


def _of_run(thread: ThreadFacts, when: str) -> str:
    run_id = thread.progress.run_id
    if thread.phase is Phase.RUNNING and run_id is not None:
        return f"run {run_id} is at work; it is polled at {when}, unless a webhook comes before"
    return (
        "no run was sent: so many are at work that another could not be polled in time; it is tried"
        f" again at {when}"
    )


def parked(thread: ThreadFacts, when: str) -> Judgement:
    """Return the verdict on a batch that is parked until `when` at most."""
    calls = thread.open_calls
    if calls:
        verdict = ExplanationVerdict.WAITS_FOR_ANSWER
        because = f"{len(calls)} call(s) of tools wait, the first is {calls[0]}; until {when}"
    else:
        verdict = ExplanationVerdict.IN_BACKGROUND
        because = _of_run(thread, when)
    return Judgement(
        verdict=verdict,
        because=(because,),
        since_ms=thread.since_ms,
        until_ms=thread.due_ms,
        batch_id=thread.batch_id,
        evidence={
            "attempts": thread.progress.attempts,
            "run_id": thread.progress.run_id,
            "call_id": calls[0] if calls else None,
        },
    )
