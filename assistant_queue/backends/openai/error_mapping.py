"""Translate the exceptions of the `openai` package and of aiohttp into ours.

This is the only place that does it; rows are matched from the most specific on.

    refused connection, DNS, TLS, connect time-out  -> RequestRefused   nothing was sent
    other time-outs, lost connections, 408, 5xx     -> OutcomeUnknown
    lock code or active-run message at 400 or 409   -> ConversationBusy
    409 without them                                -> OutcomeUnknown
    404                                             -> UnknownThread, or the caller's `missing`
    other 4xx, a template's error                   -> RequestRefused

The consequence - wait, count, final, remedy - is the kind's fate (`assistant_queue.trouble`), and
`trouble_reader` determines the kind. Messages carry the provider's own words without secrets; the
driver removes the user's text from them. The original is chained, without the key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from assistant_queue.backends.openai.sending import FailedAnswer
from assistant_queue.backends.openai.trouble_reader import read_trouble
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

# Names, because neither library must be imported, and the HTTP library has several: httpx with
# openai 2.x, httpx2 with 3.x, aiohttp, or what the user's client brings.
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
        "ClientConnectorError",
        "ClientConnectorCertificateError",
        "ConnectionTimeoutError",
        "RequestNotSent",
    }
)
_PERHAPS_SENT = frozenset(
    {
        "ReadError",
        "WriteError",
        "CloseError",
        "ReadTimeout",
        "WriteTimeout",
        "RemoteProtocolError",
        "ClientOSError",
        "ServerDisconnectedError",
        "SocketTimeoutError",
        "AnswerBroken",
    }
)
_LIBRARIES = frozenset(
    {"openai", "httpx", "httpx2", "httpcore", "httpcore2", "h11", "h2", "anyio", "aiohttp"}
)
_OURS = frozenset({"FailedAnswer", "RequestNotSent", "AnswerBroken"})

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
"""Kinds that a server detects before it starts to work: if its words say so, nothing was accepted,
whatever the status is."""


def trouble_of(error: Any) -> Trouble:
    """Read an error answer: ours, or an `openai.APIStatusError`.

    The whole body is read: the client library keeps a part of it only.
    """
    if isinstance(error, FailedAnswer):
        return read_trouble(
            error.body, status=error.status_code, headers=error.headers, secrets=error.secrets
        )
    try:
        body: object = error.response.text
    # The stream was closed before its body was read: only the library's part of it is left.
    except Exception:  # noqa: BLE001
        body = error.body
    return read_trouble(
        body or error.body,
        status=error.status_code,
        headers=error.response.headers,
        secrets=_keys_of(error),
    )


def is_foreign(error: BaseException) -> bool:
    """Return whether the error is the client library's or the network's.

    openai 2.x lets HTTP errors through while a stream is read.
    """
    if isinstance(error, OSError):
        return True
    return any(
        kind.__module__.partition(".")[0] in _LIBRARIES or kind.__name__ in _OURS
        for kind in type(error).__mro__
    )


@contextmanager
def translated(thread: str, *, missing: type[BackendError] = UnknownThread) -> Iterator[None]:
    """Translate foreign exceptions within the block.

    Args:
        thread: The thread that the messages name.
        missing: Exception for a 404.
    """
    try:
        yield
    except BackendError:
        raise
    except Exception as error:
        if not is_foreign(error):
            raise
        raise translate(error, thread=thread, missing=missing) from error


def translate(
    error: Exception, *, thread: str, missing: type[BackendError] = UnknownThread
) -> BackendError:
    """Return our exception for a foreign one.

    The caller raises it `from` the original, in which the key is replaced.
    """
    if isinstance(error, FailedAnswer) or _is_openais(error, "APIStatusError"):
        trouble = trouble_of(error)
        _redact_key(error)
        return of_trouble(trouble, thread=thread, missing=missing)
    _redact_key(error)
    if _never_left(error):
        return RequestRefused(
            f"The provider could not be reached for thread {thread!r} ({_name(error)}); nothing "
            "was sent. Check the base URL and the network; it is tried again.",
            trouble=Trouble(kind=Kind.UNREACHABLE),
        )
    kind = Kind.TIMEOUT if "Timeout" in _name(error) else Kind.CONNECTION_LOST
    message = (
        f"The connection was lost before the provider answered for thread {thread!r} "
        f"({_name(error)}). {MAYBE_ACCEPTED}"
    )
    return OutcomeUnknown(message, trouble=Trouble(kind=kind))


def _keys_of(error: Exception) -> tuple[str, ...]:
    """Return the keys that the request was sent with."""
    headers = getattr(getattr(error, "request", None), "headers", None) or {}
    return tuple(
        str(headers.get(name, "")).removeprefix("Bearer ").strip() for name in _KEY_HEADERS
    )


def _redact_key(error: Exception) -> None:
    """Replace the key in the error: servers repeat it, and a traceback would log it."""
    for key in _keys_of(error):
        if key and key in str(error):
            error.args = tuple(
                one.replace(key, "***") if isinstance(one, str) else one for one in error.args
            )
            if _is_openais(error, "APIError"):
                vars(error)["message"] = str(vars(error)["message"]).replace(key, "***")


def _is_openais(error: BaseException, name: str) -> bool:
    """Return whether the error is of this class of the `openai` package, which is not imported."""
    return any(
        kind.__name__ == name and kind.__module__.partition(".")[0] == "openai"
        for kind in type(error).__mro__
    )


def of_trouble(
    trouble: Trouble, *, thread: str, missing: type[BackendError] = UnknownThread
) -> BackendError:
    """Return the exception for an error answer.

    Also for an error inside a 200 that came before a run had an id.
    """
    what = describe(trouble)
    if trouble.kind is Kind.BUSY:
        return ConversationBusy(
            f"Another run is working on thread {thread!r} {what}; nothing was started. It is tried "
            "again later.",
            trouble=trouble,
        )
    if not _is_refusal(trouble):
        return OutcomeUnknown(
            f"The provider failed on thread {thread!r} {what}. {MAYBE_ACCEPTED}", trouble=trouble
        )
    if trouble.kind is Kind.NOT_FOUND and not _is_about_something_else(trouble):
        return _missing(missing, what, thread, trouble)
    return RequestRefused(
        f"The provider refused the request for thread {thread!r} {what}; nothing was started. "
        f"{_ADVICE.get(trouble.kind, _CORRECT)}",
        trouble=trouble,
    )


_CORRECT = "Correct the options or the message, then retry the batch."
_ADVICE = {
    Kind.RATE_LIMITED: "It is tried again later.",
    Kind.OVERLOADED: "It is tried again later.",
    Kind.ASKED_TO_WAIT: "It is tried again later.",
    Kind.NO_QUOTA: (
        "The account has no quota left: check the plan and its billing, then retry the batch."
    ),
    Kind.UNAUTHORIZED: "Check the key and its permissions, then retry the batch.",
    Kind.UNKNOWN_MODEL: "Check the model's name and the base URL, then retry the batch.",
    Kind.MODERATED: (
        "The same text would be refused again: discard the batch, or change the message."
    ),
    Kind.CONTEXT_OVERFLOW: (
        "The messages are longer than the model can read, even without the earlier ones."
    ),
}


def _is_refusal(trouble: Trouble) -> bool:
    """Return whether the trouble proves that nothing was accepted."""
    status = trouble.status
    if status is None or not HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        # A rate limit is reported before the work; a bare 500 proves nothing.
        return trouble.kind in _BEFORE_WORK and trouble.kind is not Kind.NOT_FOUND
    return status not in {408, 409, 499}


def _missing(missing: type[BackendError], what: str, thread: str, trouble: Trouble) -> BackendError:
    if issubclass(missing, RunVanished):
        message = (
            f"The provider does not know the run of thread {thread!r} any more {what}; "
            "its conversation is read next."
        )
        return missing(message, trouble=trouble)
    if missing is RequestRefused:
        wrong = Trouble(
            kind=Kind.WRONG_ADDRESS,
            status=trouble.status,
            code=trouble.code,
            words=trouble.words,
            retry_after_s=trouble.retry_after_s,
        )
        return missing(
            f"The provider knows nothing at this address {what}; nothing was started. Check that "
            "the base URL is right (most end in /v1) "
            "and the model exists; it is tried again.",
            trouble=wrong,
        )
    advice = "Check the id and the account it belongs to."
    return missing(
        f"The provider does not know thread {thread!r} {what}; nothing was started. {advice}",
        trouble=trouble,
    )


def _is_about_something_else(trouble: Trouble) -> bool:
    """Return whether the error names a model, an assistant or a prompt: a wrong option."""
    if trouble.code is not None and _SOMETHING_ELSE.search(trouble.code.replace("_", " ")):
        return True
    return bool(_SOMETHING_ELSE.search(trouble.text)) and not names_thread(trouble)


def names_thread(trouble: Trouble) -> bool:
    """Return whether the words are about a thread or a conversation."""
    return _THREAD.search(trouble.text) is not None


def _never_left(error: BaseException) -> bool:
    """Return whether the chain of causes proves that no byte of the request was sent.

    The outermost name that decides, decides.
    """
    cause: BaseException | None = error
    while cause is not None:
        names = {kind.__name__ for kind in type(cause).__mro__}
        # An illegal header (a line break in the key, say) is refused by our own side of the
        # connection.
        if names & _NOT_SENT or ("LocalProtocolError" in names and "header" in str(cause)):
            return True
        if names & _PERHAPS_SENT:
            return False
        cause = cause.__cause__ or cause.__context__
    return False


def _name(error: BaseException) -> str:
    cause = error.__cause__
    return (
        type(error).__name__
        if cause is None
        else f"{type(error).__name__} from {type(cause).__name__}"
    )


def describe(trouble: Trouble) -> str:
    """Format a server's error for a message: `(HTTP 400, code x, param y): "its words"`."""
    code = trouble.code if trouble.code and _SAFE_WORD.fullmatch(trouble.code) else None
    param = trouble.param if trouble.param and _SAFE_WORD.fullmatch(trouble.param) else None
    parts = [
        f"HTTP {trouble.status}" if trouble.status else "",
        f"code {code}" if code else "",
        f"param {param}" if param else "",
    ]
    details = ", ".join(part for part in parts if part) or "inside its answer"
    return f'({details}: "{trouble.words}")' if trouble.words else f"({details})"


@contextmanager
def watching(thread: str, run_id: str) -> Iterator[None]:
    """Turn failures to watch an accepted run into `StreamCut`, except `RunVanished`."""
    try:
        yield
    except (RequestRefused, OutcomeUnknown) as error:
        raise cut(error, thread=thread, run_id=run_id) from error.__cause__


def cut(error: BackendError, *, thread: str, run_id: str) -> StreamCut:
    """The same trouble, met while an accepted run was watched: it says nothing about the run."""
    trouble = error.trouble
    what = (
        f" {describe(trouble)}"
        if trouble is not None and (trouble.status or trouble.words)
        else f" ({type(error).__name__})"
    )
    return StreamCut(
        f"Run {run_id!r} of thread {thread!r} could not be watched further{what}; follow it by its "
        "id.",
        # A refusal to show the run is not one of the batch: only a wait is taken over.
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
