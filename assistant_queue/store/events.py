"""Operations on a thread's events, and what an entry of its stream means. The scripts that change a thread write them."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from assistant_queue import event_models as models
from assistant_queue.config import Config, to_ms
from assistant_queue.core.progress import load_error, moment
from assistant_queue.core.window import Window
from assistant_queue.errors import ConfigurationError, LeaseLost
from assistant_queue.models import ErrorInfo, ToolCall
from assistant_queue.store.calls import EventRules, Operation, Space, text
from assistant_queue.store.packing import unpack

if TYPE_CHECKING:
    from assistant_queue.store.holding import Lease

_log = logging.getLogger(__name__)

START = "0-0"
"""Before every event."""


def event_rules(config: Config) -> EventRules:
    """How events are kept, by the options."""
    return EventRules(mode=config.events, limit=config.event_limit, ttl_ms=to_ms(config.event_ttl))


# --- to be told ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class News:
    """Something to tell those who listen, beside what a script sees itself: the event's type, and its own fields."""

    type: str
    data: Mapping[str, Any]


def tool_called(batch_id: str, run_id: str, call: ToolCall) -> News:
    """A function is about to be called."""
    data = {"tool_call_id": call.id, "name": call.function.name, "arguments": call.function.arguments}
    return News("tool_called", {"batch_id": batch_id, "run_id": run_id, **data})


def tool_answered(batch_id: str, run_id: str, call_id: str, output: str) -> News:
    """Its output is known."""
    return News("tool_answered", {"batch_id": batch_id, "run_id": run_id, "tool_call_id": call_id, "output": output})


def text_delta(batch_id: str, run_id: str, index: int, offset: int, piece: str) -> News:
    """A piece of a run's text."""
    return News("text_delta", {"batch_id": batch_id, "run_id": run_id, "index": index, "offset": offset, "text": piece})


def dump_news(news: Sequence[News]) -> str:
    """As the scripts take it."""
    return _json([[one.type, _json(one.data)] for one in news]) if news else ""


def _json(value: Any) -> str:
    """JSON with letters as they are; half a surrogate pair, which models cut off, has no bytes and is written as its number."""
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    try:
        plain.encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))
    return plain


TYPING_MS = 5000
"""How long somebody who was seen typing is taken to go on. Chosen: what chat programs take; a page says it again every few seconds."""
COALESCE_MS = 2000
"""How soon after the last one the same author's typing is told again. Chosen: well before `TYPING_MS` is over."""


def typing(space: Space, thread_id: str, author: str, window: Window) -> Operation[None]:
    """Somebody types: a sliding window stays open for a while, and those who listen see it."""
    yield space.call(
        "typing",
        thread_id,
        author=author,
        hold_ms=TYPING_MS,
        coalesce_ms=COALESCE_MS,
        window=window.kind,
        max_wait_ms=window.max_wait_ms,
    )


def tell(space: Space, lease: Lease, told: str, news: Sequence[News]) -> Operation[bool]:
    """Tell pieces of a run's text, and store that they were told; whether somebody listens. If nobody does, nothing is stored.

    Raises:
        LeaseLost: Another worker holds the thread; nothing was told.
    """
    reply = yield space.call("tell", lease.thread_id, token=lease.token, number=next(lease.numbers), told=told, news=dump_news(news))
    if text(reply[0]) == "lost":
        raise LeaseLost(f"the lease on thread {lease.thread_id!r} is another worker's now; nothing was told")
    return text(reply[1]) == "1"


# --- to be read ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """The ends of a thread's stream: the ids of its oldest and newest entries."""

    oldest: str
    newest: str


def listen(space: Space, thread_id: str) -> Operation[Stream]:
    """See to it that a thread's events are kept from now on.

    Raises:
        ConfigurationError: Events are "off".
    """
    reply = yield space.call("listen", thread_id)
    if text(reply[0]) == "off":
        raise ConfigurationError('events are "off" in this queue: make it with events="listened" or events="always"')
    return Stream(oldest=text(reply[1]), newest=text(reply[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What a stream holds behind an id.

    Attributes:
        missed: Events behind that id may be gone. The page then begins with the oldest that is kept.
        last: The id of the last entry, the given one if there was none; entries that tell nothing count.
        events: In order.
    """

    missed: bool
    last: str
    events: tuple[models.Event, ...]


def read(space: Space, thread_id: str, after: str, count: int) -> Operation[Page]:
    """The events behind `after`, at most `count`."""
    oldest, newest, entries = yield space.call("read_events", thread_id, after=after, count=count)
    missed = is_missed(after, text(oldest), text(newest))
    if missed and order(after) > order(text(newest) or START):
        entries = (yield space.call("read_events", thread_id, after=START, count=count))[2]
    rows = [(text(entry_id), _fields(row)) for entry_id, row in entries]
    found = (parse(thread_id, entry_id, fields) for entry_id, fields in rows)
    return Page(missed=missed, last=rows[-1][0] if rows else after, events=tuple(event for event in found if event is not None))


def is_missed(after: str, oldest: str, newest: str) -> bool:
    """Whether a reader of `after` may have missed something: what it read last is older than all that is kept, or is not there any more."""
    if after == START:
        return False
    return not oldest or order(after) < order(oldest) or order(after) > order(newest)


def order(event_id: str) -> tuple[int, int]:
    """By what ids are ordered."""
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def _fields(row: Any) -> dict[str, str]:
    """An entry's fields, from a list as scripts give it or from a dict as redis-py makes it."""
    if isinstance(row, Mapping):
        return {text(name): text(value) for name, value in row.items()}
    return {text(row[i]): text(row[i + 1]) for i in range(0, len(row), 2)}


def parse(thread_id: str, entry_id: str, fields: Any) -> models.Event | None:
    """An entry as an event; None for one that tells nothing, that a newer version wrote, or that is not ours."""
    plain = _fields(fields)
    reader = _READERS.get(plain.get("type", ""))
    if reader is None:
        return None
    kind, values = reader
    try:
        event: models.Event = kind(id=entry_id, thread_id=thread_id, at=moment(int(plain["at"])), **values(json.loads(plain["data"])))
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("thread %r: entry %s is no event of ours (%s); it is left out", thread_id, entry_id, type(error).__name__)
        return None
    return event


def _queued(data: Mapping[str, Any]) -> dict[str, Any]:
    message = unpack(data["entry"])
    values = {"message_id": message.id, "author": message.author, "content": message.content}
    return {**values, "due_at": moment(int(data["due"])), "pending_count": int(data["pending"])}


def _edited(data: Mapping[str, Any]) -> dict[str, Any]:
    message = unpack(data["entry"])
    return {"message_id": message.id, "content": message.content}


def _moved(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"due_at": moment(int(data["due"])), "pending_count": int(data["pending"])}


def _typing(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"author": data["author"] or None, "until": moment(int(data["until"]))}


def _claimed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_id": data["batch_id"], "message_ids": tuple(data["message_ids"]), "attempt": int(data["attempt"])}


def _as_it_is(data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(data)


def _ready(data: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: data[name] for name in ("batch_id", "run_id", "reply", "incomplete_reason")}
    return {**values, "message_ids": tuple(data["message_ids"]), "replies": tuple(data["replies"])}


def _attempt(data: Mapping[str, Any]) -> dict[str, Any]:
    values = {"batch_id": data["batch_id"], "attempt": int(data["attempt"]), "error": _error(data.get("error"))}
    return {**values, "retry_at": moment(int(data["retry_at"]))}


def _error(data: Any) -> ErrorInfo:
    return load_error(data) if data else ErrorInfo(code="error", message="unknown")


def _failed(data: Mapping[str, Any]) -> dict[str, Any]:
    failure = json.loads(data["failure"])
    return {"batch_id": data["batch_id"], "message_ids": tuple(failure["message_ids"]), "error": load_error(failure["error"])}


def _retried(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_id": data["batch_id"], "message_ids": tuple(data["message_ids"]), "pending_count": int(data["pending"])}


def _discarded(data: Mapping[str, Any]) -> dict[str, Any]:
    return {"batch_id": data["batch_id"], "message_ids": tuple(data["message_ids"])}


_READERS: dict[str, tuple[Callable[..., Any], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "message_queued": (models.MessageQueued, _queued),
    "message_edited": (models.MessageEdited, _edited),
    "message_cancelled": (models.MessageCancelled, _as_it_is),
    "window_moved": (models.WindowMoved, _moved),
    "typing": (models.Typing, _typing),
    "batch_claimed": (models.BatchClaimed, _claimed),
    "run_started": (models.RunStarted, _as_it_is),
    "text_delta": (models.TextDelta, _as_it_is),
    "tool_called": (models.ToolCalled, _as_it_is),
    "tool_answered": (models.ToolAnswered, _as_it_is),
    "reply_ready": (models.ReplyReady, _ready),
    "attempt_failed": (models.AttemptFailed, _attempt),
    "batch_parked": (models.BatchParked, _failed),
    "batch_dead_lettered": (models.BatchDeadLettered, _failed),
    "batch_retried": (models.BatchRetried, _retried),
    "batch_discarded": (models.BatchDiscarded, _discarded),
}
"""What the scripts write under each type, and how it is read."""
