"""Read any provider error, streamed or not, of any protocol, as a `Trouble`.

Pure.

Errors are HTTP error bodies, `error` events inside a 200 and the error of a failed run. The kind is
determined by code first, then by words, then by status: gateways send the right words with the
wrong status.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai import trouble_words as words
from assistant_queue.backends.openai.trouble_fields import Fields, fields_of
from assistant_queue.trouble import Fate, Kind, Trouble
from assistant_queue.user_code.scrubbing import scrubbed

LOCKED = "conversation_locked"
ACTIVE_RUN = re.compile(
    r"already has an active run|while a run \S+ is active|currently operating on this conversation",
    re.IGNORECASE,
)
"""Source: the Assistants' wording; these errors carry no code."""

_PREFIXES = ("", "llm_provider-")
"""Prefixes of a header's name. Source: LiteLLM's proxy forwards its server's headers with one."""

_NUMBER = re.compile(r"\s*\d+(\.\d+)?\s*")
# Source: rate limit messages of OpenAI, Groq and others: "Please try again in 1.2s", "in 20ms", "in
# 1m3.5s", "Retry in 7 seconds".
_TRY_AGAIN = re.compile(
    r"(?:try again|retry|wait)\D{0,20}(?=\d)(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m(?!s))?"
    r"(?:(?P<n>\d+(?:\.\d+)?)\s*(?P<unit>ms|milliseconds?|seconds?|s|minutes?)?)?",
    re.IGNORECASE,
)
_UNITS_S = {"ms": 0.001, "milli": 0.001, "minut": 60.0}


def read_trouble(
    body: object,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    secrets: tuple[str, ...] = (),
) -> Trouble:
    """Convert an error to a `Trouble`.

    Args:
        body: The server's error: an object, a list, a string or bytes.
        status: The HTTP status, None for an error inside a 200.
        headers: Of the answer, for `Retry-After`.
        secrets: Further secrets to keep out of the words.
    """
    found = fields_of(body)
    text = " | ".join(found.words)
    named = _status(status, found)
    wait_s = next(
        (
            one
            for one in (retry_after(headers or {}), found.wait, _wait_in(text))
            if one is not None
        ),
        None,
    )
    kind = _kind(found, text, named, has_wait=wait_s is not None)
    return Trouble(
        kind=kind,
        status=status if status is not None else found.status,
        code=found.code,
        param=found.param,
        words=scrubbed(": ".join(_distinct(found.words)), *secrets),
        text=text,
        retry_after_s=wait_s if kind.fate is Fate.WAIT else None,
    )


def _distinct(words: tuple[str, ...]) -> list[str]:
    """Drop words that another entry repeats: gateways quote the error that they wrap."""
    return [
        word
        for place, word in enumerate(words)
        if not any(word in other for other in (*words[:place], *words[place + 1 :]))
    ]


def _status(status: int | None, found: Fields) -> int | None:
    """Return the status to judge by.

    A number in the body, if HTTP has no status, or only 400 or 500.
    """
    if found.status is not None and (status is None or status in {400, 500}):
        return found.status
    return status


# One branch for each kind, most specific first.
def _kind(found: Fields, text: str, status: int | None, *, has_wait: bool) -> Kind:  # noqa: C901
    codes = found.codes
    if LOCKED in codes or (status in {None, 400, 409} and ACTIVE_RUN.search(text)):
        return Kind.BUSY
    if status in {None, 400, 422, 500} and words.OPEN_CALLS.search(text):
        return Kind.OPEN_CALLS
    if _is_overflow(found, text, status):
        return Kind.CONTEXT_OVERFLOW
    if (
        codes & words.NO_QUOTA_CODES
        or status == HTTPStatus.PAYMENT_REQUIRED
        or (words.NO_QUOTA.search(text) and "resource_exhausted" not in codes and not has_wait)
    ):
        return Kind.NO_QUOTA
    if (status != HTTPStatus.TOO_MANY_REQUESTS and codes & words.MODERATED_CODES) or (
        status in {None, 400, 403, 422, 451} and words.MODERATED.search(text)
    ):
        return Kind.MODERATED
    if (
        status == HTTPStatus.TOO_MANY_REQUESTS
        or codes & (words.RATE_CODES - {"requests", "tokens"})
        or (status in {None, 400, 403, 500, 503} and words.RATE.search(text))
    ):
        return Kind.RATE_LIMITED
    if status in words.GATEWAY or (
        status in {None, 500} and (codes & words.OVERLOADED_CODES or words.OVERLOADED.search(text))
    ):
        return Kind.OVERLOADED
    if codes & words.MODEL_CODES or (
        status in {None, 400, 403, 404, 422} and words.MODEL.search(text)
    ):
        return Kind.UNKNOWN_MODEL
    is_refusal = status is None and bool(codes & words.MALFORMED_CODES)
    if remedies.could_help(400 if is_refusal else status, text, found.param):
        return Kind.UNSUPPORTED
    if codes & words.KEY_CODES or (status in {None, 400} and words.KEY.search(text)):
        return Kind.UNAUTHORIZED
    if has_wait and (status is None or status not in {401, 402}):
        return Kind.ASKED_TO_WAIT
    return _by_status(status, codes, text)


def _by_status(status: int | None, codes: frozenset[str], text: str) -> Kind:
    if status is not None:
        if status in words.BY_STATUS:
            return words.BY_STATUS[status]
        return (
            Kind.SERVER_ERROR
            if not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
            else Kind.MALFORMED
        )
    if codes & words.SERVER_CODES or words.BROKEN.search(text):
        return Kind.SERVER_ERROR
    if codes & words.TIMEOUT_CODES:
        return Kind.TIMEOUT
    return Kind.MALFORMED if codes & words.MALFORMED_CODES else Kind.UNKNOWN


def _is_overflow(found: Fields, text: str, status: int | None) -> bool:
    """Return whether a conversation is longer than the model, or the server, takes.

    A limit per minute does not count, unless a single request exceeds it.
    """
    if found.codes & words.OVERFLOW_CODES:
        return True
    if status not in {None, 400, 413, 422, 429, 500}:
        return False
    if not words.CONTEXT.search(text) and _is_about_something_else(found, text):
        return False
    if (
        words.PER_TIME.search(text)
        or status == HTTPStatus.TOO_MANY_REQUESTS
        or found.codes & words.RATE_CODES
    ):
        return bool(words.ONE_REQUEST.search(text))
    return status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or bool(
        words.OVERFLOW.search(text) or (words.CONTEXT.search(text) and words.TOO_MUCH.search(text))
    )


def _is_about_something_else(found: Fields, text: str) -> bool:
    """Return whether the bound of the answer is too high, or a single field too long."""
    return (
        found.param in words.OUTPUT_PARAMS
        or bool(words.OF_A_FIELD.search(text))
        or bool(words.OF_THE_ANSWER.search(text) and not words.OF_THE_INPUT.search(text))
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait, from `retry-after-ms` or `Retry-After`.

    The latter is in seconds or an HTTP date. A proxy's own headers precede those it forwards.
    """
    exact, given = (
        next(
            (headers[f"{prefix}{name}"] for prefix in _PREFIXES if headers.get(f"{prefix}{name}")),
            "",
        )
        for name in ("retry-after-ms", "retry-after")
    )
    if _NUMBER.fullmatch(exact):
        return float(exact) / 1000
    if _NUMBER.fullmatch(given):
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _wait_in(text: str) -> float | None:
    """Return the seconds to wait that a message names."""
    found = _TRY_AGAIN.search(text)
    if found is None:
        return None
    unit = next(
        (size for name, size in _UNITS_S.items() if (found["unit"] or "").lower().startswith(name)),
        1.0,
    )
    return (
        float(found["h"] or 0) * 3600 + float(found["m"] or 0) * 60 + float(found["n"] or 0) * unit
    )
