"""Describe a request to the provider, and the ways to send it. Pure.

A backend builds an `ApiRequest`; a `Sender` sends it, over the client library
(`library_sender.py`) or over aiohttp (`aiohttp_sender.py`). Both send the same request, and their
answers are read by the same code.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable
from urllib.parse import quote, urlencode

from assistant_queue.values import valueclass

Json = dict[str, Any]

ASSISTANTS_HEADERS: Mapping[str, str] = {"OpenAI-Beta": "assistants=v2"}
"""Source: the provider's published API description of the Assistants protocol."""

_SAFE = "!$&'()*+,;=:@"
"""Characters that stay as they are in a segment of a path. Source: RFC 3986, 3.3."""


@valueclass(frozen=True, slots=True)
class ApiRequest:
    """One request, independent of the library that sends it.

    Attributes:
        method: `GET`, `POST` or `DELETE`.
        path: Below the base URL, as `path_of` builds it.
        body: Sent as JSON; None for no body.
        query: Parameters of the URL.
        headers: Further headers; they replace those of the same name.
        is_repeatable: Changes nothing at the provider: the sender repeats it if it fails.
        is_bounded: The reader of the answer bounds the waiting itself; else the sender does.
    """

    method: str
    path: str
    body: Json | None = None
    query: Mapping[str, Any] | None = None
    headers: Mapping[str, str] | None = None
    is_repeatable: bool = False
    is_bounded: bool = False


class BegunAnswer(Protocol):
    """An answer that has begun, with a status below 400.

    Attributes:
        is_at_end: The whole body was read, and its connection is free. False if that is not known.
    """

    @property
    def is_at_end(self) -> bool:
        """Return as the class says."""

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""

    async def read(self) -> bytes:
        """Return the whole body."""


@runtime_checkable
class Sender(Protocol):
    """Sends requests to one server.

    Attributes:
        base_url: Ends in a slash.
    """

    @property
    def base_url(self) -> str:
        """Return the address that paths are below."""

    def send(self, request: ApiRequest, limit_s: float) -> AbstractAsyncContextManager[BegunAnswer]:
        """Send the request when the result is entered; the answer is closed when it is left.

        Args:
            request: The request.
            limit_s: Seconds for connecting, writing and the first byte of the answer, and between
                two pieces of it. If the reader bounds the waiting, for connecting alone.

        Raises:
            FailedAnswer: The status is 400 or more. The client library raises its own exceptions.
        """

    async def close(self) -> None:
        """Close the connections."""


class FailedAnswer(Exception):
    """An answer with the status of a failed request.

    Attributes:
        status_code: Its HTTP status.
        headers: Found by names in any case.
        body: As the server wrote it.
        secrets: Keys that the request was sent with: servers repeat them.
    """

    def __init__(
        self, status_code: int, headers: Mapping[str, str], body: bytes, secrets: tuple[str, ...]
    ) -> None:
        super().__init__(f"HTTP {status_code}")
        self.status_code = status_code
        self.headers = headers
        self.body = body
        self.secrets = secrets


def path_of(*segments: str) -> str:
    """Return the path of these segments, quoted.

    Raises:
        ValueError: A segment is empty or made of dots: the path would name something else.
    """
    for segment in segments:
        if segment in {"", ".", ".."}:
            raise ValueError(f"Invalid id {segment!r}: expected an id of the provider")
    return "".join("/" + quote(segment, safe=_SAFE) for segment in segments)


def query_of(parameters: Mapping[str, Any]) -> str:
    """Return the parameters as the query of a URL, nested ones in brackets.

    Parameters that are None are left out.
    """
    return urlencode([pair for name, value in parameters.items() for pair in _pairs(name, value)])


def _pairs(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _pairs(f"{name}[{key}]", one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _pairs(f"{name}[]", one)
    elif isinstance(value, bool):
        yield name, str(value).lower()
    elif value is not None:
        yield name, str(value)
