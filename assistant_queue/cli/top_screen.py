"""The screen of `assistant-queue top`, as lines of text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from assistant_queue.core.metric_samples import MetricSpan
from assistant_queue.metrics import Metrics
from assistant_queue.models import ThreadStatus

_BARS = "▁▂▃▄▅▆▇█"
_NAME = 11
"""Columns of the names before the charts."""
_LATE_S = 5.0
"""Seconds overdue that are shown as bad. Source: `STUCK_MS` of store/ops/thread_lists.py."""
_MINUTE_S = 60
_HOUR_S = 3600
_MOST_CODES = 4


@dataclass(frozen=True, slots=True)
class Styles:
    """Codes of a terminal around a text; empty for a file."""

    bold: str = ""
    dim: str = ""
    bad: str = ""
    end: str = ""


PLAIN = Styles()
COLOURED = Styles(bold="\x1b[1m", dim="\x1b[2m", bad="\x1b[31m", end="\x1b[0m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The values of one screen.

    Attributes:
        title: The queue and its Redis.
        metrics: Read just now.
        spans: The kept history of the last hour.
        threads: The open threads that are due first.
    """

    title: str
    metrics: Metrics
    spans: Sequence[MetricSpan]
    threads: Sequence[ThreadStatus]


def screen(seen: Seen, *, width: int, height: int, styles: Styles = PLAIN) -> list[str]:
    """Return the lines of a screen, at most `height` of at most `width` columns."""
    metrics = seen.metrics
    status = metrics.status
    paused = "PAUSED" if status.paused else ""
    late = metrics.oldest_due_s > _LATE_S
    workers = _workers(metrics)
    lines = [
        _line(
            f"{seen.title}  {metrics.at:%H:%M:%S} UTC  {paused}",
            width,
            styles.bad if paused else styles.bold,
            styles,
        ),
        "",
        *_tiles(
            [
                ("waiting", f"{status.waiting_count:,}", False),
                ("answering", f"{status.active_count:,}", False),
                ("collecting", f"{status.delayed_count:,}", False),
                ("oldest due", span(metrics.oldest_due_s), late),
                ("failed", f"{status.failed_count:,}", status.failed_count > 0),
                ("undelivered", f"{status.undelivered_count:,}", status.undelivered_count > 0),
                ("workers", workers, metrics.sees_workers and not metrics.workers),
                ("answered", f"{metrics.messages.get('answered', 0):,}", False),
            ],
            width,
            styles,
        ),
        "",
        *_charts(seen.spans, width, styles),
        "",
    ]
    room = height - len(lines) - 1
    return [*lines, *_threads(seen, width, room, styles)][:height]


def span(seconds: float | None) -> str:
    """Return a duration as people read it."""
    if seconds is None:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004 - digits
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    return f"{seconds / _HOUR_S:.1f} h"


def bars(values: Iterable[float | None], width: int) -> str:
    """Return the latest values as a row of bars; a space for one that is not known."""
    shown = list(values)[-width:]
    top = max((value for value in shown if value), default=0.0)
    made = ""
    for value in shown:
        if value is None:
            made += " "
        elif not value or not top:
            made += _BARS[0]
        else:
            made += _BARS[min(int(value / top * len(_BARS)), len(_BARS) - 1)]
    return made


def _workers(metrics: Metrics) -> str:
    if not metrics.sees_workers:
        return "-"
    busy = sum(one.running for one in metrics.workers)
    slots = sum(one.concurrency for one in metrics.workers)
    return f"{len(metrics.workers)} ({busy}/{slots})"


def _tiles(tiles: Sequence[tuple[str, str, bool]], width: int, styles: Styles) -> list[str]:
    """Return the counts in rows of four, or of two on a narrow screen."""
    columns = 4 if width >= 72 else 2  # noqa: PLR2004 - chosen: what four counts need
    room = max(width // columns, 1)
    lines = []
    for start in range(0, len(tiles), columns):
        line = ""
        for name, value, is_bad in tiles[start : start + columns]:
            text = f"{name} {value}"[: room - 1]
            shown_name = text[: len(name) + 1]
            shown_value = text[len(name) + 1 :]
            style = styles.bad if is_bad else styles.bold
            end = styles.end
            line += f"{styles.dim}{shown_name}{end}{style}{shown_value}{end}"
            line += " " * (room - len(text))
        lines.append(line.rstrip())
    return lines


def _charts(spans: Sequence[MetricSpan], width: int, styles: Styles) -> list[str]:
    if not spans:
        return ["The history begins with the second sample; workers take one every minute."]
    room = max(min(width - _NAME - 36, 60), 8)
    rates = [_rate(one, one.messages.get("answered", 0)) for one in spans]
    arrived = [_rate(one, one.messages.get("queued", 0)) for one in spans]
    failed = [_rate(one, sum(one.errors.values())) for one in spans]
    waiting: list[float | None] = [
        one.status.get("waiting", 0) + one.status.get("delayed", 0) for one in spans
    ]
    last = spans[-1]
    errors: Counter[str] = Counter()
    for one in spans:
        errors.update(one.errors)
    codes = ", ".join(f"{code} {count}" for code, count in errors.most_common(_MOST_CODES))
    medians = [one.p50.get("end_to_end") for one in spans]
    latest = next((one for one in reversed(spans) if one.p50.get("end_to_end")), last)
    slow = span(latest.p95.get("end_to_end"))
    rows = [
        ("in", arrived, f"{arrived[-1] or 0:.0f} a minute"),
        ("answered", rates, f"{rates[-1] or 0:.0f} a minute"),
        (
            "until then",
            medians,
            f"median {span(latest.p50.get('end_to_end'))}, 95 % {slow}",
        ),
        ("backlog", waiting, f"{waiting[-1]:.0f} messages"),
        ("errors", failed, codes or "none"),
    ]
    return [
        f"{styles.dim}{name:<{_NAME}}{styles.end}{bars(values, room):>{room}}  {text}"[
            : width + len(styles.dim) + len(styles.end)
        ]
        for name, values, text in rows
    ]


def _rate(one: MetricSpan, count: int) -> float | None:
    minutes = (one.ended_at - one.began_at).total_seconds() / _MINUTE_S
    return count / minutes if minutes > 0 else None


def _threads(seen: Seen, width: int, room: int, styles: Styles) -> list[str]:
    if room < 2 or not seen.threads:  # noqa: PLR2004 - the heading and one
        return []
    name_width = max(width - 42, 16)
    head = f"{'thread':<{name_width}}{'state':<12}{'due':<18}{'waiting':>8}"
    rows = [_line(head, width, styles.dim, styles)]
    for one in seen.threads[: room - 1]:
        name = one.thread_id if one.thread_id.isprintable() else repr(one.thread_id)
        if len(name) >= name_width:
            name = f"{name[: name_width - 2]}…"
        due = _due(one.due_at, seen.metrics.at)
        text = f"{name:<{name_width}}{one.state:<12}{due:<18}{one.pending_count:>8,}"
        rows.append(_line(text, width, styles.bad if _is_late(one, seen) else "", styles))
    return rows


def _is_late(one: ThreadStatus, seen: Seen) -> bool:
    return one.due_at is not None and (seen.metrics.at - one.due_at).total_seconds() > _LATE_S


def _due(due_at: datetime | None, now: datetime) -> str:
    if due_at is None:
        return "-"
    left = (due_at - now).total_seconds()
    return f"overdue {span(-left)}" if left < 0 else f"in {span(left)}"


def _line(text: str, width: int, style: str, styles: Styles) -> str:
    shown = text[:width].rstrip()
    return f"{style}{shown}{styles.end}" if style else shown
