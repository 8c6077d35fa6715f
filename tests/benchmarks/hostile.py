"""Rows about hostile clients: how long others wait for an answer while a server is flooded, over how long they wait when it is idle.

Flood, server, Redis and the measured clients share a few cores. So beside the time by the clock
stand the time without waiting for a core, which decides, the server's own work meanwhile, and the
same request to a bare server that nothing floods.
"""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from tests.benchmarks.bench import ROOT, Bench
from tests.benchmarks.flooding import KINDS, PATIENT
from tests.benchmarks.measuring import quantile
from tests.benchmarks.other_clients import OtherClients, Times, over
from tests.benchmarks.table import Row
from tests.benchmarks.web import serving

GROUP = "hostile"
_FLOODS = itertools.count(2)
TARGET = 3.0
ABREAST = {"heads": 1000, "streams": 500, "crowd": 100}
"""Connections of an attack; of the others 20, which is as many sockets as one client may have."""
EACH = 20
"""Streams of an address, as many as it may have by default."""


def rows(bench: Bench) -> Iterator[Row]:
    """One for each kind of flood, and what the server's memory is in the end."""
    kinds = os.environ.get("FLOODS", " ".join(KINDS)).split()
    idle_streams = bench.sizes.hostile_idle
    with (
        bench.queue(message_delay=3600),
        serving(bench, ("--streams", str(max(2000, idle_streams))), message_delay=3600) as (
            port,
            process,
        ),
        bare_server() as bare_port,
        ExitStack() as stack,
    ):
        redis_pid = bench.client.info("server")["process_id"]
        others = OtherClients(port, process.pid, bare_port, redis_pid)
        stack.enter_context(closing(others))
        others.ask(bench.sizes.hostile_calls, Times())
        before = process.memory_info().rss
        for kind in kinds:
            idle, busy = Times(), Times()
            abreast = idle_streams if kind == PATIENT else ABREAST.get(kind, EACH)
            for _ in range(1 if kind == PATIENT else bench.sizes.hostile_rounds):
                others.ask(bench.sizes.hostile_calls, idle)
                with flooded(port, kind, abreast):
                    others.ask(bench.sizes.hostile_calls, busy)
            yield _row(kind, idle, busy)
        after = process.memory_info().rss
        yield Row(
            group=GROUP,
            what="the server's memory after all of them",
            here=f"{after / 1e6:.0f} MB",
            beside=f"{before / 1e6:.0f} MB before",
        )


def _row(kind: str, idle: Times, busy: Times) -> Row:
    late, calm = quantile(busy.served, 0.99), quantile(idle.served, 0.99)
    beside = {
        "idle": f"{calm:.1f} ms",
        "p50": over(busy.served, idle.served, 0.5),
        "server's work": over(busy.worked, idle.worked, 0.99),
        "by the clock": over(busy.waited, idle.waited, 0.99),
        "bare server": over(busy.bare, idle.bare, 0.99),
    }
    return Row(
        group=GROUP,
        what=f"a flood of {kind}: p99 of other clients' GET /threads/...",
        here=f"{late:.1f} ms",
        beside="; ".join(f"{name} {figure}" for name, figure in beside.items()),
        ratio=late / calm,
        target=f"<= {TARGET:g}",
        met=late / calm <= TARGET,
    )


@contextmanager
def bare_server() -> Iterator[int]:
    """Start a server that nothing floods; yield its port."""
    command = [sys.executable, "-m", "tests.benchmarks.bare_http"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextmanager
def flooded(port: int, kind: str, abreast: int) -> Iterator[None]:
    """Hostile clients, for as long as the block lasts; each time at other addresses."""
    number = next(_FLOODS)
    clients = (
        math.ceil(abreast / EACH) + 1
        if kind in {"streams", PATIENT}
        else 40
        if kind == "crowd"
        else 1
    )
    command = [sys.executable, "-m", "tests.benchmarks.flooding", kind, "--port", str(port)]
    command += ["--abreast", str(abreast)]
    for client in range(clients):
        block, host = divmod(client, 200)
        command += ["--address", f"127.{block}.{number}.{host + 2}"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "ready\n", "the flood never reached the server"
            yield
        finally:
            process.kill()
