"""The lines of `assistant-queue top`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from assistant_queue.cli.top_screen import COLOURED, Seen, bars, screen, span
from assistant_queue.core.metric_samples import MetricSpan
from assistant_queue.metrics import Metrics, WorkerMetrics
from assistant_queue.models import QueueStatus, ThreadStatus

NOW = datetime(2026, 3, 2, 12, 0, 5, tzinfo=UTC)


def seen(**more: object) -> Seen:
    status = QueueStatus(
        active_count=6,
        waiting_count=1200,
        delayed_count=20,
        completed_count=9,
        failed_count=3,
        paused=True,
    )
    spans = [
        MetricSpan(
            began_at=NOW - timedelta(minutes=60 - minute),
            ended_at=NOW - timedelta(minutes=59 - minute),
            messages={"queued": minute, "answered": minute // 2},
            errors={"server_error": 2} if minute > 50 else {},
            p50={"end_to_end": 2.56 if minute else None},
            p95={"end_to_end": 10.24},
            status={"waiting": 3, "delayed": 1},
        )
        for minute in range(60)
    ]
    threads = [
        ThreadStatus(thread_id="late", state="pending", due_at=NOW - timedelta(seconds=42)),
        ThreadStatus(thread_id="x" * 300, state="active", due_at=NOW + timedelta(seconds=90)),
        ThreadStatus(thread_id="a\x1b[31mb", state="held", pending_count=4),
    ]
    metrics = Metrics(
        at=NOW,
        status=status,
        messages={"answered": 4210},
        oldest_due_s=42.0,
        workers=(WorkerMetrics(name="w", concurrency=32, running=5),),
    )
    return Seen(
        **{"title": "queue support", "metrics": metrics, "spans": spans, "threads": threads, **more}
    )


def test_a_screen_has_counts_charts_and_threads() -> None:
    lines = screen(seen(), width=100, height=40)
    text = "\n".join(lines)
    assert "queue support  12:00:05 UTC  PAUSED" in lines[0]
    for part in ("waiting 1,200", "oldest due 42 s", "workers 1 (5/32)", "answered 4,210"):
        assert part in text
    assert re.search(r"in +▁+▂.*█  59 a minute", text)
    assert "median 2.6 s, 95 % 10 s" in text
    assert "server_error 18" in text
    assert re.search(r"late +pending +overdue 42 s +0", text)
    assert "\x1b" not in text, "an id moves no terminal"


@pytest.mark.parametrize(("width", "height"), [(100, 40), (80, 24), (60, 12), (40, 5), (20, 3)])
def test_a_screen_fits_a_terminal_of_any_size(width: int, height: int) -> None:
    for styles in ({}, {"styles": COLOURED}):
        lines = screen(seen(), width=width, height=height, **styles)
        assert len(lines) <= height
        for line in lines:
            assert len(re.sub(r"\x1b\[\d*m", "", line)) <= width, line
            assert line.count("\x1b[0m") * 2 == line.count("\x1b["), "each style ends in its line"


def test_an_empty_queue_has_a_screen_too() -> None:
    metrics = Metrics(at=NOW, status=QueueStatus(), sees_workers=False)
    lines = screen(seen(metrics=metrics, spans=(), threads=()), width=80, height=24)
    assert "workers -" in "\n".join(lines)
    assert "begins with the second sample" in "\n".join(lines)


def test_bars_and_spans() -> None:
    assert bars([0, 1, 2, 4, 8, None], 10) == "▁▂▃▅█ "
    assert bars([], 10) == ""
    assert bars([0, 0], 1) == "▁"
    assert [span(value) for value in (None, 0, 0.25, 2.5, 42, 300, 7200)] == [
        "-",
        "0 s",
        "250 ms",
        "2.5 s",
        "42 s",
        "5 min",
        "2.0 h",
    ]
