"""Measure this package and the TypeScript library that it follows in turns; print one table."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.peer.checkout import BUILD, Checkout, Unusable
from tests.benchmarks.peer.comparing import ALL, SECTIONS, compare_all
from tests.benchmarks.peer.measures import FULL, QUICK, Amounts, Figures, Measures
from tests.benchmarks.peer.sides import Lane, Rig
from tests.benchmarks.sizes import FULL as BENCH_SIZES
from tests.benchmarks.table import Row, render

CORES = 2


def measure(checkout: Checkout, amounts: Amounts, names: Sequence[str]) -> list[Row]:
    """All rows of these sections, everything on the same two cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    with Bench(BENCH_SIZES) as bench, bench.lean_provider() as provider:
        measures = Measures(Rig(bench, provider, checkout), amounts)

        def take(name: str, lane: Lane) -> Figures:
            return ALL[name].measure(measures, lane)

        rows = compare_all(names, take, amounts.rounds)
        redis_version = bench.client.info("server")["redis_version"]
    sys.stderr.write(
        f"{checkout.versions()}, Redis {redis_version}, Python {platform.python_version()}\n"
    )
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.peer",
        description=__doc__,
        epilog=f"build a checkout with:\n{BUILD}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "rows",
        nargs="*",
        metavar="rows",
        help=f"some of {', '.join(ALL)}; the first {len(SECTIONS)} if left out",
    )
    parser.add_argument(
        "--checkout", type=Path, help="directory of the TypeScript library, built (required)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny numbers: shows every row, measures nothing"
    )
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.rows) - set(ALL))
    if unknown:
        parser.error(f"no such rows: {', '.join(unknown)}")
    if given.checkout is None:
        parser.error(f"--checkout is missing: expected a built checkout, from:\n{BUILD}")
    try:
        checkout = Checkout.find(given.checkout)
    except Unusable as error:
        parser.error(str(error))
    names = given.rows or list(SECTIONS)
    sys.stdout.write(render(measure(checkout, QUICK if given.quick else FULL, names)) + "\n")


if __name__ == "__main__":
    main()
