"""Records found without an index: a scan of all keys, which takes the longer the more there are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from assistant_queue.store.calls import Operation, each, plain, text
from assistant_queue.store.quarantine import literal

_SCAN = 1000
"""Keys of one round trip of a scan. Chosen: about a millisecond of Redis' time."""


def keys_with(pattern: str, field: str, value: str) -> Operation[list[str]]:
    """Return the hashes with this value in a field; `pattern` is a key that ends with `*`."""
    found: list[str] = []
    cursor = 0
    while True:
        cursor, names = yield plain(
            "SCAN", cursor, "MATCH", literal(pattern[:-1]) + "*", "COUNT", _SCAN
        )
        values = yield from each([plain("HGET", name, field) for name in names])
        found += [
            text(name)
            for name, one in zip(names, values, strict=True)
            if one and text(one) == value
        ]
        cursor = int(cursor)
        if cursor == 0:
            return found


def entries_in(rows: Any) -> Iterator[str]:
    """Return the entries of lists of waiting messages; cancelled ones left an empty place."""
    return (text(entry) for row in rows for entry in row if entry)
