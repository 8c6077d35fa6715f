"""Parse server-sent events, in every form that the standard allows and some others.

Pure.
"""

from __future__ import annotations

from assistant_queue.backends.openai.wire_events import Body, UnreadableAnswer, WireEvent, name_of
from assistant_queue.backends.openai.wire_json import decode

_THE_END = [b"[DONE]"]


class Lines(Body):
    """Server-sent events.

    Lines are split at bytes: `str.splitlines` would also split at U+2028 and the like inside a JSON
    string.
    """

    __slots__ = ("_data", "_ends_in_cr", "_name", "_rest")

    def __init__(self) -> None:
        super().__init__()
        self._rest: list[bytes] = []
        self._ends_in_cr = False
        self._name = ""
        self._data: list[bytes] = []

    def read(self, chunk: bytes, found: list[WireEvent]) -> None:
        """Read a chunk and add the events that it completes."""
        for line in self._lines(chunk):
            if self.is_done:
                return
            if line[:5] == b"data:":
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                if line[-6:] == b"[DONE]":  # the end needs no blank line to be one
                    self._complete(found)
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

    def close(self, found: list[WireEvent]) -> None:
        """End the body: a last line and a last event need no terminator."""
        self.read(b"\n\n", found)
        self.flush(found)

    def _with_plain_ends(self, chunk: bytes) -> bytes:
        r"""Put `\n` for each `\r\n` and `\r`; the two bytes of one end may come in two chunks."""
        if self._ends_in_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._ends_in_cr = False
        if chunk:
            self._ends_in_cr = chunk[-1:] == b"\r"
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _field(self, line: bytes) -> None:
        """Read any other line: comments and unknown fields are signs of life and nothing else."""
        if line[:1] == b"{":  # an error that a proxy put into the stream as it is
            self._data.append(line)
            return
        if line[:1] == b"<":
            raise UnreadableAnswer("continues as something other than an event stream")
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            self._name = value.decode("utf-8", "replace").strip()
        elif field == b"error" and value[:1] == b"{":  # older servers of llama.cpp
            self._name = "error"
            self._data.append(value)

    def _complete(self, found: list[WireEvent]) -> None:
        name = self._name
        lines = self._data
        self._name = ""
        self._data = []
        if lines == _THE_END:  # it is no JSON, and an error takes longer than the rest of it
            self._read_word(name, "[DONE]", found)
            return
        try:
            value, is_suspect = decode(lines[0] if len(lines) == 1 else b"\n".join(lines))
        except ValueError:
            self._read_words(name, lines, found)
            return
        if type(value) is dict and not is_suspect and self.joiner is None:  # nearly always
            found.append(WireEvent(name_of(name, value), value))
        elif isinstance(value, str):
            self._read_word(name, value, found)
        else:
            self.make(name, value, found, is_suspect=is_suspect)

    def _read_words(self, name: str, lines: list[bytes], found: list[WireEvent]) -> None:
        """Read `data:` lines that are no JSON value together."""
        if len(lines) > 1:  # events that no blank line separates
            for line in lines:
                if not self.is_done:
                    self._name = name
                    self._data = [line]
                    self._complete(found)
            return
        word = lines[0].strip()
        if word[:1] == b"{" or word[:2] == b"[{":
            raise UnreadableAnswer("has an event that was broken off, or is not JSON")
        self._read_word(name, word.decode("utf-8", "replace"), found)

    def _read_word(self, name: str, word: str, found: list[WireEvent]) -> None:
        """Read data that is a mere word: the end, an error in plain text, or a sign of life."""
        if word.strip().upper() == "[DONE]":
            self.is_done = True
            self.flush(found)
        elif name == "error" and word.strip():
            found.append(WireEvent(name, {"error": word}))
