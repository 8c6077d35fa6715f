"""Rows about the way to the platform: from the run's end to the first part, and beside a platform that is dead."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Sequence

from assistant_queue.testing.channels import PlatformAnswer, PlatformRequest, WebhookReceiver
from tests.benchmarks.bench import Bench
from tests.benchmarks.measuring import quantile
from tests.benchmarks.table import Row

GROUP = "delivering"
PART_MS = 5
MOST_RATIO = 1.1
APP = "tests.benchmarks.delivering_app:queue"
_PATIENCE_S = 120.0


class TimedReceiver(WebhookReceiver):
    """Notes when each batch's reply arrived."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def handle(self, request: PlatformRequest) -> PlatformAnswer:
        """Note the time, and keep the event."""
        self.at.setdefault(request.body["data"]["run_id"], time.time())
        return super().handle(request)


class DeadReceiver(TimedReceiver):
    """Takes requests and never answers."""

    async def answer(self, request: PlatformRequest) -> PlatformAnswer:
        """Wait for ever."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    with TimedReceiver() as receiver:
        waits = _one_by_one(bench, receiver)
    median = quantile(waits, 0.5) * 1000
    yield Row(
        group=GROUP,
        what=f"run's end to part 1 at the platform, asyncio worker ({len(waits)} replies)",
        here=f"p50 {median:.1f}, p99 {quantile(waits, 0.99) * 1000:.1f} ms",
        target=f"p50 <= {PART_MS} ms",
        met=median <= PART_MS,
    )
    rounds = [
        _crowd(bench, is_dead) for _ in range(bench.sizes.rounds_of_chats) for is_dead in (0, 1)
    ]
    well = rounds[::2]
    beside_dead = rounds[1::2]
    ratio = statistics.median(beside_dead) / statistics.median(well)
    yield Row(
        group=GROUP,
        what=f"{bench.sizes.chats // 2} replies, as many chats on a platform that never answers",
        here=_seconds(beside_dead),
        beside=f"both platforms well {_seconds(well)}",
        ratio=ratio,
        target=f"<= {MOST_RATIO} x",
        met=ratio <= MOST_RATIO,
    )


def _seconds(values: Sequence[float]) -> str:
    return f"median {statistics.median(values):.2f} s of {len(values)}"


def _options(
    bench: Bench, receivers: Sequence[tuple[str, WebhookReceiver]], **more: object
) -> dict[str, object]:
    webhooks = [[name, receiver.url, receiver.secret] for name, receiver in receivers]
    return {**bench.options(**more), "webhooks": webhooks}


def _one_by_one(bench: Bench, receiver: TimedReceiver) -> list[float]:
    options = _options(bench, [("well", receiver)])
    with bench.queue() as queue, bench.worker("asyncio", options, app=APP):
        waits = []
        for _ in range(bench.sizes.asyncio_samples // 2 + 1):
            before = len(receiver.at)
            queue.add_message_to_thread("well:1", "hello")
            receiver.wait_for(lambda before=before: len(receiver.at) > before, _PATIENCE_S)
            run = bench.provider.runs[-1]
            assert run.ended_at is not None
            waits.append(receiver.at[run.id] - run.ended_at)
        return waits[1:] or waits


def _crowd(bench: Bench, is_dead: int) -> float:
    """Return the seconds from the first add to the last reply on the platform that is well."""
    each = bench.sizes.chats // 2
    other = DeadReceiver() if is_dead else TimedReceiver()
    with TimedReceiver() as receiver, other:
        options = _options(bench, [("well", receiver), ("other", other)], message_delay=0.0)
        with (
            bench.queue(message_delay=0.0) as queue,
            bench.worker("asyncio", options, concurrency=50, app=APP),
        ):
            queue.ask("warm", "hello", timeout=_PATIENCE_S)
            start = time.perf_counter()
            queue.add_messages(
                [
                    {"thread_id": f"{name}:{number}", "message": "hello"}
                    for number in range(each)
                    for name in ("other", "well")
                ]
            )
            receiver.wait_for(lambda: len(receiver.at) == each, _PATIENCE_S)
            taken = time.perf_counter() - start
            other.stop()  # or the worker would wait for it
            return taken
