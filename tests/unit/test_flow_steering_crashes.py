"""Stops, interrupts and steers at every step, and deaths at every step after them.

Each message is answered once or cancelled, each text is in the conversation once, and the thread's
next batch is answered.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import pytest
from flow_harness import Crash, Known
from hypothesis import given
from hypothesis import strategies as st
from steering_harness import KINDS, SteeredWorld, Wishing, world_of
from world_state import frozen

from assistant_queue.core import steps
from assistant_queue.core.flow import MAX_DEATHS, Rules, stopping
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import OutcomeUnknown, RequestRefused, StreamCut

SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tools": {"rounds": 2},
    "keeps what was cut": {"rounds": 1, "keeps_cut": True},
    "cancels slowly": {"rounds": 1, "is_stubborn": True},
}
CASES = [
    pytest.param(kind, shape, id=f"{kind}-{name}")
    for kind in KINDS
    for name, shape in SHAPES.items()
    if not (kind in {"chat", "function"} and {"keeps_cut", "is_stubborn"} & set(shape))
    and not (kind == "function" and shape)
]
EVERY_CASE = pytest.mark.parametrize(("kind", "shape"), CASES)
EVERY_WISH = pytest.mark.parametrize("wish", list(Wish), ids=[wish.value for wish in Wish])
MOMENTS = [("before", False), ("after", False), ("after", True)]
"""A wish comes before a step, or while it is carried out: then a request may be cut off."""


def check(world: SteeredWorld, ending: steps.Ending, story: Any) -> None:
    """Check what must hold at the end, and that the next batch is answered."""
    story = (story, world.trace, world.steered.log)
    was_stopped = any(entry == "wish stop" for entry in world.trace)
    was_stopped = was_stopped or all(world.revisions.get(one, one) is None for one in world.ids())
    if isinstance(ending, steps.Stopped):
        assert was_stopped, story
        check_stopped(world, story)
    elif isinstance(ending, steps.Failed) and world.capabilities is KINDS["function"]:
        assert ending.reason == "parked", (story, ending)  # the worker that called it has died
        return
    else:
        assert isinstance(ending, steps.Completed), (story, ending)
        check_completed(world, story)
    ids = set(world.ids())
    assert not ids & {one.id for one in world.pending}, story
    family = ("next", world.capabilities, stopping.MAX_WRITTEN)
    left = frozen([vars(world.steered), world.pending, world.anchor, world.open_calls])
    if left in KNOWN[family]:
        return
    following = world.next_batch()
    after = following.live_to_the_end()
    story = (*story, "then", following.trace)
    assert isinstance(after, steps.Completed), story
    assert ("reply", "batch_2") in world.steered.log, story
    check_conversation(world, story)
    for one in following.ids():
        assert world.steered.log.count(("user", one)) == 1, story
    KNOWN[family].add(left)


def check_conversation(world: SteeredWorld, story: Any) -> None:
    log = world.steered.log
    doubled = [entry for entry, count in Counter(log).items() if count > 1]
    assert not doubled, (doubled, story)
    calls = [what for kind, what in log if kind == "call"]
    outputs = [what for kind, what in log if kind == "output"]
    assert sorted(calls) == sorted(outputs), story
    assert not world.steered.open_runs(), story


def check_stopped(world: SteeredWorld, story: Any) -> None:
    assert not world.results, story
    (stop,) = world.stopped
    assert set(stop.result.message_ids) == set(world.ids()), story
    if world.rules.remembers_stopped:
        assert Counter(texts(world)) == Counter(world.entries()), story
    assert not world.steered.open_runs(), story


def texts(world: SteeredWorld, place: list[str] | None = None) -> list[str]:
    """Return the messages in the conversation, without what was edited or removed since."""
    if place is None:
        place = [what for kind, what in world.steered.log if kind == "user"]
    return [what for what in place if what not in world.replaced]


def check_completed(world: SteeredWorld, story: Any) -> None:
    assert not world.stopped, story
    (finish,) = world.results
    assert list(finish.result.message_ids) == world.ids(), story
    log = world.steered.log
    assert log[-1] == ("reply", "batch_1"), story
    check_conversation(world, story)
    assert texts(world) == world.entries(), story
    assert texts(world, world.steered.answers[-1]) == world.entries(), story


def steps_of(kind: str, shape: dict[str, Any], *wishes: Wishing) -> int:
    world = world_of(kind, *wishes, **shape)
    check(world, world.live_to_the_end(), wishes)
    return world.number


def moments_of(number: int, doomed: int) -> tuple[str, ...]:
    """Return when a worker dies around a step, after something has happened at step `number`.

    A death before a step is one after the step before it, but for the step that has met the wish.
    """
    return ("before", "after") if doomed <= number + 1 else ("after",)


def dies_at(world: SteeredWorld, *places: tuple[int, str]) -> None:
    ends = (steps.Finish, steps.Stop, steps.Bury)

    def fault(number: int, step: steps.Step, when: str) -> Exception | None:
        if when == "after" and isinstance(step, ends):
            return None  # the batch is over: it is not claimed again
        return Crash() if (number, when) in places else None

    world.fault = fault
    world.last_fault = max(number for number, _ in places)


def check_lives(world: SteeredWorld, family: Hashable, story: Any) -> None:
    """Check a world to its end, if none of its family was checked from a like state."""
    world.known = KNOWN[family, stopping.MAX_WRITTEN]
    try:
        ending = world.live_to_the_end()
    except Known:
        return
    check(world, ending, story)
    world.known.update(world.claims)


KNOWN: defaultdict[Hashable, set[Hashable]] = defaultdict(set)
"""States of worlds at a claim that were checked to the end, by what their states leave out."""


@EVERY_CASE
@EVERY_WISH
@pytest.mark.parametrize(("when", "is_cut_off"), MOMENTS)
def test_a_wish_at_any_step(
    kind: str, shape: dict[str, Any], wish: Wish, when: str, is_cut_off: bool
) -> None:
    for number in range(1, steps_of(kind, shape) + 1):
        made = Wishing(kind=wish, number=number, when=when)
        world = world_of(kind, made, is_cut_off=is_cut_off, **shape)
        check(world, world.live_to_the_end(), made)


@EVERY_CASE
@EVERY_WISH
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_wish_and_a_death_at_any_two_steps(
    kind: str, shape: dict[str, Any], wish: Wish, when: str
) -> None:
    for number in range(1, steps_of(kind, shape) + 1):
        made = Wishing(kind=wish, number=number, when=when)
        for doomed in range(max(1, number - 1), number + 10):
            for moment in moments_of(number, doomed):
                world = world_of(kind, made, is_cut_off=True, **shape)
                dies_at(world, (doomed, moment))
                check_lives(world, (kind, *shape.items()), (made, doomed, moment))
            if world.number < doomed:
                break  # it was over before


@EVERY_CASE
def test_a_death_while_a_stop_is_written_in_parts(
    kind: str, shape: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "MAX_WRITTEN", 1)
    for number in range(1, steps_of(kind, shape) + 1):
        made = Wishing(kind=Wish.STOP, number=number, when="after")
        for doomed in range(number, number + 16):
            for moment in moments_of(number, doomed):
                world = world_of(kind, made, is_cut_off=True, **shape)
                dies_at(world, (doomed, moment))
                check_lives(world, (kind, *shape.items()), (made, doomed, moment))
            if world.number < doomed:
                break  # it was over before


@EVERY_CASE
@pytest.mark.parametrize(
    ("message", "removes"), [("m2", False), ("m1", True)], ids=["edit", "removal"]
)
def test_a_revision_and_a_death_at_any_two_steps(
    kind: str, shape: dict[str, Any], message: str, removes: bool
) -> None:
    for number in range(1, steps_of(kind, shape) + 1):
        made = Wishing(
            kind=Wish.INTERRUPT, number=number, when="after", message=message, removes=removes
        )
        for doomed in range(max(1, number - 1), number + 10):
            for moment in moments_of(number, doomed):
                world = world_of(kind, made, is_cut_off=True, **shape)
                dies_at(world, (doomed, moment))
                check_lives(world, (kind, *shape.items()), (made, doomed, moment))
            if world.number < doomed:
                break  # it was over before


REVISIONS = {
    "an edit of a new message": (
        Wishing(kind=Wish.INTERRUPT, number=0, when="after"),
        Wishing(kind=Wish.INTERRUPT, number=0, message="m3"),
    ),
    "a removal of one that steered": (
        Wishing(kind=Wish.STEER, number=0, when="after"),
        Wishing(kind=Wish.INTERRUPT, number=0, message="m3", removes=True),
    ),
    "an edit and a removal": (
        Wishing(kind=Wish.INTERRUPT, number=0, when="after", message="m1"),
        Wishing(kind=Wish.INTERRUPT, number=0, message="m2", removes=True),
    ),
    "the removals of all": (
        Wishing(kind=Wish.INTERRUPT, number=0, when="after", message="m1", removes=True),
        Wishing(kind=Wish.INTERRUPT, number=0, message="m2", removes=True),
    ),
    "an edit and a stop": (
        Wishing(kind=Wish.INTERRUPT, number=0, when="after", message="m2"),
        Wishing(kind=Wish.STOP, number=0),
    ),
}


@EVERY_CASE
@pytest.mark.parametrize("pair", REVISIONS)
def test_two_revisions_at_any_two_steps(kind: str, shape: dict[str, Any], pair: str) -> None:
    for number in range(1, steps_of(kind, shape) + 1):
        one, other = REVISIONS[pair]
        for later in range(number, number + 11, 3):
            for when in ("before", "after"):
                first = replace(one, number=number)
                second = replace(other, number=later, when=when)
                world = world_of(kind, first, second, is_cut_off=True, **shape)
                check(world, world.live_to_the_end(), (first, second))
            if world.number < later:
                break  # it was over before


@EVERY_CASE
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Wish.INTERRUPT, Wish.STOP),
        (Wish.INTERRUPT, Wish.INTERRUPT),
        (Wish.STEER, Wish.INTERRUPT),
        (Wish.STEER, Wish.STEER),
        (Wish.STEER, Wish.STOP),
    ],
)
def test_two_wishes_at_any_two_steps(
    kind: str, shape: dict[str, Any], first: Wish, second: Wish
) -> None:
    for number in range(1, steps_of(kind, shape) + 1):
        one = Wishing(kind=first, number=number, when="after")
        looks: set[int] = set()
        for later in range(number, number + 11):
            for when in ("before", "after"):
                if when == "before" and later > number and later - 1 not in looks:
                    continue  # it finds what one after the step before has found
                other = Wishing(kind=second, number=later, when=when)
                world = world_of(kind, one, other, is_cut_off=True, **shape)
                check(world, world.live_to_the_end(), (one, other))
                looks = world.looks
            if world.number < later:
                break  # it was over before


@given(
    case=st.sampled_from([one.values for one in CASES]),
    wishes=st.lists(
        st.builds(
            Wishing,
            kind=st.sampled_from(Wish),
            number=st.integers(1, 50),
            when=st.sampled_from(["before", "after"]),
            message=st.sampled_from(["", "", "m1", "m2", "m3"]),
            removes=st.booleans(),
        ),
        max_size=5,
    ),
    is_cut_off=st.booleans(),
    most=st.integers(0, 3),
    faults=st.dictionaries(
        st.integers(1, 50),
        st.tuples(
            st.sampled_from(["before", "after"]),
            st.sampled_from(["crash", "lost", "limited", "cut", "unreachable"]),
        ),
        max_size=5,
    ).filter(lambda faults: sum(kind == "crash" for _, kind in faults.values()) < MAX_DEATHS),
)
def test_any_mixture_of_wishes_and_faults(
    case: tuple[str, dict[str, Any]],
    wishes: list[Wishing],
    is_cut_off: bool,
    most: int,
    faults: dict[int, tuple[str, str]],
) -> None:
    kind, shape = case
    if kind in {"function", "foreground"}:
        kind = "responses"  # a request without an answer is parked
    world = world_of(
        kind,
        *wishes,
        is_cut_off=is_cut_off,
        rules=Rules(max_attempts=20, max_interrupts=most),
        **shape,
    )

    def fault(number: int, step: steps.Step, when: str) -> Exception | None:
        moment, problem = faults.get(number, ("", ""))
        if moment != when or isinstance(step, steps.Finish | steps.Stop | steps.Bury):
            return None
        if problem == "crash":
            return Crash()
        if isinstance(step, steps.Start | steps.Submit):
            if problem == "lost":
                return OutcomeUnknown("lost")
            if problem == "limited" and when == "before":
                return RequestRefused("429", counts=False)
        if isinstance(step, steps.Watch) and problem in ("cut", "unreachable"):
            return StreamCut("cut") if problem == "cut" else OutcomeUnknown("502")
        if isinstance(step, steps.Find | steps.Follow) and problem in ("limited", "unreachable"):
            return OutcomeUnknown("502")
        return None

    world.fault = fault
    check(world, world.live_to_the_end(), (wishes, faults))
