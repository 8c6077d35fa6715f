"""Parse the body of a streamed answer into events. Pure.

The form is detected from the body, not from its content type: proxies rewrite that, and small
servers leave it out.
"""

from __future__ import annotations

import re

from assistant_queue.backends.openai.event_lines import Lines
from assistant_queue.backends.openai.json_bodies import Objects
from assistant_queue.backends.openai.wire_events import UnreadableAnswer, WireEvent

_BOM = b"\xef\xbb\xbf"
_SIMPLE_VALUE = re.compile(rb'["\d-]|(?:null|true|false)\s')


class EventParser:
    """Convert chunks of a body into events, independent of the chunks' boundaries.

    1. skips a byte order mark and blanks, and determines the form by the next byte
    2. parses the rest in that form
    3. is done at `[DONE]`: the rest is not read
    """

    __slots__ = ("_head", "_reader", "_trouble")

    def __init__(self) -> None:
        self._head = b""
        self._reader: Lines | Objects | None = None
        self._trouble: UnreadableAnswer | None = None

    @property
    def is_done(self) -> bool:
        """Return whether the server has sent `[DONE]`."""
        return self._reader is not None and self._reader.is_done

    @property
    def is_whole(self) -> bool:
        """Return whether the body is a JSON object that was read to its end."""
        return isinstance(self._reader, Objects) and self._reader.is_whole

    def feed(self, chunk: bytes) -> list[WireEvent]:
        """Return the events that this chunk completes.

        Raises:
            UnreadableAnswer: As the class says. The events before the trouble are returned first,
                by the call before.
        """
        found: list[WireEvent] = []
        if self._trouble is not None:
            raise self._trouble
        try:
            if self._reader is None:
                self._begin(chunk, found)
            else:
                self._reader.read(chunk, found)
        except UnreadableAnswer as trouble:
            if not found:
                raise
            self._trouble = trouble
        return found

    def close(self) -> list[WireEvent]:
        """Return the events that the end of the body completes. Raises as `feed` does, at once."""
        found: list[WireEvent] = []
        if self._trouble is not None:
            raise self._trouble
        if self._reader is not None:
            self._reader.close(found)
        return found

    def _begin(self, chunk: bytes, found: list[WireEvent]) -> None:
        head = self._head + chunk
        if head and len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return
        head = head.removeprefix(_BOM).lstrip()
        self._head = b""
        if not head:
            return
        if head[:1] == b"<" or _SIMPLE_VALUE.match(head):
            raise UnreadableAnswer("is neither an event stream nor a JSON object")
        self._reader = Objects() if head[:1] in b"{[" else Lines()
        self._reader.read(head, found)
