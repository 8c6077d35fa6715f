"""Rows about the start: how long until a process can add, and until a worker takes work; and what is imported for it."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from tests.benchmarks.bench import ROOT, Bench, wait_until
from tests.benchmarks.measuring import quantile
from tests.benchmarks.table import Row

GROUP = "starting"
HEAVIEST = 5
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)")
_QUEUE = "from assistant_queue import AssistantMessageQueue; queue = AssistantMessageQueue(redis_url={url!r}, model='m')"
PROGRAMS = {
    "import assistant_queue": "import assistant_queue",
    "a queue object": _QUEUE,
    "its first add": f"{_QUEUE}; queue.add_message_to_thread('customer-4711', 'hello')",
}
BASELINES = {
    "import redis": "import redis",
    "import rq": "import rq",
    "import openai": "import openai",
    "what a worker imports": "import aiohttp, click, psutil, pydantic_settings, redis.asyncio, rq.worker",
}


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    bench.client.flushall()
    count = bench.sizes.starts
    programs = {"pass": "pass", **PROGRAMS, **BASELINES}
    # In turns: what else the machine does falls on all alike.
    taken = [
        {name: _seconds(code.format(url=bench.url)) for name, code in programs.items()}
        for _ in range(count)
    ]
    medians = {name: statistics.median(one[name] for one in taken) for name in programs}
    others = ", ".join(f"{name} {_ms(medians[name])}" for name in BASELINES)
    for name in PROGRAMS:
        times = sorted(one[name] for one in taken)
        yield Row(
            group=GROUP, what=f"a process from its start to {name}", here=_ms(medians[name]),
            beside=f"python alone {_ms(medians['pass'])}; {others}", ratio=medians[name] / medians["pass"],
            spread=(quantile(times, 0.25) / medians["pass"], quantile(times, 0.75) / medians["pass"]),
        )  # fmt: skip
    for name, code in PROGRAMS.items():
        yield Row(
            group=GROUP,
            what=f"  heaviest imports until {name}",
            here=_heaviest(code.format(url=bench.url)),
        )
    ready = sorted(_ready_s(bench) for _ in range(max(1, count // 2)))
    yield Row(
        group=GROUP,
        what="a worker from its start to taking work",
        here=_ms(statistics.median(ready)),
        beside=others,
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _run(words: Sequence[str]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stderr


def _seconds(code: str) -> float:
    start = time.perf_counter()
    _run(["-c", code])
    return time.perf_counter() - start


def _heaviest(code: str) -> str:
    """Return the packages with the longest import time, without that of other packages."""
    own: dict[str, int] = {}
    for line in _run(["-X", "importtime", "-c", code]).splitlines():
        found = _IMPORT.match(line)
        if found:
            package = found[4].partition(".")[0]
            own[package] = own.get(package, 0) + int(found[1])
    ordered = sorted(own.items(), key=lambda item: -item[1])
    return ", ".join(f"{package} {us / 1000:.0f} ms" for package, us in ordered[:HEAVIEST])


def _ready_s(bench: Bench) -> float:
    logged = bench.log.stat().st_size if bench.log.exists() else 0
    bench.client.flushall()
    start = time.perf_counter()
    with bench.worker("asyncio", bench.options()):
        wait_until(
            lambda: b"worker ready" in bench.log.read_bytes()[logged:], "the worker is ready"
        )
        return time.perf_counter() - start
