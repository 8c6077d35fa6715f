"""Meaning of each failure of a batch, as tables beside `TRANSITIONS`. Pure.

`flow/failure.py` acts on `FAILURES`;
`docs/reliability.md` and `docs/thread-life.md` show them. Kinds of a provider's trouble are in
`assistant_queue.trouble`: they say whether an error is retryable and whether it uses up an attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from assistant_queue.core.runs import RunEnded
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    CallbackError,
    NotConfigured,
    NotEncodable,
    NotReplicated,
    OutcomeUnknown,
    RunFailed,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import ErrorInfo
from assistant_queue.trouble import Kind, Trouble


class Hold(AssistantQueueError):
    """The grace period of an ambiguous request is not over."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("the grace period is not over")
        self.wait_s = wait_s


class WorksInBackground(AssistantQueueError):
    """The run is in progress at the provider, and needs no worker until it has ended."""

    def __init__(self) -> None:
        super().__init__("the run is in progress")


class NoRoom(AssistantQueueError):
    """So many runs are at work in the background that another could not be polled in time."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("too many runs are at work in the background")
        self.wait_s = wait_s


class Park(AssistantQueueError):
    """Whether the batch was accepted cannot be found out: an operator decides."""


class Unreachable(AssistantQueueError):
    """A question about accepted work could not be asked."""

    def __init__(self, cause: BackendError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class GiveUp(AssistantQueueError):
    """The attempts are used up."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info


Failure = AssistantQueueError | RunEnded
"""An error thrown into the flow, or a run that the provider ended badly."""


class Decision(StrEnum):
    """Consequence of a failure."""

    HOLD = "hold"
    AWAIT_RUN = "await the run"
    AWAIT_ROOM = "await room"
    ASK = "ask"
    ASK_AGAIN = "ask again"
    LOOK_FIRST = "look first"
    SEND_AGAIN = "send again"
    RUN_AGAIN = "run again"
    RESUME = "resume"
    STOP_RUN = "stop the run"
    AWAIT_REPLICA = "await a replica"
    SHORTEN = "shorten"
    RENEW = "renew"
    REFUSE = "refuse"
    BURY = "bury"


MEANINGS: Mapping[Decision, str] = MappingProxyType(
    {
        Decision.HOLD: "the thread is held for the rest of the grace, then the provider is asked",
        Decision.AWAIT_RUN: "the batch is parked until a webhook says that its run has ended, or"
        " until it is polled",
        Decision.AWAIT_ROOM: "nothing was sent; the batch is parked for 5 to 60 s",
        Decision.ASK: "the request may have been accepted: the thread is held for the grace,"
        " then the provider is asked; nothing is sent before",
        Decision.ASK_AGAIN: "the provider is asked again after a back-off of at most 60 s",
        Decision.LOOK_FIRST: "the run is given up; after the back-off and the grace the provider is"
        " asked what became of the batch, and it is sent again only if it is not found",
        Decision.SEND_AGAIN: "the same request is made again after the back-off; outputs of a tool"
        " round are asked about first",
        Decision.RUN_AGAIN: "another run is started after the back-off, without what the provider"
        " keeps of the one that failed",
        Decision.RESUME: "the batch is resumed from its phase after the back-off",
        Decision.STOP_RUN: "the run is cancelled if the provider can; one that had ended well by"
        " then is the batch's run, else another run is started after the back-off",
        Decision.AWAIT_REPLICA: "nothing was sent; the request is tried again after a back-off of"
        " at most 60 s, for as long as it takes",
        Decision.SHORTEN: "another run is started at once, over less of the conversation",
        Decision.RENEW: "the batch is sent at once in a new conversation, which begins with the"
        " later half of the old one",
        Decision.REFUSE: "the batch goes to the failed list; a thread that was given a new"
        " conversation for it gets its old one back",
        Decision.BURY: "the batch goes to the failed list",
    }
)
"""One sentence for each decision, for the documentation."""


class Attempts(StrEnum):
    """Whether a failure uses up one of `max_attempts`."""

    COUNT = "count"
    WAIT = "wait"
    BY_KIND = "as its kind says"
    NOT_APPLICABLE = "-"

    def counts(self, failure: Failure) -> bool:
        """Whether this failure does."""
        if self is Attempts.BY_KIND and isinstance(failure, BackendError | RunEnded):
            return failure.counts
        return self in {Attempts.COUNT, Attempts.BY_KIND}


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """State of a batch when a failure meets it, as far as a decision depends on it.

    Attributes:
        phase: How far the batch got.
        is_prepared: The request is made: what fails before that are its instructions or its
            conversation.
        stateless: The provider keeps nothing of a run.
        is_overdue: The run's deadline has been over for longer than `retry_for`.
        can_shorten: A run over less of the conversation may be tried.
        can_renew: The conversation may be replaced by a new one.
        was_renewed: It was, for this batch.
    """

    phase: Phase
    is_prepared: bool = True
    stateless: bool = False
    is_overdue: bool = False
    can_shorten: bool = False
    can_renew: bool = False
    was_renewed: bool = False


@dataclass(frozen=True, slots=True)
class Condition:
    """Condition of a row.

    Attributes:
        words: The condition, for the documentation; "" for none.
        holds: Whether it holds.
    """

    words: str
    holds: Callable[[Failure, Situation], bool]


def _trouble_of(failure: Failure) -> Trouble | None:
    return failure.trouble if isinstance(failure, BackendError | RunEnded) else None


def _is(kind: Kind, failure: Failure) -> bool:
    trouble = _trouble_of(failure)
    return trouble is not None and trouble.kind is kind


def _is_outgrown(failure: Failure) -> bool:
    return isinstance(failure, BackendError) and failure.outgrown


def _is_retryable(failure: Failure) -> bool:
    return failure.retryable


ALWAYS = Condition("", lambda _failure, _now: True)
UNPREPARED = Condition(
    "raised by `default_instructions`", lambda _failure, now: not now.is_prepared
)
OVERDUE = Condition(
    "the run's deadline has been over for `retry_for`", lambda _failure, now: now.is_overdue
)
STATELESS = Condition("the provider keeps nothing of a run", lambda _failure, now: now.stateless)
CURABLE = Condition(
    "too long, or `open_calls`, and the conversation can be begun anew",
    lambda failure, now: now.can_renew and (_is_outgrown(failure) or _is(Kind.OPEN_CALLS, failure)),
)
CALLS_LEFT_OPEN = Condition(
    "`open_calls`, and the conversation can be begun anew and was not",
    lambda failure, now: _is(Kind.OPEN_CALLS, failure) and now.can_renew and not now.was_renewed,
)
SHORTENABLE = Condition(
    "`context_overflow`, and less of the conversation can be read",
    lambda failure, now: (
        _is(Kind.CONTEXT_OVERFLOW, failure)
        and not now.stateless
        and _is_retryable(failure)
        and now.can_shorten
    ),
)
RENEWABLE = Condition(
    "`context_overflow`, and the conversation can be begun anew",
    lambda failure, now: (
        _is(Kind.CONTEXT_OVERFLOW, failure) and not now.stateless and now.can_renew
    ),
)
TOO_LONG = Condition(
    "`context_overflow`, and the provider keeps the conversation",
    lambda failure, now: _is(Kind.CONTEXT_OVERFLOW, failure) and not now.stateless,
)
FINAL = Condition("not retryable", lambda failure, _now: not _is_retryable(failure))


@dataclass(frozen=True, slots=True)
class Row:
    """One meaning of a failure.

    Attributes:
        failures: Classes of the failure.
        decision: What follows.
        attempts: Whether it counts.
        when: What must hold, besides the class and the phase.
        phases: In which it holds; none for all.
        reason: Of the failed list; "" unless the batch ends there.
    """

    failures: tuple[type[Failure], ...]
    decision: Decision
    attempts: Attempts = Attempts.NOT_APPLICABLE
    when: Condition = ALWAYS
    phases: frozenset[Phase] = frozenset()
    reason: str = ""

    def matches(self, failure: Failure, now: Situation) -> bool:
        """Whether this is the row of a failure, unless an earlier one is."""
        return (
            isinstance(failure, self.failures)
            and (not self.phases or now.phase in self.phases)
            and self.when.holds(failure, now)
        )


_D = Decision
_A = Attempts
_AMBIGUOUS = (OutcomeUnknown, StreamCut)

FAILURES: tuple[Row, ...] = (
    # What the flow itself has found out.
    Row((Hold,), _D.HOLD),
    Row((WorksInBackground,), _D.AWAIT_RUN),
    Row((NoRoom,), _D.AWAIT_ROOM, _A.WAIT),
    Row((Park,), _D.BURY, reason="parked"),
    Row((GiveUp,), _D.BURY, reason="attempts"),
    Row((Unreachable,), _D.BURY, when=OVERDUE, reason="parked"),
    Row((Unreachable,), _D.ASK_AGAIN, _A.WAIT),
    # Errors, most specific first.
    Row((UnknownThread,), _D.BURY, reason="unknown_thread"),
    Row((NotConfigured,), _D.BURY, reason="not_configured"),
    Row((CallbackError,), _D.RESUME, _A.COUNT, when=UNPREPARED),
    Row((RunFailed, CallbackError), _D.STOP_RUN, _A.COUNT),
    Row((RunVanished,), _D.LOOK_FIRST, _A.COUNT),
    Row(_AMBIGUOUS, _D.RUN_AGAIN, _A.BY_KIND, when=STATELESS),
    Row(_AMBIGUOUS, _D.ASK, phases=frozenset({Phase.SENDING})),
    # The same write would fail for every worker.
    Row((NotEncodable,), _D.BURY, reason="corrupt"),
    Row((NotReplicated,), _D.AWAIT_REPLICA, _A.WAIT),
    # Provably not accepted, or nothing of the batch had been sent.
    Row((BackendError,), _D.RENEW, when=CURABLE),
    Row((BackendError,), _D.REFUSE, when=FINAL, reason="refused"),
    Row((BackendError,), _D.SEND_AGAIN, _A.BY_KIND),
    # Accepted, and ended by the provider as failed, cancelled or expired.
    Row((RunEnded,), _D.RENEW, when=CALLS_LEFT_OPEN),
    Row((RunEnded,), _D.SHORTEN, when=SHORTENABLE),
    Row((RunEnded,), _D.RENEW, when=RENEWABLE),
    Row((RunEnded,), _D.REFUSE, when=TOO_LONG, reason="refused"),
    Row((RunEnded,), _D.REFUSE, when=FINAL, reason="refused"),
    Row((RunEnded,), _D.RUN_AGAIN, _A.BY_KIND),
)
"""Failures of a batch that has no result yet; the first row that matches counts."""


def meaning_of(failure: Failure, now: Situation) -> Row | None:
    """Return the row of a failure; None for an error that is not the batch's (Redis, the lease)."""
    return next((row for row in FAILURES if row.matches(failure, now)), None)


REASONS: Mapping[str, str] = MappingProxyType(
    {
        "attempts": "`max_attempts` are used up",
        "refused": "the provider would refuse the batch again: a moderated prompt, a wrong key, an"
        " unknown model, a message that is too long by itself",
        "worker_deaths": "three workers died in one of your functions, or twenty elsewhere, without"
        " progress",
        "unknown_thread": "the provider does not know the thread or conversation",
        "not_configured": "the worker has no provider, only a `fallback_reply`",
        "parked": "whether the provider accepted the batch cannot be found out",
        "undelivered": "the reply was not delivered within `delivery_for`, or the platform refuses it"
        " for good; retried without another run",
        "delivery_unknown": "whether the platform has the reply cannot be found out; likewise",
        "corrupt": "its record in Redis was changed by another program, or cannot be written",
    }
)
"""Reasons of the failed list, for the documentation."""
