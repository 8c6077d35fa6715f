"""Rows about runs in the background: how many one worker has in the air, and what each of them takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import psutil

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing.provider.webhooks import WebhookEndpoint, new_secret
from tests.benchmarks.bench import PREFIX, TEXT, Bench, LeanProvider, wait_until
from tests.benchmarks.holding import peak_bytes
from tests.benchmarks.table import Row
from tests.benchmarks.throughput import cpu_s

GROUP = "background"
POLLED_SHARE = 0.15
"""The part of the runs that is polled in the second half: 15,000 of 100,000."""
MOST_MB = 256
CONCURRENCY = 50
_MB = 1_000_000
_ADDED_AT_ONCE = 5000
_SIGN_OF_LIFE_S = 100.0
"""A webhook every so often shows that they work, as in a queue that answers all the time."""


def rows(bench: Bench) -> Iterator[Row]:
    """Many runs with webhooks, and as many as can be polled in five minutes without."""
    yield from _in_the_air(bench, bench.sizes.in_the_air, webhooks=True)
    yield from _in_the_air(bench, int(bench.sizes.in_the_air * POLLED_SHARE), webhooks=False)


def _in_the_air(bench: Bench, runs: int, *, webhooks: bool) -> Iterator[Row]:
    secret = new_secret()
    # A machine that does other things may need longer than usual to start them all.
    background: dict[str, Any] = {
        "run_mode": "background",
        "message_delay": 0,
        "run_timeout": 86_400,
    }
    logged = bench.log.stat().st_size if bench.log.exists() else 0
    with bench.lean_provider(0.0) as provider:
        provider.hold_back()
        options = {**provider.options(), **background}
        with (
            bench.queue(**options, webhook_secret=secret) as queue,
            bench.worker("asyncio", bench.options(**options), concurrency=CONCURRENCY) as process,
        ):
            taken = _measure(
                bench,
                queue,
                provider,
                process,
                runs=runs,
                secret=secret if webhooks else None,
                log_from=logged,
            )
    how = "with webhooks" if webhooks else "polled, 50 a second"
    yield Row(
        group=GROUP, what=f"{runs:,} runs in the air at once {how}: answered", here=f"{taken['done']:,}",
        target="all", met=taken["done"] == runs,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="  peak memory of the one worker", here=f"{taken['peak'] / _MB:.0f} MB",
        beside=f"ready and idle {taken['idle'] / _MB:.0f} MB", target=f"<= {MOST_MB} MB", met=taken["peak"] <= MOST_MB * _MB,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="  memory of Redis a run in the air", here=f"{taken['redis'] / runs / 1000:.1f} kB",
        beside=f"CPU of the worker {taken['cpu'] / runs * 1000:.1f} ms; scripts {taken['scripts'] / runs:.1f}",
    )  # fmt: skip


def _measure(
    bench: Bench,
    queue: AssistantMessageQueue,
    provider: LeanProvider,
    process: psutil.Process,
    *,
    runs: int,
    secret: str | None,
    log_from: int,
) -> dict[str, Any]:
    client = bench.client
    wait_until(
        lambda: b"worker ready" in bench.log.read_bytes()[log_from:], "the worker is ready", 60
    )
    idle = peak_bytes(process)
    cpu = cpu_s(process)
    memory = client.info("memory")["used_memory"]
    scripts = _scripts(client)
    # Signs, and sends nothing.
    endpoint = WebhookEndpoint("http://127.0.0.1:9", secret, _never) if secret else None
    for start in range(0, runs, _ADDED_AT_ONCE):
        queue.add_messages(
            {"thread_id": f"air{n}", "message": TEXT}
            for n in range(start, min(start + _ADDED_AT_ONCE, runs))
        )

    spoken = [0.0]

    def are_all_at_work() -> bool:
        time.sleep(0.2)  # each look costs Redis time, which is measured
        at_work = client.hlen(f"{PREFIX}:runs")
        if endpoint is not None and at_work and time.monotonic() - spoken[0] > _SIGN_OF_LIFE_S:
            spoken[0] = time.monotonic()
            ident = next(iter(client.hscan(f"{PREFIX}:runs", count=1)[1]))
            queue.handle_provider_webhook(*endpoint.signed(_text(ident)))
        # A few of them are looked at, at any moment.
        return bool(at_work > runs - CONCURRENCY and provider.count()["runs"] >= runs)

    wait_until(are_all_at_work, f"{runs} runs are in the air", 120 + runs / 5)
    redis = client.info("memory")["used_memory"] - memory
    provider.let_go()
    # The second time for those that were looked at the first time, and were in progress.
    for ident in (ident for _ in range(2) for ident in client.hkeys(f"{PREFIX}:runs")):
        if endpoint is not None:
            queue.handle_provider_webhook(*endpoint.signed(_text(ident)))
    counters = f"{PREFIX}:counters"
    wait_until(
        lambda: int(client.hget(counters, "completed") or 0) >= runs,
        f"{runs} runs are answered",
        700 + runs / 5,
    )
    return {
        "done": int(client.hget(counters, "completed") or 0), "idle": idle, "peak": peak_bytes(process),
        "cpu": cpu_s(process) - cpu, "redis": redis,
        "scripts": _scripts(client) - scripts,
    }  # fmt: skip


def _scripts(client: Any) -> int:
    """Scripts that were run: everything but what the benchmark itself reads."""
    return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _never(_: Callable[[], None]) -> None:
    raise AssertionError
