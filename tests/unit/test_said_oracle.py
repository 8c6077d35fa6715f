"""The judge of replies of `say`, on logs made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.said_oracle import SaidVerdict, judge_said

FIRST = Sent("a", "t", "t says 1", 0.0)
NOTE = Sent("n", "t", "t notes 1", 1.0, kind="note")
TOLD = Sent("s", "t", "t tells 1", 2.0, kind="tell")
LAST = Sent("b", "t", "t says 2", 3.0)
SENT = (FIRST, NOTE, TOLD, LAST)
WHOLE = (
    "t says 1",
    "You said: t says 1",
    "t notes 1",
    "t tells 1",
    "t says 2",
    "You said: t says 2",
)


def judged(
    texts: Sequence[str] = WHOLE,
    failed: Mapping[str, str] | None = None,
    *,
    elsewhere: Sequence[str] = (),
    told: Sent = TOLD,
) -> SaidVerdict:
    sent = [told if message is TOLD else message for message in SENT]
    return judge_said(sent, {"conv": texts, "other": elsewhere}, failed or {})


def findings(verdict: SaidVerdict) -> dict[str, int]:
    names = ("unsure", "lost", "doubled", "failed", "out_of_order", "strange")
    return {name: value for name in names if (value := getattr(verdict, name))}


def without(text: str) -> tuple[str, ...]:
    return tuple(one for one in WHOLE if one != text)


def test_all_is_well() -> None:
    verdict = judged()
    assert (verdict.said, verdict.once, verdict.holds) == (1, 1, True)
    assert findings(verdict) == {}


@pytest.mark.parametrize(
    ("verdict", "found"),
    [
        (judged(without("t tells 1")), {"lost": 1}),
        (judged((*WHOLE, "t tells 1")), {"doubled": 1}),
        (judged(without("t tells 1"), {"s": "refused"}), {"failed": 1}),
        (judged(("t tells 1", *without("t tells 1"))), {"out_of_order": 2}),
        (judged((*without("t tells 1"), "t tells 1")), {"out_of_order": 1}),
        (judged(without("t tells 1"), elsewhere=("t tells 1",)), {"strange": 1}),
    ],
)
def test_what_is_wrong_is_found(verdict: SaidVerdict, found: dict[str, int]) -> None:
    assert findings(verdict) == found
    assert not verdict.holds
    assert verdict.details


@pytest.mark.parametrize("texts", [WHOLE, without("t tells 1")])
def test_one_that_redis_did_not_acknowledge_may_be_there_or_not(texts: Sequence[str]) -> None:
    verdict = judged(texts, told=replace(TOLD, is_sure=False))
    assert verdict.holds
    assert findings(verdict) == {"unsure": 1}


def test_one_that_is_not_sure_is_not_there_twice() -> None:
    verdict = judged((*WHOLE, "t tells 1"), told=replace(TOLD, is_sure=False))
    assert findings(verdict) == {"doubled": 1}
