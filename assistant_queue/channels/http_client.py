"""HTTP to a platform: one attempt a call, and what is known after it failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from assistant_queue.channels.base import PartNotSent, PartUnknown
from assistant_queue.user_code.scrubbing import without_secrets

if TYPE_CHECKING:
    import httpx2 as httpx
else:  # the openai package brings one of them: httpx with openai 2.x, httpx2 with later ones
    httpx = import_module("httpx2" if find_spec("httpx2") else "httpx")

_CONNECT_S = 10.0
_IDLE_S = 4.0
"""Seconds after which an idle connection is not used again. Chosen: below the five seconds of usual
servers. A server that closes a connection just as it is used leaves it open whether the request
was read."""

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)


class _Scrubbing(logging.Filter):
    """Hides secrets in the library's log of addresses: Telegram's have the bot's token."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep the record, without secrets."""
        record.msg = without_secrets(record.getMessage())
        record.args = ()
        return True


logging.getLogger(httpx.__name__).addFilter(_Scrubbing())


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """Answer of a platform.

    Attributes:
        status: The HTTP status.
        headers: By lower-case names.
        body: Its bytes.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def retry_after(self) -> float | None:
        """Seconds of the header `Retry-After`, None if it has none or a date."""
        return seconds(self.headers.get("retry-after"))


class HttpClient:
    """Sends requests on the running event loop, without retries and redirects.

    A channel may be used on several loops, of a worker and of a web application; each has its own
    connections.
    """

    def __init__(self, timeout_s: float) -> None:
        """Open no connection yet."""
        self._timeout_s = timeout_s
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = (
            WeakKeyDictionary()
        )

    async def post(
        self, url: str, content: bytes, headers: Mapping[str, str], timeout_s: float | None = None
    ) -> HttpAnswer | PartNotSent | PartUnknown:
        """Send one POST; the outcome if there is no answer."""
        try:
            answer = await self._client().post(
                url,
                content=content,
                headers=dict(headers),
                timeout=httpx.Timeout(timeout_s or self._timeout_s, connect=_CONNECT_S),
            )
        except _NOT_SENT as error:
            return PartNotSent(f"not reached ({type(error).__name__})")
        except httpx.HTTPError as error:
            return PartUnknown(f"no answer ({type(error).__name__})")
        return _answer(answer, answer.content)

    async def get(self, url: str, most_bytes: int) -> HttpAnswer | None:
        """Read a file; None if it cannot be read. A longer one is cut after `most_bytes` + 1."""
        try:
            async with self._client().stream("GET", url) as answer:
                body = bytearray()
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > most_bytes:
                        break
                return _answer(answer, bytes(body[: most_bytes + 1]))
        except httpx.HTTPError:
            return None

    async def close(self) -> None:
        """Close the connections of the running loop."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()

    def _client(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout_s, connect=_CONNECT_S),
                limits=httpx.Limits(max_connections=None, keepalive_expiry=_IDLE_S),
                follow_redirects=False,
                verify=_trust(),
            )
            self._clients[loop] = client
        return client


@cache
def _trust() -> Any:
    """Load the trusted certificates once per process: it takes 20 ms of CPU."""
    return httpx.create_ssl_context()


def _answer(answer: httpx.Response, body: bytes) -> HttpAnswer:
    return HttpAnswer(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, body)


def seconds(value: Any) -> float | None:
    """Return a number of seconds that a platform asked to wait; None if it is none."""
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if 0 <= found <= _MOST_S else None


_MOST_S = 86_400.0
"""Longest wait that a platform is believed. Chosen: a day, after which a reply is given up."""
