"""The one timer of a pinned asyncio connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis import exceptions

from assistant_queue.store.transport.connect import async_client
from assistant_queue.store.transport.pinned import AsyncPinnedConnection
from tests.conftest import PATIENCE_S

SHORT_S = 0.2


class SlowRedis:
    """Answers a PING at once, any other command when it is let."""

    def __init__(self) -> None:
        self.has_command = asyncio.Event()
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.connections = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while data := await reader.read(4096):
                if b"GET" not in data:
                    writer.write(b"+OK\r\n" * data.count(b"*"))
                    continue
                self.has_command.set()
                for _ in range(data.count(b"GET")):
                    writer.write(await self.answers.get())
        finally:
            writer.close()


@asynccontextmanager
async def slow_redis() -> AsyncIterator[tuple[SlowRedis, AsyncPinnedConnection]]:
    slow = SlowRedis()
    async with await asyncio.start_server(slow.serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        client = async_client(f"redis://127.0.0.1:{port}/0?protocol=2")
        pinned = AsyncPinnedConnection(client)
        try:
            await pinned.execute("PING")
            pinned._connection.socket_timeout = SHORT_S
            pinned._connection.retry._retries = 0
            yield slow, pinned
        finally:
            await client.aclose()


async def test_a_reply_that_does_not_come_is_a_time_out_and_the_connection_is_opened_anew() -> None:
    async with slow_redis() as (slow, pinned):
        with pytest.raises(exceptions.TimeoutError, match=r"within 0\.2 s"):
            await pinned.execute("GET", "a")
        assert not pinned._connection.is_connected
        assert pinned._connection.socket_timeout == SHORT_S
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        # The late reply, on the old connection, answers no later command.
        before = slow.connections
        slow.answers.put_nowait(b"$4\r\nlate\r\n")
        slow.answers.put_nowait(b"$3\r\nnew\r\n")
        assert await pinned.execute("GET", "b") in {b"new", "new"}
        assert slow.connections == before + 1


async def test_each_reply_of_a_round_trip_has_its_own_limit() -> None:
    async with slow_redis() as (slow, pinned):
        trip = asyncio.create_task(pinned.execute_all([("GET", "a")] * 4))
        await slow.has_command.wait()
        loop = asyncio.get_running_loop()
        for number in range(4):
            loop.call_later(
                SHORT_S * 0.6 * number, slow.answers.put_nowait, b"$1\r\n%d\r\n" % number
            )
        async with asyncio.timeout(PATIENCE_S):
            assert [int(reply) for reply in await trip] == [0, 1, 2, 3]


async def test_a_cancellation_while_a_reply_is_awaited_is_no_time_out() -> None:
    async with slow_redis() as (slow, pinned):
        trip = asyncio.create_task(pinned.execute("GET", "a"))
        await slow.has_command.wait()
        trip.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trip
        assert not pinned._connection.is_connected
        assert pinned._connection.socket_timeout == SHORT_S


async def test_a_cancellation_at_the_moment_of_the_time_out_wins() -> None:
    async with slow_redis() as (slow, pinned):
        trip = asyncio.create_task(pinned.execute("GET", "a"))
        await slow.has_command.wait()
        pinned._limit._deadline = 0.0
        pinned._limit._look()
        trip.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trip


async def test_an_idle_connection_has_no_timer_after_the_last_one_fired() -> None:
    async with slow_redis() as (slow, pinned):
        slow.answers.put_nowait(b"$1\r\na\r\n")
        await pinned.execute("GET", "a")
        first = pinned._limit._timer
        assert first is not None
        pinned._limit._look()
        first.cancel()
        assert pinned._limit._timer is None
