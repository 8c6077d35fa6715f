"""Batches that no run answers: they are written to the conversation."""

from __future__ import annotations

from dataclasses import replace

import pytest
from flow_harness import CONVERSATIONS, Scripted, claimed, messages

from assistant_queue.core import steps
from assistant_queue.core.flow import Rules
from assistant_queue.core.flow.preparation import MAX_WRITTEN
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import WRITTEN, Capabilities, FoundBy
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import OutcomeUnknown, RequestRefused
from assistant_queue.models import Message

QUIET = messages("one", "two", author="Mia", wants_reply=False)
SAID = Message(id="s", content="Hi!", author="Jo", role="assistant", wants_reply=False)
HISTORY = Capabilities(found_by=FoundBy.NOT_AT_ALL, conversations=False, writes=True)
SENDS = {steps.Start: WRITTEN[0], steps.Watch: replace(WRITTEN[1], anchor="item_9")}
OURS = Rules(instructions=True, delivers=True, fallback="Sorry!")
"""Nothing of these is for a batch without a run."""


def test_it_is_sent_as_a_batch_without_instructions_and_delivers_nothing() -> None:
    driver = Scripted(rules=OURS)
    ending = driver.run(claimed(*QUIET, SAID), SENDS)
    assert driver.names == ["Save(sending)", "Start", "Save(running)", "Watch", "Finish"]
    request = driver.only(steps.Start).request
    assert (request.writes, request.instructions) == (True, None)
    assert [(item.role, item.content) for item in request.items] == [
        ("user", "Mia: one"),
        ("user", "Mia: two"),
        ("assistant", "Hi!"),
    ]
    finish = driver.only(steps.Finish)
    assert (finish.delivers, finish.anchor) == (False, "item_9")
    assert (finish.result.run_id, finish.result.reply) == ("", None)
    assert finish.result.message_ids == ("m1", "m2", "s")
    assert isinstance(ending, steps.Completed)


def test_the_author_of_a_reply_signs_nothing() -> None:
    driver = Scripted()
    driver.run(claimed(*messages("one", wants_reply=False), SAID), SENDS)
    assert [item.content for item in driver.only(steps.Start).request.items] == ["one", "Hi!"]


def test_it_joins_a_history_of_our_own_with_its_result_and_nothing_is_stored_before() -> None:
    driver = Scripted(capabilities=HISTORY)
    driver.run(claimed(SAID), {**SENDS, steps.Watch: replace(WRITTEN[1], anchor="[history]")})
    assert driver.names == ["Start", "Watch", "Finish"]
    assert driver.only(steps.Finish).anchor == "[history]"


@pytest.mark.parametrize("error", [RequestRefused("400", counts=True), OutcomeUnknown("lost")])
def test_it_is_tried_again_and_fails_without_a_fallback(error: Exception) -> None:
    driver = Scripted(rules=replace(OURS, max_attempts=1))
    driver.run(claimed(SAID), {steps.Start: error})
    if isinstance(error, OutcomeUnknown):
        assert driver.only(steps.Postpone).phase is Phase.SENDING
        return
    bury = driver.only(steps.Bury)
    assert (bury.reason, bury.fallback, bury.result) == ("attempts", None, None)


def test_after_a_lost_answer_the_provider_is_asked() -> None:
    driver = Scripted()
    sent = Progress(attempts=1, located=True, anchor="item_0", sent_ms=1)
    ending = driver.run(claimed(SAID, phase=Phase.SENDING, progress=sent), {steps.Find: WRITTEN[1]})
    assert driver.names == ["Find", "Finish"]
    assert driver.only(steps.Find).request.writes
    assert isinstance(ending, steps.Completed)


def test_one_that_was_accepted_is_not_sent_again() -> None:
    driver = Scripted()
    accepted = Progress(attempts=1, located=True, run_id="", deadline_ms=2**50)
    driver.run(
        claimed(SAID, phase=Phase.RUNNING, progress=accepted),
        {steps.Follow: WRITTEN[0], steps.Watch: WRITTEN[1]},
    )
    assert driver.names == ["Follow", "Watch", "Finish"]


def test_more_than_one_call_takes_are_written_one_after_the_other() -> None:
    parts = [{"type": "text", "text": "one"}]
    many = tuple(
        Message(id=f"m{number}", content=parts, wants_reply=False)
        for number in range(MAX_WRITTEN + 1)
    )
    driver = Scripted()
    driver.run(claimed(*many, SAID), SENDS)
    assert driver.only(steps.Trim).keep == MAX_WRITTEN
    assert len(driver.only(steps.Start).request.items) == MAX_WRITTEN
    assert driver.only(steps.Start).request.writes


@pytest.mark.parametrize("batch", [(SAID,), (*messages("one"), SAID)])
def test_a_backend_that_cannot_write_refuses_it(batch: tuple[Message, ...]) -> None:
    driver = Scripted(capabilities=replace(CONVERSATIONS, writes=False))
    driver.run(claimed(*batch))
    assert driver.names == ["Bury"]
    bury = driver.only(steps.Bury)
    assert (bury.reason, bury.error.code) == ("refused", "not_supported")


def test_a_batch_of_version_0_1_is_answered_with_what_was_said_in_it() -> None:
    """Its claim does not end a batch at a reply of `say`."""
    driver = Scripted()
    driver.run(claimed(SAID, *messages("one")))
    request = driver.only(steps.Start).request
    assert [item.role for item in request.items] == ["assistant", "user"]
    assert not request.writes
