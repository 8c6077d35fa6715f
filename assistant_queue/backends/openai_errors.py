"""The `openai` package's exceptions, translated into our tree: the one place that does it, most specific first.

    refused connection, DNS, TLS, connect time-out  -> RequestRefused   nothing was sent
    other time-outs, lost connections, 408, 5xx     -> OutcomeUnknown
    lock code or active-run message at 400 or 409   -> ConversationBusy
    409 without them                                -> OutcomeUnknown
    404                                             -> UnknownThread, or what the caller says is missing
    other 4xx, a template's error                   -> RequestRefused

What follows - wait, count, final, remedy - is the kind's fate (`assistant_queue.trouble`), told by `trouble_reader`. Messages carry the
provider's own words without secrets; the driver takes the user's text out of them. The original is chained, without the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

import openai

from assistant_queue.backends.trouble_reader import read_trouble
from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.trouble import Fate, Kind, Trouble

MAYBE_ACCEPTED = "It may have accepted the request."

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

_SOMETHING_ELSE = re.compile(r"\b(assistant|model|prompt|deployment)\b", re.IGNORECASE)
_THREAD = re.compile(r"\b(thread|conversation)\b", re.IGNORECASE)
_KEY_HEADERS = ("authorization", "api-key")
_SAFE_WORD = re.compile(r"[\w.\[\]-]{1,80}")

_BEFORE_WORK = frozenset(
    {
        Kind.BUSY,
        Kind.RATE_LIMITED,
        Kind.NO_QUOTA,
        Kind.CONTEXT_OVERFLOW,
        Kind.MODERATED,
        Kind.UNKNOWN_MODEL,
        Kind.UNAUTHORIZED,
        Kind.MALFORMED,
        Kind.NOT_FOUND,
        Kind.UNSUPPORTED,
    }
)
"""What a server finds out before it begins: said in words, it proves that nothing was accepted, whatever the status is."""


def trouble_of(error: openai.APIStatusError) -> Trouble:
    """Read an error answer. The whole body is read: the client library keeps a part of it only."""
    try:
        body: object = error.response.text
    except Exception:  # noqa: BLE001 - the body of a stream that was closed before it was read; what the library kept is left
        body = error.body
    return read_trouble(body or error.body, status=error.status_code, headers=error.response.headers, secrets=_keys_of(error))


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
    if isinstance(error, openai.APIStatusError):
        trouble = trouble_of(error)
        _blot_out_key(error)
        return of_trouble(trouble, thread=thread, missing=missing)
    _blot_out_key(error)
    if _never_left(error):
        return RequestRefused(
            f"The provider could not be reached for thread {thread!r} ({_name(error)}); nothing was sent. "
            "Check the base URL and the network; it is tried again.",
            trouble=Trouble(kind=Kind.UNREACHABLE),
        )
    kind = Kind.TIMEOUT if "Timeout" in _name(error) else Kind.CONNECTION_LOST
    message = f"The connection was lost before the provider answered for thread {thread!r} ({_name(error)}). {MAYBE_ACCEPTED}"
    return OutcomeUnknown(message, trouble=Trouble(kind=kind))


def _keys_of(error: Exception) -> tuple[str, ...]:
    """The keys that the request was sent with."""
    headers = getattr(getattr(error, "request", None), "headers", None) or {}
    return tuple(str(headers.get(name, "")).removeprefix("Bearer ").strip() for name in _KEY_HEADERS)


def _blot_out_key(error: Exception) -> None:
    """Some servers repeat the key that they refuse, and a logged traceback would show it."""
    for key in _keys_of(error):
        if key and key in str(error):
            error.args = tuple(one.replace(key, "***") if isinstance(one, str) else one for one in error.args)
            if isinstance(error, openai.APIError):
                error.message = error.message.replace(key, "***")


def of_trouble(trouble: Trouble, *, thread: str, missing: type[BackendError] = UnknownThread) -> BackendError:
    """The exception for an error answer, or for an error inside a 200 that came before a run had a name."""
    what = describe(trouble)
    if trouble.kind is Kind.BUSY:
        return ConversationBusy(
            f"Another run is working on thread {thread!r} {what}; nothing was started. It is tried again later.", trouble=trouble
        )
    if not _is_refusal(trouble):
        return OutcomeUnknown(f"The provider failed on thread {thread!r} {what}. {MAYBE_ACCEPTED}", trouble=trouble)
    if trouble.kind is Kind.NOT_FOUND and not _is_about_something_else(trouble):
        return _missing(missing, what, thread, trouble)
    return RequestRefused(
        f"The provider refused the request for thread {thread!r} {what}; nothing was started. {_ADVICE.get(trouble.kind, _CORRECT)}",
        trouble=trouble,
    )


_CORRECT = "Correct the options or the message, then retry the batch."
_ADVICE = {
    Kind.RATE_LIMITED: "It is tried again later.",
    Kind.OVERLOADED: "It is tried again later.",
    Kind.ASKED_TO_WAIT: "It is tried again later.",
    Kind.NO_QUOTA: "The account has no quota left: check the plan and its billing, then retry the batch.",
    Kind.UNAUTHORIZED: "Check the key and what it may do, then retry the batch.",
    Kind.UNKNOWN_MODEL: "Check the model's name and the base URL, then retry the batch.",
    Kind.MODERATED: "The same text would be refused again: discard the batch, or change the message.",
    Kind.CONTEXT_OVERFLOW: "The messages are longer than the model can read, even without what came before.",
}


def _is_refusal(trouble: Trouble) -> bool:
    """Whether the trouble proves that nothing was accepted."""
    status = trouble.status
    if status is None or not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        # A rate limit is told before the work; "500" and nothing else says nothing about it.
        return trouble.kind in _BEFORE_WORK and trouble.kind is not Kind.NOT_FOUND
    return status not in {408, 409, 499}


def _missing(missing: type[BackendError], what: str, thread: str, trouble: Trouble) -> BackendError:
    if issubclass(missing, RunVanished):
        message = f"The provider does not know the run of thread {thread!r} any more {what}; it is asked what is left of it."
        return missing(message, trouble=trouble)
    if missing is RequestRefused:
        wrong = Trouble(
            kind=Kind.WRONG_ADDRESS, status=trouble.status, code=trouble.code, words=trouble.words, retry_after_s=trouble.retry_after_s
        )
        return missing(
            f"The provider knows nothing at this address {what}; nothing was started. Check that the base URL is right (most end in /v1) "
            "and the model exists; it is tried again.",
            trouble=wrong,
        )
    advice = "Check the id and the account it belongs to."
    return missing(f"The provider does not know thread {thread!r} {what}; nothing was started. {advice}", trouble=trouble)


def _is_about_something_else(trouble: Trouble) -> bool:
    """A 404 that names a model, an assistant or a prompt is a wrong option, not an unknown thread."""
    if trouble.code is not None and _SOMETHING_ELSE.search(trouble.code.replace("_", " ")):
        return True
    return bool(_SOMETHING_ELSE.search(trouble.text)) and not names_thread(trouble)


def names_thread(trouble: Trouble) -> bool:
    """Whether the words are about a thread or a conversation."""
    return _THREAD.search(trouble.text) is not None


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


def describe(trouble: Trouble) -> str:
    """What a server says, for an error message: `(HTTP 400, code x, param y): "its words"`."""
    code = trouble.code if trouble.code and _SAFE_WORD.fullmatch(trouble.code) else None
    param = trouble.param if trouble.param and _SAFE_WORD.fullmatch(trouble.param) else None
    parts = [
        f"HTTP {trouble.status}" if trouble.status else "",
        f"code {code}" if code else "",
        f"param {param}" if param else "",
    ]
    told = ", ".join(part for part in parts if part) or "inside its answer"
    return f'({told}: "{trouble.words}")' if trouble.words else f"({told})"


@contextmanager
def watching(thread: str, run_id: str) -> Iterator[None]:
    """Within the block an accepted run is looked at: trouble is a `StreamCut`, except that the run is unknown."""
    try:
        yield
    except (RequestRefused, OutcomeUnknown) as error:
        raise cut(error, thread=thread, run_id=run_id) from error.__cause__


def cut(error: BackendError, *, thread: str, run_id: str) -> StreamCut:
    """The same trouble, met while an accepted run was watched: it says nothing about the run."""
    trouble = error.trouble
    what = f" {describe(trouble)}" if trouble is not None and (trouble.status or trouble.words) else f" ({type(error).__name__})"
    return StreamCut(
        f"Run {run_id!r} of thread {thread!r} could not be watched further{what}; follow it by its id.",
        # A refusal to show the run is none of the batch: only a wait is taken over.
        trouble=trouble if trouble is not None and trouble.kind.fate is Fate.WAIT else None,
        **_numbers(error),
    )


def _numbers(error: BackendError) -> dict[str, Any]:
    return {
        "status_code": error.status_code,
        "provider_code": error.provider_code,
        "retry_after_s": error.retry_after_s,
        "counts": error.counts,
    }
