"""What a worker reads of a job that it took from RQ's queue."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis import exceptions

from assistant_queue.store.lane import AsyncLane
from assistant_queue.worker.taking import Popped, pop


class Lane:
    """Stands for the connection: one job in one queue, and what Redis says when it is read."""

    def __init__(self, popped: list[bytes] | None, data: bytes | Exception | None = None) -> None:
        self.popped = popped
        self.data = data
        self.sent: list[tuple[Any, ...]] = []

    async def execute(self, *words: Any) -> Any:
        self.sent.append(words)
        if words[0] == "BLPOP":
            return self.popped
        if isinstance(self.data, Exception):
            raise self.data
        return self.data


async def taken(lane: Lane) -> Popped | None:
    return await pop(cast("AsyncLane", lane), ["one", "two"], 2)


async def test_a_job_is_taken_with_what_it_carries() -> None:
    lane = Lane([b"two", b"id"], b"carried")
    assert await taken(lane) == Popped("two", "id", b"carried")
    assert lane.sent == [("BLPOP", "one", "two", 2), ("HGET", b"rq:job:id", "data")]


async def test_where_nothing_came_nothing_is_read() -> None:
    lane = Lane(None)
    assert await taken(lane) is None
    assert lane.sent == [("BLPOP", "one", "two", 2)]


async def test_an_id_that_is_no_text_is_read_as_it_is() -> None:
    lane = Lane([b"one", b"\xff\xfe"])
    popped = await taken(lane)
    assert popped is not None
    assert popped.data is None
    assert lane.sent[1] == ("HGET", b"rq:job:\xff\xfe", "data")


async def test_a_key_that_is_no_job_is_one_job_less_and_no_lost_connection(caplog: pytest.LogCaptureFixture) -> None:
    assert await taken(Lane([b"one", b"id"], exceptions.ResponseError("WRONGTYPE"))) == Popped("one", "id", None)
    assert "job id cannot be read" in caplog.text


async def test_a_connection_that_was_lost_is_said_so() -> None:
    with pytest.raises(exceptions.ConnectionError):
        await taken(Lane([b"one", b"id"], exceptions.ConnectionError("gone")))
