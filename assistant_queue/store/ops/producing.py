"""Operations that add messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from assistant_queue.core.progress import moment
from assistant_queue.core.window import Window
from assistant_queue.errors import (
    MessageIdConflict,
    NotReplicated,
    ThreadBusy,
    ThreadFull,
)
from assistant_queue.models import (
    Message,
    Receipt,
)
from assistant_queue.store.calls import (
    Call,
    Namespace,
    Operation,
    Pipelined,
    texts,
)
from assistant_queue.store.message_codec import digest, pack, pack_labels
from assistant_queue.store.ops.replication import REPLICA_WAIT_S, replicated
from assistant_queue.store.ops.sweeping import wake
from assistant_queue.store.quarantine import says_corrupt
from assistant_queue.store.scripts import Constants
from assistant_queue.values import valueclass

_WISHES = frozenset({"interrupt", "steer"})
"""Values of `mid_run` that are a wish for the batch that is under way."""

BULK = 250
"""Messages of one round trip of `add_messages`. Chosen: keeps Redis busy for about ten milliseconds
at most."""


@valueclass(frozen=True, kw_only=True)
class AddRules:
    """The options that apply when a message is added."""

    window: Window
    after_run: str = "immediate"
    mid_run: str = "collect"
    max_pending: int = 0
    replicated: bool = False

    @cached_property
    def script_inputs(self) -> tuple[Constants, dict[str, Any]]:
        """Constants written into the script, and arguments sent to it: the numbers that are set.

        Constants are words with two or three values, and zeros: at most 288 versions of the script,
        however many queues with different options share a Redis.
        """
        window = self.window
        numbers = {
            "max_wait_ms": window.max_wait_ms,
            "max_batch": window.max_batch,
            "max_chars": window.max_chars,
            "max_pending": self.max_pending,
            "hold_ms": window.hold_ms,
            "hold_most_ms": window.hold_most_ms if window.hold_ms else 0,
        }
        unset: Constants = tuple((name, 0) for name, number in numbers.items() if not number)
        if not window.max_chars:
            unset = (*unset, ("chars", 0))
        sent: dict[str, Any] = {name: number for name, number in numbers.items() if number}
        if self.mid_run in _WISHES:
            sent["wish"] = self.mid_run
        else:
            unset = (*unset, ("wish", ""))
        mid_run = "wish" if self.mid_run in _WISHES else self.mid_run
        words = {"window": window.kind, "after_run": self.after_run, "mid_run": mid_run}
        return (*words.items(), *unset), {
            "delay_ms": window.delay_ms,
            **sent,
        }


def _add_call(namespace: Namespace, thread_id: str, message: Message, rules: AddRules) -> Call:
    constants, numbers = rules.script_inputs
    nonce = os.urandom(4).hex()
    # Of a call that is never refused the script does not read `over`: any key will do.
    is_refusable = rules.max_pending or rules.mid_run == "reject"
    over = namespace.keys.over(f"{message.id}:{nonce}") if is_refusable else namespace.keys.due
    if rules.window.max_chars:
        numbers = {**numbers, "chars": len(message.text)}
    return namespace.call(
        "add",
        thread_id,
        keys={"message": namespace.keys.message(message.id), "over": over},
        constants=constants,
        entry=pack(message),
        labels=pack_labels(message),
        digest=digest(message.content),
        nonce=nonce,
        **numbers,
    )


def add(
    namespace: Namespace, thread_id: str, message: Message, rules: AddRules
) -> Operation[Receipt]:
    """Add a message: one round trip, unless there are overdue threads that no scheduler woke.

    Raises:
        MessageIdConflict: Another message has the id. Nothing was queued.
        ThreadFull: The thread has `max_pending` waiting messages. Nothing was queued.
        ThreadBusy: The thread has a batch, and `mid_run` is `reject`. Nothing was queued.
        NotReplicated: No replica confirmed the message in time. It may be kept or not.
    """
    call = _add_call(namespace, thread_id, message, rules)
    if rules.replicated:
        (raw,), is_kept = yield from replicated(namespace, [call])
    else:
        raw = yield call
        is_kept = True
    reply = texts(raw)
    receipt = _receipt(thread_id, message, rules, reply)
    if not is_kept:
        raise _not_replicated([message.id])
    if overdue := reply[3:]:
        yield from wake(namespace, overdue)
    return receipt


def _not_replicated(message_ids: Sequence[str]) -> NotReplicated:
    which = ", ".join(repr(message_id) for message_id in message_ids[:3]) + (
        ", ..." if len(message_ids) > 3 else ""  # noqa: PLR2004
    )
    return NotReplicated(
        f"Redis accepted the message(s) {which}, but no replica confirmed them within "
        f"{REPLICA_WAIT_S:g} s: they may be kept or not; adding them again with the same "
        "message_id is safe",
        message_ids=tuple(message_ids),
    )


_Rows = Sequence[tuple[str, Message, AddRules]]


def add_many(namespace: Namespace, rows: _Rows) -> Operation[list[Receipt]]:
    """Add messages, a few hundred in one round trip; the messages of a thread keep their order.

    Raises:
        MessageIdConflict, ThreadFull, ThreadBusy: As `add`, for the first message concerned; the others of its
            round trip, and of the next, are queued.
        NotReplicated: As `add`, for a whole round trip; the messages of later ones are not queued.
    """
    receipts: list[Receipt] = []
    overdue: dict[str, None] = {}

    def take(part: _Rows, replies: Sequence[Any]) -> None:
        for (thread_id, message, rules), raw in zip(part, replies, strict=True):
            reply = texts(raw)
            receipts.append(_receipt(thread_id, message, rules, reply))
            overdue.update(dict.fromkeys(reply[3:]))

    parts = [rows[start : start + BULK] for start in range(0, len(rows), BULK)]
    yield from (_add_replicated if rows and rows[0][2].replicated else _add_pipelined)(
        namespace, parts, take
    )
    yield from wake(namespace, list(overdue))
    return receipts


def _add_pipelined(
    namespace: Namespace, parts: Sequence[_Rows], take: Callable[[_Rows, Sequence[Any]], None]
) -> Operation[None]:
    """Prepare each round trip, and read the replies to the previous one, while Redis works."""
    before: tuple[_Rows, list[Call]] = ((), [])
    for part in [*parts, ()]:
        calls = _add_calls(namespace, part)
        replies = yield Pipelined(calls)
        if not any(map(says_corrupt, replies)):
            take(before[0], replies)
            before = (part, calls)
            continue
        # Both again, in order and as steps with repair, before anything else is sent: a refused
        # message must not follow a later one. Messages that were added return the same reply again:
        # the script recognises the nonce.
        yield Pipelined([])
        take(before[0], (yield before[1]))
        take(part, (yield calls))
        before = ((), [])


def _add_replicated(
    namespace: Namespace, parts: Sequence[_Rows], take: Callable[[_Rows, Sequence[Any]], None]
) -> Operation[None]:
    for number, part in enumerate(parts):
        replies, is_kept = yield from replicated(namespace, _add_calls(namespace, part))
        take(part, replies)
        if not is_kept:
            raise _not_replicated(
                [message.id for later in parts[number:] for _, message, _ in later]
            )


def _add_calls(namespace: Namespace, part: _Rows) -> list[Call]:
    return [_add_call(namespace, thread_id, message, rules) for thread_id, message, rules in part]


def _receipt(thread_id: str, message: Message, rules: AddRules, reply: Sequence[str]) -> Receipt:
    word = reply[0]
    if word == "conflict":
        same = reply[1] == thread_id
        where = "with another content" if same else f"of thread {reply[1]!r}"
        msg = (
            f"Message id {message.id!r} is already used by a message {where}; nothing was queued: "
            "use a new id for a new message"
        )
        raise MessageIdConflict(msg)
    if word == "full":
        msg = (
            f"Thread {thread_id!r} has {reply[1]} waiting messages, max_pending is "
            f"{rules.max_pending}; nothing was queued: add the message later"
        )
        raise ThreadFull(msg)
    if word == "busy":
        msg = (
            f"Thread {thread_id!r} has a batch that is not over, and mid_run is 'reject'; nothing "
            "was queued: add the message when it is answered"
        )
        raise ThreadBusy(msg)
    return Receipt(
        message_id=message.id,
        thread_id=thread_id,
        job_id=reply[2] or None,
        due_at=moment(int(reply[1])),
        duplicate=word == "duplicate",
    )
