"""Notes in a thread's journal about messages of its history: their authors and their times. No I/O.

Providers that keep items without a time and without metadata (Responses) show neither. The entry of
a batch (`journal_entries.py`) has its messages' author, their times to a second, and a short hash
of the id of each item that the model wrote: one string, of 15 bytes for most batches. No texts.

A user's item has no id that a run returns. It is recognised by its place: directly before the first
item of its batch's answer, with as many neighbours as the batch had messages. Wherever that leaves
a choice, nothing is said.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from assistant_queue.core.packed_ids import unpack_id
from assistant_queue.core.progress import moment
from assistant_queue.models import Message
from assistant_queue.values import valueclass

MOST_SHOWN = 8
"""Items of an answer that are noted: the first, and the latest. Chosen: most answers are one."""
_HASH_BYTES = 6
"""Of an item's id. Chosen: among the 5,000 items of a long conversation and the 200 entries of a
journal, two alike are a matter of one in a hundred million."""
_HASH_CHARS = 8
_WRITTEN = "="
"""Before the items of a batch that was written without a run: they are its messages."""
_STEP = ","
"""Before the seconds from one message to the next; nothing follows for 0."""
_AUTHOR = ":"
"""Before the author of all messages."""
AUTHORS = "a"
"""Name of the authors among the further fields of an entry, if there are several."""
_QUEUED = 1
"""Place of the time at which the first message was queued, among the times of an entry."""

Kind = Literal["user", "assistant", "other"]


@valueclass(frozen=True, slots=True)
class Note:
    """Author and time of one message."""

    author: str | None = None
    at: datetime | None = None


@valueclass(frozen=True, slots=True)
class Item:
    """One item of a conversation: `other` is none of a user and no text of the model."""

    id: str
    kind: Kind


# --- writing --------------------------------------------------------------------------------------


def mark_of(item_id: str) -> str:
    """Return the short hash of an item's id."""
    digest = hashlib.blake2b(item_id.encode(errors="replace"), digest_size=_HASH_BYTES).digest()
    return base64.urlsafe_b64encode(digest).decode()


def dump_items(messages: Sequence[Message], shown: Sequence[str], *, is_written: bool) -> str:
    """Return the items, times and author of a batch, for its entry; "" if there are none to note.

    Args:
        messages: The messages of the batch that its entry names.
        shown: The provider's ids of the items of its answer.
        is_written: The batch was written to the conversation, without a run; `shown` are its own
            items then.
    """
    kept = shown if len(shown) <= MOST_SHOWN else (shown[0], *shown[len(shown) - MOST_SHOWN + 1 :])
    if is_written:
        kept = shown if len(shown) == len(messages) else ()
    marks = "".join(map(mark_of, kept))
    times = [one.queued_at for one in messages]
    known = [at for at in times if at is not None]
    steps: list[str] = []
    if len(known) == len(times) > 1:
        first = min(known)
        seconds = [int((at - first).total_seconds()) for at in known]
        each = [one - before for before, one in zip([0, *seconds], seconds, strict=False)]
        steps = [str(one or "") for one in (each if each[0] else each[1:])]
    found = _STEP.join([f"{_WRITTEN if marks and is_written else ''}{marks}", *steps])
    names = {one.author for one in messages}
    author = names.pop() if len(names) == 1 else None
    return f"{found}{_AUTHOR}{author}" if author else found


def dump_authors(messages: Sequence[Message]) -> list[str]:
    """Return the authors of messages, one each, if they are several; else none."""
    names = [one.author or "" for one in messages]
    return names if len(set(names)) > 1 else []


# --- reading --------------------------------------------------------------------------------------


@valueclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """Notes of the history in the entry of a batch.

    Attributes:
        notes: Of its messages, in order.
        is_whole: They are all of its messages.
        answered: Of its answer.
        shown: Marks of the items of the answer, or of its messages if it `is_written`.
    """

    message_ids: Sequence[str]
    notes: Sequence[Note]
    is_whole: bool
    answered: Note
    shown: Sequence[str]
    is_written: bool


@valueclass(frozen=True)
class HistoryNotes:
    """The notes of a thread; empty without a journal."""

    _batches: Mapping[str, _Batch] = field(default_factory=dict)

    @cached_property
    def _by_message(self) -> Mapping[str, Note]:
        return {
            message_id: note
            for batch in self._batches.values()
            for message_id, note in zip(batch.message_ids, batch.notes, strict=True)
        }

    def __bool__(self) -> bool:
        return bool(self._batches)

    def of_messages(self, message_ids: Iterable[str]) -> Note:
        """Return the note of an item that carries these messages: their common author."""
        wanted = set(message_ids)
        if not wanted or not wanted <= self._by_message.keys():
            return Note()
        found = [self._by_message[message_id] for message_id in wanted]
        authors = {note.author for note in found}
        times = [note.at for note in found if note.at is not None]
        return Note(
            author=authors.pop() if len(authors) == 1 else None, at=min(times, default=None)
        )

    def of_place(self, batch_id: str, place: int, role: str) -> Note:
        """Return the note of a batch's message with this number; later ones are its answer."""
        batch = self._batches.get(batch_id)
        if batch is None or not batch.is_whole:
            return Note()
        if place < len(batch.notes):
            return batch.notes[place]
        return batch.answered if role == "assistant" else Note()

    def of_items(self, items: Sequence[Item], *, begins: bool, ends: bool) -> dict[str, Note]:
        """Return the notes of items, by their ids.

        Args:
            items: A part of a conversation, oldest first, without a gap.
            begins: The first of them is the conversation's first.
            ends: The last of them is its last.
        """
        places = {mark_of(item.id): place for place, item in enumerate(items)}
        found: dict[int, Note] = {}
        for batch in self._batches.values():
            for mark, note in zip(batch.shown, _notes_of_shown(batch), strict=True):
                if mark in places:
                    found[places[mark]] = note
        exact = frozenset(found)
        listed = self._listed(places)
        for batch in self._batches.values() if listed == sorted(listed) else ():
            if batch.is_written or not batch.is_whole or not batch.shown:
                continue
            first = places.get(batch.shown[0], -1)
            asked = _asked_before(items, first, exact, begins=begins)
            if len(asked) != len(batch.notes):
                continue
            # Two known items prove the order; one alone does not.
            if len(listed) > 1 or not _follows(items, first, ends=ends):
                found.update(zip(asked, batch.notes, strict=True))
        return {items[place].id: note for place, note in found.items()}

    def _listed(self, places: Mapping[str, int]) -> list[int]:
        """Return the places of the known items, in the order in which their batches ended."""
        return [
            places[mark]
            for batch in self._batches.values()
            for mark in batch.shown
            if mark in places
        ]


NO_NOTES = HistoryNotes()
"""Of a thread without a journal."""


def _notes_of_shown(batch: _Batch) -> Sequence[Note]:
    return batch.notes if batch.is_written else [batch.answered] * len(batch.shown)


def _asked_before(
    items: Sequence[Item], end: int, exact: frozenset[int], *, begins: bool
) -> list[int]:
    """Return the places of the users' items right before an answer; none if there may be more."""
    place = end - 1
    while place >= 0 and items[place].kind == "other":
        place -= 1
    asked: list[int] = []
    while place >= 0 and items[place].kind == "user" and place not in exact:
        asked.append(place)
        place -= 1
    return asked[::-1] if place >= 0 or begins else []


def _follows(items: Sequence[Item], answer: int, *, ends: bool) -> bool:
    """Return whether a question comes right after an answer, or may do so after the last item.

    A server may ignore the order that it is asked for: read from the wrong end, each answer is
    followed by its own question.
    """
    after = next((item for item in items[answer + 1 :] if item.kind != "other"), None)
    return not ends if after is None else after.kind == "user"


def load_notes(entries: Iterable[str]) -> HistoryNotes:
    """Return the notes of a journal's entries, oldest first; what cannot be read has none."""
    found: dict[str, _Batch] = {}
    for entry in entries:
        with suppress(
            ValueError, TypeError, IndexError, AttributeError, OverflowError, KeyError, OSError
        ):
            ended_ms, packed_id, packed_ids, times, *fields = json.loads(entry)
            if packed_ids:
                batch = _load_batch(ended_ms, packed_ids, times, fields)
                found[unpack_id(packed_id)] = batch
    return HistoryNotes(found)


def _load_batch(
    ended_ms: int, packed_ids: list[str], times: list[Any], fields: list[Any]
) -> _Batch:
    more = next((one for one in fields if isinstance(one, dict)), {})
    noted, _, author = next((one for one in fields if isinstance(one, str)), "").partition(_AUTHOR)
    said, *steps = noted.split(_STEP)
    ids = [unpack_id(one) for one in packed_ids]
    is_said = more.get("o") == "s"
    before = 0 if is_said else times[_QUEUED] if len(times) > _QUEUED else None
    marks = said.removeprefix(_WRITTEN)
    return _Batch(
        message_ids=ids,
        notes=[
            Note(author, at)
            for author, at in zip(
                _authors(more.get(AUTHORS) or [author] * len(ids)),
                _times(None if before is None else ended_ms - before, steps, len(ids)),
                strict=True,
            )
        ],
        is_whole=more.get("n", len(ids)) == len(ids),
        answered=Note(at=moment(ended_ms)),
        shown=[marks[at : at + _HASH_CHARS] for at in range(0, len(marks), _HASH_CHARS)],
        is_written=said.startswith(_WRITTEN),
    )


def _authors(names: Sequence[str]) -> list[str | None]:
    return [str(one) or None for one in names]


def _times(first_ms: int | None, steps: Sequence[str], count: int) -> list[datetime | None]:
    """Return the times of the messages: the first one's, and steps in seconds to the others.

    The steps begin with one to the first message itself, if that was not queued first.
    """
    filled = [int(step or 0) for step in (["", *steps] if len(steps) < count else steps)]
    if first_ms is None or len(filled) != count:
        return [None] * count
    return [moment(first_ms + sum(filled[: place + 1]) * 1000) for place in range(count)]
