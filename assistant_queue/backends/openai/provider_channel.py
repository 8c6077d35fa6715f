"""Set one sender up for the requests of a backend."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.backends.openai.sending import ApiRequest, Json, Sender
from assistant_queue.backends.openai.streams import Call, Limits

if TYPE_CHECKING:
    from openai import AsyncOpenAI


class ProviderChannel:
    """Build the calls that a backend makes, with its time-outs.

    `write` and `delete` change something and are never repeated by the sender: there is no
    idempotency key. `read` may be.

    Attributes:
        limits: Those of answers that are read by `EventStream`, which bounds the waiting itself.
    """

    def __init__(
        self,
        client: AsyncOpenAI | Sender,
        *,
        request_timeout: float,
        stream_idle_timeout: float,
        closes_client: bool,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Set up, without a request; `headers` go out with every one."""
        self.sender = sender_of(client)
        self.limits = Limits(first_s=request_timeout, idle_s=stream_idle_timeout)
        self._headers = headers
        self._closes_client = closes_client

    @property
    def base_url(self) -> str:
        """Return the server's address."""
        return self.sender.base_url

    def write(
        self,
        path: str,
        body: Json | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        is_bounded: bool = False,
    ) -> Call:
        """Return the call that posts a body; the arguments are fields of `ApiRequest`."""
        return self._call(
            ApiRequest(
                "POST",
                path,
                body=body,
                query=query,
                headers=self._with_own(headers),
                is_bounded=is_bounded,
            )
        )

    def delete(self, path: str) -> Call:
        """Return the call that deletes an object."""
        return self._call(ApiRequest("DELETE", path, headers=self._headers))

    def read(
        self, path: str, query: Mapping[str, Any] | None = None, *, is_bounded: bool = False
    ) -> Call:
        """Return the call that reads an object or a list."""
        return self._call(
            ApiRequest(
                "GET",
                path,
                query=query,
                headers=self._headers,
                is_repeatable=True,
                is_bounded=is_bounded,
            )
        )

    def _call(self, request: ApiRequest) -> Call:
        return partial(self.sender.send, request, self.limits.first_s)

    def _with_own(self, headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
        return (
            {**self._headers, **headers} if self._headers and headers else headers or self._headers
        )

    async def close(self) -> None:
        """Close the connections, unless the caller owns the client."""
        if self._closes_client:
            await self.sender.close()


def sender_of(client: AsyncOpenAI | Sender) -> Sender:
    """Return the sender itself, or one that sends over the client."""
    if isinstance(client, Sender):
        return client
    from assistant_queue.backends.openai.library_sender import LibrarySender

    return LibrarySender(client)
