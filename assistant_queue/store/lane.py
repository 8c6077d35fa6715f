"""A connection that is kept: one command at a time without the detours of a client's general way."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis import exceptions

from assistant_queue.store.refusals import hang_up_idle_async, leads_astray

_STALE_S = 1.0
"""After how long without a command the connection is looked at before it is used. Chosen: a Redis that restarts is away for longer."""
_PLAIN = frozenset({redis.connection.Connection, redis.connection.SSLConnection, redis.connection.UnixDomainSocketConnection})
_PLAIN_ASYNC = frozenset({redis.asyncio.Connection, redis.asyncio.SSLConnection, redis.asyncio.UnixDomainSocketConnection})


class Lane:
    """The connection of whoever sends one command after another.

    redis-py takes a connection from its pool for each command, asks it whether it is alive, measures, and puts it back: a third of the
    time of an add. Here it is taken once. What keeps a command safe is redis-py's own: the connection's time-outs, its health check, its
    way to connect, and its `retry`, so a command whose reply was lost is repeated as often as elsewhere.

    1. used by one caller at a time; whoever finds it taken goes the general way and waits for nobody
    2. left by an error, or by an interrupt between command and reply, it is closed: a late reply must not answer the next command
    3. closed by a reply which says that the server is no primary (any more): the next command resolves the address anew
    4. a forked process takes a connection of its own
    """

    def __init__(self, client: Any) -> None:
        """`client` is one that `connect.sync_client` made: its pool has connections to spare."""
        self._client = client
        self._taken = threading.Lock()
        self._connection: Any = None
        self._pid = 0
        self._used_at = 0.0
        self._is_open = fits(client)

    def execute(self, *words: Any) -> Any:
        """As `client.execute_command`; the reply is as it comes from Redis, as that of a script is."""
        if not self._is_open or not self._taken.acquire(blocking=False):
            return self._client.execute_command(*words)
        try:
            connection = self._ready()
            return connection.retry.call_with_retry(lambda: _once(connection, words), lambda _: connection.disconnect())
        finally:
            self._used_at = time.monotonic()
            self._taken.release()

    def _ready(self) -> Any:
        if self._pid != os.getpid():
            self._connection, self._pid = None, os.getpid()
        if self._connection is None:
            self._connection = self._client.connection_pool.get_connection()
        elif time.monotonic() - self._used_at > _STALE_S and not _is_quiet(self._connection):
            self._connection.disconnect()  # Redis has closed it meanwhile; the next command opens it again
        return self._connection


def fits(client: Any) -> bool:
    """Whether the lane leaves nothing out that this client needs: only the general way finds a Sentinel's primary, or a fake's server."""
    pool = getattr(client, "connection_pool", None)
    return type(client) is redis.Redis and type(pool) is redis.BlockingConnectionPool and pool.connection_class in _PLAIN


def _once(connection: Any, words: tuple[Any, ...]) -> Any:
    packed = connection.pack_command(*words)  # what cannot be packed leaves the connection as it is
    try:
        connection.send_packed_command(packed)
        return connection.read_response()
    except exceptions.ResponseError as error:  # this is the reply
        if leads_astray(error):
            connection.disconnect()
        raise
    except BaseException:
        connection.disconnect()
        raise


def _is_quiet(connection: Any) -> bool:
    """Nothing has come that nobody asked for: the end of the connection, above all."""
    try:
        return not connection.can_read()
    except (exceptions.RedisError, OSError):
        return False


class AsyncLane:
    """The same for coroutines of one event loop, with several commands in one round trip.

    1. used by one coroutine at a time: whoever makes it sees to that
    2. left by an error, or cancelled between command and reply, it is closed
    3. closed by a reply which says that the server is no primary (any more)
    """

    def __init__(self, client: Any, *, keeps: bool = True) -> None:
        """`client` is one that `connect.async_client` made, else each command goes the general way; so it does if nothing may be kept."""
        self._client = client
        self._connection: Any = None
        self._used_at = 0.0
        self._is_left = False
        self._is_open = keeps and fits_async(client)

    def leave(self) -> None:
        """Connect anew before the next command."""
        self._is_left = True

    async def execute(self, *words: Any) -> Any:
        """As `client.execute_command`; the reply is as it comes from Redis."""
        if not self._is_open:
            return await self._general(words)
        (reply,) = await self._execute([words])
        if isinstance(reply, exceptions.ResponseError):
            raise reply
        return reply

    async def _general(self, words: Sequence[Any]) -> Any:
        try:
            return await self._client.execute_command(*words)
        except exceptions.ResponseError as error:
            if leads_astray(error):
                await hang_up_idle_async(self._client)
            raise

    async def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """The replies, in order; where Redis refuses a command, its error in the reply's place."""
        if self._is_open:
            return await self._execute(commands)
        async with self._client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
            return replies

    async def _execute(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        connection = await self._ready()
        try:
            replies: list[Any] = await connection.retry.call_with_retry(
                lambda: _all_once(connection, commands), lambda _: connection.disconnect(nowait=True)
            )
            return replies
        finally:
            self._used_at = time.monotonic()

    async def _ready(self) -> Any:
        if self._connection is None:
            self._connection = await self._client.connection_pool.get_connection()
        elif self._is_left or (time.monotonic() - self._used_at > _STALE_S and not await _is_quiet_async(self._connection)):
            await self._connection.disconnect(nowait=True)
        self._is_left = False
        return self._connection


def fits_async(client: Any) -> bool:
    """As `fits`, of an asyncio client."""
    pool = getattr(client, "connection_pool", None)
    return (
        type(client) is redis.asyncio.Redis and type(pool) is redis.asyncio.BlockingConnectionPool and pool.connection_class in _PLAIN_ASYNC
    )


async def _all_once(connection: Any, commands: Sequence[Sequence[Any]]) -> list[Any]:
    replies: list[Any] = []
    packed = connection.pack_commands(commands)  # what cannot be packed leaves the connection as it is
    try:
        await connection.send_packed_command(packed)
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except exceptions.ResponseError as error:
                replies.append(error)
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    if any(leads_astray(reply) for reply in replies):
        await connection.disconnect(nowait=True)
    return replies


async def _is_quiet_async(connection: Any) -> bool:
    # Older versions of redis-py have it under another name.
    look = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return not await look()
    except (exceptions.RedisError, OSError):
        return False
