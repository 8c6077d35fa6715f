"""The table of a thread's life."""

from __future__ import annotations

import itertools
import re

import pytest

from assistant_queue.core.thread_state import TRANSITIONS, ThreadEvent, ThreadState, diagram

ACTIVE_ONLY = {
    ThreadEvent.RENEW,
    ThreadEvent.PROGRESS,
    ThreadEvent.TRIM,
    ThreadEvent.FINISH,
    ThreadEvent.RETRY,
    ThreadEvent.HOLD,
    ThreadEvent.PARK,
    ThreadEvent.CLOSE,
    ThreadEvent.BURY,
    ThreadEvent.STOPPED,
    ThreadEvent.JOIN,
    ThreadEvent.REFUSE,
}
WITH_A_BATCH = {ThreadState.ACTIVE, ThreadState.RETRYING, ThreadState.HELD, ThreadState.PARKED}
ANY_STATE = {ThreadEvent.ADD, ThreadEvent.RETURN, ThreadEvent.WAKE}


def test_every_event_has_a_place_in_the_table() -> None:
    assert {event for _, event in TRANSITIONS} == set(ThreadEvent)


def test_every_pair_leads_to_states_and_never_nowhere() -> None:
    assert all(targets and targets <= set(ThreadState) for targets in TRANSITIONS.values())


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ThreadState, ThreadEvent)))
def test_each_pair_is_decided_by_the_kind_of_its_event(
    state: ThreadState, event: ThreadEvent
) -> None:
    if event in ANY_STATE:
        allowed = True
    elif event in ACTIVE_ONLY:
        allowed = state is ThreadState.ACTIVE
    elif event in {ThreadEvent.STOP, ThreadEvent.SETTLE}:
        allowed = state in WITH_A_BATCH
    else:
        assert event is ThreadEvent.CLAIM
        allowed = state is not ThreadState.IDLE
    assert ((state, event) in TRANSITIONS) is allowed


def test_only_the_end_of_a_batch_leads_to_idle() -> None:
    assert {
        event
        for (state, event), targets in TRANSITIONS.items()
        if ThreadState.IDLE in targets and state is not ThreadState.IDLE
    } == {
        ThreadEvent.FINISH,
        ThreadEvent.BURY,
        ThreadEvent.STOPPED,
    }


def test_only_a_claim_makes_a_thread_active() -> None:
    entering = {
        event
        for (state, event), targets in TRANSITIONS.items()
        if ThreadState.ACTIVE in targets and state is not ThreadState.ACTIVE
    }
    assert entering == {ThreadEvent.CLAIM}


def test_every_state_can_be_reached_from_idle_and_left_towards_it() -> None:
    def reach(start: ThreadState) -> set[ThreadState]:
        seen = {start}
        while True:
            more = {
                target
                for (state, _), targets in TRANSITIONS.items()
                if state in seen
                for target in targets
            } - seen
            if not more:
                return seen
            seen |= more

    assert reach(ThreadState.IDLE) == set(ThreadState)
    assert all(ThreadState.IDLE in reach(state) for state in ThreadState)


def test_the_diagram_has_one_arrow_for_each_pair_of_states_and_all_events_but_wake() -> None:
    arrows = {}
    for line in diagram().splitlines()[2:]:
        match = re.fullmatch(r"    (\w+) --> (\w+): ([\w, ]+)", line)
        assert match, line
        assert (match[1], match[2]) not in arrows
        arrows[match[1], match[2]] = set(match[3].split(", "))
    drawn = {
        (source, event, target) for (source, target), events in arrows.items() for event in events
    }
    assert drawn == {
        (state.value, event.value, target.value)
        for (state, event), targets in TRANSITIONS.items()
        if event is not ThreadEvent.WAKE
        for target in targets
    }


def test_the_diagram_begins_idle() -> None:
    assert diagram().splitlines()[:2] == ["stateDiagram-v2", "    [*] --> idle"]
