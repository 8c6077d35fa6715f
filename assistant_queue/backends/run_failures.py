"""Failures that come inside HTTP 200: a run that failed, and `error` events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assistant_queue.backends.openai_errors import ACTIVE_RUN, LOCKED, NO_QUOTA
from assistant_queue.errors import BackendError, ConversationBusy, OutcomeUnknown, RequestRefused
from assistant_queue.models import ErrorInfo

RATE_LIMITED = "rate_limit_exceeded"

_MOST_CHARS = 500
"""Of the provider's words about a failed run. Chosen."""

# Source: the provider's rate limit messages: "Please try again in 1.2s."
_TRY_AGAIN = re.compile(r"try again in (\d+(?:\.\d+)?)\s*(ms|s)\b", re.IGNORECASE)
_SECRET = re.compile(r"\b(?:sk|sess|key|Bearer)[-_ ][^\s'\"]{4,}")


@dataclass(frozen=True, slots=True)
class Failure:
    """A run's own error, read for `RunEnded`."""

    error: ErrorInfo
    counts: bool
    retry_after_s: float | None


def failure_of(error: Any, status: str) -> Failure:
    """What a run that ended as `status` says about it; `error` is its `error` or `last_error`, if it has one."""
    fields = _fields_of(error)
    code = str(fields.get("code") or f"run_{status}")
    text = str(fields.get("message") or f"The provider ended the run as {status!r}.")
    wait = _TRY_AGAIN.search(text) if code == RATE_LIMITED else None
    retry_after_s = float(wait[1]) / (1000 if wait[2].lower() == "ms" else 1) if wait else None
    info = ErrorInfo(code=code, message=_SECRET.sub("[key]", text)[:_MOST_CHARS])
    return Failure(info, counts=code != RATE_LIMITED, retry_after_s=retry_after_s)


def _fields_of(error: Any) -> Mapping[str, Any]:
    if isinstance(error, list) and error:
        error = error[0]
    return error if isinstance(error, Mapping) else {"message": error} if error else {}


def refused_in_stream(error: Any, *, thread: str) -> BackendError:
    """An `error` event that came before any id: was anything started?"""
    error = _fields_of(error)
    code, kind, text = error.get("code"), error.get("type"), str(error.get("message") or "")
    told: dict[str, Any] = {"provider_code": str(code) if code else None}
    if code == LOCKED or ACTIVE_RUN.search(text):
        return ConversationBusy(
            f"Another run is working on thread {thread!r}; nothing was started. It is tried again.", counts=False, **told
        )
    if code in {RATE_LIMITED, NO_QUOTA}:
        failure = failure_of(error, "failed")
        message = f"The provider's limit was hit on thread {thread!r}; nothing was started."
        return RequestRefused(message, counts=failure.counts, retry_after_s=failure.retry_after_s, **told)
    if kind == "invalid_request_error" or code == "invalid_prompt":
        return RequestRefused(
            f"The provider refused the request for thread {thread!r}; nothing was started. Correct it, then retry.", **told
        )
    return OutcomeUnknown(
        f"The provider failed on thread {thread!r} before it named a run; it is asked before anything is sent again.", **told
    )
