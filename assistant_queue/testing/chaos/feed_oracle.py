"""The judge of the feed: what its reader received against what the queue has answered."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Self

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import StoreError
from assistant_queue.events import Event, EventsMissed, MessageQueued, ReplyReady, TextSaid
from assistant_queue.store.ops.event_log import order
from assistant_queue.testing.chaos.oracle import Sent

_QUIET_S = 1.0
"""Seconds without an event after which the reader looks whether it is to end. Chosen: longer than
an event takes on a busy machine."""
_AWAY_S = 0.1
"""Seconds until a Redis that refused is asked again. Chosen: a restart takes as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRow:
    """An event of the feed, without its texts.

    Attributes:
        id: Its id.
        type: Its type.
        message_ids: The message that was queued or said, or the messages that were answered.
    """

    id: str
    type: str
    message_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedVerdict:
    """The outcome of the feed.

    Attributes:
        events: Events that were received.
        gaps: How often the reader was notified that events may be missing.
        details: One line for each finding.
    """

    events: int
    gaps: int
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether each event was received once, in order."""
        return not self.details


class FeedReader:
    """Reads the feed on a thread, through every outage of Redis."""

    def __init__(self, queue: AssistantMessageQueue) -> None:
        """Read nothing yet."""
        self._rows: list[FeedRow] = []
        self._queue = queue
        self._last = "0"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._read, name="chaos-feed", daemon=True)

    def __enter__(self) -> Self:
        """Have the feed kept from now on, and read it."""
        self._queue.feed()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> Sequence[FeedRow]:
        """Read to the end of the feed, and return what was read. Idempotent."""
        self._ends.set()
        self._thread.join()
        return self._rows

    def _read(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ends.is_set()  # once more: what came since the last look
            try:
                for event in self._queue.feed(self._last, timeout=_QUIET_S):
                    self._rows.append(_row_of(event))
                    if not isinstance(event, EventsMissed):
                        self._last = event.id
            except StoreError:
                is_last = False
                threading.Event().wait(_AWAY_S)


def _row_of(event: Event) -> FeedRow:
    if isinstance(event, MessageQueued | TextSaid):
        return FeedRow(id=event.id, type=event.type, message_ids=(event.message_id,))
    if isinstance(event, ReplyReady):
        return FeedRow(id=event.id, type=event.type, message_ids=event.message_ids)
    return FeedRow(id=event.id, type=event.type)


def judge_feed(
    rows: Sequence[FeedRow], sent: Sequence[Sent], answered: Collection[str]
) -> FeedVerdict:
    """Compare.

    Args:
        rows: What the reader received, in order.
        sent: The producers' log.
        answered: Ids of the messages that a run has answered.
    """
    gaps = sum(row.type == "events_missed" for row in rows)
    return FeedVerdict(
        events=len(rows) - gaps,
        gaps=gaps,
        details=(*_out_of_order(rows), *_miscounted(rows, sent, answered, is_whole=not gaps)),
    )


def _out_of_order(rows: Sequence[FeedRow]) -> Iterator[str]:
    last = ""
    for row in rows:
        if row.type == "events_missed":
            last = ""
        elif last and order(row.id) <= order(last):
            yield f"the event {row.id} ({row.type}) came after {last}"
        else:
            last = row.id


def _miscounted(
    rows: Sequence[FeedRow], sent: Sequence[Sent], answered: Collection[str], *, is_whole: bool
) -> Iterator[str]:
    counts = Counter((row.type, message_id) for row in rows for message_id in row.message_ids)
    for message in sent:
        expected = {"said" if message.kind == "tell" else "message_queued": message.is_sure}
        if message.kind != "tell":
            expected["reply_ready"] = message.message_id in answered
        for kind, is_there in expected.items():
            count = counts[kind, message.message_id]
            if count > 1 or (is_there and not count and is_whole):
                yield f"{message.text!r}: {count} events {kind}"
