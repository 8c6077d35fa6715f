"""Consequences of a failed delivery, and the state that is stored between two tries."""

from __future__ import annotations

import pytest

from assistant_queue import CallbackError, DeliveryUnknown, NotReplicated, RetryLater, Undeliverable
from assistant_queue.core.delivery import (
    DELIVERY_FAILURES,
    MAX_OPEN_WAIT_S,
    MIN_OPEN_WAIT_S,
    DeliveryDecision,
    DeliveryOpen,
    DeliveryRules,
    DeliveryState,
    judge,
    was_tried,
)
from assistant_queue.core.retry import Backoff
from assistant_queue.models import ErrorInfo

RULES = DeliveryRules(backoff=Backoff(delay_s=2.0))
D = DeliveryDecision


@pytest.mark.parametrize(
    ("error", "rules", "waited_s", "decision", "tries"),
    [
        (CallbackError("no network"), {}, 0, D.AGAIN, 1),
        (ValueError("a channel raised"), {}, 0, D.AGAIN, 1),
        (CallbackError("no network"), {"attempts": 1}, 0, D.GIVE_UP, 1),
        (CallbackError("no network"), {"attempts": 2}, 0, D.AGAIN, 1),
        (CallbackError("no network"), {}, 86_401, D.GIVE_UP, 1),
        (RetryLater(30), {"attempts": 1}, 0, D.LATER, 0),
        (RetryLater(30), {}, 86_401, D.GIVE_UP, 0),
        (Undeliverable("blocked"), {}, 0, D.GIVE_UP, 0),
        (DeliveryUnknown("lost"), {}, 0, D.PARK, 1),
        (DeliveryUnknown("lost"), {"resends_unknown": True}, 0, D.RESEND, 1),
        (DeliveryUnknown("lost"), {"resends_unknown": True, "attempts": 1}, 0, D.PARK, 1),
        (DeliveryUnknown("lost"), {"resends_unknown": True}, 86_401, D.PARK, 1),
        (DeliveryOpen("runs", is_new=True), {"attempts": 1}, 0, D.LATER, 1),
        (DeliveryOpen("runs", is_new=False), {}, 0, D.LATER, 0),
        (DeliveryOpen("runs", is_new=False), {}, 86_401, D.PARK, 0),
        (NotReplicated("no replica"), {}, 86_401, D.LATER, 0),
    ],
)
def test_a_failed_delivery_has_its_consequence(error, rules, waited_s, decision, tries):
    given = DeliveryRules(backoff=RULES.backoff, **rules)
    verdict = judge(error, DeliveryState(), given, waited_s)
    assert (verdict.decision, verdict.state.tries) == (decision, tries)
    assert verdict.state.error is not None


def test_every_row_is_reached():
    kinds = {row.failure for row in DELIVERY_FAILURES}
    assert Exception in kinds
    assert {row.decision for row in DELIVERY_FAILURES} == set(D)


def test_the_wait_grows_up_to_its_bound_and_a_wait_that_the_platform_asked_for_is_kept():
    state = DeliveryState()
    waits = []
    for _ in range(8):
        verdict = judge(CallbackError("no"), state, RULES, 0)
        state = verdict.state
        waits.append(verdict.wait_s)
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    assert judge(RetryLater(3600), state, RULES, 0).wait_s == 3600


@pytest.mark.parametrize("delay_s", [0.01, 3600])
def test_a_call_that_still_runs_is_looked_at_in_bounds(delay_s):
    rules = DeliveryRules(backoff=Backoff(delay_s=delay_s), max_delay_s=7200)
    wait_s = judge(DeliveryOpen("runs", is_new=True), DeliveryState(), rules, 0).wait_s
    assert MIN_OPEN_WAIT_S <= wait_s <= MAX_OPEN_WAIT_S


def test_parts_survive_a_failure_and_an_unsure_part_is_sent_again_only_on_demand():
    state = DeliveryState(part_ids=("1", None), unsure=2)
    assert judge(CallbackError("no"), state, RULES, 0).state.part_ids == ("1", None)
    assert judge(DeliveryUnknown("lost"), state, RULES, 0).state.unsure == 2
    resends = DeliveryRules(backoff=RULES.backoff, resends_unknown=True)
    assert judge(DeliveryUnknown("lost"), state, resends, 0).state.unsure is None


@pytest.mark.parametrize(
    "state",
    [
        DeliveryState(),
        DeliveryState(tries=2, refusals=1, part_ids=("a", None), unsure=2),
        DeliveryState(preview="4711"),
        DeliveryState(unsure=0, error=ErrorInfo(code="callback", message="no")),
    ],
)
def test_a_state_is_read_as_it_was_stored(state):
    assert DeliveryState.load(state.dump()) == state


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"tries":"many"}', '{"error":7}'])
def test_a_state_that_cannot_be_read_is_that_of_a_first_try(text):
    assert DeliveryState.load(text) == DeliveryState()


@pytest.mark.parametrize(
    ("error", "is_try"),
    [
        (CallbackError("no network"), True),
        (RetryLater(), True),
        (DeliveryOpen("late", is_new=True), True),
        (DeliveryOpen("still running", is_new=False), False),
        (NotReplicated("no replica"), False),
    ],
)
def test_a_look_at_an_open_call_is_no_try(error: Exception, is_try: bool) -> None:
    assert was_tried(error) is is_try
