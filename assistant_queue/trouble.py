"""What a provider's trouble is and what follows from it: the one table of kinds and fates. Pure.

`backends/trouble_reader.py` makes a `Trouble` of any server's error; the flow acts on its fate; `docs/reliability.md` shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType


class Fate(str, Enum):
    """What the queue does about a failure."""

    WAIT = "wait"
    COUNT = "count"
    FINAL = "final"
    REMEDY = "remedy"


MEANING: Mapping[Fate, str] = MappingProxyType(
    {
        Fate.WAIT: "the same request is made again, for up to `retry_for`; no attempt is used up, and `Retry-After` is obeyed",
        Fate.COUNT: "the same request is made again after the back-off; an attempt is used up",
        Fate.FINAL: "the batch goes to the failed list at once, reason `refused`: the same request would be refused again",
        Fate.REMEDY: "another request is made at once, without what was refused; if none is left that can help, the failure is final",
    }
)
"""One sentence for each fate, for the documentation."""


class Kind(str, Enum):
    """What went wrong, whatever words the server had for it."""

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
        """What the queue does about it."""
        return FATES[self].fate


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of trouble.

    Attributes:
        fate: What follows.
        told_by: What it is recognised by.
    """

    fate: Fate
    told_by: str


FATES: Mapping[Kind, Row] = MappingProxyType(
    {
        Kind.UNREACHABLE: Row(Fate.WAIT, "connection refused, no such name, no TLS, connect time-out: no byte of the request was sent"),
        Kind.BUSY: Row(Fate.WAIT, "`conversation_locked`, or words about an active run, at 400 or 409"),
        Kind.RATE_LIMITED: Row(Fate.WAIT, "429; `rate_limit_exceeded`, `RESOURCE_EXHAUSTED` and the like, also inside a 200"),
        Kind.OVERLOADED: Row(Fate.WAIT, "425, 498, 502, 503, 504, 520 to 524, 529, 530; `overloaded_error`, a model that is still loading"),
        Kind.ASKED_TO_WAIT: Row(Fate.WAIT, "any other status with `Retry-After` or `retry-after-ms`"),
        Kind.WRONG_ADDRESS: Row(Fate.WAIT, "404 for a path that every server of the protocol has: the base URL is wrong"),
        Kind.SERVER_ERROR: Row(Fate.COUNT, "500 and any other 5xx; `server_error`"),
        Kind.TIMEOUT: Row(Fate.COUNT, "408, 499; silence for longer than `request_timeout` or `stream_idle_timeout`"),
        Kind.CONNECTION_LOST: Row(Fate.COUNT, "a connection that ended before the answer did"),
        Kind.CONFLICT: Row(Fate.COUNT, "409 without words about a run"),
        Kind.UNKNOWN: Row(Fate.COUNT, "an error with neither a status nor a code that is known"),
        Kind.MODERATED: Row(Fate.FINAL, "`content_filter`, `invalid_prompt` and the like: the prompt was refused by a filter"),
        Kind.UNKNOWN_MODEL: Row(Fate.FINAL, "`model_not_found`, or words about a model that does not exist"),
        Kind.UNAUTHORIZED: Row(Fate.FINAL, "401, 403, `invalid_api_key`"),
        Kind.NO_QUOTA: Row(Fate.FINAL, "402, `insufficient_quota`, words about a balance that is used up"),
        Kind.MALFORMED: Row(Fate.FINAL, "400, 405, 415, 422 and any other 4xx that nothing above explains"),
        Kind.NOT_FOUND: Row(Fate.FINAL, "404: the thread, conversation, assistant or prompt does not exist there"),
        Kind.CONTEXT_OVERFLOW: Row(
            Fate.REMEDY, "413, `context_length_exceeded`, or words about a prompt that is too long: less of the conversation is sent"
        ),
        Kind.OPEN_CALLS: Row(
            Fate.REMEDY, "words about a tool call without an output: it is answered in the same request, else in a new conversation"
        ),
        Kind.UNSUPPORTED: Row(Fate.REMEDY, "a field, role or form that this server does not take: the request is made without it"),
    }
)
"""The table. `docs/reliability.md` is generated from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """An error of a provider, whatever shape it came in.

    Attributes:
        kind: What it is; decides what follows.
        status: The HTTP status, or the one that an error inside a 200 names; None if there is neither.
        code: The provider's word for it, None if it has none.
        param: The parameter it complains about, None if it names none.
        words: What the provider says, without secrets, shortened: for people.
        text: The same as it came: for recognising only, never shown.
        retry_after_s: Seconds the provider asked to wait, None if it did not say.
    """

    kind: Kind
    status: int | None = None
    code: str | None = None
    param: str | None = None
    words: str = ""
    text: str = field(default="", repr=False)
    retry_after_s: float | None = None
