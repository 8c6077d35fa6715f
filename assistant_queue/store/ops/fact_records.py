"""Stored facts from the replies of Redis, for `explain`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.explaining import DeliveryFacts, OutcomeFacts, ThreadFacts
from assistant_queue.core.progress import Progress
from assistant_queue.core.settlements import open_calls
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import StoreError
from assistant_queue.store.calls import Namespace, reading, text, texts, whole_number
from assistant_queue.store.ops.delivery_marks import OPEN
from assistant_queue.store.ops.message_records import OUTCOME, result_of, state_of
from assistant_queue.store.ops.packed_fields import PROGRESS, progress_in
from assistant_queue.store.ops.takeovers import TAKEOVER, takeover_of

THREAD = (
    "state",
    "due",
    "first",
    "n",
    "batch",
    "bn",
    "phase",
    *PROGRESS,
    "token",
    "until",
    "deaths",
    "claimed",
    *TAKEOVER,
    "wake",
    "queued",
    "head",
    "wish",
    "wished",
    "parked",
    "last",
    "asks",
    "shut",
    "since",
    "spoken",
)
"""Fields that are read of a thread."""
_STATE = ("state", "until", "parked", "last")
DELIVERING = ("batch", "due", "token", "until", "seen", "deaths", "progress")
"""Fields that are read of the head of an outbox."""
OUTCOME_AND_TIME = (*OUTCOME, "failed_at")
"""Fields that are read of a batch's record."""


def needed(reply: Any) -> list[str]:
    """Return the fields of a hash.

    Raises:
        StoreError: It could not be read.
    """
    if isinstance(reply, StoreError):
        raise reply
    return texts(reply)


def check_ms_of(reply: Any, now_ms: int) -> int:
    """Return when a scheduler looks next; 0 if it should have looked already."""
    at_ms = 0 if isinstance(reply, StoreError) or reply is None else int(float(reply))
    return at_ms if at_ms > now_ms else 0


def paused_since(paused: str) -> int:
    """Return since when a queue is paused; 0 if version 0.1 paused it, with a mark alone."""
    at_ms = whole_number(paused)
    return at_ms if at_ms > 1 else 0


def is_before(seq: str, head: str) -> bool:
    """Return whether a message stands before the first that waits."""
    with suppress(ValueError):
        return int(seq) < int(head)
    return False


def thread_facts(namespace: Namespace, thread_id: str, reply: Any) -> ThreadFacts:
    """Return the facts in the hash of a thread.

    Raises:
        StoreError: This queue did not write it.
    """
    found = dict(zip(THREAD, needed(reply), strict=True))
    is_paused, person, since_ms = takeover_of([found[name] for name in TAKEOVER])
    with reading(namespace.keys.thread(thread_id)):
        progress = Progress.load(progress_in(found) if found["batch"] else "")
        return ThreadFacts(
            state=ThreadState(state_of(*(found[name] for name in _STATE))),
            due_ms=whole_number(found["due"]),
            first_ms=whole_number(found["first"]),
            waiting=whole_number(found["n"]),
            batch_id=found["batch"],
            batch_size=whole_number(found["bn"]),
            phase=Phase(found["phase"]) if found["phase"] else None,
            progress=progress,
            is_leased=bool(found["token"]),
            until_ms=whole_number(found["until"]),
            deaths=whole_number(found["deaths"]),
            claimed_ms=whole_number(found["claimed"]),
            is_paused=is_paused,
            person=person,
            taken_ms=since_ms,
            is_spoken=bool(found["spoken"])
            and not is_before(found["spoken"].partition(" ")[0], found["head"]),
            wake_id=found["wake"],
            queued_ms=whole_number(found["queued"]),
            is_stopping=found["wish"] == f"{Wish.STOP} {found['batch']}"
            and found["phase"] != Phase.DELIVERING.value,
            wished_ms=whole_number(found["wished"]),
            since_ms=whole_number(found["since"]),
            open_calls=tuple(open_calls(progress, found["batch"], found["shut"], found["asks"])),
        )


def outbox_facts(replies: Sequence[Any]) -> DeliveryFacts:
    """Return the facts about the outbox of a thread."""
    waiting, delivering, mark = replies
    if isinstance(waiting, StoreError) or isinstance(delivering, StoreError):
        return DeliveryFacts(is_hidden=True)
    found = dict(zip(DELIVERING, texts(delivering), strict=True))
    return DeliveryFacts(
        waiting=int(waiting),
        batch_id=found["batch"],
        due_ms=whole_number(found["due"]),
        is_leased=bool(found["token"]),
        until_ms=whole_number(found["until"]),
        seen_ms=whole_number(found["seen"]),
        deaths=whole_number(found["deaths"]),
        state=DeliveryState.load(found["progress"]),
        is_call_open=not isinstance(mark, StoreError) and mark is not None and text(mark) == OPEN,
    )


def outcome_facts(namespace: Namespace, batch_id: str, reply: Any) -> OutcomeFacts:
    """Return the facts in the record of a batch.

    Raises:
        StoreError: This queue did not write it.
    """
    fields = needed(reply)
    found = dict(zip(OUTCOME_AND_TIME, fields, strict=True))
    failure: Any = {}
    result = None
    with reading(namespace.keys.record(batch_id)):
        failure = json.loads(found["failure"] or "{}")
    with suppress(StoreError), reading(namespace.keys.record(batch_id)):
        result = result_of(fields[: len(OUTCOME)]) if found["result"] else None
    return OutcomeFacts(
        state=found["state"],
        failure=failure if isinstance(failure, dict) else {},
        failed_ms=whole_number(found["failed_at"]),
        delivery=found["delivery"],
        delivered_ms=whole_number(found["delivered_at"]),
        result=result,
    )
