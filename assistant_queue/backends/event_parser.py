"""The body of a streamed answer as events. Pure.

The body decides what it is, not its content type: proxies rewrite that, and small servers leave it out. Understood are server-sent events
in every spelling that the standard allows and some that it does not, one JSON object, an array of them, and one after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from assistant_queue.backends.wire_json import HalfJoiner, decode

Json = dict[str, Any]

_BOM = b"\xef\xbb\xbf"
_NO_NAME = "message"
"""What an event without a name is called. Source: the standard."""

_SIMPLE_VALUE = re.compile(rb'["\d-]|(?:null|true|false)\s')
_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'["{}\[\]]')


class UnreadableAnswer(ValueError):
    """The body is no answer, or was broken off in the middle of a value. The text completes "The provider's answer ..."."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is its name, else its `type`, "" if it has neither."""

    name: str
    data: Json


class EventParser:
    """Turns chunks of a body into events; how the bytes are cut into chunks makes no difference.

    1. skips a byte order mark and blanks, and looks at the first byte of what follows
    2. reads the rest as what that is
    3. is done at `[DONE]`: what follows is not read
    """

    __slots__ = ("_head", "_reader", "_trouble")

    def __init__(self) -> None:
        self._head = b""
        self._reader: _Lines | _Values | None = None
        self._trouble: UnreadableAnswer | None = None

    @property
    def is_done(self) -> bool:
        """Whether the server has said `[DONE]`."""
        return self._reader is not None and self._reader.is_done

    @property
    def is_whole(self) -> bool:
        """Whether the body is a JSON object that was read to its end."""
        return isinstance(self._reader, _Values) and self._reader.is_whole

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that this chunk completes.

        Raises:
            UnreadableAnswer: As the class says. The events before the trouble are returned first, by the call before.
        """
        found: list[Event] = []
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

    def close(self) -> list[Event]:
        """Return the events that the end of the body completes. Raises as `feed` does, at once."""
        found: list[Event] = []
        if self._trouble is not None:
            raise self._trouble
        if self._reader is not None:
            self._reader.close(found)
        return found

    def _begin(self, chunk: bytes, found: list[Event]) -> None:
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
        self._reader = _Values() if head[:1] in b"{[" else _Lines()
        self._reader.read(head, found)


class _Body:
    """What both kinds of bodies do with a value: make events of it, with whole characters.

    Attributes:
        is_done: `[DONE]` was read.
    """

    __slots__ = ("_joiner", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self._joiner: HalfJoiner | None = None

    def _make(self, name: str, value: Any, found: list[Event], *, is_suspect: bool) -> None:
        if not is_suspect and self._joiner is None:
            _add_events(name, value, found)
            return
        self._joiner = self._joiner or HalfJoiner()
        for label, whole in self._joiner.add(name, value):
            _add_events(label, whole, found)
        if not self._joiner.is_waiting:
            self._joiner = None

    def _flush(self, found: list[Event]) -> None:
        """Nothing more will come: what waits for the other half of a character waits no longer."""
        if self._joiner is not None:
            for label, whole in self._joiner.flush():
                _add_events(label, whole, found)
            self._joiner = None


def _name_of(name: str, value: Json) -> str:
    if name and name != _NO_NAME:
        return name
    kind = value.get("type")
    return kind if isinstance(kind, str) else ""


def _add_events(name: str, value: Any, found: list[Event]) -> None:
    """Add the events that a JSON value is: an object is one, an array as many as it has objects."""
    if isinstance(value, dict):
        found.append(Event(_name_of(name, value), value))
    elif isinstance(value, list):
        for one in value:
            _add_events(name, one, found)


class _Lines(_Body):
    """Server-sent events.

    Lines are split at bytes: `str.splitlines` would also split at U+2028 and the like inside a JSON string.
    """

    __slots__ = ("_data", "_ends_in_cr", "_name", "_rest")

    def __init__(self) -> None:
        super().__init__()
        self._rest: list[bytes] = []
        self._ends_in_cr = False
        self._name = ""
        self._data: list[bytes] = []

    def read(self, chunk: bytes, found: list[Event]) -> None:
        """Read a chunk and add the events that it completes."""
        for line in self._lines(chunk):
            if self.is_done:
                return
            if line[:6] == b"data: ":
                self._data.append(line[6:])
            elif line:
                self._field(line)
            elif self._data:
                self._complete(found)
            else:
                self._name = ""

    def _lines(self, chunk: bytes) -> list[bytes]:
        """Return the lines that this chunk completes."""
        if self._ends_in_cr or b"\r" in chunk:
            chunk = self._with_plain_ends(chunk)
        rest = self._rest
        if b"\n" not in chunk:
            rest.append(chunk)
            return []
        if rest:
            rest.append(chunk)
            chunk = b"".join(rest)
            rest.clear()
        lines = chunk.split(b"\n")
        last = lines.pop()
        if last:
            rest.append(last)
        return lines

    def close(self, found: list[Event]) -> None:
        """A last line and a last event need no end of their own."""
        self.read(b"\n\n", found)
        self._flush(found)

    def _with_plain_ends(self, chunk: bytes) -> bytes:
        r"""Put `\n` for each `\r\n` and `\r`; the two bytes of one end may come in two chunks."""
        if self._ends_in_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._ends_in_cr = False
        if chunk:
            self._ends_in_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _field(self, line: bytes) -> None:
        """Any other line: comments and unknown fields are signs of life and nothing else."""
        if line[:1] == b"{":  # an error that a proxy put into the stream as it is
            self._data.append(line)
            return
        if line[:1] == b"<":
            raise UnreadableAnswer("went over into something that is no event stream")
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode("utf-8", "replace").strip()
        elif field == b"error" and value[:1] == b"{":  # older servers of llama.cpp
            self._name = "error"
            self._data.append(value)

    def _complete(self, found: list[Event]) -> None:
        name, lines = self._name, self._data
        self._name, self._data = "", []
        try:
            value, is_suspect = decode(lines[0] if len(lines) == 1 else b"\n".join(lines))
        except ValueError:
            self._read_words(name, lines, found)
            return
        if type(value) is dict and not is_suspect and self._joiner is None:  # nearly always
            found.append(Event(_name_of(name, value), value))
        elif isinstance(value, str):
            self._read_word(name, value, found)
        else:
            self._make(name, value, found, is_suspect=is_suspect)

    def _read_words(self, name: str, lines: list[bytes], found: list[Event]) -> None:
        """Read `data:` lines that are no JSON value together."""
        if len(lines) > 1:  # events that no blank line separates
            for line in lines:
                if not self.is_done:
                    self._name, self._data = name, [line]
                    self._complete(found)
            return
        word = lines[0].strip()
        if word[:1] == b"{" or word[:2] == b"[{":
            raise UnreadableAnswer("has an event that was broken off, or is not JSON")
        self._read_word(name, word.decode("utf-8", "replace"), found)

    def _read_word(self, name: str, word: str, found: list[Event]) -> None:
        """Read data that is a mere word: the end, an error in plain text, or a sign of life."""
        if word.strip().upper() == "[DONE]":
            self.is_done = True
            self._flush(found)
        elif name == "error" and word.strip():
            found.append(Event(name, {"error": word}))


class _Values(_Body):
    """JSON objects, one after the other or in an array; each is an event as soon as it is complete.

    Each byte is looked at once: brackets and quotes are followed as they come, and an object is decoded when its last bracket is there.

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

    def read(self, chunk: bytes, found: list[Event]) -> None:
        """Read a chunk and add the events that it completes."""
        self._body += chunk
        while not self.is_done:
            match = (_IN_STRING if self._in_string else _OUTSIDE).search(self._body, self._place)
            if match is None:
                break
            self._place, mark = match.end(), match[0]
            match = None  # a bytearray cannot be shortened while a match looks at it
            if mark == b'"':
                self._in_string = not self._in_string
            elif mark == b"\\":
                self._place += 1
            elif mark in b"{[":
                self._open(mark)
            else:
                self._close(found)
        self._place = max(self._place, len(self._body))

    def close(self, found: list[Event]) -> None:
        """End the body."""
        if self._depth > self._is_array:
            raise UnreadableAnswer("was broken off in the middle of a JSON value")
        self._flush(found)

    def _open(self, mark: bytes) -> None:
        if self._depth == self._is_array:
            self._start, self.is_whole = self._place - 1, False
            self._is_array = self._is_array or mark == b"["
        self._depth += 1

    def _close(self, found: list[Event]) -> None:
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
                self._flush(found)
            return
        self.is_whole = not self._is_array
        try:
            parsed, is_suspect = decode(value)
        except ValueError as error:
            raise UnreadableAnswer("is not JSON") from error
        self._make("", parsed, found, is_suspect=is_suspect)
