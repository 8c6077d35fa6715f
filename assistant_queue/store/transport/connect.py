"""Redis clients, blocking and asyncio: made from a URL, or from a caller-supplied client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.backoff
import redis.retry
import redis.sentinel

from assistant_queue.errors import ConfigurationError
from assistant_queue.store.transport.cancellation import cancellable
from assistant_queue.store.transport.urls import (
    CONNECT_TIMEOUT_S,
    SentinelUrl,
    is_sentinel,
    url_error,
)

SOCKET_TIMEOUT_S = 10.0
"""Seconds a command may take. Chosen: no command of this package takes a hundredth of it."""
MAX_CONNECTIONS = 64
"""Connections of one client; a call that finds all in use waits for one. Chosen: more do not make a
single Redis faster."""
MAX_LISTENERS = 10_000
"""Callers of one queue object that can wait for replies at the same time, each with a connection.
Chosen: Redis' own default limit of clients."""
_SENTINEL: Any = redis.sentinel.Sentinel
_ASYNC_SENTINEL: Any = redis.asyncio.sentinel.Sentinel
"""redis-py has no types for these."""
C = TypeVar("C")
_POOL: dict[str, Any] = {"max_connections": MAX_CONNECTIONS, "timeout": SOCKET_TIMEOUT_S}


def _settings(retry: Any, **own: Any) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "health_check_interval": 30,
        "retry": retry,
        **own,
    }


def _sync_settings() -> dict[str, Any]:
    # One retry: every script can be sent twice, and a call must not wait long for a dead Redis.
    return _settings(redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 1))


def _async_settings() -> dict[str, Any]:
    return _settings(redis.asyncio.retry.Retry(redis.backoff.ConstantBackoff(0.1), 1))


def sync_client(url: str) -> redis.Redis:
    """Return a blocking client for a URL; it connects at the first command.

    Raises:
        ConfigurationError: The URL is invalid.
    """
    try:
        if is_sentinel(url):
            sentinel_url = SentinelUrl(url)
            sentinel: Any = _SENTINEL(
                sentinel_url.hosts,
                sentinel_kwargs=sentinel_url.sentinel_kwargs,
                **sentinel_url.kwargs,
            )
            client: redis.Redis = sentinel.master_for(sentinel_url.service, **_sync_settings())
            return client
        pool = redis.BlockingConnectionPool.from_url(url, **_POOL, **_sync_settings())
        for name in _DECODING:
            pool.connection_kwargs.pop(name, None)  # the URL may name them
        return redis.Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigurationError(url_error(error)) from None


def async_client(url: str) -> redis.asyncio.Redis:
    """Return an asyncio client for a URL; raises as `sync_client` does."""
    try:
        if is_sentinel(url):
            sentinel_url = SentinelUrl(url)
            sentinel: Any = _ASYNC_SENTINEL(
                sentinel_url.hosts,
                sentinel_kwargs=sentinel_url.sentinel_kwargs,
                **sentinel_url.kwargs,
            )
            client: redis.asyncio.Redis = sentinel.master_for(
                sentinel_url.service, **_async_settings()
            )
            return _cancellable(client)
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, **_POOL, **_async_settings())
        for name in _DECODING:
            pool.connection_kwargs.pop(name, None)  # the URL may name them
        return _cancellable(redis.asyncio.Redis.from_pool(pool))
    except ValueError as error:
        raise ConfigurationError(url_error(error)) from None


def sync_from(given: Any, url: str) -> Any:
    """Return the blocking client for the options: a ready client of either kind, or a URL."""
    if given is None:
        return sync_client(url)
    return _undecoded(given) if isinstance(given, redis.Redis) else sync_twin(given)


def async_from(given: Any, url: str) -> Any:
    """Return the asyncio client for the options: a ready client of either kind, or a URL."""
    if given is None:
        return async_client(url)
    return _undecoded(given) if isinstance(given, redis.asyncio.Redis) else async_twin(given)


_DECODING: dict[str, Any] = {
    "decode_responses": False,
    "encoding": "utf-8",
    "encoding_errors": "strict",
}
"""Settings of every client: bytes, and UTF-8. An RQ job's data is not text, and decoding would
corrupt it."""


def _bytes_and_utf8(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in _DECODING}


def _undecoded(client: Any) -> Any:
    """Return the client, or a copy that reads bytes and writes UTF-8 if this one does not."""
    kwargs = client.connection_pool.connection_kwargs
    if all(kwargs.get(name, usual) == usual for name, usual in _DECODING.items()):
        return client
    return fresh(client)


def async_twin(client: redis.Redis) -> redis.asyncio.Redis:
    """Return an asyncio client for the server of a blocking one.

    Raises:
        ConfigurationError: A client of this kind cannot be copied; use `redis_url` instead.
    """
    twin: redis.asyncio.Redis = _twin(
        client, redis.asyncio, _ASYNC_CONNECTIONS, redis.asyncio.retry.Retry
    )
    return twin


def sync_twin(client: redis.asyncio.Redis) -> redis.Redis:
    """Return a blocking client for the server of an asyncio one; raises as `async_twin` does."""
    twin: redis.Redis = _twin(client, redis, _SYNC_CONNECTIONS, redis.retry.Retry)
    return twin


def fresh(client: Any) -> Any:
    """Return a client of the same kind with its own connections.

    For a pub/sub, another thread or another event loop.
    """
    pool = client.connection_pool
    if isinstance(
        pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool
    ):
        return _cancellable(
            pool.sentinel_manager.master_for(pool.service_name, **_portable(pool.connection_kwargs))
        )
    return _cancellable(
        type(client).from_pool(
            type(pool)(
                connection_class=pool.connection_class, **_bytes_and_utf8(pool.connection_kwargs)
            )
        )
    )


def _cancellable(client: C) -> C:
    """Return the client; the connections of an asyncio one will lose no cancellation."""
    if isinstance(client, redis.asyncio.Redis):
        pool: Any = client.connection_pool
        pool.connection_class = cancellable(pool.connection_class)
    return client


def pubsub_client(client: Any) -> Any:
    """Return a client for pub/sub: waiting callers must not use up the connections of commands."""
    pool = client.connection_pool
    kinds = {
        redis.BlockingConnectionPool: redis.ConnectionPool,
        redis.asyncio.BlockingConnectionPool: redis.asyncio.ConnectionPool,
    }
    kind = kinds.get(type(pool))
    if kind is None:
        return client  # supplied by the caller, with the caller's limits
    own = kind(
        connection_class=pool.connection_class,
        max_connections=MAX_LISTENERS,
        **pool.connection_kwargs,
    )
    return type(client).from_pool(own)


def is_in_memory(client: Any) -> bool:
    """Return whether the client is fakeredis: its connections belong to no event loop."""
    return str(client.connection_pool.connection_class.__name__).startswith("Fake")


async def disconnect(client: Any) -> None:
    """Close an asyncio client's connections, and those to Sentinels, which redis-py leaves open."""
    await client.aclose()
    pool = client.connection_pool
    if isinstance(pool, redis.asyncio.sentinel.SentinelConnectionPool):
        for one in pool.sentinel_manager.sentinels:
            await one.aclose()


_ASYNC_CONNECTIONS = {
    "Connection": redis.asyncio.connection.Connection,
    "SSLConnection": redis.asyncio.connection.SSLConnection,
    "UnixDomainSocketConnection": redis.asyncio.connection.UnixDomainSocketConnection,
}
_SYNC_CONNECTIONS = {
    "Connection": redis.connection.Connection,
    "SSLConnection": redis.connection.SSLConnection,
    "UnixDomainSocketConnection": redis.connection.UnixDomainSocketConnection,
}
_PORTABLE = frozenset(  # of a connection's settings, those that both kinds of client know
    [
        "host",
        "port",
        "db",
        "username",
        "password",
        "path",
        "ssl_keyfile",
        "ssl_certfile",
        "ssl_cert_reqs",
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_ca_data",
        "ssl_check_hostname",
        "ssl_password",
        "ssl_min_version",
        "ssl_ciphers",
        "client_name",
        "protocol",
        "socket_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_keepalive_options",
        "health_check_interval",
        "credential_provider",
        "server",
    ]
)


def _portable(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name in _PORTABLE}


def _twin(client: Any, module: Any, connections: dict[str, Any], retry: Any) -> Any:
    pool = client.connection_pool
    kwargs = _portable(pool.connection_kwargs)
    own_retry = retry(redis.backoff.ConstantBackoff(0.1), 1)
    if isinstance(
        pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool
    ):
        hosts = [
            (
                one.connection_pool.connection_kwargs["host"],
                one.connection_pool.connection_kwargs["port"],
            )
            for one in pool.sentinel_manager.sentinels
        ]
        sentinel_kwargs = _portable(pool.sentinel_manager.sentinel_kwargs)
        sentinel = module.sentinel.Sentinel(hosts, sentinel_kwargs=sentinel_kwargs)
        return _cancellable(sentinel.master_for(pool.service_name, retry=own_retry, **kwargs))
    if is_in_memory(client):
        return _fake_twin(module, kwargs)
    name = pool.connection_class.__name__
    if name not in connections:
        msg = (
            f"A redis client with {name} cannot be copied for the worker or for the other kind of "
            "queue: use redis_url instead"
        )
        raise ConfigurationError(msg)
    return _cancellable(
        module.Redis.from_pool(
            module.ConnectionPool(connection_class=connections[name], retry=own_retry, **kwargs)
        )
    )


def _fake_twin(module: Any, kwargs: dict[str, Any]) -> Any:
    """Return a fakeredis client of the same in-memory server, for tests."""
    import fakeredis

    kind = fakeredis.FakeAsyncRedis if module is redis.asyncio else fakeredis.FakeRedis
    return kind(server=kwargs["server"], db=kwargs.get("db", 0))
