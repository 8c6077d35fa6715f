"""Verdicts on threads that are paused, or due without a worker. Pure."""

from __future__ import annotations

from dataclasses import replace

from assistant_queue.core.explaining.explanation import (
    Judgement,
    clock_time,
    error_words,
    for_so_long,
    span,
)
from assistant_queue.core.explaining.facts import LineFacts, MessageFacts, Workforce
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.models import ExplanationVerdict

BRIEF_MS = 2000
"""A due thread that no worker took for so long is late. Chosen: an idle worker takes milliseconds,
and the term of a dead leader ends within that time."""
SILENT_MS = 60_000
"""A busy worker of RQ's own that wrote nothing for so long is dead. Source: RQ's beat every 30 s
while a job runs."""


def paused_verdict(facts: MessageFacts) -> Judgement | None:
    """Return the verdict of a pause that a person made; None if there is none."""
    if facts.is_queue_paused:
        since = for_so_long(facts.paused_ms, facts.now_ms) if facts.paused_ms else ""
        return Judgement(
            verdict=ExplanationVerdict.QUEUE_PAUSED,
            because=(
                f"messages are accepted, and nothing is claimed or delivered {since}".rstrip(),
            ),
            since_ms=facts.paused_ms,
        )
    if facts.thread.is_paused and not facts.thread.person:
        return Judgement(
            verdict=ExplanationVerdict.THREAD_PAUSED,
            because=("its messages are accepted, and nothing is claimed or delivered",),
        )
    return None


def person_words(facts: MessageFacts) -> str:
    """Return that a person answers the thread, for a sentence; "" if none does."""
    thread = facts.thread
    if not thread.person:
        return ""
    since = f" since {clock_time(thread.taken_ms)}" if thread.taken_ms else ""
    return f"a person, {thread.person}, answers this thread{since}"


def taken_over_verdict(facts: MessageFacts) -> Judgement | None:
    """Return the verdict on messages that wait for a person; None if they wait for the model."""
    thread = facts.thread
    if not thread.person or thread.batch_id or thread.is_spoken:
        return None
    return Judgement(
        verdict=ExplanationVerdict.TAKEN_OVER,
        because=(person_words(facts), f"{thread.waiting} message(s) wait for what is said next"),
        since_ms=thread.taken_ms,
        evidence={"by": thread.person, "waiting": thread.waiting},
    )


def is_deserted(workers: Workforce) -> bool:
    """Whether no process of the queue shows itself at all."""
    return workers.registered == 0 and workers.has_leader is False


def is_dead(workers: Workforce, late_ms: int, now_ms: int) -> bool:
    """Whether no worker is alive that could take a thread which is due for so long."""
    if workers.registered == 0 or workers.signs == ():
        return True
    if workers.signs is None or workers.has_leader is not False or late_ms < BRIEF_MS:
        return False
    if all(sign.has_scheduler for sign in workers.signs):
        return True  # one of their schedulers would lead
    heard_ms = max(sign.heard_ms for sign in workers.signs)
    return late_ms >= SILENT_MS and now_ms - heard_ms >= SILENT_MS


def workers_words(workers: Workforce, now_ms: int) -> str:
    """Return what is known of the workers, for a sentence."""
    if workers.registered is None:
        return "this user of Redis may not count the workers"
    heard = max((sign.heard_ms for sign in workers.signs or ()), default=0)
    said = f", the last sign of one is {span(now_ms - heard)} old" if heard else ""
    leads = "" if workers.has_leader is not False else ", and no scheduler leads"
    return f"{workers.registered} worker(s) are registered{said}{leads}"


def no_worker(facts: MessageFacts, since_ms: int, what: str) -> Judgement:
    """Return the verdict that no worker is alive; `what` says what is due."""
    workers = facts.workers
    return Judgement(
        verdict=ExplanationVerdict.NO_WORKER,
        because=(what, workers_words(workers, facts.now_ms)),
        since_ms=since_ms,
        batch_id=facts.batch_id or facts.thread.batch_id,
        evidence={"workers": workers.registered, "has_scheduler": workers.has_leader},
    )


def without_worker(facts: MessageFacts) -> Judgement:
    """Return the verdict on a due thread without a worker, or one whose worker lost its lease."""
    thread = facts.thread
    now = facts.now_ms
    workers = facts.workers
    is_lapsed = thread.state is ThreadState.ACTIVE
    since_ms = thread.until_ms if is_lapsed else thread.due_ms
    late_ms = now - since_ms
    what = (
        f"the lease of its worker expired {for_so_long(since_ms, now)}"
        if is_lapsed
        else f"it is due {for_so_long(since_ms, now)}"
    )
    error = thread.progress.error
    if error is not None:
        what += f", after {error_words(error)}"
    line = facts.line or LineFacts()
    if workers.is_suspended:
        found = Judgement(verdict=ExplanationVerdict.WORKERS_SUSPENDED, because=(what,))
    elif is_dead(workers, late_ms, now):
        found = no_worker(facts, since_ms, what)
    elif is_lapsed:
        found = _lost_worker(facts, what)
    elif late_ms < BRIEF_MS:
        found = Judgement(verdict=ExplanationVerdict.DUE, because=(what,), until_ms=line.check_ms)
    elif line.is_in is None or (workers.registered is None and workers.signs is None):
        not_seen = "this user of Redis may not look at the line" if line.is_in is None else ""
        found = Judgement(
            verdict=ExplanationVerdict.DUE, because=(what, workers_words(workers, now), not_seen)
        )
    elif line.is_in:
        found = _in_line(facts, line, what)
    else:
        found = _lost_wake_up(facts, line, what)
    return replace(found, since_ms=since_ms, batch_id=thread.batch_id, error=error)


def _lost_worker(facts: MessageFacts, what: str) -> Judgement:
    thread = facts.thread
    rows = thread.progress.tries
    worker = rows[-1].worker if rows else ""
    progress = thread.progress
    where = f"it was in {progress.called or 'a function'}" if progress.in_user_code else ""
    return Judgement(
        verdict=ExplanationVerdict.WORKER_LOST,
        because=(what, f"its worker was {worker}" if worker else "", where),
        until_ms=facts.line.check_ms if facts.line else 0,
        evidence={"worker": worker, "deaths": thread.deaths, "function": progress.called},
    )


def _in_line(facts: MessageFacts, line: LineFacts, what: str) -> Judgement:
    before = "many" if line.place is None else str(line.place)
    wait = f", its turn comes in about {span(round(line.wait_s * 1000))}" if line.wait_s else ""
    runs = "" if line.running is None else f"{line.running} run(s) are in progress"
    return Judgement(
        verdict=ExplanationVerdict.WORKERS_FULL,
        because=(
            what,
            f"{before} of {line.length} due thread(s) stand before it{wait}",
            runs,
            workers_words(facts.workers, facts.now_ms),
        ),
        until_ms=facts.now_ms + round(line.wait_s * 1000) if line.wait_s else 0,
        evidence={
            "line": line.length,
            "before": line.place,
            "running": line.running,
            "workers": facts.workers.registered,
            "wait_s": line.wait_s,
        },
    )


def _lost_wake_up(facts: MessageFacts, line: LineFacts, what: str) -> Judgement:
    where = (
        "its wake-up still waits for its time: no scheduler hands it over"
        if line.is_scheduled
        else "its wake-up is neither in the line nor with a worker"
    )
    has_leader = facts.workers.has_leader is not False
    return Judgement(
        verdict=ExplanationVerdict.WAKE_UP_LOST,
        because=(what, where, workers_words(facts.workers, facts.now_ms)),
        until_ms=line.check_ms if has_leader else 0,
        evidence={"line": line.length, "has_scheduler": facts.workers.has_leader},
    )
