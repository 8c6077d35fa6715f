"""Detect a base URL that leads to something other than the API.

The first request that every server of the protocol takes shows it.
"""

from __future__ import annotations

from assistant_queue.backends.openai.streams import Call, fetch
from assistant_queue.errors import OutcomeUnknown, RequestRefused
from assistant_queue.trouble import Kind, Trouble

_ADVICE = (
    "Check openai_base_url: the address of most servers ends in /v1. For a server that has only "
    'Chat Completions set protocol="chat_completions". The messages wait.'
)


async def opened(call: Call, *, thread: str, path: str) -> str:
    """Create a conversation and return its id.

    Args:
        call: The request.
        thread: The thread that it is for.
        path: Of the request, below the base URL; named in the error.

    Raises:
        RequestRefused: The address is wrong (`Kind.WRONG_ADDRESS`, which is waited out), or the
            request was refused. Nothing was created.
        BackendError: As `fetch` says.
    """
    try:
        created = await fetch(call, thread=thread, missing=RequestRefused)
    except RequestRefused as error:
        if error.trouble is None or error.trouble.kind is not Kind.WRONG_ADDRESS:
            raise
        raise _wrong(
            thread, path, f"answered {error.status_code}", error.trouble
        ) from error.__cause__
    except OutcomeUnknown as error:
        if error.trouble is not None:
            raise
        # The answer is not JSON: a web page, or another program's.
        raise _wrong(
            thread,
            path,
            "answered with something that is not JSON",
            Trouble(kind=Kind.WRONG_ADDRESS),
        ) from error
    if not created.get("id"):
        raise _wrong(thread, path, "answered without an id", Trouble(kind=Kind.WRONG_ADDRESS))
    return str(created["id"])


def _wrong(thread: str, path: str, what: str, trouble: Trouble) -> RequestRefused:
    said = f' ("{trouble.words}")' if trouble.words else ""
    return RequestRefused(
        f"No conversation could be created for thread {thread!r}: POST {path} {what}{said}. "
        f"{_ADVICE}",
        trouble=trouble,
    )
