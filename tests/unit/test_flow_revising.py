"""Edits and removals of messages that reach into a batch under way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from flow_harness import ASSISTANTS, CONVERSATIONS, Scripted, action, call, claimed, messages

from assistant_queue.core import steps
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Capabilities, FoundBy, NotFound, RunEnded
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.models import Message

CHAT = Capabilities(
    found_by=FoundBy.NOT_AT_ALL, conversations=False, stateless=True, writes=True, steers=True
)


def running(**fields: Any) -> Progress:
    """The progress of a batch with a run that is under way."""
    known = {"attempts": 1, "located": True, "anchor": "item_0", "run_id": "run_1"}
    return Progress(**{**known, "deadline_ms": 2**50, **fields})


CANCELLED = RunEnded(run_id="run_1", status="cancelled")
ONE, TWO = messages("one", "two")
EDITED = replace(ONE, content="uno")


def revised(
    capabilities: Capabilities,
    revisions: Mapping[str, Message | None],
    *,
    progress: Progress | None = None,
    phase: Phase = Phase.RUNNING,
    answers: Mapping[type[Any], Any] | None = None,
) -> Scripted:
    """Claim a batch under way that is to be revised."""
    driver = Scripted(capabilities=capabilities)
    driver.run(
        claimed(phase=phase, progress=progress or running(), wish=Wish.INTERRUPT),
        {
            steps.CloseStream: (),
            steps.ReadRevisions: steps.Revisions(messages=revisions, count="1"),
            steps.Revise: True,
            steps.Join: lambda _: steps.Joined(messages=driver.only(steps.Revise).messages),
            **(answers or {}),
        },
    )
    return driver


def sent(driver: Scripted) -> list[Any]:
    return [item.content for item in driver.only(steps.Start).request.items]


@pytest.mark.parametrize(
    ("revision", "left"), [(EDITED, ["uno", "two"]), (None, ["two"])], ids=["edit", "removal"]
)
def test_a_text_that_is_nowhere_is_changed_in_its_place(
    revision: Message | None, left: list[str]
) -> None:
    finding = [CANCELLED, NotFound(anchor="item_0")]
    driver = revised(CONVERSATIONS, {"m1": revision}, answers={steps.Find: finding})
    assert sent(driver) == left
    assert driver.only(steps.Revise).progress.stored == 0


def test_an_edited_text_that_is_stored_is_sent_again_at_the_end() -> None:
    driver = revised(ASSISTANTS, {"m1": EDITED}, answers={steps.Find: CANCELLED})
    assert sent(driver) == ["uno"]
    revise = driver.only(steps.Revise)
    assert [message.text for message in revise.messages] == ["two", "uno"]
    assert revise.progress.stored == 1


def test_a_removed_text_that_is_stored_is_no_part_of_the_batch_any_more() -> None:
    driver = revised(ASSISTANTS, {"m1": None}, answers={steps.Find: CANCELLED})
    assert sent(driver) == []
    revise = driver.only(steps.Revise)
    assert [message.text for message in revise.messages] == ["two"]
    assert revise.progress.stored == 1
    assert driver.only(steps.Finish).result.message_ids == ("m2",)


def test_after_a_round_an_edited_text_goes_with_the_outputs() -> None:
    driver = revised(
        CONVERSATIONS,
        {"m2": replace(TWO, content="dos")},
        answers={steps.Find: [action(1), NotFound(anchor="item_0")]},
    )
    submit = driver.only(steps.Submit)
    assert [item.content for item in submit.request.added] == ["dos"]
    assert list(submit.outputs) == ["call_1"]
    assert driver.all(steps.Answer) == []


def test_an_edit_goes_with_the_outputs_if_nothing_is_left_that_the_run_began_with() -> None:
    driver = revised(
        CONVERSATIONS,
        {"m1": EDITED, "m2": None},
        answers={steps.Find: [action(1), NotFound(anchor="item_0")]},
    )
    submit = driver.only(steps.Submit)
    assert [item.content for item in submit.request.added] == ["uno"]
    revise = driver.only(steps.Revise)
    assert (revise.progress.begun_before, revise.progress.begun) == (True, 0)


def test_an_answer_to_what_was_edited_since_is_not_that_to_the_edit() -> None:
    progress = running(calls=(call(1),), outputs={"call_1": "rain"}, begun_before=True, sent_ms=0)
    driver = Scripted(capabilities=CONVERSATIONS)
    ended = RunEnded(run_id="run_2", status="completed", replies=("hi",), steered=0)
    driver.run(
        claimed(EDITED, phase=Phase.SENDING, progress=progress, wish=Wish.INTERRUPT),
        {
            steps.CloseStream: (),
            steps.Find: ended,
            steps.Join: steps.Joined(messages=(EDITED,)),
        },
    )
    assert sent(driver) == ["uno"]


def test_what_the_queue_sends_again_is_changed_in_its_place_even_after_a_round() -> None:
    progress = running(calls=(call(1),), transcript="[]", outputs={"call_1": "rain"})
    driver = revised(
        CHAT,
        {"m1": EDITED},
        progress=progress,
        phase=Phase.SENDING,
    )
    submit = driver.only(steps.Submit)
    assert [item.content for item in submit.request.items] == ["uno", "two"]
    assert submit.request.added == ()


def test_if_nothing_is_left_the_batch_is_stopped() -> None:
    driver = Scripted(capabilities=CHAT)
    ending = driver.run(
        claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.INTERRUPT),
        {
            steps.CloseStream: [(), ()],
            steps.ReadRevisions: steps.Revisions(messages={"m1": None, "m2": None}, count="2"),
        },
    )
    assert isinstance(ending, steps.Stopped)
    assert driver.all(steps.Revise) == driver.all(steps.Join) == []


def test_revisions_that_come_meanwhile_are_read_again() -> None:
    driver = Scripted(capabilities=CHAT)
    found = [
        steps.Revisions(messages={"m1": EDITED}, count="1"),
        steps.Revisions(messages={"m1": None}, count="2"),
    ]
    driver.run(
        claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.INTERRUPT),
        {
            steps.CloseStream: (),
            steps.ReadRevisions: found,
            steps.Revise: [False, True],
            steps.Join: steps.Joined(messages=(TWO,)),
        },
    )
    assert sent(driver) == ["two"]


def test_a_message_that_joined_after_its_outputs_had_left_is_the_next_batch() -> None:
    progress = running(
        calls=(call(1),), outputs={"call_1": "rain"}, begun=1, given=1, adding=2, sent_ms=0
    )
    driver = Scripted(capabilities=CONVERSATIONS)
    found = RunEnded(run_id="run_2", status="completed", replies=("hi",), steered=0)
    driver.run(claimed(phase=Phase.SENDING, progress=progress), {steps.Find: found})
    assert driver.only(steps.Trim).keep == 1
    assert driver.only(steps.Finish).result.message_ids == ("m1",)


def test_a_message_that_went_with_the_outputs_is_answered_by_them() -> None:
    progress = running(
        calls=(call(1),), outputs={"call_1": "rain"}, begun=1, given=1, adding=2, sent_ms=0
    )
    driver = Scripted(capabilities=CONVERSATIONS)
    found = RunEnded(run_id="run_2", status="completed", replies=("hi",), steered=1)
    driver.run(claimed(phase=Phase.SENDING, progress=progress), {steps.Find: found})
    assert driver.all(steps.Trim) == []
    assert driver.only(steps.Finish).result.message_ids == ("m1", "m2")
