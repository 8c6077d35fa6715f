"""A relay in front of Redis that refuses commands in Redis' own words, as a server does that cannot take them for a while."""

from __future__ import annotations

import contextlib
import socket
import threading

import hiredis

from tests.integration.relay import Relay

_PASSES = frozenset({b"HELLO", b"CLIENT", b"SELECT", b"SUBSCRIBE", b"UNSUBSCRIBE"})


class RefusingRedis(Relay):
    """Listens on loopback, and passes everything on while it `says` nothing."""

    def __init__(self, target_port: int) -> None:
        self.says = ""
        self.refused = 0
        self.passed: list[bytes] = []
        super().__init__(target_port)

    def connect(self, client: socket.socket, server: socket.socket) -> None:
        _Connection(self, client, server).start()


class _Connection:
    """One client: its commands pass one by one, or are refused, each behind the replies to those before."""

    def __init__(self, relay: RefusingRedis, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._client = client
        self._server = server
        self._answered = threading.Condition()
        self._open = 0

    def start(self) -> None:
        for pump in (self._up, self._down):
            threading.Thread(target=pump, daemon=True).start()

    def _up(self) -> None:
        reader = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := self._client.recv(65536):
                reader.feed(data)
                while (command := reader.gets()) is not False:
                    self._take(command)
        self._end()

    def _take(self, words: list[bytes]) -> None:
        if self._relay.says and words[0].upper() not in _PASSES:
            with self._answered:
                self._answered.wait_for(lambda: self._open <= 0, timeout=30)
            self._relay.refused += 1
            self._client.sendall(f"-{self._relay.says}\r\n".encode())
            return
        with self._answered:
            self._open += 1
        self._relay.passed.append(words[0].upper())
        self._server.sendall(hiredis.pack_command(tuple(words)))

    def _down(self) -> None:
        reader = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := self._server.recv(65536):
                reader.feed(data)
                self._client.sendall(data)
                with self._answered:
                    while reader.gets() is not False:
                        self._open -= 1
                    self._answered.notify_all()
        self._end()

    def _end(self) -> None:
        for end in (self._client, self._server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
