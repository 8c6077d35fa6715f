"""Branches of stop, interrupt and steer, with answers that are given in advance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flow_harness import (
    ASSISTANTS,
    CONVERSATIONS,
    DONE,
    FOREGROUND,
    CannotAsk,
    Scripted,
    action,
    call,
    claimed,
)
from steering_harness import CHAT, COROUTINE, RESPONSES

from assistant_queue.core import steps
from assistant_queue.core.flow import AuthorRule, Rules
from assistant_queue.core.flow.interrupting import NOT_CALLED
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import NotFound, RunAccepted, RunEnded, Undecided
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.errors import (
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    UnknownThread,
)
from assistant_queue.models import Message
from assistant_queue.testing.fake_clock import FakeClock

CANCELLED = RunEnded(run_id="run_1", status="cancelled", replies=("so far",))
NEW = Message(id="m3", content="three")


def running(**fields: Any) -> Progress:
    now = FakeClock().ms
    values: dict[str, Any] = {
        "run_id": "run_1",
        "located": True,
        "anchor": "item_0",
        "attempts": 1,
        "deadline_ms": now + 600_000,
        **fields,
    }
    return Progress(**values)


def joins(step: steps.Join) -> steps.Joined:
    del step
    return steps.Joined(messages=(*claimed().batch.messages, NEW))


INTERRUPTED = {
    steps.ReadRevisions: steps.Revisions(messages={}, count=""),
    steps.Join: joins,
}


def stop(
    scripted: Scripted, phase: Phase, progress: Progress, answers: dict[type[Any], Any]
) -> steps.Ending:
    batch = claimed(phase=phase, progress=progress, wish=Wish.STOP)
    return scripted.run(batch, {steps.CloseStream: [()], **answers})


def interrupt(
    scripted: Scripted, phase: Phase, progress: Progress, answers: dict[type[Any], Any]
) -> steps.Ending:
    batch = claimed(phase=phase, progress=progress, wish=Wish.INTERRUPT)
    return scripted.run(batch, {**INTERRUPTED, steps.CloseStream: [()], **answers})


# --- stop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [ASSISTANTS, RESPONSES, FOREGROUND, CHAT, COROUTINE])
def test_what_was_never_sent_is_remembered_and_cancelled(capabilities: Any) -> None:
    scripted = Scripted(capabilities)
    ending = stop(scripted, Phase.FROZEN, Progress(), {})
    assert isinstance(ending, steps.Stopped)
    request = scripted.only(steps.Start).request
    assert request.writes
    assert [item.content for item in request.items] == ["one", "two"]


@pytest.mark.parametrize("capabilities", [ASSISTANTS, RESPONSES, FOREGROUND, CHAT, COROUTINE])
def test_what_was_never_sent_is_forgotten_if_that_is_wanted(capabilities: Any) -> None:
    scripted = Scripted(capabilities, Rules(remembers_stopped=False))
    stop(scripted, Phase.FROZEN, Progress(), {})
    assert scripted.names == ["CloseStream", "Stop"]
    assert scripted.only(steps.Stop).keep_anchor


@pytest.mark.parametrize("capabilities", [ASSISTANTS, RESPONSES])
def test_a_request_without_an_answer_is_held_for_the_grace(capabilities: Any) -> None:
    scripted = Scripted(capabilities)
    progress = running(run_id=None, sent_ms=FakeClock().ms)
    ending = stop(scripted, Phase.SENDING, progress, {steps.Find: [NotFound()]})
    assert isinstance(ending, steps.Postponed)
    assert ending.state is ThreadState.HELD
    assert 0 < scripted.only(steps.Postpone).wait_s <= Rules().grace_s


@pytest.mark.parametrize(
    ("finding", "reason"), [(CannotAsk(reason="it is deaf"), "parked"), (Undecided(), "")]
)
def test_what_cannot_be_found_out_is_parked_or_asked_again(finding: Any, reason: str) -> None:
    scripted = Scripted(RESPONSES)
    ending = stop(scripted, Phase.SENDING, running(run_id=None), {steps.Find: [finding]})
    if reason:
        assert isinstance(ending, steps.Failed)
        assert ending.reason == reason
        assert scripted.only(steps.Bury).even_stopped
    else:
        assert isinstance(ending, steps.Postponed)


def test_a_run_is_cancelled_and_what_was_said_so_far_is_written() -> None:
    scripted = Scripted(RESPONSES)
    finding = [replace(CANCELLED, replies=()), NotFound(anchor="item_0")]
    batch = claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.STOP)
    ending = scripted.run(batch, {steps.CloseStream: [("half",)], steps.Find: finding})
    assert isinstance(ending, steps.Stopped)
    assert ending.result.reply == "half"
    items = scripted.only(steps.Start).request.items
    assert [(item.role, item.content) for item in items] == [
        ("user", "one"),
        ("user", "two"),
        ("assistant", "half"),
    ]
    assert scripted.names.index("Save(sending)") < scripted.names.index("Start")


def test_a_run_that_ends_well_meanwhile_is_not_delivered() -> None:
    scripted = Scripted(RESPONSES, Rules(delivers=True))
    ending = stop(scripted, Phase.RUNNING, running(), {steps.Find: [DONE]})
    assert isinstance(ending, steps.Stopped)
    assert (ending.result.reply, scripted.only(steps.Stop).anchor) == ("hi", None)
    assert not scripted.all(steps.Finish)


def test_a_run_that_waits_for_outputs_under_an_unknown_id_is_cancelled_once() -> None:
    scripted = Scripted(ASSISTANTS)
    findings = [action(1), CANCELLED]
    ending = stop(scripted, Phase.SENDING, running(run_id=None), {steps.Find: findings})
    assert isinstance(ending, steps.Stopped)
    assert scripted.only(steps.Cancel).run_id == "run_1"


def test_a_run_that_does_not_end_is_asked_about_until_it_is_overdue() -> None:
    clock = FakeClock()
    scripted = Scripted(RESPONSES, clock=clock)
    at_work = RunAccepted(run_id="run_1")
    progress = running(deadline_ms=clock.ms + 600_000)
    ending = stop(scripted, Phase.RUNNING, progress, {steps.Find: [at_work]})
    assert isinstance(ending, steps.Postponed)
    clock.advance(2000)
    again = scripted.only(steps.Postpone).progress
    ending = stop(scripted, Phase.RUNNING, again, {steps.Find: [at_work]})
    assert isinstance(ending, steps.Stopped)


@pytest.mark.parametrize("error", [UnknownThread("gone"), RunVanished("gone")])
def test_without_a_conversation_nothing_is_remembered(error: Exception) -> None:
    scripted = Scripted(RESPONSES)
    ending = stop(scripted, Phase.RUNNING, running(), {steps.Find: [error]})
    assert isinstance(ending, steps.Stopped)
    assert not scripted.all(steps.Start)
    assert not scripted.only(steps.Stop).keep_anchor


def test_a_write_that_is_refused_is_tried_again_and_then_left_out() -> None:
    refused = {steps.Start: [RequestRefused("503")]}
    scripted = Scripted(RESPONSES, Rules(max_attempts=2))
    ending = stop(scripted, Phase.FROZEN, Progress(), refused)
    assert isinstance(ending, steps.Postponed)
    assert ending.state is ThreadState.RETRYING
    again = scripted.only(steps.Postpone)
    ending = stop(scripted, again.phase, again.progress, refused)
    assert isinstance(ending, steps.Stopped)
    assert scripted.only(steps.Stop).keep_anchor


def test_a_write_without_an_answer_is_looked_for_and_not_repeated() -> None:
    scripted = Scripted(RESPONSES)
    ending = stop(scripted, Phase.FROZEN, Progress(), {steps.Start: [OutcomeUnknown("lost")]})
    assert isinstance(ending, steps.Postponed)
    again = scripted.only(steps.Postpone)
    scripted.clock.advance(Rules().grace_s + 1)
    written = RunEnded(run_id="", status="completed", anchor="item_3")
    ending = stop(scripted, again.phase, again.progress, {steps.Find: [written]})
    assert isinstance(ending, steps.Stopped)
    assert not scripted.all(steps.Start)
    assert scripted.only(steps.Stop).anchor == "item_3"


def test_open_calls_are_answered_by_the_write_of_any_worker() -> None:
    scripted = Scripted(RESPONSES)
    progress = running(stop_stage="stored", calls=(call(1),), unsaid=("half",))
    stop(scripted, Phase.FROZEN, progress, {})
    assert scripted.only(steps.Start).request.open_calls == ("call_1",)
    assert scripted.only(steps.Stop).open_calls == ()


@pytest.mark.parametrize("step", [steps.Finish, steps.Bury])
def test_a_stop_that_was_not_seen_before_the_end_is_obeyed(step: type[Any]) -> None:
    scripted = Scripted(RESPONSES, Rules(max_attempts=1))
    answers: dict[type[Any], Any] = {step: [Wished(Wish.STOP)]}
    if step is steps.Bury:
        failed = RequestRefused("no")
        answers |= {steps.Start: [failed, RunAccepted(run_id="")], steps.CloseStream: [()]}
    ending = scripted.run(claimed(), answers)
    assert isinstance(ending, steps.Stopped)
    assert scripted.names[-1] == "Stop"


def test_the_write_of_a_batch_that_was_never_sent_is_asked_about_in_time() -> None:
    scripted = Scripted(RESPONSES)
    stop(scripted, Phase.FROZEN, Progress(), {})
    saved = scripted.all(steps.Save)[0].progress
    assert saved.deadline_ms > FakeClock().ms
    lost = OutcomeUnknown("the connection was lost")
    progress = replace(saved, sent_ms=1)
    ending = stop(scripted, Phase.SENDING, progress, {steps.Find: [lost]})
    assert isinstance(ending, steps.Postponed)


@pytest.mark.parametrize("wish", [Wish.STOP, Wish.INTERRUPT])
def test_a_worker_that_dies_ending_a_run_does_not_die_of_the_function(wish: Wish) -> None:
    scripted = Scripted(RESPONSES)
    batch = claimed(phase=Phase.RUNNING, progress=running(in_user_code=True), wish=wish)
    scripted.run(batch, {steps.CloseStream: [()], steps.Find: [DONE]})
    (saved,) = [
        step
        for step in scripted.trace[: scripted.names.index("Cancel")]
        if isinstance(step, steps.Save)
    ]
    assert not saved.progress.in_user_code


# --- interrupt ------------------------------------------------------------------------------------


def test_the_new_message_is_sent_with_what_the_conversation_lacks() -> None:
    scripted = Scripted(RESPONSES)
    findings = [replace(CANCELLED, replies=()), NotFound(anchor="item_0")]
    ending = interrupt(scripted, Phase.RUNNING, running(), {steps.Find: findings})
    assert isinstance(ending, steps.Completed)
    items = scripted.only(steps.Start).request.items
    assert [item.content for item in items] == ["one", "two", "three"]


def test_a_thread_that_keeps_texts_is_sent_the_new_message_alone() -> None:
    scripted = Scripted(ASSISTANTS)
    interrupt(scripted, Phase.RUNNING, running(), {steps.Find: [CANCELLED]})
    request = scripted.only(steps.Start).request
    assert [item.content for item in request.items] == ["three"]
    assert request.cut == ("run_1",)


def test_open_calls_are_answered_with_the_new_message() -> None:
    scripted = Scripted(RESPONSES)
    interrupt(scripted, Phase.RUNNING, running(), {steps.Find: [action(1), NotFound()]})
    submit = scripted.only(steps.Submit)
    assert submit.outputs == {"call_1": NOT_CALLED}
    assert [item.content for item in submit.request.added] == ["three"]


def test_an_answer_that_was_faster_stands() -> None:
    scripted = Scripted(RESPONSES)
    batch = claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.INTERRUPT)
    ending = scripted.run(batch, {steps.CloseStream: [()], steps.Find: [DONE]})
    assert isinstance(ending, steps.Completed)
    assert not scripted.all(steps.Join)


@pytest.mark.parametrize(
    ("capabilities", "rules", "progress"),
    [
        (RESPONSES, Rules(max_interrupts=1), running(interrupts=1)),
        (FOREGROUND, Rules(), running()),
        (RESPONSES, Rules(authors=AuthorRule.SEPARATE), running()),
        (replace(COROUTINE, cancels=False), Rules(), running()),
    ],
    ids=["max_interrupts", "cannot_cancel", "separate_authors", "thread"],
)
def test_an_interrupt_that_is_refused_changes_nothing(
    capabilities: Any, rules: Rules, progress: Progress
) -> None:
    scripted = Scripted(capabilities, rules)
    batch = claimed(phase=Phase.RUNNING, progress=progress, wish=Wish.INTERRUPT)
    finding = {} if capabilities.follows else {steps.Find: [DONE]}
    ending = scripted.run(batch, finding)
    assert isinstance(ending, steps.Completed)
    assert not {"CloseStream", "Cancel", "Join"} & set(scripted.names)


def test_a_function_that_an_earlier_worker_called_is_not_called_again() -> None:
    scripted = Scripted(COROUTINE)
    batch = claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.INTERRUPT)
    ending = scripted.run(
        batch, {steps.CloseStream: [()], steps.Find: [CannotAsk(reason="it may have run")]}
    )
    assert isinstance(ending, steps.Failed)
    assert ending.reason == "parked"
    assert scripted.only(steps.DeclineInterrupt).reason == "cannot_cancel"


@pytest.mark.parametrize("capabilities", [RESPONSES, ASSISTANTS])
def test_a_run_that_cannot_be_cancelled_is_followed_and_that_is_published(
    capabilities: Any,
) -> None:
    scripted = Scripted(capabilities)
    batch = claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.INTERRUPT)
    at_work = {steps.CloseStream: [()], steps.Find: [RunAccepted(run_id="run_1")]}
    ending = scripted.run(batch, at_work)
    assert isinstance(ending, steps.Completed)
    assert scripted.only(steps.DeclineInterrupt).reason == "cannot_cancel"
    assert scripted.names.index("DeclineInterrupt") < scripted.names.index("Follow")
    assert not scripted.all(steps.Join)


def test_a_stop_during_an_interrupt_wins() -> None:
    scripted = Scripted(CONVERSATIONS)
    batch = claimed(phase=Phase.RUNNING, progress=running(), wish=Wish.INTERRUPT)
    answers = {steps.CloseStream: [(), ()], steps.Find: [Wished(Wish.STOP), DONE]}
    ending = scripted.run(batch, answers)
    assert isinstance(ending, steps.Stopped)
    assert not scripted.all(steps.Join)


def test_a_request_that_did_not_leave_uses_up_no_attempt() -> None:
    scripted = Scripted(RESPONSES)
    answers = {**INTERRUPTED, steps.CloseStream: [()]}
    answers[steps.Start] = [Wished(Wish.INTERRUPT, unsent=True), RunAccepted(run_id="run_1")]
    ending = scripted.run(claimed(), answers)
    assert isinstance(ending, steps.Completed)
    assert ending.result.attempts == 1
    assert not scripted.all(steps.Find)


# --- steer ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [RESPONSES, CHAT])
def test_a_message_that_steers_goes_with_the_outputs(capabilities: Any) -> None:
    scripted = Scripted(capabilities)
    batch = claimed(wish=Wish.STEER, phase=Phase.RUNNING, progress=running(calls=(call(1),)))
    if capabilities is CHAT:
        asked = running(asked=action(1), sent_ms=0)
        batch = claimed(wish=Wish.STEER, phase=Phase.RUNNING, progress=asked)
        answers: dict[type[Any], Any] = {steps.Join: joins}
    else:
        answers = {steps.Watch: [action(1), DONE], steps.Join: joins}
    ending = scripted.run(batch, answers)
    assert isinstance(ending, steps.Completed)
    (submit,) = scripted.all(steps.Submit)
    assert [item.content for item in submit.request.added] == ["three"]


def test_assistants_collect_a_message_that_steers() -> None:
    scripted = Scripted(ASSISTANTS)
    batch = claimed(wish=Wish.STEER, phase=Phase.RUNNING, progress=running())
    scripted.run(batch, {steps.Watch: [action(1), DONE]})
    assert not scripted.all(steps.Join)


def test_a_batch_that_is_not_sent_takes_a_message_that_steers() -> None:
    scripted = Scripted(RESPONSES)
    answers = {**INTERRUPTED, steps.CloseStream: [()]}
    scripted.run(claimed(wish=Wish.STEER), answers)
    items = scripted.only(steps.Start).request.items
    assert [item.content for item in items] == ["one", "two", "three"]


def test_a_message_goes_again_with_outputs_that_a_failed_round_did_not_keep() -> None:
    scripted = Scripted(RESPONSES)
    failed = RunEnded(run_id="run_2", status="failed")
    again = replace(action(1), run_id="", whole=True)
    ending = scripted.run(
        claimed(wish=Wish.STEER, phase=Phase.RUNNING, progress=running()),
        {
            steps.Follow: RunAccepted(run_id="run_1"),
            steps.Watch: [action(1), failed],
            steps.Join: joins,
        },
    )
    assert isinstance(ending, steps.Postponed)
    progress = scripted.trace[-1].progress
    batch = claimed(phase=Phase.SENDING, progress=progress)
    joined = replace(batch, batch=replace(batch.batch, messages=(*batch.batch.messages, NEW)))
    ending = scripted.run(joined, {steps.Find: [again], steps.Watch: [DONE]})
    assert isinstance(ending, steps.Completed)
    assert [item.content for item in scripted.only(steps.Submit).request.added] == ["three"]
