"""Operations on the questions that channels ask about open tool calls; no thread's lease is needed.

A question is due from the script that parks its batch until a worker has noted that the channel has
it, and again when the call is settled, until the channel shows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote

from assistant_queue.approvals import Approval
from assistant_queue.config import to_ms
from assistant_queue.core.settlements import Settlement, approval_of
from assistant_queue.errors import StoreError
from assistant_queue.store.calls import (
    Namespace,
    Operation,
    each,
    plain,
    reading,
    text,
    texts,
    whole_number,
)
from assistant_queue.store.ops.packed_fields import joined
from assistant_queue.store.ops.sweeping import scored
from assistant_queue.store.sendable import is_text

DUE_LIMIT = 100
"""Questions found in one look, longest overdue first. Chosen: as many as deliveries."""
WAKE_SPARE_MS = 1000
"""Delay of a due question before a wake-up is enqueued for it. Chosen: a worker that asks by itself
looks at least once a second."""
_PATIENCE_MS = 60_000
"""Between two wake-ups for one question. Chosen: as those of the sweep of threads."""
_NO_ID = "-"
"""Stored for a message without an id; ids begin with an equals sign."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuestion:
    """A call with something left to do on its channel, and the time of that as it is stored."""

    call_id: str
    thread_id: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DueQuestions:
    """The result of a look.

    Attributes:
        due: Longest overdue first.
        next_due_in_s: Seconds until the next one is due; None if there is none, or if more are due
            than one look returns.
        is_whole: All that are due were found.
    """

    due: tuple[DueQuestion, ...] = ()
    next_due_in_s: float | None = None
    is_whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldQuestion:
    """A question that this worker asks, or of which it shows the verdict.

    Attributes:
        token: Random; sent with every write of the holder.
        what: Which of the two.
        waited_s: Seconds since the call was parked, or settled.
        tries: That failed.
        deaths: Workers that ended while they held it, without a word.
        sent: The messages that show it, as they are stored.
        approval: The call; None if its texts were removed, or cannot be read.
        settlement: How it was settled; None if that is not known.
    """

    call_id: str
    thread_id: str
    token: str
    what: Literal["ask", "show"]
    waited_s: float
    tries: int
    deaths: int
    sent: str
    approval: Approval | None
    settlement: Settlement | None

    @property
    def part_ids(self) -> tuple[str, ...]:
        """Return the channel's ids of the messages that show the question."""
        return tuple(unquote(one)[1:] for one in self.sent.split() if one != _NO_ID)


def find_due(namespace: Namespace, *, offset: int = 0, late_ms: int = 0) -> Operation[DueQuestions]:
    """Return the questions that are due; the `offset` longest overdue ones are left out."""
    now, found = yield from each(
        [
            plain("TIME"),
            plain(
                "ZRANGE",
                namespace.keys.questions,
                offset,
                offset + DUE_LIMIT - 1,
                "WITHSCORES",
            ),
        ]
    )
    now_ms = namespace.time_ms(now)
    rows = [(name, at) for name, at in scored(found or []) if is_text(name)]
    due = [(name, at) for name, at in rows if at <= now_ms - late_ms]
    later = [at for _, at in rows if at > now_ms - late_ms]
    threads = yield from each(
        [plain("HGET", namespace.keys.call(call_id), "thread") for call_id, _ in due]
    )
    return DueQuestions(
        due=tuple(
            DueQuestion(call_id=call_id, at=f"{at:.0f}", thread_id=text(thread or ""))
            for (call_id, at), thread in zip(due, threads, strict=True)
        ),
        next_due_in_s=max(0.0, (min(later) - now_ms) / 1000) if later else None,
        is_whole=len(due) < DUE_LIMIT,
    )


def find_settled(
    namespace: Namespace, thread_id: str, call_ids: Sequence[str]
) -> Operation[list[DueQuestion]]:
    """Return those of the calls of a thread that have something left to do on their channel."""
    scores = yield from each(
        [plain("ZSCORE", namespace.keys.questions, call_id) for call_id in call_ids]
    )
    return [
        DueQuestion(call_id=call_id, thread_id=thread_id, at=f"{float(score):.0f}")
        for call_id, score in zip(call_ids, scores, strict=True)
        if score is not None
    ]


def claim_question(
    namespace: Namespace, due: DueQuestion, *, token: str, lease_s: float
) -> Operation[HeldQuestion | None]:
    """Take a question; None if nothing is left to be done, or another worker has it.

    Repeating it with the same token returns the same claim. `token` must be fresh, and never used
    again.
    """
    reply = yield namespace.call(
        "claim_question",
        due.thread_id,
        keys={"call": namespace.keys.call(due.call_id)},
        call_id=due.call_id,
        token=token,
        lease_ms=to_ms(lease_s),
        expected=due.at,
    )
    what, *fields = texts(reply)
    if what not in {"ask", "show"}:
        return None
    now, tries, deaths, sent, verdict, settled, at, until, batch_id, *ask = fields
    approval: Approval | None = None
    settlement: Settlement | None = None
    if joined(ask):
        with suppress(StoreError), reading(namespace.keys.call(due.call_id)):
            approval = approval_of(
                due.thread_id,
                joined(ask),
                whole_number(at),
                whole_number(until),
                call_id=due.call_id,
                batch_id=batch_id,
            )
    if verdict:
        with suppress(ValueError, TypeError, KeyError):
            settlement = Settlement.load(verdict, whole_number(settled))
    return HeldQuestion(
        call_id=due.call_id,
        thread_id=due.thread_id,
        token=token,
        what="ask" if what == "ask" else "show",
        waited_s=(whole_number(now) - whole_number(settled or at)) / 1000,
        tries=whole_number(tries),
        deaths=whole_number(deaths),
        sent=sent,
        approval=approval,
        settlement=settlement,
    )


def note_asked(namespace: Namespace, held: HeldQuestion, part_id: str | None) -> Operation[bool]:
    """Store that the channel has the question; False if another worker may ask it, too."""
    reply = yield namespace.call(
        "asked",
        keys={"call": namespace.keys.call(held.call_id)},
        call_id=held.call_id,
        token=held.token,
        part=_NO_ID if part_id is None else quote(f"={part_id}"),
    )
    return text(reply[0]) == "ok"


def release_question(
    namespace: Namespace, held: HeldQuestion, wait_s: float | None, *, tries: int = 0
) -> Operation[bool]:
    """Release a question: it is due again after `wait_s`, or, with None, it is done.

    Returns:
        False if another worker has it; nothing was changed.
    """
    reply = yield namespace.call(
        "release_question",
        keys={"call": namespace.keys.call(held.call_id)},
        call_id=held.call_id,
        token=held.token,
        sent=held.sent,
        wait_ms="" if wait_s is None else to_ms(wait_s),
        tries=tries,
    )
    return text(reply[0]) == "ok"


def wake_questions(namespace: Namespace) -> Operation[int]:
    """Enqueue wake-ups for questions that no process asks; return their number."""
    found = yield from find_due(namespace, late_ms=WAKE_SPARE_MS)
    if not found.due:
        return 0
    replies = yield from each(
        [
            namespace.call(
                "wake_question",
                due.thread_id,
                keys={"call": namespace.keys.call(due.call_id)},
                call_id=due.call_id,
                spare_ms=WAKE_SPARE_MS,
                patience_ms=_PATIENCE_MS,
            )
            for due in found.due
        ]
    )
    return sum(reply is not None and text(reply[0]) == "woken" for reply in replies)


def rewind_questions(namespace: Namespace, back_ms: int) -> Operation[None]:
    """Move the times of all questions back, as `sweeping.rewind` those of threads."""
    yield namespace.call("rewind_questions", back_ms=back_ms)
