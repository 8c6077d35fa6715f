"""A batch in a conversation that is too long for the model, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flow_harness import ASSISTANTS, CONVERSATIONS, DONE, Scripted, action, claimed

from assistant_queue.core import steps
from assistant_queue.core.flow import Rules
from assistant_queue.core.flow.context import MAX_SHORTENED
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Capabilities, NotFound, RunEnded
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    UnknownThread,
)
from assistant_queue.models import ErrorInfo
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.trouble import Kind, Trouble

NOW = FakeClock().ms
OVERLONG = Trouble(kind=Kind.CONTEXT_OVERFLOW, status=400)
REFUSED = RequestRefused("too long", trouble=OVERLONG)
TOO_LONG = RunEnded(
    run_id="run_1",
    status="failed",
    error=ErrorInfo(code="context_length_exceeded", message="too long"),
    trouble=OVERLONG,
    retryable=False,
)
BOTH = pytest.mark.parametrize(
    "capabilities", [ASSISTANTS, CONVERSATIONS], ids=["assistants", "conversations"]
)


def moved(driver: Scripted) -> steps.MoveThread:
    step = driver.only(steps.MoveThread)
    assert isinstance(step, steps.MoveThread)
    return step


# --- a new conversation ---------------------------------------------------------------------------


@BOTH
def test_a_batch_refused_for_its_length_continues_in_a_new_conversation_at_once(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(), {steps.Start: REFUSED})
    assert driver.names == [
        "Save(sending)",
        "Start",
        "RenewConversation",
        "MoveThread",
        "Postpone(retrying)",
    ]
    move = moved(driver)
    postponed = driver.only(steps.Postpone)
    assert (move.old_id, move.conversation_id, move.anchor, move.is_new, move.drops_old) == (
        "conv_1",
        "conv_2",
        "item_2",
        True,
        False,
    )
    # The attempt ends after the move.
    kept = replace(postponed.progress, tries=move.progress.tries)
    assert (move.phase, move.progress) == (Phase.FROZEN, kept), (
        "the move and the place in the conversation are one step"
    )
    assert (
        move.progress.anchor,
        move.progress.origin,
        move.progress.attempts,
        move.progress.failures,
    ) == ("item_2", "conv_1", 0, 0)
    assert postponed.wait_s == 0

    driver.run(claimed(conversation_id="conv_2", anchor="item_2", progress=postponed.progress))
    request = driver.only(steps.Start).request
    assert driver.names[:2] == ["Save(sending)", "Start"]
    assert (request.conversation_id, request.anchor, request.renewed, len(request.items)) == (
        "conv_2",
        "item_2",
        True,
        2,
    )


def test_a_refusal_that_may_be_about_the_length_is_met_in_the_same_way() -> None:
    wordless = RequestRefused("bad request", trouble=Trouble(kind=Kind.MALFORMED, status=400))
    driver = Scripted()
    driver.run(claimed(), {steps.Start: wordless})
    assert driver.names[-1] == "Bury", "the backend has not said so"
    wordless.outgrown = True
    driver.run(claimed(), {steps.Start: wordless})
    assert driver.names[-3:] == ["RenewConversation", "MoveThread", "Postpone(retrying)"]


@pytest.mark.parametrize(
    ("capabilities", "thread_id", "mode"),
    [
        (replace(CONVERSATIONS, renews=False), "thread", "auto"),
        (CONVERSATIONS, "conv_0123456789abcdef", "auto"),
        (CONVERSATIONS, "thread", "provider"),
    ],
)
@pytest.mark.parametrize(
    "answers", [{steps.Start: REFUSED}, {steps.Watch: TOO_LONG}], ids=["refused", "failed"]
)
def test_where_no_other_conversation_can_be_had_the_batch_is_refused(
    capabilities: Capabilities, thread_id: str, mode: Any, answers: dict[type[Any], Any]
) -> None:
    driver = Scripted(capabilities, Rules(thread_ids=mode))
    base = claimed()
    ending = driver.run(replace(base, batch=replace(base.batch, thread_id=thread_id)), answers)
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.message) == ("refused", "too long")
    assert driver.names[-1] == "Bury"
    assert "RenewConversation" not in driver.names


@BOTH
def test_a_run_that_fails_for_its_length_continues_in_a_new_conversation(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(), {steps.Watch: TOO_LONG})
    assert driver.names[-3:] == ["RenewConversation", "MoveThread", "Postpone(retrying)"]
    progress = moved(driver).progress
    assert moved(driver).phase is Phase.FROZEN, "nothing of it can be there"
    assert (progress.run_id, progress.calls, progress.already_in_thread) == (None, (), False)
    driver.run(claimed(conversation_id="conv_2", phase=moved(driver).phase, progress=progress))
    assert driver.names[:2] == ["Save(sending)", "Start"]
    assert len(driver.only(steps.Start).request.items) == 2, "the texts are not in the new one"


def test_outputs_given_to_a_run_that_failed_for_its_length_are_submitted_in_the_new_conversation() -> (
    None
):
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [action(1), replace(TOO_LONG, run_id="run_2")]})
    move = moved(driver)
    assert [one.id for one in driver.only(steps.RenewConversation).calls] == ["call_1"]
    assert (move.phase, move.progress.sent_ms, move.progress.outputs) == (
        Phase.SENDING,
        0,
        {"call_1": "output of call_1"},
    )
    driver.run(claimed(conversation_id="conv_2", phase=move.phase, progress=move.progress))
    assert driver.names == ["Save(sending)", "Submit", "Save(running)", "Watch", "Finish"]
    assert dict(driver.only(steps.Submit).outputs) == {"call_1": "output of call_1"}


def test_outputs_given_to_a_run_that_can_be_shortened_are_submitted_to_another_at_once() -> None:
    driver = Scripted()
    driver.run(
        claimed(),
        {steps.Watch: [action(1), replace(TOO_LONG, run_id="run_2", retryable=True, counts=False)]},
    )
    postponed = driver.only(steps.Postpone)
    driver.run(claimed(phase=postponed.phase, progress=postponed.progress))
    assert driver.names[:2] == ["Save(sending)", "Submit"]
    assert driver.only(steps.Submit).request.shortened == 1


def test_calls_whose_outputs_were_given_in_vain_are_left_open_by_a_batch_that_is_given_up() -> None:
    driver = Scripted()
    driver.run(
        claimed(),
        {
            steps.Watch: [action(1), replace(TOO_LONG, run_id="run_2")],
            steps.RenewConversation: [None],
        },
    )
    assert driver.only(steps.Bury).open_calls == ("call_1",)


def test_a_worker_that_takes_over_a_run_that_fails_for_its_length_knows_what_it_was_given() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [action(1), DONE]})
    running = driver.all(steps.Save)[-1].progress
    driver.run(
        claimed(phase=Phase.RUNNING, progress=running),
        {steps.Watch: replace(TOO_LONG, run_id="run_2")},
    )
    assert driver.names[0] == "Follow"
    assert [one.id for one in moved(driver).progress.calls] == ["call_1"]


def test_outputs_that_are_refused_in_the_new_conversation_for_a_passing_reason_are_submitted_there_again() -> (
    None
):
    moved_here = Progress(
        located=True,
        anchor="item_2",
        origin="conv_1",
        calls=action(1).calls,
        outputs={"call_1": "x"},
        attempts=1,
    )
    driver = Scripted()
    busy = ConversationBusy("locked", counts=False)
    driver.run(
        claimed(conversation_id="conv_2", phase=Phase.SENDING, progress=moved_here),
        {steps.Submit: busy},
    )
    again = driver.only(steps.Postpone)
    driver.run(claimed(conversation_id="conv_2", phase=again.phase, progress=again.progress))
    assert driver.names[:2] == ["Save(sending)", "Submit"]


def test_outputs_whose_answer_was_lost_in_the_new_conversation_are_looked_for_there() -> None:
    sent = Progress(
        located=True,
        origin="conv_1",
        calls=action(1).calls,
        outputs={"call_1": "x"},
        attempts=1,
        sent_ms=NOW - 36_000,
    )
    driver = Scripted()
    driver.run(
        claimed(conversation_id="conv_2", phase=Phase.SENDING, progress=sent),
        {steps.Find: NotFound(anchor="item_3")},
    )
    assert driver.names[:3] == ["Find", "Save(sending)", "Submit"]


def test_outputs_refused_for_their_length_are_submitted_in_the_new_conversation_and_not_computed_again() -> (
    None
):
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: action(1), steps.Submit: REFUSED})
    assert driver.names[-4:] == ["Submit", "RenewConversation", "MoveThread", "Postpone(retrying)"]
    assert [one.id for one in driver.only(steps.RenewConversation).calls] == ["call_1"]
    move = moved(driver)
    assert (move.phase, move.progress.sent_ms, [one.id for one in move.progress.calls]) == (
        Phase.SENDING,
        0,
        ["call_1"],
    )

    driver.run(claimed(conversation_id="conv_2", phase=move.phase, progress=move.progress))
    assert driver.names == ["Save(sending)", "Submit", "Save(running)", "Watch", "Finish"], (
        "they were never sent there"
    )
    submit = driver.only(steps.Submit)
    assert (
        submit.request.conversation_id,
        submit.request.anchor,
        [one.id for one in submit.calls],
    ) == ("conv_2", "item_2", ["call_1"])
    assert dict(submit.outputs) == {"call_1": "output of call_1"}
    assert driver.only(steps.Finish).result.attempts == 1


def test_a_run_that_waits_for_outputs_cannot_be_moved() -> None:
    driver = Scripted(ASSISTANTS)
    driver.run(claimed(), {steps.Watch: action(1), steps.Submit: REFUSED})
    assert driver.names[-3:] == ["Submit", "Cancel", "Bury"]


def test_a_conversation_that_is_still_too_long_is_begun_anew_again_and_the_one_between_is_dropped() -> (
    None
):
    driver = Scripted()
    progress = Progress(located=True, anchor="item_2", origin="conv_1")
    driver.run(
        claimed(conversation_id="conv_2", progress=progress),
        {steps.Start: REFUSED, steps.RenewConversation: ("conv_3", None)},
    )
    move = moved(driver)
    assert (move.old_id, move.conversation_id, move.anchor, move.drops_old) == (
        "conv_2",
        "conv_3",
        None,
        True,
    )
    assert (move.progress.origin, move.progress.anchor) == ("conv_1", None)


# --- when that does not go well -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "counted", "wait_s"),
    [
        (OutcomeUnknown("lost"), 1, 5.0),
        (RequestRefused("429", counts=False, retry_after_s=7.0), 0, 7.0),
        (ConversationBusy("locked", counts=False), 0, 5.0),
    ],
)
def test_a_renewal_that_fails_for_now_is_made_again_later(
    error: BackendError, counted: int, wait_s: float
) -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Start: REFUSED, steps.RenewConversation: error})
    postponed = driver.only(steps.Postpone)
    assert (postponed.state, postponed.phase, postponed.wait_s) == (
        ThreadState.RETRYING,
        Phase.FROZEN,
        wait_s,
    )
    assert (
        postponed.progress.failures,
        postponed.progress.attempts,
        postponed.progress.origin,
    ) == (counted, 0, None)
    assert postponed.progress.error.message == str(error)


def test_a_renewal_is_not_tried_for_ever() -> None:
    driver = Scripted()
    lost = OutcomeUnknown("lost")
    ending = driver.run(
        claimed(progress=Progress(failures=2)),
        {steps.Start: REFUSED, steps.RenewConversation: lost},
    )
    assert isinstance(ending, steps.Failed)
    assert ending.reason == "attempts"


@pytest.mark.parametrize(
    "error",
    [UnknownThread("gone"), RequestRefused("no", trouble=Trouble(kind=Kind.MALFORMED, status=400))],
)
def test_a_provider_that_begins_no_conversation_anew_has_refused_the_batch(
    error: BackendError,
) -> None:
    driver = Scripted()
    ending = driver.run(claimed(), {steps.Start: REFUSED, steps.RenewConversation: error})
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.message) == ("refused", "too long")
    assert driver.names[-2:] == ["RenewConversation", "Bury"]


def test_with_nothing_left_to_leave_out_the_batch_is_refused() -> None:
    driver = Scripted()
    ending = driver.run(claimed(), {steps.Start: REFUSED, steps.RenewConversation: [None]})
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.message) == ("refused", "too long")
    assert driver.names[-2:] == ["RenewConversation", "Bury"]


def test_the_thread_gets_its_conversation_back_if_the_batch_is_too_long_by_itself() -> None:
    driver = Scripted()
    progress = Progress(located=True, origin="conv_1")
    driver.run(
        claimed(conversation_id="conv_3", progress=progress),
        {steps.Start: REFUSED, steps.RenewConversation: [None]},
    )
    assert driver.names[-3:] == ["RenewConversation", "MoveThread", "Bury"]
    move = moved(driver)
    assert (move.old_id, move.conversation_id, move.anchor, move.is_new, move.drops_old) == (
        "conv_3",
        "conv_1",
        None,
        False,
        True,
    )

    again = Scripted()
    ending = again.run(claimed(conversation_id="conv_1", phase=move.phase, progress=move.progress))
    assert again.names == ["Bury"], "a worker that died on the way sends nothing any more"
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.message) == ("refused", "too long")


@pytest.mark.parametrize(
    "answers",
    [
        {steps.Start: RequestRefused("no", trouble=Trouble(kind=Kind.MODERATED, status=400))},
        {
            steps.Watch: RunEnded(
                run_id="r",
                status="failed",
                error=ErrorInfo(code="invalid_prompt", message="no"),
                retryable=False,
            )
        },
    ],
    ids=["refused", "failed"],
)
def test_a_batch_that_is_refused_for_another_reason_after_all_gives_the_conversation_back_as_well(
    answers: dict[type[Any], Any],
) -> None:
    driver = Scripted()
    ending = driver.run(
        claimed(conversation_id="conv_2", progress=Progress(located=True, origin="conv_1")), answers
    )
    assert driver.names[-2:] == ["MoveThread", "Bury"]
    assert (moved(driver).conversation_id, moved(driver).drops_old) == ("conv_1", True)
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.message) == ("refused", "no")


def test_a_thread_that_was_given_another_conversation_meanwhile_keeps_it_and_asks_for_its_end() -> (
    None
):
    driver = Scripted()
    driver.run(claimed(), {steps.Start: REFUSED, steps.MoveThread: [False]})
    progress = driver.only(steps.Postpone).progress
    assert (progress.located, progress.anchor, progress.origin) == (False, None, None)
    driver.run(
        claimed(conversation_id="conv_theirs", anchor=None, progress=progress),
        {steps.Locate: "item_9"},
    )
    request = driver.only(steps.Start).request
    assert (request.conversation_id, request.anchor) == ("conv_theirs", "item_9")


# --- less of the same conversation ----------------------------------------------------------------


@BOTH
def test_a_run_that_can_be_shortened_is_started_again_at_once_and_reads_less(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(), {steps.Watch: replace(TOO_LONG, retryable=True, counts=False)})
    assert driver.names[-2:] == ["Watch", "Postpone(retrying)"]
    postponed = driver.only(steps.Postpone)
    assert (postponed.wait_s, postponed.progress.shortened, postponed.progress.failures) == (
        0,
        1,
        0,
    )
    assert postponed.progress.already_in_thread is (capabilities is ASSISTANTS)

    driver.run(claimed(phase=postponed.phase, progress=postponed.progress))
    request = driver.only(steps.Start).request
    assert (request.conversation_id, request.shortened, request.renewed) == ("conv_1", 1, False)


def test_a_backend_that_always_wants_to_shorten_once_more_is_not_believed_for_ever() -> None:
    driver = Scripted()
    driver.run(
        claimed(progress=Progress(shortened=MAX_SHORTENED)),
        {steps.Watch: replace(TOO_LONG, retryable=True, counts=False)},
    )
    assert driver.names[-3:] == ["RenewConversation", "MoveThread", "Postpone(retrying)"]


def test_a_run_without_a_conversation_fails_as_others_do() -> None:
    stateless = replace(CONVERSATIONS, conversations=False, stateless=True, renews=False)
    driver = Scripted(stateless)
    ending = driver.run(claimed(conversation_id=None), {steps.Watch: TOO_LONG})
    assert isinstance(ending, steps.Failed)
    assert ending.reason == "refused"
