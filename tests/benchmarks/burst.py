"""A burst of threads that fall due together, step by step: added, handed over, waiting, begun with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Namespace
from assistant_queue.worker.scheduler import Scheduler
from tests.benchmarks.bench import PREFIX, Bench, wait_until
from tests.benchmarks.throughput import completed, cpu_s, redis_cpu_s

OTHER = "other"
ROOM = 50
DUE_S = 0.5
"""Seconds after the windows' end by which all are due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Numbers of one burst.

    Attributes:
        threads: Threads that fall due together, with one message each.
        sampled: Batches of them over which the worker is measured, after the first `ROOM`.
        window_s: Their window.
        deep_s: Seconds for which all of them wait in RQ's queue, beside the leader alone.
        lone: Messages to another queue of the process meanwhile, one after another.
    """

    threads: int
    sampled: int = 8000
    window_s: float = 2.0
    deep_s: float = 10.0
    lone: int = 20


QUICK = Plan(threads=400, sampled=50, window_s=0.2, deep_s=0.1, lone=2)
"""Shows every row, measures nothing."""


@dataclass(frozen=True, slots=True)
class Added:
    """The time and the memory that adding them took."""

    took_s: float
    redis_cpu_s: float
    bytes_used: int


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The hand-over of all, each scan of it, and what the wait after it takes of a core."""

    took_s: float
    redis_cpu_s: float
    scans_s: list[float]
    waiting: int
    redis_share: float
    leader_share: float


@dataclass(frozen=True, slots=True)
class Begun:
    """The first batches of them by one process, and another queue of it meanwhile."""

    batches: int
    took_s: float
    cpu_s: float
    redis_cpu_s: float
    bytes_in: int
    bytes_out: int
    lone_s: list[float]
    files: int
    connections: int


def fill(queue: AssistantMessageQueue, bench: Bench, threads: int) -> Added:
    """Add threads in bulk, and return when all of them are due."""
    used = int(bench.client.info("memory")["used_memory"])
    spent = redis_cpu_s(bench.client)
    queue.pause()  # else each add would look at two of those that are overdue
    start = time.perf_counter()
    queue.add_messages(
        {"thread_id": f"conv_{number:024d}", "message": "hello"} for number in range(threads)
    )
    took = time.perf_counter() - start
    spent = redis_cpu_s(bench.client) - spent
    time.sleep(queue.config.message_delay + DUE_S)  # the clock is waited for: the windows end
    queue.resume()
    used = int(bench.client.info("memory")["used_memory"]) - used
    return Added(took, spent, used)


def hand_over(client: redis.Redis, plan: Plan) -> HandedOver:
    """Hand all of them to RQ's queue, and let them wait there."""
    scheduler = Scheduler(Namespace(PREFIX, SystemClock()), client)
    waiting = f"rq:queue:{PREFIX}"
    scans = []
    spent = redis_cpu_s(client)
    start = time.perf_counter()
    while client.llen(waiting) < plan.threads:
        began = time.perf_counter()
        scheduler.look()
        scans.append(time.perf_counter() - began)
    took = time.perf_counter() - start
    spent = redis_cpu_s(client) - spent
    deep_spent = redis_cpu_s(client)
    own = time.process_time()
    start = time.perf_counter()
    scheduler.start()
    time.sleep(plan.deep_s)  # what is measured is the CPU of this time
    deep_s = time.perf_counter() - start
    deep_spent = redis_cpu_s(client) - deep_spent
    own = time.process_time() - own
    scheduler.stop()
    return HandedOver(took, spent, scans, client.llen(waiting), deep_spent / deep_s, own / deep_s)


def begin(bench: Bench, options: dict[str, Any], plan: Plan) -> Begun:
    """Let one worker process begin with them."""
    told = {**options, "queue_prefix": PREFIX}
    with (
        bench.worker("asyncio", told, concurrency=ROOM, prefixes=(PREFIX, OTHER)) as process,
        AssistantMessageQueue(**{**options, "queue_prefix": OTHER, "message_delay": 0.2}) as other,
    ):
        wait_until(lambda: completed(bench) >= min(ROOM, plan.threads // 4), "it has begun", 60)
        done = completed(bench)
        own = cpu_s(process)
        spent = redis_cpu_s(bench.client)
        seen = bench.client.info("stats")
        start = time.perf_counter()
        wait_until(
            lambda: completed(bench) >= min(done + plan.sampled, plan.threads),
            "the sample is answered",
            300,
        )
        took = time.perf_counter() - start
        batches = max(completed(bench) - done, 1)
        own = cpu_s(process) - own
        spent = redis_cpu_s(bench.client) - spent
        now = bench.client.info("stats")
        waits = []
        for number in range(plan.lone):
            receipt = other.add_message_to_thread(f"conv_other{number:020d}", "hello")
            other.wait_for_reply(receipt.message_id, timeout=60)
            waits.append(time.time() - receipt.due_at.timestamp())
        bytes_in, bytes_out = (
            int(now[f"total_net_{way}_bytes"]) - int(seen[f"total_net_{way}_bytes"])
            for way in ("input", "output")
        )
        return Begun(
            batches, took, own, spent, bytes_in, bytes_out, waits,
            process.num_fds(), len(bench.client.client_list()),
        )  # fmt: skip
