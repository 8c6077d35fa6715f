"""Parse bodies that are JSON instead of a stream. Pure.

A body is an object, an array of objects, or one object after the other.
"""

from __future__ import annotations

import re

from assistant_queue.backends.openai.wire_events import Body, UnreadableAnswer, WireEvent
from assistant_queue.backends.openai.wire_json import decode

_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'["{}\[\]]')


class Objects(Body):
    """JSON objects, one after the other or in an array; each is an event as soon as it is complete.

    Each byte is scanned once: brackets and quotes are counted as they come, and an object is
    decoded at its last bracket.

    Attributes:
        is_whole: The last thing read was an object outside of any array.
    """

    __slots__ = ("_body", "_depth", "_in_string", "_is_array", "_place", "_start", "is_whole")

    def __init__(self) -> None:
        super().__init__()
        self.is_whole = False
        self._body = bytearray()
        self._place = self._start = self._depth = 0
        self._is_array = self._in_string = False

    def read(self, chunk: bytes, found: list[WireEvent]) -> None:
        """Read a chunk and add the events that it completes."""
        self._body += chunk
        while not self.is_done:
            match = (_IN_STRING if self._in_string else _OUTSIDE).search(self._body, self._place)
            if match is None:
                break
            self._place = match.end()
            mark = match[0]
            match = None  # a bytearray cannot be shortened while a match refers to it
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark == b"\\":
                self._place += 1
            elif mark in b"{[":
                self._open(mark)
            else:
                self._close(found)
        self._place = max(self._place, len(self._body))

    def close(self, found: list[WireEvent]) -> None:
        """End the body."""
        if self._depth > self._is_array:
            raise UnreadableAnswer("was broken off in the middle of a JSON value")
        self.flush(found)

    def _open(self, mark: bytes) -> None:
        if self._depth == self._is_array:
            self._start = self._place - 1
            self.is_whole = False
            self._is_array = self._is_array or mark == b"["
        self._depth += 1

    def _close(self, found: list[WireEvent]) -> None:
        self._depth = max(self._depth - 1, 0)
        if self._depth > self._is_array:
            return
        value = bytes(self._body[self._start : self._place])
        del self._body[: self._place]
        self._place = self._start = 0
        if self._is_array and self._depth == 0:
            self._is_array = False
            if value.strip() == b"[DONE]":
                self.is_done = True
                self.flush(found)
            return
        self.is_whole = not self._is_array
        try:
            parsed, is_suspect = decode(value)
        except ValueError as error:
            raise UnreadableAnswer("is not JSON") from error
        self.make("", parsed, found, is_suspect=is_suspect)
