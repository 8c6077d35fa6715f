"""Read lists and records of many threads or batches in few commands (lua/read_texts.lua).

One command each would cost more time of the client than all others of a request together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from assistant_queue.errors import StoreError
from assistant_queue.store.calls import Call, Namespace, Operation, each_or_error, texts
from assistant_queue.values import valueclass

_AT_ONCE = 100
"""Threads or batches of one command. Chosen: a millisecond of Redis' time."""
_CHARS = 1_000_000
"""Bytes that one command reads at most, and one list's page more. Chosen: as above."""
_FIELDS = 4
"""Fields of a hash. Source: the header of lua/read_texts.lua."""

KeyOf = Callable[[str], str]


@valueclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The parts of each thread or batch that are read.

    Attributes:
        ids: Their ids.
        record: Key of a hash by the id.
        fields: Fields of it, at most four.
        lists: Keys of lists by the id.
        most: First entries of each list.
    """

    ids: Sequence[str]
    record: KeyOf
    fields: Sequence[str]
    lists: Sequence[KeyOf] = ()
    most: int = 0


@valueclass(frozen=True, slots=True)
class Found:
    """The parts of one that were read.

    Attributes:
        id: The thread or the batch.
        entries: Of all its lists.
        fields: Their values; None if the key is no hash.
    """

    id: str
    entries: list[str]
    fields: list[str] | None


def read_first(namespace: Namespace, *wanted: Wanted) -> Operation[list[list[Found]]]:
    """Read in one round trip; of very long texts only a part of what is wanted is found.

    What Redis refuses counts as not found.
    """
    calls = []
    parts: list[tuple[list[Found], Wanted, Sequence[str]]] = []
    found: list[list[Found]] = [[] for _ in wanted]
    for into, one in zip(found, wanted, strict=True):
        for start in range(0, len(one.ids), _AT_ONCE):
            ids = one.ids[start : start + _AT_ONCE]
            parts.append((into, one, ids))
            calls.append(_call(namespace, one, ids))
    replies = yield from each_or_error(calls)
    for (into, one, ids), reply in zip(parts, replies, strict=True):
        if not isinstance(reply, StoreError):
            into.extend(_rows(one, ids, reply))
    return found


def read_every(namespace: Namespace, wanted: Wanted) -> Operation[list[Found]]:
    """Read all of them, in as many commands as it takes.

    Raises:
        StoreError: Redis refused.
    """
    found: list[Found] = []
    while len(found) < len(wanted.ids):
        ids = wanted.ids[len(found) : len(found) + _AT_ONCE]
        found += _rows(wanted, ids, (yield _call(namespace, wanted, ids)))
    return found


def _rows(wanted: Wanted, ids: Sequence[str], reply: Any) -> list[Found]:
    size = len(wanted.fields)
    return [
        Found(name, texts(entries), texts(values)[:size] if values else None)
        for name, (entries, values) in zip(ids, reply, strict=False)
    ]


def _call(namespace: Namespace, wanted: Wanted, ids: Sequence[str]) -> Call:
    fields = [*wanted.fields, *[""] * (_FIELDS - len(wanted.fields))]
    return namespace.call(
        "read_texts",
        rest=[key_of(one) for one in ids for key_of in (*wanted.lists, wanted.record)],
        lists=len(wanted.lists),
        most=wanted.most,
        chars=_CHARS,
        first=fields[0],
        second=fields[1],
        third=fields[2],
        fourth=fields[3],
    )
