"""Deaths, stops and interruptions at every step of a batch that parks, on every protocol.

Each approved call is made once, unless its worker died inside it; a denied one never.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from flow_harness import Crash, answered
from hypothesis import given
from hypothesis import strategies as st
from steering_harness import (
    ASSISTANTS,
    KINDS,
    StatelessProvider,
    SteeredProvider,
    SteeredWorld,
    Wishing,
)

from assistant_queue.core import steps
from assistant_queue.core.flow import MAX_DEATHS, Rules, leaving
from assistant_queue.core.flow.open_calls import output_of
from assistant_queue.core.runs import Asked, RunAccepted, RunRequest
from assistant_queue.core.settlements import Settlement, SettlementKind
from assistant_queue.core.stored_rows import WaitRow
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import RunExpired

_K = SettlementKind
WAYS = ("approved", "denied", "answered", "expired", "late")
"""Outcomes of each call; `late`: approved after the run at the provider would have expired."""


class Reading(SteeredProvider):
    """A model that calls nothing again for which it reads an output in its instructions."""

    def start(self, request: RunRequest) -> RunAccepted:
        started = super().start(request)
        if request.carried:
            self.runs[-1].rounds_left = 0
        return started


class ParkedWorld(SteeredWorld):
    """A store that keeps what is settled from outside, once the batch is parked."""

    def __init__(self, kind: str, way: str, *wishes: Wishing, rounds: int = 1) -> None:
        provider = (
            StatelessProvider(rounds=rounds)
            if KINDS[kind].stateless
            else Reading(by_anchor=KINDS[kind] is not ASSISTANTS, rounds=rounds)
        )
        super().__init__(
            provider, KINDS[kind], Rules(max_attempts=10, approval_timeout_s=3600.0), *wishes
        )
        self.way = way
        self.settled: dict[str, Settlement] = {}
        self.asked: dict[str, int] = {}
        self.closed: set[str] = set()
        self.made: Counter[str] = Counter()
        self.deaths_inside = 0
        self.parks = 0

    def _effect(self, step: steps.Step) -> Any:
        match step:
            case steps.Answer():
                return self._answer(step)
            case steps.ParkBatch():
                return self._park(step)
            case steps.ReadSettlements():
                for one in step.expired:
                    self.settled.setdefault(one, Settlement(kind=_K.EXPIRED))
                assert not set(step.ids) & self.closed, "a closed call is asked about"
                return {one: self.settled[one] for one in step.ids if one in self.settled}
            case steps.CloseCalls():
                self.closed |= set(step.ids)
                for one in step.ids:
                    self.settled.setdefault(one, Settlement(kind=_K.WITHDRAWN))
                return None
        return super()._effect(step)

    def _answer(self, step: steps.Answer) -> steps.ToolsAnswered:
        done = tuple(one for one in step.calls if one.id in step.approved)
        self.made.update(one.id for one in done)
        asked = tuple(
            Asked(call_id=one.id, kind="approval", question="?")
            for one in step.calls
            if one not in done
        )
        return replace(answered(replace(step, calls=done), "sunny"), open=asked)

    def _park(self, step: steps.ParkBatch) -> bool:
        self.parks += 1
        self._save(step.phase, step.progress)
        self.deaths = 0
        assert step.calls, "it waits for something"
        is_open = [one for one in step.calls if one.id not in self.settled]
        if self.wish in {Wish.STOP, Wish.INTERRUPT} and self.wish is not self.seen:
            return True
        if len(is_open) < len(step.calls):
            return True
        first = is_open[0]
        if self.way == "late":
            self.clock.advance(step.wait_s)
            if self.parks < 2 and self.capabilities is ASSISTANTS:
                return True  # the run is ended first
        if self.way == "expired":
            self.clock.advance(step.wait_s)
            return True
        self.clock.advance(min(step.wait_s / 2, 300))
        kind = _K.APPROVED if self.way == "late" else _K(self.way)
        output = "given" if kind is _K.ANSWERED else None
        self.settled[first.id] = Settlement(kind=kind, by="eve", output=output)
        return True


def dies_at(world: ParkedWorld, *places: tuple[int, str]) -> None:
    ends = (steps.Finish, steps.Stop, steps.Bury)

    def fault(number: int, step: steps.Step, when: str) -> Exception | None:
        if (when == "after" and isinstance(step, ends)) or (number, when) not in places:
            return None
        return Crash()

    world.fault = fault


def check(world: ParkedWorld, ending: steps.Ending, story: Any, *, crashes: int = 0) -> None:
    story = (story, world.trace, world.steered.log)
    was_stopped = "wish stop" in world.trace
    assert isinstance(ending, steps.Stopped if was_stopped else steps.Completed) or (
        was_stopped and isinstance(ending, steps.Completed)
    ), story
    makes = world.way in {"approved", "late"}
    for call_id, settlement in world.settled.items():
        most = 1 + crashes if makes and settlement.kind is _K.APPROVED else 0
        assert world.made[call_id] <= most, (call_id, story)
    if not makes:
        assert not world.made, story
    elif "wish" not in " ".join(world.trace):
        assert world.made, story
    assert set(world.settled) <= world.closed, (story, world.settled)
    assert not world.steered.open_runs(), story
    log = world.steered.log
    assert all(count == 1 for count in Counter(log).values()), story
    if not was_stopped:
        assert Counter(what for kind, what in log if kind == "user") == Counter(world.ids()), story


def lived(world: ParkedWorld) -> steps.Ending:
    return world.live_to_the_end()


PROTOCOLS = ("responses", "assistants", "chat")
EVERY = pytest.mark.parametrize(
    ("kind", "way"), [(kind, way) for kind in PROTOCOLS for way in WAYS]
)


@EVERY
def test_a_death_at_every_step(kind: str, way: str) -> None:
    for rounds in (1, 2):
        quiet = ParkedWorld(kind, way, rounds=rounds)
        check(quiet, lived(quiet), "nothing happens")
        assert quiet.parks >= 1
        if way == "approved":
            assert set(quiet.made.values()) == {1}
        for number in range(1, quiet.number + 1):
            for when in ("before", "after"):
                world = ParkedWorld(kind, way, rounds=rounds)
                dies_at(world, (number, when))
                check(world, lived(world), (number, when), crashes=1)


@EVERY
@pytest.mark.parametrize("wish", [Wish.STOP, Wish.INTERRUPT, Wish.STEER])
def test_a_wish_at_every_step_and_a_death_after_it(kind: str, way: str, wish: Wish) -> None:
    quiet = ParkedWorld(kind, way)
    lived(quiet)
    for number in range(1, quiet.number + 1):
        made = Wishing(kind=wish, number=number, when="after")
        world = ParkedWorld(kind, way, made)
        check(world, lived(world), made)
        for doomed in range(number, number + 6):
            world = ParkedWorld(kind, way, made)
            dies_at(world, (doomed, "after"))
            check(world, lived(world), (made, doomed), crashes=1)


@given(
    kind=st.sampled_from(PROTOCOLS),
    way=st.sampled_from(WAYS),
    wishes=st.lists(
        st.builds(
            Wishing,
            kind=st.sampled_from(Wish),
            number=st.integers(1, 30),
            when=st.sampled_from(["before", "after"]),
        ),
        max_size=2,
    ),
    places=st.sets(
        st.tuples(st.integers(1, 40), st.sampled_from(["before", "after"])),
        max_size=MAX_DEATHS - 1,
    ),
)
def test_several_deaths_and_wishes(
    kind: str, way: str, wishes: list[Wishing], places: set[tuple[int, str]]
) -> None:
    world = ParkedWorld(kind, way, *wishes, rounds=2)
    dies_at(world, *places)
    check(world, lived(world), (wishes, places), crashes=len(places))


def test_the_time_for_which_a_batch_is_parked_is_no_time_of_its_run() -> None:
    world = ParkedWorld("responses", "late")
    ending = lived(world)
    assert isinstance(ending, steps.Completed)
    assert world.clock.ms > world.batch.claimed_ms + 3000 * 1000


@pytest.mark.parametrize("kind", PROTOCOLS)
def test_a_call_that_outlived_the_run_s_time_gets_it_again(kind: str) -> None:
    world = ParkedWorld(kind, "approved")
    left: list[float] = []

    def outlive_once(_: int, step: steps.Step, when: str) -> Exception | None:
        if when == "after" or not (isinstance(step, steps.Answer) and step.approved):
            return None
        left.append(world.progress.deadline_ms - world.clock.ms)
        if len(left) > 1:
            return None
        world.clock.advance(left[0] / 1000 + 1)
        return RunExpired("too slow")

    world.fault = outlive_once
    assert isinstance(lived(world), steps.Completed)
    assert min(left) > 0
    assert len(left) == 2


def test_a_run_is_ended_before_it_expires_and_the_next_reads_the_outputs() -> None:
    world = ParkedWorld("assistants", "late")
    ending = lived(world)
    assert isinstance(ending, steps.Completed)
    assert [run.status for run in world.steered.runs] == ["cancelled", "completed"]
    assert "returned: sunny" in (world.progress.carried or "")
    assert leaving.MARGIN_S < leaving.RUN_LIFE_S


def test_a_call_id_that_is_another_batch_s_puts_the_batch_on_the_failed_list() -> None:
    world = ParkedWorld("responses", "approved")
    world._park = lambda _step: False  # type: ignore[method-assign]
    ending = lived(world)
    assert isinstance(ending, steps.Failed)
    assert ending.reason == "parked"


def test_what_the_model_reads_of_a_call_that_was_not_made() -> None:
    assert output_of(Settlement(kind=_K.DENIED, reason="ünklar")) == (
        '{"error": "the function was not called: it was denied: ünklar"}'
    )
    assert "no answer came in time" in output_of(Settlement(kind=_K.EXPIRED))
    assert output_of(Settlement(kind=_K.ANSWERED, output="7")) == "7"
    assert WaitRow(call_id="a", id="b", kind="approval", until_ms=1) != WaitRow(
        call_id="a", id="b", kind="answer", until_ms=1
    )
