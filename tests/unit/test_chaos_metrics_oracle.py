"""The judge of the metrics, on counts made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_queue import Histogram, Metrics, QueueStatus
from assistant_queue.core.progress import moment
from assistant_queue.testing.chaos.metrics_oracle import Witnessed, judge_metrics

SEEN = Witnessed(
    messages=9, failed=0, batches=4, repeated=2, taken_over=3, delivered=4, parked=1, unsure=1
)
STATUS = QueueStatus(
    active_count=0, waiting_count=0, delayed_count=0, completed_count=9, failed_count=0
)


def lasted(count: int) -> Histogram:
    return Histogram(bounds=(1.0,), counts=(count, 0))


GOOD = Metrics(
    at=moment(0),
    status=STATUS,
    messages={"queued": 9, "answered": 9, "failed": 0, "cancelled": 0, "deduplicated": 1},
    batches={"completed": 3, "incomplete": 1, "failed": 0},
    runs=6,
    runs_saved=5,
    takeovers=3,
    durations={"run": lasted(4), "window_wait": lasted(4), "delivery": lasted(5)},
    deliveries={"telegram": {"delivered": 2, "unknown": 1}, "webhook": {"delivered": 3}},
)


def findings(found: Metrics = GOOD, **seen: Any) -> list[str]:
    return [
        detail.split(":")[1].strip()
        for detail in judge_metrics(found, replace(SEEN, **seen)).details
    ]


def test_all_is_well() -> None:
    assert judge_metrics(GOOD, SEEN).holds
    assert findings(replace(GOOD, deliveries={}), delivered=None) == []


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"messages": {**GOOD.messages, "queued": 10}}, "messages queued"),
        ({"messages": {**GOOD.messages, "cancelled": 1}}, "messages cancelled"),
        (
            {"messages": {**GOOD.messages, "deduplicated": 3}},
            "duplicates at most as many as adds were repeated",
        ),
        ({"runs_saved": 4}, "runs saved"),
        ({"takeovers": 2}, "takeovers at least as many as were seen"),
        ({"durations": {**GOOD.durations, "run": lasted(5)}}, "durations of runs"),
        ({"durations": {**GOOD.durations, "window_wait": lasted(3)}}, "durations of windows"),
        ({"durations": {**GOOD.durations, "delivery": lasted(4)}}, "durations of deliveries"),
        (
            {"deliveries": {"webhook": {"delivered": 5}}},
            "deliveries in doubt at least as many as are listed",
        ),
    ],
)
def test_every_wrong_count_is_seen(change: dict[str, Any], finding: str) -> None:
    assert findings(replace(GOOD, **change)) == [finding]


def test_a_message_that_was_counted_twice_or_never_is_seen() -> None:
    for count in (8, 10):
        twice = replace(GOOD, messages={**GOOD.messages, "answered": count}, runs_saved=count - 4)
        assert findings(twice) == ["messages answered"]
    assert findings(failed=1) == ["messages answered"]


def test_a_batch_that_was_counted_twice_or_never_is_seen() -> None:
    assert findings(batches=3) == ["batches that were answered"]
    assert findings(batches=5) == ["batches that were answered"]


def test_deliveries_that_were_counted_twice_or_never_are_seen() -> None:
    assert findings(delivered=6) == [
        "deliveries at least as many as were shown",
        "deliveries at least as many as are known",
    ]
    assert findings(delivered=3) == ["deliveries no more than were shown, and may have been"]
