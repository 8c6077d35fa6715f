"""Redis clients: from a URL, or from the client a user brings, sync and async."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.backoff
import redis.retry
import redis.sentinel

from assistant_queue.errors import ConfigurationError

CONNECT_TIMEOUT_S = 2.0
"""Seconds until an unreachable Redis is given up on. Chosen: with one repetition a call fails within 5 s instead of hanging."""
SOCKET_TIMEOUT_S = 10.0
"""Seconds a command may take. Chosen: no command of ours takes a hundredth of it."""
MAX_CONNECTIONS = 64
"""Connections of one client; a call that finds all in use waits for one. Chosen: more would not make one Redis faster."""
MAX_LISTENERS = 10_000
"""Callers of one queue object that wait for a reply at once, each with a connection. Chosen: Redis' own default limit of clients."""
_POOL: dict[str, Any] = {"max_connections": MAX_CONNECTIONS, "timeout": SOCKET_TIMEOUT_S}
_OWN_WORDS = ("a Sentinel URL", "Redis URL must", "Invalid value for")
"""How errors about a URL begin that name its parts without quoting them: ours and redis-py's."""
_SENTINEL_SCHEMES = {"redis+sentinel": False, "rediss+sentinel": True}


def _settings(retry: Any, **own: Any) -> dict[str, Any]:
    return {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "health_check_interval": 30,
        "retry": retry,
        **own,
    }


def _sync_settings() -> dict[str, Any]:
    # One repetition: every script of ours can be sent twice, and a dead Redis shall not be waited for.
    return _settings(redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 1))


def _async_settings() -> dict[str, Any]:
    return _settings(redis.asyncio.retry.Retry(redis.backoff.ConstantBackoff(0.1), 1))


def sync_client(url: str) -> redis.Redis:
    """A blocking client for a URL.

    Raises:
        ConfigurationError: The URL cannot be read. Nothing was connected; that happens at the first command.
    """
    try:
        if _is_sentinel(url):
            sentinel_url = _SentinelUrl(url)
            sentinel: Any = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]  # redis has no types for it
                sentinel_url.hosts, sentinel_kwargs=sentinel_url.sentinel_kwargs, **sentinel_url.kwargs
            )
            client: redis.Redis = sentinel.master_for(sentinel_url.service, **_sync_settings())
            return client
        pool = redis.BlockingConnectionPool.from_url(url, **_POOL, **_sync_settings())
        for name in _DECODING:
            pool.connection_kwargs.pop(name, None)  # the URL may name them
        return redis.Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigurationError(_bad_url(error)) from None


def async_client(url: str) -> redis.asyncio.Redis:
    """An asyncio client for a URL; raises as `sync_client` does."""
    try:
        if _is_sentinel(url):
            sentinel_url = _SentinelUrl(url)
            sentinel: Any = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]  # redis has no types for it
                sentinel_url.hosts, sentinel_kwargs=sentinel_url.sentinel_kwargs, **sentinel_url.kwargs
            )
            client: redis.asyncio.Redis = sentinel.master_for(sentinel_url.service, **_async_settings())
            return client
        pool = redis.asyncio.BlockingConnectionPool.from_url(url, **_POOL, **_async_settings())
        for name in _DECODING:
            pool.connection_kwargs.pop(name, None)  # the URL may name them
        return redis.asyncio.Redis.from_pool(pool)
    except ValueError as error:
        raise ConfigurationError(_bad_url(error)) from None


def sync_from(given: Any, url: str) -> Any:
    """The blocking client for what the options say: a ready client of either kind, or a URL."""
    if given is None:
        return sync_client(url)
    return _undecoded(given) if isinstance(given, redis.Redis) else sync_twin(given)


def async_from(given: Any, url: str) -> Any:
    """The asyncio client for what the options say: a ready client of either kind, or a URL."""
    if given is None:
        return async_client(url)
    return _undecoded(given) if isinstance(given, redis.asyncio.Redis) else async_twin(given)


_DECODING: dict[str, Any] = {"decode_responses": False, "encoding": "utf-8", "encoding_errors": "strict"}
"""What our clients read and write: bytes, and UTF-8. A job of RQ's is no text, and half of it would be lost as one."""


def _bytes_and_utf8(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in _DECODING}


def _undecoded(client: Any) -> Any:
    """Return the client itself, or a copy with connections of its own if it decodes replies or encodes otherwise than as UTF-8."""
    kwargs = client.connection_pool.connection_kwargs
    if all(kwargs.get(name, usual) == usual for name, usual in _DECODING.items()):
        return client
    return fresh(client)


def async_twin(client: redis.Redis) -> redis.asyncio.Redis:
    """An asyncio client to where a blocking one goes.

    Raises:
        ConfigurationError: The client is of a kind whose way cannot be copied; give `redis_url` instead.
    """
    return _twin(client, redis.asyncio, _ASYNC_CONNECTIONS, redis.asyncio.retry.Retry)  # type: ignore[no-any-return]


def sync_twin(client: redis.asyncio.Redis) -> redis.Redis:
    """A blocking client to where an asyncio one goes; raises as `async_twin` does."""
    return _twin(client, redis, _SYNC_CONNECTIONS, redis.retry.Retry)  # type: ignore[no-any-return]


def fresh(client: Any) -> Any:
    """A client of the same kind with connections of its own (a pub/sub, another thread, another event loop)."""
    pool = client.connection_pool
    if isinstance(pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool):
        return pool.sentinel_manager.master_for(pool.service_name, **_portable(pool.connection_kwargs))
    return type(client).from_pool(type(pool)(connection_class=pool.connection_class, **_bytes_and_utf8(pool.connection_kwargs)))


def listening(client: Any) -> Any:
    """A client for pub/sub beside this one: those who wait must not use up the connections of those who work."""
    pool = client.connection_pool
    kinds = {redis.BlockingConnectionPool: redis.ConnectionPool, redis.asyncio.BlockingConnectionPool: redis.asyncio.ConnectionPool}
    kind = kinds.get(type(pool))
    if kind is None:
        return client  # a client of the user's own, with the limits of the user's own
    own = kind(connection_class=pool.connection_class, max_connections=MAX_LISTENERS, **pool.connection_kwargs)
    return type(client).from_pool(own)


def is_in_memory(client: Any) -> bool:
    """It is fakeredis: no connection, and so no event loop that one would belong to."""
    return str(client.connection_pool.connection_class.__name__).startswith("Fake")


async def disconnect(client: Any) -> None:
    """Give the connections of an asyncio client back, those to Sentinels included: redis-py leaves them open."""
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
    if isinstance(pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool):
        hosts = [
            (one.connection_pool.connection_kwargs["host"], one.connection_pool.connection_kwargs["port"])
            for one in pool.sentinel_manager.sentinels
        ]
        sentinel_kwargs = _portable(pool.sentinel_manager.sentinel_kwargs)
        sentinel = module.sentinel.Sentinel(hosts, sentinel_kwargs=sentinel_kwargs)
        return sentinel.master_for(pool.service_name, retry=own_retry, **kwargs)
    if is_in_memory(client):
        return _fake_twin(module, kwargs)
    name = pool.connection_class.__name__
    if name not in connections:
        msg = f"a redis client with {name} cannot be copied for the worker or the other front door; give redis_url instead"
        raise ConfigurationError(msg)
    return module.Redis.from_pool(module.ConnectionPool(connection_class=connections[name], retry=own_retry, **kwargs))


def _fake_twin(module: Any, kwargs: dict[str, Any]) -> Any:
    """fakeredis, as tests use it: the same in-memory server."""
    import fakeredis

    kind = fakeredis.FakeAsyncRedis if module is redis.asyncio else fakeredis.FakeRedis
    return kind(server=kwargs["server"], db=kwargs.get("db", 0))


class _SentinelUrl:
    """`redis+sentinel://[user:password@]host:port,host:port/service[/db][?sentinel_password=...]`."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        self.hosts = [_host_port(host) for host in hosts.split(",")]
        service, _, db = parts.path.strip("/").partition("/")
        if not service:
            msg = "a Sentinel URL names the service: redis+sentinel://host:26379/mymaster/0"
            raise ValueError(msg)
        self.service = service
        user, _, password = credentials.rpartition(":") if ":" in credentials else ("", "", credentials)
        self.kwargs: dict[str, Any] = {"db": int(db or 0), "ssl": _SENTINEL_SCHEMES[parts.scheme]}
        if user:
            self.kwargs["username"] = unquote(user)
        if password:
            self.kwargs["password"] = unquote(password)
        query = parse_qs(parts.query)
        self.sentinel_kwargs: dict[str, Any] = {"socket_timeout": CONNECT_TIMEOUT_S}
        if "sentinel_password" in query:
            self.sentinel_kwargs["password"] = query["sentinel_password"][0]


def _host_port(host: str) -> tuple[str, int]:
    name, _, port = host.rpartition(":")
    return (name, int(port)) if name else (host, 26379)


def _is_sentinel(url: str) -> bool:
    return urlsplit(url).scheme in _SENTINEL_SCHEMES


def _bad_url(error: ValueError) -> str:
    # The standard library quotes what it cannot read: of an address whose password was not encoded, the password.
    quotes = not str(error).startswith(_OWN_WORDS)
    reason = "percent-encode special characters of its user name and password, and give the port as a number" if quotes else error
    return f"redis_url cannot be read: {reason}; expected redis://, rediss://, unix:// or redis+sentinel://host:port,.../service/db"
