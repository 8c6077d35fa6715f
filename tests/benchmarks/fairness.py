"""`python -m tests.benchmarks.fairness`: a burst of threads that fall due together, and what it does to one that is alone.

By default 100,000 threads, on a private Redis with workers that answer as fast as they can: some minutes. Nothing is asserted on a clock.

1. the watchman hands the burst over while nobody takes it: how long one look is, what the whole costs, what a deep queue costs then
2. a worker works it off: how late a thread is that falls due when half is done - in the same queue, behind what was due before it, and
   in another queue of the same process
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from assistant_queue import AssistantMessageQueue
from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Space
from assistant_queue.worker.watchman import Watchman
from tests.benchmarks.bench import PREFIX, Bench, wait_until
from tests.benchmarks.holding import peak_bytes
from tests.benchmarks.sizes import QUICK
from tests.benchmarks.table import Row, render
from tests.benchmarks.throughput import cpu_s

OTHER = "other"
DEEP_S = 10.0


def rows(bench: Bench, threads: int) -> Iterator[Row]:
    """Every row."""
    with bench.lean_provider() as provider:
        options = bench.options(**provider.options(), message_delay=2.0, window="fixed")
        with bench.queue(**provider.options(), message_delay=2.0) as queue:
            before = bench.client.info("memory")["used_memory"]
            queue.pause()  # else each add would look at two of those that are overdue
            start = time.perf_counter()
            queue.add_messages({"thread_id": _thread(number), "message": "hello"} for number in range(threads))
            took = time.perf_counter() - start
            used = bench.client.info("memory")["used_memory"] - before
            yield Row(group="burst", what=f"adding {threads:,} threads in bulk", here=f"{threads / took:,.0f} /s")
            yield Row(group="burst", what="memory of Redis", here=f"{used / 1e6:.0f} MB; {used / threads:,.0f} bytes a thread")
            time.sleep(2.5)
            queue.resume()
            yield from _handing_over(bench, threads)
            yield from _working_off(bench, queue, options, threads)


def _thread(number: int) -> str:
    return f"conv_{number:024d}"


def _redis_cpu(bench: Bench) -> float:
    seen = bench.client.info("cpu")
    return float(seen["used_cpu_user"]) + float(seen["used_cpu_sys"])


def _handing_over(bench: Bench, threads: int) -> Iterator[Row]:
    watchman = Watchman(Space(PREFIX, SystemClock()), bench.client)
    looks, redis, start = [], _redis_cpu(bench), time.perf_counter()
    while bench.client.llen(f"rq:queue:{PREFIX}") < threads:
        began = time.perf_counter()
        watchman.look()
        looks.append(time.perf_counter() - began)
    took = time.perf_counter() - start
    yield Row(
        group="burst", what="all handed to RQ's queue by one watchman, nobody takes them", here=f"{took:.1f} s",
        beside=f"CPU of Redis {_redis_cpu(bench) - redis:.1f} s",
    )  # fmt: skip
    yield Row(
        group="burst",
        what="  one look, at most 100 threads",
        here=f"p50 {statistics.median(looks) * 1000:.1f}, max {max(looks) * 1000:.1f} ms",
    )
    redis, own = _redis_cpu(bench), time.process_time()
    watchman.start()
    time.sleep(DEEP_S)
    yield Row(
        group="burst", what="  while they wait: CPU of Redis, of the watchman", here=f"{(_redis_cpu(bench) - redis) / DEEP_S:.0%}, "
        f"{(time.process_time() - own) / DEEP_S:.0%}", beside=f"wake-ups in the queue {bench.client.llen(f'rq:queue:{PREFIX}'):,}",
    )  # fmt: skip
    watchman.stop()


def _working_off(bench: Bench, queue: AssistantMessageQueue, options: dict[str, Any], threads: int) -> Iterator[Row]:
    told = {**options, "queue_prefix": PREFIX}
    with (
        bench.worker("asyncio", told, concurrency=50, prefixes=(PREFIX, OTHER)) as process,
        AssistantMessageQueue(**{**options, "queue_prefix": OTHER, "message_delay": 0.2}) as other,
    ):
        wait_until(lambda: _completed(bench) > 0, "the worker has begun", 60)
        idle, own, start = peak_bytes(process), cpu_s(process), time.perf_counter()
        wait_until(lambda: _completed(bench) >= threads // 2, "half is done", threads / 10)
        alone = queue.add_message_to_thread("conv_alone00000000000000000", "hello")
        left = threads - _completed(bench)
        added = time.perf_counter()
        waits = []
        for number in range(20):
            receipt = other.add_message_to_thread(f"conv_other{number:020d}", "hello")
            other.wait_for_reply(receipt.message_id, timeout=60)
            waits.append(time.time() - receipt.due_at.timestamp())
        wait_until(lambda: _is_done(queue, alone.message_id), "the lone thread is answered", threads / 10)
        late = time.perf_counter() - added
        behind = threads + 1 - _completed(bench)
        wait_until(lambda: _completed(bench) >= threads + 1, "all are answered", 60)
        took, used = time.perf_counter() - start, cpu_s(process) - own
        peak = peak_bytes(process)
    yield Row(
        group="burst", what="worked off by one process, a provider that answers at once", here=f"{threads / took:,.0f} batches/s",
        beside=f"CPU of the worker {used / threads * 1000:.1f} ms a batch",
    )  # fmt: skip
    yield Row(group="burst", what="  peak memory of the worker", here=f"{peak / 1e6:.0f} MB", beside=f"at the start {idle / 1e6:.0f} MB")
    yield Row(
        group="burst", what="  a thread that falls due when half is done: answered after", here=f"{late:.0f} s",
        beside=f"then {left:,} were due before it; {behind:,} of them are left when it is answered",
    )  # fmt: skip
    yield Row(
        group="burst", what="  meanwhile, in another queue of the process: window's end to reply",
        here=f"p50 {statistics.median(waits) * 1000:.0f}, max {max(waits) * 1000:.0f} ms",
    )  # fmt: skip


def _completed(bench: Bench) -> int:
    return int(bench.client.hget(f"{PREFIX}:counters", "completed") or 0)


def _is_done(queue: AssistantMessageQueue, message_id: str) -> bool:
    time.sleep(0.05)
    status = queue.get_message(message_id)
    return status is not None and status.status == "completed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fairness", description=__doc__)
    parser.add_argument("--threads", type=int, default=100_000)
    told = parser.parse_args(arguments)
    with Bench(QUICK) as bench:
        sys.stdout.write(render(list(rows(bench, told.threads))) + "\n")


if __name__ == "__main__":
    main()
