"""A relay between the queue and a foreign server that keeps what was said, byte by byte."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_HEAD = re.compile(
    rb"^(GET|POST|DELETE) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.MULTILINE | re.DOTALL
)
_LENGTH = re.compile(rb"^content-length: (\d+)", re.MULTILINE | re.IGNORECASE)
_STATUS = re.compile(rb"^HTTP/1\.1 (\d{3})", re.MULTILINE)


@dataclass(eq=False)
class _Talk:
    """One connection: all bytes of each side."""

    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)
    is_lost: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it was sent; `body` is None where it has none."""

    method: str
    path: str
    body: Any


class Wire:
    """Listens on loopback and passes everything on to one port of loopback."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._talks: list[_Talk] = []
        self._patience_s = 0.0
        self._loses: bytes | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def wait_for_the_server(self, patience_s: float) -> None:
        """From now on, hold a connection for the moment in which the server begins to listen, instead of closing it."""
        self._patience_s = patience_s

    def lose_the_answer(self, path: str) -> None:
        """Pass the next POST to this path on, and close its connection instead of passing the answer back."""
        self._loses = f"POST {path} HTTP/1.1\r\n".encode()

    @property
    def requests(self) -> list[Asked]:
        """Every request that passed, those of one connection in their order."""
        return [asked for talk in list(self._talks) for asked in _requests(bytes(talk.asked))]

    def posted(self, path: str) -> list[Any]:
        """Return the bodies of the POSTs to a path."""
        return [
            asked.body for asked in self.requests if asked.method == "POST" and asked.path == path
        ]

    @property
    def statuses(self) -> list[int]:
        """The status of every answer."""
        return [
            int(status)
            for talk in list(self._talks)
            for status in _STATUS.findall(bytes(talk.answered))
        ]

    @property
    def answers(self) -> str:
        """All that the server said, as text."""
        return "\n".join(
            bytes(talk.answered).decode(errors="replace") for talk in list(self._talks)
        )

    def close(self) -> None:
        """Stop listening; connections end with their clients."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._relay, args=(client,), daemon=True).start()

    def _relay(self, client: socket.socket) -> None:
        server = self._connect()
        if server is None:
            client.close()
            return
        talk = _Talk()
        self._talks.append(talk)
        for end in (client, server):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(
            target=_pump, args=(server, client, talk.answered, lambda _: talk.is_lost), daemon=True
        )
        back.start()
        _pump(client, server, talk.asked, lambda data: self._look(talk, data))

    def _look(self, talk: _Talk, data: bytes) -> bool:
        """Note whether the answer to this request is to be lost; the request itself is forwarded."""
        if self._loses is not None and data.startswith(self._loses):
            self._loses = None
            talk.is_lost = True
        return False

    def _connect(self) -> socket.socket | None:
        until = time.monotonic() + self._patience_s
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                if time.monotonic() >= until:
                    return None
                time.sleep(0.001)


def _pump(
    source: socket.socket, target: socket.socket, kept: bytearray, drops: Callable[[bytes], bool]
) -> None:
    """Pass on what comes until one side ends, or `drops` says of a piece that it goes no further."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            kept += data
            if drops(data):
                break
            target.sendall(data)
    for end in (source, target):
        with contextlib.suppress(OSError):
            end.shutdown(
                socket.SHUT_RDWR
            )  # wakes the other direction's thread, which closing alone does not
        end.close()


def _requests(asked: bytes) -> list[Asked]:
    found: list[Asked] = []
    while head := _HEAD.match(asked):
        length = _LENGTH.search(head[3])
        end = head.end() + (int(length[1]) if length else 0)
        body = asked[head.end() : end]
        found.append(Asked(head[1].decode(), head[2].decode(), json.loads(body) if body else None))
        asked = asked[end:]
    return found
