"""What a backend does about conversations that outgrew the model, where the provider keeps them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

from assistant_queue.backends import remedies
from assistant_queue.backends.refusals import has_too_much_context, may_have_too_much_context
from assistant_queue.backends.remedies import Remedies, Remedy, Trial
from assistant_queue.core.runs import RunEnded, RunRequest
from assistant_queue.errors import RequestRefused
from assistant_queue.trouble import Fate, Kind

Told = TypeVar("Told")

OnOverflow = Literal["truncate", "compact", "fail"]
"""`truncate`: less of the conversation is read; `compact`: the provider summarises it first, where it can; `fail`: the batch fails."""

LAST_MESSAGES = 10
"""Messages that a run reads of a thread that outgrew the model. Chosen: five turns."""

LEAST = 2
"""How often an Assistants run is shortened: to `LAST_MESSAGES`, then to the batch's own. Chosen: each step costs a failed run."""


def ways_of_responses(on_overflow: OnOverflow, run_options: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """What a server of Responses is asked to do, in this order; what the user's own options say is left alone."""
    if on_overflow == "fail":
        return ()
    ways = (remedies.COMPACTION, remedies.TRUNCATION) if on_overflow == "compact" else (remedies.TRUNCATION,)
    return tuple(remedy for remedy in ways if remedy.applies(run_options))


class Noted:
    """The ids that were noted last, a bounded number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, None] = {}

    def __contains__(self, ident: object) -> bool:
        return ident in self._ids

    def add(self, ident: str) -> None:
        """Note an id; of too many the first one is forgotten."""
        self._ids.pop(ident, None)
        self._ids[ident] = None
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]


def last_messages(request: RunRequest, level: int) -> int | None:
    """How many of a thread's last messages a run reads that has been shortened so often; None for all of them."""
    if not level:
        return None
    own = len(request.items) or len(request.batch.messages)  # the thread may hold them already
    return max(LAST_MESSAGES, own) if level < LEAST else own


def refuses_to_shorten(refusal: RequestRefused) -> bool:
    """Whether an Assistants server does not take a truncation strategy."""
    trouble = refusal.trouble
    is_length = has_too_much_context(refusal)
    return trouble is not None and not is_length and remedies.LAST_MESSAGES.suits(trouble.text, trouble.param)


def is_too_long(event: object) -> bool:
    """Whether a run failed for its length."""
    return isinstance(event, RunEnded) and event.trouble is not None and event.trouble.kind is Kind.CONTEXT_OVERFLOW


def has_way_left(request: RunRequest, known: Remedies, ways: Sequence[Remedy]) -> bool:
    """Whether the conversation can be shortened in a way that the batch's runs have not used yet."""
    return not request.renewed and any(remedy not in known for remedy in ways[request.shortened :])


def worth_shortening(told: Told, *, can_shorten: bool) -> Told:
    """An event or a finding; a run that failed for its length is worth another one if that reads less."""
    if not isinstance(told, RunEnded) or not is_too_long(told):
        return told
    return cast("Told", replace(told, retryable=can_shorten, counts=not can_shorten))


class TooLong:
    """What a request that may be too long is refused with, and whether there is a way left to shorten what the model reads."""

    def __init__(self, request: RunRequest, trial: Trial) -> None:
        self._request = request
        self._trial = trial
        self._first: RequestRefused | None = None

    def look(self, refusal: RequestRefused) -> None:
        """Have the next try read less of the conversation.

        Raises:
            RequestRefused: The length is not the reason, or nothing is left to try. Whether a new conversation may help, `outgrown` says.
        """
        trial, is_shortened = self._trial, self._first is not None or self._request.shortened > 0
        if trial.refused_way(refusal.trouble):
            if is_shortened and not trial.shorten() and self._first is not None:
                raise self._first from self._first.__cause__
            return
        if refusal.trouble is not None and refusal.trouble.kind.fate is Fate.WAIT:
            raise refusal from refusal.__cause__
        if has_too_much_context(refusal) or (self._request.anchor is not None and may_have_too_much_context(refusal)):
            refusal.outgrown = True
            if self._first is None or has_too_much_context(refusal):
                self._first = refusal
            if not self._request.renewed and trial.shorten():
                return
        found = self._first or refusal
        raise found from found.__cause__
