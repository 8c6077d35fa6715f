"""Rows about work: batches a second and CPU a batch with a provider that answers at once, beside the same calls without a queue."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psutil
import redis
import rq

from assistant_queue import AssistantMessageQueue
from tests.benchmarks.bare import MESSAGES, REPLIES
from tests.benchmarks.bench import PREFIX, TEXT, Bench, LeanProvider, wait_until
from tests.benchmarks.measuring import quantile
from tests.benchmarks.raw_rq_call import CALL
from tests.benchmarks.table import Row

GROUP = "throughput"
ABREAST = 50
PROTOCOLS = ("responses", "assistants")
RATE = 0.6
OVER_MS = 2.5
REDIS_MS = 0.5
SCRIPTS = 5
RQ_JOBS = {"rq simple": 4, "rq": 60}
"""RQ's workers perform fewer jobs: one in so many."""


@dataclass(frozen=True, slots=True)
class Taken:
    """The time of a number of batches."""

    batches: int
    elapsed_s: float
    cpu_s: float
    redis_cpu_s: float = 0.0
    scripts: float = 0.0

    @property
    def rate(self) -> float:
        """Batches a second."""
        return self.batches / self.elapsed_s

    @property
    def cpu_ms(self) -> float:
        """CPU of the worker's process a batch."""
        return self.cpu_s / self.batches * 1000

    def __str__(self) -> str:
        return f"{self.rate:,.{0 if self.rate > 10 else 1}f} /s, {self.cpu_ms:.1f} ms CPU"


@dataclass(frozen=True, slots=True)
class Round:
    """The same work done in turns: the plain loop with events, with bytes alone, and our worker by protocol."""

    typed: Taken
    raw: Taken
    ours: dict[str, Taken]


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    count = bench.sizes.throughput
    with bench.lean_provider() as provider:
        rounds = [_round(bench, provider, count) for _ in range(bench.sizes.throughput_rounds)]
        typed, raw = _middle([one.typed for one in rounds]), _middle([one.raw for one in rounds])
        for protocol in PROTOCOLS:
            ours = _middle([one.ours[protocol] for one in rounds])
            ratios = [one.ours[protocol].rate / one.typed.rate for one in rounds]
            ratio = quantile(ratios, 0.5)
            yield Row(
                group=GROUP, what=f"batches, asyncio worker, {protocol}, {ABREAST} abreast", here=str(ours), beside=f"plain loop {typed}",
                ratio=ratio, spread=(min(ratios), max(ratios)), target=f">= {RATE}", met=ratio >= RATE,
            )  # fmt: skip
            redis_ms = ours.redis_cpu_s / count * 1000
            scripts = ours.scripts / count
            yield Row(
                group=GROUP, what=f"  CPU of Redis and scripts, a batch of one with its add, {protocol}",
                here=f"{redis_ms:.2f} ms, {scripts:.1f}", target=f"<= {REDIS_MS} ms, <= {SCRIPTS}",
                met=redis_ms <= REDIS_MS and scripts <= SCRIPTS,
            )  # fmt: skip
            over = quantile([one.ours[protocol].cpu_ms - one.typed.cpu_ms for one in rounds], 0.5)
            bytes_over = quantile(
                [one.ours[protocol].cpu_ms - one.raw.cpu_ms for one in rounds], 0.5
            )
            yield Row(
                group=GROUP, what=f"  its CPU a batch over the bare call, {protocol}", here=f"{over:+.1f} ms",
                beside=f"over its bytes alone {bytes_over:+.1f} ms", target=f"<= {OVER_MS} ms", met=over <= OVER_MS,
            )  # fmt: skip
        for protocol in PROTOCOLS:
            floor = _skeleton(bench, provider, protocol, count)
            mine = _middle([one.ours[protocol] for one in rounds])
            yield Row(
                group=GROUP, what=f"floor: its round trips, request and events alone, {protocol}",
                here=str(floor), beside=f"the worker {mine}", ratio=floor.rate / mine.rate,
            )  # fmt: skip
        yield Row(
            group=GROUP,
            what="plain loop, the answers' bytes alone",
            here=str(raw),
            beside=f"with events {typed}",
        )
        bench.client.rpush(MESSAGES, *[TEXT] * (count + ABREAST))
        listed = _bare(bench, provider, count, redis=bench.url)
        bench.client.delete(MESSAGES, REPLIES)
        yield Row(
            group=GROUP,
            what="raw redis-py: a list of messages, a list of replies",
            here=str(listed),
            beside=f"plain loop {typed}",
        )
        for kind, fewer in RQ_JOBS.items():
            done = _raw_rq(bench, provider, kind, max(1, count // fewer))
            name = kind.removeprefix("rq").strip() or "forking"
            yield Row(
                group=GROUP, what=f"raw RQ, {name} worker, the same call a job", here=str(done)
            )


def _round(bench: Bench, provider: LeanProvider, count: int) -> Round:
    typed, raw = _bare(bench, provider, count), _bare(bench, provider, count, raw=True)
    return Round(
        typed, raw, {protocol: _ours(bench, provider, protocol, count) for protocol in PROTOCOLS}
    )


def _middle(taken: Sequence[Taken]) -> Taken:
    """The median, of rate and of CPU apart."""
    batches = taken[0].batches
    return Taken(
        batches,
        batches / quantile([one.rate for one in taken], 0.5),
        *(
            quantile([getattr(one, name) for one in taken], 0.5)
            for name in ("cpu_s", "redis_cpu_s", "scripts")
        ),
    )


def _bare(bench: Bench, provider: LeanProvider, count: int, **options: object) -> Taken:
    told = bench.bare(provider, runs=count, abreast=ABREAST, warm=ABREAST, **options)
    return Taken(count, told["elapsed_s"], told["cpu_s"])


def _skeleton(bench: Bench, provider: LeanProvider, protocol: str, count: int) -> Taken:
    """The least CPU of three runs: what else the machine does only adds to it."""
    runs = (
        bench.bare(
            provider, "skeleton", runs=count, abreast=ABREAST, redis=bench.url, protocol=protocol
        )
        for _ in range(bench.sizes.throughput_rounds)
    )
    told = min(runs, key=lambda one: one["cpu_s"])
    return Taken(count, told["elapsed_s"], told["cpu_s"])


def _ours(bench: Bench, provider: LeanProvider, protocol: str, count: int) -> Taken:
    return work_off([bench], {**provider.options(protocol), "message_delay": 0}, [customers(count)])


def customers(count: int) -> list[str]:
    """Return ids of threads."""
    return [f"customer-{number}" for number in range(count)]


def work_off(
    primaries: Sequence[Bench],
    options: dict[str, Any],
    threads: Sequence[Sequence[str]],
    processes: int = 1,
) -> Taken:
    """Measure a batch of each thread, with so many worker processes on each primary.

    Args:
        primaries: Each with a Redis server.
        options: Of the queues.
        threads: The ids of each primary's.
        processes: For each primary.
    """
    with ExitStack() as stack:
        queues = [stack.enter_context(bench.queue(**options)) for bench in primaries]
        workers = [
            stack.enter_context(
                bench.worker("asyncio", bench.options(**options), concurrency=ABREAST)
            )
            for bench in primaries
            for _ in range(processes)
        ]
        for bench in primaries:
            _wait_for_workers(bench, processes)
        _fill(queues, threads)  # conversations, connections
        _wait(primaries, threads, 1)
        # Stopped while its work is laid out: what is measured is the worker alone, with never too
        # little to do.
        for worker in workers:
            worker.send_signal(signal.SIGSTOP)
        redis_before_s, scripts = _spent(primaries)
        _fill(queues, threads)
        before = sum(map(cpu_s, workers))
        start = time.perf_counter()
        for worker in workers:
            worker.send_signal(signal.SIGCONT)
        _wait(primaries, threads, 2)
        elapsed_s = time.perf_counter() - start
        redis_after_s, scripts_after = _spent(primaries)
        return Taken(
            sum(map(len, threads)),
            elapsed_s,
            sum(map(cpu_s, workers)) - before,
            redis_after_s - redis_before_s,
            scripts_after - scripts,
        )


def redis_cpu_s(client: redis.Redis) -> float:
    """CPU seconds of a Redis server."""
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _spent(primaries: Sequence[Bench]) -> tuple[float, int]:
    """CPU seconds of Redis, and scripts that it has run."""
    stats = [bench.client.info("commandstats") for bench in primaries]
    return (
        sum(redis_cpu_s(bench.client) for bench in primaries),
        sum(
            one.get(f"cmdstat_{name}", {}).get("calls", 0)
            for one in stats
            for name in ("eval", "evalsha")
        ),
    )


def _fill(queues: Sequence[AssistantMessageQueue], threads: Sequence[Sequence[str]]) -> None:
    for queue, ids in zip(queues, threads, strict=True):
        queue.add_messages({"thread_id": thread_id, "message": TEXT} for thread_id in ids)


def _wait(primaries: Sequence[Bench], threads: Sequence[Sequence[str]], rounds: int) -> None:
    for bench, ids in zip(primaries, threads, strict=True):
        _wait_for(bench, rounds * len(ids))


def _wait_for(bench: Bench, batches: int) -> None:
    wait_until(lambda: completed(bench) >= batches, f"{batches} batches are answered", 180)


def completed(bench: Bench) -> int:
    """Return the number of messages that are answered."""
    return int(bench.client.hget(f"{PREFIX}:counters", "completed") or 0)


def _wait_for_workers(bench: Bench, count: int) -> None:
    wait_until(
        lambda: bench.client.scard(f"rq:workers:{PREFIX}") == count,
        f"{count} workers register",
        60,
    )


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process and of its children that have ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _raw_rq(bench: Bench, provider: LeanProvider, kind: str, count: int) -> Taken:
    bench.client.flushall()
    with (
        redis.Redis.from_url(bench.url) as client,
        bench.worker(kind, {"queue_prefix": "raw"}) as process,
    ):
        queue = rq.Queue("raw", connection=client)
        first = queue.enqueue(CALL, f"{provider.url}/v1", TEXT)
        wait_until(first.latest_result, "RQ's first job is performed", 60)
        process.send_signal(signal.SIGSTOP)
        jobs = [queue.enqueue(CALL, f"{provider.url}/v1", TEXT) for _ in range(count)]
        before = cpu_s(process)
        start = time.perf_counter()
        process.send_signal(signal.SIGCONT)
        wait_until(jobs[-1].latest_result, "RQ's jobs are performed", 180)
        return Taken(count, time.perf_counter() - start, cpu_s(process) - before)
