"""The chaos runner's judge of the feed."""

from __future__ import annotations

import pytest

from assistant_queue.testing.chaos.feed_oracle import FeedRow, judge_feed
from assistant_queue.testing.chaos.oracle import Sent

SENT = [
    Sent(message_id="m1", thread="t", text="one", at=0.0),
    Sent(message_id="m2", thread="t", text="two", at=0.0),
    Sent(message_id="s1", thread="t", text="told", at=0.0, kind="tell"),
    Sent(message_id="s2", thread="t", text="unsure", at=0.0, kind="tell", is_sure=False),
]


def row(number: int, kind: str, *message_ids: str) -> FeedRow:
    return FeedRow(id=f"{number}-0", type=kind, message_ids=message_ids)


GOOD = [
    row(1, "message_queued", "m1"),
    row(2, "message_queued", "m2"),
    row(3, "batch_claimed"),
    row(4, "reply_ready", "m1", "m2"),
    row(5, "said", "s1"),
]
GAP = FeedRow(id="3-0", type="events_missed")


def test_each_event_once_in_order_is_right() -> None:
    verdict = judge_feed(GOOD, SENT, {"m1", "m2"})
    assert (verdict.holds, verdict.events, verdict.gaps) == (True, 5, 0)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([*GOOD, row(6, "reply_ready", "m2")], "'two': 2 events reply_ready"),
        ([*GOOD, row(6, "message_queued", "m1")], "'one': 2 events message_queued"),
        (GOOD[1:], "'one': 0 events message_queued"),
        (GOOD[:3] + GOOD[4:], "'one': 0 events reply_ready"),
        (GOOD[:4], "'told': 0 events said"),
        ([*GOOD, row(5, "batch_claimed")], "the event 5-0 (batch_claimed) came after 5-0"),
        ([*GOOD, GAP, row(6, "said", "s1")], "'told': 2 events said"),
    ],
)
def test_what_is_doubled_missing_or_out_of_order_is_seen(rows: list[FeedRow], says: str) -> None:
    verdict = judge_feed(rows, SENT, {"m1", "m2"})
    assert not verdict.holds
    assert says in verdict.details


def test_an_event_may_be_missing_where_a_gap_was_reported() -> None:
    verdict = judge_feed([GAP, *GOOD[3:]], SENT, {"m1", "m2"})
    assert (verdict.holds, verdict.gaps) == (True, 1)
