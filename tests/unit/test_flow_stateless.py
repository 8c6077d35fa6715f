"""A provider that keeps nothing: after any fault the batch continues after the last stored round."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from flow_harness import Crash, ModelProvider, Scripted, World, action, call, claimed
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core import steps
from assistant_queue.core.flow import MAX_DEATHS, Rules
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import (
    ActionRequired,
    Capabilities,
    FoundBy,
    RunAccepted,
    RunEnded,
    RunRequest,
)
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import (
    InvalidToolResult,
    OutcomeUnknown,
    RequestRefused,
    RunExpired,
    StreamCut,
)
from assistant_queue.models import ToolCall, Usage

STATELESS = Capabilities(found_by=FoundBy.NOT_AT_ALL, conversations=False, stateless=True)


class Forgetful(ModelProvider):
    """Answers from the request alone, with new ids for every call it makes."""

    def __init__(self, *, rounds: int = 0, fails: int = 0) -> None:
        super().__init__(by_anchor=False, rounds=rounds, fails=fails)
        self.told: dict[str, list[Any]] = {}
        self.sent: list[RunRequest] = []

    def _begin(self, request: RunRequest, rounds: list[Any]) -> RunAccepted:
        assert [one for item in request.items for one in item.message_ids] == ["m1", "m2"]
        assert request.anchor == "what was said before"
        self.sent.append(request)
        run_id = self._new("run")
        self.told[run_id] = rounds
        return RunAccepted(run_id=run_id)

    def start(self, request: RunRequest) -> RunAccepted:
        assert request.transcript is None
        return self._begin(request, [])

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> RunAccepted:
        assert run_id
        rounds = json.loads(request.transcript or "[]")
        assert rounds[-1] == [one.id for one in calls] == list(outputs)
        return self._begin(request, rounds)

    def watch(self, run_id: str) -> ActionRequired | RunEnded:
        rounds = self.told[run_id]
        if self.fails:
            self.fails -= 1
            return RunEnded(run_id=run_id, status="failed")
        if len(rounds) == self.rounds:
            return RunEnded(
                run_id=run_id,
                status="completed",
                replies=("the answer",),
                anchor=json.dumps(rounds),
            )
        made = self._new("call")
        return ActionRequired(
            run_id=run_id,
            calls=(ToolCall(made, call(0).function),),
            transcript=json.dumps([*rounds, [made]]),
        )


def world(*, rounds: int = 0, fails: int = 0, delivers: bool = False) -> World:
    made = World(
        Forgetful(rounds=rounds, fails=fails),
        STATELESS,
        Rules(delivers=delivers, max_attempts=10),
        mapped=True,
    )
    made.batch = claimed(conversation_id=None, anchor="what was said before")
    return made


def check(played: World, ending: Any, rounds: int, story: Any) -> None:
    assert isinstance(ending, steps.Completed), story
    assert ending.result.replies == ("the answer",), story
    # Each round's call was asked for under one id, twice at most: a death between the function's
    # return and the write of its output.
    assert len(played.answered) == rounds, (story, played.answered)
    assert all(count <= 1 + played.deaths_in_all for count in played.answered.values()), story  # type: ignore[attr-defined]
    assert not played.buried
    assert played.finished == 1, story


def play(rounds: int, fault: Any, **given_: Any) -> None:
    played = world(rounds=rounds, **given_)
    deaths = 0

    def counting(number: int, step: steps.Step, when: str) -> Exception | None:
        nonlocal deaths
        problem: Exception | None = fault(number, step, when)
        deaths += isinstance(problem, Crash)
        return problem

    played.fault = counting
    ending = played.live_to_the_end()
    played.deaths_in_all = deaths  # type: ignore[attr-defined]
    check(played, ending, rounds, given_)


@pytest.mark.parametrize("rounds", [0, 1, 2])
@pytest.mark.parametrize("fails", [0, 2])
def test_without_faults_the_batch_is_completed(rounds: int, fails: int) -> None:
    play(rounds, lambda *_: None, fails=fails)


@pytest.mark.parametrize("delivers", [False, True])
def test_dying_at_any_step_continues_after_the_last_stored_round(delivers: bool) -> None:
    for doomed in range(1, 16):
        for moment in ("before", "after"):

            def fault(
                number: int, step: steps.Step, when: str, doomed: int = doomed, moment: str = moment
            ) -> Exception | None:
                if isinstance(step, steps.Finish) and when == "after":
                    return None
                return Crash() if (number, when) == (doomed, moment) else None

            play(2, fault, delivers=delivers)


@given(
    rounds=st.integers(0, 2),
    fails=st.integers(0, 2),
    faults=st.dictionaries(
        st.integers(1, 40),
        st.tuples(
            st.sampled_from(["before", "after"]),
            st.sampled_from(["crash", "lost", "refused", "limited", "cut"]),
        ),
        max_size=6,
    ).filter(lambda faults: sum(kind == "crash" for _, kind in faults.values()) < MAX_DEATHS),
)
def test_any_mixture_of_faults_ends_in_one_answer(
    rounds: int, fails: int, faults: dict[int, tuple[str, str]]
) -> None:
    def fault(number: int, step: steps.Step, when: str) -> Exception | None:
        moment, kind = faults.get(number, ("", ""))
        if moment != when or (isinstance(step, steps.Finish) and when == "after"):
            return None
        if kind == "crash":
            return Crash()
        if isinstance(step, steps.Start | steps.Submit):
            if kind == "lost":
                return OutcomeUnknown("lost")
            if when == "before":
                return {
                    "refused": RequestRefused("400"),
                    "limited": RequestRefused("429", counts=False, retry_after_s=3.0),
                }.get(kind)
        return StreamCut("cut") if isinstance(step, steps.Watch) and kind == "cut" else None

    play(rounds, fault, fails=fails)


# --- step by step ---------------------------------------------------------------------------------


def test_a_lost_answer_is_a_failure_and_no_riddle() -> None:
    driver = Scripted(STATELESS)
    ending = driver.run(claimed(), {steps.Start: [OutcomeUnknown("time-out")]})
    assert driver.names == ["Save(sending)", "Start", "Postpone(retrying)"]
    assert isinstance(ending, steps.Postponed)
    progress = driver.only(steps.Postpone).progress
    assert (ending.state, progress.failures, progress.attempts) == (ThreadState.RETRYING, 1, 1)


def test_the_history_is_read_with_the_claim_and_not_written_with_each_step() -> None:
    driver = Scripted(STATELESS)
    driver.run(claimed(anchor="[long]", conversation_id=None))
    assert driver.only(steps.Start).request.anchor == "[long]"
    assert all("[long]" not in step.progress.dump() for step in driver.all(steps.Save))


def test_a_round_is_stored_before_its_calls_are_answered_and_sent_again_after_a_cut() -> None:
    asked = action(
        1, run_id="run_1", replies=("wait",), usage=Usage(input_tokens=1), transcript="[1]"
    )
    driver = Scripted(STATELESS)
    driver.run(claimed(), {steps.Watch: [asked, StreamCut("cut")]})
    assert driver.names == [
        "Save(sending)", "Start", "Save(running)", "Watch", "Save(running)", "Answer", "Save(sending)", "Submit", "Save(running)", "Watch",
        "Postpone(retrying)",
    ]  # fmt: skip
    assert driver.all(steps.Save)[2].progress.asked == asked
    left = driver.only(steps.Postpone)
    assert (left.phase, left.progress.calls, left.progress.transcript) == (
        Phase.SENDING,
        (call(1),),
        "[1]",
    )

    again = Scripted(STATELESS)
    ending = again.run(claimed(phase=left.phase, progress=left.progress))
    assert again.names == ["Save(sending)", "Submit", "Save(running)", "Watch", "Finish"]
    sent = again.only(steps.Submit)
    assert (sent.request.transcript, sent.outputs) == ("[1]", {"call_1": "output of call_1"})
    assert isinstance(ending, steps.Completed)
    assert (ending.result.replies, ending.result.attempts) == (("wait", "hi"), 2)


def test_a_round_whose_function_failed_is_answered_again_under_its_ids() -> None:
    driver = Scripted(STATELESS)
    driver.run(
        claimed(),
        {
            steps.Watch: [action(1, transcript="[1]")],
            steps.Answer: [InvalidToolResult("returned 7")],
        },
    )
    left = driver.only(steps.Postpone)
    again = Scripted(STATELESS)
    ending = again.run(claimed(phase=left.phase, progress=left.progress))
    assert again.names == [
        "Save(sending)",
        "Answer",
        "Save(sending)",
        "Submit",
        "Save(running)",
        "Watch",
        "Finish",
    ]
    assert again.only(steps.Answer).calls == (call(1),)
    assert isinstance(ending, steps.Completed)


def test_each_attempt_has_its_own_deadline_and_a_takeover_keeps_it() -> None:
    driver = Scripted(STATELESS)
    driver.run(claimed(), {steps.Watch: [action(1, transcript="[1]"), RunExpired("too long")]})
    left = driver.only(steps.Postpone)
    assert left.progress.deadline_ms == 0
    again = Scripted(STATELESS)
    again.clock.advance(1000)
    again.run(claimed(phase=left.phase, progress=left.progress))
    assert again.only(steps.Watch).deadline_ms == again.clock.ms + 600_000

    died = Progress.load(driver.all(steps.Save)[2].progress.dump())  # while the function was called
    taken = Scripted(STATELESS)
    taken.clock.advance(100)
    taken.run(claimed(phase=Phase.RUNNING, progress=died, deaths=1))
    assert taken.only(steps.Watch).deadline_ms == died.deadline_ms


def test_workers_that_die_over_a_request_use_its_attempts_up() -> None:
    progress = Progress(attempts=1, sent_ms=5, deadline_ms=9, failures=2)
    driver = Scripted(STATELESS)
    ending = driver.run(claimed(phase=Phase.RUNNING, progress=progress, deaths=1))
    assert driver.names == ["Bury"]
    assert isinstance(ending, steps.Failed)
    assert (ending.reason, ending.error.code) == ("attempts", "outcome_unknown")


def test_a_refusal_for_a_passing_reason_is_no_attempt_in_a_round_either() -> None:
    refusal = RequestRefused("429", counts=False)
    driver = Scripted(STATELESS)
    driver.run(claimed(), {steps.Watch: [action(1, transcript="[1]")], steps.Submit: [refusal]})
    left = driver.only(steps.Postpone)
    assert left.progress.failures == 0
    again = Scripted(STATELESS)
    ending = again.run(claimed(phase=left.phase, progress=left.progress))
    assert isinstance(ending, steps.Completed)
    assert ending.result.attempts == 1


def test_nothing_is_left_open_at_a_provider_that_keeps_nothing() -> None:
    driver = Scripted(STATELESS, Rules(max_attempts=1))
    driver.run(
        claimed(),
        {
            steps.Watch: [action(1, transcript="[1]")],
            steps.Answer: [InvalidToolResult("returned 7")],
        },
    )
    assert driver.only(steps.Bury).open_calls == ()
