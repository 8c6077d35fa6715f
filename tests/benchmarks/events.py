"""Rows about events: what an add pays for them, what telling a streamed reply costs, and how soon a listener has a piece."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator

from assistant_queue import AssistantMessageQueue, Batch, FunctionBackend
from assistant_queue.events import TextDelta
from assistant_queue.worker.runtime import Runtime
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.measuring import compare, quantile, speaking
from tests.benchmarks.table import Row

GROUP = "events"
DELTAS = 20
FAST_S = 0.0
USUAL_S = 0.025
CPU_TARGET_MS = 1.0
HEARD_TARGET_MS = 15.0


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    yield from _adding(bench)
    for gap_s in (FAST_S, USUAL_S):
        yield _telling(bench, gap_s)
    yield _hearing(bench)


def _adding(bench: Bench) -> Iterator[Row]:
    with (
        bench.queue(message_delay=3600, events="off") as off,
        AssistantMessageQueue(**bench.options(message_delay=3600)) as listened,
    ):
        listened.open_events("heard")
        subjects = [_add(listened, "customer-4711"), _add(listened, "heard")]
        unheard, heard = compare(
            _add(off, "customer-4712"), subjects, rounds=bench.sizes.rounds, calls=bench.sizes.calls
        )
    for what, found in (
        ("add where nobody listens", unheard),
        ("add to a thread that is listened to", heard),
    ):
        yield Row(
            group=GROUP, what=what, here=f"{found.subject_us:.0f} us", beside=f'with events="off" {found.baseline_us:.0f} us',
            ratio=found.ratio, spread=found.spread,
        )  # fmt: skip


def _add(queue: AssistantMessageQueue, thread_id: str) -> Callable[[], object]:
    return lambda: queue.add_message_to_thread(thread_id, TEXT)


def _telling(bench: Bench, gap_s: float) -> Row:
    """CPU of the worker's process for each streamed reply: its threads listened to, and not, in turns."""

    async def speak(_: Batch) -> AsyncIterator[str]:
        for number in range(DELTAS):
            if gap_s:
                await asyncio.sleep(gap_s)
            yield f"word {number} "

    heard = []
    unheard = []
    with bench.queue(message_delay=0.0, backend=FunctionBackend(speak), model=None) as queue:
        rounds = max(2, bench.sizes.rounds // 3)
        for number in range(2 * rounds + 2):
            is_heard = number % 2 == 1
            threads = [f"{number}-{one}" for one in range(bench.sizes.calls // 2)]
            for thread in threads:
                if is_heard:
                    queue.open_events(thread)
                queue.add_message_to_thread(thread, TEXT)
            spent_ms = _spent_ms(queue, threads)
            if number >= 2:  # the first two warm up
                (heard if is_heard else unheard).append(spent_ms)
        told = [
            bench.client.xlen(queue._commands.namespace.keys.events(thread)) for thread in threads
        ]
        pieces = (
            sum(told) / len(told) - 5
        )  # the stream's first entry, queued, claimed, started, ready
    more = quantile([one - other for one, other in zip(heard, unheard, strict=True)], 0.5)
    how = "at once" if not gap_s else f"{gap_s * 1000:g} ms apart"
    return Row(
        group=GROUP, what=f"telling a reply of {DELTAS} deltas {how} ({pieces:.1f} pieces): more CPU of the worker",
        here=f"{more:.2f} ms", beside=f"the same run unheard {quantile(unheard, 0.5):.2f} ms",
        ratio=quantile(heard, 0.5) / quantile(unheard, 0.5),
        target=f"<= {CPU_TARGET_MS:g} ms", met=more <= CPU_TARGET_MS,
    )  # fmt: skip


def _spent_ms(queue: AssistantMessageQueue, threads: list[str]) -> float:
    """The process' CPU for answering one batch of each of these threads, abreast."""

    async def work() -> float:
        runtime = Runtime(queue.config)
        try:
            before = time.process_time()
            await asyncio.gather(*(runtime.handle(thread) for thread in threads))
            return time.process_time() - before
        finally:
            await runtime.close()

    return asyncio.run(work()) * 1000 / len(threads)


def _hearing(bench: Bench) -> Row:
    """From a piece that the model says to the listener that has it, in one process."""
    said: dict[str, float] = {}
    took: list[float] = []

    with bench.queue(
        message_delay=0.0, backend=FunctionBackend(speaking(said)), model=None
    ) as queue:
        worker = queue.start_worker()
        for number in range(bench.sizes.asyncio_samples):
            thread = f"t{number}"
            listening = queue.events(thread, timeout=10)
            adding = threading.Thread(target=queue.add_message_to_thread, args=(thread, TEXT))
            adding.start()
            for event in listening:
                if isinstance(event, TextDelta):
                    took.append((time.perf_counter() - said[thread]) * 1000)
                    break
            adding.join()
            listening.close()
        worker.stop()
    middle = quantile(took, 0.5)
    return Row(
        group=GROUP, what="first piece: from the model to the listener, p50", here=f"{middle:.1f} ms",
        beside=f"p95 {quantile(took, 0.95):.1f} ms", target=f"<= {HEARD_TARGET_MS:g} ms", met=middle <= HEARD_TARGET_MS,
    )  # fmt: skip
