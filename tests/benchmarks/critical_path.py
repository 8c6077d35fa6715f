"""The way from a window's end to the request: round trips and waits, by Redis' clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence

from assistant_queue import AssistantMessageQueue
from tests.benchmarks.bench import PREFIX, TEXT, Bench, LeanProvider
from tests.benchmarks.measuring import quantile
from tests.benchmarks.monitoring import Monitor, Seen, script_texts
from tests.benchmarks.redis_profile import answered

WARM = 3


def lines(bench: Bench, provider: LeanProvider, batches: int, protocol: str) -> Iterator[str]:
    """Yield the medians of `batches` batches, one at a time, as a list."""
    options = {**provider.options(protocol), "message_delay": bench.sizes.window_s}
    client = bench.client
    with bench.queue(**options) as queue:
        client.script_flush()
        first = Monitor(bench.redis_port)
        with bench.worker("asyncio", bench.options(**options), concurrency=50):
            for number in range(1, WARM + 1):
                _one(bench, queue, number)
            scripts = script_texts(first.stop())
            provider.reset()
            steps: dict[tuple[int, str], list[float]] = defaultdict(list)
            for number in range(WARM + 1, WARM + batches + 1):
                monitor = Monitor(bench.redis_port)
                due = _one(bench, queue, number)
                started = next(iter(provider.stats()["started"].values()))
                provider.reset()
                path = _path(monitor.stop(), scripts, due, started)
                for place, (name, at) in enumerate(path):
                    steps[place, name].append((at - due) * 1000)
    yield f"From the window's end to the request, {protocol}; ms, medians of {batches}:"
    before = 0.0
    for (_, name), times in sorted(steps.items()):
        if len(times) > batches / 2:
            at = quantile(times, 0.5)
            yield f"- {at:.2f} (+{at - before:.2f}) {name}"
            before = at


def _one(bench: Bench, queue: AssistantMessageQueue, number: int) -> float:
    receipt = queue.add_message_to_thread("customer", TEXT)
    answered(bench, number)
    while bench.client.exists(f"{PREFIX}:thread:customer"):
        time.sleep(0.01)
    return receipt.due_at.timestamp()


def _path(
    seen: Sequence[Seen], scripts: dict[str, tuple[str, str]], due: float, started: float
) -> Iterator[tuple[str, float]]:
    """Yield what Redis saw between the end of the window and the request, and the request."""
    for one in seen:
        if due <= one.at <= started:
            name = one.name.lower()
            if name == "evalsha":
                name = scripts.get(one.words[1].decode(), ("another script", ""))[0]
            if name in ("hget", "exists", "info") and one.words[1].startswith(PREFIX.encode()):
                continue  # the benchmark's own look
            yield f"Redis receives {name}", one.at
    yield "the provider has the request", started
