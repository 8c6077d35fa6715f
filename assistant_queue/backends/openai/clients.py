"""Create clients of the `openai` package from options."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from importlib import import_module
from itertools import cycle
from typing import Any

import openai

from assistant_queue.errors import ConfigurationError

RUNS_OF_A_POOL = 250
"""Runs that share one pool of connections. Chosen: a pool looks through all its connections at the
start and at the end of each request, so its cost grows with the square of the runs in it."""


@cache
def _trust() -> Any:
    """Load the HTTP library's trusted certificates once per process, as an `ssl.SSLContext`.

    Each client would read all certificates again, about 20 ms of CPU: more than anything else that
    a work horse does before its request.
    """
    return import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__).create_ssl_context()


class _Pools(openai.DefaultAsyncHttpxClient):
    """Rotate requests over several of the library's HTTP clients.

    The number of connections is not limited: `concurrency` limits the runs, and a run that waited
    for a connection would be leased and not sent.
    """

    def __init__(self, count: int) -> None:
        # The limits' class, without importing the HTTP library it comes from.
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
            max_connections=None, max_keepalive_connections=RUNS_OF_A_POOL
        )
        settings: dict[str, Any] = {"limits": limits, "verify": _trust()}
        super().__init__(**settings)
        self._others = [openai.DefaultAsyncHttpxClient(**settings) for _ in range(count - 1)]
        self._turns = cycle([super().send, *(other.send for other in self._others)])

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """Send by the next pool in turn."""
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
    """Return a client for the options of the queue.

    Args:
        api_key: None takes `OPENAI_API_KEY`.
        base_url: None takes `OPENAI_BASE_URL`, else OpenAI's.
        openai_client: A ready client takes precedence over the other options. An async one is used
            as it is; a sync one is replaced by an async client with its settings.
        runs: Concurrent runs. A client created here has a connection for each; a ready one keeps
            its limits.

    Raises:
        ConfigurationError: There is no key, or the ready client cannot be used.
    """
    if isinstance(openai_client, openai.AsyncOpenAI):
        return openai_client
    if isinstance(openai_client, openai.OpenAI):
        return _async_twin(openai_client)
    if openai_client is not None:
        raise ConfigurationError(
            "openai_client must be an openai.AsyncOpenAI or openai.OpenAI, "
            f"not {type(openai_client).__name__}"
        )
    try:
        return openai.AsyncOpenAI(
            api_key=api_key, base_url=base_url, http_client=_Pools(-(-runs // RUNS_OF_A_POOL))
        )
    except openai.OpenAIError as error:
        raise ConfigurationError(
            "there is no API key: give openai_api_key or set OPENAI_API_KEY"
        ) from error


def _async_twin(client: openai.OpenAI) -> openai.AsyncOpenAI:
    """Return an async client with the settings of a sync one."""
    # A caller's own HTTP client has another type; its proxies and certificates cannot be carried
    # over.
    own_http_client = client._client  # noqa: SLF001 - there is no public attribute
    if type(own_http_client).__name__ != "SyncHttpxClientWrapper":
        raise ConfigurationError(
            "openai_client is a sync client with its own http_client; "
            "give an openai.AsyncOpenAI with an async one"
        )
    settings: dict[str, Any] = {
        "api_key": _async_key(client),
        "organization": client.organization,
        "project": client.project,
        "base_url": client.base_url,
        "timeout": client.timeout,
        "max_retries": client.max_retries,
        # `default_headers` would add the library's own.
        "default_headers": client._custom_headers,  # noqa: SLF001
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
