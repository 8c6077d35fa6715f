"""Sizes of the measurements: enough for medians that hold still, or just enough to see every row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of one run.

    Attributes:
        rounds: Interleaved rounds of each timed comparison.
        calls: Calls per round and side.
        deep: Messages queued in the "deep" queue.
        deep_thread: Messages waiting in the one deep thread.
        memory: Messages of each memory row; threads of the idle row.
        batches: Batches of each counting row.
        asyncio_samples: Batches of the asyncio worker's latency rows.
        forking_samples: Batches of the forking worker's latency rows, and of RQ's own.
        abreast: Batches in flight at once under the asyncio worker.
        bulk: Messages of one `add_messages`, and of the adds in flight together.
        starts: Processes started, each way.
        throughput: Batches of the throughput rows, in each round.
        throughput_rounds: Their rounds.
        held: Runs held at once; four times as many in the long row.
        held_s: How long each; six times as long in the long row.
        window_s: The window of the latency and counting rows.
        leases: Leases held at once by the rows that count their renewals.
        listeners: Event streams that are open at once.
        events: Events that all of them receive, a hundred a second.
        hanging_s: How long a user function may take, where it never returns.
        hostile_calls: Requests of other clients, fifty a second, idle and under each flood.
        hostile_rounds: Their rounds.
        hostile_idle: Streams that are open and idle meanwhile.
        chats: Chats on two platforms, of which one may be dead.
        rounds_of_chats: Their rounds.
        in_the_air: Runs in the background at once.
    """

    rounds: int
    calls: int
    deep: int
    deep_thread: int
    memory: int
    batches: int
    asyncio_samples: int
    forking_samples: int
    abreast: int
    bulk: int
    starts: int
    throughput: int
    throughput_rounds: int
    held: int
    held_s: float
    window_s: float
    leases: int
    listeners: int
    events: int
    hanging_s: float
    hostile_calls: int
    hostile_rounds: int
    hostile_idle: int
    chats: int
    rounds_of_chats: int
    in_the_air: int


FULL = Sizes(
    rounds=25, calls=120, deep=100_000, deep_thread=10_000, memory=10_000, batches=10,
    asyncio_samples=200, forking_samples=25, abreast=4, bulk=20_000, starts=9, throughput=300,
    throughput_rounds=3, held=1000, held_s=10.0, window_s=0.3, leases=400, listeners=1000, events=3000, hanging_s=5.0,
    hostile_calls=200, hostile_rounds=2, hostile_idle=9000, chats=1000, rounds_of_chats=5,
    in_the_air=100_000,
)  # fmt: skip
QUICK = Sizes(
    rounds=2, calls=5, deep=200, deep_thread=50, memory=50, batches=1,
    asyncio_samples=2, forking_samples=1, abreast=2, bulk=60, starts=1, throughput=12,
    throughput_rounds=1, held=10, held_s=0.2, window_s=0.1, leases=10, listeners=10, events=20, hanging_s=0.5,
    hostile_calls=3, hostile_rounds=1, hostile_idle=20, chats=8, rounds_of_chats=1,
    in_the_air=20,
)  # fmt: skip
