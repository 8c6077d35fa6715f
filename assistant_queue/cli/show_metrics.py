"""`assistant-queue metrics`: counts, durations and workers of a queue."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

import click

from assistant_queue.cli.output import (
    console,
    echo_json,
    echo_lines,
    json_option,
    plain_lines,
    repeat,
)
from assistant_queue.cli.shared_options import Where, redis_name, where_options
from assistant_queue.metrics import Histogram, Metrics, TokenMetrics, WorkerMetrics

_QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_WHOLE_S = 100
"""Seconds from which on a duration is shown without a fraction."""
Row = Sequence[str]


@click.command(name="metrics", short_help="Show counts, durations and workers.")
@click.option("--watch", is_flag=True, help="Refresh every second, until Ctrl-C.")
@json_option
@where_options
def metrics(where: Where, watch: bool, as_json: bool) -> None:
    """Show the metrics of the queue: counts since its prefix exists, durations, workers.

    They are kept in Redis by the steps that change the queue, so they are those of all processes,
    and exact if workers were killed. The cost does not depend on the number of messages.

    \b
    now      messages and replies by state, as in `assistant-queue status`
    workers  slots: batches that they take at once; room: those that they could take now
    runs     sent to the provider; saved: answered messages less the batches that answered them;
             takeovers from a worker that was over; calls of functions that exceeded their time
    p95      the upper bound of the bucket that it is in

    For Prometheus: GET /metrics of assistant-queue serve, or of assistant-queue worker
    --metrics-port; see docs/metrics.md.

    \b
    assistant-queue metrics
    assistant-queue metrics --watch
    assistant-queue metrics --json

    Exit codes: 0 shown, 2 an option is wrong, 3 Redis did not answer. With --json every read is one
    line.
    """  # noqa: D301
    with where.queue() as queue:
        title = f"queue {queue.config.queue_prefix} at {redis_name(queue.config)}"
        try:
            if as_json:
                repeat(lambda: echo_json(queue.get_metrics()), watch=watch)
            elif not watch:
                echo_lines([title, *lines_of(queue.get_metrics())])
            else:
                _watch(title, lambda: lines_of(queue.get_metrics()))
        except KeyboardInterrupt:
            return


def _watch(title: str, look: Callable[[], list[str]]) -> None:
    screen = console()
    if screen is None:
        repeat(lambda: echo_lines([time.strftime("%H:%M:%S"), *look(), ""]), watch=True)
        return
    from rich.live import Live
    from rich.text import Text

    def shown() -> Text:
        return Text("\n".join(plain_lines([title, *look(), "  Ctrl-C ends"])), no_wrap=True)

    with Live(shown(), console=screen, auto_refresh=False) as live:
        repeat(lambda: live.update(shown(), refresh=True), watch=True)


def lines_of(found: Metrics) -> list[str]:
    """Return the lines of metrics: a table for each subject that has any."""
    status = found.status
    now = [
        ("active", str(status.active_count), "in a claimed batch"),
        ("waiting", str(status.waiting_count), "due, not claimed yet"),
        ("delayed", str(status.delayed_count), "window or back-off still running"),
        ("failed", str(status.failed_count), "in the failed list"),
        ("delivering", str(status.delivering_count), "replies on their way to the platform"),
        ("undelivered", str(status.undelivered_count), "replies in the failed list"),
        ("threads", str(found.thread_count), "not idle"),
        ("oldest due", _seconds(found.oldest_due_s), "the thread that is overdue longest"),
    ]
    if status.paused:
        now.append(("paused", "yes", "nothing is claimed: assistant-queue resume"))
    off = ["  not counted by this queue: metrics=False"]
    return [
        *([] if found.is_counted else off),
        *_section("now", now, left=(0, 2)),
        *_across("workers", _workers(found.workers) if found.sees_workers else {}),
        *_across("messages", found.messages),
        *_across("batches", found.batches),
        *_across(
            "runs",
            {
                "sent": found.runs,
                "saved": found.runs_saved,
                "takeovers": found.takeovers,
                "abandoned calls": found.abandoned_calls,
            },
        ),
        *_across("approvals", found.approvals if any(found.approvals.values()) else {}),
        *_across("persons", found.persons if any(found.persons.values()) else {}),
        *_section("attempts that ended with an error", _rows(found.errors.items())),
        *_section("durations", list(_duration_rows(found))),
        *_section("tools", list(_tool_rows(found))),
        *_section("deliveries", list(_delivery_rows(found))),
        *_section("tokens", list(_token_rows(found.tokens))),
        *(
            [f"  cut: further values of {', '.join(found.cut)} are counted as other"]
            if found.cut
            else []
        ),
    ]


def _across(title: str, counts: Mapping[str, int]) -> list[str]:
    """Return the lines of counts beside each other."""
    return _section(title, [(*counts,), tuple(map(str, counts.values()))], ()) if counts else []


def _section(title: str, rows: Sequence[Row], left: Collection[int] = (0,)) -> list[str]:
    """Return the lines of a table, without rows none; `left` are the columns of words."""
    if not rows:
        return []
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    shown = (
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return [f"  {title}", *(f"    {line}".rstrip() for line in shown)]


def _rows(counts: Iterable[tuple[str, int]]) -> list[Row]:
    return [(name, str(count)) for name, count in counts]


def _workers(workers: Sequence[WorkerMetrics]) -> dict[str, int]:
    return {
        "registered": len(workers),
        "slots": sum(one.concurrency for one in workers),
        "running": sum(one.running for one in workers),
        "room": sum(max(0, one.concurrency - one.running) for one in workers),
        "hanging calls": sum(one.abandoned_calls for one in workers),
    }


def _duration_rows(found: Metrics) -> Iterator[Row]:
    measured = {name: one for name, one in found.durations.items() if one.count}
    if not measured:
        return
    yield ("", "count", "mean", *_QUANTILES)
    for name, one in measured.items():
        mean = _seconds(one.sum_s / one.count)
        quantiles = (_quantile(one, share) for share in _QUANTILES.values())
        yield (name.replace("_", " "), str(one.count), mean, *quantiles)


def _quantile(histogram: Histogram, share: float) -> str:
    bound = histogram.quantile(share)
    if bound is None:
        return "-"
    return f"> {histogram.bounds[-1]:g} s" if math.isinf(bound) else f"<= {bound:g} s"


def _tool_rows(found: Metrics) -> Iterator[Row]:
    if not found.tools:
        return
    yield ("", "calls", "errors", "mean")
    for name, one in found.tools.items():
        mean = _seconds(one.seconds / one.calls) if one.calls else "-"
        yield (name, str(one.calls), str(one.errors), mean)


def _delivery_rows(found: Metrics) -> Iterator[Row]:
    outcomes = list(dict.fromkeys(name for one in found.deliveries.values() for name in one))
    if not outcomes:
        return
    yield ("", *outcomes)
    for channel, counts in found.deliveries.items():
        yield (channel, *(str(counts.get(name, 0)) for name in outcomes))


def _token_rows(rows: Sequence[TokenMetrics]) -> Iterator[Row]:
    if not rows:
        return
    yield ("", "input", "cached", "output", "reasoning")
    for row in rows:
        name = row.model or "(not named)"
        yield (
            f"{name}, {row.tenant}" if row.tenant else name,
            str(row.input_tokens),
            str(row.cached_input_tokens),
            str(row.output_tokens),
            str(row.reasoning_tokens),
        )


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= _WHOLE_S else f"{value:.3g} s"
