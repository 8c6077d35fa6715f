"""The judge of the journals, with journals that are right and wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.accounting import BatchRecord, DeliveryRecord
from assistant_queue.core.progress import moment
from assistant_queue.testing.chaos.journal_oracle import Journal, judge_journals
from assistant_queue.testing.chaos.oracle import Sent


def sent(message_id: str, **fields: Any) -> Sent:
    return Sent(message_id=message_id, thread="t", text=message_id, at=0.0, **fields)


def record(batch_id: str, *message_ids: str, **fields: Any) -> BatchRecord:
    given: dict[str, Any] = {"outcome": "completed", "message_count": len(message_ids)} | fields
    return BatchRecord(
        batch_id=batch_id,
        thread_id="t",
        message_ids=message_ids,
        ended_at=moment(0),
        delivery=DeliveryRecord(state="delivered"),
        **given,
    )


RIGHT = [record("b1", "m1", "m2"), record("note", "s", outcome="said"), record("b2", "s")]
LOG = [sent("m1"), sent("m2", kind="note"), sent("s", kind="tell")]
PENDING = replace(RIGHT[0], delivery=DeliveryRecord(state="pending"))


def judged(records: list[BatchRecord], log: list[Sent] = LOG, **fields: Any) -> tuple[str, ...]:
    written = fields.get("written", [one.batch_id for one in records])
    journal = Journal(records=records, written=written)
    return judge_journals({"t": journal}, log, fields.get("failed", ())).details


def test_journals_that_are_right() -> None:
    assert judged(RIGHT) == ()
    assert judged(RIGHT[:1], [*LOG[:2], sent("lost", is_sure=False)]) == ()
    assert judged(RIGHT, [*LOG, sent("dead")], failed={"dead"}) == ()
    assert judged([record("b", "m", message_count=300)], [sent("m"), sent("cut")]) == ()


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (RIGHT[1:], "'m1' of t is in []"),
        ([*RIGHT, record("b3", "m1")], "'m1' of t is in ['completed', 'completed']"),
        ([RIGHT[0], RIGHT[2]], "'s' of t is in ['completed']"),
        ([replace(RIGHT[0], outcome="failed"), *RIGHT[1:]], "'m1' of t is in ['failed']"),
        ([PENDING, *RIGHT[1:]], "the delivery of batch b1 is pending"),
    ],
)
def test_journals_that_are_wrong(records: list[BatchRecord], says: str) -> None:
    assert any(says in line for line in judged(records))


def test_times_in_the_history() -> None:
    def of(text: str, ms: int) -> tuple[str, ...]:
        journal = Journal(records=(), written=(), dated=[(text, moment(ms))])
        return judge_journals({"t": journal}, (), (), {"m1": moment(5_900)}).details

    assert of("m1", 5_000) == of("m1", 5_900) == of("a reply", 77) == ()
    for ms in (4_900, 6_000):
        assert "history of t: 'm1' was queued at" in of("m1", ms)[0]


def test_an_entry_that_was_written_twice() -> None:
    (found,) = judged(RIGHT, written=["b1", "note", "b2", "b1"])
    assert found == "journal of t: batch b1 was written 2 times"
