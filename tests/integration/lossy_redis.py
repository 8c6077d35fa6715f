"""A relay in front of Redis that loses answers: the command happens, its sender never hears of it and connects again."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import hiredis

from tests.integration.relay import Relay

_HANDSHAKE = frozenset({b"HELLO", b"CLIENT", b"AUTH", b"SELECT", b"PING"})
"""Commands of a client that connects: not counted, or the numbers would depend on how many
connections there are."""

_READS = frozenset(
    b"EXISTS GET HGET HGETALL HLEN HMGET LINDEX LLEN LRANGE MGET PTTL SCARD SISMEMBER SMEMBERS TIME"
    b" TTL XLEN XRANGE XREVRANGE ZCARD ZCOUNT ZMSCORE ZRANGE ZRANGEBYSCORE ZREVRANGE ZSCORE".split()
)
_ALONE = frozenset({b"SCRIPT", b"WAIT", b"WAITAOF"})
"""Sent alone, or answered alone: Redis sends the answers to what came before a WAIT at once."""

Words = tuple[bytes, ...]
RoundTrip = tuple[Words, ...]
"""Commands that are answered together, or not at all."""


class LossyRedis(Relay):
    """Listens on loopback, passes all on, and loses the answers of the round trip that a test names.

    Its commands are repeated together, whichever of the answers is missed. Reads that a connection
    has sent before, as many and as long, are not counted again: an answer to them changed nothing.
    """

    def __init__(self, target_port: int) -> None:
        self._lock = threading.Lock()
        self._passed = 0
        self._number = 0
        self._lost: RoundTrip = ()
        self._reads: set[object] = set()
        self.kinds: set[str] = set()
        """Kinds of all commands that have lost their answers."""
        super().__init__(target_port)

    def lose(self, number: int) -> None:
        """Lose the answers of the so-manieth round trip from now on; 0 loses none."""
        with self._lock:
            self._passed = 0
            self._number = number
            self._lost = ()
            self._reads.clear()

    def lose_no_more(self) -> None:
        """End the part of a scenario in which answers are lost, if none was."""
        if self.lost is None:
            self.lose(0)

    @property
    def lost(self) -> Words | None:
        """The first command that lost its answer; None as long as it has not come."""
        with self._lock:
            return self._lost[0] if self._lost else None

    def take(self, connection: object, trip: RoundTrip) -> bool:
        """Count a round trip; return whether its answers are to be lost."""
        with self._lock:
            if all(words[0].upper() in _READS for words in trip):
                read = (connection, *((words[0], len(words)) for words in trip))
                if read in self._reads:
                    return False
                self._reads.add(read)
            self._passed += 1
            if self._passed != self._number:
                return False
            self._lost = trip
            self.kinds |= {words[0].decode().upper() for words in trip}
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
                for trip in _round_trips(reader):
                    if self._counts(trip) and self._relay.take(self, trip):
                        self._lost_at = self._sent + 1
                    self._sent += len(trip)
                self._server.sendall(data)
        self._end()

    @staticmethod
    def _counts(trip: RoundTrip) -> bool:
        return not all(words[0].upper() in _HANDSHAKE for words in trip)

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


def _round_trips(reader: hiredis.Reader) -> Iterator[RoundTrip]:
    """Yield the commands that were sent together and are answered together."""
    trip: list[Words] = []
    while (command := reader.gets()) is not False:
        words = tuple(command)
        if trip and not {words[0].upper(), trip[0][0].upper()}.isdisjoint(_ALONE | _HANDSHAKE):
            yield tuple(trip)
            trip = []
        trip.append(words)
    if trip:
        yield tuple(trip)
