"""Deaths, failures, stops and interruptions at every step of a function that leaves calls open.

A function that is not idempotent never makes an approved call twice: what cannot be known is on the
failed list.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from flow_harness import Crash
from steering_harness import COROUTINE, StatelessProvider, SteeredWorld, Wishing
from test_flow_parking import ParkedWorld, dies_at

from assistant_queue.core import steps
from assistant_queue.core.flow import Rules
from assistant_queue.core.runs import (
    ActionRequired,
    Asked,
    CannotAsk,
    Capabilities,
    Finding,
    NotFound,
    RunAccepted,
    RunEnded,
    RunRequest,
)
from assistant_queue.core.settlements import public_id
from assistant_queue.core.wishes import Wish
from assistant_queue.models import ErrorInfo, ToolCall

GUEST = COROUTINE
THREAD = replace(GUEST, cancels=False)


class Guest(StatelessProvider):
    """A function that makes approved calls itself. `fails`: at which of its calls, from 1."""

    def __init__(self, *, rounds: int, idempotent: bool, fails: int = 0) -> None:
        super().__init__(rounds=rounds)
        self.idempotent = idempotent
        self.fails = fails
        self.called = 0
        self.made: Counter[str] = Counter()
        self.verdicts: list[str] = []
        self._outputs: Mapping[str, str] = {}

    def start(self, request: RunRequest) -> RunAccepted:
        self._outputs = {}
        return super().start(request)

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> RunAccepted:
        self._outputs = outputs
        return super().submit(request, run_id, calls, outputs)

    def watch(self, run_id: str) -> ActionRequired | RunEnded:
        self.called += 1
        for call_id, output in self._outputs.items():
            verdict = json.loads(output)["verdict"]
            self.verdicts.append(verdict)
            self.made[call_id] += verdict == "approved"
        if self.called == self.fails:
            info = ErrorInfo(code="run_failed", message="the function raised")
            return RunEnded(run_id=run_id, status="failed", error=info)
        event = super().watch(run_id)
        if isinstance(event, RunEnded):
            return event
        asked = tuple(Asked(call_id=one.id, kind="approval") for one in event.calls)
        return replace(event, open=asked)

    def find(self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]) -> Finding:
        if self.idempotent or calls or run_id is None:
            return NotFound(anchor=request.anchor)
        return CannotAsk(reason="the function may have been called")


class GuestWorld(ParkedWorld):
    def __init__(
        self,
        way: str,
        *wishes: Wishing,
        rounds: int = 1,
        idempotent: bool = False,
        fails: int = 0,
        capabilities: Capabilities = GUEST,
    ) -> None:
        self.guest = Guest(rounds=rounds, idempotent=idempotent, fails=fails)
        rules = Rules(max_attempts=10, approval_timeout_s=3600.0)
        SteeredWorld.__init__(self, self.guest, capabilities, rules, *wishes)
        self.way = way
        self.settled = {}
        self.asked = {}
        self.closed = set()
        self.made = Counter()
        self.parks = 0


def check(world: GuestWorld, ending: steps.Ending, story: Any, *, faults: int = 0) -> None:
    story = (story, world.trace)
    guest = world.guest
    was_stopped = "wish stop" in world.trace
    if isinstance(ending, steps.Failed):
        assert ending.reason == "parked", story
        assert faults, story
        assert not guest.idempotent, story
    else:
        assert isinstance(ending, steps.Completed) or was_stopped, story
    most = 1 + (faults if guest.idempotent else 0)
    assert all(count <= most for count in guest.made.values()), (guest.made, story)
    approved = {one for one, how in world.settled.items() if how.kind.value == "approved"}
    made = {public_id(one, "batch_1") for one, count in guest.made.items() if count}
    assert made <= approved, story
    assert set(world.settled) <= world.closed, (story, world.settled)
    if isinstance(ending, steps.Completed) and "wish" not in " ".join(world.trace):
        expected = {"late": "approved"}.get(world.way, world.way)
        assert set(guest.verdicts) == {expected}, story
    assert not world.made, "the queue calls no tool of its own"


@pytest.mark.parametrize("way", ["approved", "denied", "answered", "expired"])
@pytest.mark.parametrize("idempotent", [False, True])
def test_a_death_at_every_step(way: str, idempotent: bool) -> None:
    quiet = GuestWorld(way, rounds=2, idempotent=idempotent)
    check(quiet, quiet.live_to_the_end(), "nothing happens")
    assert (quiet.parks, quiet.guest.called) == (2, 3)
    ends = Counter[str]()
    for number in range(1, quiet.number + 1):
        for when in ("before", "after"):
            world = GuestWorld(way, rounds=2, idempotent=idempotent)
            dies_at(world, (number, when))
            ending = world.live_to_the_end()
            check(world, ending, (number, when), faults=1)
            ends[type(ending).__name__] += 1
    assert ends["Completed"] > (0 if idempotent else ends["Failed"]), ends
    assert bool(ends["Failed"]) is not idempotent


@pytest.mark.parametrize("idempotent", [False, True])
def test_a_death_after_the_outputs_were_stored_does_not_lose_the_verdict(idempotent: bool) -> None:
    world = GuestWorld("approved", idempotent=idempotent)
    submits = False

    def fault(_: int, step: steps.Step, when: str) -> Exception | None:
        nonlocal submits
        if isinstance(step, steps.Submit) and when == "before" and not submits:
            submits = True
            return Crash()
        return None

    world.fault = fault
    ending = world.live_to_the_end()
    assert isinstance(ending, steps.Completed)
    assert list(world.guest.made.values()) == [1]


@pytest.mark.parametrize("capabilities", [GUEST, THREAD])
def test_a_function_that_fails_after_an_approval_is_repeated_only_if_it_may_be(
    capabilities: Capabilities,
) -> None:
    for way, idempotent, fate in (
        ("approved", True, ("Completed", 2)),
        ("approved", False, ("Failed", 1)),
        ("denied", False, ("Completed", 0)),
    ):
        world = GuestWorld(way, idempotent=idempotent, fails=2, capabilities=capabilities)
        ending = world.live_to_the_end()
        check(world, ending, (way, idempotent), faults=1)
        assert (type(ending).__name__, sum(world.guest.made.values())) == fate
        assert world.parks == 1, "nothing is asked again"


def test_a_function_that_fails_before_it_asks_is_called_again_from_the_start() -> None:
    world = GuestWorld("approved", fails=1)
    assert isinstance(world.live_to_the_end(), steps.Completed)
    assert (world.guest.called, list(world.guest.made.values())) == (3, [1])


@pytest.mark.parametrize("wish", [Wish.STOP, Wish.INTERRUPT, Wish.STEER])
def test_a_wish_at_every_step_and_a_death_after_it(wish: Wish) -> None:
    quiet = GuestWorld("approved")
    quiet.live_to_the_end()
    for number in range(1, quiet.number + 1):
        made = Wishing(kind=wish, number=number, when="after")
        world = GuestWorld("approved", made)
        check(world, world.live_to_the_end(), made)
        for doomed in range(number, number + 4):
            world = GuestWorld("approved", made)
            dies_at(world, (doomed, "after"))
            check(world, world.live_to_the_end(), (made, doomed), faults=1)


def steps_of(rounds: int) -> list[str]:
    seen: list[str] = []
    world = GuestWorld("approved", rounds=rounds)

    def note(_: int, step: steps.Step, when: str) -> None:
        if when == "before":
            seen.append(type(step).__name__)

    world.fault = note
    world.live_to_the_end()
    return seen


@pytest.mark.parametrize("rounds", [1, 2])
def test_an_interruption_denies_the_open_calls_and_begins_anew(rounds: int) -> None:
    names = steps_of(rounds)
    last = len(names) - names[::-1].index("ParkBatch")
    wish = Wishing(kind=Wish.INTERRUPT, number=last, when="before")
    world = GuestWorld("approved", wish, rounds=rounds)
    assert isinstance(world.live_to_the_end(), steps.Completed)
    assert len(world.joined) == 1
    verdicts = Counter(how.kind.value for how in world.settled.values())
    assert verdicts == {"withdrawn": 1, "approved": rounds - 1 + rounds}
    assert set(world.guest.made.values()) == {1}


def test_approved_calls_that_are_under_way_are_not_interrupted() -> None:
    names = steps_of(1)
    watch = len(names) - names[::-1].index("Watch")
    world = GuestWorld("approved", Wishing(kind=Wish.INTERRUPT, number=watch, when="before"))
    assert isinstance(world.live_to_the_end(), steps.Completed)
    assert (world.joined, world.parks) == ([], 1)
    assert list(world.guest.made.values()) == [1]
