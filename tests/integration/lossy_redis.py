"""A relay in front of Redis that loses answers: the command happens, its sender never hears of it and connects again."""

from __future__ import annotations

import contextlib
import socket
import threading

import hiredis

from tests.integration.relay import Relay

_HANDSHAKE = frozenset({b"HELLO", b"CLIENT", b"AUTH", b"SELECT", b"PING"})
"""Commands of a client that connects: not counted, or the numbers would depend on how many
connections there are."""

Words = tuple[bytes, ...]


class LossyRedis(Relay):
    """Listens on loopback, passes everything on, and loses the answer to the command that a test names."""

    def __init__(self, target_port: int) -> None:
        self._lock = threading.Lock()
        self._passed = 0
        self._number = 0
        self._lost: Words | None = None
        super().__init__(target_port)

    def lose(self, number: int) -> None:
        """Lose the answer to the so-manieth command from now on; 0 loses none."""
        with self._lock:
            self._passed = 0
            self._number = number
            self._lost = None

    @property
    def passed(self) -> int:
        """Number of commands that have passed since `lose`, repetitions included."""
        with self._lock:
            return self._passed

    @property
    def lost(self) -> Words | None:
        """The command that lost its answer; None as long as it has not come."""
        with self._lock:
            return self._lost

    def take(self, words: Words) -> bool:
        """Count a command; whether its answer is to be lost."""
        if words[0].upper() in _HANDSHAKE:
            return False
        with self._lock:
            self._passed += 1
            if self._passed != self._number:
                return False
            self._lost = words
            return True

    def connect(self, client: socket.socket, server: socket.socket) -> None:
        _Connection(self, client, server).start()


class _Connection:
    """One client's two directions."""

    def __init__(self, relay: LossyRedis, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._server = server
        self._sent = 0
        self._lost_at = 0

    def start(self) -> None:
        for pump in (self._up, self._down):
            threading.Thread(target=pump, daemon=True).start()

    def _up(self) -> None:
        reader = hiredis.Reader()
        with contextlib.suppress(OSError):  # the other end is gone
            while data := self._client.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    self._sent += 1
                    if self._relay.take(tuple(command)):
                        self._lost_at = self._sent
                self._server.sendall(data)
        self._end()

    def _down(self) -> None:
        reader = hiredis.Reader()
        answered = 0
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                reader.feed(data)
                while reader.gets() is not False:
                    answered += 1
                if self._lost_at and answered >= self._lost_at:
                    break  # Redis has done it: now its answer gets lost
                self._client.sendall(data)
        self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):  # closed already
                end.shutdown(socket.SHUT_RDWR)
            end.close()
