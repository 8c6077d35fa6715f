"""Tables of failures: an example of each row, and what they leave out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_queue import errors
from assistant_queue.core.failure_table import (
    FAILURES,
    MEANINGS,
    REASONS,
    Attempts,
    Decision,
    Failure,
    GiveUp,
    Hold,
    NoRoom,
    Park,
    Row,
    Situation,
    Unreachable,
    WorksInBackground,
    meaning_of,
)
from assistant_queue.core.runs import RunEnded
from assistant_queue.core.thread_state import Phase
from assistant_queue.models import ErrorInfo, FailedBatch
from assistant_queue.trouble import Kind, Trouble

D = Decision
A = Attempts

SENDING = Situation(phase=Phase.SENDING, can_shorten=True)
FROZEN = replace(SENDING, phase=Phase.FROZEN)
RUNNING = replace(SENDING, phase=Phase.RUNNING)
RENEWABLE = replace(SENDING, can_renew=True)
STATELESS = replace(SENDING, stateless=True)
INFO = ErrorInfo(code="x", message="y")


def error(kind: Kind | None = None, **fields: Any) -> errors.BackendError:
    return errors.RequestRefused("x", trouble=kind and Trouble(kind=kind), **fields)


def ended(kind: Kind | None = None, **fields: Any) -> RunEnded:
    return RunEnded(run_id="r", status="failed", trouble=kind and Trouble(kind=kind), **fields)


def outgrown() -> errors.BackendError:
    """An error of an unknown kind after which less of the conversation may be accepted."""
    refusal = error()
    refusal.outgrown = True
    return refusal


LOST = errors.OutcomeUnknown("x")
CUT = errors.StreamCut("x")
ASKED = Unreachable(LOST)
TOO_LONG = Kind.CONTEXT_OVERFLOW

EXAMPLES: list[tuple[Failure, Situation, Decision, str]] = [
    (Hold(3.0), SENDING, D.HOLD, ""),
    (WorksInBackground(), RUNNING, D.AWAIT_RUN, ""),
    (NoRoom(5.0), FROZEN, D.AWAIT_ROOM, ""),
    (Park("x"), SENDING, D.BURY, "parked"),
    (GiveUp(INFO), SENDING, D.BURY, "attempts"),
    (ASKED, SENDING, D.ASK_AGAIN, ""),
    (ASKED, replace(SENDING, is_overdue=True), D.BURY, "parked"),
    (errors.UnknownThread("x"), RENEWABLE, D.BURY, "unknown_thread"),
    (errors.NotConfigured("x"), SENDING, D.BURY, "not_configured"),
    (errors.CallbackError("x"), replace(RUNNING, is_prepared=False), D.RESUME, ""),
    (errors.CallbackError("x"), RUNNING, D.STOP_RUN, ""),
    (errors.InvalidToolResult("x"), RUNNING, D.STOP_RUN, ""),
    (errors.RunExpired("x"), STATELESS, D.STOP_RUN, ""),
    (errors.TooManyToolRounds("x"), RUNNING, D.STOP_RUN, ""),
    (errors.RunVanished("x"), RUNNING, D.LOOK_FIRST, ""),
    (LOST, STATELESS, D.RUN_AGAIN, ""),
    (CUT, replace(STATELESS, phase=Phase.RUNNING), D.RUN_AGAIN, ""),
    (LOST, SENDING, D.ASK, ""),
    (CUT, RENEWABLE, D.ASK, ""),
    (LOST, FROZEN, D.SEND_AGAIN, ""),
    (errors.NotEncodable("x"), RUNNING, D.BURY, "corrupt"),
    (errors.NotReplicated("x"), SENDING, D.AWAIT_REPLICA, ""),
    (error(TOO_LONG), RENEWABLE, D.RENEW, ""),
    (error(Kind.OPEN_CALLS), replace(RENEWABLE, was_renewed=True), D.RENEW, ""),
    (outgrown(), RENEWABLE, D.RENEW, ""),
    (outgrown(), SENDING, D.SEND_AGAIN, ""),
    (error(TOO_LONG), SENDING, D.REFUSE, "refused"),
    (error(Kind.MODERATED), RENEWABLE, D.REFUSE, "refused"),
    (error(Kind.RATE_LIMITED), RENEWABLE, D.SEND_AGAIN, ""),
    (errors.ConversationBusy("x"), SENDING, D.SEND_AGAIN, ""),
    (ended(Kind.OPEN_CALLS), RENEWABLE, D.RENEW, ""),
    (ended(Kind.OPEN_CALLS), replace(RENEWABLE, was_renewed=True), D.RUN_AGAIN, ""),
    (ended(Kind.OPEN_CALLS), SENDING, D.RUN_AGAIN, ""),
    (ended(TOO_LONG), RENEWABLE, D.SHORTEN, ""),
    (ended(TOO_LONG), replace(RENEWABLE, can_shorten=False), D.RENEW, ""),
    (ended(TOO_LONG, retryable=False), RENEWABLE, D.RENEW, ""),
    (ended(TOO_LONG), replace(SENDING, can_shorten=False), D.REFUSE, "refused"),
    (ended(TOO_LONG), STATELESS, D.RUN_AGAIN, ""),
    (ended(TOO_LONG, retryable=False), STATELESS, D.REFUSE, "refused"),
    (ended(Kind.MODERATED, retryable=False), RENEWABLE, D.REFUSE, "refused"),
    (ended(Kind.SERVER_ERROR), RENEWABLE, D.RUN_AGAIN, ""),
    (ended(), RUNNING, D.RUN_AGAIN, ""),
]


def row_of(failure: Failure, now: Situation) -> Row:
    row = meaning_of(failure, now)
    assert row is not None, f"{failure!r} has no row"
    return row


@pytest.mark.parametrize(("failure", "now", "decision", "reason"), EXAMPLES)
def test_a_failure_has_its_consequence(
    failure: Failure, now: Situation, decision: Decision, reason: str
) -> None:
    row = row_of(failure, now)
    assert (row.decision, row.reason) == (decision, reason)


def test_every_row_has_an_example() -> None:
    shown = [row_of(failure, now) for failure, now, _, _ in EXAMPLES]
    assert [row for row in FAILURES if row not in shown] == []


def _own_errors(root: type[errors.AssistantQueueError]) -> list[type[errors.AssistantQueueError]]:
    found = [one for one in root.__subclasses__() if one.__module__ == errors.__name__]
    return [root, *(deeper for one in found for deeper in _own_errors(one))]


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize(
    "kind", [*_own_errors(errors.BackendError), *_own_errors(errors.CallbackError)]
)
def test_every_error_of_the_provider_and_of_user_code_has_a_row_in_every_phase(
    kind: type[errors.AssistantQueueError], phase: Phase
) -> None:
    for stateless in (False, True):
        assert meaning_of(kind("x"), Situation(phase=phase, stateless=stateless)) is not None


@pytest.mark.parametrize(
    "kind", [errors.LeaseLost, errors.StoreUnavailable, errors.NotPermitted, errors.StoreError]
)
def test_a_failure_that_is_not_the_batchs_has_none(kind: type[errors.AssistantQueueError]) -> None:
    assert meaning_of(kind("x"), SENDING) is None


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [(A.COUNT, (True, True)), (A.WAIT, (False, False)), (A.BY_KIND, (True, False))],
)
def test_only_what_its_kind_decides_is_counted_by_its_kind(
    attempts: Attempts, expected: tuple[bool, bool]
) -> None:
    kinds = (Kind.SERVER_ERROR, Kind.RATE_LIMITED)
    assert tuple(attempts.counts(error(kind)) for kind in kinds) == expected
    assert tuple(attempts.counts(ended(counts=counts)) for counts in (True, False)) == expected


def test_every_decision_is_explained_and_taken() -> None:
    taken = {row.decision for row in FAILURES}
    assert set(MEANINGS) == set(Decision) == taken


def test_every_reason_of_the_failed_list_is_explained() -> None:
    reasons = {row.reason for row in FAILURES} - {""}
    elsewhere = {"worker_deaths", "undelivered", "delivery_unknown"}
    assert set(REASONS) - reasons == elsewhere, "found when the batch is claimed, or of a reply"
    assert reasons <= set(REASONS)
    for reason in REASONS:
        assert f"`{reason}`" in str(FailedBatch.__doc__)
