"""The judge of stops, interrupts and steers, on logs made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.steering_oracle import (
    Halt,
    MessageEnd,
    Revision,
    SteeringEvidence,
    judge_steered,
)
from assistant_queue.testing.provider import RunRecord

SENT = [Sent("m1", "t", "one", 1.0), Sent("m2", "t", "two", 2.0), Sent("m3", "t", "three", 9.0)]


def ran(name: str, at: float, status: str = "completed") -> RunRecord:
    return RunRecord(name, "responses", "c", 1, (), status=status, started_at=at, ended_at=at + 1)


GOOD = SteeringEvidence(
    sent=SENT,
    halts=[Halt("t", 3.0, 3.1, found=True)],
    fates={
        "m1": MessageEnd(status="cancelled", batch_id="b1"),
        "m2": MessageEnd(status="cancelled", batch_id="b1"),
        "m3": MessageEnd(status="completed", run_id="r2", batch_id="b2"),
    },
    runs=[ran("r1", 2.5, "cancelled"), ran("r2", 9.5)],
    replied={"r1": ["one", "two"], "r2": ["one", "two", "three"]},
    conversations={"c": ["one", "two", "three"]},
)


def findings(**changes: Any) -> tuple[bool, str]:
    verdict, steering = judge_steered(replace(GOOD, **changes))
    text = "; ".join((*steering.details, *verdict.details))
    return verdict.holds and steering.holds, text


def fates(**changes: MessageEnd) -> dict[str, MessageEnd]:
    return {**GOOD.fates, **changes}


def test_all_is_well() -> None:
    verdict, steering = judge_steered(GOOD)
    assert (verdict.holds, steering.holds) == (True, True)
    assert (steering.answered, steering.cancelled, verdict.once) == (1, 2, 3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"halts": []}, "no stop was asked for"),
        ({"halts": [Halt("t", 3.0, 3.1, found=False)]}, "no stop was asked for"),
        ({"halts": [Halt("u", 3.0, 3.1, found=True)]}, "no stop was asked for"),
        ({"halts": [Halt("t", 0.1, 0.2, found=True)]}, "no stop was asked for"),
        ({"conversations": {"c": ["one", "two", "three", "three"]}}, "completed, and in its"),
        ({"conversations": {"c": ["one", "two", "one", "three"]}}, "cancelled, and in its"),
        ({"conversations": {"c": ["two", "three"]}}, "cancelled, and in its conversation 0"),
        ({"fates": fates(m3=MessageEnd(status="queued"))}, "is queued"),
        ({"fates": fates(m3=MessageEnd(status="failed"))}, "is failed"),
        ({"fates": {}}, "is None"),
        ({"fates": fates(m3=MessageEnd(status="completed", run_id="r1")), "repeats": True},
         "names run r1"),
        ({"replied": {"r1": ["three"]}}, "was answered by []"),
        ({"replied": {"r2": ["three"], "r3": ["three"]}, "runs": [ran("r2", 9), ran("r3", 12)]},
         "was answered by"),
        ({"delivered": {"b1": {"m1"}, "b2": {"m3"}}}, "its reply was delivered"),
        ({"delivered": {"b2": {"m3"}, "b3": {"m3"}}}, "delivered with"),
        ({"delivered": {}}, "delivered with []"),
        ({"runs": [ran("r1", 9.4, "cancelled"), ran("r2", 9.5)]}, "overlap"),
        ({"conversations": {"c": ["two", "one", "three"]}}, "came after a later one"),
        ({"conversations": {"c": ["one", "two", "three", "alien"]}}, "nobody sent it"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(changes: dict[str, Any], said: str) -> None:
    holds, text = findings(**changes)
    assert not holds
    assert said in text


def test_a_reply_that_no_worker_has_heard_may_be_generated_again() -> None:
    twice = {**GOOD.replied, "r3": ["three"]}
    changes = {"replied": twice, "runs": [*GOOD.runs, ran("r3", 12)]}
    assert not findings(**changes)[0]
    assert findings(**changes, repeats=True, delivered={"b2": {"m3"}})[0]


EDITED = "three (edited)"
IN_ITS_PLACE = {
    "revisions": [Revision("m3", EDITED)],
    "replied": {"r2": ["one", "two", EDITED]},
    "conversations": {"c": ["one", "two", EDITED]},
}
AS_THE_LAST = {
    **IN_ITS_PLACE,
    "replied": {"r2": ["one", "two", "three", EDITED]},
    "conversations": {"c": ["one", "two", "three", EDITED]},
}
REMOVED = {
    "revisions": [Revision("m3", None)],
    "fates": fates(m3=MessageEnd(status="cancelled")),
    "conversations": {"c": ["one", "two"]},
}


@pytest.mark.parametrize(
    "changes",
    [
        IN_ITS_PLACE,
        AS_THE_LAST,
        {"revisions": [Revision("m3", EDITED)]},
        REMOVED,
        {**REMOVED, "conversations": GOOD.conversations},
        {"revisions": [Revision("m3", None)]},
    ],
    ids=["in its place", "as the last", "too late", "left out", "stays there", "removed too late"],
)
def test_edits_and_removals_are_well(changes: dict[str, Any]) -> None:
    assert findings(**changes) == (True, "")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({**IN_ITS_PLACE, "revisions": []}, "nobody sent it"),
        ({**IN_ITS_PLACE, "conversations": {"c": ["one", "two"]}}, "completed, and in its"),
        (
            {**IN_ITS_PLACE, "conversations": {"c": ["one", "two", EDITED, EDITED]}},
            "completed, and in its",
        ),
        (
            {**AS_THE_LAST, "replied": {"r2": ["three"], "r3": [EDITED]},
             "runs": [*GOOD.runs, ran("r3", 12)]},
            "was answered by ['r2', 'r3']",
        ),
        ({**REMOVED, "revisions": []}, "no stop was asked for"),
        ({**REMOVED, "revisions": [Revision("m3", EDITED)]}, "cancelled, and in its"),
        ({**REMOVED, "delivered": {"b2": {"m3"}}}, "its reply was delivered"),
        ({**REMOVED, "fates": GOOD.fates}, "completed, and in its"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_edits_and_removals_is_found(changes: dict[str, Any], said: str) -> None:
    holds, text = findings(**changes)
    assert not holds
    assert said in text
