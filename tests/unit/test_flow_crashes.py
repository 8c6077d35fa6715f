"""Deaths and lost answers at every step: one completed run is left, which holds the batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import pytest
from flow_harness import (
    ASSISTANTS,
    BACKGROUND,
    CONVERSATIONS,
    HOME,
    Crash,
    Known,
    Limit,
    ModelProvider,
    World,
    messages,
)
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core import steps
from assistant_queue.core.flow import MAX_DEATHS, Rules
from assistant_queue.errors import OutcomeUnknown, RequestRefused, StreamCut
from assistant_queue.models import Message

WITH_EFFECT = (steps.Start, steps.Submit, steps.RenewConversation)
SAID = (
    *messages("one", wants_reply=False),
    Message(id="m2", content="two", role="assistant", wants_reply=False),
)
"""A reply of `say`, and a message before it that wants no reply: no run answers them."""
MOST_STEPS = 40
"""No scenario without faults has as many."""


@dataclass(frozen=True)
class Scenario:
    by_anchor: bool
    rounds: int = 0
    fails: int = 0
    delivers: bool = False
    mapped: bool = False
    is_slow: bool = False
    limit: Limit | None = None
    writes: bool = False
    background: bool = False
    forgets: bool = False

    def world(self) -> World:
        provider = ModelProvider(
            by_anchor=self.by_anchor,
            rounds=self.rounds,
            fails=self.fails,
            is_slow=self.is_slow,
            limit=self.limit,
        )
        provider.forgets = self.forgets
        rules = Rules(delivers=self.delivers, max_attempts=10, background=self.background)
        capabilities = CONVERSATIONS if self.by_anchor else ASSISTANTS
        world = World(
            provider,
            BACKGROUND[self.by_anchor] if self.background else capabilities,
            rules,
            mapped=self.mapped,
            batch=SAID if self.writes else (),
        )
        world.refused_room = 2 if self.background else 0
        return world


def scenarios() -> list[Any]:
    shapes = {
        "plain": {},
        "first of a mapped thread": {"mapped": True},
        "tools": {"rounds": 2},
        "delivery": {"delivers": True},
        "a run fails": {"fails": 1},
        "tools after a failed run": {"rounds": 1, "fails": 1, "is_slow": True},
        "no run": {"writes": True},
        "no run, first of a mapped thread": {"writes": True, "mapped": True, "delivers": True},
        "background, with tools": {"background": True, "rounds": 2},
        "background, a run fails": {"background": True, "fails": 1, "rounds": 1},
        "background, found too late": {"background": True, "forgets": True, "delivers": True},
        "background, no run": {"background": True, "writes": True},
        "outgrown": {"limit": Limit(entries=8, past=5)},
        "outgrown, in a run": {"limit": Limit(entries=8, past=5, fails_at="run")},
        "outgrown, in a run that is shortened in vain": {
            "limit": Limit(entries=8, past=5, fails_at="run", ways=2)
        },
        "outgrown, again and again": {"limit": Limit(entries=4, past=7)},
        "outgrown, with nothing left": {"limit": Limit(entries=2, past=1)},
    }
    outputs = {
        "outgrown by outputs": {"rounds": 1, "limit": Limit(entries=7, past=2)},
        "outgrown by outputs, in a run": {
            "rounds": 1,
            "limit": Limit(entries=7, past=2, fails_at="run", ways=1),
        },
        "outgrown by the second outputs": {"rounds": 2, "limit": Limit(entries=9, past=2)},
    }
    return [
        pytest.param(
            Scenario(by_anchor=by_anchor, **shape),
            id=f"{'conversations' if by_anchor else 'assistants'}-{name}",
        )  # type: ignore[arg-type]
        for by_anchor in (False, True)
        for name, shape in (shapes | (outputs if by_anchor else {})).items()
    ]


EVERY_SCENARIO = pytest.mark.parametrize("scenario", scenarios())


def check(world: World, scenario: Scenario, story: Any) -> None:
    """Check what must hold at the end, whatever happened on the way."""
    provider = world.provider
    assert provider.texts() == Counter({"m1": 1, "m2": 1}), (story, provider.log)
    if scenario.writes:
        assert provider.log[-2:] == [("user", "m1"), ("user", "m2")], (story, provider.log)
        assert (provider.runs, world.buried, world.delivered) == ([], [], []), story
        return
    assert len(provider.completed()) == 1, (story, provider.runs)
    assert provider.open_runs() == [], (story, provider.runs)
    assert provider.log[-1] == ("reply", "batch_1"), (story, provider.log)
    assert provider.log.count(("reply", "batch_1")) == 1, (story, provider.log)
    if scenario.limit is None:
        assert provider.home == HOME, (story, provider.home)
    outputs = Counter(what for kind, what in provider.log if kind == "output")
    assert len(outputs) == scenario.rounds, (story, provider.log)
    assert set(outputs.values()) <= {1}, (story, provider.log)
    assert not world.buried
    assert set(world.delivered) == ({"batch_1"} if scenario.delivers else set()), story


def steps_of(scenario: Scenario) -> int:
    world = scenario.world()
    world.live_to_the_end()
    check(world, scenario, "nothing happens")
    assert (world.provider.home == HOME) is (scenario.limit is None)
    return world.number


@EVERY_SCENARIO
def test_without_faults_the_batch_is_completed(scenario: Scenario) -> None:
    assert 5 <= steps_of(scenario) < MOST_STEPS


@EVERY_SCENARIO
@pytest.mark.parametrize("when", ["before", "after"])
def test_dying_at_any_step_leaves_one_completed_run(scenario: Scenario, when: str) -> None:
    last = steps_of(scenario)
    for doomed in range(1, last + 1):
        world = scenario.world()
        kinds: list[str] = []

        def fault(
            number: int,
            step: steps.Step,
            moment: str,
            doomed: int = doomed,
            kinds: list[str] = kinds,
        ) -> Exception | None:
            if (number, moment) != (doomed, when):
                return None
            kinds.append(type(step).__name__)
            return Crash()

        world.fault = fault
        if when == "after" and doomed == last:
            continue  # the batch had been finished: it is not claimed again
        ending = world.live_to_the_end()
        story = f"died {when} step {doomed}, {kinds}"
        assert isinstance(ending, steps.Completed), story
        assert kinds, story
        check(world, scenario, story)
        assert world.finished == 1, story


@EVERY_SCENARIO
def test_dying_twice_at_any_two_steps_leaves_one_completed_run(scenario: Scenario) -> None:
    known: set[Hashable] = set()
    for first in range(1, 16):
        for second in range(first + 1, first + 12):
            reached = 0
            for moments in (("before", "after"), ("after", "after"), ("after", "before")):
                world = scenario.world()
                doomed = {(first, moments[0]), (second, moments[1])}
                finished = []

                def fault(
                    number: int,
                    step: steps.Step,
                    moment: str,
                    doomed: set[tuple[int, str]] = doomed,
                    finished: list[int] = finished,
                ) -> Exception | None:
                    if isinstance(step, steps.Finish) and moment == "after":
                        finished.append(number)
                        return None
                    return Crash() if (number, moment) in doomed else None

                world.fault = fault
                world.last_fault = second
                world.known = known
                try:
                    ending = world.live_to_the_end()
                except Known:
                    reached = second
                    continue  # a like world was checked
                reached = max(reached, world.number)
                assert isinstance(ending, steps.Completed), doomed
                check(world, scenario, doomed)
                known.update(world.claims)
            if reached < second:
                break  # it was over before


@EVERY_SCENARIO
@pytest.mark.parametrize("when", ["before", "after"])
def test_losing_the_answer_to_any_request_leaves_one_completed_run(
    scenario: Scenario, when: str
) -> None:
    lost = []
    for number_of_request in range(1, 10):
        world = scenario.world()
        count = 0

        def fault(
            _: int, step: steps.Step, moment: str, unlucky: int = number_of_request
        ) -> Exception | None:
            nonlocal count
            if not isinstance(step, WITH_EFFECT) or moment != when:
                return None
            count += 1
            lost.append(unlucky)
            return OutcomeUnknown("the answer was lost") if count == unlucky else None

        world.fault = fault
        assert isinstance(world.live_to_the_end(), steps.Completed)
        check(world, scenario, f"lost the answer to request {number_of_request}, {when} it arrived")
    assert lost


@EVERY_SCENARIO
def test_dying_in_the_round_after_outputs_were_stored_does_not_call_the_user_again(
    scenario: Scenario,
) -> None:
    for doomed in range(1, steps_of(scenario) + 1):
        world = scenario.world()
        stored: set[str] = set()
        repeated: list[str] = []
        seen = (stored, repeated)

        def fault(
            number: int,
            step: steps.Step,
            when: str,
            doomed: int = doomed,
            seen: tuple[set[str], list[str]] = seen,
        ) -> Exception | None:
            if isinstance(step, steps.Answer) and when == "before":
                seen[1].extend(one.id for one in step.calls if one.id in seen[0])
            if isinstance(step, steps.Save) and when == "after":
                seen[0].update(step.progress.outputs)
            return Crash() if (number, when) == (doomed, "before") else None

        world.fault = fault
        world.live_to_the_end()
        assert repeated == [], f"died before step {doomed}"
        assert all(count <= 2 for count in world.answered.values())


@given(
    scenario=st.builds(
        Scenario,
        by_anchor=st.booleans(),
        rounds=st.integers(0, 2),
        fails=st.integers(0, 2),
        delivers=st.booleans(),
        mapped=st.booleans(),
        is_slow=st.booleans(),
        writes=st.booleans(),
        limit=st.none()
        | st.builds(
            Limit,
            entries=st.just(8),
            past=st.integers(3, 9),
            fails_at=st.sampled_from(["create", "run"]),
            ways=st.integers(0, 2),
        ),
    ),
    faults=st.dictionaries(
        st.integers(1, 40),
        st.tuples(
            st.sampled_from(["before", "after"]),
            st.sampled_from(["crash", "lost", "refused", "limited", "cut", "unreachable"]),
        ),
        max_size=6,
    ).filter(lambda faults: sum(kind == "crash" for _, kind in faults.values()) < MAX_DEATHS),
)
def test_any_mixture_of_faults_leaves_one_completed_run(
    scenario: Scenario, faults: dict[int, tuple[str, str]]
) -> None:
    def fault(number: int, step: steps.Step, when: str) -> Exception | None:
        moment, kind = faults.get(number, ("", ""))
        if moment != when:
            return None
        if kind == "crash":
            return None if isinstance(step, steps.Finish) and when == "after" else Crash()
        if isinstance(step, WITH_EFFECT):
            if kind == "lost":
                return OutcomeUnknown("lost")
            if when == "before":
                return {
                    "refused": RequestRefused("400"),
                    "limited": RequestRefused("429", counts=False, retry_after_s=3.0),
                }.get(kind)
        if isinstance(step, steps.Watch) and kind in ("cut", "unreachable"):
            return StreamCut("cut") if kind == "cut" else OutcomeUnknown("502")
        if isinstance(step, steps.Find | steps.Follow) and kind in ("limited", "unreachable"):
            return (
                RequestRefused("429", counts=False) if kind == "limited" else OutcomeUnknown("502")
            )
        return None

    world = scenario.world()
    world.fault = fault
    ending = world.live_to_the_end()
    assert isinstance(ending, steps.Completed)
    check(world, scenario, faults)


@pytest.mark.parametrize("by_anchor", [False, True], ids=["assistants", "conversations"])
@pytest.mark.parametrize("fails_at", ["create", "run"])
def test_a_batch_that_is_too_long_by_itself_leaves_the_thread_as_it_was_at_any_crash(
    by_anchor: bool, fails_at: str
) -> None:
    doomed = 0
    while True:
        doomed += 1
        scenario = Scenario(by_anchor=by_anchor, limit=Limit(entries=1, past=4, fails_at=fails_at))
        world = scenario.world()
        before = list(world.provider.log)
        died: list[str] = []

        def fault(
            number: int, step: steps.Step, when: str, doomed: int = doomed, died: list[str] = died
        ) -> Exception | None:
            if (number, when) != (doomed, "after") or isinstance(step, steps.Bury):
                return None
            died.append(type(step).__name__)
            return Crash()

        world.fault = fault
        ending = world.live_to_the_end()
        story = f"died after step {doomed}, {died}"
        assert isinstance(ending, steps.Failed), story
        assert (ending.reason, ending.error.code) in {
            ("refused", "request_refused"),
            ("refused", "context_length_exceeded"),
        }, story
        assert world.conversation_id == HOME, story
        own = [] if by_anchor or fails_at == "create" else [("user", "m1"), ("user", "m2")]
        assert world.provider.log[: len(before)] == before, story
        assert world.provider.log[len(before) :] in ([], own), story
        assert len(world.dropped) >= 3, story
        assert HOME not in world.dropped, story
        assert [bury.open_calls for bury in world.buried] == [()], story
        if not died:
            assert doomed > 10
            return
