"""The search of the operations page: exact ids by their keys, anything else in what is recent.

No key is scanned for. Texts, authors and runs have no index in Redis, so they are looked for in the
newest events, in the threads that have waited longest and in the newest failed batches, and the
answer says how many of each. The audit's database has the rest (`integrations/audit/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from assistant_queue import events as models
from assistant_queue.core.account import time_of
from assistant_queue.core.excerpts import excerpt
from assistant_queue.core.packed_text import mark_of, unpack
from assistant_queue.errors import StoreError
from assistant_queue.models import Message
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
from assistant_queue.store.keys import Keys
from assistant_queue.store.message_codec import unpack_labels, unpack_readable
from assistant_queue.store.ops import paused_threads
from assistant_queue.store.ops.event_log import ALL_THREADS, parse
from assistant_queue.store.ops.failures import failed_row
from assistant_queue.store.ops.packed_fields import PROGRESS, joined
from assistant_queue.store.ops.text_reading import Found, Wanted, read_first
from assistant_queue.values import valueclass

HitKind = Literal["thread", "message", "batch", "run", "author", "text", "reply", "error"]
HitSource = Literal["key", "recent", "waiting", "failed", "audit"]

EVENTS = 10_000
"""Newest events that are searched. Source: lua/_events.lua keeps as many."""
NAMES = 10_000
"""Thread ids that are searched for a part. Chosen: some milliseconds."""
WAITING = 300
"""Threads with texts that are searched: those that are due first. Chosen: some milliseconds."""
FAILED = 300
"""Newest failed batches that are searched. Chosen: some milliseconds."""
_PAGE = 2500
"""Events of one round trip. Chosen: two milliseconds of Redis' time."""
_SIEVED = 100
"""Events that are searched as one text, before each of them is. Chosen: halves the time."""
_MESSAGES = 50
"""Messages of one list that are searched. Chosen: a thread's list may hold thousands."""
_PIECES = 3
"""Pieces of a batch's progress that are read. Source: lua/read_texts.lua reads four fields."""


@valueclass(frozen=True, slots=True, kw_only=True)
class SearchHit:
    """Something that was found.

    Attributes:
        kind: What matched: an id of a `thread`, `message`, `batch` or `run`, an `author`, a `text`
            of a message, a `reply`, or an `error`.
        thread_id: Where it is.
        source: Where it was found: by its `key`, in `recent` events, in `waiting` threads, in the
            `failed` list, or in the `audit`.
        message_id: The message, if it is one.
        batch_id: The batch, if it is known.
        run_id: The provider's run, if it is known.
        author: The author of the message, if it is known.
        excerpt: The text around the match.
        at: When it happened; aware, UTC.
    """

    kind: HitKind
    thread_id: str
    source: HitSource
    message_id: str | None = None
    batch_id: str | None = None
    run_id: str | None = None
    author: str | None = None
    excerpt: str | None = None
    at: datetime | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """The result of a search, and what was searched.

    Attributes:
        hits: What was found: by id first, then the newest first.
        events: Newest events that were read.
        since: When the oldest of them happened; aware, UTC.
        waiting: Threads with waiting messages that were read.
        failed: Failed batches that were read.
        names: Thread ids that were compared.
        is_cut: There is more than was returned.
    """

    hits: tuple[SearchHit, ...] = ()
    events: int = 0
    since: datetime | None = None
    waiting: int = 0
    failed: int = 0
    names: int = 0
    is_cut: bool = False


class _Hits:
    """The hits so far, each thing once."""

    def __init__(self, needle: str, most: int) -> None:
        self.needle = needle
        self.folded = needle.casefold()
        # JSON in JSON writes most texts as they are, so that most entries need not be parsed.
        self.is_plain = needle.isprintable() and not set(needle) & set('"\\/')
        self.most = most
        self.found: dict[tuple[Any, ...], SearchHit] = {}
        self.is_cut = False

    def add(self, hit: SearchHit) -> None:
        """Keep a hit; one of the same message, batch or thread stays as it was."""
        name = (hit.thread_id, hit.message_id, hit.batch_id if hit.message_id is None else None)
        if name in self.found:
            return
        if len(self.found) >= self.most:
            self.is_cut = True
            return
        self.found[name] = hit

    def has(self, value: str | None) -> bool:
        """Return whether a text contains what is looked for."""
        return bool(value) and self.folded in value.casefold()  # type: ignore[union-attr]

    def may_have(self, stored: Sequence[Any]) -> bool:
        """Return False for stored values of which surely none contains what is looked for."""
        if not self.is_plain or not stored:
            return self.is_plain is False
        is_bytes = isinstance(stored[0], bytes)
        together = text(b"\0".join(stored)) if is_bytes else "\0".join(stored)
        return self.folded in together.casefold() or "\\u" in together

    def of_message(self, thread_id: str, message: Message, source: HitSource) -> SearchHit | None:
        """Return the hit of a message's author or text."""
        said = message.text
        kind: HitKind | None = None
        if self.has(message.author):
            kind = "author"
        elif self.has(said):
            kind = "text"
        if kind is None:
            return None
        return SearchHit(
            kind=kind,
            thread_id=thread_id,
            source=source,
            message_id=message.id,
            author=message.author,
            excerpt=excerpt(said, self.needle),
            at=message.queued_at,
        )


def search(namespace: Namespace, needle: str, most: int) -> Operation[Searched]:
    """Look for a text: an id, a part of a thread's id, an author, a part of a message or a reply."""
    keys = namespace.keys
    hits = _Hits(needle, most)
    *of_key, due, paused, failed = yield from each_or_error(
        [
            *_of_key(keys, needle),
            plain("ZRANGE", keys.due, 0, NAMES - 1),
            paused_threads.slice_of(namespace, 0, NAMES),
            plain("ZRANGE", keys.failed, 0, FAILED - 1, "REV"),
        ]
    )
    _add_named(of_key, hits)
    names = [*_ids(due), *_ids(paused)]
    if hits.may_have(names):
        for name in names:
            if hits.has(name):
                hits.add(SearchHit(kind="thread", thread_id=name, source="waiting"))
    of_waiting, of_failed = yield from read_first(
        namespace,
        Wanted(
            ids=list(dict.fromkeys(names))[:WAITING],
            record=keys.thread,
            fields=("batch", *PROGRESS[:_PIECES]),
            lists=(keys.pending, keys.frozen),
            most=_MESSAGES,
        ),
        Wanted(
            ids=_ids(failed),
            record=keys.record,
            fields=("thread", "failure", "failed_at"),
            lists=(keys.dead,),
            most=_MESSAGES,
        ),
    )
    for one in of_waiting:
        _add_waiting(one, hits)
    for one in of_failed:
        _add_failed(namespace, one, hits)
    events, since = yield from _in_events(namespace, hits)
    return Searched(
        hits=tuple(hits.found.values()),
        events=events,
        since=since,
        waiting=len(of_waiting),
        failed=len(of_failed),
        names=len(names),
        is_cut=hits.is_cut,
    )


def _of_key(keys: Keys, needle: str) -> list[Call]:
    return [
        plain("HMGET", keys.message(needle), "thread", "batch", "labels", "at"),
        plain("HMGET", keys.record(needle), "thread", "failed_at"),
        plain("HGET", keys.thread(needle), "state"),
        plain("HGET", keys.thread(needle), "paused"),
        plain("EXISTS", keys.conversation(needle)),
        plain("EXISTS", keys.journal(needle)),
        plain("EXISTS", keys.outbox(needle)),
    ]


def _add_named(replies: Sequence[Any], hits: _Hits) -> None:
    """Add what has the needle as its id, from the replies to `_of_key`."""
    message, record, *thread = replies
    needle = hits.needle
    if any(reply for reply in thread if not isinstance(reply, StoreError)):
        hits.add(SearchHit(kind="thread", thread_id=needle, source="key"))
    if not isinstance(message, StoreError) and message[0]:
        thread_id, batch_id, labels, at = texts(message)
        found = SearchHit(
            kind="message",
            thread_id=thread_id,
            source="key",
            message_id=needle,
            batch_id=batch_id or None,
            author=unpack_labels(labels).author,
            at=time_of(whole_number(at)),
        )
        hits.add(found)
    if not isinstance(record, StoreError) and record[0]:
        thread_id, at = texts(record)
        hits.add(
            SearchHit(
                kind="batch",
                thread_id=thread_id,
                source="key",
                batch_id=needle,
                at=time_of(whole_number(at)),
            )
        )


def _add_waiting(found: Found, hits: _Hits) -> None:
    batch_id, *progress = found.fields or ["", ""]
    if batch_id and _names(progress, hits.needle):
        run = SearchHit(
            kind="run", thread_id=found.id, source="waiting", batch_id=batch_id, run_id=hits.needle
        )
        hits.add(run)
    for message in _messages(found.entries, hits):
        hit = hits.of_message(found.id, message, "waiting")
        if hit is not None:
            hits.add(hit)


def _names(progress: Sequence[str], run_id: str) -> bool:
    """Return whether the progress of a batch has this id; of a very long one, if its run has it."""
    known = joined(progress)
    try:
        return f'"{run_id}"' in unpack(known)
    except ValueError:  # a part of it was read
        return mark_of(run_id) in known.split(" ")[1:2]


def _add_failed(namespace: Namespace, found: Found, hits: _Hits) -> None:
    record = found.fields or ["", "", ""]
    if not hits.may_have([*record, *found.entries]):
        return
    row = failed_row(namespace, found.id, record)
    base = SearchHit(
        kind="run",
        thread_id=row.thread_id,
        source="failed",
        batch_id=row.batch_id,
        run_id=row.known_run_id,
        at=row.failed_at,
    )
    if row.known_run_id == hits.needle:
        hits.add(base)
    elif hits.has(row.thread_id):
        hits.add(replace(base, kind="thread"))
    elif hits.has(row.error.code) or hits.has(row.error.message):
        said = f"{row.error.code}: {row.error.message}"
        hits.add(replace(base, kind="error", excerpt=excerpt(said, hits.needle)))
    for message in _messages(found.entries, hits):
        hit = hits.of_message(row.thread_id, message, "failed")
        if hit is not None:
            hits.add(replace(hit, batch_id=row.batch_id))


def _in_events(namespace: Namespace, hits: _Hits) -> Operation[tuple[int, datetime | None]]:
    """Search the feed, newest first, until there are enough hits."""
    read = 0
    since = None
    end = "+"
    while read < EVENTS and not hits.is_cut:
        (reply,) = yield from each_or_error(
            [plain("XREVRANGE", namespace.keys.feed, end, "-", "COUNT", _PAGE)]
        )
        rows = [] if isinstance(reply, StoreError) else reply
        for first in range(0, len(rows), _SIEVED):
            part = rows[first : first + _SIEVED]
            if hits.may_have([value for _, fields in part for value in _values(fields)]):
                _add_events(part, hits)
        read += len(rows)
        if not rows:
            break
        last = text(rows[-1][0])
        since = time_of(whole_number(last.partition("-")[0]))
        if len(rows) < _PAGE:
            break
        end = f"({last}"
    return read, since


def _add_events(rows: Sequence[Any], hits: _Hits) -> None:
    for entry_id, fields in rows:
        if hits.may_have(_values(fields)):
            event = parse(ALL_THREADS, text(entry_id), fields)
            for hit in () if event is None else _of_event(event, hits):
                hits.add(hit)


def _values(fields: Any) -> Sequence[Any]:
    """Return the values of an entry: redis-py gives the fields as a list or as a dict."""
    return list(fields.values()) if isinstance(fields, Mapping) else fields[1::2]


def _of_event(event: models.Event, hits: _Hits) -> Iterator[SearchHit]:
    thread_id = event.thread_id
    base = SearchHit(
        kind="thread",
        thread_id=thread_id,
        source="recent",
        batch_id=getattr(event, "batch_id", None),
        run_id=getattr(event, "run_id", None) or None,
        at=event.at,
    )
    if hits.has(thread_id):
        yield SearchHit(kind="thread", thread_id=thread_id, source="recent", at=event.at)
    if isinstance(event, models.MessageQueued | models.MessageEdited):
        author = getattr(event, "author", None)
        message = Message(id=event.message_id, content=event.content, author=author)
        hit = hits.of_message(thread_id, message, "recent")
        if hit is not None:
            yield replace(hit, at=event.at)
    if hits.needle in {base.run_id, base.batch_id}:
        yield replace(base, kind="run" if base.run_id == hits.needle else "batch")
    reply = getattr(event, "reply", None)
    if isinstance(reply, str) and hits.has(reply):
        yield replace(base, kind="reply", excerpt=excerpt(reply, hits.needle))
    if isinstance(event, models.TextSaid) and (hits.has(event.text) or hits.has(event.author)):
        yield replace(
            base,
            kind="reply",
            message_id=event.message_id,
            author=event.author,
            excerpt=excerpt(event.text, hits.needle),
        )


def _messages(entries: Sequence[str], hits: _Hits) -> Sequence[Message]:
    found, _ = unpack_readable([entry for entry in entries if hits.may_have([entry])])
    return found


def _ids(reply: Any) -> list[str]:
    return [] if isinstance(reply, StoreError) else texts(reply)
