"""Send requests over aiohttp, without the client library."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from importlib.util import find_spec
from random import random
from typing import Any

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from assistant_queue.backends.openai.sending import (
    ApiRequest,
    BegunAnswer,
    FailedAnswer,
    Json,
    query_of,
)
from assistant_queue.backends.openai.trouble_reader import retry_after

_CONNECT_SHARE = 3
"""Connecting may take this part of the limit. Chosen: it ends before the limit does, and so is
known to have sent nothing."""

_KEEP_S = 5.0
"""Seconds that an idle connection is kept. Source: the client library's HTTP library; servers close
theirs later."""

_REPEATS = 2
_FIRST_PAUSE_S = 0.5
_LAST_PAUSE_S = 8.0
_LONGEST_ASKED_S = 60.0
"""Repeats of a read, their pauses, and the longest `Retry-After` that is obeyed. Source: the client
library's defaults."""

_PASSING = frozenset({408, 409, 429})
"""Statuses below 500 after which a read is repeated. Source: the client library."""


class RequestNotSent(Exception):
    """The request cannot be written: an illegal header, for instance. Nothing was sent."""


class AnswerBroken(Exception):
    """The server's answer is not HTTP, or redirects in circles."""


class AiohttpSender:
    """Send requests to one server, with one pool of connections for each event loop.

    1. sends what the client library would: key, organisation, project, query, JSON
    2. repeats what changes nothing, as often as the client library does
    3. raises `FailedAnswer` with the body of an answer of 400 or more, as far as it comes
    4. never puts the key into an exception

    The number of connections is not limited: `concurrency` limits the runs, and a run that waited
    for a connection would be leased and not sent.
    """

    def __init__(
        self,
        *,
        api_key: str,
        base_url: str,
        organization: str | None = None,
        project: str | None = None,
    ) -> None:
        """Set up, without a connection."""
        self.base_url = base_url if base_url.endswith("/") else f"{base_url}/"
        self._root = self.base_url.removesuffix("/")
        self._secrets = (api_key,)
        self._headers: CIMultiDict[str] = CIMultiDict(
            {
                "Authorization": f"Bearer {api_key}",
                "Accept": "application/json",
                "Content-Type": "application/json",
                "User-Agent": "assistant-queue",
            }
        )
        if organization:
            self._headers["OpenAI-Organization"] = organization
        if project:
            self._headers["OpenAI-Project"] = project
        # Read now: it takes longer than a connection, and no request's time-out may pay for it.
        self._ssl: ssl.SSLContext | bool = trust() if self.base_url.startswith("https:") else True
        self._session: aiohttp.ClientSession | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timeouts: dict[tuple[float, bool], aiohttp.ClientTimeout] = {}

    def send(self, request: ApiRequest, limit_s: float) -> _Sending:
        """Send the request when the result is entered, as `Sender` says."""
        return _Sending(self, request, limit_s)

    async def begin(self, request: ApiRequest, limit_s: float) -> aiohttp.ClientResponse:
        """Send the request once, and return the beginning of the answer, whatever its status is.

        Raises:
            RequestNotSent: Nothing was sent.
            AnswerBroken: The request may have been accepted.
        """
        query = f"?{query_of(request.query)}" if request.query else ""
        headers = self._headers
        if request.headers or request.body is None:
            headers = headers.copy()
            if request.method == "GET":
                del headers["Content-Type"]
            headers.update(request.headers or {})
        try:
            return await self._open_session().request(
                request.method,
                URL(f"{self._root}{request.path}{query}", encoded=True),
                data=None if request.body is None else _dumps(request.body),
                headers=headers,
                timeout=self._timeout(limit_s, is_bounded=request.is_bounded),
            )
        except aiohttp.ClientResponseError as error:
            broken: Exception = AnswerBroken(f"{type(error).__name__}: {error.message}")
        except aiohttp.ClientError:
            raise
        except ValueError as error:
            broken = RequestNotSent(type(error).__name__)
        raise broken  # here, so that no context holds the request's headers

    def failure(self, answer: aiohttp.ClientResponse, body: bytes) -> FailedAnswer:
        """Return the exception for an answer of 400 or more."""
        return FailedAnswer(answer.status, answer.headers, body, self._secrets)

    def _open_session(self) -> aiohttp.ClientSession:
        """Return the session of the running event loop; that of an earlier loop died with it."""
        loop = asyncio.get_running_loop()
        session = self._session
        if session is None or self._loop is not loop:
            session = self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ssl=self._ssl, keepalive_timeout=_KEEP_S),
                # As the client library: a load balancer's cookie leads to the same server again.
                cookie_jar=aiohttp.CookieJar(unsafe=True),
            )
            self._loop = loop
        return session

    def _timeout(self, limit_s: float, *, is_bounded: bool) -> aiohttp.ClientTimeout:
        known = self._timeouts.get((limit_s, is_bounded))
        if known is None:
            known = self._timeouts[limit_s, is_bounded] = aiohttp.ClientTimeout(
                total=None,
                connect=limit_s / _CONNECT_SHARE,
                sock_read=None if is_bounded else limit_s,
            )
        return known

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None and self._loop is asyncio.get_running_loop():
            await session.close()


class _Sending:
    """One request, and its answer while it is read."""

    __slots__ = ("_answer", "_limit_s", "_request", "_sender")

    def __init__(self, sender: AiohttpSender, request: ApiRequest, limit_s: float) -> None:
        self._sender = sender
        self._request = request
        self._limit_s = limit_s
        self._answer: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> BegunAnswer:
        answer = await self._begun()
        self._answer = answer
        if answer.status < HTTPStatus.BAD_REQUEST:
            return _Body(answer)
        try:
            raise self._sender.failure(answer, await _what_comes(answer.content))
        finally:
            answer.close()

    async def __aexit__(self, *_: object) -> None:
        if self._answer is not None and self._answer.connection is not None:
            # One that was read to its end is free already.
            self._answer.close()

    async def _begun(self) -> aiohttp.ClientResponse:
        left = _REPEATS if self._request.is_repeatable else 0
        pause_s = _FIRST_PAUSE_S
        while True:
            asked_s: float | None = None
            try:
                answer = await self._once()
            except (aiohttp.ClientError, AnswerBroken, OSError):
                if not left:
                    raise
            else:
                if not left or answer.status < HTTPStatus.BAD_REQUEST:
                    return answer
                asked_s = retry_after(answer.headers)
                if not _is_passing(answer, asked_s):
                    return answer
                answer.close()
            left -= 1
            jitter = 1 - 0.25 * random()  # noqa: S311 - not for secrets
            await asyncio.sleep(asked_s or pause_s * jitter)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S)

    async def _once(self) -> aiohttp.ClientResponse:
        if self._request.is_bounded:
            return await self._sender.begin(self._request, self._limit_s)
        # `sock_read` begins when all is written, which may never be.
        async with asyncio.timeout(self._limit_s):
            return await self._sender.begin(self._request, self._limit_s)


class _Body:
    """The body of an answer."""

    __slots__ = ("_answer",)

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    @property
    def is_at_end(self) -> bool:
        """Return whether the whole body was read."""
        return self._answer.content.at_eof()

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        return _Chunks(self._answer.content)

    async def read(self) -> bytes:
        """Return the whole body."""
        return await self._answer.read()


class _Chunks:
    """The chunks of a body, those before a lost connection included.

    aiohttp's own iterator raises at once and drops what has arrived and was not read: an answer that
    is complete but for the end of its body would be lost, and paid for again.
    """

    __slots__ = ("_content",)

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __aiter__(self) -> _Chunks:
        return self

    async def __anext__(self) -> bytes:
        content = self._content
        try:
            chunk = await content.readany()
        except Exception:
            chunk = content._read_nowait(-1)  # noqa: SLF001 - its public form raises as well
            if not chunk:
                raise
        if not chunk:
            raise StopAsyncIteration
        return chunk


async def _what_comes(content: aiohttp.StreamReader) -> bytes:
    """Return the body of a failed request as far as it comes: the status says enough without it."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError):
        async for chunk in _Chunks(content):
            body += chunk
    return bytes(body)


def _is_passing(answer: aiohttp.ClientResponse, asked_s: float | None) -> bool:
    """Return whether a failed read is worth repeating at once, as the client library decides."""
    if asked_s is not None and asked_s > _LONGEST_ASKED_S:
        return False
    word = answer.headers.get("x-should-retry")
    if word in {"true", "false"}:
        return word == "true"
    return answer.status in _PASSING or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _dumps(body: Json) -> bytes:
    return _encode(body).encode()


def _plain(value: Any) -> Any:
    """Convert a value that JSON does not know, as the client library does."""
    if hasattr(value, "model_dump"):
        return value.model_dump(exclude_unset=True, mode="json", by_alias=True)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_encode = json.JSONEncoder(
    default=_plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False
).encode


_trusted: dict[tuple[str, str], ssl.SSLContext] = {}


def trust(environment: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return the trusted certificates, read once per process.

    Those that `SSL_CERT_FILE` or `SSL_CERT_DIR` names, else the system's and certifi's: versions of
    the client library use one or the other.
    """
    file, folder = environment.get("SSL_CERT_FILE", ""), environment.get("SSL_CERT_DIR", "")
    known = _trusted.get((file, folder))
    if known is None:
        known = _trusted[file, folder] = _context(file, folder)
    return known


def _context(file: str, folder: str) -> ssl.SSLContext:
    if file or folder:
        return ssl.create_default_context(cafile=file or None, capath=None if file else folder)
    context = ssl.create_default_context()
    if find_spec("certifi") is not None:
        import certifi

        context.load_verify_locations(certifi.where())
    return context
