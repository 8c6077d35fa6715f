"""Send requests over the `openai` package: for a client that the caller gave, and without aiohttp.

The package's general methods (`client.post(path, ...)`) are used instead of one method for each
endpoint: the request is the same over every sender, no endpoint's module is imported, and the
Assistants protocol raises no warnings of being deprecated.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import openai

from assistant_queue.backends.openai.sending import ApiRequest, BegunAnswer

_RAW: dict[str, str] = {"X-Stainless-Raw-Response": "stream"}
"""Makes the package return the answer unread. Source: what its `with_streaming_response` sends."""

_CONNECT_SHARE = 3
"""Waiting for a free connection and connecting may each take this part of the limit. Chosen: both
end before it does, and so are known to have sent nothing."""


class LibrarySender:
    """Send requests by a client of the `openai` package.

    1. repeats what changes nothing as often as the client says, and nothing else: there is no
       idempotency key
    2. leaves everything that the client was made with as it is
    """

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self.client = client
        self._timeouts: dict[tuple[float, bool], openai.Timeout] = {}

    @property
    def base_url(self) -> str:
        """Return the address that paths are below."""
        return str(self.client.base_url)

    def send(self, request: ApiRequest, limit_s: float) -> _Sent:
        """Send the request when the result is entered, as `Sender` says."""
        options: dict[str, Any] = {
            "headers": {**_RAW, **(request.headers or {})},
            "timeout": self._timeout(limit_s, is_bounded=request.is_bounded),
        }
        if request.query:
            options["params"] = dict(request.query)
        if not request.is_repeatable:
            options["max_retries"] = 0
        arguments: dict[str, Any] = {"cast_to": object, "options": options}
        if request.body is not None:
            arguments["body"] = request.body
        method = getattr(self.client, request.method.lower())
        return _Sent(partial(method, request.path, **arguments))

    def _timeout(self, limit_s: float, *, is_bounded: bool) -> openai.Timeout:
        known = self._timeouts.get((limit_s, is_bounded))
        if known is None:
            connecting = limit_s / _CONNECT_SHARE
            known = self._timeouts[limit_s, is_bounded] = openai.Timeout(
                limit_s,
                connect=connecting,
                pool=connecting,
                read=None if is_bounded else limit_s,
            )
        return known

    async def close(self) -> None:
        """Close the client."""
        await self.client.close()


class _Sent:
    """A request of the client, and its answer."""

    __slots__ = ("_answer", "_call")

    def __init__(self, call: Callable[[], Awaitable[Any]]) -> None:
        self._call = call
        self._answer: Any = None

    async def __aenter__(self) -> BegunAnswer:
        self._answer = await self._call()
        return _Body(self._answer)

    async def __aexit__(self, *_: object) -> None:
        await self._answer.close()


class _Body:
    """The body of an answer."""

    __slots__ = ("_answer",)

    is_at_end = False

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        chunks: AsyncIterator[bytes] = self._answer.iter_bytes()
        return chunks

    async def read(self) -> bytes:
        """Return the whole body."""
        body: bytes = await self._answer.read()
        return body
