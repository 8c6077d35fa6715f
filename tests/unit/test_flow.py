"""One batch, step by step: the order of writes and requests, and the meaning of each failure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flow_harness import (
    ASSISTANTS,
    CONVERSATIONS,
    DONE,
    FOREGROUND,
    Scripted,
    action,
    call,
    claimed,
    messages,
)

from assistant_queue.core import steps
from assistant_queue.core.flow import (
    MAX_DEATHS,
    MAX_DEATHS_ELSEWHERE,
    AuthorRule,
    Claimed,
    Rules,
)
from assistant_queue.core.flow.attempt import MAX_CUTS
from assistant_queue.core.flow.outcome import (
    BURIAL_PATIENCE_S,
    MAX_DEATHS_BURYING,
)
from assistant_queue.core.flow.retrying import MAX_ASK_WAIT_S
from assistant_queue.core.progress import Progress, dump_result, moment
from assistant_queue.core.retry import Backoff
from assistant_queue.core.runs import (
    CannotAsk,
    Capabilities,
    NotFound,
    RunAccepted,
    RunEnded,
    Undecided,
)
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    CallbackError,
    ConversationBusy,
    InvalidToolResult,
    LeaseLost,
    NotConfigured,
    NotEncodable,
    NotReplicated,
    OutcomeUnknown,
    RequestRefused,
    RunExpired,
    RunFailed,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import ErrorInfo, Message, Usage
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.trouble import Kind, Trouble

NOW = FakeClock().ms
RETRYING = ThreadState.RETRYING
HELD = ThreadState.HELD
BOTH = pytest.mark.parametrize(
    "capabilities", [ASSISTANTS, CONVERSATIONS], ids=["assistants", "conversations"]
)


def sending(**fields: Any) -> Progress:
    """Return what a worker left that died, or lost the answer, while it sent; the grace is over."""
    values: dict[str, Any] = {
        "attempts": 1,
        "located": True,
        "anchor": "item_0",
        "sent_ms": NOW - 36_000,
        "deadline_ms": NOW + 564_000,
        **fields,
    }
    return Progress(**values)


def running(**fields: Any) -> Progress:
    return sending(run_id="run_1", **fields)


# --- the plain batch ------------------------------------------------------------------------------


@BOTH
def test_a_plain_batch_is_marked_before_it_is_sent_and_its_run_right_after(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    ending = driver.run(claimed())
    assert driver.names == ["Save(sending)", "Start", "Save(running)", "Watch", "Finish"]
    assert isinstance(ending, steps.Completed)
    before, after = driver.all(steps.Save)
    assert (before.progress.run_id, before.progress.attempts, before.progress.sent_ms) == (
        None,
        1,
        NOW,
    )
    assert before.progress.deadline_ms == NOW + 600_000
    assert after.progress.run_id == "run_1"


def test_the_result_names_the_messages_and_the_reply() -> None:
    driver = Scripted()
    usage = Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    ended = RunEnded(
        run_id="run_1",
        status="incomplete",
        incomplete_reason="max_output_tokens",
        replies=("a", "b"),
        usage=usage,
        anchor="z",
    )
    driver.run(claimed(claimed_ms=NOW - 5000), {steps.Watch: ended})
    finish = driver.only(steps.Finish)
    result = finish.result
    assert (result.message_ids, result.messages_processed) == (("m1", "m2"), 2)
    assert (result.thread_id, result.batch_id, result.run_id) == ("thread", "batch_1", "run_1")
    assert (result.reply, result.replies) == ("a\n\nb", ("a", "b"))
    assert (result.status, result.incomplete_reason, result.usage) == (
        "incomplete",
        "max_output_tokens",
        replace(usage, rounds=1),
    )
    assert (result.started_at, result.ended_at, result.attempts) == (
        moment(NOW - 5000),
        moment(NOW),
        1,
    )
    assert (finish.anchor, finish.undelivered) == ("z", None)


def test_a_run_that_said_nothing_has_no_reply() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: replace(DONE, replies=())})
    assert driver.only(steps.Finish).result.reply is None


def test_the_first_batch_of_a_mapped_thread_opens_its_conversation_before_anything_is_marked() -> (
    None
):
    driver = Scripted()
    driver.run(claimed(conversation_id=None, anchor=None))
    assert driver.names == [
        "OpenConversation",
        "Save(sending)",
        "Start",
        "Save(running)",
        "Watch",
        "Finish",
    ]
    assert driver.only(steps.Start).request.conversation_id == "conv_new"


def test_the_loser_of_a_race_for_the_mapping_uses_the_winners_conversation_and_its_end() -> None:
    driver = Scripted()
    driver.run(
        claimed(conversation_id=None, anchor=None),
        {steps.OpenConversation: ("conv_winner", "item_7")},
    )
    request = driver.only(steps.Start).request
    assert (request.conversation_id, request.anchor) == ("conv_winner", "item_7")
    assert driver.all(steps.Save)[0].progress.anchor == "item_7"


def test_a_thread_without_a_conversation_at_the_provider_opens_none() -> None:
    driver = Scripted(
        replace(CONVERSATIONS, conversations=False, found_by=CONVERSATIONS.found_by.NOT_AT_ALL)
    )
    driver.run(claimed(conversation_id=None, anchor=None))
    assert driver.names[0] == "Save(sending)"


def test_the_providers_own_thread_id_is_used_as_it_is() -> None:
    driver = Scripted(CONVERSATIONS)
    base = claimed(conversation_id=None, anchor=None)
    own = "conv_0123456789abcdef"
    driver.run(replace(base, batch=replace(base.batch, thread_id=own)))
    assert driver.only(steps.Locate).conversation_id == own
    assert driver.only(steps.Start).request.conversation_id == own


@BOTH
def test_an_unknown_end_of_the_conversation_is_asked_for_where_batches_are_found_by_it(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(
        claimed(anchor=None), {steps.Locate: "item_5"} if capabilities is CONVERSATIONS else {}
    )
    assert ("Locate" in driver.names) is (capabilities is CONVERSATIONS)
    if capabilities is CONVERSATIONS:
        assert driver.only(steps.Start).request.anchor == "item_5"
        assert driver.all(steps.Save)[0].progress.anchor == "item_5"


def test_the_end_found_at_the_first_attempt_is_not_asked_for_again() -> None:
    driver = Scripted()
    driver.run(claimed(anchor=None, progress=Progress(located=True, failures=1)))
    assert "Locate" not in driver.names


@pytest.mark.parametrize(
    ("step", "fields"), [(steps.OpenConversation, {"conversation_id": None}), (steps.Locate, {})]
)
@pytest.mark.parametrize("error", [RequestRefused("429", counts=False), OutcomeUnknown("502")])
def test_a_conversation_that_could_not_be_asked_about_is_asked_about_again(
    step: type[Any], fields: dict[str, Any], error: BackendError
) -> None:
    driver = Scripted()
    batch = claimed(anchor=None, **fields)
    driver.run(batch, {step: error})
    postponed = driver.only(steps.Postpone)
    assert (postponed.state, postponed.phase, postponed.progress.attempts) == (
        RETRYING,
        Phase.FROZEN,
        0,
    )
    driver.run(replace(batch, progress=postponed.progress))
    assert isinstance(driver.trace[0], step)
    assert driver.only(steps.Start).request.conversation_id


# --- what fits, instructions ----------------------------------------------------------------------


def test_what_does_not_fit_is_given_back_before_anything_is_sent() -> None:
    driver = Scripted(replace(CONVERSATIONS, max_items=2))
    batch = tuple(Message(id=f"m{n}", content="x", author=f"a{n}") for n in range(4))
    ending = driver.run(claimed(*batch))
    assert driver.names[:2] == ["Trim", "Save(sending)"]
    assert driver.only(steps.Trim).keep == 2
    assert isinstance(ending, steps.Completed)
    assert ending.result.message_ids == ("m0", "m1")
    assert [one.id for one in driver.only(steps.Start).request.batch.messages] == ["m0", "m1"]


def test_a_trimmed_batch_is_looked_for_by_the_words_it_was_sent_with() -> None:
    driver = Scripted(replace(CONVERSATIONS, max_items=1))
    batch = (Message(id="m1", content="hello"), Message(id="m2", content="hi", author="Ann"))
    driver.run(claimed(*batch))
    sent = driver.only(steps.Start).request.items
    saved = driver.all(steps.Save)[0].progress
    driver.clock.advance(60)
    driver.run(claimed(batch[0], phase=Phase.SENDING, progress=saved), {steps.Find: DONE})
    assert driver.only(steps.Find).request.items == sent


def test_texts_that_the_provider_holds_are_not_sent_again() -> None:
    driver = Scripted(ASSISTANTS)
    driver.run(claimed(progress=Progress(already_in_thread=True, attempts=1)))
    assert driver.only(steps.Start).request.items == ()


@pytest.mark.parametrize(
    ("own", "rules", "asked", "expected"),
    [
        ("be brief", "default", False, "be brief"),
        ("be brief", True, False, "be brief"),
        (None, "default", False, "default"),
        (None, None, False, None),
        (None, True, True, "from the callable"),
        (None, False, False, None),
    ],
)
def test_instructions_are_the_messages_own_else_the_default(
    own: str | None, rules: Any, asked: bool, expected: str | None
) -> None:
    driver = Scripted(rules=Rules(instructions=rules))
    driver.run(
        claimed(*messages("one", instructions=own)),
        {steps.Instruct: "from the callable"} if asked else {},
    )
    assert ("Instruct" in driver.names) is asked
    assert driver.only(steps.Start).request.instructions == expected


@BOTH
def test_a_failing_instructions_callable_costs_an_attempt_and_not_the_text(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities, Rules(instructions=True))
    driver.run(claimed(), {steps.Instruct: CallbackError("boom")})
    assert driver.names == ["Save(frozen)", "Instruct", "Postpone(retrying)"]
    postponed = driver.only(steps.Postpone)
    assert (postponed.phase, postponed.progress.already_in_thread, postponed.progress.failures) == (
        Phase.FROZEN,
        False,
        1,
    )
    (entered,) = driver.all(steps.Save)
    assert (entered.progress.called, entered.progress.called_ms) == ("default_instructions", NOW)
    assert not postponed.progress.in_user_code
    assert (postponed.progress.called, postponed.progress.called_ms) == (None, 0)
    driver.run(claimed(progress=postponed.progress), {steps.Instruct: "be kind"})
    assert [item.content for item in driver.only(steps.Start).request.items] == ["one", "two"]


@BOTH
@pytest.mark.parametrize("phase", [Phase.SENDING, Phase.RUNNING])
def test_a_failing_instructions_callable_does_not_make_a_sent_batch_unsent(
    capabilities: Capabilities, phase: Phase
) -> None:
    driver = Scripted(capabilities, Rules(instructions=True))
    before = running() if phase is Phase.RUNNING else sending()
    driver.run(claimed(phase=phase, progress=before), {steps.Instruct: CallbackError("boom")})
    postponed = driver.only(steps.Postpone)
    assert (postponed.phase, postponed.progress.run_id) == (phase, before.run_id)


# --- what one batch may hold ----------------------------------------------------------------------


@BOTH
def test_what_exceeds_the_characters_of_a_batch_waits_for_the_next(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities, Rules(max_batch_chars=6))
    driver.run(claimed(*messages("one", "two", "three")))
    assert driver.only(steps.Trim).keep == 2
    assert [item.content for item in driver.only(steps.Start).request.items] == ["one", "two"]


def by_authors(*authors: str) -> Claimed:
    return claimed(
        *(
            Message(id=f"m{number}", content=f"text {number}", author=author)
            for number, author in enumerate(authors)
        )
    )


def test_authors_are_separated_without_asking_if_each_gets_a_run() -> None:
    driver = Scripted(rules=Rules(authors=AuthorRule.SEPARATE))
    driver.run(by_authors("ann", "ann", "ben"))
    assert driver.only(steps.Trim).keep == 2
    assert "Separate" not in driver.names


def test_a_callable_is_asked_for_the_authors_and_marked_as_user_code() -> None:
    driver = Scripted(rules=Rules(authors=AuthorRule.ASK))
    driver.run(by_authors("ann", "ben", "eve"), {steps.Separate: 2})
    assert driver.names[:3] == ["Save(frozen)", "Separate", "Trim"]
    assert driver.all(steps.Save)[0].progress.called == "separate_authors"
    assert not driver.all(steps.Save)[1].progress.in_user_code
    assert driver.only(steps.Trim).keep == 2


def test_a_callable_is_not_asked_for_one_author() -> None:
    driver = Scripted(rules=Rules(authors=AuthorRule.ASK))
    driver.run(by_authors("ann", "ann"))
    assert {"Separate", "Trim"}.isdisjoint(driver.names)


@BOTH
@pytest.mark.parametrize("phase", [Phase.SENDING, Phase.RUNNING])
def test_a_batch_that_was_sent_stays_as_it_is(capabilities: Capabilities, phase: Phase) -> None:
    """Its options may have changed since: the worker that continues is another one."""
    rules = Rules(max_batch_chars=1, authors=AuthorRule.SEPARATE)
    driver = Scripted(capabilities, rules)
    before = running() if phase is Phase.RUNNING else sending()
    driver.run(replace(by_authors("ann", "ben"), phase=phase, progress=before))
    assert "Trim" not in driver.names


# --- tool rounds ----------------------------------------------------------------------------------


@BOTH
def test_outputs_are_stored_before_they_are_submitted(capabilities: Capabilities) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(), {steps.Watch: [action(1, 2), DONE]})
    assert driver.names == [
        "Save(sending)", "Start", "Save(running)", "Watch",
        "Save(running)", "Answer", "Save(sending)", "Submit", "Save(running)", "Watch", "Finish",
    ]  # fmt: skip
    assert [save.progress.in_user_code for save in driver.all(steps.Save)] == [
        False,
        False,
        True,
        False,
        False,
    ]
    named = [(save.progress.called, save.progress.called_ms) for save in driver.all(steps.Save)]
    assert named == [(None, 0), (None, 0), ("weather", NOW), (None, 0), (None, 0)]
    stored = driver.all(steps.Save)[3].progress
    assert stored.outputs == {"call_1": "output of call_1", "call_2": "output of call_2"}
    assert stored.tools == (ToolRow(name="weather", ms=100),) * 2
    assert [one.id for one in stored.calls] == ["call_1", "call_2"]
    submitted = driver.only(steps.Submit)
    assert (submitted.run_id, submitted.outputs) == ("run_1", stored.outputs)
    after = driver.all(steps.Save)[4].progress
    assert (after.calls, after.run_id) == ((), "run_2")


def test_each_round_is_answered_with_its_own_outputs() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [action(1), action(2, run_id="run_2"), DONE]})
    assert [[one.id for one in step.calls] for step in driver.all(steps.Answer)] == [
        ["call_1"],
        ["call_2"],
    ]
    assert [dict(step.outputs) for step in driver.all(steps.Submit)] == [
        {"call_1": "output of call_1"},
        {"call_2": "output of call_2"},
    ]


def test_stored_outputs_are_not_computed_again() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.RUNNING, progress=running(outputs={"call_1": "kept"})),
        {steps.Watch: [action(1, 2), DONE]},
    )
    assert [one.id for one in driver.only(steps.Answer).calls] == ["call_2"]
    assert len(driver.all(steps.Save)[-1].progress.tools) == 1
    assert driver.only(steps.Submit).outputs == {"call_1": "kept", "call_2": "output of call_2"}


def test_a_round_with_all_outputs_stored_calls_no_function() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.RUNNING, progress=running(outputs={"call_1": "kept"})),
        {steps.Watch: [action(1), DONE]},
    )
    assert driver.names == [
        "Follow",
        "Watch",
        "Save(sending)",
        "Submit",
        "Save(running)",
        "Watch",
        "Finish",
    ]


def test_replies_and_tokens_of_all_rounds_are_added_up() -> None:
    driver = Scripted()
    one, two = (
        Usage(input_tokens=1, output_tokens=2, total_tokens=3),
        Usage(input_tokens=10, output_tokens=20, total_tokens=30),
    )
    driver.run(
        claimed(),
        {steps.Watch: [action(1, replies=("let me look",), usage=one), replace(DONE, usage=two)]},
    )
    result = driver.only(steps.Finish).result
    assert (result.replies, result.usage) == (
        ("let me look", "hi"),
        replace(one + two, rounds=2),
    )


def test_an_end_that_covers_all_rounds_is_not_added_to_them() -> None:
    driver = Scripted()
    whole = replace(DONE, replies=("let me look", "hi"), whole=True, usage=Usage(total_tokens=5))
    driver.run(
        claimed(),
        {steps.Watch: [action(1, replies=("let me look",), usage=Usage(total_tokens=2)), whole]},
    )
    result = driver.only(steps.Finish).result
    assert (result.replies, result.usage) == (
        ("let me look", "hi"),
        Usage(total_tokens=5, rounds=2),
    )


def test_too_many_tool_rounds_stop_the_run() -> None:
    driver = Scripted(ASSISTANTS, Rules(max_tool_rounds=2))
    driver.run(claimed(), {steps.Watch: [action(1), action(2), action(3)]})
    assert driver.names[-2:] == ["Cancel", "Postpone(retrying)"]
    assert len(driver.all(steps.Answer)) == 2
    assert driver.only(steps.Postpone).progress.error.code == "too_many_tool_rounds"


@BOTH
def test_a_callback_that_returns_nonsense_fails_the_attempt_and_stops_the_run(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    ending = driver.run(
        claimed(),
        {steps.Watch: [action(1)], steps.Answer: InvalidToolResult("tools.handle returned a dict")},
    )
    assert driver.names[-3:] == ["Answer", "Cancel", "Postpone(retrying)"]
    assert driver.only(steps.Cancel).run_id == "run_1"
    assert isinstance(ending, steps.Postponed)
    assert (ending.error.code, "tools.handle" in ending.error.message) == (
        "invalid_tool_result",
        True,
    )
    assert driver.only(steps.Postpone).progress.failures == 1


def test_a_run_that_cannot_be_cancelled_is_not_asked_to_be() -> None:
    driver = Scripted(FOREGROUND)
    driver.run(claimed(), {steps.Watch: [action(1)], steps.Answer: InvalidToolResult("no")})
    assert "Cancel" not in driver.names


def test_calls_left_open_by_the_batch_are_in_the_failed_list() -> None:
    driver = Scripted(CONVERSATIONS, Rules(max_attempts=1))
    driver.run(claimed(), {steps.Watch: [action(1, 2)], steps.Answer: InvalidToolResult("no")})
    assert driver.only(steps.Bury).open_calls == ("call_1", "call_2")


def test_calls_left_open_by_an_earlier_batch_go_with_the_request() -> None:
    driver = Scripted()
    driver.run(claimed(open_calls=("call_7",)))
    assert driver.only(steps.Start).request.open_calls == ("call_7",)


# --- resuming by phase ----------------------------------------------------------------------------


def test_a_frozen_batch_of_a_dead_worker_is_sent() -> None:
    driver = Scripted()
    driver.run(claimed(deaths=1))
    assert driver.names[:2] == ["Save(sending)", "Start"]


@BOTH
def test_a_running_batch_of_a_dead_worker_is_followed_and_not_sent(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(phase=Phase.RUNNING, progress=running(), deaths=1))
    assert driver.names == ["Follow", "Watch", "Finish"]
    assert driver.only(steps.Follow).run_id == "run_1"
    assert driver.only(steps.Watch).deadline_ms == NOW + 564_000


def test_a_batch_that_was_being_sent_waits_for_what_is_left_of_the_grace() -> None:
    driver = Scripted()
    ending = driver.run(
        claimed(phase=Phase.SENDING, progress=sending(sent_ms=NOW - 5000), deaths=1)
    )
    assert driver.names == ["Postpone(held)"]
    assert driver.only(steps.Postpone).wait_s == 30.0
    assert driver.only(steps.Postpone).phase is Phase.SENDING
    assert driver.only(steps.Postpone).failed is None, "waiting counts as an attempt"
    assert ending == steps.Postponed(
        state=HELD, error=ErrorInfo(code="outcome_unknown", message=ending.error.message)
    )  # type: ignore[union-attr]


def test_a_batch_that_was_sent_before_the_clock_was_set_back_waits_for_one_grace_and_not_for_an_hour() -> (
    None
):
    driver = Scripted()
    hour = 3_600_000
    driver.run(
        claimed(
            phase=Phase.SENDING,
            progress=sending(sent_ms=NOW + hour, deadline_ms=NOW + hour),
            deaths=1,
        )
    )
    held = driver.only(steps.Postpone)
    assert held.wait_s == 35.0
    assert held.progress.deadline_ms == NOW + 600_000, "no further than a run may last"


@BOTH
def test_after_the_grace_the_provider_is_asked_before_anything_is_sent(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(phase=Phase.SENDING, progress=sending()))
    assert driver.names == ["Find", "Save(sending)", "Start", "Save(running)", "Watch", "Finish"]
    find = driver.only(steps.Find)
    assert (find.run_id, find.calls, find.request.anchor) == (None, (), "item_0")
    assert len(find.request.items) == 2


# --- ambiguous ------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OutcomeUnknown("timed out"), StreamCut("cut before an id")])
def test_a_lost_answer_holds_the_thread_for_the_grace(error: BackendError) -> None:
    driver = Scripted(rules=Rules(grace_s=12.0))
    driver.run(claimed(), {steps.Start: error})
    assert driver.names == ["Save(sending)", "Start", "Postpone(held)"]
    held = driver.only(steps.Postpone)
    assert (held.wait_s, held.phase) == (12.0, Phase.SENDING)
    assert held.failed == held.progress.error is not None
    assert (held.progress.sent_ms, held.progress.attempts, held.progress.failures) == (NOW, 1, 0)


def test_found_running_is_followed() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: RunAccepted(run_id="run_7")}
    )
    assert driver.names == ["Find", "Save(running)", "Follow", "Watch", "Finish"]
    assert driver.only(steps.Save).progress.run_id == driver.only(steps.Follow).run_id == "run_7"


def test_found_completed_is_adopted_without_sending() -> None:
    driver = Scripted()
    found = RunEnded(
        run_id="run_7", status="completed", replies=("was there",), whole=True, anchor="item_3"
    )
    ending = driver.run(claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: found})
    assert driver.names == ["Find", "Finish"]
    assert isinstance(ending, steps.Completed)
    assert (ending.result.reply, ending.result.run_id, ending.result.attempts) == (
        "was there",
        "run_7",
        1,
    )
    assert driver.only(steps.Finish).anchor == "item_3"


def test_found_with_open_calls_continues_with_them() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()),
        {steps.Find: action(1, run_id="run_7", whole=True)},
    )
    assert driver.names == [
        "Find",
        "Save(sending)",
        "Answer",
        "Save(sending)",
        "Submit",
        "Save(running)",
        "Watch",
        "Finish",
    ]
    assert driver.only(steps.Submit).run_id == "run_7"


def test_found_with_open_calls_of_a_round_without_a_known_id_names_none() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()),
        {steps.Find: action(1, run_id="", whole=True)},
    )
    assert (driver.only(steps.Answer).run_id, driver.only(steps.Submit).run_id) == ("", "")


def test_found_failed_is_a_failed_run() -> None:
    driver = Scripted(ASSISTANTS)
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()),
        {steps.Find: RunEnded(run_id="run_7", status="failed")},
    )
    assert driver.names == ["Find", "Postpone(retrying)"]
    assert driver.only(steps.Postpone).progress.already_in_thread


def test_not_found_is_sent_again_behind_what_others_wrote_and_counts() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: NotFound(anchor="item_9")}
    )
    assert driver.only(steps.Start).request.anchor == "item_9"
    saved = driver.all(steps.Save)[0].progress
    assert (saved.anchor, saved.attempts, saved.failures) == ("item_9", 2, 1)


@BOTH
def test_not_found_but_its_text_is_there_sends_no_text_where_that_is_kept(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: NotFound(holds_text=True)}
    )
    assert (driver.only(steps.Start).request.items == ()) is capabilities.keeps_failed_text
    assert driver.all(steps.Save)[0].progress.already_in_thread is capabilities.keeps_failed_text


def test_not_found_for_the_last_time_goes_to_the_failed_list() -> None:
    driver = Scripted()
    driver.run(
        claimed(
            phase=Phase.SENDING,
            progress=sending(
                failures=2, error=ErrorInfo(code="outcome_unknown", message="timed out")
            ),
        )
    )
    assert driver.names == ["Find", "Bury"]
    assert (driver.only(steps.Bury).reason, driver.only(steps.Bury).error.message) == (
        "attempts",
        "timed out",
    )


def test_undecided_restarts_the_grace() -> None:
    driver = Scripted()
    driver.run(claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: Undecided()})
    held = driver.only(steps.Postpone)
    assert (held.state, held.wait_s, held.progress.sent_ms, held.progress.undecided_since_ms) == (
        HELD,
        35.0,
        NOW,
        NOW,
    )


def test_undecided_for_longer_than_a_run_may_take_is_parked() -> None:
    driver = Scripted()
    late = sending(undecided_since_ms=NOW - 600_001)
    driver.run(claimed(phase=Phase.SENDING, progress=late), {steps.Find: Undecided()})
    assert driver.only(steps.Bury).reason == "parked"
    just = sending(undecided_since_ms=NOW - 600_000)
    driver.run(claimed(phase=Phase.SENDING, progress=just), {steps.Find: Undecided()})
    assert driver.names == ["Find", "Postpone(held)"]


def test_a_decision_ends_the_time_of_indecision() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending(undecided_since_ms=NOW - 1000)),
        {steps.Find: NotFound()},
    )
    assert driver.all(steps.Save)[0].progress.undecided_since_ms == 0


def test_a_batch_with_an_unknown_outcome_is_parked_and_not_repeated() -> None:
    driver = Scripted()
    ending = driver.run(
        claimed(phase=Phase.SENDING, progress=sending()),
        {steps.Find: CannotAsk(reason="it keeps nothing")},
    )
    assert driver.names == ["Find", "Bury"]
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error) == (
        "parked",
        ErrorInfo(code="parked", message="it keeps nothing"),
    )


@pytest.mark.parametrize(
    "error",
    [
        RequestRefused("429", counts=False, retry_after_s=7.0),
        OutcomeUnknown("502"),
        ConversationBusy("busy"),
    ],
)
def test_a_question_that_cannot_be_asked_says_nothing_about_the_batch(error: BackendError) -> None:
    driver = Scripted()
    driver.run(claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: error})
    held = driver.only(steps.Postpone)
    assert (held.state, held.phase, held.progress.failures) == (HELD, Phase.SENDING, 0)
    assert held.wait_s == max(error.retry_after_s or 0.0, 5.0)


def test_a_question_waits_as_long_as_the_provider_asks() -> None:
    driver = Scripted()
    busy = OutcomeUnknown("503", counts=False, retry_after_s=300.0)
    driver.run(claimed(phase=Phase.SENDING, progress=sending()), {steps.Find: busy})
    assert driver.only(steps.Postpone).wait_s == 300.0


def test_waits_between_questions_grow_only_so_far() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending(refusals=20)),
        {steps.Find: OutcomeUnknown("502")},
    )
    assert driver.only(steps.Postpone).wait_s == MAX_ASK_WAIT_S


def test_a_provider_that_cannot_be_asked_for_too_long_parks_the_batch() -> None:
    driver = Scripted(rules=Rules(retry_for_s=60))
    late = sending(deadline_ms=NOW - 60_001)
    driver.run(claimed(phase=Phase.SENDING, progress=late), {steps.Find: OutcomeUnknown("502")})
    assert (driver.names, driver.only(steps.Bury).reason) == (["Find", "Bury"], "parked")


def test_functions_whose_round_is_found_after_the_deadline_of_its_attempt_are_given_time() -> None:
    """None was left: they were called for no time at all, in each of the attempts that followed."""
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending(deadline_ms=NOW - 1)),
        {steps.Find: action(1, run_id="run_1")},
    )
    assert driver.names[:2] == ["Find", "Save(sending)"], driver.names
    assert driver.only(steps.Answer).calls == (call(1),)
    assert driver.only(steps.Watch).deadline_ms == NOW + 600_000


def test_lost_outputs_that_are_not_found_are_submitted_again_without_calling_the_user() -> None:
    driver = Scripted()
    before = running(calls=(call(1),), outputs={"call_1": "kept"}, rounds=1)
    driver.run(claimed(phase=Phase.SENDING, progress=before))
    assert driver.names == ["Find", "Save(sending)", "Submit", "Save(running)", "Watch", "Finish"]
    find = driver.only(steps.Find)
    assert (find.run_id, find.calls) == ("run_1", (call(1),))
    assert driver.only(steps.Submit).outputs == {"call_1": "kept"}


def test_lost_outputs_of_a_round_without_a_known_id_do_not_send_the_batch_again() -> None:
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.SENDING, progress=sending()),
        {steps.Find: action(1, run_id="", whole=True), steps.Submit: OutcomeUnknown("502")},
    )
    progress = driver.only(steps.Postpone).progress
    driver.clock.advance(36)
    driver.run(claimed(phase=Phase.SENDING, progress=progress))
    assert driver.names == ["Find", "Save(sending)", "Submit", "Save(running)", "Watch", "Finish"]
    assert driver.only(steps.Find).calls == (call(1),)


@BOTH
def test_outputs_that_are_lost_again_and_again_use_up_the_attempts_and_leave_no_open_run(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    progress = running(
        calls=(call(1),),
        outputs={"call_1": "kept"},
        rounds=1,
        error=ErrorInfo(code="outcome_unknown", message="502"),
    )
    for failures in (1, 2):
        driver.run(
            claimed(phase=Phase.SENDING, progress=progress), {steps.Submit: OutcomeUnknown("502")}
        )
        progress = driver.only(steps.Postpone).progress
        assert progress.failures == failures
        driver.clock.advance(36)
    ending = driver.run(claimed(phase=Phase.SENDING, progress=progress))
    assert driver.names == ["Find", "Cancel", "Bury"]
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.message, driver.only(steps.Bury).open_calls) == (
        "attempts",
        "502",
        ("call_1",),
    )


@BOTH
def test_outputs_that_are_refused_for_the_last_time_leave_no_open_run(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(
        claimed(progress=Progress(failures=2)),
        {steps.Watch: [action(1)], steps.Submit: RequestRefused("400")},
    )
    assert driver.names[-2:] == ["Cancel", "Bury"]
    assert driver.only(steps.Cancel).run_id == driver.only(steps.Bury).progress.run_id == "run_1"


# --- refused --------------------------------------------------------------------------------------


def test_a_refusal_that_counts_is_tried_again_after_the_back_off_as_unsent() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Start: RequestRefused("400")})
    again = driver.only(steps.Postpone)
    assert (again.state, again.wait_s, again.phase) == (RETRYING, 5.0, Phase.FROZEN)
    assert (again.progress.failures, again.progress.attempts, again.progress.already_in_thread) == (
        1,
        1,
        False,
    )
    assert again.progress.error == ErrorInfo(code="request_refused", message="400")


def test_a_refusal_that_counts_for_the_last_time_goes_to_the_failed_list() -> None:
    driver = Scripted()
    ending = driver.run(
        claimed(progress=Progress(attempts=2, failures=2)), {steps.Start: RequestRefused("400")}
    )
    assert driver.names == ["Save(sending)", "Start", "Bury"]
    bury = driver.only(steps.Bury)
    assert (bury.reason, bury.progress.attempts, bury.open_calls) == ("attempts", 3, ())
    assert ending == steps.Failed(reason="attempts", error=bury.error, progress=bury.progress)


@pytest.mark.parametrize(
    "error", [RequestRefused("429", counts=False), ConversationBusy("locked", counts=False)]
)
def test_a_refusal_for_a_passing_reason_is_taken_back(error: BackendError) -> None:
    driver = Scripted()
    driver.run(claimed(progress=Progress(failures=2)), {steps.Start: error})
    again = driver.only(steps.Postpone)
    assert (again.progress.attempts, again.progress.failures, again.progress.refusals) == (0, 2, 1)
    assert again.progress.waiting_since_ms == NOW


@BOTH
def test_what_would_be_refused_again_is_sent_once(capabilities: Capabilities) -> None:
    driver = Scripted(capabilities)
    moderated = RequestRefused("no", trouble=Trouble(kind=Kind.MODERATED, status=400))
    ending = driver.run(claimed(), {steps.Start: moderated})
    assert driver.names == ["Save(sending)", "Start", "Bury"]
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error, ending.progress.attempts) == (
        "refused",
        ErrorInfo(code="request_refused", message="no"),
        1,
    )


def test_a_run_that_would_fail_again_is_not_started_again() -> None:
    driver = Scripted()
    failed = RunEnded(
        run_id="run_1",
        status="failed",
        error=ErrorInfo(code="invalid_prompt", message="no"),
        retryable=False,
    )
    ending = driver.run(claimed(), {steps.Watch: failed})
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.code) == ("refused", "invalid_prompt")


@BOTH
def test_outputs_that_would_be_refused_again_leave_no_open_run(capabilities: Capabilities) -> None:
    driver = Scripted(capabilities)
    malformed = RequestRefused("no", trouble=Trouble(kind=Kind.MALFORMED, status=422))
    driver.run(claimed(), {steps.Watch: action(1), steps.Submit: malformed})
    assert driver.names[-3:] == ["Submit", "Cancel", "Bury"]
    assert (driver.only(steps.Bury).reason, driver.only(steps.Bury).open_calls) == (
        "refused",
        ("call_1",),
    )


PASSING = OutcomeUnknown("502", trouble=Trouble(kind=Kind.OVERLOADED, status=502))


@BOTH
def test_a_passing_failure_that_may_have_been_accepted_is_asked_about_and_is_no_attempt(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(), {steps.Start: PASSING})
    held = driver.only(steps.Postpone)
    assert (held.state, held.progress.passing, held.progress.waiting_since_ms) == (HELD, True, NOW)

    later = replace(held.progress, sent_ms=NOW - 36_000)
    driver.run(claimed(phase=Phase.SENDING, progress=later))
    assert driver.names == ["Find", "Save(sending)", "Start", "Save(running)", "Watch", "Finish"]
    sent, accepted = driver.all(steps.Save)
    assert (sent.progress.attempts, sent.progress.failures, sent.progress.refusals) == (1, 0, 1)
    assert (accepted.progress.passing, accepted.progress.waiting_since_ms) == (False, 0)


def test_passing_failures_count_once_retry_for_is_over() -> None:
    driver = Scripted(rules=Rules(retry_for_s=60))
    tired = sending(passing=True, waiting_since_ms=NOW - 60_001, failures=2)
    ending = driver.run(claimed(phase=Phase.SENDING, progress=tired))
    assert (driver.names, ending.reason) == (["Find", "Bury"], "attempts")  # type: ignore[union-attr]


def test_a_thread_is_held_as_long_as_the_provider_asks() -> None:
    driver = Scripted()
    driver.run(
        claimed(),
        {
            steps.Start: OutcomeUnknown(
                "503", trouble=Trouble(kind=Kind.OVERLOADED, status=503, retry_after_s=300.0)
            )
        },
    )
    assert driver.only(steps.Postpone).wait_s == 300.0


@pytest.mark.parametrize(("said", "replies"), [("Sorry.", ("Sorry.",)), (None, ())])
def test_an_answer_without_a_word_is_replaced_by_the_fallback(
    said: str | None, replies: tuple[str, ...]
) -> None:
    silent = RunEnded(run_id="run_1", status="incomplete", incomplete_reason="empty")
    for fallback, answers in ((said, {}), (True, {steps.FallBack: said})):
        driver = Scripted(rules=Rules(fallback=fallback))
        ending = driver.run(claimed(), {steps.Watch: silent, **answers})
        assert isinstance(ending, steps.Completed)
        found = ending.result
        assert (found.status, found.incomplete_reason, found.replies, found.fallback) == (
            "incomplete",
            "empty",
            replies,
            bool(said),
        )


def test_a_request_that_is_made_again_says_so_even_if_the_first_one_was_taken_back() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Start: RequestRefused("429", counts=False)})
    assert driver.only(steps.Start).request.again is False
    driver.run(claimed(progress=driver.only(steps.Postpone).progress))
    request = driver.only(steps.Start).request
    assert (request.again, request.batch.attempts) == (True, 1)


def test_refusals_for_passing_reasons_count_once_retry_for_is_over() -> None:
    driver = Scripted(rules=Rules(retry_for_s=60))
    patient = Progress(waiting_since_ms=NOW - 60_000, refusals=5)
    driver.run(claimed(progress=patient), {steps.Start: RequestRefused("429", counts=False)})
    assert driver.only(steps.Postpone).progress.failures == 0
    tired = Progress(waiting_since_ms=NOW - 60_001, refusals=5, failures=2)
    driver.run(claimed(progress=tired), {steps.Start: RequestRefused("429", counts=False)})
    assert driver.only(steps.Bury).reason == "attempts"


@pytest.mark.parametrize("counts", [True, False])
def test_what_the_provider_asks_to_wait_is_waited(counts: bool) -> None:
    driver = Scripted(rules=Rules(backoff=Backoff(delay_s=5), retry_for_s=60))
    driver.run(claimed(), {steps.Start: RequestRefused("429", counts=counts, retry_after_s=90.0)})
    assert driver.only(steps.Postpone).wait_s == 90.0


def test_a_back_off_for_passing_reasons_is_not_longer_than_retry_for() -> None:
    driver = Scripted(rules=Rules(retry_for_s=60))
    driver.run(
        claimed(progress=Progress(refusals=10, waiting_since_ms=NOW - 1)),
        {steps.Start: RequestRefused("429", counts=False)},
    )
    assert driver.only(steps.Postpone).wait_s == 60.0


def test_an_accepted_request_ends_the_count_of_refusals() -> None:
    driver = Scripted()
    driver.run(claimed(progress=Progress(refusals=4, waiting_since_ms=NOW - 50_000)))
    saved = driver.all(steps.Save)[1].progress
    assert (saved.refusals, saved.waiting_since_ms) == (0, 0)


@pytest.mark.parametrize("where", [steps.Start, steps.Locate, steps.Find])
def test_an_unknown_thread_is_not_tried_again(where: type[Any]) -> None:
    driver = Scripted()
    batch = (
        claimed(phase=Phase.SENDING, progress=sending())
        if where is steps.Find
        else claimed(anchor=None)
    )
    ending = driver.run(batch, {where: UnknownThread("no such conversation")})
    assert isinstance(ending, steps.Failed)
    assert (driver.names[-1], ending.reason, ending.error.code) == (
        "Bury",
        "unknown_thread",
        "unknown_thread",
    )


def test_refused_outputs_lead_to_a_question_about_their_run() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [action(1)], steps.Submit: RequestRefused("no such call")})
    again = driver.only(steps.Postpone)
    assert (again.state, again.phase, again.progress.calls, again.progress.run_id) == (
        RETRYING,
        Phase.SENDING,
        (call(1),),
        "run_1",
    )
    driver.run(
        claimed(phase=Phase.SENDING, progress=again.progress),
        {steps.Find: RunEnded(run_id="run_1", status="expired")},
    )
    assert driver.names[0] == "Find"


# --- accepted, then failed ------------------------------------------------------------------------


def test_a_failed_run_over_text_that_is_kept_is_followed_by_a_run_without_it() -> None:
    driver = Scripted(ASSISTANTS)
    error = ErrorInfo(code="server_error", message="sorry")
    driver.run(claimed(), {steps.Watch: RunEnded(run_id="run_1", status="failed", error=error)})
    again = driver.only(steps.Postpone)
    assert (again.state, again.phase, again.progress.already_in_thread) == (
        RETRYING,
        Phase.FROZEN,
        True,
    )
    assert (again.progress.error, again.progress.run_id, again.progress.failures) == (
        error,
        None,
        1,
    )
    driver.run(claimed(progress=again.progress))
    assert driver.names == ["Save(sending)", "Start", "Save(running)", "Watch", "Finish"]
    assert driver.only(steps.Start).request.items == ()


def test_a_failed_run_on_conversations_is_looked_for_before_its_text_is_sent_again() -> None:
    driver = Scripted(CONVERSATIONS)
    driver.run(claimed(), {steps.Watch: RunEnded(run_id="run_1", status="failed")})
    again = driver.only(steps.Postpone)
    assert (again.phase, again.progress.already_in_thread, again.progress.sent_ms) == (
        Phase.SENDING,
        False,
        0,
    )
    driver.run(claimed(phase=Phase.SENDING, progress=again.progress))
    assert driver.names[:3] == ["Find", "Save(sending)", "Start"]
    assert len(driver.only(steps.Start).request.items) == 2
    assert driver.all(steps.Save)[0].progress.failures == 1, "the failed run was counted once"


@BOTH
def test_a_failed_run_that_does_not_count_waits_as_long_as_it_was_asked_to(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    limited = RunEnded(run_id="run_1", status="failed", counts=False, retry_after_s=33.0)
    driver.run(claimed(), {steps.Watch: limited})
    again = driver.only(steps.Postpone)
    assert (again.wait_s, again.progress.failures, again.progress.refusals) == (33.0, 0, 1)


@BOTH
def test_a_run_that_failed_for_the_last_time_goes_to_the_failed_list(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(
        claimed(progress=Progress(failures=2)),
        {steps.Watch: RunEnded(run_id="run_1", status="expired")},
    )
    assert driver.only(steps.Bury).progress.already_in_thread is capabilities.keeps_failed_text
    assert driver.only(steps.Bury).error == ErrorInfo(
        code="run_failed", message="the run ended as 'expired'"
    )


def test_a_cut_stream_is_followed() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [StreamCut("cut"), StreamCut("cut"), DONE]})
    assert driver.names == [
        "Save(sending)",
        "Start",
        "Save(running)",
        "Watch",
        "Follow",
        "Watch",
        "Follow",
        "Watch",
        "Finish",
    ]
    assert {step.run_id for step in driver.all(steps.Follow)} == {"run_1"}


def test_a_stream_that_is_always_cut_gives_the_thread_back_for_a_moment() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [StreamCut("cut")] * (MAX_CUTS + 1)})
    held = driver.only(steps.Postpone)
    assert (held.state, held.phase, held.progress.run_id, held.progress.failures) == (
        HELD,
        Phase.RUNNING,
        "run_1",
        0,
    )


@pytest.mark.parametrize(
    "error",
    [
        OutcomeUnknown("502"),
        RequestRefused("429", counts=False),
        ConversationBusy("?"),
        BackendError("?"),
    ],
)
def test_whatever_goes_wrong_while_watching_does_not_make_an_accepted_batch_unsent(
    error: BackendError,
) -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: error})
    held = driver.only(steps.Postpone)
    assert (held.state, held.phase, held.progress.run_id) == (HELD, Phase.RUNNING, "run_1")


@pytest.mark.parametrize("error", [OutcomeUnknown("502"), RequestRefused("429", counts=False)])
def test_a_run_that_cannot_be_followed_now_stays_running(error: BackendError) -> None:
    driver = Scripted()
    driver.run(claimed(phase=Phase.RUNNING, progress=running()), {steps.Follow: error})
    held = driver.only(steps.Postpone)
    assert (held.state, held.phase, held.progress.run_id) == (HELD, Phase.RUNNING, "run_1")


@pytest.mark.parametrize(
    ("capabilities", "attempts", "phase"),
    [
        (CONVERSATIONS, 1, Phase.SENDING),
        (FOREGROUND, 2, Phase.SENDING),
        (CONVERSATIONS, 0, Phase.FROZEN),
        (ASSISTANTS, 1, Phase.FROZEN),
    ],
)
def test_a_conversation_that_an_earlier_attempt_may_keep_busy_is_read_before_the_next(
    capabilities: Capabilities, attempts: int, phase: Phase
) -> None:
    """On Assistants the run itself says how it is; the first attempt has no earlier one."""
    driver = Scripted(capabilities)
    progress = sending(attempts=attempts, sent_ms=0) if attempts else Progress()
    driver.run(
        claimed(phase=Phase.SENDING if attempts else Phase.FROZEN, progress=progress),
        {steps.Start: ConversationBusy("locked", counts=False)},
    )
    postponed = driver.only(steps.Postpone)
    assert (postponed.phase, postponed.progress.sent_ms == 0) == (phase, phase is Phase.SENDING)
    assert postponed.progress.attempts == attempts
    driver.run(claimed(phase=postponed.phase, progress=postponed.progress))
    assert ("Find" in driver.names) == (phase is Phase.SENDING)


@BOTH
def test_a_vanished_run_may_still_have_been_written_down_so_it_is_looked_for_after_a_grace(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(phase=Phase.RUNNING, progress=running()), {steps.Follow: RunVanished("404")})
    again = driver.only(steps.Postpone)
    assert (again.state, again.phase, again.progress.run_id, again.progress.sent_ms) == (
        RETRYING,
        Phase.SENDING,
        None,
        NOW,
    )
    assert again.progress.failures == 1


def test_a_run_that_was_given_up_and_cannot_be_cancelled_is_waited_for_by_its_id() -> None:
    """While it is open nothing is sent: on a server without a lock both would answer."""
    driver = Scripted(FOREGROUND, rules=Rules(retry_for_s=600))
    driver.run(claimed(), {steps.Watch: RunExpired("too late")})
    left = driver.only(steps.Postpone).progress
    assert (left.given_up, left.run_id) == ("run_1", None)

    later = replace(left, sent_ms=NOW - 36_000)
    driver.run(
        claimed(phase=Phase.SENDING, progress=later), {steps.Find: RunAccepted(run_id="run_1")}
    )
    assert driver.names == ["Find", "Postpone(held)"]
    assert driver.only(steps.Find).run_id == "run_1"

    again = replace(driver.only(steps.Postpone).progress, sent_ms=NOW - 36_000)
    tired = replace(again, undecided_since_ms=NOW - 600_001)
    ending = driver.run(claimed(phase=Phase.SENDING, progress=again), {steps.Find: DONE})
    assert isinstance(ending, steps.Completed)
    assert driver.names == ["Find", "Finish"]

    driver.run(
        claimed(phase=Phase.SENDING, progress=tired), {steps.Find: RunAccepted(run_id="run_1")}
    )
    assert driver.only(steps.Bury).reason == "parked"


def test_a_run_that_could_not_be_cancelled_after_all_is_waited_for_too() -> None:
    driver = Scripted(CONVERSATIONS)
    driver.run(
        claimed(), {steps.Watch: RunExpired("too late"), steps.Find: RunAccepted(run_id="run_1")}
    )
    assert driver.names[-3:] == ["Cancel", "Find", "Postpone(retrying)"]
    assert driver.only(steps.Postpone).progress.given_up == "run_1"


def test_a_run_that_was_given_up_and_came_to_nothing_is_forgotten() -> None:
    driver = Scripted(FOREGROUND)
    left = sending(given_up="run_1", failures=1)
    failed = RunEnded(run_id="run_1", status="failed", error=ErrorInfo(code="x", message="y"))
    driver.run(
        claimed(phase=Phase.SENDING, progress=left),
        {steps.Find: [failed, NotFound(anchor="item_0")]},
    )
    assert [step.run_id for step in driver.all(steps.Find)] == ["run_1", None]
    assert driver.names == [
        "Find",
        "Find",
        "Save(sending)",
        "Start",
        "Save(running)",
        "Watch",
        "Finish",
    ]


@BOTH
def test_a_run_over_its_deadline_is_cancelled_and_the_attempt_counts(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    driver.run(claimed(), {steps.Watch: RunExpired("600 s")})
    assert driver.names[-3:] == ["Cancel", "Find", "Postpone(retrying)"]
    again = driver.only(steps.Postpone)
    assert (again.progress.failures, again.progress.error.code) == (1, "run_expired")
    assert again.phase is (Phase.FROZEN if capabilities is ASSISTANTS else Phase.SENDING)


def test_a_run_over_its_deadline_that_cannot_be_cancelled_still_works() -> None:
    driver = Scripted(FOREGROUND)
    driver.run(claimed(), {steps.Watch: RunExpired("600 s")})
    again = driver.only(steps.Postpone)
    assert (driver.names[-1], again.phase, again.progress.sent_ms) == (
        "Postpone(retrying)",
        Phase.SENDING,
        NOW,
    )


def test_a_run_reported_failed_by_an_error_is_stopped() -> None:
    driver = Scripted(ASSISTANTS)
    driver.run(claimed(), {steps.Watch: RunFailed("cancelled by somebody")})
    assert driver.names[-2:] == ["Cancel", "Postpone(retrying)"]


# --- deaths, delivery, the rest -------------------------------------------------------------------


IN_A_PHASE = pytest.mark.parametrize(
    ("phase", "progress"),
    [(Phase.FROZEN, Progress()), (Phase.SENDING, sending()), (Phase.RUNNING, running())],
)


def bury_after(deaths: int, phase: Phase, progress: Progress, *, crashes: int = 0) -> None:
    driver = Scripted()
    driver.run(
        claimed(
            phase=phase,
            progress=replace(progress, crashes_in_user_code=max(crashes - 1, 0)),
            deaths=deaths if crashes else deaths - 1,
        )
    )
    assert "Bury" not in driver.names
    driver.run(
        claimed(
            phase=phase, progress=replace(progress, crashes_in_user_code=crashes), deaths=deaths
        )
    )
    # Its run is not watched any more: if one is known it is stopped, so that the thread's next
    # batch is let in.
    assert driver.names == (["Cancel", "Bury"] if progress.run_id else ["Bury"])
    assert driver.only(steps.Bury).reason == "worker_deaths"
    assert phase.value in driver.only(steps.Bury).error.message


@IN_A_PHASE
def test_a_batch_that_killed_three_workers_goes_to_the_failed_list(
    phase: Phase, progress: Progress
) -> None:
    bury_after(1, phase, replace(progress, in_user_code=True), crashes=MAX_DEATHS - 1)


@IN_A_PHASE
def test_a_batch_that_only_waited_when_its_workers_were_killed_stays_for_long(
    phase: Phase, progress: Progress
) -> None:
    bury_after(MAX_DEATHS_ELSEWHERE, phase, replace(progress))


@IN_A_PHASE
def test_workers_that_died_before_they_called_the_function_again_are_not_held_against_it(
    phase: Phase, progress: Progress
) -> None:
    """Only the first can have died in it: the next worker writes again before it calls."""
    bury_after(MAX_DEATHS_ELSEWHERE, phase, replace(progress, in_user_code=True))


def test_a_batch_that_kills_in_a_users_function_is_given_up_and_repeats_nothing() -> None:
    """The second time it waits to be exclusive: a neighbour's crash in the process is not its own."""
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [action(1), DONE]})
    dying = next(
        save.progress for save in driver.all(steps.Save) if save.progress.in_user_code
    ).dump()
    for deaths in range(1, MAX_DEATHS):
        driver.run(
            claimed(phase=Phase.RUNNING, progress=Progress.load(dying), deaths=1),
            {steps.Watch: [action(1), DONE]},
        )
        at = driver.names.index("EnterExclusive")
        assert driver.names[at - 1 : at + 3] == [
            "Save(running)",
            "EnterExclusive",
            "Save(running)",
            "Answer",
        ]
        waits, calls = (
            step.progress for step in driver.trace[at - 1 : at + 2] if isinstance(step, steps.Save)
        )
        assert (
            waits.crashes_in_user_code,
            waits.waits_for_exclusive,
            calls.crashes_in_user_code,
            calls.waits_for_exclusive,
            calls.in_user_code,
        ) == (
            deaths,
            True,
            deaths,
            False,
            True,
        )
        dying = calls.dump()
    driver.run(claimed(phase=Phase.RUNNING, progress=Progress.load(dying), deaths=1))
    assert driver.names == ["Cancel", "Bury"]
    assert driver.only(steps.Bury).error.message.startswith("3 workers died")


def test_deaths_while_it_waits_to_be_called_alone_are_its_neighbours() -> None:
    progress = Progress(
        attempts=1,
        run_id="run_1",
        in_user_code=True,
        crashes_in_user_code=MAX_DEATHS - 1,
        waits_for_exclusive=True,
    )
    driver = Scripted()
    driver.run(
        claimed(phase=Phase.RUNNING, progress=progress, deaths=MAX_DEATHS),
        {steps.Watch: [action(1), DONE]},
    )
    assert "EnterExclusive" in driver.names
    assert "Bury" not in driver.names
    (ended,) = {
        (save.progress.crashes_in_user_code, save.progress.in_user_code)
        for save in driver.all(steps.Save)
        if save.phase is Phase.SENDING
    }
    assert ended == (0, False), "the function has returned: nothing is held against the batch"


@pytest.mark.parametrize("where", [steps.Save, steps.Start, steps.Watch, steps.Finish])
def test_a_lost_lease_ends_the_flow_without_another_step(where: type[Any]) -> None:
    driver = Scripted()
    with pytest.raises(LeaseLost):
        driver.run(claimed(), {where: LeaseLost("another worker's")})
    assert isinstance(driver.trace[-1], where)


def test_an_error_of_no_known_kind_is_not_swallowed() -> None:
    with pytest.raises(AssistantQueueError, match="odd"):
        Scripted().run(claimed(), {steps.Start: AssistantQueueError("odd")})


# --- a replica that does not know of the request --------------------------------------------------


def test_what_no_replica_knows_of_is_not_sent_and_never_counts() -> None:
    driver = Scripted(
        rules=Rules(max_attempts=1, retry_for_s=0.0, backoff=Backoff(type="fixed", delay_s=3))
    )
    batch = claimed(progress=Progress(refusals=50, waiting_since_ms=1))
    ending = driver.run(batch, {steps.Save: NotReplicated("no replica")})
    assert driver.names == ["Save(sending)", "Postpone(retrying)"]
    back = driver.only(steps.Postpone)
    assert (back.phase, back.wait_s, back.progress.attempts, back.progress.failures) == (
        Phase.FROZEN,
        3,
        0,
        0,
    )
    assert isinstance(ending, steps.Postponed)
    assert ending.error.code == "not_replicated"


def test_what_no_worker_can_write_goes_to_the_failed_list_and_not_round_for_ever() -> None:
    driver = Scripted()
    ending = driver.run(claimed(), {steps.Save: NotEncodable("half of a surrogate pair")})
    assert driver.names == ["Save(sending)", "Bury"]
    assert driver.only(steps.Bury).reason == "corrupt"
    assert isinstance(ending, steps.Failed)
    assert ending.error.code == "not_encodable"


def test_outputs_that_no_replica_knows_of_are_kept_and_their_run_is_asked_about_at_once() -> None:
    driver = Scripted()
    driver.run(
        claimed(),
        {steps.Watch: action(1), steps.Save: [None, None, None, NotReplicated("no replica")]},
    )
    assert driver.names[-3:] == ["Answer", "Save(sending)", "Postpone(retrying)"]
    back = driver.only(steps.Postpone)
    assert (back.phase, back.progress.sent_ms, back.progress.attempts) == (Phase.SENDING, 0, 1)
    assert back.progress.outputs == {"call_1": "output of call_1"}


def test_only_what_a_request_follows_is_waited_for() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Watch: [action(1), DONE]})
    assert [(step.phase.value, step.leaves) for step in driver.all(steps.Save)] == [
        ("sending", True),
        ("running", False),
        ("running", False),
        ("sending", True),
        ("running", False),
    ]


@pytest.mark.parametrize("capabilities", [ASSISTANTS, CONVERSATIONS])
def test_a_run_that_ended_well_before_it_could_be_cancelled_is_the_one(
    capabilities: Capabilities,
) -> None:
    driver = Scripted(capabilities)
    ending = driver.run(claimed(), {steps.Watch: RunExpired("too late"), steps.Find: DONE})
    assert driver.names[-3:] == ["Cancel", "Find", "Finish"]
    assert isinstance(ending, steps.Completed)
    assert ending.result.reply == "hi"


def test_a_run_that_was_given_up_and_cannot_be_asked_about_counts_as_failed() -> None:
    driver = Scripted(ASSISTANTS)
    ending = driver.run(
        claimed(), {steps.Watch: RunExpired("too late"), steps.Find: OutcomeUnknown("502")}
    )
    assert driver.names[-3:] == ["Cancel", "Find", "Postpone(retrying)"]
    assert isinstance(ending, steps.Postponed)


def test_a_burial_does_not_wait_for_ever_for_the_cancelling_of_its_run() -> None:
    """Workers may be killed in that wait, too: after three the batch is buried without it."""
    driver = Scripted(ASSISTANTS)
    progress = Progress(
        attempts=1,
        run_id="run_1",
        in_user_code=True,
        crashes_in_user_code=MAX_DEATHS - 1,
        calls=(call(1),),
    )
    driver.run(claimed(phase=Phase.RUNNING, progress=replace(progress), deaths=MAX_DEATHS_BURYING))
    assert driver.names == ["Cancel", "Bury"]
    assert driver.only(steps.Cancel).patience_s == BURIAL_PATIENCE_S
    driver.run(
        claimed(phase=Phase.RUNNING, progress=replace(progress), deaths=1 + MAX_DEATHS_BURYING)
    )
    assert driver.names == ["Bury"]


def test_a_fallback_callable_that_killed_three_workers_is_not_called_again() -> None:
    error = ErrorInfo(code="x", message="y")
    progress = Progress(
        attempts=3,
        burying="attempts",
        error=error,
        in_user_code=True,
        crashes_in_user_code=MAX_DEATHS - 1,
    )
    driver = Scripted(rules=Rules(fallback=True))
    driver.run(claimed(phase=Phase.SENDING, progress=progress, deaths=1))
    assert driver.names == ["Bury"]
    assert driver.only(steps.Bury).reason == "attempts"


def test_the_grace_begins_when_the_answer_is_lost() -> None:
    driver = Scripted()

    def lose(_: steps.Start) -> OutcomeUnknown:
        driver.clock.advance(30)
        return OutcomeUnknown("lost")

    driver.run(claimed(), {steps.Start: lose})
    assert driver.only(steps.Postpone).progress.sent_ms == NOW + 30_000


@pytest.mark.parametrize("error", [CallbackError("it raised"), RunExpired("it took too long")])
def test_a_worker_that_dies_after_a_failed_function_does_not_die_of_the_batch(
    error: AssistantQueueError,
) -> None:
    driver = Scripted()
    progress = running(in_user_code=True, crashes_in_user_code=1)
    driver.run(
        claimed(phase=Phase.RUNNING, progress=progress),
        {steps.Watch: action(1), steps.Answer: error},
    )
    after = driver.only(steps.Postpone).progress
    assert not after.in_user_code
    assert (after.called, after.called_ms) == (None, 0)
    returned = isinstance(error, CallbackError)
    assert after.crashes_in_user_code == (0 if returned else 1), "a function that hangs may kill"


def test_a_batch_without_a_provider_uses_up_no_attempt() -> None:
    driver = Scripted()
    driver.run(claimed(), {steps.Start: NotConfigured("no provider")})
    buried = driver.only(steps.Bury)
    assert (buried.reason, buried.progress.attempts) == ("not_configured", 0)


@pytest.mark.parametrize("delivers", [True, False])
def test_the_step_that_stores_the_results_puts_the_reply_into_the_outbox(delivers: bool) -> None:
    driver = Scripted(rules=Rules(delivers=delivers))
    ending = driver.run(claimed())
    assert driver.names == ["Save(sending)", "Start", "Save(running)", "Watch", "Finish"]
    finish = driver.only(steps.Finish)
    assert (finish.anchor, finish.delivers) == ("item_9", delivers)
    assert ending == steps.Completed(result=finish.result)


@pytest.mark.parametrize("delivers", [True, False])
def test_a_fallback_joins_the_outbox_with_the_burial(delivers: bool) -> None:
    driver = Scripted(rules=Rules(delivers=delivers, fallback="sorry"))
    moderated = RequestRefused("no", trouble=Trouble(kind=Kind.MODERATED))
    driver.run(claimed(), {steps.Start: moderated})
    bury = driver.only(steps.Bury)
    assert bury.fallback == "sorry"
    assert (bury.result is not None) == delivers
    if bury.result is not None:
        assert (bury.result.reply, bury.result.status, bury.result.fallback) == (
            "sorry",
            "failed",
            True,
        )


def test_a_batch_that_version_0_1_was_delivering_joins_the_outbox_without_a_request() -> None:
    driver = Scripted(rules=Rules(delivers=True))
    driver.run(claimed())
    result = driver.only(steps.Finish).result
    progress = Progress(attempts=1, run_id=result.run_id, result=result)
    driver.run(claimed(phase=Phase.DELIVERING, progress=progress, deaths=1))
    assert driver.names == ["Finish"]
    finish = driver.only(steps.Finish)
    assert dump_result(finish.result) == dump_result(result)
    assert (finish.result.messages, finish.delivers) == (result.messages, True)
