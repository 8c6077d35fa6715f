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
from tests.benchmarks import burst
from tests.benchmarks.bench import PREFIX, Bench, wait_until
from tests.benchmarks.burst import Plan
from tests.benchmarks.holding import peak_bytes
from tests.benchmarks.sizes import QUICK
from tests.benchmarks.table import Row, render
from tests.benchmarks.throughput import completed


def rows(bench: Bench, plan: Plan, worked: int) -> Iterator[Row]:
    """Every row."""
    with bench.lean_provider() as provider:
        asked = {**provider.options(), "message_delay": plan.window_s}
        options = bench.options(**asked)
        with bench.queue(**asked) as queue:
            yield from _added(burst.fill(queue, bench, plan.threads), plan)
            yield from _handed_over(burst.hand_over(bench.client, plan))
            yield from _begun(burst.begin(bench, options, plan))
        with bench.queue(**asked) as queue:
            burst.fill(queue, bench, worked)
            yield from _working_off(bench, queue, options, worked)


def _added(added: burst.Added, plan: Plan) -> Iterator[Row]:
    yield Row(
        group="burst",
        what=f"adding {plan.threads:,} threads in bulk",
        here=f"{plan.threads / added.took_s:,.0f} /s",
    )
    used = added.bytes_used
    yield Row(
        group="burst",
        what="memory of Redis",
        here=f"{used / 1e6:.0f} MB; {used / plan.threads:,.0f} bytes a thread",
    )


def _handed_over(handed: burst.HandedOver) -> Iterator[Row]:
    yield Row(
        group="burst", what="all handed to RQ's queue by the leader, and not taken", here=f"{handed.took_s:.1f} s",
        beside=f"CPU of Redis {handed.redis_cpu_s:.1f} s",
    )  # fmt: skip
    scans = handed.scans_s
    yield Row(
        group="burst",
        what="  one look, at most 100 threads",
        here=f"p50 {statistics.median(scans) * 1000:.1f}, max {max(scans) * 1000:.1f} ms",
    )
    yield Row(
        group="burst", what="  while they wait: CPU of Redis, of the leader",
        here=f"{handed.redis_share:.0%}, {handed.leader_share:.0%}", beside=f"wake-ups in the queue {handed.waiting:,}",
    )  # fmt: skip


def _begun(begun: burst.Begun) -> Iterator[Row]:
    batches = begun.batches
    yield Row(
        group="burst", what="worked off by one process, the queue deep", here=f"{batches / begun.took_s:,.0f} batches/s",
        beside=f"room for {burst.ROOM}; over {batches:,} batches",
    )  # fmt: skip
    yield Row(
        group="burst", what="  a batch: CPU of the worker, of Redis",
        here=f"{begun.cpu_s / batches * 1000:.1f} ms, {begun.redis_cpu_s / batches * 1000:.2f} ms",
    )  # fmt: skip
    yield Row(
        group="burst",
        what="  a batch: bytes to Redis, from Redis",
        here=f"{begun.bytes_in / batches:,.0f}, {begun.bytes_out / batches:,.0f}",
    )
    yield Row(
        group="burst", what="  open files of the worker; connections of Redis", here=f"{begun.files}; {begun.connections}",
        beside="two queues, two producers",
    )  # fmt: skip
    waits = begun.lone_s
    yield Row(
        group="burst", what="  meanwhile, in another queue of the process: window's end to reply",
        here=f"p50 {statistics.median(waits) * 1000:.0f}, max {max(waits) * 1000:.0f} ms",
    )  # fmt: skip


def _working_off(
    bench: Bench, queue: AssistantMessageQueue, options: dict[str, Any], threads: int
) -> Iterator[Row]:
    with bench.worker(
        "asyncio", {**options, "queue_prefix": PREFIX}, concurrency=burst.ROOM
    ) as process:
        wait_until(lambda: completed(bench) >= threads // 2, "half is done", 60 + threads / 20)
        alone = queue.add_message_to_thread("conv_alone00000000000000000", "hello")
        left = threads - completed(bench)
        added = time.perf_counter()
        wait_until(
            lambda: _is_done(queue, alone.message_id),
            "the lone thread is answered",
            60 + threads / 20,
        )
        late = time.perf_counter() - added - queue.config.message_delay
        behind = threads + 1 - completed(bench)
        peak = peak_bytes(process)
    yield Row(
        group="burst", what=f"half of {threads:,} are done, one more is added: answered after its window's end by",
        here=f"{late:.0f} s",
        beside=f"{left:,} were due before it; {behind:,} of them are left then",
    )  # fmt: skip
    yield Row(group="burst", what="  peak memory of the worker", here=f"{peak / 1e6:.0f} MB")


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
    parser.add_argument("--quick", action="store_true", help="tiny numbers: measures nothing")
    told = parser.parse_args(arguments)
    plan = burst.QUICK if told.quick else Plan(threads=told.threads)
    worked = min(told.worked, plan.threads)
    with Bench(QUICK) as bench:
        sys.stdout.write(render(list(rows(bench, plan, worked))) + "\n")


if __name__ == "__main__":
    main()
