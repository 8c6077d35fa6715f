"""`python -m tests.benchmarks`: one Redis of its own, every row, one table."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Iterable

from tests.benchmarks import adding, counting, depth, events, latency, memory, web
from tests.benchmarks.bench import Bench
from tests.benchmarks.sizes import FULL, QUICK, Sizes
from tests.benchmarks.table import Row, render

SECTIONS = {"adding": adding, "depth": depth, "memory": memory, "counting": counting, "waiting": latency, "events": events, "web": web}


def measure(sizes: Sizes, sections: Iterable[str] = tuple(SECTIONS)) -> list[Row]:
    """Every row of these sections."""
    rows: list[Row] = []
    with Bench(sizes) as bench:
        for name in sections:
            started = time.monotonic()
            rows += SECTIONS[name].rows(bench)
            sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
        info = bench.client.info("server")
        sys.stderr.write(f"Redis {info['redis_version']}, Python {platform.python_version()}\n")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; always exits 0: nothing here is asserted on a clock."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", default=list(SECTIONS), metavar="section", help=f"some of {', '.join(SECTIONS)}; all if left out"
    )
    parser.add_argument("--quick", action="store_true", help="tiny numbers: shows every row, measures nothing")
    options = parser.parse_args(arguments)
    unknown = set(options.sections) - set(SECTIONS)
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    sys.stdout.write(render(measure(QUICK if options.quick else FULL, options.sections)) + "\n")


if __name__ == "__main__":
    main()
