"""What a backend does about conversations that outgrew the model, where the provider keeps them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from assistant_queue.backends import remedies
from assistant_queue.backends.remedies import Remedies, Remedy
from assistant_queue.core.runs import RunEnded, RunEvent
from assistant_queue.trouble import Kind

OnOverflow = Literal["truncate", "compact", "fail"]
"""`truncate`: less of the conversation is read; `compact`: the provider summarises it first, where it can; `fail`: the batch fails."""


def ways_of_responses(on_overflow: OnOverflow, run_options: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """What a server of Responses is asked to do, in this order; what the user's own options say is left alone."""
    if on_overflow == "fail":
        return ()
    ways = (remedies.COMPACTION, remedies.TRUNCATION) if on_overflow == "compact" else (remedies.TRUNCATION,)
    return tuple(remedy for remedy in ways if remedy.applies(run_options))


def ways_of_assistants(on_overflow: OnOverflow, run_options: Mapping[str, Any]) -> tuple[Remedy, ...]:
    """What a server of Assistants is asked to do."""
    if on_overflow == "fail" or not remedies.LAST_MESSAGES.applies(run_options):
        return ()
    return (remedies.LAST_MESSAGES,)


def shorter_next_time(event: RunEvent, known: Remedies, ways: Sequence[Remedy]) -> RunEvent:
    """A run that failed for its length is worth another try if a way to shorten it is left; it is used from then on."""
    if not isinstance(event, RunEnded) or event.trouble is None or event.trouble.kind is not Kind.CONTEXT_OVERFLOW:
        return event
    for remedy in ways:
        if remedy not in known:
            known.keep(remedy)
            return replace(event, retryable=True, counts=False)
    return event
