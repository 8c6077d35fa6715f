"""Rows about waiting: from the end of the window to the start of the run, and from its end to the reply in the caller's hands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from assistant_queue import AssistantMessageQueue
from tests.benchmarks.bench import Bench
from tests.benchmarks.measuring import quantile
from tests.benchmarks.raw_rq import perform
from tests.benchmarks.table import Row

GROUP = "waiting"
START_MS = (5, 25)
"""Median and p99, on a quiet machine."""
REPLY_MS = 20


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds of one batch."""

    start: float
    reply: float


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    slept = asyncio.run(_sleeps(bench.sizes.window_s, bench.sizes.forking_samples))
    bench.client.flushall()
    with bench.worker("rq", {"queue_prefix": "raw"}):
        perform(bench.url, 1)
        raw = perform(bench.url, bench.sizes.forking_samples)
    beside = {
        "asyncio": ("asyncio.sleep is late by", slept),
        "forking": ("raw RQ, an empty job", raw),
    }
    for kind, protocol in [
        ("asyncio", "responses"),
        ("asyncio", "assistants"),
        ("forking", "responses"),
    ]:
        waits = _measure(bench, kind, protocol)
        asked = kind == "asyncio"
        starts = [wait.start for wait in waits]
        name, baseline = beside[kind]
        yield Row(
            group=GROUP,
            what=f"window's end to run's start, {kind} worker, {protocol} ({len(waits)} batches)",
            here=_percentiles(starts),
            beside=f"{name} {_percentiles(baseline)}",
            ratio=quantile(starts, 0.5) / quantile(baseline, 0.5),
            target=f"p50 <= {START_MS[0]}, p99 <= {START_MS[1]} ms" if asked else "",
            met=all(
                quantile(starts, part) * 1000 <= most
                for part, most in zip((0.5, 0.99), START_MS, strict=True)
            )
            if asked
            else None,
        )
        replies = [wait.reply for wait in waits]
        yield Row(
            group=GROUP,
            what=f"run's end to reply in wait_for_reply, {kind} worker, {protocol}",
            here=_percentiles(replies),
            target=f"p50 <= {REPLY_MS} ms" if asked else "",
            met=quantile(replies, 0.5) * 1000 <= REPLY_MS if asked else None,
        )
    yield Row(group=GROUP, what="raw RQ: an empty job, enqueue to result", here=_percentiles(raw))


def _percentiles(seconds: Sequence[float]) -> str:
    return f"p50 {quantile(seconds, 0.5) * 1000:.1f}, p99 {quantile(seconds, 0.99) * 1000:.1f} ms"


async def _sleeps(seconds: float, times: int) -> list[float]:
    late = []
    for _ in range(times):
        start = time.perf_counter()
        await asyncio.sleep(seconds)
        late.append(time.perf_counter() - start - seconds)
    return late


def _measure(bench: Bench, kind: str, protocol: str) -> list[Waits]:
    chosen = {} if protocol == "responses" else {"assistant_id": bench.provider.assistant_id}
    abreast = bench.sizes.abreast if kind == "asyncio" else 1
    samples = bench.sizes.asyncio_samples if kind == "asyncio" else bench.sizes.forking_samples
    with (
        bench.queue(**chosen) as queue,
        bench.worker(kind, bench.options(**chosen)),
        ThreadPoolExecutor(abreast) as pool,
    ):
        for caller in range(abreast):
            queue.ask(f"caller {caller}", "hello")  # creates the conversation

        def call(caller: int) -> list[Waits]:
            time.sleep(bench.sizes.window_s * caller / abreast)
            return [
                _one(bench, queue, f"caller {caller}") for _ in range(max(1, samples // abreast))
            ]

        return [wait for waits in pool.map(call, range(abreast)) for wait in waits]


def _one(bench: Bench, queue: AssistantMessageQueue, thread_id: str) -> Waits:
    receipt = queue.add_message_to_thread(thread_id, "hello")
    queue.wait_for_reply(receipt.message_id)
    answered = time.time()
    status = queue.get_message(receipt.message_id)
    assert status is not None
    (run,) = [run for run in bench.provider.runs if run.id == status.run_id]
    assert run.ended_at is not None
    return Waits(run.started_at - receipt.due_at.timestamp(), answered - run.ended_at)
