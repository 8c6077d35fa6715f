"""Pinned connections: send commands without the overhead of a client's general path."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import redis.asyncio
from redis import exceptions

from assistant_queue.store.calls import Call
from assistant_queue.store.transport.cancellation import cancellable
from assistant_queue.store.transport.packing import pack_all, pack_one
from assistant_queue.store.transport.refusals import hang_up_idle_async, leads_astray
from assistant_queue.store.transport.time_limit import TimeLimit

_STALE_S = 1.0
"""Idle time after which a connection is checked before its next use. Chosen: a Redis that
restarts is away for longer."""
_PLAIN = frozenset(
    {
        redis.connection.Connection,
        redis.connection.SSLConnection,
        redis.connection.UnixDomainSocketConnection,
    }
)
_PLAIN_ASYNC = frozenset(
    kind
    for plain in (
        redis.asyncio.Connection,
        redis.asyncio.SSLConnection,
        redis.asyncio.UnixDomainSocketConnection,
    )
    for kind in (plain, cancellable(plain))
)


class PinnedConnection:
    """The connection of a caller that sends one command after another.

    redis-py takes a connection from its pool for each command, checks whether it is alive,
    measures, and returns it: a third of the time of an add. A pinned connection is taken once.
    Time-outs, health check, connecting and `retry` are redis-py's own, so a command is repeated
    after a lost reply as often as elsewhere.

    1. one caller at a time uses it; another caller uses the client's general path and does not wait
    2. after an error, or an interrupt between command and reply, it is closed: a late reply must
       not answer the next command
    3. after a reply that the server is no primary (any more), it is closed: the next command
       resolves the address anew
    4. a forked process takes its own connection
    """

    def __init__(self, client: Any) -> None:
        """`client` was made by `connect.sync_client`: its pool can spare connections."""
        self._client = client
        self._taken = threading.Lock()
        self._connection: Any = None
        self._pid = 0
        self._used_at = 0.0
        self._is_open = fits(client)

    def execute(self, *words: Any) -> Any:
        """Send a command as `client.execute_command` does; the reply is Redis' own, unparsed."""
        if not self._is_open or not self._taken.acquire(blocking=False):
            return self._client.execute_command(*words)
        try:
            connection = self._ready()
            return connection.retry.call_with_retry(
                lambda: _once(connection, words), lambda _: connection.disconnect()
            )
        finally:
            self._used_at = time.monotonic()
            self._taken.release()

    def _ready(self) -> Any:
        if self._pid != os.getpid():
            self._connection = None
            self._pid = os.getpid()
        if self._connection is None:
            self._connection = self._client.connection_pool.get_connection()
        elif time.monotonic() - self._used_at > _STALE_S and not _is_quiet(self._connection):
            # Redis closed it meanwhile; the next command opens it again.
            self._connection.disconnect()
        return self._connection


def fits(client: Any) -> bool:
    """Return whether a connection of this client can be pinned.

    Only the general path finds a Sentinel's primary, or a fake's server.
    """
    pool = getattr(client, "connection_pool", None)
    return (
        type(client) is redis.Redis
        and type(pool) is redis.BlockingConnectionPool
        and pool.connection_class in _PLAIN
    )


def _once(connection: Any, words: tuple[Any, ...]) -> Any:
    # A command that cannot be packed does not affect the connection.
    packed = pack_one(connection, words)
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
    """Return whether there is no unexpected input, such as the end of the connection."""
    try:
        return not connection.can_read()
    except (exceptions.RedisError, OSError):
        return False


class AsyncPinnedConnection:
    """The pinned connection of one event loop, with several commands in one round trip.

    1. one coroutine at a time uses it: its owner ensures that
    2. after an error, or a cancellation between command and reply, it is closed
    3. after a reply that the server is no primary (any more), it is closed
    """

    def __init__(self, client: Any, *, keeps: bool = True) -> None:
        """Pin a connection of a client of `connect.async_client`, unless `keeps` is False.

        Commands of any other client use the general path.
        """
        self._client = client
        self._connection: Any = None
        self._limit = TimeLimit()
        self._used_at = 0.0
        self._must_reconnect = False
        self._is_open = keeps and fits_async(client)

    def reconnect(self) -> None:
        """Connect anew before the next command."""
        self._must_reconnect = True

    async def execute(self, *words: Any) -> Any:
        """Send a command as `client.execute_command` does; the reply is Redis' own, unparsed."""
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
        """Send commands; return the replies in order, for a refused command its error."""
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
                lambda: _all_once(connection, commands, self._limit),
                lambda _: connection.disconnect(nowait=True),
            )
            return replies
        finally:
            self._used_at = time.monotonic()

    async def _ready(self) -> Any:
        if self._connection is None:
            self._connection = await self._client.connection_pool.get_connection()
        elif self._must_reconnect or (
            time.monotonic() - self._used_at > _STALE_S
            and not await _is_quiet_async(self._connection)
        ):
            await self._connection.disconnect(nowait=True)
        self._must_reconnect = False
        return self._connection


async def run_call(pinned: AsyncPinnedConnection, call: Call) -> Any:
    """Send one call over a pinned connection; a script that Redis does not know is loaded first."""
    words = _words(call)
    try:
        return await pinned.execute(*words)
    except exceptions.NoScriptError:
        if call.script is None:
            raise
        await pinned.execute("SCRIPT LOAD", call.script.text)
        return await pinned.execute(*words)


def _words(call: Call) -> Sequence[Any]:
    if call.script is None:
        return call.words
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.words)


async def run_calls(pinned: AsyncPinnedConnection, calls: Sequence[Call]) -> list[Any]:
    """Send calls in one round trip; a script that Redis does not know is loaded and sent again.

    Raises:
        redis.ResponseError: Redis refused a call; the others may have taken effect.
    """
    if not calls:
        return []
    replies = await pinned.execute_all([_words(call) for call in calls])
    for number, reply in enumerate(replies):
        if isinstance(reply, exceptions.NoScriptError):
            replies[number] = await run_call(pinned, calls[number])
        elif isinstance(reply, exceptions.ResponseError):
            raise reply
    return replies


def fits_async(client: Any) -> bool:
    """Return whether a connection of this asyncio client can be pinned (see `fits`)."""
    pool = getattr(client, "connection_pool", None)
    return (
        type(client) is redis.asyncio.Redis
        and type(pool) is redis.asyncio.BlockingConnectionPool
        and pool.connection_class in _PLAIN_ASYNC
    )


async def _all_once(
    connection: Any, commands: Sequence[Sequence[Any]], limit: TimeLimit
) -> list[Any]:
    replies: list[Any] = []
    # A command that cannot be packed does not affect the connection.
    packed = pack_all(connection, commands)
    try:
        with limit.of(connection):
            await connection.send_packed_command(packed)
            for _ in commands:
                limit.extend()
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
    # Older versions of redis-py use another name.
    can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
    try:
        return not await can_read()
    except (exceptions.RedisError, OSError):
        return False
