"""Other clients of a server that is flooded: what each of their requests waits for."""

from __future__ import annotations

import http.client
import itertools
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from tests.benchmarks.core_time import CoreClock
from tests.benchmarks.measuring import quantile

OTHERS = 40
"""Addresses of the clients that are measured: each stays below the limits of one."""
PATH = "/api/threads/customer-4711"
INTERVAL_S = 0.02


@dataclass
class Times:
    """Milliseconds of each request.

    Attributes:
        waited: By the clock.
        served: The same without the time in which client, server and Redis were ready to run and
            other processes had the cores: what remains on a machine with a core for each of them.
        worked: Of these, the time that the server's main thread ran: for this client and others.
        bare: By the clock, of a request to a bare server that nothing floods.
    """

    waited: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


class OtherClients:
    """Clients with an address and a connection each, of the server and of a bare one beside it."""

    def __init__(self, port: int, pid: int, bare_port: int, redis_pid: int) -> None:
        self._numbers = itertools.cycle(range(OTHERS))
        self._ports = {"serve": port, "bare": bare_port}
        self._server = CoreClock([pid])
        self._beside = CoreClock([redis_pid, os.getpid()])
        self._open: dict[tuple[str, int], http.client.HTTPConnection] = {}

    def ask(self, calls: int, times: Times) -> None:
        """Send so many requests, fifty a second, and note how long each takes."""
        for _ in range(calls):
            number = next(self._numbers)
            began = time.perf_counter()
            self._measure(number, times)
            times.bare.append(self._ask("bare", number))
            time.sleep(max(0.0, began + INTERVAL_S - time.perf_counter()))

    def _measure(self, number: int, times: Times) -> None:
        self._connect("serve", number)
        server = self._server.read()
        beside = self._beside.read()
        waited = self._ask("serve", number)
        server_after = self._server.read()
        beside_after = self._beside.read()
        queued = server_after.queued - server.queued + beside_after.queued - beside.queued
        worked = server_after.ran - server.ran
        times.waited.append(waited)
        times.worked.append(worked)
        times.served.append(max(worked, waited - queued))

    def close(self) -> None:
        """End all connections."""
        for connection in self._open.values():
            connection.close()

    def _connect(self, server: str, number: int) -> http.client.HTTPConnection:
        source = (f"127.0.1.{number + 1}", 0)
        return self._open.setdefault(
            (server, number),
            http.client.HTTPConnection(
                "127.0.0.1", self._ports[server], timeout=60, source_address=source
            ),
        )

    def _ask(self, server: str, number: int) -> float:
        began = time.perf_counter()
        for _ in range(2):  # uvicorn closes a connection that was idle for a while
            connection = self._connect(server, number)
            with suppress(ConnectionError, http.client.BadStatusLine):
                connection.request("GET", PATH)
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                return (time.perf_counter() - began) * 1000
            connection.close()
            del self._open[server, number]
        raise ConnectionError("the server closes every connection")


def over(busy: Sequence[float], idle: Sequence[float], share: float) -> str:
    """Two quantiles, in words."""
    return f"{quantile(busy, share):.1f} over {quantile(idle, share):.1f}"
