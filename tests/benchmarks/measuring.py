"""Timing on a machine that others use, too: baseline and subject take turns, and each round gives one ratio."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from assistant_queue import Batch
from assistant_queue.store.calls import Operation
from assistant_queue.store.transport.stores import SyncStore

PIPELINED = 500
"""Operations carried out abreast while a queue is filled."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison: microseconds per call of both sides, and the ratios of the rounds."""

    baseline_us: float
    subject_us: float
    ratio: float
    spread: tuple[float, float]


def per_call_us(call: Callable[[], object], calls: int) -> float:
    """Microseconds that one of `calls` calls takes."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6


def compare(
    baseline: Callable[[], object],
    subjects: Sequence[Callable[[], object]],
    *,
    rounds: int,
    calls: int,
) -> list[Compared]:
    """Time each subject against the baseline, in turns."""
    return compare_rounds(
        lambda: [per_call_us(call, calls) for call in (baseline, *subjects)], rounds
    )


def compare_rounds(one_round: Callable[[], Sequence[float]], rounds: int) -> list[Compared]:
    """The same, where `one_round` does the timing: the baseline's figure first, then each subject's."""
    one_round()  # connections, scripts, caches
    figures = [one_round() for _ in range(rounds)]
    compared = []
    for column in range(1, len(figures[0])):
        ratios = sorted(figure[column] / figure[0] for figure in figures)
        compared.append(
            Compared(
                statistics.median(figure[0] for figure in figures),
                statistics.median(figure[column] for figure in figures),
                statistics.median(ratios),
                (quantile(ratios, 0.25), quantile(ratios, 0.75)),
            )
        )
    return compared


def quantile(values: Iterable[float], part: float) -> float:
    """The value below which `part` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(part * (len(ordered) - 1)))]


def run_abreast(store: SyncStore, operations: Iterable[Operation[Any]]) -> list[Any]:
    """Carry many operations out in pipelines; their values, in order.

    For filling queues, not for timing.
    """
    results: list[Any] = []
    iterator = iter(operations)
    while chunk := list(islice(iterator, PIPELINED)):
        results.extend(store.run(_abreast(chunk)))
    return results


def _abreast(operations: Sequence[Operation[Any]]) -> Operation[list[Any]]:
    results: list[Any] = [None] * len(operations)
    replies: dict[int, Any] = dict.fromkeys(range(len(operations)))
    while replies:
        calls = {}
        for index, reply in replies.items():
            try:
                calls[index] = operations[index].send(reply)
            except StopIteration as stop:
                results[index] = stop.value
        replies = dict(zip(calls, (yield list(calls.values())), strict=True)) if calls else {}
    return results


def speaking(said: dict[str, float]) -> Callable[[Batch], Iterator[str]]:
    """A model that says two pieces; when it said the first stands in `said`, by thread."""

    def speak(batch: Batch) -> Iterator[str]:
        time.sleep(0.02)  # a breath: the listener is at its place by then
        said[batch.thread_id] = time.perf_counter()
        yield "first "
        time.sleep(0.01)
        yield "second"

    return speak
