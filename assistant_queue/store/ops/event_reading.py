"""Reading the event streams of many threads in one blocking call, and waking that call.

A process that subscribes to threads (a hub) has its own stream beside theirs, the bell: an
entry in it ends the blocking read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.store.calls import Namespace, Operation, blocking, plain, text
from assistant_queue.store.ops.event_log import START, stream_of
from assistant_queue.store.ops.sweeping import read_and_wake

Rows = list[tuple[str, Any]]
"""Entries of a stream: the id and the fields, as redis-py gives them."""


class StreamReader:
    """The blocking read of one hub.

    Attributes:
        block_ms: The longest that one read waits.
    """

    def __init__(self, namespace: Namespace, hub_id: str, *, block_ms: int, count: int) -> None:
        """Send nothing yet.

        Args:
            namespace: The queue.
            hub_id: Unique among all hubs of the queue.
            block_ms: The longest that one read waits.
            count: The most entries of one stream in one read.
        """
        self.block_ms = block_ms
        self._namespace = namespace
        self._hub_id = hub_id
        self._count = count
        self._bell_cursor = START

    @property
    def _bell(self) -> str:
        return self._namespace.keys.bell(self._hub_id)

    def ring(self) -> Operation[None]:
        """End a read that is waiting."""
        yield [
            plain("XADD", self._bell, "MAXLEN", 1, "*", "n", ""),
            plain("PEXPIRE", self._bell, self.block_ms * 10),
        ]

    def read(self, cursors: Mapping[str, str]) -> Operation[dict[str, Rows]]:
        """Wait for entries after `cursors`, which are ids by thread; return the entries by thread.

        Threads without new entries are left out; nothing came within `block_ms` if all are.
        """
        keys = {stream_of(self._namespace, thread_id): thread_id for thread_id in cursors}
        reply = yield blocking(
            "XREAD",
            "COUNT",
            self._count,
            "BLOCK",
            self.block_ms,
            "STREAMS",
            self._bell,
            *keys,
            self._bell_cursor,
            *cursors.values(),
        )
        found = _by_stream(reply)
        rung = found.pop(self._bell, None)
        if rung:
            self._bell_cursor = rung[-1][0]
        return {keys[key]: rows for key, rows in found.items() if key in keys}


def count_streams(namespace: Namespace, thread_ids: Sequence[str]) -> Operation[int]:
    """Count the streams of these threads; the same round trip wakes overdue threads."""
    names = [stream_of(namespace, thread_id) for thread_id in thread_ids]
    (found,) = yield from read_and_wake(namespace, [plain("EXISTS", *names)])
    return int(found)


def _by_stream(reply: Any) -> dict[str, Rows]:
    """Return XREAD's reply by key: RESP2, RESP3 and redis-py's versions give lists or dicts."""
    if not reply:
        return {}
    streams = reply.items() if isinstance(reply, Mapping) else reply
    return {text(name): [(text(row[0]), row[1]) for row in _rows(rows)] for name, rows in streams}


def _rows(rows: Any) -> Any:
    # redis-py 6 wraps the entries of a dict in one more list.
    return (
        rows[0]
        if len(rows) == 1 and isinstance(rows[0], list) and not isinstance(rows[0][0], bytes | str)
        else rows
    )
