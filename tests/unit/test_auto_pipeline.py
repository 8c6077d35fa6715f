"""Commands of many coroutines share round trips, and nothing else."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import pytest

from assistant_queue.store.transport.auto_pipeline import FLIGHTS, MOST, SHARED, AutoPipeline


class Client:
    """A fake client that records round trips; `bad` is refused, `lost` loses the connection."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []
        self.gate: asyncio.Event | None = None
        self._begun: asyncio.Queue[None] = asyncio.Queue()

    async def begins(self) -> None:
        """Wait for the next round trip to begin."""
        await self._begun.get()

    async def answer(self, words: list[str]) -> list[Any]:
        self.trips.append(words)
        self._begun.put_nowait(None)
        if self.gate is not None:
            await self.gate.wait()
        if "lost" in words:
            raise ConnectionError
        return [ValueError(word) if word == "bad" else f"re {word}" for word in words]

    async def execute_command(self, word: str) -> Any:
        (reply,) = await self.answer([word])
        if isinstance(reply, Exception):
            raise reply
        return reply

    def pipeline(self, *, transaction: bool) -> Pipeline:
        assert not transaction
        return Pipeline(self)


class Pipeline:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.words: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.words = []

    def execute_command(self, word: str) -> None:
        self.words.append(word)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        assert not raise_on_error
        return await self.client.answer(self.words)


async def test_what_is_given_at_one_moment_shares_a_round_trip() -> None:
    client = Client()
    pipeline = AutoPipeline(client)
    assert await asyncio.gather(*(pipeline.execute(word) for word in "abc")) == [
        "re a",
        "re b",
        "re c",
    ]
    assert client.trips == [["a", "b", "c"]]


async def test_many_commands_leave_in_two_round_trips_of_like_length() -> None:
    client = Client()
    client.gate = asyncio.Event()
    pipeline = AutoPipeline(client)
    words = [str(number) for number in range(SHARED)]
    replies = [
        asyncio.ensure_future(pipeline.execute(word, thread_id=f"thread {word}")) for word in words
    ]
    await client.begins()
    await client.begins()
    client.gate.set()
    assert await asyncio.gather(*replies) == [f"re {word}" for word in words]
    assert client.trips == [words[: SHARED // 2], words[SHARED // 2 :]]


async def test_commands_of_one_thread_stay_in_one_round_trip_in_order() -> None:
    client = Client()
    client.gate = asyncio.Event()
    pipeline = AutoPipeline(client)
    count = 3 * SHARED
    replies = asyncio.gather(
        *(pipeline.execute(str(number), thread_id=f"{number % 2}") for number in range(count)),
        *(
            pipeline.execute(f"other {number}", thread_id=f"{number + 2}")
            for number in range(SHARED)
        ),
    )
    for _ in range(FLIGHTS):
        await client.begins()
    client.gate.set()
    await replies
    assert len(client.trips) == FLIGHTS
    sent = [word for word in client.trips[0] if word.isdecimal()]
    assert sent == [str(number) for number in range(count)]


async def test_each_is_given_its_own_error() -> None:
    pipeline = AutoPipeline(Client())
    one, bad, other = await asyncio.gather(
        *(pipeline.execute(word) for word in ("one", "bad", "other")), return_exceptions=True
    )
    assert (one, other) == ("re one", "re other")
    assert isinstance(bad, ValueError)


async def test_a_lost_connection_is_the_error_of_its_commands_and_of_no_later_ones() -> None:
    pipeline = AutoPipeline(Client())
    lost = await asyncio.gather(
        *(pipeline.execute(word) for word in ("one", "lost")), return_exceptions=True
    )
    assert [type(error) for error in lost] == [ConnectionError, ConnectionError]
    assert await pipeline.execute("later") == "re later"


async def test_what_finds_every_flight_taken_leaves_with_the_next() -> None:
    client = Client()
    client.gate = asyncio.Event()
    pipeline = AutoPipeline(client)
    first = []
    for number in range(FLIGHTS):
        first.append(asyncio.ensure_future(pipeline.execute(f"first {number}")))
        await client.begins()
    later = [asyncio.ensure_future(pipeline.execute(f"later {number}")) for number in range(5)]
    for _ in range(20):
        await asyncio.sleep(0)
    assert len(client.trips) == FLIGHTS
    client.gate.set()
    await asyncio.gather(*first, *later)
    assert client.trips[FLIGHTS:] == [[f"later {number}" for number in range(5)]]


async def test_a_command_of_a_cancelled_caller_is_not_sent() -> None:
    client = Client()
    pipeline = AutoPipeline(client)
    gone = asyncio.ensure_future(pipeline.execute("gone"))
    stays = asyncio.ensure_future(pipeline.execute("stays"))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == "re stays"
    assert client.trips == [["stays"]]


async def test_no_round_trip_is_longer_than_its_bound() -> None:
    client = Client()
    pipeline = AutoPipeline(client)
    await asyncio.gather(*(pipeline.execute(str(number)) for number in range(2 * MOST + 1)))
    assert max(map(len, client.trips)) == MOST


@pytest.mark.parametrize("callers", [1, 2, 3, 50])
async def test_no_command_is_forgotten_when_a_flight_ends(callers: int) -> None:
    """A command issued between a flight's last check and its end must start its own flight."""
    pipeline = AutoPipeline(Client())

    async def work() -> None:
        for number in range(200):
            await pipeline.execute(str(number))

    await asyncio.wait_for(asyncio.gather(*(work() for _ in range(callers))), 20)
