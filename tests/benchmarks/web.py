"""Rows about HTTP: cost of a request, time to a browser's first token, a thousand listeners."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psutil

from assistant_queue import FunctionBackend
from tests.benchmarks import VARIABLE
from tests.benchmarks.bench import ROOT, TEXT, Bench
from tests.benchmarks.measuring import compare, quantile, speaking
from tests.benchmarks.table import Row

GROUP = "web"
POST_TARGET_MS = 5.0
TOKEN_TARGET_MS = 15.0
RATE = 100
GROWTH_TARGET = 0.05
CONNECT_ABREAST = 50


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    yield from _posting(bench)
    yield _first_token(bench)
    yield from asyncio.run(_many(bench))


UNLIMITED = (
    "--rate-limit",
    "1000000/minute",
    "--request-limit",
    "1000000/minute",
    "--streams-per-client",
    "2000",
)
"""As it is by default, but one client plays for many here: everything is counted, and nothing
refused."""


def served(bench: Bench, **options: Any) -> AbstractContextManager[tuple[int, psutil.Process]]:
    """A server that refuses nothing."""
    return serving(bench, UNLIMITED, **options)


@contextmanager
def serving(
    bench: Bench, words: Sequence[str], **options: Any
) -> Iterator[tuple[int, psutil.Process]]:
    """`assistant-queue serve` as a separate process, with these arguments: its port, and the process."""
    command = [
        sys.executable,
        "-m",
        "assistant_queue.cli",
        "serve",
        "--app",
        "tests.benchmarks.app:queue",
        "--port",
        "0",
        *words,
    ]
    environment = {
        **os.environ,
        VARIABLE: json.dumps(bench.options(**options)),
        "PYTHONPATH": str(ROOT),
    }
    with (
        bench.log.open("ab") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            yield (
                int(process.stdout.readline().split("127.0.0.1:")[1].split("/")[0]),
                psutil.Process(process.pid),
            )
        finally:
            process.terminate()


# --- one request ----------------------------------------------------------------------------------


def _posting(bench: Bench) -> Iterator[Row]:
    with bench.queue(message_delay=3600) as queue, served(bench, message_delay=3600) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        body = json.dumps({"message": TEXT, "author": "Mia"})

        def request(method: str, path: str, sent: str | None = None) -> Callable[[], object]:
            def call() -> None:
                connection.request(method, path, sent, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                assert answer.status < 300, answer.status

            return call

        subjects = [
            request("POST", "/api/threads/customer-4711/messages", body),
            request("GET", "/api/health/live"),
        ]
        post, live = compare(
            lambda: queue.add_message_to_thread("customer-4712", TEXT, author="Mia"),
            subjects,
            rounds=bench.sizes.rounds,
            calls=bench.sizes.calls,
        )
        more = (post.subject_us - post.baseline_us) / 1000
        yield Row(
            group=GROUP, what="POST .../messages, with both limits, over the bare add, p50 of the rounds", here=f"{more:.2f} ms",
            beside=f"add {post.baseline_us / 1000:.2f} ms, POST {post.subject_us / 1000:.2f} ms", ratio=post.ratio, spread=post.spread,
            target=f"<= {POST_TARGET_MS:g} ms", met=more <= POST_TARGET_MS,
        )  # fmt: skip
        yield Row(
            group=GROUP,
            what="GET /health/live, without Redis",
            here=f"{live.subject_us / 1000:.2f} ms",
        )
        connection.close()


# --- the first token ------------------------------------------------------------------------------


def _first_token(bench: Bench) -> Row:
    """From a piece that the model says in a worker to the client of another process' event stream."""
    said: dict[str, float] = {}
    took: list[float] = []

    with (
        bench.queue(
            message_delay=0.0, backend=FunctionBackend(speaking(said)), model=None
        ) as queue,
        served(bench, message_delay=0.0) as (port, _),
    ):
        worker = queue.start_worker()
        for number in range(bench.sizes.asyncio_samples):
            thread = f"t{number}"
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", f"/api/threads/{thread}/events")
            stream = connection.getresponse()
            while b"caught_up" not in stream.readline():
                pass
            adding = threading.Thread(target=queue.add_message_to_thread, args=(thread, TEXT))
            adding.start()
            while b"text_delta" not in stream.readline():
                pass
            stream.readline()
            took.append((time.perf_counter() - said[thread]) * 1000)
            adding.join()
            stream.close()
            connection.close()
        worker.stop()
    middle = quantile(took, 0.5)
    return Row(
        group=GROUP, what="first token: from the model to the client's event stream, p50", here=f"{middle:.1f} ms",
        beside=f"p95 {quantile(took, 0.95):.1f} ms", target=f"<= {TOKEN_TARGET_MS:g} ms", met=middle <= TOKEN_TARGET_MS,
    )  # fmt: skip


# --- a thousand listeners -------------------------------------------------------------------------


class _Counting(asyncio.Protocol):
    """An event stream of which only the events are counted."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.events = 0
        self.times: list[float] = []
        self.ready = asyncio.get_running_loop().create_future()
        self._end = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(
            f"GET /api/threads/room/events HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        seen = self._end + data
        if not self.ready.done() and b"event: caught_up" in seen:
            self.ready.set_result(None)
        count = seen.count(b"event: message_queued")
        self.events += count
        self.times += [time.perf_counter()] * count
        # What is left is shorter than what is looked for: nothing is counted twice.
        self._end = seen[-20:]


async def _many(bench: Bench) -> list[Row]:
    sizes = bench.sizes
    with (
        bench.queue(message_delay=3600) as queue,
        served(bench, message_delay=3600) as (port, process),
    ):
        queue.open_events("room")
        loop = asyncio.get_running_loop()
        listeners: list[_Counting] = []
        for start in range(0, sizes.listeners, CONNECT_ABREAST):
            part = min(CONNECT_ABREAST, sizes.listeners - start)
            made = await asyncio.gather(
                *(
                    loop.create_connection(lambda: _Counting(port), "127.0.0.1", port)
                    for _ in range(part)
                )
            )
            listeners += [protocol for _, protocol in made]
            await asyncio.gather(*(one.ready for one in listeners[-part:]))
        warm = await _tell(queue, listeners, sizes.events // 3)
        before = process.memory_info().rss
        cpu_before = process.cpu_times()
        began = time.perf_counter()
        sent = await _tell(queue, listeners, sizes.events)
        lasted = time.perf_counter() - began
        after = process.memory_info().rss
        cpu_after = process.cpu_times()
        whole = sum(one.events == len(warm) + len(sent) for one in listeners)
        some = [one.times[len(warm) :] for one in listeners[:: max(1, len(listeners) // 20)]]
        lags = [
            (heard - told) * 1000
            for times in some
            for told, heard in zip(sent, times, strict=False)
        ]
        for one in listeners:
            one.transport.close()
    growth = after / before - 1
    busy = (cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system) / lasted
    what = f"{sizes.listeners:,} listeners, {len(sent):,} events at {RATE}/s"
    return [
        Row(
            group=GROUP, what=f"{what}: who has heard them all", here=f"{whole:,}", beside=f"{lasted:.1f} s, {busy:.0%} of a core",
            target=f"= {sizes.listeners:,}", met=whole == sizes.listeners,
        ),
        Row(
            group=GROUP, what=f"{what}: growth of the server's memory", here=f"{growth:+.1%}",
            beside=f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after; told after p50 {quantile(lags, 0.5):.0f} ms,"
            f" p99 {quantile(lags, 0.99):.0f} ms", target=f"<= {GROWTH_TARGET:.0%}", met=growth <= GROWTH_TARGET,
        ),
    ]  # fmt: skip


async def _tell(queue: Any, listeners: list[_Counting], events: int) -> list[float]:
    """Add so many messages, a hundred a second; when each was.

    Returns when all listeners have them, or half a minute later.
    """
    goal = listeners[0].events + events

    def add() -> list[float]:
        began = time.perf_counter()
        times = []
        for number in range(events):
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            times.append(time.perf_counter())
            queue.add_message_to_thread("room", TEXT, author="Mia")
        return times

    times = await asyncio.to_thread(add)
    until = time.perf_counter() + 30
    while any(one.events < goal for one in listeners) and time.perf_counter() < until:  # noqa: ASYNC110 - a look costs less than a word of each
        await asyncio.sleep(0.01)
    return times
