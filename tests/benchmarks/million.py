"""The arithmetic of a million conversations, from what one batch and one add cost."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

PEOPLE = 1_000_000
PAUSE_S = 60
"""Seconds between two bursts of a person."""
BURST = 3
"""Messages of a burst: one batch."""
WINDOW_S = 10
RUN_S = 10
USED = 0.5
"""Part of each core that is used."""
RUN_BYTES = 57_000
PROCESS_BYTES = 79_000_000
"""Memory of an active run, and of an idle process. Source: `python -m tests.benchmarks holding`."""
IDLE_BYTES = 275
ANSWERED_BYTES = 1159
"""Memory of Redis for an idle thread, and for an answered message. Source: `python -m
tests.benchmarks memory`."""
CONNECTIONS = 8
"""Connections to Redis of a worker process with one queue. Source: `python -m
tests.benchmarks.fairness`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """CPU, traffic and memory, as measured.

    Attributes:
        worker_ms: CPU of a worker for a batch.
        redis_ms: CPU of Redis for a batch: its hand-over, and from its claim to its end.
        first_add_ms: CPU of Redis for an add that opens a window.
        next_add_ms: CPU of Redis for an add into an open window.
        batch_bytes: To and from Redis for a batch.
        add_bytes: To and from Redis for an add.
        waiting_bytes: Memory of Redis for a thread that waits, with one message.
    """

    worker_ms: float
    redis_ms: float
    first_add_ms: float
    next_add_ms: float
    batch_bytes: float
    add_bytes: float
    waiting_bytes: float

    @property
    def adds_ms(self) -> float:
        """CPU of Redis for the adds of a burst."""
        return self.first_add_ms + (BURST - 1) * self.next_add_ms

    def rows(self) -> Iterator[tuple[str, str]]:
        """Yield what adds cost, each with its name."""
        whole = self.redis_ms + self.adds_ms
        yield "CPU of Redis for an add that opens a window", f"{self.first_add_ms:.3f} ms"
        yield "CPU of Redis for an add into an open window", f"{self.next_add_ms:.3f} ms"
        yield "bytes to and from Redis per add", f"{self.add_bytes:,.0f}"
        yield f"CPU of Redis for a batch of {BURST}, adds and hand-over included", f"{whole:.3f} ms"
        yield f"batches of {BURST} per second per Redis core", f"{1000 / whole:,.0f}"


def needs(costs: Costs, people: int = PEOPLE) -> Iterator[tuple[str, str, str]]:
    """Yield what so many conversations need: a name, the arithmetic, and its result."""
    batches = people / PAUSE_S
    messages = batches * BURST
    runs = batches * RUN_S
    each = f"{_short(batches)} x "
    worker_cores = batches * costs.worker_ms / 1000
    processes = math.ceil(worker_cores / USED)
    batch_cores = batches * costs.redis_ms / 1000
    add_cores = batches * costs.adds_ms / 1000
    primaries = math.ceil((batch_cores + add_cores) / USED)
    network = batches * costs.batch_bytes + messages * costs.add_bytes
    memory = runs * RUN_BYTES + processes * PROCESS_BYTES
    waiting = batches * (WINDOW_S + RUN_S)
    yield "messages", f"{people:,} x {BURST} / {PAUSE_S} s", f"{_short(messages)} a second"
    yield "batches (runs)", f"{people:,} / {PAUSE_S} s", f"{_short(batches)} a second"
    yield "active runs", f"{each}{RUN_S} s", _short(runs)
    yield (
        "CPU of workers",
        f"{each}{costs.worker_ms:.2f} ms = {worker_cores:.0f} cores",
        f"{processes} cores, a process each",
    )
    yield (
        "memory of workers",
        f"{_short(runs)} x {RUN_BYTES // 1000} kB + {processes} x {PROCESS_BYTES // 10**6} MB",
        f"{memory / 1e9:.0f} GB",
    )
    yield "sockets to the provider", "one a run", f"{_short(runs / processes)} a process"
    batch_cpu = f"{each}{costs.redis_ms:.3f} ms = {batch_cores:.1f} cores"
    yield "CPU of Redis, batches and hand-over", batch_cpu, ""
    an_add = f"({costs.first_add_ms:.3f} + {BURST - 1} x {costs.next_add_ms:.3f} ms)"
    yield (
        "CPU of Redis, adds",
        f"{each}{an_add} = {add_cores:.1f} cores",
        f"with the batches: {primaries} primaries",
    )
    of_adds = f"{_short(messages)} x {costs.add_bytes / 1000:.1f} kB"
    yield (
        "network of Redis",
        f"{each}{costs.batch_bytes / 1000:.1f} kB + {of_adds} = {network / 1e6:.0f} MB/s",
        f"{network / 1e6 / primaries:.0f} MB/s a primary",
    )
    yield (
        "connections of Redis",
        f"{processes} processes x {CONNECTIONS}, and the producers",
        f"{math.ceil(processes * CONNECTIONS / primaries)} a primary, and producers",
    )
    yield (
        "memory of Redis, active threads",
        f"{_short(waiting)} (window and run) x {costs.waiting_bytes / 1000:.1f} kB",
        f"{waiting * costs.waiting_bytes / 1e9:.1f} GB",
    )
    idle = f"{people * IDLE_BYTES / 1e9:.1f} GB"
    yield "memory of Redis, idle threads", f"{people:,} x {IDLE_BYTES} bytes", idle
    yield (
        "memory of Redis, answered messages",
        f"{_short(messages)} x {ANSWERED_BYTES:,} bytes per second",
        f"{messages * ANSWERED_BYTES / 1e6:.0f} MB a second",
    )
    yield "the provider", f"{people:,} requests a minute", "an agreement with the provider"


def _short(number: float) -> str:
    """Return a number with three digits that count."""
    digits = 3 - len(str(int(number)))
    return f"{round(number, min(digits, 0)):,.0f}"
