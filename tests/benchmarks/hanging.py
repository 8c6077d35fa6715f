"""Rows about user code that does not return: what five such calls of each kind leave of two small workers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import psutil

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, Turn
from tests.benchmarks.bench import PREFIX, Bench, wait_until
from tests.benchmarks.measuring import quantile
from tests.benchmarks.table import Row
from tests.benchmarks.throughput import cpu_s

GROUP = "hanging"
HUNG = 5
CONCURRENCY = 5
TOOLS = {
    "tool": "hangs",
    "async tool": "hangs_on_the_loop",
    "handle_requires_action": "by_hand",
    "cancels": "cancels",
}
KINDS = (
    "on_reply",
    "tool",
    "async tool",
    "handle_requires_action",
    "default_instructions",
    "fallback_reply",
)
MOST = 2.0
BY_HAND = {
    "type": "function",
    "name": "by_hand",
    "parameters": {"type": "object", "properties": {}},
}


def model(turn: Turn) -> Any:
    """Have the thread's own kind of function called."""
    kind = turn.user_texts[0].partition(":")[0]
    if kind == "fallback_reply":
        return RunFailure()
    if kind in TOOLS and turn.round == 0:
        return ToolCalls([(TOOLS[kind], {})])
    return Reply("done")


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    samples = bench.sizes.asyncio_samples
    limits = {"callback_timeout": bench.sizes.hanging_s, "run_timeout": 4 * bench.sizes.hanging_s}
    options = bench.options(message_delay=0, max_attempts=1, tools=[BY_HAND], **limits)
    bench.client.flushall()
    bench.provider.model = model
    with ExitStack() as stack:
        queue = stack.enter_context(
            AssistantMessageQueue(**options, handle_requires_action=lambda *_: [])
        )
        worker = {"app": "tests.benchmarks.hanging_app:queue", "concurrency": CONCURRENCY}
        processes = [
            stack.enter_context(
                bench.worker("asyncio", {**options, "queue_prefix": PREFIX}, **worker)
            )
            for _ in range(2)
        ]
        queue.ask("healthy", "hello", timeout=60)
        idle = _asks(queue, samples, "idle")
        quiet = _load(processes, bench.sizes.hanging_s)
        yield from _cancelling(bench, queue, processes, quiet)
        for kind in KINDS:
            queue.add_messages(
                {"thread_id": f"{kind} {number}", "message": f"{kind}: hello"}
                for number in range(HUNG)
            )
            wait_until(
                lambda kind=kind: int(bench.client.get(f"hanging:{kind}") or 0) >= HUNG,
                f"{kind} hangs",
                60,
            )
            yield _row(
                f"an answer while {HUNG} calls of {kind} hang", _asks(queue, samples, kind), idle
            )
            wait_until(
                lambda: _is_free(bench),
                "the workers have given all threads back",
                60 + 5 * bench.sizes.hanging_s,
            )
        yield _row(
            f"an answer after the limits of all {HUNG * len(KINDS)}",
            _asks(queue, samples, "after"),
            idle,
        )


def _is_free(bench: Bench) -> bool:
    """Whether no worker is at a thread."""
    time.sleep(0.05)
    return not any(
        bench.client.hexists(key, "token") for key in bench.client.keys(f"{PREFIX}:thread:*")
    )


def _asks(queue: AssistantMessageQueue, samples: int, name: str) -> list[float]:
    """Ask in a separate conversation: the stand-in takes longer over a long one."""
    taken = []
    for _ in range(samples):
        began = time.perf_counter()
        queue.ask(f"healthy, {name}", "hello", timeout=60)
        taken.append(time.perf_counter() - began)
    return taken


def _row(what: str, taken: list[float], idle: list[float]) -> Row:
    ratio = quantile(taken, 0.5) / quantile(idle, 0.5)
    here, beside = (
        f"p50 {quantile(one, 0.5) * 1000:.1f}, p99 {quantile(one, 0.99) * 1000:.1f} ms"
        for one in (taken, idle)
    )
    return Row(
        group=GROUP,
        what=what,
        here=here,
        beside=f"idle {beside}",
        ratio=ratio,
        target=f"<= {MOST:g}",
        met=ratio <= MOST,
    )


def _cancelling(
    bench: Bench, queue: AssistantMessageQueue, processes: list[psutil.Process], quiet: float
) -> Iterator[Row]:
    queue.ask("cancels 1", "cancels: hello", timeout=60)
    load = _load(processes, bench.sizes.hanging_s)
    calls = int(bench.client.get("hanging:cancels") or 0)
    yield Row(
        group=GROUP,
        what="a tool that raises CancelledError: calls of it, then the workers' CPU",
        here=f"{calls}; {load:.1%} of a core",
        beside=f"idle {quiet:.1%}",
        target="1; idle",
        met=calls == 1 and load <= quiet + 0.02,
    )


def _load(processes: list[psutil.Process], seconds: float) -> float:
    before = sum(cpu_s(process) for process in processes)
    time.sleep(seconds)
    return (sum(cpu_s(process) for process in processes) - before) / seconds
