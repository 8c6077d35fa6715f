"""`python -m tests.benchmarks.fairness`: a burst of threads that fall due together, and what it does to one that is alone.

On a private Redis, with a provider that answers at once: some minutes. Nothing is asserted on a
clock.

1. 100,000 threads; the scheduler hands them over while no worker takes them: how long one pass is, what
   a deep queue costs then
2. one worker process begins with them: what a batch takes of it and of Redis, and how late another
   queue of the same process is
3. a smaller burst, worked off to its end: how late a thread is that falls due when half is done
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
from assistant_queue.store.calls import Namespace
from assistant_queue.worker.scheduler import Scheduler
from tests.benchmarks.bench import PREFIX, Bench, wait_until
from tests.benchmarks.holding import peak_bytes
from tests.benchmarks.sizes import QUICK
from tests.benchmarks.table import Row, render
from tests.benchmarks.throughput import cpu_s

OTHER = "other"
DEEP_S = 10.0
SAMPLE_S = 20.0
ROOM = 50


def rows(bench: Bench, threads: int, worked: int) -> Iterator[Row]:
    """Every row."""
    with bench.lean_provider() as provider:
        options = bench.options(**provider.options(), message_delay=2.0)
        with bench.queue(**provider.options(), message_delay=2.0) as queue:
            before = bench.client.info("memory")["used_memory"]
            took = _fill(queue, threads)
            used = bench.client.info("memory")["used_memory"] - before
            yield Row(
                group="burst",
                what=f"adding {threads:,} threads in bulk",
                here=f"{threads / took:,.0f} /s",
            )
            yield Row(
                group="burst",
                what="memory of Redis",
                here=f"{used / 1e6:.0f} MB; {used / threads:,.0f} bytes a thread",
            )
            yield from _handing_over(bench, threads)
            yield from _beginning(bench, options)
        with bench.queue(**provider.options(), message_delay=2.0) as queue:
            _fill(queue, worked)
            yield from _working_off(bench, queue, options, worked)


def _fill(queue: AssistantMessageQueue, threads: int) -> float:
    """Threads that are all due at once; seconds that it took to add them."""
    queue.pause()  # else each add would look at two of those that are overdue
    start = time.perf_counter()
    queue.add_messages(
        {"thread_id": _thread(number), "message": "hello"} for number in range(threads)
    )
    took = time.perf_counter() - start
    time.sleep(2.5)
    queue.resume()
    return took


def _thread(number: int) -> str:
    return f"conv_{number:024d}"


def _redis_cpu(bench: Bench) -> float:
    seen = bench.client.info("cpu")
    return float(seen["used_cpu_user"]) + float(seen["used_cpu_sys"])


def _handing_over(bench: Bench, threads: int) -> Iterator[Row]:
    scheduler = Scheduler(Namespace(PREFIX, SystemClock()), bench.client)
    looks = []
    redis = _redis_cpu(bench)
    start = time.perf_counter()
    while bench.client.llen(f"rq:queue:{PREFIX}") < threads:
        began = time.perf_counter()
        scheduler.look()
        looks.append(time.perf_counter() - began)
    took = time.perf_counter() - start
    yield Row(
        group="burst", what="all handed to RQ's queue by the leader, and not taken", here=f"{took:.1f} s",
        beside=f"CPU of Redis {_redis_cpu(bench) - redis:.1f} s",
    )  # fmt: skip
    yield Row(
        group="burst",
        what="  one look, at most 100 threads",
        here=f"p50 {statistics.median(looks) * 1000:.1f}, max {max(looks) * 1000:.1f} ms",
    )
    redis = _redis_cpu(bench)
    own = time.process_time()
    scheduler.start()
    time.sleep(DEEP_S)
    yield Row(
        group="burst", what="  while they wait: CPU of Redis, of the leader", here=f"{(_redis_cpu(bench) - redis) / DEEP_S:.0%}, "
        f"{(time.process_time() - own) / DEEP_S:.0%}", beside=f"wake-ups in the queue {bench.client.llen(f'rq:queue:{PREFIX}'):,}",
    )  # fmt: skip
    scheduler.stop()


def _beginning(bench: Bench, options: dict[str, Any]) -> Iterator[Row]:
    told = {**options, "queue_prefix": PREFIX}
    with (
        bench.worker("asyncio", told, concurrency=ROOM, prefixes=(PREFIX, OTHER)) as process,
        AssistantMessageQueue(**{**options, "queue_prefix": OTHER, "message_delay": 0.2}) as other,
    ):
        wait_until(lambda: _completed(bench) >= ROOM, "the worker has begun", 60)
        done = _completed(bench)
        own = cpu_s(process)
        redis = _redis_cpu(bench)
        seen = bench.client.info("stats")
        start = time.perf_counter()
        time.sleep(SAMPLE_S)
        took = time.perf_counter() - start
        batches = _completed(bench) - done
        own = cpu_s(process) - own
        redis = _redis_cpu(bench) - redis
        now = bench.client.info("stats")
        waits = []
        for number in range(20):
            receipt = other.add_message_to_thread(f"conv_other{number:020d}", "hello")
            other.wait_for_reply(receipt.message_id, timeout=60)
            waits.append(time.time() - receipt.due_at.timestamp())
        files = process.num_fds()
        connections = len(bench.client.client_list())
    came, went = (
        int(now[name]) - int(seen[name])
        for name in ("total_net_input_bytes", "total_net_output_bytes")
    )
    yield Row(
        group="burst", what="worked off by one process, the queue deep", here=f"{batches / took:,.0f} batches/s",
        beside=f"room for {ROOM}; over {SAMPLE_S:g} s",
    )  # fmt: skip
    yield Row(
        group="burst", what="  a batch: CPU of the worker, of Redis",
        here=f"{own / batches * 1000:.1f} ms, {redis / batches * 1000:.2f} ms",
    )  # fmt: skip
    yield Row(
        group="burst",
        what="  a batch: bytes to Redis, from Redis",
        here=f"{came / batches:,.0f}, {went / batches:,.0f}",
    )
    yield Row(
        group="burst", what="  open files of the worker; connections of Redis", here=f"{files}; {connections}",
        beside="two queues, two producers",
    )  # fmt: skip
    yield Row(
        group="burst", what="  meanwhile, in another queue of the process: window's end to reply",
        here=f"p50 {statistics.median(waits) * 1000:.0f}, max {max(waits) * 1000:.0f} ms",
    )  # fmt: skip


def _working_off(
    bench: Bench, queue: AssistantMessageQueue, options: dict[str, Any], threads: int
) -> Iterator[Row]:
    with bench.worker("asyncio", {**options, "queue_prefix": PREFIX}, concurrency=ROOM) as process:
        wait_until(lambda: _completed(bench) >= threads // 2, "half is done", 60 + threads / 20)
        alone = queue.add_message_to_thread("conv_alone00000000000000000", "hello")
        left = threads - _completed(bench)
        added = time.perf_counter()
        wait_until(
            lambda: _is_done(queue, alone.message_id),
            "the lone thread is answered",
            60 + threads / 20,
        )
        late = time.perf_counter() - added - 2.0
        behind = threads + 1 - _completed(bench)
        peak = peak_bytes(process)
    yield Row(
        group="burst", what=f"half of {threads:,} are done, one more is added: answered after its window's end by",
        here=f"{late:.0f} s",
        beside=f"{left:,} were due before it; {behind:,} of them are left then",
    )  # fmt: skip
    yield Row(group="burst", what="  peak memory of the worker", here=f"{peak / 1e6:.0f} MB")


def _completed(bench: Bench) -> int:
    return int(bench.client.hget(f"{PREFIX}:counters", "completed") or 0)


def _is_done(queue: AssistantMessageQueue, message_id: str) -> bool:
    time.sleep(0.05)
    status = queue.get_message(message_id)
    return status is not None and status.status == "completed"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.fairness", description=__doc__
    )
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument(
        "--worked", type=int, default=5000, help="threads of the smaller burst [5000]"
    )
    told = parser.parse_args(arguments)
    with Bench(QUICK) as bench:
        sys.stdout.write(render(list(rows(bench, told.threads, told.worked))) + "\n")


if __name__ == "__main__":
    main()
