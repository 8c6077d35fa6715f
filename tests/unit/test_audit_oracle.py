"""The judge of the audit, with rows that are right and wrong."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.testing.chaos.audit_oracle import AuditRow, judge_audit
from assistant_queue.testing.chaos.oracle import Sent


def sent(message_id: str, **fields: Any) -> Sent:
    return Sent(message_id=message_id, thread="t", text=message_id, at=0.0, **fields)


def row(message_id: str, outcome: str = "completed", **fields: str) -> AuditRow:
    return AuditRow(
        **{"message_id": message_id, "thread": "t", "text": message_id} | fields, outcome=outcome
    )


LOG = [sent("m1"), sent("m2"), sent("s", kind="tell")]
RIGHT = [row("m1", "failed"), row("m1"), row("m2", "incomplete"), row("s", "said")]


def test_rows_that_are_right() -> None:
    verdict = judge_audit(RIGHT, LOG, (), lost=0, left=0)
    assert verdict.holds
    assert (verdict.rows, verdict.once) == (4, 3)
    log = [*LOG, sent("dead"), sent("unsure", is_sure=False)]
    assert judge_audit(RIGHT, log, {"dead"}, lost=0, left=0).holds


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (RIGHT[:1] + RIGHT[2:], "'m1' of t is in []"),
        ([*RIGHT, row("m2")], "'m2' of t is in ['incomplete', 'completed']"),
        ([*RIGHT, row("other")], "'other' was never sent"),
        ([*RIGHT[1:], row("m1", "failed", text="x")], "'m1' has another text or thread"),
        ([*RIGHT[1:], row("m1", "failed", thread="x")], "'m1' has another text or thread"),
    ],
)
def test_rows_that_are_wrong(rows: list[AuditRow], says: str) -> None:
    assert any(says in detail for detail in judge_audit(rows, LOG, (), lost=0, left=0).details)


def test_a_reply_that_redis_did_not_acknowledge_has_an_id_that_is_not_known() -> None:
    log = [*LOG, sent("planned", kind="tell", is_sure=False)]
    rows = [*RIGHT, row("stored", "said", text="planned")]
    assert judge_audit(rows, log, (), lost=0, left=0).holds
    (doubled,) = judge_audit([*rows, rows[-1]], log, (), lost=0, left=0).details
    assert doubled == "audit: 'planned' of t is in ['said', 'said']"
    (other,) = judge_audit([*rows, row("x", text="other")], log, (), lost=0, left=0).details
    assert other == "audit: 'x' was never sent"


def test_what_is_lost_or_left_is_no_audit() -> None:
    details = judge_audit(RIGHT, LOG, (), lost=2, left=1).details
    assert details == ("audit: 2 batches were lost", "audit: 1 entries were never written")


def test_messages_that_were_stopped_removed_or_edited() -> None:
    log = [sent("kept"), sent("stopped"), sent("removed"), sent("edited")]
    texts = {"edited": "better"}
    rows = [row("kept"), row("stopped", "stopped"), row("edited", text="better")]
    rows += [row("edited", "interrupted", text="edited"), row("kept", "interrupted")]

    def judged(more: list[AuditRow], cancelled: set[str]) -> tuple[str, ...]:
        found = judge_audit(
            [*rows, *more], log, (), lost=0, left=0, cancelled=cancelled, new_texts=texts
        )
        assert found.once == 4 - sum("is in" in detail for detail in found.details)
        return found.details

    assert judged([], {"stopped", "removed"}) == ()
    assert judged([row("stopped")], {"stopped", "removed"}) == (
        "audit: 'stopped' of t is in ['completed']",
    )
    assert judged([], {"removed"}) == ("audit: 'stopped' of t is in []",)
    other = [row("edited", "failed", text="worse")]
    assert judged(other, {"stopped", "removed"}) == ("audit: 'edited' has another text or thread",)
