"""What a worker reads of a job that it took from RQ's queue."""

from __future__ import annotations

from typing import Any, cast

import pytest
from redis import exceptions

from assistant_queue.store.lane import AsyncLane
from assistant_queue.worker.taking import _READ_JOB, Popped, pop

READ = ("EVALSHA", _READ_JOB.sha, 1, "rq:job:id")


class Lane:
    """Stands for the connection: one job in one queue, and what Redis says when it is read."""

    def __init__(self, popped: list[bytes] | None, *replies: Any) -> None:
        self.popped = popped
        self.replies = list(replies)
        self.sent: list[tuple[Any, ...]] = []

    async def execute(self, *words: Any) -> Any:
        self.sent.append(words)
        reply = self.popped if words[0] == "BLPOP" else self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


async def taken(lane: Lane) -> Popped | None:
    return await pop(cast("AsyncLane", lane), ["one", "two"], 2)


async def test_a_job_is_taken_with_what_it_carries() -> None:
    lane = Lane([b"two", b"id"], [b"carried", 7])
    assert await taken(lane) == Popped("two", "id", b"carried")
    assert lane.sent == [("BLPOP", "one", "two", 2), READ]


async def test_where_nothing_came_nothing_is_read() -> None:
    lane = Lane(None)
    assert await taken(lane) is None
    assert lane.sent == [("BLPOP", "one", "two", 2)]


async def test_a_redis_that_has_forgotten_the_script_is_told_it_again() -> None:
    lane = Lane([b"two", b"id"], exceptions.NoScriptError("NOSCRIPT"), b"sha", [b"carried", 7])
    assert await taken(lane) == Popped("two", "id", b"carried")
    assert lane.sent[1:] == [READ, ("SCRIPT LOAD", _READ_JOB.text), READ]


async def test_a_job_that_is_not_there_carries_nothing() -> None:
    assert await taken(Lane([b"one", b"id"], [])) == Popped("one", "id", None)


@pytest.mark.parametrize("entry", [b"\xff\xfe", b"", b"a:b", b"a b", b"a\r\nb", b"x" * 201, b"x" * 10_000_000, "\u043a".encode()])
async def test_an_entry_that_is_no_id_of_rqs_is_dropped_with_one_short_line(entry: bytes, caplog: pytest.LogCaptureFixture) -> None:
    lane = Lane([b"one", entry])
    assert await taken(lane) == Popped("one", "", None)
    assert len(lane.sent) == 1
    (record,) = caplog.records
    line = record.getMessage()
    assert "which is no job's id; it was dropped" in line
    assert len(line) < 400
    assert line.isprintable()


async def test_a_key_that_is_no_job_is_one_job_less_and_no_lost_connection(caplog: pytest.LogCaptureFixture) -> None:
    assert await taken(Lane([b"one", b"id"], exceptions.ResponseError("WRONGTYPE"))) == Popped("one", "id", None)
    assert "job id cannot be read" in caplog.text


async def test_a_connection_that_was_lost_is_said_so() -> None:
    with pytest.raises(exceptions.ConnectionError):
        await taken(Lane([b"one", b"id"], exceptions.ConnectionError("gone")))
