"""The judge of the chaos runner, on logs made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.testing.chaos.forgetting import Forgotten, excused
from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.provider import OutputGiven, Overlap, RunRecord

SENT = [Sent("m1", "t", "one", 0.0), Sent("m2", "t", "two", 0.0), Sent("m3", "u", "three", 1.0)]


def ran(
    name: str,
    *texts: str,
    at: float = 0.0,
    end: float | None = 1.0,
    status: str = "completed",
    conversation: str = "ct",
    **more: Any,
) -> RunRecord:
    return RunRecord(
        name,
        "responses",
        conversation,
        1,
        texts,
        status=status,
        started_at=at,
        ended_at=end,
        **more,
    )


GOOD = [ran("r1", "one", "two"), ran("r2", "three", conversation="cu", at=0.5, end=3.0)]
HELD = {"ct": ["one", "two"], "cu": ["three"]}


def judged(runs: list[RunRecord], held: dict[str, list[str]] | None = None, **more: Any) -> Verdict:
    replied = more.pop("replied", {run.id: run.user_texts for run in runs})
    return judge(
        SENT,
        runs,
        HELD if held is None else held,
        replied=replied,
        failed=more.pop("failed", {}),
        **more,
    )


def findings(verdict: Verdict) -> dict[str, int]:
    names = ("lost", "doubled", "parked", "dead", "overlapping", "out_of_order", "strange")
    return {name: value for name in names if (value := getattr(verdict, name))}


def test_all_is_well() -> None:
    verdict = judged(GOOD)
    assert verdict.holds
    assert (verdict.sent, verdict.once, findings(verdict), verdict.details) == (3, 3, {}, ())
    assert verdict.waits == (1.0, 1.0, 2.0)


def test_a_tool_round_of_responses_is_its_own_run() -> None:
    rounds = [
        ran("r1", "one", "two", end=1.0),
        ran("r1b", at=1.5, end=2.0, outputs=(OutputGiven("c", "f", "o"),)),
        GOOD[1],
    ]
    assert judged(rounds, replied={"r1b": ("one", "two"), "r2": ("three",)}).holds


def test_messages_of_a_large_batch_are_joined_in_one_item() -> None:
    held = {"ct": ["one\ntwo"], "cu": ["three"]}
    joined = [ran("r1", "one\ntwo"), GOOD[1]]
    assert judged(joined, held).holds
    strange = judged([ran("r1", "one\nzwei"), GOOD[1]], held)
    assert findings(strange) == {"lost": 2, "strange": 1}
    doubled = judged([ran("r1", "one\ntwo\none"), GOOD[1]], held)
    assert findings(doubled) == {"doubled": 1}


@pytest.mark.parametrize(
    ("runs", "held", "more", "found"),
    [
        pytest.param(GOOD[:1], HELD, {}, {"lost": 1}, id="no run"),
        pytest.param([GOOD[0], ran("r2", "three", status="failed", conversation="cu")], HELD, {}, {"lost": 1}, id="a failed run"),
        pytest.param(GOOD, {"ct": ["one", "two"], "cu": []}, {}, {"lost": 1}, id="not in the conversation"),
        pytest.param(GOOD, HELD, {"replied": {"r1": ("one", "two")}}, {"lost": 1}, id="tools called, never answered"),
        pytest.param([*GOOD, ran("r3", "two", at=2.0)], HELD, {}, {"doubled": 1}, id="two runs"),
        pytest.param(GOOD, {"ct": ["one", "two", "two"], "cu": ["three"]}, {}, {"doubled": 1}, id="twice in the conversation"),
        pytest.param(GOOD, {**HELD, "cx": ["three"]}, {}, {"doubled": 1, "strange": 1}, id="in two conversations"),
        pytest.param(GOOD[:1], {"ct": ["one", "two"]}, {"failed": {"m3": "parked"}}, {"parked": 1}, id="parked"),
        pytest.param(GOOD[:1], {"ct": ["one", "two"]}, {"failed": {"m3": "attempts"}}, {"dead": 1}, id="a dead letter"),
        pytest.param(GOOD, HELD, {"failed": {"m3": "worker_deaths"}}, {"dead": 1}, id="answered and in the failed list"),
        pytest.param([*GOOD, ran("r0", at=0.5, status="failed")], HELD, {}, {"overlapping": 1}, id="two at once"),
        pytest.param([*GOOD, ran("r0", at=0.5, end=None, status="in_progress")], HELD, {}, {"overlapping": 1}, id="one still open"),
        pytest.param(GOOD, HELD, {"overlaps": (Overlap(0.0, "ct", "r1", ("r9",)),)}, {"overlapping": 1}, id="the provider saw two at once"),
        pytest.param([ran("r1", "two", "one"), GOOD[1]], HELD, {}, {"out_of_order": 1}, id="swapped in a run"),
        pytest.param([ran("r1", "two"), ran("r0", "one", at=2.0), GOOD[1]], HELD, {}, {"out_of_order": 1}, id="swapped between runs"),
        pytest.param(GOOD, {"ct": ["two", "one"], "cu": ["three"]}, {}, {"out_of_order": 1}, id="swapped in the conversation"),
        pytest.param([*GOOD, ran("r3", "four", at=5.0)], HELD, {}, {"strange": 1}, id="sent by nobody"),
    ],
)  # fmt: skip
def test_every_kind_of_harm_is_seen(
    runs: list[RunRecord], held: dict[str, list[str]], more: dict[str, Any], found: dict[str, int]
) -> None:
    verdict = judged(runs, held, **more)
    assert findings(verdict) == found
    assert not verdict.holds
    assert verdict.details


# --- what Redis forgot ----------------------------------------------------------------------------

LATE = [
    Sent("m1", "t", "one", 0.0, 0.1),
    Sent("m2", "t", "two", 5.0, 5.1),
    Sent("m3", "u", "three", 9.0, 9.1),
]
RUNS = [
    ran("r1", "one", at=0.2, end=1.0),
    ran("r2", "two", at=5.2, end=6.0),
    ran("r3", "three", at=9.2, end=9.5, conversation="cu"),
]


@pytest.mark.parametrize(
    ("moments", "texts"),
    [
        ([], set()),
        ([Forgotten(2.1, 2.15)], set()),
        ([Forgotten(2.1, 2.25)], {"two"}),
        ([Forgotten(5.0, 5.15)], {"two"}),
        ([Forgotten(5.5, 5.6)], {"two"}),
        ([Forgotten(6.1, 6.15)], {"two"}),
        ([Forgotten(0.0, 0.1), Forgotten(9.3, 9.3)], {"one", "three"}),
    ],
)
def test_only_what_was_in_the_air_when_redis_forgot_is_excused(
    moments: list[Forgotten], texts: set[str]
) -> None:
    assert excused(LATE, RUNS, {}, moments) == texts


def test_what_is_excused_may_be_lost_doubled_late_or_split_and_nothing_else_may() -> None:
    twice = [*RUNS, ran("r4", "two", at=5.5, end=7.0, conversation="cx")]
    held = {"ct": ["one", "two"], "cx": ["two"]}

    def judged(pardoned: set[str]) -> Verdict:
        replied = {run.id: run.user_texts for run in twice}
        return judge(
            LATE,
            [run for run in twice if run.id != "r3"],
            held,
            replied=replied,
            failed={},
            excused=frozenset(pardoned),
        )

    verdict = judged({"two", "three"})
    assert verdict.holds
    assert (verdict.once, verdict.excused_lost, verdict.excused_doubled) == (1, 1, 1)
    assert findings(judged({"two"})) == {"lost": 1}
    assert findings(judged({"three"})) == {"doubled": 1, "strange": 1}
    assert not judge(
        LATE,
        RUNS,
        {},
        replied={},
        failed={"m3": "attempts"},
        excused=frozenset({"one", "two", "three"}),
    ).holds


@pytest.mark.parametrize(
    ("runs", "held", "times"),
    [
        ([], ["note"], (1, 0, 0)),
        ([ran("r1", "note")], ["note"], (1, 0, 0)),
        ([], [], (0, 1, 0)),
        ([], ["note", "note"], (0, 1, 1)),
        ([ran("r1", "note"), ran("r2", "note", at=2.0, end=3.0)], ["note"], (0, 0, 1)),
    ],
)
def test_a_message_that_wants_no_reply_is_in_its_conversation_once_with_a_run_or_without(
    runs: list[RunRecord], held: list[str], times: tuple[int, int, int]
) -> None:
    note = Sent("n", "t", "note", 0.0, kind="note")
    replied = {run.id: run.user_texts for run in runs}
    verdict = judge([note], runs, {"ct": held}, replied=replied, failed={})
    assert (verdict.once, verdict.lost, verdict.doubled) == times
