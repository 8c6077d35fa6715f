"""`python -m tests.benchmarks.metrics_cost`: what counting costs a batch, and reading the counts.

Batches are worked off with the metrics and without, in turns, by a worker and a provider that run
beside each other: the CPU of Redis and of the worker, and the calls of Redis, for each batch. Then
the metrics are read while a million messages wait.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

from assistant_queue.clock import SystemClock
from assistant_queue.core.measures import MOST_PAIRS
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.measuring import read_metrics
from assistant_queue.store.transport.stores import SyncStore
from tests.benchmarks.bench import PREFIX, TEXT, Bench, LeanProvider
from tests.benchmarks.measuring import quantile
from tests.benchmarks.redis_profile import answered, fill, redis_cpu_s
from tests.benchmarks.sizes import FULL
from tests.benchmarks.throughput import ABREAST, cpu_s

MESSAGES = 1_000_000
PER_THREAD = 100
READS = 200
Cost = tuple[float, float, float]
"""Of one batch: ms of Redis' CPU, ms of the worker's, calls of Redis from clients."""


def batch_cost(bench: Bench, provider: LeanProvider, count: int, **options: Any) -> Cost:
    """Work off so many batches of one message."""
    bench.client.flushall()
    told = {**provider.options("responses"), "message_delay": 0, **options}
    with (
        bench.queue(**told) as queue,
        bench.worker("asyncio", bench.options(**told), concurrency=ABREAST) as process,
    ):
        fill(queue, count)  # conversations, connections, scripts
        answered(bench, count)
        before = (redis_cpu_s(bench.client), cpu_s(process), _calls(bench))
        fill(queue, count)
        answered(bench, 2 * count)
        after = (redis_cpu_s(bench.client), cpu_s(process), _calls(bench))
    redis_ms, worker_ms, calls = (
        (late - early) / count for early, late in zip(before, after, strict=True)
    )
    return redis_ms * 1000, worker_ms * 1000, calls


def _calls(bench: Bench) -> float:
    """Return the scripts that were called so far."""
    return float(bench.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def reading_ms(bench: Bench) -> list[float]:
    """Return how long each of many readings takes, with a million messages that wait."""
    client = bench.client
    client.flushall()
    namespace = Namespace(PREFIX, SystemClock())
    keys = namespace.keys
    store = SyncStore(client)
    now_ms = int(time.time() * 1000)
    entry = f'{{"id":"m","content":"{TEXT}"}}'
    threads = [f"customer-{number}" for number in range(MESSAGES // PER_THREAD)]
    for start in range(0, len(threads), 100):
        pipe = client.pipeline(transaction=False)
        for thread in threads[start : start + 100]:
            pipe.rpush(keys.pending(thread), *[entry] * PER_THREAD)
            pipe.hset(keys.thread(thread), mapping={"state": "pending", "due": now_ms})
            pipe.zadd(keys.due, {thread: now_ms + 60_000})
            pipe.rpush(wakeups.queue_key(PREFIX), f"job-{thread}")
        pipe.execute()
    client.hset(keys.counters, "waiting", MESSAGES)
    client.hset(keys.metrics, mapping=dict(_fields()))
    for number in range(20):
        name = wakeups.worker_key(f"worker-{number}")
        client.sadd(wakeups.workers_key(PREFIX), name)
        client.hset(name, mapping={"last_heartbeat": wakeups.stamp(), "state": "busy"})
    times = []
    for _ in range(READS):
        began = time.perf_counter()
        found = store.run(read_metrics(namespace))
        times.append((time.perf_counter() - began) * 1000)
    assert found.messages["queued"] == MESSAGES
    assert len(found.tokens) == MOST_PAIRS
    return times


def _fields() -> Iterator[tuple[str, int]]:
    """Yield as many fields as there can be of tools, tenants and buckets."""
    for number in range(MOST_PAIRS):
        for ending in "aocwr":
            yield f"k:gpt-4.1:customer-{number}:{ending}", 12345
    for number in range(100):
        yield f"t:tool-{number}:n", 10
        yield f"t:tool-{number}:ms", 12345
        yield f"e:error-{number}", 10
    for duration in "wqfrde":
        yield f"h:{duration}:ms", 12345
        for bucket in range(22):
            yield f"h:{duration}:{bucket}", 10


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.metrics_cost", description=__doc__
    )
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    told = parser.parse_args()
    kinds: dict[str, dict[str, Any]] = {
        "all off": {"metrics": False, "journal": 0},
        "metrics off": {"metrics": False},
        "defaults": {},
    }
    costs: dict[str, list[Cost]] = {name: [] for name in kinds}
    with Bench(FULL) as bench:
        with bench.lean_provider() as provider:
            for _ in range(told.rounds):
                for name, options in kinds.items():
                    costs[name].append(batch_cost(bench, provider, told.batches, **options))
        for name, found in costs.items():
            redis_ms, worker_ms, calls = (min(values) for values in zip(*found, strict=True))
            sys.stdout.write(
                f"{name}: {redis_ms:.3f} ms of Redis' CPU, {worker_ms:.3f} ms of the worker's, "
                f"{calls:.2f} scripts a batch\n"
            )
        times = reading_ms(bench)
    sys.stdout.write(
        f"get_metrics with {MESSAGES:,} messages that wait: median {statistics.median(times):.1f} "
        f"ms, p99 {quantile(times, 0.99):.1f} ms, of {READS}\n"
    )


if __name__ == "__main__":
    main()
