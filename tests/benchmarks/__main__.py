"""`python -m tests.benchmarks`: its own Redis, every row, one table."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from tests.benchmarks import (
    adding,
    approvals,
    background,
    counting,
    delivering,
    depth,
    events,
    hanging,
    holding,
    hostile,
    latency,
    leases,
    memory,
    ops,
    scraping,
    starting,
    steering,
    throughput,
    web,
)
from tests.benchmarks.bench import Bench
from tests.benchmarks.sizes import FULL, QUICK, Sizes
from tests.benchmarks.table import Row, render

SECTIONS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "adding": adding.rows,
    "depth": depth.rows,
    "memory": memory.rows,
    "counting": counting.rows,
    "waiting": latency.rows,
    "delivering": delivering.rows,
    "throughput": throughput.rows,
    "holding": holding.rows,
    "leases": leases.rows,
    "starting": starting.rows,
    "events": events.rows,
    "web": web.rows,
    "hanging": hanging.rows,
    "hostile": hostile.rows,
    "scraping": scraping.rows,
    "steering": steering.rows,
    "approvals": approvals.rows,
    "ops": ops.rows,
}
LONG: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "depth-long": depth.long_rows,
    "holding-long": holding.long_rows,
    "scraping-long": scraping.long_rows,
    "background": background.rows,
}
"""Minutes each: only when they are asked for by name, or with `--full`."""


def measure(sizes: Sizes, sections: Iterable[str] = tuple(SECTIONS)) -> list[Row]:
    """Every row of these sections."""
    rows: list[Row] = []
    with Bench(sizes) as bench:
        for name in sections:
            started = time.monotonic()
            rows += {**SECTIONS, **LONG}[name](bench)
            sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
        info = bench.client.info("server")
        sys.stderr.write(f"Redis {info['redis_version']}, Python {platform.python_version()}\n")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure and print; always exits 0: nothing here is asserted on a clock."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        metavar="section",
        help=f"some of {', '.join([*SECTIONS, *LONG])}; the first {len(SECTIONS)} if left out",
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny numbers: shows every row, measures nothing"
    )
    parser.add_argument("--full", action="store_true", help="those that take minutes, too")
    options = parser.parse_args(arguments)
    sections = options.sections or [*SECTIONS, *(LONG if options.full else ())]
    unknown = set(sections) - {*SECTIONS, *LONG}
    if unknown:
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    sys.stdout.write(render(measure(QUICK if options.quick else FULL, sections)) + "\n")


if __name__ == "__main__":
    main()
