"""The judge of deliveries, on logs made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from assistant_queue.testing.chaos.delivery_oracle import (
    RepliesVerdict,
    judge_deliveries,
    words_of,
)

A = "t:1 says 1"
B = "t:1 says 2"
C = "w:2 says 1"
REPLIED = {"t:1": [(A,), (B,)], "w:2": [(C,)]}
SHOWN = {"t:1": [f"You said: {A}", f"You said: {B}"], "w:2": [f"You said: {C}"]}


def judged(
    shown: Mapping[str, Sequence[str]] | None = None,
    failed: Mapping[tuple[str, ...], str] | None = None,
    excused: Sequence[str] = (),
) -> RepliesVerdict:
    return judge_deliveries(
        REPLIED, SHOWN if shown is None else shown, failed or {}, blind="t:", excused=excused
    )


def findings(verdict: RepliesVerdict) -> dict[str, int]:
    names = ("parked", "lost", "doubled", "given_up", "out_of_order", "strange")
    return {name: value for name in names if (value := getattr(verdict, name))}


def test_all_is_well() -> None:
    verdict = judged()
    assert (verdict.replies, verdict.once, verdict.holds) == (3, 3, True)
    assert findings(verdict) == {}


def test_words_are_found_however_they_are_shown() -> None:
    assert words_of("You said: t:1 says 1 | t:1 says 12 [order]") == (A, "t:1 says 12")


@pytest.mark.parametrize("times", [0, 1])
def test_a_reply_of_unknown_fate_is_parked_where_the_platform_cannot_be_asked(times: int) -> None:
    verdict = judged({**SHOWN, "t:1": SHOWN["t:1"][: 1 + times]}, {(B,): "delivery_unknown"})
    assert verdict.holds
    assert findings(verdict) == {"parked": 1}


@pytest.mark.parametrize(
    ("shown", "failed", "found"),
    [
        ({"t:1": SHOWN["t:1"]}, {}, {"lost": 1}),
        ({**SHOWN, "w:2": SHOWN["w:2"] * 2}, {}, {"doubled": 1}),
        ({**SHOWN, "t:1": [*SHOWN["t:1"], SHOWN["t:1"][1]]}, {}, {"doubled": 1}),
        (SHOWN, {(C,): "delivery_unknown"}, {"given_up": 1}),
        (SHOWN, {(A,): "undelivered"}, {"given_up": 1}),
        ({**SHOWN, "t:1": SHOWN["t:1"][::-1]}, {}, {"out_of_order": 1}),
        ({**SHOWN, "w:2": [*SHOWN["w:2"], "You said: t:1 says 9"]}, {}, {"strange": 1}),
        ({**SHOWN, "w:9": ["You said: w:9 says 1"]}, {}, {"strange": 1}),
    ],
    ids=["lost", "doubled", "later", "asked", "undelivered", "order", "wrong chat", "from nowhere"],
)
def test_everything_else_is_found(
    shown: Mapping[str, Sequence[str]],
    failed: Mapping[tuple[str, ...], str],
    found: dict[str, int],
) -> None:
    verdict = judged(shown, failed)
    assert not verdict.holds
    assert findings(verdict) == found
    assert verdict.details


def test_what_redis_forgot_is_excused() -> None:
    assert judged({"t:1": SHOWN["t:1"]}, excused=[C]).holds


def test_a_chat_that_was_shown_nothing_is_fine() -> None:
    assert judged({**SHOWN, "w:9": []}).holds
