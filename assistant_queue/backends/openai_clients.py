"""Clients of the `openai` package: made from options, turned from sync to async, and set up for our calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib import import_module
from itertools import cycle
from types import MethodType
from typing import Any

import openai

from assistant_queue.backends.streams import Limits
from assistant_queue.errors import ConfigurationError

_CONNECT_SHARE = 3
"""Waiting for a free connection and connecting may each take this part of `request_timeout`. Chosen: both end before it does, and so
are known to have sent nothing."""

RUNS_OF_A_POOL = 250
"""Runs that share one pool of connections. Chosen: a pool looks through all its connections at the start and at the end of each request, so
its cost grows with the square of the runs in it."""


@cache
def _trust() -> Any:
    """Trusted certificates, the HTTP library's default: an `ssl.SSLContext`, one for the whole process.

    Each client would read all certificates anew, some 20 ms of CPU: more than anything else that a horse does before its request.
    """
    return import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__).create_ssl_context()


class _Pools(openai.DefaultAsyncHttpxClient):
    """The library's HTTP client, several times: requests take turns.

    No limit of connections: how many runs there are is limited elsewhere (`concurrency`), and a run that waited for a connection would be
    one that was taken and not sent.
    """

    def __init__(self, count: int) -> None:
        # The limits' class, without importing the HTTP library it comes from.
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=None, max_keepalive_connections=RUNS_OF_A_POOL)
        settings: dict[str, Any] = {"limits": limits, "verify": _trust()}
        super().__init__(**settings)
        self._others = [openai.DefaultAsyncHttpxClient(**settings) for _ in range(count - 1)]
        self._turns = cycle([super().send, *(other.send for other in self._others)])

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's, by the pool whose turn it is."""
        return await next(self._turns)(*args, **kwargs)

    async def aclose(self) -> None:
        """Close all of them."""
        for other in self._others:
            await other.aclose()
        await super().aclose()


def build_client(
    *,
    api_key: str | None = None,
    base_url: str | None = None,
    openai_client: openai.OpenAI | openai.AsyncOpenAI | None = None,
    runs: int = 1,
) -> openai.AsyncOpenAI:
    """A client for the options of the queue.

    Args:
        api_key: None takes `OPENAI_API_KEY`.
        base_url: None takes `OPENAI_BASE_URL`, else OpenAI's.
        openai_client: A ready client wins over the other options: an async one is used as it is, of a sync one an async twin is made.
        runs: How many it shall hold at once; a client made here has a connection for each, a ready one has the limits it was given.

    Raises:
        ConfigurationError: There is no key, or the ready client cannot be used.
    """
    if isinstance(openai_client, openai.AsyncOpenAI):
        return openai_client
    if isinstance(openai_client, openai.OpenAI):
        return _async_twin(openai_client)
    if openai_client is not None:
        raise ConfigurationError(f"openai_client must be an openai.AsyncOpenAI or openai.OpenAI, not {type(openai_client).__name__}")
    try:
        return openai.AsyncOpenAI(api_key=api_key, base_url=base_url, http_client=_Pools(-(-runs // RUNS_OF_A_POOL)))
    except openai.OpenAIError as error:
        raise ConfigurationError("there is no API key: give openai_api_key or set OPENAI_API_KEY") from error


def _async_twin(client: openai.OpenAI) -> openai.AsyncOpenAI:
    """An async client with the settings of a sync one."""
    # A brought HTTP client has a type of its own; its proxies and certificates cannot be carried over.
    if type(client._client).__name__ != "SyncHttpxClientWrapper":  # noqa: SLF001 - there is no public way to ask
        raise ConfigurationError("openai_client is a sync client with its own http_client; give an openai.AsyncOpenAI with an async one")
    settings: dict[str, Any] = {
        "api_key": _async_key(client),
        "organization": client.organization,
        "project": client.project,
        "base_url": client.base_url,
        "timeout": client.timeout,
        "max_retries": client.max_retries,
        "default_headers": client._custom_headers,  # noqa: SLF001 - `default_headers` would add the library's own
        "default_query": client._custom_query,  # noqa: SLF001
    }
    for name in ("webhook_secret", "websocket_base_url", "workload_identity"):
        if getattr(client, name, None) is not None:
            settings[name] = getattr(client, name)
    if isinstance(client, openai.AzureOpenAI):
        return openai.AsyncAzureOpenAI(
            **settings,
            api_version=client._api_version,  # noqa: SLF001
            azure_ad_token=client._azure_ad_token,  # noqa: SLF001
            azure_ad_token_provider=client._azure_ad_token_provider,  # noqa: SLF001
        )
    return openai.AsyncOpenAI(**settings)


def _async_key(client: openai.OpenAI) -> str | Callable[[], Awaitable[str]]:
    provider: Callable[[], str] | None = getattr(client, "_api_key_provider", None)
    if provider is None:
        return client.api_key

    async def ask() -> str:
        return provider()

    return ask


class Channel:
    """One client, set up for the two kinds of calls.

    `writing` creates something and is never retried by the library: there is no idempotency key. `reading` may be.

    Attributes:
        stream_timeout: For calls whose answer is watched by `EventStream`, which does the waiting itself.
        limits: What it waits by.
    """

    def __init__(self, client: openai.AsyncOpenAI, *, request_timeout: float, stream_idle_timeout: float, closes_client: bool) -> None:
        connecting = request_timeout / _CONNECT_SHARE
        timeout = openai.Timeout(request_timeout, connect=connecting, pool=connecting)
        self.writing = client.with_options(max_retries=0, timeout=timeout)
        self.reading = client.with_options(timeout=timeout)
        self.stream_timeout = openai.Timeout(None, connect=connecting, pool=connecting, write=request_timeout)
        self.limits = Limits(first_s=request_timeout, idle_s=stream_idle_timeout)
        self._client = client
        self._closes_client = closes_client

    async def close(self) -> None:
        """Close the connections, unless the caller owns the client."""
        if self._closes_client:
            await self._client.close()


def streamed(resource: Any) -> Any:
    """A deprecated resource's `with_streaming_response`, without a warning for every call.

    The library marks every method of `beta.threads` with a decorator that warns. `warnings.catch_warnings` would change the filters of
    every thread of the process for the length of a request, so the decorator is taken off instead; where there is none, nothing changes.
    """
    return type(resource.with_streaming_response)(_Undecorated(resource))


class _Undecorated:
    """A resource whose deprecated methods are those below the decorator."""

    def __init__(self, resource: Any) -> None:
        self._resource = resource

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._resource, name)
        plain: Any = getattr(found, "__func__", None)
        function = plain
        while hasattr(plain, "__deprecated__") and hasattr(plain, "__wrapped__"):
            plain = plain.__wrapped__
        return found if plain is function else MethodType(plain, self._resource)
