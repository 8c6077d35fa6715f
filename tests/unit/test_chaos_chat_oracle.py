"""The judge of the chaos runner for Chat Completions, on logs made by hand."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from assistant_queue import RunResult
from assistant_queue.testing.chaos.chat_oracle import Evidence, Line, judge_chat
from assistant_queue.testing.chaos.deliveries import Delivered, Deliveries
from assistant_queue.testing.chaos.fault_plans import reply_to
from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.provider import RunRecord

SENT = [
    Sent("m1", "t", "one", 0.0),
    Sent("m2", "t", "two", 0.0),
    Sent("m3", "t", "three", 1.0),
    Sent("m4", "u", "other", 1.0),
]


def ran(name: str, *, at: float, end: float | None, status: str = "completed") -> RunRecord:
    return RunRecord(
        name, "chat_completions", None, 1, (), status=status, started_at=at, ended_at=end
    )


def said(*texts: str) -> list[Line]:
    """A batch and its reply."""
    return [*(("user", text) for text in texts), ("assistant", reply_to(texts))]


def delivered(batch: str, run: str, thread: str, **messages: str) -> Delivered:
    return Delivered(batch, run, thread, tuple(messages), reply_to(list(messages.values())))


ONE_TWO, THREE = said("one", "two"), said("three")
# No worker heard the first answer to the batch: it was asked for again while that run still
# continued, which costs money and no more.
GOOD = Evidence(
    sent=SENT,
    runs=[
        ran("lost", at=0.0, end=9.0),
        ran("r1", at=1.0, end=2.0),
        ran("r2", at=3.0, end=4.0),
        ran("r3", at=1.0, end=2.0),
        ran("bad", at=1.0, end=1.5, status="failed"),
    ],
    replied={"lost": ("one", "two"), "r1": ("one", "two"), "r2": ("three",), "r3": ("other",)},
    requested=[ONE_TWO[:2], ONE_TWO[:2], [*ONE_TWO, THREE[0]], said("other")[:1]],
    delivered=[
        delivered("b1", "r1", "t", m1="one", m2="two"),
        delivered("b1", "r1", "t", m1="one", m2="two"),
        delivered("b2", "r2", "t", m3="three"),
        delivered("b3", "r3", "u", m4="other"),
    ],
    histories={"t": [*ONE_TWO, *THREE], "u": said("other")},
    stored={"m1": "r1", "m2": "r1", "m3": "r2", "m4": "r3"},
    failed={},
)


def findings(**changes: Any) -> set[str]:
    verdict = judge_chat(dataclasses.replace(GOOD, **changes))
    names = ("lost", "doubled", "parked", "dead", "overlapping", "out_of_order", "strange")
    assert not verdict.holds
    assert verdict.details
    return {name for name in names if getattr(verdict, name)}


def test_all_is_well_though_an_answer_was_lost_and_a_reply_delivered_twice() -> None:
    verdict = judge_chat(GOOD)
    assert verdict.details == ()
    assert verdict.holds
    assert (verdict.sent, verdict.once) == (4, 4)


AGAIN = delivered("b1", "lost", "t", m1="one", m2="two")
FIRST, _, SECOND, OTHER = GOOD.delivered


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        pytest.param({"delivered": GOOD.delivered[:3]}, {"lost"}, id="never delivered"),
        pytest.param(
            {"delivered": [*GOOD.delivered, AGAIN]},
            {"doubled", "overlapping", "strange"},
            id="two answers to one batch",
        ),
        pytest.param(
            {"delivered": [FIRST, SECOND, OTHER, delivered("b9", "r2", "t", m3="three")]},
            {"doubled", "overlapping"},
            id="in two batches",
        ),
        pytest.param(
            {"delivered": [FIRST, SECOND, delivered("b3", "r9", "u", m4="other")]},
            {"lost", "strange"},
            id="by no run",
        ),
        pytest.param(
            {"delivered": [FIRST, SECOND, delivered("b3", "bad", "u", m4="other")]},
            {"lost", "strange"},
            id="by a failed run",
        ),
        pytest.param(
            {"delivered": [FIRST, SECOND, dataclasses.replace(OTHER, reply="what?")]},
            {"strange"},
            id="another reply than the model's",
        ),
        pytest.param({"histories": {**GOOD.histories, "t": ONE_TWO}}, {"lost"}, id="forgotten"),
        pytest.param(
            {"histories": {**GOOD.histories, "t": [*ONE_TWO, *ONE_TWO, *THREE]}},
            {"doubled", "strange"},
            id="remembered twice",
        ),
        pytest.param(
            {"histories": {**GOOD.histories, "t": [*THREE, *ONE_TWO]}},
            {"out_of_order", "strange"},
            id="remembered in disorder",
        ),
        pytest.param(
            {"histories": {"t": [*GOOD.histories["t"], *said("other")], "u": []}},
            {"strange"},
            id="remembered elsewhere",
        ),
        pytest.param(
            {"histories": {**GOOD.histories, "u": [("user", "other")]}},
            {"strange"},
            id="remembered without its reply",
        ),
        pytest.param(
            {"histories": {**GOOD.histories, "u": [("user", "other"), ("assistant", "?")]}},
            {"strange"},
            id="another reply",
        ),
        pytest.param(
            {"requested": [[("user", "two")]]},
            {"strange"},
            id="requested without the earlier messages",
        ),
        pytest.param({"requested": [[*ONE_TWO, *ONE_TWO[:2]]]}, {"strange"}, id="requested twice"),
        pytest.param(
            {"stored": {**GOOD.stored, "m4": "r1"}}, {"strange"}, id="the status names another run"
        ),
        pytest.param({"failed": {"m4": "parked"}}, {"parked"}, id="parked"),
    ],
)
def test_every_kind_of_harm_is_seen(changes: dict[str, Any], found: set[str]) -> None:
    assert findings(**changes) == found


def test_what_several_workers_deliver_is_one_log(tmp_path: Path) -> None:
    assert Deliveries(tmp_path / "log").read() == []
    now = datetime.now(UTC)
    result = RunResult(
        thread_id="t",
        run_id="r1",
        batch_id="b1",
        message_ids=("m1", "m2"),
        messages_processed=2,
        status="completed",
        incomplete_reason=None,
        reply=reply_to(["one", "two"]),
        replies=(),
        usage=None,
        attempts=1,
        started_at=now,
        ended_at=now,
    )
    for _ in range(2):
        Deliveries(tmp_path / "log").add(result)
    assert Deliveries(tmp_path / "log").read() == [FIRST, FIRST]
