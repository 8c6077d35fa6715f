"""Read what Redis does: MONITOR's lines, the scripts in them, and commands inside a script."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from assistant_queue.store.scripts import script_names, whole_source

_LINE = re.compile(rb"^\+(\d+\.\d+) \[\d+ ([^\]]+)\] (.*)$")
_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)")
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}


@dataclass(slots=True)
class Seen:
    """One command of a client, and the commands that its script made.

    Attributes:
        at: Seconds since the epoch, by Redis' clock.
        client: The client's address.
        words: The command and its arguments, as bytes.
        inside: Commands of its script, in order.
    """

    at: float
    client: str
    words: list[bytes]
    inside: list[list[bytes]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The command in capitals."""
        return self.words[0].decode().upper()


class Monitor:
    """Collects every command between `start` and `stop`."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._chunks: list[bytes] = []
        self._socket.sendall(b"MONITOR\r\n")
        assert self._socket.recv(5) == b"+OK\r\n"
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(1 << 20):
            self._chunks.append(data)

    def stop(self) -> list[Seen]:
        """Return what was seen, in order."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
        return list(parsed(b"".join(self._chunks)))


def parsed(text: bytes) -> Iterator[Seen]:
    """Yield the commands of MONITOR's output."""
    last: Seen | None = None
    for line in text.split(b"\r\n"):
        match = _LINE.match(line)
        if match is None:
            continue
        words = [_ESCAPE.sub(_unescaped, word) for word in _WORD.findall(match[3])]
        if match[2] == b"lua":
            if last is not None:
                last.inside.append(words)
            continue
        if last is not None:
            yield last
        last = Seen(float(match[1]), match[2].decode(), words)
    if last is not None:
        yield last


def _unescaped(match: re.Match[bytes]) -> bytes:
    mark = match[1]
    return bytes([int(mark[1:], 16)]) if len(mark) == 3 else _PLAIN.get(mark, mark)


def script_texts(seen: list[Seen]) -> dict[str, tuple[str, str]]:
    """Return sha -> name and text of the scripts that were loaded meanwhile."""
    first_lines = {whole_source(name).split("\n", 1)[0]: name for name in script_names()}
    found = {}
    for one in seen:
        if one.name == "SCRIPT" and len(one.words) > 2:
            text = one.words[2].decode()
            name = next((name for line, name in first_lines.items() if line in text), "other")
            found[hashlib.sha1(one.words[2], usedforsecurity=False).hexdigest()] = (name, text)
    return found
