"""Define the actions of scripted faults.

Tests call the functions; the server reads the classes.

A fault may combine several: `append_late(5)` with `never_answer()` is a server that finishes after
its client gave up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from assistant_queue.testing.provider.api_errors import JSON_TYPE, ApiProblem
from assistant_queue.testing.provider.script import Outcome
from assistant_queue.testing.provider.wordings import Kind


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with this error; `accept` does the work first."""

    problem: ApiProblem
    accept: bool


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """Answer with this server's error for a kind of trouble; `accept` does the work first."""

    kind: Kind
    retry_after: float
    accept: bool


@dataclass(frozen=True, slots=True)
class Silence:
    """Send nothing until the client gives up; `accept` does the work first.

    `drop` cuts the connection instead.
    """

    accept: bool
    drop: bool


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait so many seconds before and after the request is acted on."""

    before: float
    after: float


Side = Literal["before", "at", "after"]
"""Place of the cut relative to a match in a stream: before its event, in the middle of the event
just before the bytes, or after its event."""


@dataclass(frozen=True, slots=True)
class CutStream:
    """Cut the stream after so many events or bytes, or on a side of a match.

    `abort` also ends the work.

    `is_orderly` ends the answer as if it were whole, instead of cutting the connection.
    """

    after_events: int | None
    after_bytes: int | None
    abort: bool
    found: re.Pattern[bytes] | None = None
    side: Side = "before"
    is_orderly: bool = False


@dataclass(frozen=True, slots=True)
class AppendLate:
    """Let the run's items join the conversation so many seconds after its end."""

    seconds: float


@dataclass(frozen=True, slots=True)
class ReplyWith:
    """This outcome instead of the model's."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Vanish:
    """The run is accepted and then unknown: 404, nothing appended, streams cut."""


@dataclass(frozen=True, slots=True)
class ExpireNow:
    """The run expires as soon as it is accepted (Assistants)."""


@dataclass(frozen=True, slots=True)
class IgnoreCancel:
    """A cancel is answered as usual and does nothing."""


Action = (
    Refuse
    | ErrorAnswer
    | Silence
    | Delay
    | CutStream
    | AppendLate
    | ReplyWith
    | Vanish
    | ExpireNow
    | IgnoreCancel
)


def _problem(
    *,
    status: int,
    code: str | None,
    message: str | None,
    retry_after: float | None,
    headers: Mapping[str, str] | None,
    body: Any,
    content_type: str,
) -> ApiProblem:
    sent = dict(headers or {})
    if retry_after is not None:
        sent["retry-after"] = f"{retry_after:g}"
    kinds = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
    is_server_error = status >= HTTPStatus.INTERNAL_SERVER_ERROR
    kind = "server_error" if is_server_error else kinds.get(status, "invalid_request_error")
    text = message or f"Scripted fault: {status} {code or ''}".rstrip()
    return ApiProblem(
        text,
        status=status,
        code=code,
        error_type=kind,
        headers=sent,
        body=body,
        content_type=content_type,
    )


def refuse(
    status: int,
    code: str | None = None,
    message: str | None = None,
    *,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    content_type: str = JSON_TYPE,
) -> Refuse:
    """Answer with an error before anything is done.

    Args:
        status: The HTTP status.
        code: `error.code`, such as `rate_limit_exceeded` or `insufficient_quota`.
        message: `error.message`.
        retry_after: Seconds for the `Retry-After` header.
        headers: Further headers.
        body: A whole body instead of the provider's error shape: `{"detail": "..."}` say, or the
            bytes of a page.
        content_type: Of such a body; "" sends no such header.
    """
    return Refuse(
        _problem(
            status=status,
            code=code,
            message=message,
            retry_after=retry_after,
            headers=headers,
            body=body,
            content_type=content_type,
        ),
        accept=False,
    )


def work_then_refuse(
    status: int = 500,
    code: str | None = None,
    message: str | None = None,
    *,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
    content_type: str = JSON_TYPE,
) -> Refuse:
    """Accept the request, do the work, and answer with an error all the same.

    A plain request is refused when its work is done, a streamed or background one at once, while
    the work continues.
    """
    return Refuse(
        _problem(
            status=status,
            code=code,
            message=message,
            retry_after=retry_after,
            headers=headers,
            body=body,
            content_type=content_type,
        ),
        accept=True,
    )


def trouble(kind: Kind, *, retry_after: float = 1.0, accept: bool = False) -> ErrorAnswer:
    """Answer with this server's error for a kind of trouble: its status, words and body.

    Args:
        kind: `rate_limited`, `overloaded`, `loading`, `gateway`, `server_error`, `no_quota`,
            `wrong_key`, `unknown_model`, `moderated` or `overflow`.
        retry_after: Seconds that the answer asks for, where this server says any: in a header, or
            in its words.
        accept: Do the work all the same.
    """
    return ErrorAnswer(kind, retry_after, accept)


def never_answer(*, accept: bool = True) -> Silence:
    """Send no byte of an answer: the client times out.

    With `accept` the work is done all the same.
    """
    return Silence(accept=accept, drop=False)


def drop_connection(*, accept: bool = False) -> Silence:
    """Cut the connection without an answer, with `accept` after the work was taken on."""
    return Silence(accept=accept, drop=True)


def delay(before: float = 0.0, after: float = 0.0) -> Delay:
    """Wait before the request is acted on, or between that and the answer; in seconds."""
    return Delay(before, after)


def cut_stream(
    *,
    after_events: int | None = None,
    after_bytes: int | None = None,
    before: bytes | None = None,
    at: bytes | None = None,
    after: bytes | None = None,
    orderly: bool = False,
    abort: bool = False,
) -> CutStream:
    """Cut a stream: give one of the first five.

    Args:
        after_events: 0 sends the headers only.
        after_bytes: Of the body; may cut an event in two.
        before: A regular expression: ahead of the first event that holds it.
        at: The same, just ahead of the bytes that match: cuts the event in two, or even a
            character.
        after: The same, after that event.
        orderly: End the answer as if it were whole, as some proxies do, instead of cutting the
            connection.
        abort: The server stops working too, at that event (only with `after_events`; else at once):
            the run ends `failed` and nothing it said is stored. Otherwise it continues.

    Raises:
        ValueError: Several of the first five are given, or none.
    """
    sides: dict[Side, bytes | None] = {"before": before, "at": at, "after": after}
    wanted = [(side, pattern) for side, pattern in sides.items() if pattern is not None]
    if len(wanted) + (after_events is not None) + (after_bytes is not None) != 1:
        raise ValueError("cut_stream: give one of after_events, after_bytes, before, at and after")
    if not wanted:
        return CutStream(after_events, after_bytes, abort, is_orderly=orderly)
    ((side, pattern),) = wanted
    return CutStream(None, None, abort, re.compile(pattern), side, orderly)


def append_late(seconds: float) -> AppendLate:
    """End the run as usual, but let its items join the conversation so many seconds later.

    The conversation is not locked meanwhile.
    """
    return AppendLate(seconds)


def reply_with(outcome: Outcome) -> ReplyWith:
    """Let the model answer this in one run or response, instead of the script's outcome.

    On Assistants it is the answer of all rounds of the run.
    """
    return ReplyWith(outcome)


def vanish() -> Vanish:
    """Accept the run and forget it: retrieving it is a 404."""
    return Vanish()


def expire_now() -> ExpireNow:
    """Let the run expire as soon as it was accepted."""
    return ExpireNow()


def ignore_cancel() -> IgnoreCancel:
    """Answer a cancel as usual and continue to work."""
    return IgnoreCancel()
