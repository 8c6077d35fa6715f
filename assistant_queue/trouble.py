"""Kinds of provider errors and their consequences: the one table of kinds and fates. Pure.

`backends/openai/trouble_reader.py` makes a `Trouble` of any server's error; the flow acts on its
fate; `docs/reliability.md` shows the table.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

MAX_WAIT_S = 86_400.0
"""The longest wait that a provider may ask for. Chosen: limits are renewed once a day at the latest,
and a batch that slept for years on a misspelled header would be lost without a word."""


def bounded_wait(seconds: float | None) -> float | None:
    """Return the seconds that a provider asked to wait, 0 to `MAX_WAIT_S`; None for no number."""
    if seconds is None or math.isnan(seconds):
        return None
    return min(max(float(seconds), 0.0), MAX_WAIT_S)


class Fate(StrEnum):
    """Reactions of the queue to a failure."""

    WAIT = "wait"
    COUNT = "count"
    FINAL = "final"
    REMEDY = "remedy"


MEANING: Mapping[Fate, str] = MappingProxyType(
    {
        Fate.WAIT: "the same request is made again, for up to `retry_for`; no attempt is used up, "
        "and `Retry-After` is obeyed, up to a day",
        Fate.COUNT: "the same request is made again after the back-off; an attempt is used up",
        Fate.FINAL: "the batch goes to the failed list at once, reason `refused`: the same request "
        "would be refused again",
        Fate.REMEDY: "another request is made at once, without what was refused; if none is left "
        "that can help, the failure is final",
    }
)
"""One sentence for each fate, for the documentation."""


class Kind(StrEnum):
    """Kinds of provider errors, independent of a server's wording."""

    UNREACHABLE = "unreachable"
    BUSY = "busy"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    ASKED_TO_WAIT = "asked_to_wait"
    WRONG_ADDRESS = "wrong_address"
    SERVER_ERROR = "server_error"
    TIMEOUT = "timeout"
    CONNECTION_LOST = "connection_lost"
    CONFLICT = "conflict"
    UNKNOWN = "unknown"
    MODERATED = "moderated"
    UNKNOWN_MODEL = "unknown_model"
    UNAUTHORIZED = "unauthorized"
    NO_QUOTA = "no_quota"
    MALFORMED = "malformed"
    NOT_FOUND = "not_found"
    CONTEXT_OVERFLOW = "context_overflow"
    OPEN_CALLS = "open_calls"
    UNSUPPORTED = "unsupported"

    @property
    def fate(self) -> Fate:
        """The queue's reaction."""
        return FATES[self].fate


@dataclass(frozen=True, slots=True)
class KindRow:
    """One kind of trouble.

    Attributes:
        fate: The queue's reaction.
        signs: The signs it is recognised by.
    """

    fate: Fate
    signs: str


FATES: Mapping[Kind, KindRow] = MappingProxyType(
    {
        Kind.UNREACHABLE: KindRow(
            Fate.WAIT,
            "connection refused, no such name, no TLS, connect time-out: no byte of the request "
            "was sent",
        ),
        Kind.BUSY: KindRow(
            Fate.WAIT, "`conversation_locked`, or words about an active run, at 400 or 409"
        ),
        Kind.RATE_LIMITED: KindRow(
            Fate.WAIT,
            "429; `rate_limit_exceeded`, `RESOURCE_EXHAUSTED` and the like, also inside a 200",
        ),
        Kind.OVERLOADED: KindRow(
            Fate.WAIT,
            "425, 498, 502, 503, 504, 520 to 524, 529, 530; `overloaded_error`, a model that is "
            "still loading",
        ),
        Kind.ASKED_TO_WAIT: KindRow(
            Fate.WAIT, "any other status but 401 and 402 with `Retry-After` or `retry-after-ms`"
        ),
        Kind.WRONG_ADDRESS: KindRow(
            Fate.WAIT, "404 for a path that every server of the protocol has: the base URL is wrong"
        ),
        Kind.SERVER_ERROR: KindRow(Fate.COUNT, "500 and any other 5xx; `server_error`"),
        Kind.TIMEOUT: KindRow(
            Fate.COUNT,
            "408, 499; silence for longer than `request_timeout` or `stream_idle_timeout`",
        ),
        Kind.CONNECTION_LOST: KindRow(Fate.COUNT, "a connection that ended before the answer did"),
        Kind.CONFLICT: KindRow(Fate.COUNT, "409 without words about a run"),
        Kind.UNKNOWN: KindRow(
            Fate.COUNT, "an error with neither a status nor a code that is known"
        ),
        Kind.MODERATED: KindRow(
            Fate.FINAL,
            "`content_filter`, `invalid_prompt` and the like: the prompt was refused by a filter",
        ),
        Kind.UNKNOWN_MODEL: KindRow(
            Fate.FINAL, "`model_not_found`, or words about a model that does not exist"
        ),
        Kind.UNAUTHORIZED: KindRow(Fate.FINAL, "401, 403, `invalid_api_key`"),
        Kind.NO_QUOTA: KindRow(
            Fate.FINAL, "402, `insufficient_quota`, words about a balance that is used up"
        ),
        Kind.MALFORMED: KindRow(
            Fate.FINAL, "400, 405, 415, 422 and any other 4xx that nothing above explains"
        ),
        Kind.NOT_FOUND: KindRow(
            Fate.FINAL, "404: the thread, conversation, assistant or prompt does not exist there"
        ),
        Kind.CONTEXT_OVERFLOW: KindRow(
            Fate.REMEDY,
            "413, `context_length_exceeded`, or words about a prompt that is too long: less of the "
            "conversation is sent",
        ),
        Kind.OPEN_CALLS: KindRow(
            Fate.REMEDY,
            "words about a tool call without an output: it is answered in the same request, else "
            "in a new conversation",
        ),
        Kind.UNSUPPORTED: KindRow(
            Fate.REMEDY,
            "a field, role or form that this server does not take: the request is made without it",
        ),
    }
)
"""The table. `docs/reliability.md` is generated from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error of a provider, independent of its format.

    Attributes:
        kind: The kind; decides the queue's reaction.
        status: The HTTP status, or the one that an error inside a 200 names; None if there is
            neither.
        code: The provider's word for it, None if it has none.
        param: The parameter it names, None if it names none.
        words: The provider's message, without secrets, shortened: for people.
        text: The message as received: for recognising only, never shown.
        retry_after_s: Seconds the provider asked to wait, a day at most; None if it named none.
    """

    kind: Kind
    status: int | None = None
    code: str | None = None
    param: str | None = None
    words: str = ""
    text: str = field(default="", repr=False)
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "retry_after_s", bounded_wait(self.retry_after_s))
