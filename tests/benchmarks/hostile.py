"""Rows about hostile clients: how long others wait for an answer while a server is flooded, over how long they wait when it is idle.

Beside it stands how long the server itself works while another client waits: that does not depend on what else the machine does.
"""

from __future__ import annotations

import http.client
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.bench import ROOT, Bench
from tests.benchmarks.flooding import KINDS
from tests.benchmarks.measuring import quantile
from tests.benchmarks.table import Row
from tests.benchmarks.web import serving

GROUP = "hostile"
TARGET = 3.0
ABREAST = {"heads": 1000, "streams": 500}
"""Connections of an attack; of the others 20, which is as many sockets as one client may have."""
OTHERS = 40
"""Addresses of the clients that are measured: each stays below the limits of one."""


def rows(bench: Bench) -> Iterator[Row]:
    """One for each kind of flood, and what the server's memory is in the end."""
    with bench.queue(message_delay=3600), serving(bench, (), message_delay=3600) as (port, process), ExitStack() as stack:
        clients = stack.enter_context(closing(Clients(port, process.pid)))
        clients.ask(bench.sizes.hostile_calls, Times())
        before = process.memory_info().rss
        for kind in KINDS:
            idle, busy = Times(), Times()
            for _ in range(bench.sizes.hostile_rounds):
                clients.ask(bench.sizes.hostile_calls, idle)
                with flooded(port, kind):
                    clients.ask(bench.sizes.hostile_calls, busy)
            calm, late = quantile(idle.waited, 0.99), quantile(busy.waited, 0.99)
            work = f"{quantile(busy.worked, 0.99):.1f} over {quantile(idle.worked, 0.99):.1f} ms"
            yield Row(
                group=GROUP, what=f"a flood of {kind}: p99 of other clients' GET /threads/...", here=f"{late:.1f} ms",
                beside=f"idle {calm:.1f} ms; p50 {quantile(busy.waited, 0.5):.1f} over {quantile(idle.waited, 0.5):.1f} ms; work {work}",
                ratio=late / calm, target=f"<= {TARGET:g}", met=late / calm <= TARGET,
            )  # fmt: skip
        after = process.memory_info().rss
        yield Row(
            group=GROUP, what="the server's memory after all of them", here=f"{after / 1e6:.0f} MB", beside=f"{before / 1e6:.0f} MB before"
        )


@dataclass
class Times:
    """Milliseconds of each request.

    Attributes:
        waited: By the clock.
        worked: Of the processor's time that the server's main thread had meanwhile.
    """

    waited: list[float] = field(default_factory=list)
    worked: list[float] = field(default_factory=list)


class Clients:
    """Other clients, each with an address and a connection of its own."""

    def __init__(self, port: int, pid: int) -> None:
        self._numbers = itertools.cycle(range(OTHERS))
        self._port = port
        self._ran = Path(f"/proc/{pid}/task/{pid}/schedstat")
        self._open: dict[int, http.client.HTTPConnection] = {}

    def ask(self, calls: int, times: Times) -> None:
        """Send so many requests, fifty a second, and note how long each takes."""
        for _ in range(calls):
            number = next(self._numbers)
            worked, began = self._work_ms(), time.perf_counter()
            self._ask(number)
            took = time.perf_counter() - began
            times.waited.append(took * 1000)
            times.worked.append(self._work_ms() - worked)
            time.sleep(max(0.0, 0.02 - took))

    def close(self) -> None:
        """End all connections."""
        for connection in self._open.values():
            connection.close()

    def _work_ms(self) -> float:
        return int(self._ran.read_text().split()[0]) / 1e6 if self._ran.exists() else 0.0

    def _ask(self, number: int) -> None:
        for _ in range(2):  # uvicorn closes a connection that was idle for a while
            source = (f"127.0.1.{number + 1}", 0)
            connection = self._open.setdefault(
                number, http.client.HTTPConnection("127.0.0.1", self._port, timeout=60, source_address=source)
            )
            with suppress(ConnectionError, http.client.BadStatusLine):
                connection.request("GET", "/api/threads/customer-4711")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200, answer.status
                return
            connection.close()
            del self._open[number]
        raise ConnectionError("the server closes every connection")


@contextmanager
def flooded(port: int, kind: str) -> Iterator[None]:
    """Hostile clients, for as long as the block lasts."""
    command = [sys.executable, "-m", "tests.benchmarks.flooding", kind, "--port", str(port), "--abreast", str(ABREAST.get(kind, 20))]
    if kind == "streams":
        command += [word for number in range(2, 40) for word in ("--address", f"127.0.0.{number}")]
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            yield
        finally:
            process.kill()
