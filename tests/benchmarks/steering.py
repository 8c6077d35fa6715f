"""Rows about a running answer that is stopped or interrupted: how soon the provider hears of it."""

from __future__ import annotations

import queue as queues
import time
from collections.abc import Callable, Iterator
from typing import Any

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing.provider import Never, Reply, Turn
from assistant_queue.testing.provider.actions import delay
from tests.benchmarks.bench import PREFIX, Bench, wait_until
from tests.benchmarks.measuring import quantile
from tests.benchmarks.table import Row

GROUP = "steering"
WAIT_S = 60.0
STOP_MS = 50.0
INTERRUPT_MS = 60.0
OPS = {
    "responses": ("responses.cancel", "responses.create"),
    "assistants": ("runs.cancel", "runs.create"),
}


def model(turn: Turn) -> Any:
    """Never end an answer to `wait`."""
    return Never() if turn.user_texts[-1] == "wait" else Reply("done")


class Noted:
    """The times at which requests of an operation arrived, by the clock of this process."""

    def __init__(self, bench: Bench, op: str) -> None:
        """Note them from now on."""
        self._times: queues.Queue[float] = queues.Queue()
        bench.provider.fault(op, delay(before=0), times=None, when=self._note)

    def _note(self, _: Any) -> bool:
        self._times.put(time.monotonic())
        return False

    def ms_after(self, act: Callable[[], object]) -> float:
        """Return the ms from an act to the next request."""
        while not self._times.empty():
            self._times.get()
        began = time.monotonic()
        act()
        return (self._times.get(timeout=WAIT_S) - began) * 1000


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    bench.provider.model = model
    protocols: dict[str, dict[str, Any]] = {
        "responses": {},
        "assistants": {"assistant_id": bench.provider.assistant_id},
    }
    for protocol, chosen in protocols.items():
        bench.client.flushall()
        options = bench.options(**chosen, message_delay=0)
        cancels, creates = (Noted(bench, op) for op in OPS[protocol])
        worker = {**options, "queue_prefix": PREFIX}
        with AssistantMessageQueue(**options) as queue, bench.worker("asyncio", worker):
            samples = range(bench.sizes.asyncio_samples)
            stops = [_stop(queue, cancels, f"stop {number}") for number in samples]
            merged = [_interrupt(queue, creates, f"merge {number}") for number in samples]
        yield _row(f"stop -> cancel at the provider, {protocol}", stops, STOP_MS)
        yield _row(f"interrupting add -> merged run's request, {protocol}", merged, INTERRUPT_MS)
    bench.provider.clear_faults()


def _running(queue: AssistantMessageQueue, thread: str) -> None:
    queue.add_message_to_thread(thread, "wait")
    wait_until(lambda: queue.get_thread_status(thread).run_id, "its run is known")


def _stop(queue: AssistantMessageQueue, noted: Noted, thread: str) -> float:
    _running(queue, thread)
    took = noted.ms_after(lambda: queue.stop(thread))
    wait_until(lambda: queue.get_thread_status(thread).state == "idle", "it is stopped")
    return took


def _interrupt(queue: AssistantMessageQueue, noted: Noted, thread: str) -> float:
    _running(queue, thread)
    took = noted.ms_after(lambda: queue.add_message_to_thread(thread, "now", mid_run="interrupt"))
    wait_until(lambda: queue.get_thread_status(thread).state == "idle", "it is answered")
    return took


def _row(what: str, taken_ms: list[float], most_ms: float) -> Row:
    p50, p99 = quantile(taken_ms, 0.5), quantile(taken_ms, 0.99)
    return Row(
        group=GROUP,
        what=what,
        here=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        target=f"p50 <= {most_ms:g} ms",
        met=p50 <= most_ms,
    )
