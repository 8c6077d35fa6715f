"""`python -m tests.benchmarks.profiling`: show where the CPU of a batch goes, and its time."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks import SAMPLES, critical_path, redis_profile
from tests.benchmarks.bench import Bench, LeanProvider
from tests.benchmarks.redis_profile import answered, fill
from tests.benchmarks.sizes import FULL
from tests.benchmarks.throughput import ABREAST, PROTOCOLS

MOST_SHOWN = 14


def worker_lines(bench: Bench, provider: LeanProvider, count: int, protocol: str) -> Iterator[str]:
    """Yield the shares of a worker's CPU, by library and by module of this package."""
    options = {**provider.options(protocol), "message_delay": 0}
    with tempfile.TemporaryDirectory() as directory, bench.queue(**options) as queue:
        target = Path(directory) / "samples"
        os.environ[SAMPLES] = str(target)
        with bench.worker(
            "asyncio",
            bench.options(**options),
            concurrency=ABREAST,
            app="tests.benchmarks.profiled_app:queue",
        ) as process:
            fill(queue, count)
            answered(bench, count)
            process.send_signal(signal.SIGUSR1)
            fill(queue, count)
            answered(bench, 2 * count)
            process.send_signal(signal.SIGUSR2)
            while not target.exists():
                time.sleep(0.01)
            samples = json.loads(target.read_text())
    for kind in ("libraries", "modules"):
        total = sum(samples[kind].values())
        ordered = sorted(samples[kind].items(), key=lambda one: -one[1])[:MOST_SHOWN]
        shares = ", ".join(f"{name} {number / total:.1%}" for name, number in ordered)
        yield f"The worker's CPU, {protocol}, by {kind} ({total} samples): {shares}"


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.profiling", description=__doc__
    )
    parser.add_argument("--batches", type=int, default=1000, help="threads due together")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="responses")
    told = parser.parse_args()
    with Bench(FULL) as bench, bench.lean_provider() as provider:
        cost, seen, scripts = redis_profile.measure(bench, provider, told.batches, told.protocol)
        found = redis_profile.parts(bench.client, cost, seen, scripts)
        paths = min(told.batches, 60)
        for part in (
            redis_profile.report(cost, found),
            worker_lines(bench, provider, told.batches, told.protocol),
            critical_path.lines(bench, provider, paths, told.protocol),
        ):
            for line in part:
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
            sys.stdout.write("\n")


if __name__ == "__main__":
    main()
