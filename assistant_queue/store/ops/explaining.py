"""Read what `explain` needs of a message or a thread: plain reads of known keys, no scan."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any

from assistant_queue.core.explaining import (
    LineFacts,
    MessageFacts,
    OutcomeFacts,
    Workforce,
    in_words,
    judge_facts,
    needs_line,
)
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.errors import StoreError
from assistant_queue.models import Explanation
from assistant_queue.store import wakeups
from assistant_queue.store.calls import (
    Call,
    Namespace,
    Operation,
    each_or_error,
    plain,
    text,
    texts,
    whole_number,
)
from assistant_queue.store.ops.fact_records import (
    DELIVERING,
    OUTCOME_AND_TIME,
    THREAD,
    check_ms_of,
    is_before,
    needed,
    outbox_facts,
    outcome_facts,
    paused_since,
    thread_facts,
)
from assistant_queue.store.ops.message_records import RECORD
from assistant_queue.store.ops.rq_signs import read_signs
from assistant_queue.store.ops.waits import WaitingLine, read_runs, seconds_until_run
from assistant_queue.store.wakeup_codec import job_id_of, thread_of

_TRIES = 3
"""Reads of a message whose batch ends between two of them. Chosen: as those of its status."""
_SEARCH = 2000
"""Entries of the line that are searched. Source: the sweeper's search (`sweeping.py`)."""
_NEWEST_FAILED = 100
"""Failed batches that are looked through for one of an idle thread. Chosen: two round trips, and
the older ones are in `list_failed`."""

_Record = Mapping[str, str]


def explain(namespace: Namespace, name: str, *, is_thread: bool = False) -> Operation[Explanation]:
    """Return why a message, or else the thread of this id, has no answer (yet). Reads only.

    Else the id may be that of a wake-up, as long as RQ has its record: then its thread is explained.
    At most a dozen round trips, whatever is queued. What the Redis user may not read is left out.
    `is_thread`: the id is that of a thread, whatever messages there are.

    Raises:
        NotPermitted: The user may not read the keys of messages and threads.
    """
    facts = MessageFacts(now_ms=0)
    message: _Record = {}
    for _ in range(_TRIES):
        facts, message, thread_reply = yield from _read_first(namespace, name)
        if is_thread or not message["thread"]:
            message = dict.fromkeys(RECORD, "")
            facts = _about_thread(facts)
            facts = yield from _read_thread(namespace, name, facts, thread_reply)
            break
        facts, is_settled = yield from _read_message(namespace, facts, message)
        if is_settled:
            break
        # The batch was claimed, or ended, between the two reads.
    thread_id = message["thread"] or (name if facts.is_known else None)
    if thread_id is None and not is_thread:
        thread_id = yield from _thread_of_job(namespace, name)
        if thread_id is not None:
            facts, _, thread_reply = yield from _read_first(namespace, thread_id)
            facts = replace(_about_thread(facts), job_id=name)
            facts = yield from _read_thread(namespace, thread_id, facts, thread_reply)
            facts = replace(facts, is_known=True)
    if needs_line(facts) and thread_id is not None:
        facts = yield from _read_line(namespace, thread_id, facts)
    return in_words(
        judge_facts(facts), thread_id=thread_id, message_id=name if message["thread"] else None
    )


def _about_thread(facts: MessageFacts) -> MessageFacts:
    """Return the facts without those of a message that has the id of the thread."""
    return replace(facts, is_message=False, is_cancelled=False, queued_ms=0)


# --- the reads ------------------------------------------------------------------------------------


def _read_first(namespace: Namespace, name: str) -> Operation[tuple[MessageFacts, _Record, Any]]:
    """Return the facts about the queue, the record of a message, and the hash of a thread."""
    keys = namespace.keys
    replies = yield from each_or_error(
        [
            plain("TIME"),
            plain("HMGET", keys.message(name), *RECORD),
            plain("HMGET", keys.thread(name), *THREAD),
            plain("GET", keys.paused),
            plain("EXISTS", keys.leader),
            plain("SCARD", wakeups.workers_key(namespace.prefix)),
            plain("EXISTS", wakeups.suspended_key()),
        ]
    )
    time, message, thread, paused, leader, workers, suspended = replies
    record = dict(zip(RECORD, needed(message), strict=True))
    paused_text = "" if isinstance(paused, StoreError) or paused is None else text(paused)
    facts = MessageFacts(
        now_ms=namespace.time_ms((0, 0) if isinstance(time, StoreError) else time),
        is_message=bool(record["thread"]),
        is_cancelled=record["state"] == "cancelled",
        queued_ms=whole_number(record["at"]),
        is_queue_paused=bool(paused_text),
        paused_ms=paused_since(paused_text),
        workers=Workforce(
            has_leader=None if isinstance(leader, StoreError) else bool(leader),
            registered=None if isinstance(workers, StoreError) else int(workers),
            is_suspended=not isinstance(suspended, StoreError) and bool(suspended),
        ),
    )
    return facts, record, thread


def _read_message(
    namespace: Namespace, facts: MessageFacts, message: _Record
) -> Operation[tuple[MessageFacts, bool]]:
    """Add the thread of a message and the record of its batch; return whether they agree.

    Of a reply of `say`, that is the record of its delivery, as long as there is one.
    """
    thread_id = message["thread"]
    batch_id = message["said"] or message["batch"]
    calls = [plain("HMGET", namespace.keys.thread(thread_id), *THREAD)]
    calls += _outbox_calls(namespace, thread_id, batch_id)
    if batch_id:
        calls.append(plain("HMGET", namespace.keys.record(batch_id), *OUTCOME_AND_TIME))
    replies = yield from each_or_error(calls)
    thread = thread_facts(namespace, thread_id, replies[0])
    head = needed(replies[0])[THREAD.index("head")]
    found = replace(
        facts,
        batch_id=batch_id,
        thread=thread,
        outbox=outbox_facts(replies[1:4]),
        outcome=outcome_facts(namespace, batch_id, replies[4]) if batch_id else OutcomeFacts(),
    )
    if facts.is_cancelled or found.outcome.state:
        is_delivered = found.outcome.delivery == "pending" and not found.outbox.waiting
        return found, not is_delivered or found.outbox.is_hidden
    if message["said"]:
        return (yield from _read_message(namespace, facts, {**message, "said": ""}))
    if batch_id:
        return replace(found, is_in_batch=thread.batch_id == batch_id), thread.batch_id == batch_id
    # Claimed, and not marked as sent: its place is before the first that waits.
    is_taken = bool(thread.batch_id) and is_before(message["seq"], head)
    batch = thread.batch_id if is_taken else ""
    is_settled = thread.state is not ThreadState.IDLE
    return replace(found, batch_id=batch, is_in_batch=is_taken), is_settled


def _read_thread(
    namespace: Namespace, name: str, facts: MessageFacts, thread_reply: Any
) -> Operation[MessageFacts]:
    """Add what is known of a thread; nothing may be known of it."""
    calls = _outbox_calls(namespace, name, "")
    calls.append(plain("EXISTS", namespace.keys.conversation(name)))
    *outbox, conversation = yield from each_or_error(calls)
    thread = thread_facts(namespace, name, thread_reply)
    found = replace(facts, thread=thread, outbox=outbox_facts(outbox))
    if thread.state is not ThreadState.IDLE or found.outbox.waiting:
        return found
    batch_id, outcome = yield from _newest_failed(namespace, name)
    is_kept = thread.is_paused or bool(thread.person)
    is_known = bool(outcome.state) or is_kept or thread.is_leased
    may_look = not isinstance(conversation, StoreError)
    return replace(
        found,
        batch_id=batch_id,
        outcome=outcome,
        is_known=is_known or not may_look or bool(conversation),
    )


def _thread_of_job(namespace: Namespace, name: str) -> Operation[str | None]:
    """Return the thread of a wake-up that waits or runs; None if RQ has no record of one."""
    job_id = job_id_of(name)
    if job_id is None:
        return None
    (reply,) = yield from each_or_error([plain("HMGET", wakeups.job_key(job_id), "origin", "data")])
    if isinstance(reply, StoreError) or None in reply or text(reply[0]) != namespace.prefix:
        return None
    with suppress(UnpicklingError):
        return thread_of(reply[1])
    return None


def _newest_failed(namespace: Namespace, thread_id: str) -> Operation[tuple[str, OutcomeFacts]]:
    """Return the newest failed batch of a thread, if it is among the newest of all."""
    (found,) = yield from each_or_error(
        [plain("ZRANGE", namespace.keys.failed, 0, _NEWEST_FAILED - 1, "REV")]
    )
    ids = [] if isinstance(found, StoreError) else texts(found)
    replies = yield from each_or_error(
        [plain("HMGET", namespace.keys.record(one), "thread", *OUTCOME_AND_TIME) for one in ids]
    )
    for batch_id, reply in zip(ids, replies, strict=True):
        if not isinstance(reply, StoreError) and reply[0] and text(reply[0]) == thread_id:
            return batch_id, outcome_facts(namespace, batch_id, reply[1:])
    return "", OutcomeFacts()


def _read_line(
    namespace: Namespace, thread_id: str, facts: MessageFacts
) -> Operation[MessageFacts]:
    """Add the line of due threads, and the signs of the workers."""
    keys = namespace.keys
    wake = facts.thread.wake_id
    queue = wakeups.queue_key(namespace.prefix)
    length, place, scheduled, check, counters, running = yield from each_or_error(
        [
            plain("LLEN", queue),
            plain("LPOS", queue, wake, "MAXLEN", _SEARCH),
            plain("ZSCORE", wakeups.scheduled_key(namespace.prefix), wake),
            plain("ZSCORE", keys.due, thread_id),
            plain("HMGET", keys.counters, "taken", "pace"),
            plain("ZCARD", wakeups.started_key(namespace.prefix)),
        ]
    )
    signs = yield from read_signs(namespace)
    runs = yield from read_runs(namespace)
    count = None if isinstance(length, StoreError) else int(length)
    taken, pace = [""] * 2 if isinstance(counters, StoreError) else texts(counters)
    is_in = None
    if count is not None and not isinstance(place, StoreError):
        is_in = place is not None
        if place is None and count > _SEARCH:
            # It stands after the searched part, unless a later one was taken (lua/_wake.lua).
            is_in = facts.thread.queued_ms >= whole_number(taken)
    before = int(place) if is_in and place is not None else None
    line = LineFacts(
        length=count,
        place=before,
        is_in=is_in,
        is_scheduled=not isinstance(scheduled, StoreError) and scheduled is not None,
        check_ms=check_ms_of(check, facts.now_ms),
        running=None if isinstance(running, StoreError) else int(running),
    )
    if is_in:
        waiting = WaitingLine(
            is_paused=False,
            length=(count or 0) if before is None else before + 1,
            pace_s=whole_number(pace) / 1e6,
        )
        wait_s = seconds_until_run(waiting, runs, window_s=0.0, is_behind_a_run=False)
        line = replace(line, wait_s=round(wait_s, 3) or None)
    return replace(facts, line=line, workers=replace(facts.workers, signs=signs))


def _outbox_calls(namespace: Namespace, thread_id: str, batch_id: str) -> list[Call]:
    keys = namespace.keys
    return [
        plain("LLEN", keys.outbox(thread_id)),
        plain("HMGET", keys.delivering(thread_id), *DELIVERING),
        plain("GET", keys.delivery(batch_id)),
    ]
