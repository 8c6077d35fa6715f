"""Both sides in turns, and the medians as rows of a table."""

from __future__ import annotations

import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks.measuring import quantile
from tests.benchmarks.peer.measures import Figures, Measures
from tests.benchmarks.peer.sides import HERE, PEER, RESPONSES, Lane
from tests.benchmarks.table import Row

Measure = Callable[[str, Lane], Figures]
"""Measures one side's part of a section, by its name."""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that one measurement fills.

    Attributes:
        measure: The measurement, one method of `Measures`.
        rows: For each of its figures that is shown: the figure's name, what it is, and its format.
        lanes: The sides, in their order; the peer last.
    """

    measure: Callable[[Measures, Lane], Figures]
    rows: tuple[tuple[str, str, str], ...]
    lanes: tuple[Lane, ...] = (HERE, PEER)


_RATE = "{:,.0f} /s"
_MS = "{:,.2f} ms"
_S = "{:,.2f} s"
_MB = "{:,.0f} MB"
_PERCENTILES = tuple(
    (name, f"window's end to run request, {name}", _MS) for name in ("p50", "p95", "p99")
)
_OF_A_WORKER = (
    ("worker_ms", "CPU of the workers per batch", _MS),
    ("redis_ms", "CPU of Redis per batch", _MS),
    ("scripts", "scripts per batch", "{:.1f}"),
    ("script_us", "time of a script", "{:,.0f} us"),
    ("peak_mb", "peak memory of a worker", _MB),
)
_HELD = (
    ("worker_ms", "CPU of the worker per run", _MS),
    ("last_start_s", "the last run starts after", _S),
    ("peak_mb", "peak memory of the worker", _MB),
    ("most", "runs at once, counted by the provider", "{:,.0f}"),
    ("lost", "messages not answered", "{:,.0f}"),
)

SECTIONS = {
    "throughput": Section(
        Measures.throughput,
        (("rate", "batches a second, one worker process", _RATE), *_OF_A_WORKER),
        (HERE, RESPONSES, PEER),
    ),
    "two-workers": Section(
        Measures.throughput_of_two, (("rate", "batches a second, two worker processes", _RATE), *_OF_A_WORKER[:2])
    ),
    "holding": Section(Measures.holding, _HELD),
    "adding": Section(
        Measures.adding,
        (("in_flight", "adds, 50 in flight, asyncio", _RATE), ("one_by_one", "adds, one after another", _RATE)),
    ),
    "bulk": Section(
        Measures.adding_in_bulk,
        (("one", "`add_messages`, one a thread", _RATE), ("five", "`add_messages`, five a thread", _RATE)),
        (HERE,),
    ),
    "waiting": Section(Measures.waiting, _PERCENTILES, (HERE, RESPONSES, PEER)),
    "waiting-again": Section(Measures.waiting_again, _PERCENTILES, (HERE, RESPONSES, PEER)),
    "waiting-loaded": Section(Measures.waiting_loaded, _PERCENTILES),
    "reply": Section(Measures.reply, (("p50", "run ended at the provider to reply known, p50", _MS),)),
    "counting": Section(
        Measures.counting,
        (
            ("commands", "Redis commands per batch of five, sent by clients", "{:.1f}"),
            ("calls", "HTTP calls per batch of five", "{:.1f}"),
            ("runs", "runs per batch of five", "{:.2f}"),
        ),
    ),
    "memory": Section(
        Measures.memory,
        (
            ("one", "bytes of a waiting message, one a thread", "{:,.0f}"),
            ("five", "bytes of a waiting message, five a thread", "{:,.0f}"),
            ("all", "bytes of a waiting message, all in one thread", "{:,.0f}"),
        ),
    ),
    "falling-due": Section(
        Measures.falling_due,
        (
            ("worker_s", "CPU of the worker, messages that fall due during a run", _S),
            ("lost", "of them not answered", "{:,.0f}"),
        ),
    ),
    "starting": Section(
        Measures.starting, (("first_run_s", "start of a worker to its first run", _S),)
    ),
}  # fmt: skip
LONG = {"holding-long": Section(Measures.holding_long, _HELD)}
"""Minutes a turn: only by name."""
ALL = {**SECTIONS, **LONG}


def compare_all(names: Sequence[str], measure: Measure, rounds: int) -> list[Row]:
    """All rows of these sections; a section that fails costs its own rows alone."""
    rows: list[Row] = []
    for name in names:
        started = time.monotonic()
        try:
            rows += compare(name, measure, rounds)
        except Exception:
            traceback.print_exc()
            rows.append(Row(group=name, what="failed: see the errors", here="-"))
        sys.stderr.write(f"{name}: {time.monotonic() - started:.0f} s\n")
    return rows


def compare(name: str, measure: Measure, rounds: int) -> list[Row]:
    """Measure each side in turns (A B A B), and return the medians.

    The ratio is ours over the peer's, of the medians; the spread is that of the turns.
    """
    section = ALL[name]
    taken: dict[Lane, list[Figures]] = {lane: [] for lane in section.lanes}
    for _ in range(rounds):
        for lane in section.lanes:
            taken[lane].append(measure(name, lane))
    peer = taken.pop(PEER, [])
    return [
        _row(name, lane, row, figures, peer)
        for lane, figures in taken.items()
        for row in section.rows
    ]


def _row(
    name: str,
    lane: Lane,
    row: tuple[str, str, str],
    figures: Sequence[Figures],
    peer: Sequence[Figures],
) -> Row:
    figure, what, form = row
    ours = [one[figure] for one in figures]
    here = statistics.median(ours)
    suffix = ", Responses" if lane == RESPONSES else ""
    if not peer:
        return Row(group=name, what=what + suffix, here=form.format(here), beside="-")
    theirs = [one[figure] for one in peer]
    beside = statistics.median(theirs)
    ratios = [one / other for one, other in zip(ours, theirs, strict=True) if other]
    return Row(
        group=name,
        what=what + suffix,
        here=form.format(here),
        beside=form.format(beside),
        ratio=here / beside if beside else None,
        spread=(quantile(ratios, 0.0), quantile(ratios, 1.0)) if len(ratios) > 1 else None,
    )
