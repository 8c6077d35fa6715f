"""The `openai` package's exceptions, translated into our tree: the one place that does it, most specific first.

    refused connection, DNS, TLS, connect time-out  -> RequestRefused   not counted
    other time-outs, lost connections, 408, 5xx     -> OutcomeUnknown
    lock code or active-run message at 400 or 409   -> ConversationBusy not counted
    409 without them                                -> OutcomeUnknown
    429                                             -> RequestRefused   not counted, except `insufficient_quota`
    404                                             -> UnknownThread, or what the caller says is missing
    other 4xx                                       -> RequestRefused   counted

Messages name the status, the provider's code and the parameter, never the provider's own words: those may repeat a part of the
key or of the user's text. The original is chained, so a traceback still has them - except the key, should a server repeat it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

import openai

from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    StreamCut,
    UnknownThread,
)

_MAYBE_ACCEPTED = "It may have accepted the request; it is asked before anything is sent again."

LOCKED = "conversation_locked"
NO_QUOTA = "insufficient_quota"

# Names, because the HTTP library must not be imported: it is httpx with openai 2.x, httpx2 with 3.x, or what the user's client brings.
_NOT_SENT = frozenset(
    {
        "ConnectError",
        "ConnectTimeout",
        "PoolTimeout",
        "ProxyError",
        "UnsupportedProtocol",
        "InvalidURL",
        "ConnectionRefusedError",
        "gaierror",
        "SSLCertVerificationError",
    }
)
_PERHAPS_SENT = frozenset({"ReadError", "WriteError", "CloseError", "ReadTimeout", "WriteTimeout", "RemoteProtocolError"})
_HTTP_LIBRARIES = frozenset({"httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "aiohttp"})

# Source: the Assistants' wording; these errors carry no code.
ACTIVE_RUN = re.compile(r"already has an active run|while a run \S+ is active|currently operating on this conversation", re.IGNORECASE)
_SOMETHING_ELSE = re.compile(r"\b(assistant|model|prompt)\b", re.IGNORECASE)
_THREAD = re.compile(r"\b(thread|conversation)\b", re.IGNORECASE)
_NUMBER = re.compile(r"\s*\d+(\.\d+)?\s*")
_KEY_HEADERS = ("authorization", "api-key")
_SAFE_WORD = re.compile(r"[\w.\[\]-]{1,80}")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer, whatever shape its body has.

    Attributes:
        code: The provider's word, None where the body has none.
        param: The parameter it complains about.
        text: What it says, for recognising only: never shown.
    """

    status: int
    code: str | None
    param: str | None
    text: str
    retry_after_s: float | None


def problem_of(error: openai.APIStatusError) -> Problem:
    """Read an error answer: OpenAI's body, `{"detail": ...}` or `{"errors": [...]}`."""
    body: Any = error.body
    if isinstance(body, Mapping):
        body = body.get("errors") or body.get("detail") or body
    if isinstance(body, list) and body:
        body = body[0]
    fields = body if isinstance(body, Mapping) else {}
    # `type` says insufficient_quota where a server leaves `code` out.
    code = error.code or fields.get("code") or (NO_QUOTA if fields.get("type") == NO_QUOTA else None)
    text = body if isinstance(body, str) else fields.get("message") or fields.get("msg") or ""
    where = fields.get("loc")
    param = error.param or fields.get("param") or (".".join(map(str, where)) if isinstance(where, list) else None)
    return Problem(
        status=error.status_code,
        code=str(code) if code else None,
        param=str(param) if param else None,
        text=str(text),
        retry_after_s=_retry_after(error.response.headers),
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or an HTTP date)."""
    exact, given = headers.get("retry-after-ms", ""), headers.get("retry-after", "")
    if _NUMBER.fullmatch(exact):
        return float(exact) / 1000
    if _NUMBER.fullmatch(given):
        return float(given)
    try:
        return max(0.0, parsedate_to_datetime(given).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def is_foreign(error: BaseException) -> bool:
    """Whether this is the client library's or the network's, and so to be translated (openai 2.x lets HTTP errors through a stream)."""
    if isinstance(error, (openai.OpenAIError, OSError)):
        return True
    return type(error).__module__.partition(".")[0] in _HTTP_LIBRARIES


@contextmanager
def translated(thread: str, *, missing: type[BackendError] = UnknownThread) -> Iterator[None]:
    """Within the block, foreign exceptions become ours.

    Args:
        thread: The thread that the messages name.
        missing: What a 404 means here.
    """
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        if not is_foreign(error):
            raise
        raise translate(error, thread=thread, missing=missing) from error


def translate(error: Exception, *, thread: str, missing: type[BackendError] = UnknownThread) -> BackendError:
    """Our exception for a foreign one; the caller raises it `from` the original, in which the key is blotted out."""
    _blot_out_key(error)
    if isinstance(error, openai.APIStatusError):
        return _of_answer(problem_of(error), thread, missing)
    if _never_left(error):
        return RequestRefused(
            f"The provider could not be reached for thread {thread!r} ({_name(error)}); nothing was sent. "
            "Check the base URL and the network; it is tried again.",
            counts=False,
        )
    return OutcomeUnknown(f"The connection was lost before the provider answered for thread {thread!r} ({_name(error)}). {_MAYBE_ACCEPTED}")


def _blot_out_key(error: Exception) -> None:
    """Some servers repeat the key that they refuse, and whoever logs a traceback would log it."""
    headers = getattr(getattr(error, "request", None), "headers", None) or {}
    for name in _KEY_HEADERS:
        key = str(headers.get(name, "")).removeprefix("Bearer ").strip()
        if key and key in str(error):
            error.args = tuple(one.replace(key, "***") if isinstance(one, str) else one for one in error.args)
            if isinstance(error, openai.APIError):
                error.message = error.message.replace(key, "***")


def _of_answer(problem: Problem, thread: str, missing: type[BackendError]) -> BackendError:
    status, what = problem.status, _describe(problem)
    told: dict[str, Any] = {"status_code": status, "provider_code": problem.code, "retry_after_s": problem.retry_after_s}
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.CONFLICT} and (problem.code == LOCKED or ACTIVE_RUN.search(problem.text)):
        message = f"Another run is working on thread {thread!r} ({what}); nothing was started. It is tried again later."
        return ConversationBusy(message, counts=False, **told)
    is_refusal = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if not is_refusal or status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}:
        return OutcomeUnknown(f"The provider failed on thread {thread!r} ({what}). {_MAYBE_ACCEPTED}", **told)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        has_quota = problem.code != NO_QUOTA
        advice = "It is tried again later." if has_quota else "The account has no quota left: check the plan and its billing."
        message = f"The provider's limit was hit on thread {thread!r} ({what}); nothing was started. {advice}"
        return RequestRefused(message, counts=not has_quota, **told)
    if status == HTTPStatus.NOT_FOUND and not _is_about_something_else(problem):
        return _missing(missing, f"({what})", thread, told)
    advice = "Correct the options or the message, then retry the batch."
    return RequestRefused(f"The provider refused the request for thread {thread!r} ({what}); nothing was started. {advice}", **told)


def _missing(missing: type[BackendError], what: str, thread: str, told: dict[str, Any]) -> BackendError:
    if issubclass(missing, RunVanished):
        return missing(f"The provider does not know the run of thread {thread!r} any more {what}; it is asked what is left of it.", **told)
    if missing is RequestRefused:
        return missing(f"The provider knows nothing at this address {what}; nothing was started. Check the base URL and the model.", **told)
    advice = "Check the id and the account it belongs to."
    return missing(f"The provider does not know thread {thread!r} {what}; nothing was started. {advice}", **told)


def _is_about_something_else(problem: Problem) -> bool:
    """A 404 that names a model, an assistant or a prompt is a wrong option, not an unknown thread."""
    if problem.code is not None and _SOMETHING_ELSE.search(problem.code.replace("_", " ")):
        return True
    return bool(_SOMETHING_ELSE.search(problem.text)) and not _THREAD.search(problem.text)


def _never_left(error: BaseException) -> bool:
    """Whether the chain of causes proves that no byte of the request was sent. The outermost name that decides, decides."""
    cause: BaseException | None = error
    while cause is not None:
        names = {kind.__name__ for kind in type(cause).__mro__}
        # An illegal header (a line break in the key, say) is refused by our own side of the connection.
        if names & _NOT_SENT or ("LocalProtocolError" in names and "header" in str(cause)):
            return True
        if names & _PERHAPS_SENT:
            return False
        cause = cause.__cause__ or cause.__context__
    return False


def _name(error: BaseException) -> str:
    cause = error.__cause__
    return type(error).__name__ if cause is None else f"{type(error).__name__} from {type(cause).__name__}"


def _describe(problem: Problem) -> str:
    code = problem.code if problem.code and _SAFE_WORD.fullmatch(problem.code) else None
    param = problem.param if problem.param and _SAFE_WORD.fullmatch(problem.param) else None
    parts = [f"HTTP {problem.status}", f"code {code}" if code else "", f"param {param}" if param else ""]
    return ", ".join(part for part in parts if part)


@contextmanager
def watching(thread: str, run_id: str) -> Iterator[None]:
    """Within the block an accepted run is looked at: trouble is a `StreamCut`, except that the run is unknown."""
    try:
        yield
    except (RequestRefused, OutcomeUnknown) as error:
        raise cut(error, thread=thread, run_id=run_id) from error.__cause__


def cut(error: BackendError, *, thread: str, run_id: str) -> StreamCut:
    """The same trouble, met while an accepted run was watched: it says nothing about the run."""
    what = f"{type(error).__name__}, HTTP {error.status_code}" if error.status_code else type(error).__name__
    return StreamCut(
        f"Run {run_id!r} of thread {thread!r} could not be watched further ({what}); follow it by its id.",
        status_code=error.status_code,
        provider_code=error.provider_code,
        retry_after_s=error.retry_after_s,
        counts=error.counts,
    )
