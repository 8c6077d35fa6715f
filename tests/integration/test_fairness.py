"""A burst of threads: the oldest due are answered first, and other queues are not starved."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Namespace
from tests.benchmarks.bench import Bench as Benchmark
from tests.benchmarks.bench import LeanProvider
from tests.benchmarks.sizes import QUICK
from tests.conftest import PATIENCE_S
from tests.integration.conftest import wait_until
from tests.integration.test_concurrent_worker import Bench, bench

__all__ = ["bench"]  # the fixture

BURST = 600
CONCURRENCY = 4
QUIET = ("--log-level", "warning")
"""A line for each batch would fill the pipe that is read at the end."""


@pytest.fixture
def lean() -> Iterator[LeanProvider]:
    """A cheap provider that records the time of each conversation's request."""
    with Benchmark(QUICK).lean_provider() as provider:
        yield provider


def conversations(kind: str, count: int) -> list[str]:
    return [f"conv_{kind}{number:020d}" for number in range(count)]


def add(bench: Bench, lean: LeanProvider, threads: list[str], **options: object) -> None:
    with bench.queue(**lean.options(), message_delay=0.3, **options) as queue:
        queue.add_messages({"thread_id": thread, "message": "hello"} for thread in threads)


def wait_until_all_are_due(bench: Bench, prefix: str) -> None:
    due = Namespace(prefix, SystemClock()).keys.due

    def is_over() -> bool:
        seconds, micros = bench.client.time()
        return bench.client.zcount(due, f"({seconds * 1000 + micros // 1000}", "+inf") == 0

    wait_until(is_over, "all windows are over")


def ranks(lean: LeanProvider) -> dict[str, int]:
    started = lean.stats()["started"]
    return {thread: rank for rank, thread in enumerate(sorted(started, key=started.__getitem__))}


def test_of_a_burst_of_threads_the_oldest_are_answered_first(
    bench: Bench, lean: LeanProvider
) -> None:
    """Each is at its place, except for those that run at once."""
    threads = conversations("a", 20) + conversations("b", BURST) + conversations("c", 20)
    for part in (threads[:20], threads[20:-20], threads[-20:]):
        add(bench, lean, part)
    wait_until_all_are_due(bench, bench.prefix)
    worker = bench.start("--concurrency", str(CONCURRENCY), *QUIET, **lean.options())
    wait_until(lambda: lean.stats()["runs"] >= len(threads), "all are answered", 90)
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    place = ranks(lean)
    assert (
        max(abs(place[thread] - number) for number, thread in enumerate(threads)) <= 2 * CONCURRENCY
    )
    assert lean.stats()["runs"] == len(threads)


def test_a_burst_in_one_queue_leaves_the_others_of_the_process_their_turn(
    bench: Bench, lean: LeanProvider
) -> None:
    other = f"{bench.prefix}other"
    few = conversations("f", 20)
    add(bench, lean, conversations("b", BURST))
    add(bench, lean, few, queue_prefix=other)
    wait_until_all_are_due(bench, bench.prefix)
    wait_until_all_are_due(bench, other)
    worker = bench.start(
        "--concurrency",
        str(CONCURRENCY),
        "--prefix",
        bench.prefix,
        "--prefix",
        other,
        *QUIET,
        **lean.options(),
    )
    wait_until(lambda: set(few) <= set(lean.stats()["started"]), "the few are answered", 60)
    worker.terminate()
    assert worker.wait(PATIENCE_S) == 0
    place = ranks(lean)
    assert max(place[thread] for thread in few) <= BURST / 5
