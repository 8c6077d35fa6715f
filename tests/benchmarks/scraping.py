"""Rows about metrics: what a scrape takes when very much is queued, beside the same with ten messages queued."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

from assistant_queue import AssistantMessageQueue
from assistant_queue.store.calls import Namespace
from tests.benchmarks.bench import Bench
from tests.benchmarks.depth import PER_THREAD, SHALLOW, Filled
from tests.benchmarks.measuring import compare
from tests.benchmarks.table import Row
from tests.benchmarks.web import served

GROUP = "scraping"
LONG_GROUP = "scraping long"
TARGET_MS = 20.0
BATCHES = 20
"""Batches that are finished before: the durations, counts and tokens are there."""


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    return _rows(bench, GROUP, bench.sizes.deep)


def long_rows(bench: Bench) -> Iterator[Row]:
    """The same, ten times as deep."""
    return _rows(bench, LONG_GROUP, 10 * bench.sizes.deep)


def _rows(bench: Bench, group: str, messages: int) -> Iterator[Row]:
    with bench.queue() as queue, ExitStack() as stack:
        prefixes = [bench.fresh_prefix() for _ in range(2)]
        for prefix, count in zip(prefixes, (SHALLOW, messages), strict=True):
            made = Filled(queue.core.store, Namespace(prefix, queue.core.clock), count)
            made.fill_thread("one thread", 10 * BATCHES)
            made.batch_us("one thread", BATCHES)
        pages = [
            _page(stack, stack.enter_context(served(bench, queue_prefix=prefix))[0])
            for prefix in prefixes
        ]
        queues = [
            stack.enter_context(AssistantMessageQueue(**bench.options(queue_prefix=prefix)))
            for prefix in prefixes
        ]
        queued = f"{messages:,} messages of {messages // PER_THREAD:,} threads queued"
        yield _row(bench, group, f"GET /metrics of serve, {queued}", *pages)
        yield _row(
            bench, group, f"get_metrics(), {queued}", *(partial(one.get_metrics) for one in queues)
        )


def _page(stack: ExitStack, port: int) -> Callable[[], object]:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    stack.callback(connection.close)

    def call() -> None:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 200
        assert b"\nassistant_queue_messages_total" in text, text

    return call


def _row(
    bench: Bench,
    group: str,
    what: str,
    shallow: Callable[[], object],
    deep: Callable[[], object],
) -> Row:
    sizes = bench.sizes
    (found,) = compare(shallow, [deep], rounds=sizes.rounds, calls=max(2, sizes.calls // 4))
    took_ms = found.subject_us / 1000
    return Row(
        group=group, what=what, here=f"{took_ms:.2f} ms",
        beside=f"with {SHALLOW}: {found.baseline_us / 1000:.2f} ms", ratio=found.ratio, spread=found.spread,
        target=f"<= {TARGET_MS:g} ms", met=took_ms <= TARGET_MS,
    )  # fmt: skip
