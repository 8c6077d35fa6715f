"""The judge of takeovers, on logs made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.takeover_oracle import (
    Handover,
    MessageFate,
    TakeoverEvidence,
    judge_takeovers,
    outcomes,
)
from assistant_queue.testing.provider import RunRecord
from tests.each import each


def ran(name: str, at: float, *texts: str, status: str = "completed") -> RunRecord:
    return RunRecord(
        name, "responses", "c", 1, texts, status=status, started_at=at, ended_at=at + 0.5
    )


def took(at: float, by: str, said: Any = True, **fields: Any) -> Handover:
    return Handover(
        thread="t", kind="take_over", at=at, ended_at=at + 0.1, by=by, said=said, **fields
    )


def words(at: float, text: str, **fields: Any) -> Sent:
    return Sent(text, "t", text, at, at, kind="tell", **fields)


def done(
    reply: str, by: str | None = None, run_id: str | None = None, at: float = 0.0
) -> MessageFate:
    return MessageFate(
        status="completed", reply=reply, answered_by=by, run_id=run_id, claimed_at=at
    )


FIRST, TWO, THREE, FOUR = (
    Sent("m1", "t", "one", 1.0),
    Sent("m2", "t", "two", 4.0),
    Sent("m3", "t", "three", 6.0),
    Sent("m4", "t", "four", 9.0),
)
JO, KIM = words(5.0, "Jo on two"), words(8.0, "Kim on three")
REFUSED = Handover(thread="t", kind="refuse", at=4.5, ended_at=4.6, by="Lou", said="Jo")
BACK = Handover(thread="t", kind="hand_back", at=10.0, ended_at=10.1, said=True)
LINES = [
    ("user", "one"),
    ("user", "two"),
    ("assistant", "Jo on two"),
    ("user", "three"),
    ("assistant", "Kim on three"),
    ("user", "four"),
    ("assistant", "You said: four"),
]
GOOD = TakeoverEvidence(
    sent=[FIRST, TWO, JO, THREE, KIM, FOUR],
    handovers=[took(2.0, "Jo"), REFUSED, took(7.0, "Kim"), BACK],
    fates={
        "m1": MessageFate(status="cancelled"),
        "m2": done("Jo on two", "Jo", at=5.1),
        "m3": done("Kim on three", "Kim", at=8.1),
        "m4": done("You said: four", run_id="r2", at=10.2),
    },
    runs=[ran("r1", 1.5, "one", status="cancelled"), ran("r2", 10.3, "four")],
    replied={"r2": ["four"]},
    conversations={"c": LINES},
)


def findings(**changes: Any) -> tuple[bool, str]:
    verdict, takeovers = judge_takeovers(replace(GOOD, **changes))
    text = "; ".join((*takeovers.details, *verdict.details))
    return verdict.holds and takeovers.holds, text


def fates(**changes: MessageFate) -> dict[str, MessageFate]:
    return {**GOOD.fates, **changes}


def lines(*changed: tuple[str, str], without: str = "") -> dict[str, list[tuple[str, str]]]:
    return {"c": [*(one for one in LINES if one[1] != without), *changed]}


def test_all_is_well() -> None:
    verdict, takeovers = judge_takeovers(GOOD)
    assert (verdict.holds, takeovers.holds, verdict.once) == (True, True, 4), findings()
    counts = (takeovers.by_person, takeovers.by_model, takeovers.cancelled, takeovers.said)
    assert counts == (2, 1, 1, 2)


def moved(text: str, to: int) -> dict[str, list[tuple[str, str]]]:
    found = [one for one in LINES if one[1] != text]
    found.insert(to, next(one for one in LINES if one[1] == text))
    return {"c": found}


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a run for what came meanwhile": (
        {"runs": [*GOOD.runs, ran("r3", 6.5, "three", status="failed")]},
        "r3 began while Jo had the thread, with 'three'",
    ),
    "claimed for a run meanwhile": (
        {"fates": fates(m4=done("You said: four", run_id="r2", at=9.5))},
        "was claimed for run r2 while Kim had the thread",
    ),
    "answered by a run instead of the person": (
        {"fates": fates(m2=done("You said: two", run_id="r2", at=10.2))},
        "'two': was answered by run r2; it can only",
    ),
    "in a run before the person answered": (
        {"runs": [*GOOD.runs, ran("r3", 4.9, "two", status="failed")]},
        "'two': was answered by Jo, and was in ['r3'] before",
    ),
    "a person and a run": (
        {"fates": fates(m2=done("Jo on two", "Jo", "r2"))},
        "was answered by Jo, and names run r2",
    ),
    "the wrong person": (
        {"fates": fates(m3=done("Kim on three", "Jo"))},
        "'three': was answered by Jo with 'Kim on three'",
    ),
    "later words than the first": (
        {"fates": fates(m2=done("Kim on three", "Kim"))},
        "'two': was answered by Kim with",
    ),
    "a person for what was never answered": (
        {"fates": fates(m4=done("Kim on three", "Kim"))},
        "'four': was answered by Kim with",
    ),
    "cancelled without a stop": (
        {"handovers": [took(2.0, "Jo", stops=False), REFUSED, took(7.0, "Kim"), BACK],
         "fates": fates(m2=MessageFate(status="cancelled"))},
        "'two': is cancelled; it can only",
    ),
    "not kept": ({"fates": fates(m4=MessageFate(status="queued"))}, "'four': is queued"),
    "lost": ({"fates": {}}, "'one': is None"),
    "answered by no run": ({"replied": {}}, "'four': was answered by []"),
    "answered by two runs": (
        {"replied": {"r2": ["four"], "r3": ["four"]}, "runs": [*GOOD.runs, ran("r3", 12, "four")]},
        "'four': was answered by ['r2', 'r3']",
    ),
    "another run than it names": (
        {"fates": fates(m4=done("You said: four", run_id="r9", at=10.2)), "repeats": True},
        "names run r9",
    ),
    "words that are missing": ({"conversations": lines(without="Jo on two")}, "is 0 times"),
    "words that are doubled": (
        {"conversations": lines(("assistant", "Jo on two"))},
        "'Jo on two': is 2 times",
    ),
    "words in the wrong role": (
        {"conversations": lines(("user", "Kim on three"), without="Kim on three")},
        "'Kim on three': is in the role of the user",
    ),
    "words in another conversation": (
        {"conversations": {**lines(without="Jo on two"), "d": [("assistant", "Jo on two")]}},
        "'Jo on two': is in d, and its thread in {'c'}",
    ),
    "words before what they answer": (
        {"conversations": moved("Jo on two", 1)},
        "'two': came after a later one, 'Jo on two'",
    ),
    "a message before earlier words": (
        {"conversations": moved("four", 4)},
        "'Kim on three': came after a later one, 'four'",
    ),
    "a message that is doubled": (
        {"conversations": lines(("user", "two"))},
        "'two': is completed, and in its conversation as ['user', 'user']",
    ),
    "a message that is missing": (
        {"conversations": lines(without="three")},
        "'three': is completed, and in its conversation as []",
    ),
    "a message in the wrong role": (
        {"conversations": lines(("assistant", "four"), without="four")},
        "'four': is completed, and in its conversation as ['assistant']",
    ),
    "a message of no producer": (
        {"conversations": lines(("user", "alien"))},
        "'alien': nobody sent it",
    ),
    "two runs at once": (
        {"runs": [*GOOD.runs, ran("r3", 10.4, "four", status="failed")]},
        "overlap",
    ),
    "a takeover that changed nothing": (
        {"handovers": [took(2.0, "Jo", said=False), REFUSED, took(7.0, "Kim"), BACK]},
        "take_over said False, not True",
    ),
    "a second person that is not refused": (
        {"handovers": [took(2.0, "Jo"), replace(REFUSED, said=True), took(7.0, "Kim"), BACK]},
        "refuse said True, not 'Jo'",
    ),
    "a refusal that names another": (
        {"handovers": [took(2.0, "Jo"), replace(REFUSED, said="Kim"), took(7.0, "Kim"), BACK]},
        "refuse said 'Kim', not 'Jo'",
    ),
    "handed back by nobody": (
        {"handovers": [took(2.0, "Jo"), REFUSED, took(7.0, "Kim"), replace(BACK, said=False)]},
        "hand_back said False, not True",
    ),
}  # fmt: skip


@each("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    changes, said = WRONG[name]
    holds, text = findings(**changes)
    assert not holds
    assert said in text, text


RIGHT: dict[str, dict[str, Any]] = {
    "words that Redis did not acknowledge are missing": {
        "sent": [FIRST, TWO, replace(JO, is_sure=False), THREE, KIM, FOUR],
        "conversations": lines(without="Jo on two"),
        "fates": fates(m2=done("Kim on three", "Kim", at=8.1)),
    },
    "words that Redis did not acknowledge are there": {
        "sent": [FIRST, TWO, replace(JO, is_sure=False), THREE, KIM, FOUR],
    },
    "the answer under way ends first": {
        "handovers": [took(2.0, "Jo", stops=False), REFUSED, took(7.0, "Kim"), BACK],
        "fates": fates(m1=done("You said: one", run_id="r1", at=1.2)),
        "runs": [ran("r1", 2.5, "one"), ran("r2", 10.3, "four")],
        "replied": {"r1": ["one"], "r2": ["four"]},
    },
    "the person answers what no worker had claimed": {
        "fates": fates(m1=done("Jo on two", "Jo", at=5.1)),
        "runs": GOOD.runs[1:],
    },
    "a later run reads what a person answered": {
        "runs": [GOOD.runs[0], ran("r2", 10.3, "two", "three", "four")],
        "replied": {"r2": ["two", "three", "four"]},
    },
    "a repeated call says nothing": {
        "handovers": [took(2.0, "Jo", said=None), REFUSED, took(7.0, "Kim"), BACK],
    },
    "the person has the thread to the end": {
        "handovers": GOOD.handovers[:-1],
        "sent": GOOD.sent[:-1],
        "fates": {one: fate for one, fate in GOOD.fates.items() if one != "m4"},
        "runs": GOOD.runs[:1],
        "conversations": {"c": LINES[:-2]},
    },
}


@each("name", RIGHT)
def test_what_is_right_is_not(name: str) -> None:
    assert findings(**RIGHT[name]) == (True, "")


def test_what_may_become_of_a_message() -> None:
    thread = [FIRST, took(2.0, "Jo"), TWO, JO, took(7.0, "Kim", stops=True), FOUR, BACK]
    assert outcomes(thread, 0) == {"a run": "", "cancelled": "", "Jo on two": "Jo"}
    assert outcomes(thread, 2) == {"Jo on two": "Jo"}
    assert outcomes(thread, 5) == {"a run": ""}
    late = [FIRST, took(2.0, "Jo", stops=False), took(3.0, "Kim"), BACK, took(11.0, "Jo")]
    assert outcomes(late, 0) == {"a run": "", "cancelled": ""}
    assert outcomes(late[:2], 0) == {"a run": ""}
