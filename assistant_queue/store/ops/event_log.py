"""Operations on a thread's events, and the parsing of its stream's entries.

The scripts that change a thread write most of them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assistant_queue import events as models
from assistant_queue.config import Config, to_ms
from assistant_queue.core.account import time_of, with_account
from assistant_queue.core.compact_json import to_ascii_json, to_json
from assistant_queue.core.progress import load_error, load_result, moment
from assistant_queue.core.window import Window
from assistant_queue.errors import ConfigurationError, LeaseLost
from assistant_queue.models import ErrorInfo, ToolCall
from assistant_queue.store.calls import EventRules, Namespace, Operation, text
from assistant_queue.store.message_codec import unpack
from assistant_queue.values import valueclass

if TYPE_CHECKING:
    from assistant_queue.store.ops.leases import Lease

_log = logging.getLogger(__name__)

START = "0-0"
"""An id before every event."""
ALL_THREADS = ""
"""Instead of a thread's id: the feed of all threads. No thread has it."""


def event_rules(config: Config) -> EventRules:
    """Return the retention of events that the options ask for."""
    return EventRules(mode=config.events, limit=config.event_limit, ttl_ms=to_ms(config.event_ttl))


# --- to publish -----------------------------------------------------------------------------------


@valueclass(frozen=True, slots=True)
class NewEvent:
    """An event published by a caller, beyond those of the scripts: its type and its own fields."""

    type: str
    data: Mapping[str, Any]


def tool_called(batch_id: str, run_id: str, call: ToolCall) -> NewEvent:
    """Return the event of a tool call that begins."""
    data = {
        "tool_call_id": call.id,
        "name": call.function.name,
        "arguments": call.function.arguments,
    }
    return NewEvent("tool_called", {"batch_id": batch_id, "run_id": run_id, **data})


def tool_answered(batch_id: str, run_id: str, call_id: str, output: str) -> NewEvent:
    """Return the event of a tool call's output."""
    return NewEvent(
        "tool_answered",
        {"batch_id": batch_id, "run_id": run_id, "tool_call_id": call_id, "output": output},
    )


def text_delta(batch_id: str, run_id: str, index: int, offset: int, piece: str) -> NewEvent:
    """Return the event of a piece of a run's text."""
    return NewEvent(
        "text_delta",
        {"batch_id": batch_id, "run_id": run_id, "index": index, "offset": offset, "text": piece},
    )


def dump_events(new_events: Sequence[NewEvent]) -> str:
    """Return events in the form that the scripts accept."""
    return _json([[one.type, _json(one.data)] for one in new_events]) if new_events else ""


def _json(value: Any) -> str:
    """Return JSON as UTF-8, or escaped as ASCII if it contains half of a surrogate pair."""
    plain = to_json(value)
    try:
        plain.encode()
    except UnicodeEncodeError:
        return to_ascii_json(value)
    return plain


TYPING_MS = 5000
"""Time for which an author counts as typing after a notice. Chosen: the usual time of chat
programs; a page repeats the notice every few seconds."""
COALESCE_MS = 2000
"""Minimum time between two published `typing` events of an author. Chosen: well below
`TYPING_MS`."""


def typing(namespace: Namespace, thread_id: str, author: str, window: Window) -> Operation[None]:
    """Extend an open sliding window because a user types, and publish it."""
    yield namespace.call(
        "typing",
        thread_id,
        author=author,
        hold_ms=TYPING_MS,
        coalesce_ms=COALESCE_MS,
        window=window.kind,
        max_wait_ms=window.max_wait_ms,
    )


def publish(
    namespace: Namespace, lease: Lease, published: str, new_events: Sequence[NewEvent]
) -> Operation[bool]:
    """Publish pieces of a run's text, and store `published`, which says how much there is now.

    Returns:
        Whether the thread has subscribers. Without any, nothing is stored.

    Raises:
        LeaseLost: Another worker holds the thread; nothing was published.
    """
    reply = yield namespace.call(
        "tell",
        lease.thread_id,
        token=lease.token,
        number=next(lease.numbers),
        told=published,
        new_events=dump_events(new_events),
    )
    if text(reply[0]) == "lost":
        raise LeaseLost(
            f"The lease on thread {lease.thread_id!r} is another worker's now; "
            "nothing was published"
        )
    return text(reply[1]) == "1"


# --- to read --------------------------------------------------------------------------------------


@valueclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The ends of a thread's stream: the ids of its oldest and newest entries."""

    oldest: str
    newest: str


def stream_of(namespace: Namespace, thread_id: str) -> str:
    """Return the key of a thread's stream, or of the feed for `ALL_THREADS`."""
    keys = namespace.keys
    return keys.feed if thread_id == ALL_THREADS else keys.events(thread_id)


def listen(namespace: Namespace, thread_id: str) -> Operation[Stream]:
    """Keep the events of a thread, or of `ALL_THREADS`, from now on.

    Raises:
        ConfigurationError: Events are "off".
    """
    keys = {"stream": stream_of(namespace, thread_id)}
    reply = yield namespace.call("listen", thread_id, keys=keys)
    if text(reply[0]) == "off":
        raise ConfigurationError(
            'Events are disabled in this queue (events="off"): create it with events="listened" '
            'or events="always"'
        )
    return Stream(oldest=text(reply[1]), newest=text(reply[2]))


@valueclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """The events of a stream after an id.

    Attributes:
        missed: Events after that id may be gone. The page then begins with the oldest that is kept.
        last: The id of the last entry, the given one if there was none; entries that are no events
            count.
        events: In order.
    """

    missed: bool
    last: str
    events: tuple[models.Event, ...]


def read(namespace: Namespace, thread_id: str, after: str, count: int) -> Operation[EventPage]:
    """Return the events of a thread, or of `ALL_THREADS`, after `after`, at most `count`."""
    keys = {"stream": stream_of(namespace, thread_id)}
    oldest, newest, entries = yield namespace.call(
        "read_events", thread_id, keys=keys, after=after, count=count
    )
    missed = is_missed(after, text(oldest), text(newest))
    if missed and order(after) > order(text(newest) or START):
        again = namespace.call("read_events", thread_id, keys=keys, after=START, count=count)
        entries = (yield again)[2]
    rows = [(text(entry_id), _fields(row)) for entry_id, row in entries]
    found = (parse(thread_id, entry_id, fields) for entry_id, fields in rows)
    return EventPage(
        missed=missed,
        last=rows[-1][0] if rows else after,
        events=tuple(event for event in found if event is not None),
    )


def is_missed(after: str, oldest: str, newest: str) -> bool:
    """Return whether events after `after` may be gone: it is older or newer than all kept ones."""
    if after == START:
        return False
    return not oldest or order(after) < order(oldest) or order(after) > order(newest)


def order(event_id: str) -> tuple[int, int]:
    """Return the sort key of an event id."""
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def _fields(row: Any) -> dict[str, str]:
    """Return an entry's fields, from a script's list or from redis-py's dict."""
    if isinstance(row, Mapping):
        return {text(name): text(value) for name, value in row.items()}
    return {text(row[i]): text(row[i + 1]) for i in range(0, len(row), 2)}


def parse(thread_id: str, entry_id: str, fields: Any) -> models.Event | None:
    """Return an entry as an event; None for a stream's first entry and for an unknown type.

    An entry of the feed names its thread.
    """
    plain = _fields(fields)
    reader = _READERS.get(plain.get("type", ""))
    if reader is None:
        return None
    kind, values = reader
    try:
        event: models.Event = kind(
            id=entry_id,
            thread_id=plain["thread"] if thread_id == ALL_THREADS else thread_id,
            at=moment(int(plain["at"])),
            **values(json.loads(plain["data"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        _log.warning(
            "thread %r: entry %s is not a valid event (%s); it is skipped",
            thread_id,
            entry_id,
            type(error).__name__,
        )
        return None
    return event


def _queued(data: Mapping[str, Any]) -> dict[str, Any]:
    message = unpack(data["entry"])
    values = {"message_id": message.id, "author": message.author, "content": message.content}
    return {**values, "due_at": time_of(int(data["due"])), "pending_count": int(data["pending"])}


def _edited(data: Mapping[str, Any]) -> dict[str, Any]:
    message = unpack(data["entry"])
    return {"message_id": message.id, "content": message.content}


def _moved(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"due_at": time_of(int(data["due"])), "pending_count": int(data["pending"])}


def _typing(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"author": data["author"] or None, "until": moment(int(data["until"]))}


def _claimed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "batch_id": data["batch_id"],
        "message_ids": tuple(data["message_ids"]),
        "attempt": int(data["attempt"]),
    }


def _unchanged(data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(data)


_OF_ACCOUNT = ("usage", "model", "tenant", "timeline", "answered_by")
"""Fields of a reply's event that are published beside the result."""


def _ready(data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("batch_id", "run_id", "reply", "incomplete_reason")
    values: dict[str, Any] = {name: data[name] for name in names}
    if "account" in data:  # version 0.1 publishes none
        result = with_account(load_result(data), data["account"])
        values |= {name: getattr(result, name) for name in _OF_ACCOUNT}
    return {**values, "message_ids": tuple(data["message_ids"]), "replies": tuple(data["replies"])}


def _taken_over(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"by": data["by"], "instead_of": data["instead_of"] or None}


def _stopped(data: Mapping[str, Any]) -> dict[str, Any]:
    result = load_result(data)
    names = ("batch_id", "run_id", "message_ids", "reply", "replies", "usage")
    return {name: getattr(result, name) for name in names}


def _joined(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "message_ids": tuple(data["message_ids"])}


def _requested(data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("batch_id", "call_id", "tool", "arguments", "question", "kind")
    return {
        **{name: data[name] for name in names},
        "authors": tuple(data["authors"]),
        "expires_at": moment(int(data["until"])),
    }


def _settled(data: Mapping[str, Any]) -> dict[str, Any]:
    names = ("batch_id", "call_id", "verdict", "by", "reason")
    return {name: data.get(name) for name in names}


def _attempt(data: Mapping[str, Any]) -> dict[str, Any]:
    values = {
        "batch_id": data["batch_id"],
        "attempt": int(data["attempt"]),
        "error": _error(data.get("error")),
    }
    return {**values, "retry_at": moment(int(data["retry_at"]))}


def _error(data: Any) -> ErrorInfo:
    return load_error(data) if data else ErrorInfo(code="error", message="unknown")


def _failed(data: Mapping[str, Any]) -> dict[str, Any]:
    failure = json.loads(data["failure"])
    return {
        "batch_id": data["batch_id"],
        "message_ids": tuple(failure["message_ids"]),
        "error": load_error(failure["error"]),
    }


def _delivered(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_id": data["batch_id"], "late": bool(data["late"])}


def _said(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**data, "author": data["author"] or None}


def _undelivered(data: Mapping[str, Any]) -> dict[str, Any]:
    return {**_failed(data), "reason": json.loads(data["failure"])["reason"]}


def _retried(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "batch_id": data["batch_id"],
        "message_ids": tuple(data["message_ids"]),
        "pending_count": int(data["pending"]),
    }


def _discarded(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_id": data["batch_id"], "message_ids": tuple(data["message_ids"])}


_READERS: dict[str, tuple[Callable[..., Any], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "message_queued": (models.MessageQueued, _queued),
    "message_edited": (models.MessageEdited, _edited),
    "message_cancelled": (models.MessageWithdrawn, _unchanged),
    "window_moved": (models.WindowMoved, _moved),
    "typing": (models.Typing, _typing),
    "batch_claimed": (models.BatchClaimed, _claimed),
    "run_started": (models.RunStarted, _unchanged),
    "text_delta": (models.TextDelta, _unchanged),
    "tool_called": (models.ToolCalled, _unchanged),
    "tool_answered": (models.ToolAnswered, _unchanged),
    "reply_ready": (models.ReplyReady, _ready),
    "reply_delivered": (models.ReplyDelivered, _delivered),
    "delivery_failed": (models.DeliveryFailed, _undelivered),
    "said": (models.TextSaid, _said),
    "taken_over": (models.TakenOver, _taken_over),
    "handed_back": (models.HandedBack, _unchanged),
    "run_stopped": (models.RunStopped, _stopped),
    "run_interrupted": (models.RunInterrupted, _joined),
    "interrupt_refused": (models.InterruptRefused, _unchanged),
    "message_steered": (models.MessageSteered, _joined),
    "approval_requested": (models.ApprovalRequested, _requested),
    "approval_settled": (models.ApprovalSettled, _settled),
    "attempt_failed": (models.AttemptFailed, _attempt),
    "batch_parked": (models.BatchParked, _failed),
    "batch_dead_lettered": (models.BatchDeadLettered, _failed),
    "batch_retried": (models.BatchRetried, _retried),
    "batch_discarded": (models.BatchDiscarded, _discarded),
}
"""Event class and parser of each type that the scripts write."""
