"""Shorten conversations that outgrew the model and that the provider keeps.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.refused_fields import (
    has_too_much_context,
    may_have_too_much_context,
)
from assistant_queue.backends.openai.remedies import Remedies, Remedy, Trial
from assistant_queue.core.runs import RunEnded, RunRequest
from assistant_queue.errors import RequestRefused
from assistant_queue.trouble import Fate, Kind

Result = TypeVar("Result")

OnOverflow = Literal["truncate", "compact", "fail"]
"""`truncate`: less of the conversation is read; `compact`: the provider summarises it first, if it
can; `fail`: the batch fails."""

LAST_MESSAGES = 10
"""Messages that a run reads of a thread that outgrew the model. Chosen: five turns."""

LEAST = 2
"""Most times an Assistants run is shortened: to `LAST_MESSAGES`, then to the batch's own. Chosen:
each step costs a failed run."""


def ways_of_responses(
    on_overflow: OnOverflow, run_options: Mapping[str, Any]
) -> tuple[Remedy, ...]:
    """Return the remedies to ask a Responses server for, in order.

    Fields that the user's own options set are left alone.
    """
    if on_overflow == "fail":
        return ()
    ways = (
        (remedies.COMPACTION, remedies.TRUNCATION)
        if on_overflow == "compact"
        else (remedies.TRUNCATION,)
    )
    return tuple(remedy for remedy in ways if remedy.applies(run_options))


class Noted:
    """Remember the last ids, a bounded number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __contains__(self, ident: object) -> bool:
        return ident in self._ids

    def add(self, ident: str) -> None:
        """Remember an id; beyond the limit the oldest one is forgotten."""
        self._ids.pop(ident, None)
        self._ids[ident] = None
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]


def last_messages(request: RunRequest, level: int) -> int | None:
    """Return how many of a thread's last messages a run at this level reads.

    None for all of them.
    """
    if not level:
        return None
    own = len(request.items) or len(request.batch.messages)  # the thread may hold them already
    return max(LAST_MESSAGES, own) if level < LEAST else own


def refuses_to_shorten(refusal: RequestRefused) -> bool:
    """Return whether an Assistants server does not take a truncation strategy."""
    trouble = refusal.trouble
    is_length = has_too_much_context(refusal)
    return (
        trouble is not None
        and not is_length
        and remedies.LAST_MESSAGES.suits(trouble.text, trouble.param)
    )


def is_too_long(event: object) -> bool:
    """Return whether a run failed for its length."""
    return (
        isinstance(event, RunEnded)
        and event.trouble is not None
        and event.trouble.kind is Kind.CONTEXT_OVERFLOW
    )


def has_way_left(request: RunRequest, known: Remedies, ways: Sequence[Remedy]) -> bool:
    """Return whether a way to shorten the conversation has not been tried for the batch yet."""
    return not request.renewed and any(remedy not in known for remedy in ways[request.shortened :])


def worth_shortening(result: Result, *, can_shorten: bool) -> Result:
    """Return the event or finding, retryable if it is a run that can be shortened.

    Only a run that failed for its length is changed; it counts as a failure if it cannot be
    shortened.
    """
    if not isinstance(result, RunEnded) or not is_too_long(result):
        return result
    return cast("Result", replace(result, retryable=can_shorten, counts=not can_shorten))


class TooLong:
    """Handle the refusals of a request that may be too long.

    Each either selects the next way to shorten what the model reads, or is raised.
    """

    def __init__(self, request: RunRequest, trial: Trial) -> None:
        self._request = request
        self._trial = trial
        self._first: RequestRefused | None = None

    def look(self, refusal: RequestRefused) -> None:
        """Have the next try read less of the conversation.

        Raises:
            RequestRefused: The length is not the reason, or nothing is left to try. `outgrown` says
                whether a new conversation may help.
        """
        trial = self._trial
        is_shortened = self._first is not None or self._request.shortened > 0
        if trial.refused_way(refusal.trouble):
            if is_shortened and not trial.shorten() and self._first is not None:
                raise self._first from self._first.__cause__
            return
        if refusal.trouble is not None and refusal.trouble.kind.fate is Fate.WAIT:
            raise refusal from refusal.__cause__
        if has_too_much_context(refusal) or (
            self._request.anchor is not None and may_have_too_much_context(refusal)
        ):
            refusal.outgrown = True
            if self._first is None or has_too_much_context(refusal):
                self._first = refusal
            if not self._request.renewed and trial.shorten():
                return
        found = self._first or refusal
        raise found from found.__cause__
