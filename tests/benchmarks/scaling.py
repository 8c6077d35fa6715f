"""`python -m tests.benchmarks.scaling`: the tables of docs/scaling.md, from this machine.

On private Redis servers, with a provider that answers at once: some ten minutes, with --full
fifteen and 3 GB of memory. Nothing is asserted on a clock.

1. `processes`: batches of 1, 2 and 4 worker processes, on one primary and on each of three
2. `threads`: 100,000 threads that are due together, with --full 1,000,000, too
3. `million`: what an add takes of Redis, and what a million conversations need by these figures

Workers, Redis, provider and this process share the machine's cores: rates end where these are full,
CPU per batch does not. A rate per core of Redis is derived from the latter.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.benchmarks import burst
from tests.benchmarks.bench import ROOT, TEXT, Bench
from tests.benchmarks.burst import Plan
from tests.benchmarks.million import Costs, needs
from tests.benchmarks.sizes import QUICK
from tests.benchmarks.table import compact
from tests.benchmarks.throughput import Taken, customers, redis_cpu_s, work_off

SECTIONS = ("processes", "threads", "million")
PRIMARIES = (1, 3)
WEIGHTS = {"red": 1.0, "blue": 1.0, "green": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Numbers of one run.

    Attributes:
        processes: Worker processes of each primary, a row each.
        batches: Batches of a row and round, of all primaries together.
        rounds: Rounds of all rows, in turns; a row is the best of each figure.
        plans: Bursts, a column each.
        added: Threads to which messages are added one after another.
    """

    processes: tuple[int, ...]
    batches: int
    rounds: int
    plans: tuple[Plan, ...]
    added: int


SMALL = Numbers(processes=(1, 2), batches=12, rounds=1, plans=(burst.QUICK,), added=10)


@dataclass(frozen=True, slots=True)
class Seen:
    """One burst, by step."""

    plan: Plan
    added: burst.Added
    handed: burst.HandedOver
    begun: burst.Begun

    @property
    def batch_ms(self) -> float:
        """CPU of Redis for a batch, from its claim to its end."""
        return self.begun.redis_cpu_s / self.begun.batches * 1000

    @property
    def add_ms(self) -> float:
        """CPU of Redis for an add in bulk."""
        return self.added.redis_cpu_s / self.plan.threads * 1000

    @property
    def hand_over_ms(self) -> float:
        """CPU of Redis for a thread's hand-over."""
        return self.handed.redis_cpu_s / self.plan.threads * 1000

    @property
    def worker_ms(self) -> float:
        """CPU of the worker for a batch."""
        return self.begun.cpu_s / self.begun.batches * 1000

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield each figure with its name."""
        yield from self._waiting_rows()
        yield from self._batch_rows()

    def _waiting_rows(self) -> Iterator[tuple[str, str]]:
        threads = self.plan.threads
        added = self.added
        handed = self.handed
        yield "adding them in bulk", f"{threads / added.took_s:,.0f} a second"
        yield "CPU of Redis for an add in bulk", f"{self.add_ms:.3f} ms"
        size = f"{added.bytes_used / 1e6:,.0f} MB; {added.bytes_used / threads:,.0f} bytes each"
        yield "memory of Redis", size
        yield "handing all of them over, by one scheduler", f"{handed.took_s:.1f} s"
        scans = [one * 1000 for one in handed.scans_s]
        longest = f"p50 {statistics.median(scans):.1f} ms, max {max(scans):.0f} ms"
        yield "one scan, of at most 100 threads", longest
        yield "CPU of Redis for a hand-over", f"{self.hand_over_ms:.3f} ms"
        shares = f"{handed.redis_share:.1%}, {handed.leader_share:.1%} of a core"
        yield "while they wait: CPU of Redis, of the scheduler", shares

    def _batch_rows(self) -> Iterator[tuple[str, str]]:
        begun = self.begun
        yield "batches measured, of one process", f"{begun.batches:,}"
        yield "batches a second", f"{begun.batches / begun.took_s:,.0f}"
        yield "CPU of the worker per batch", f"{self.worker_ms:.2f} ms"
        yield "CPU of Redis per batch", f"{self.batch_ms:.3f} ms"
        whole = self.batch_ms + self.hand_over_ms + self.add_ms
        yield "the same with its add and its hand-over", f"{whole:.3f} ms"
        yield "batches per second per Redis core", f"{1000 / whole:,.0f}"
        traffic = f"{begun.bytes_in / begun.batches:,.0f}, {begun.bytes_out / begun.batches:,.0f}"
        yield "bytes to Redis and from Redis per batch", traffic
        waits = [one * 1000 for one in begun.lone_s]
        late = f"p50 {statistics.median(waits):.0f} ms, max {max(waits):.0f} ms"
        yield "another queue of the process, window's end to reply", late


def process_rows(numbers: Numbers) -> Iterator[tuple[str, ...]]:
    """Yield a row for each number of primaries and of worker processes."""
    owner = _recipe().owner
    with ExitStack() as stack:
        benches = [stack.enter_context(Bench(QUICK)) for _ in range(max(PRIMARIES))]
        provider = stack.enter_context(benches[0].lean_provider())
        options = {**provider.options(), "message_delay": 0}
        taken: dict[tuple[int, int], list[Taken]] = {
            (primaries, processes): [] for primaries in PRIMARIES for processes in numbers.processes
        }
        for _ in range(numbers.rounds):
            for (primaries, processes), rounds in taken.items():
                threads = _spread(owner, customers(numbers.batches), primaries)
                rounds.append(work_off(benches[:primaries], options, threads, processes))
    for (primaries, processes), rounds in taken.items():
        redis = sorted(one.redis_cpu_s / one.batches * 1000 for one in rounds)
        yield (
            str(primaries),
            str(processes),
            f"{max(one.rate for one in rounds):,.0f}",
            f"{min(one.cpu_ms for one in rounds):.2f} ms",
            f"{redis[0]:.3f} ms",
            f"{redis[0]:.3f}-{redis[-1]:.3f}",
            f"{1000 / redis[0]:,.0f}",
        )


def _recipe() -> Any:
    """Return the module of examples/many_redis.py."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        return importlib.import_module("many_redis")
    finally:
        sys.path.pop(0)


def _spread(owner: Any, threads: Sequence[str], primaries: int) -> list[list[str]]:
    weights = dict(list(WEIGHTS.items())[:primaries])
    shares: dict[str, list[str]] = {name: [] for name in weights}
    for thread_id in threads:
        shares[owner(thread_id, weights)].append(thread_id)
    return list(shares.values())


def see(plan: Plan) -> Seen:
    """Measure one burst, on its own Redis: to empty one of a million threads takes long."""
    with Bench(QUICK) as bench, bench.lean_provider() as provider:
        asked = {**provider.options(), "message_delay": plan.window_s}
        with bench.queue(**asked) as queue:
            return Seen(
                plan,
                burst.fill(queue, bench, plan.threads),
                burst.hand_over(bench.client, plan),
                burst.begin(bench, bench.options(**asked), plan),
            )


def add_costs(threads: int) -> tuple[float, float, float]:
    """Add three messages to each thread, one after another.

    Returns:
        Milliseconds of Redis' CPU for an add that opens a window, and for one into an open window;
        bytes to and from Redis for an add.
    """
    with Bench(QUICK) as bench, bench.queue(message_delay=60.0) as queue:
        spent = []
        seen = bench.client.info("stats")
        for _ in range(3):
            before = redis_cpu_s(bench.client)
            for thread_id in customers(threads):
                queue.add_message_to_thread(thread_id, TEXT)
            spent.append((redis_cpu_s(bench.client) - before) / threads * 1000)
        now = bench.client.info("stats")
    sent = sum(
        int(now[name]) - int(seen[name])
        for name in ("total_net_input_bytes", "total_net_output_bytes")
    )
    return spent[0], sum(spent[1:]) / 2, sent / threads / 3


def _costs(seen: Seen, adds: tuple[float, float, float]) -> Costs:
    begun = seen.begun
    first_ms, next_ms, add_bytes = adds
    return Costs(
        worker_ms=seen.worker_ms,
        redis_ms=seen.batch_ms + seen.hand_over_ms,
        first_add_ms=first_ms,
        next_add_ms=next_ms,
        batch_bytes=(begun.bytes_in + begun.bytes_out) / begun.batches,
        add_bytes=add_bytes,
        waiting_bytes=seen.added.bytes_used / seen.plan.threads,
    )


def tables(numbers: Numbers, sections: Sequence[str]) -> Iterator[str]:
    """Yield what is printed: the machine, then each section's table."""
    yield _machine()
    if "processes" in sections:
        head = (
            "primaries", "processes each", "batches/s", "CPU of workers", "of Redis", "its rounds",
            "per Redis core",
        )  # fmt: skip
        yield compact(head, list(process_rows(numbers)))
    if not {"threads", "million"} & set(sections):
        return
    bursts = [see(plan) for plan in numbers.plans]
    figures = [dict(one.rows()) for one in bursts]
    yield compact(
        ("figure", *(f"{one.plan.threads:,} threads" for one in bursts)),
        [(name, *(one[name] for one in figures)) for name in figures[0]],
    )
    if "million" in sections:
        costs = _costs(bursts[0], add_costs(numbers.added))
        yield compact(("figure", "measured"), list(costs.rows()))
        yield compact(("", "arithmetic", "needs"), list(needs(costs)))


def _machine() -> str:
    with Bench(QUICK) as bench:
        version = bench.client.info("server")["redis_version"]
    return (
        f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}, Redis {version}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.scaling", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="section", help=f"some of {', '.join(SECTIONS)} [all]"
    )
    parser.add_argument("--quick", action="store_true", help="tiny numbers: measures nothing")
    parser.add_argument("--full", action="store_true", help="1,000,000 threads, too")
    parser.add_argument("--batches", type=int, default=3000, help="of a row and round [3000]")
    parser.add_argument("--rounds", type=int, default=3, help="of the processes, in turns [3]")
    parser.add_argument("--threads", type=int, default=100_000, help="due together [100000]")
    told = parser.parse_args(arguments)
    if unknown := set(told.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    plans = [Plan(threads=told.threads), *([Plan(threads=1_000_000)] if told.full else [])]
    numbers = SMALL if told.quick else Numbers(
        processes=(1, 2, 4), batches=told.batches, rounds=told.rounds, plans=tuple(plans), added=2000
    )  # fmt: skip
    for table in tables(numbers, told.sections or SECTIONS):
        sys.stdout.write(f"{table}\n\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
