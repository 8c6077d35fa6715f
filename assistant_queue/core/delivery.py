"""Rules of a delivery: its stored state, and what follows from a failure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import StrEnum
from types import MappingProxyType

from assistant_queue.core.compact_json import to_json
from assistant_queue.core.progress import dump_error, load_error
from assistant_queue.core.retry import Backoff
from assistant_queue.errors import (
    AssistantQueueError,
    DeliveryUnknown,
    NotReplicated,
    RetryLater,
    Undeliverable,
)
from assistant_queue.models import ErrorInfo
from assistant_queue.values import valueclass

MAX_DELIVERY_DEATHS = 3
"""Workers that may die in `on_reply` for one reply. Chosen: as many as in one of the user's
functions during a run."""
MAX_CHANNEL_DEATHS = 20
"""Workers that may die while a channel delivers one reply. Chosen: as many as in a run outside of
the user's functions; with a kill every second, three met the same reply."""
MIN_OPEN_WAIT_S = 1.0
MAX_OPEN_WAIT_S = 60.0
"""Shortest and longest wait between two looks at a call of `on_reply` that was abandoned and still
runs. Chosen: it holds its chat, so a minute at most."""


class DeliveryOpen(AssistantQueueError):
    """A call of `on_reply` was abandoned and is still running: it is not called again before.

    Attributes:
        is_new: The call was made just now, and counts as a try.
    """

    code = "callback"

    def __init__(self, message: str, *, is_new: bool) -> None:
        super().__init__(message)
        self.is_new = is_new


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliveryState:
    """Stored progress of a delivery, between two tries.

    Attributes:
        tries: Tries that count against `delivery_attempts`.
        refusals: Tries that do not count, since the last one that did.
        part_ids: The platform's ids of the parts that it has confirmed.
        unsure: Index of the part that may have been sent: its outcome is unknown; None for none.
        preview: The platform's id of the message that shows half of the reply; None if there is
            none, or its entry in the outbox has it.
        error: The last failure.
    """

    tries: int = 0
    refusals: int = 0
    part_ids: tuple[str | None, ...] = ()
    unsure: int | None = None
    preview: str | None = None
    error: ErrorInfo | None = None

    def dump(self) -> str:
        """As JSON, defaults left out; "" for a delivery that was not tried."""
        plain: dict[str, object] = {}
        if self.tries:
            plain["tries"] = self.tries
        if self.refusals:
            plain["refusals"] = self.refusals
        if self.part_ids:
            plain["ids"] = list(self.part_ids)
        if self.unsure is not None:
            plain["unsure"] = self.unsure
        if self.preview is not None:
            plain["preview"] = self.preview
        if self.error is not None:
            plain["error"] = dump_error(self.error)
        return to_json(plain) if plain else ""

    @classmethod
    def load(cls, text: str) -> DeliveryState:
        """The opposite of `dump`; of what cannot be read, the parts are not known to be sent."""
        try:
            found = json.loads(text) if text else {}
            error, unsure = found.get("error"), found.get("unsure")
            preview = found.get("preview")
            return cls(
                tries=int(found.get("tries", 0)),
                refusals=int(found.get("refusals", 0)),
                part_ids=tuple(None if one is None else str(one) for one in found.get("ids", ())),
                unsure=None if unsure is None else int(unsure),
                preview=None if preview is None else str(preview),
                error=None if error is None else load_error(error),
            )
        except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
            return cls()


def was_tried(error: Exception) -> bool:
    """Return whether the platform, or the function, was asked before this error."""
    return error.is_new if isinstance(error, DeliveryOpen) else not isinstance(error, NotReplicated)


class DeliveryDecision(StrEnum):
    """Consequence of a failed delivery."""

    AGAIN = "again"
    LATER = "later"
    RESEND = "resend"
    PARK = "park"
    GIVE_UP = "give up"


DELIVERY_MEANINGS: Mapping[DeliveryDecision, str] = MappingProxyType(
    {
        DeliveryDecision.AGAIN: "the delivery is tried again after `delivery_backoff`",
        DeliveryDecision.LATER: "it is tried, or looked at, again after the wait that the platform"
        " asked for, or the back-off",
        DeliveryDecision.RESEND: "the part is sent again after the back-off",
        DeliveryDecision.PARK: "the reply goes to the failed list as `delivery_unknown`",
        DeliveryDecision.GIVE_UP: "the reply goes to the failed list as `undelivered`",
    }
)
"""One sentence for each decision, for the documentation."""


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """Options that decide about deliveries."""

    backoff: Backoff
    max_delay_s: float = 60.0
    for_s: float = 86400.0
    attempts: int | None = None
    resends_unknown: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliverySituation:
    """State of a delivery when a failure meets it.

    Attributes:
        is_used_up: `delivery_attempts` have been made.
        is_over: The reply waits for longer than `delivery_for`.
        resends_unknown: `on_unknown_delivery="resend"`.
    """

    is_used_up: bool
    is_over: bool
    resends_unknown: bool


@valueclass(frozen=True, slots=True)
class DeliveryRow:
    """One meaning of a failed delivery.

    Attributes:
        failure: Its class.
        decision: What follows.
        counts: Whether it counts against `delivery_attempts`.
        words: What must hold besides, for the documentation; "" for nothing.
        holds: Whether it does.
    """

    failure: type[Exception]
    decision: DeliveryDecision
    counts: bool = False
    words: str = ""
    holds: Callable[[DeliverySituation], bool] = lambda _now: True


_D = DeliveryDecision

DELIVERY_FAILURES: tuple[DeliveryRow, ...] = (
    DeliveryRow(Undeliverable, _D.GIVE_UP),
    DeliveryRow(
        DeliveryUnknown,
        _D.RESEND,
        counts=True,
        words='`on_unknown_delivery="resend"`, and neither tries nor time are used up',
        holds=lambda now: now.resends_unknown and not now.is_over and not now.is_used_up,
    ),
    DeliveryRow(DeliveryUnknown, _D.PARK, counts=True),
    DeliveryRow(
        DeliveryOpen,
        _D.PARK,
        words="the reply waits for longer than `delivery_for`",
        holds=lambda now: now.is_over,
    ),
    DeliveryRow(DeliveryOpen, _D.LATER),
    DeliveryRow(NotReplicated, _D.LATER),
    DeliveryRow(
        RetryLater,
        _D.GIVE_UP,
        words="the reply waits for longer than `delivery_for`",
        holds=lambda now: now.is_over,
    ),
    DeliveryRow(RetryLater, _D.LATER),
    DeliveryRow(
        Exception,
        _D.GIVE_UP,
        counts=True,
        words="the reply waits for longer than `delivery_for`, or `delivery_attempts` are used up",
        holds=lambda now: now.is_over or now.is_used_up,
    ),
    DeliveryRow(Exception, _D.AGAIN, counts=True),
)
"""Failures of a delivery; the first row that matches counts."""


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliveryVerdict:
    """Consequence of a failed delivery: the decision, the state to store, and the wait."""

    decision: DeliveryDecision
    state: DeliveryState
    wait_s: float = 0.0


def judge(
    error: Exception,
    state: DeliveryState,
    rules: DeliveryRules,
    waited_s: float,
    words: str | None = None,
) -> DeliveryVerdict:
    """Return what follows from a failure.

    Args:
        error: The failure.
        state: As it was before the try, with the parts that were confirmed since.
        rules: The options.
        waited_s: Seconds since the reply joined the line.
        words: The error's message as it is stored; None for its own.
    """
    message = str(error) if words is None else words
    info = ErrorInfo(code=getattr(error, "code", "callback"), message=message)
    counted = replace(state, tries=state.tries + 1, refusals=0, error=info)
    row = next(
        row
        for row in DELIVERY_FAILURES
        if isinstance(error, row.failure)
        and row.holds(
            DeliverySituation(
                is_used_up=rules.attempts is not None and counted.tries >= rules.attempts,
                is_over=waited_s > rules.for_s,
                resends_unknown=rules.resends_unknown,
            )
        )
    )
    is_counted = row.counts or (isinstance(error, DeliveryOpen) and error.is_new)
    after = counted if is_counted else replace(state, refusals=state.refusals + 1, error=info)
    if row.decision is DeliveryDecision.RESEND:
        after = replace(after, unsure=None)
    wait_s = min(rules.backoff.wait_s(max(after.tries + after.refusals, 1)), rules.max_delay_s)
    if isinstance(error, DeliveryOpen):
        wait_s = min(max(wait_s, MIN_OPEN_WAIT_S), MAX_OPEN_WAIT_S)
    if isinstance(error, RetryLater) and error.after_s is not None:
        wait_s = error.after_s
    return DeliveryVerdict(decision=row.decision, state=after, wait_s=wait_s)
