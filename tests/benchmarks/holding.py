"""Rows about holding: thousands of runs that wait for the provider at once, in one process, and what it takes of memory."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from assistant_queue import AssistantMessageQueue
from tests.benchmarks.bench import PREFIX, TEXT, Bench, LeanProvider, wait_until
from tests.benchmarks.table import Row
from tests.benchmarks.throughput import cpu_s

GROUP = "holding"
LONG_GROUP = "holding long"
RUNS_OF_A_CLIENT = 250
_MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """So many runs of `hold_s` seconds, started over `over_s` seconds, and the memory that is the target."""

    runs: int
    hold_s: float
    over_s: float
    target_mb: int


def rows(bench: Bench) -> Iterator[Row]:
    """A thousand runs of ten seconds at once."""
    yield from _hold(bench, GROUP, Load(bench.sizes.held, bench.sizes.held_s, 0.0, 150))


def long_rows(bench: Bench) -> Iterator[Row]:
    """Four thousand runs of a minute, started over forty seconds."""
    sizes = bench.sizes
    yield from _hold(
        bench, LONG_GROUP, Load(4 * sizes.held, 6 * sizes.held_s, 4 * sizes.held_s, 320)
    )


def _hold(bench: Bench, group: str, load: Load) -> Iterator[Row]:
    allow_files(2 * load.runs + 500)
    with bench.lean_provider(load.hold_s) as provider:
        bare = bench.bare(
            provider,
            runs=load.runs,
            abreast=load.runs,
            clients=-(-load.runs // RUNS_OF_A_CLIENT),
            over=load.over_s,
        )
        bare_most = provider.stats()["most"]
        told = bench.options(
            **provider.options(), message_delay=0, run_timeout=600, request_timeout=30
        )
        with (
            bench.queue(**provider.options(), message_delay=0) as queue,
            bench.worker("asyncio", told, concurrency=load.runs) as process,
        ):
            ours = _ours(bench, queue, provider, process, load)
    what = f"{load.runs:,} runs of {load.hold_s:g} s" + (
        f" started over {load.over_s:g} s" if load.over_s else " at once"
    )
    again = sum(
        " is retrying: " in line or " is held: " in line for line in ours["log"].splitlines()
    )
    yield Row(
        group=group, what=f"{what}: held at once, counted by the provider", here=f"{ours['most']:,}", beside=f"plain loop {bare_most:,}",
        target="all", met=ours["most"] == load.runs and ours["runs"] == load.runs,
    )  # fmt: skip
    yield Row(
        group=group, what="  peak memory of the worker", here=f"{ours['peak'] / _MB:.0f} MB",
        beside=f"plain loop {bare['peak_bytes'] / _MB:.0f} MB; ready and idle {ours['idle'] / _MB:.0f} MB",
        ratio=ours["peak"] / bare["peak_bytes"], target=f"<= {load.target_mb} MB", met=ours["peak"] <= load.target_mb * _MB,
    )  # fmt: skip
    yield Row(
        group=group, what="  from the first add to the last reply", here=f"{ours['elapsed']:.1f} s",
        beside=f"plain loop {bare['elapsed_s']:.1f} s",
    )  # fmt: skip
    yield Row(
        group=group, what="  CPU a run", here=f"{ours['cpu'] / load.runs * 1000:.1f} ms",
        beside=f"plain loop {bare['cpu_s'] / load.runs * 1000:.1f} ms",
    )  # fmt: skip
    yield Row(
        group=group,
        what="  starts that failed, of a connect time-out or otherwise",
        here=str(again),
        target="= 0",
        met=again == 0,
    )


def _ours(
    bench: Bench,
    queue: AssistantMessageQueue,
    provider: LeanProvider,
    process: psutil.Process,
    load: Load,
) -> dict[str, Any]:
    logged = bench.log.stat().st_size
    wait_until(
        lambda: "worker ready" in bench.log.read_bytes()[logged:].decode(errors="replace"),
        "the worker is ready",
    )
    _map(bench, queue, load.runs)
    provider.reset()
    idle = peak_bytes(process)
    cpu = cpu_s(process)
    start = time.perf_counter()
    parts = 100 if load.over_s else 1
    size = -(-load.runs // parts)
    for part in range(parts):
        queue.add_messages(
            {"thread_id": f"c{n}", "message": TEXT}
            for n in range(part * size, min(load.runs, (part + 1) * size))
        )
        time.sleep(max(0.0, start + (part + 1) * load.over_s / parts - time.perf_counter()))
    counters = f"{PREFIX}:counters"
    most_s = 120 + 4 * (load.hold_s + load.over_s)
    wait_until(
        lambda: int(bench.client.hget(counters, "completed") or 0) >= load.runs,
        f"{load.runs} runs are answered",
        most_s,
    )
    elapsed = time.perf_counter() - start
    seen = provider.stats()
    with bench.log.open("rb") as log:
        log.seek(logged)
        written = log.read().decode(errors="replace")
    return {
        "most": seen["most"], "runs": seen["runs"], "elapsed": elapsed, "idle": idle, "peak": peak_bytes(process),
        "cpu": cpu_s(process) - cpu, "log": written,
    }  # fmt: skip


def _map(bench: Bench, queue: AssistantMessageQueue, threads: int) -> None:
    """Threads that have been used before: a run is one call, as it is in the plain loop."""
    keys = queue._commands.namespace.keys
    with bench.client.pipeline(transaction=False) as pipeline:
        for number in range(threads):
            pipeline.hset(
                keys.conversation(f"c{number}"),
                mapping={"id": f"conv_{number:024d}", "anchor": "msg_0"},
            )
        pipeline.execute()


def peak_bytes(process: psutil.Process) -> int:
    """The most memory a process has had resident."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc: this row needs Linux")


def allow_files(count: int) -> None:
    """Let this process, and those it starts, have so many files open.

    Raises:
        OSError: The hard limit is below it; raise it with `ulimit -Hn`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    if hard != resource.RLIM_INFINITY and hard < count:
        raise OSError(
            f"this benchmark needs {count} open files and may have {hard}; raise it with ulimit -Hn"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
