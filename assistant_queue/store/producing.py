"""Operations of those who add messages and ask about them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from assistant_queue.core.progress import Progress, load_error, load_result, moment
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.core.window import Window
from assistant_queue.errors import MessageIdConflict, NotPermitted, NotReplicated, StoreError, ThreadFull
from assistant_queue.models import ErrorInfo, Message, MessageState, MessageStatus, QueueStatus, Receipt, RunResult, ThreadStatus
from assistant_queue.store.calls import Ahead, Call, Operation, Space, each, plain, reading, text, texts
from assistant_queue.store.packing import digest, pack
from assistant_queue.store.quarantine import says_corrupt
from assistant_queue.store.replicating import REPLICA_WAIT_S, replicated
from assistant_queue.store.scripts import Constants
from assistant_queue.store.sweeping import glancing, sweep, wake

BULK = 250
"""Messages of one round trip of `add_messages`. Chosen: keeps Redis busy for some ten milliseconds at most."""

_PAUSED_AT_ANY_TIME = "1"
"""What version 0.1 wrote while the queue was paused."""
_BOOKING_ROUNDS = 20
"""Rounds of sweeping before a status is read. Chosen: with the sweep's limit this books 2,000 threads, more than fall due in a second."""


@dataclass(frozen=True, kw_only=True)
class AddRules:
    """The options that act where a message is added."""

    window: Window
    after_run: str = "immediate"
    max_pending: int = 0
    replicated: bool = False

    @cached_property
    def told(self) -> tuple[Constants, dict[str, Any]]:
        """What is written into the script, and what is sent to it: numbers that somebody has set.

        Constants are words of which there are two, and zeros: 32 versions of the script at most, however many queues with options of their
        own share a Redis.
        """
        window = self.window
        numbers = {"max_wait_ms": window.max_wait_ms, "max_batch": window.max_batch, "max_pending": self.max_pending}
        unset = tuple((name, 0) for name, number in numbers.items() if not number)
        sent = {name: number for name, number in numbers.items() if number}
        return (("window", window.kind), ("after_run", self.after_run), *unset), {"delay_ms": window.delay_ms, **sent}


def _add_call(space: Space, thread_id: str, message: Message, rules: AddRules) -> Call:
    constants, numbers = rules.told
    nonce = secrets.token_hex(4)
    over = space.keys.over(f"{message.id}:{nonce}") if rules.max_pending else space.keys.due  # which the script does not look at then
    return space.call(
        "add",
        thread_id,
        keys={"message": space.keys.message(message.id), "over": over},
        constants=constants,
        entry=pack(message),
        digest=digest(message.content),
        nonce=nonce,
        **numbers,
    )


def add(space: Space, thread_id: str, message: Message, rules: AddRules) -> Operation[Receipt]:
    """Add a message: one round trip, unless threads are overdue that nobody looks at.

    Raises:
        MessageIdConflict: The id is another message's. Nothing was queued.
        ThreadFull: The thread holds `max_pending` waiting messages. Nothing was queued.
        NotReplicated: No replica has it in time. It may be kept or not.
    """
    call = _add_call(space, thread_id, message, rules)
    if rules.replicated:
        (raw,), is_kept = yield from replicated(space, [call])
    else:
        raw, is_kept = (yield call), True
    reply = texts(raw)
    receipt = _receipt(thread_id, message, rules, reply)
    if not is_kept:
        raise _not_replicated([message.id])
    yield from wake(space, reply[3:])
    return receipt


def _not_replicated(message_ids: Sequence[str]) -> NotReplicated:
    which = ", ".join(repr(message_id) for message_id in message_ids[:3]) + (", ..." if len(message_ids) > 3 else "")  # noqa: PLR2004
    return NotReplicated(
        f"Redis took the message(s) {which}, but no replica had them within {REPLICA_WAIT_S:g} s: they may be kept or not; "
        "adding them again under the same message_id is safe",
        message_ids=tuple(message_ids),
    )


_Rows = Sequence[tuple[str, Message, AddRules]]


def add_many(space: Space, rows: _Rows) -> Operation[list[Receipt]]:
    """Add messages, a few hundred in one round trip; those of one thread keep their order.

    Raises:
        MessageIdConflict, ThreadFull: As `add`, for the first message concerned; the others of its round trip, and of the next, are queued.
        NotReplicated: As `add`, for a whole round trip; those of later ones are not queued.
    """
    receipts: list[Receipt] = []
    overdue: dict[str, None] = {}

    def take(part: _Rows, replies: Sequence[Any]) -> None:
        for (thread_id, message, rules), raw in zip(part, replies, strict=True):
            reply = texts(raw)
            receipts.append(_receipt(thread_id, message, rules, reply))
            overdue.update(dict.fromkeys(reply[3:]))

    parts = [rows[start : start + BULK] for start in range(0, len(rows), BULK)]
    yield from (_add_replicated if rows and rows[0][2].replicated else _add_ahead)(space, parts, take)
    yield from wake(space, list(overdue))
    return receipts


def _add_ahead(space: Space, parts: Sequence[_Rows], take: Callable[[_Rows, Sequence[Any]], None]) -> Operation[None]:
    """Each round trip is prepared, and the replies to the last one are read, while Redis works."""
    before: tuple[_Rows, list[Call]] = ((), [])
    for part in [*parts, ()]:
        calls = _add_calls(space, part)
        replies = yield Ahead(calls)
        if not any(map(says_corrupt, replies)):
            take(before[0], replies)
            before = (part, calls)
            continue
        # Both again, one after the other and as steps that are mended, before anything else is sent: what was refused must not come behind
        # it. Those that were added say so again: each knows its nonce.
        yield Ahead([])
        take(before[0], (yield before[1]))
        take(part, (yield calls))
        before = ((), [])


def _add_replicated(space: Space, parts: Sequence[_Rows], take: Callable[[_Rows, Sequence[Any]], None]) -> Operation[None]:
    for number, part in enumerate(parts):
        replies, is_kept = yield from replicated(space, _add_calls(space, part))
        take(part, replies)
        if not is_kept:
            raise _not_replicated([message.id for later in parts[number:] for _, message, _ in later])


def _add_calls(space: Space, part: _Rows) -> list[Call]:
    return [_add_call(space, thread_id, message, rules) for thread_id, message, rules in part]


def _receipt(thread_id: str, message: Message, rules: AddRules, reply: Sequence[str]) -> Receipt:
    word = reply[0]
    if word == "conflict":
        same = reply[1] == thread_id
        where = "with another content" if same else f"of thread {reply[1]!r}"
        msg = f"message id {message.id!r} is taken by a message {where}; nothing was queued - use a new id for a new message"
        raise MessageIdConflict(msg)
    if word == "full":
        limit = f"max_pending is {rules.max_pending}"
        msg = f"thread {thread_id!r} holds {reply[1]} waiting messages, {limit}; nothing was queued - add it later"
        raise ThreadFull(msg)
    return Receipt(
        message_id=message.id,
        thread_id=thread_id,
        job_id=reply[2] or None,
        due_at=moment(int(reply[1])),
        duplicate=word == "duplicate",
    )


def read_message(space: Space, message_id: str) -> Operation[MessageStatus | None]:
    """What is known of a message; None if there is no record of it. Overdue threads are woken, two at most."""
    status: MessageStatus | None = None
    for _ in range(3):
        fields = texts((yield plain("HMGET", space.keys.message(message_id), "thread", "batch", "state", "seq")))
        thread_id, batch_id, state, seq = fields
        if not thread_id:
            return None
        if state:
            return MessageStatus(message_id=message_id, thread_id=thread_id, status=state)
        if not batch_id:
            error = yield from _why_unsent(space, thread_id, seq)
            return MessageStatus(message_id=message_id, thread_id=thread_id, status=MessageState.QUEUED.value, error=error)
        record, thread = yield from glancing(
            space,
            [
                plain("HMGET", space.keys.record(batch_id), "state", "result", "failure"),
                plain("HMGET", space.keys.thread(thread_id), "batch", "state", "progress"),
            ],
        )
        with reading(space.keys.record(batch_id)):
            status = _message_status(message_id, thread_id, batch_id, texts(record), texts(thread))
        if status is not None:
            return status
        # The batch ended between the two reads: its record is there now.
    return MessageStatus(message_id=message_id, thread_id=thread_id, status=MessageState.PROCESSING.value, batch_id=batch_id)


def _why_unsent(space: Space, thread_id: str, seq: str) -> Operation[ErrorInfo | None]:
    """What keeps a message back that was taken into a batch of which no request has left yet; None for one that merely waits."""
    (fields,) = yield from glancing(space, [plain("HMGET", space.keys.thread(thread_id), "head", "batch", "progress")])
    head, batch_id, progress = texts(fields)
    is_taken = bool(batch_id) and seq.lstrip("-").isdigit() and head.lstrip("-").isdigit() and int(seq) < int(head)
    with reading(space.keys.thread(thread_id)):
        return Progress.load(progress).error if is_taken else None


def _message_status(message_id: str, thread_id: str, batch_id: str, record: Sequence[str], thread: Sequence[str]) -> MessageStatus | None:
    known: dict[str, Any] = {"message_id": message_id, "thread_id": thread_id, "batch_id": batch_id}
    state, result_text, failure_text = record
    if state == "completed":
        result = load_result(json.loads(result_text))
        return MessageStatus(
            **known,
            status=MessageState.COMPLETED.value,
            run_id=result.run_id,
            reply=result.reply,
            replies=result.replies,
            attempts=result.attempts,
        )
    if state:
        failure = json.loads(failure_text)
        fallback = failure.get("fallback")
        return MessageStatus(
            **known,
            status=MessageState.FAILED.value,
            reply=fallback,
            replies=() if fallback is None else (fallback,),
            fallback=fallback is not None,
            run_id=failure["known_run_id"],
            attempts=failure["attempts"],
            error=load_error(failure["error"]),
        )
    current, thread_state, progress_text = thread
    if current != batch_id:
        return None
    progress = Progress.load(progress_text)
    waits = thread_state == ThreadState.RETRYING.value
    return MessageStatus(
        **known,
        status=(MessageState.QUEUED if waits else MessageState.PROCESSING).value,
        run_id=progress.run_id,
        attempts=progress.attempts,
        error=progress.error,
    )


def read_result(space: Space, batch_id: str) -> Operation[RunResult | None]:
    """A completed batch's result, as long as it is kept and can be read."""
    (reply,) = yield from each([plain("HGET", space.keys.record(batch_id), "result")])
    with suppress(StoreError), reading(space.keys.record(batch_id)):
        return None if reply is None else load_result(json.loads(text(reply)))
    return None


def read_status(space: Space) -> Operation[QueueStatus]:
    """The counters, after the passing of time has been booked in them.

    Who may only read is told what workers have booked: a second old at most while one is alive.
    """
    with suppress(NotPermitted):
        for _ in range(_BOOKING_ROUNDS):
            swept = yield from sweep(space, even_paused=True)
            if not swept.overdue:
                break
    reply, is_paused, since = yield from each(
        [
            plain("HMGET", space.keys.counters, "active", "waiting", "delayed", "completed", "failed"),
            plain("EXISTS", space.keys.paused),
            plain("GET", space.keys.paused),
        ]
    )
    # Whatever else may stand there: the next change of a counter begins it anew (lua/_common.lua).
    counts = [int(value) if value.isdigit() else 0 for value in texts(reply or [""] * 5)]
    return QueueStatus(
        active_count=counts[0],
        waiting_count=counts[1],
        delayed_count=counts[2],
        completed_count=counts[3],
        failed_count=counts[4],
        paused=bool(is_paused),
        paused_since=_paused_since(since),
    )


def _paused_since(reply: Any) -> datetime | None:
    said = "" if reply is None else text(reply)
    is_time = said.isdecimal() and said != _PAUSED_AT_ANY_TIME
    with suppress(OverflowError, ValueError, OSError):
        return moment(int(said)) if is_time else None
    return None


def read_thread(space: Space, thread_id: str) -> Operation[ThreadStatus]:
    """Where a thread stands; an unknown one is idle. Overdue threads are woken, two at most."""
    names = ("state", "n", "batch", "progress", "due", "until", "paused")
    (reply,) = yield from glancing(space, [plain("HMGET", space.keys.thread(thread_id), *names)])
    fields = texts(reply)
    state, count, batch, progress_text, due, until, paused = fields
    look = until or due
    with reading(space.keys.thread(thread_id)):
        progress = Progress.load(progress_text if batch else "")
        return ThreadStatus(
            thread_id=thread_id,
            state=state or ThreadState.IDLE.value,
            pending_count=int(count or 0),
            batch_id=batch or None,
            run_id=progress.run_id,
            due_at=moment(int(look)) if look else None,
            attempts=progress.attempts,
            paused=bool(paused),
        )
