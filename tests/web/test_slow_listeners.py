"""Listeners that take their time: what is held for them is bounded, and they miss nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import StoreUnavailable
from assistant_queue.integrations.fastapi import listener, rooms
from assistant_queue.integrations.fastapi.access import ANONYMOUS
from assistant_queue.integrations.fastapi.frames import Frame, note
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.integrations.fastapi.rooms import Room, Rooms
from assistant_queue.integrations.fastapi.service import asyncio_queue_of
from tests.conftest import PATIENCE_S


class Standing:
    """A queue in which nothing happens."""

    async def events(self, thread_id: str, after: str) -> Any:
        await asyncio.Event().wait()
        yield


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room(Standing(), "t", "0")  # type: ignore[arg-type]
    yield made
    made.reading.cancel()


@pytest.fixture
async def house(queue: AssistantMessageQueue) -> AsyncIterator[Rooms]:
    asyncio_queue, _ = asyncio_queue_of(queue)
    made = Rooms(asyncio_queue)
    yield made
    await made.close()
    await asyncio_queue.close()


def listening(room: Room) -> Listener:
    made = Listener(room, "0", ANONYMOUS)
    room.listeners.add(made)
    made.start_at(room.oldest_kept)
    return made


async def until(taking: Listener, kind: str, text: str = "") -> list[Frame]:
    found: list[Frame] = []
    while not any(f'"{kind}"' in frame.text and text in frame.text for frame in found):
        assert not taking.is_over
        found += await asyncio.wait_for(taking.frames(), PATIENCE_S)
    return found


def contents(frames: list[Frame]) -> list[str]:
    return [
        frame.event.content
        for frame in frames
        if frame.event is not None and frame.event.type == "message_queued"
    ]


async def test_a_room_keeps_so_many_bytes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "KEPT_BYTES", 10_000)
    slow = listening(room)
    for number in range(20):
        room.publish(note("presence", "t", people=["x" * 1000, str(number)]))
    assert sum(len(frame.sse) for frame in room.kept) <= 10_000
    room.publish(note("presence", "t", people=["x" * 50_000]))
    assert len(room.kept) == 1, "the newest is kept, however long it is"
    assert await slow.frames() == []
    assert slow.is_over


async def test_a_listener_is_given_a_piece_at_a_time(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "PIECE_BYTES", 5000)
    slow = listening(room)
    for number in range(10):
        room.publish(note("presence", "t", number=number, more="x" * 2000))
    room.publish(note("presence", "t", number=10, more="x" * 20_000))
    told = [await asyncio.wait_for(slow.frames(), PATIENCE_S) for _ in range(6)]
    assert [len(piece) for piece in told] == [2, 2, 2, 2, 2, 1]
    assert [
        f'"number": {number},' in frame.text
        for number, frame in enumerate(frame for piece in told for frame in piece)
    ] == [True] * 11


async def test_what_was_kept_is_read_as_fast_as_it_is_taken(
    house: Rooms, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages: list[int] = []
    read = rooms.event_log.read

    def counted(*args: Any) -> Any:
        pages.append(args[-1])
        return read(*args)

    monkeypatch.setattr(rooms.event_log, "read", counted)
    queue.open_events("t")
    queue.add_messages(
        [{"thread_id": "t", "message": f"message {number}"} for number in range(100)]
    )
    async with house.listen("t", "0", ANONYMOUS, None) as taking:
        assert pages == [rooms.PAGE]
        found = await taking.frames()
        assert pages == [rooms.PAGE], "no more than was asked for"
        found += await until(taking, "caught_up")
    assert contents(found) == [f"message {number}" for number in range(100)]
    assert len(pages) >= 5


async def test_a_room_that_moves_on_while_a_listener_catches_up_leaves_no_gap(
    house: Rooms, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "KEPT", 3)
    monkeypatch.setattr(rooms, "PAGE", 4)
    queue.open_events("t")
    queue.add_messages([{"thread_id": "t", "message": f"message {number}"} for number in range(20)])
    async with (
        house.listen("t", None, ANONYMOUS, None) as fast,
        house.listen("t", "0", ANONYMOUS, None) as slow,
    ):
        await until(fast, "caught_up")
        found = await slow.frames()
        for number in range(20, 40):
            queue.add_message_to_thread("t", f"message {number}")
            await until(fast, "message_queued", f'"message {number}"')
        assert slow.room.count > len(slow.room.kept) == 3
        found += await until(slow, "caught_up")
        queue.add_message_to_thread("t", "message 40")
        if '"message 40"' not in "".join(frame.text for frame in found):
            found += await until(slow, "message_queued", '"message 40"')
    assert contents(found) == [f"message {number}" for number in range(41)]


async def test_a_listener_that_cannot_catch_up_is_sent_away_and_comes_back(
    house: Rooms, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms, "PAGE", 4)
    queue.open_events("t")
    queue.add_messages([{"thread_id": "t", "message": f"message {number}"} for number in range(20)])
    async with house.listen("t", "0", ANONYMOUS, None) as taking:
        found = await taking.frames()

        async def away(_: object) -> None:
            raise StoreUnavailable("Redis did not answer")

        with monkeypatch.context() as patching:
            patching.setattr(house._queue._store, "run", away)
            assert await taking.frames() == []
            assert taking.is_over
    last = found[-1].event.id
    async with house.listen("t", last, ANONYMOUS, None) as again:
        found += await until(again, "caught_up")
    assert contents(found) == [f"message {number}" for number in range(20)]
