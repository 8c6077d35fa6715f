"""Reading the jobs that a worker has taken from RQ's queue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis import exceptions

from assistant_queue.store.rq_jobs import READ_JOBS
from assistant_queue.store.transport.pinned import AsyncPinnedConnection
from assistant_queue.worker.fetcher import MOST_MORE, Popped, pop

POP = ("BLPOP", "one", "two", 2)


def read(*job_ids: str) -> tuple[Any, ...]:
    return ("EVALSHA", READ_JOBS.sha, len(job_ids), *(f"rq:job:{job_id}" for job_id in job_ids))


class PinnedConnection:
    """Stands for the connection: one job in one queue, and the replies that Redis gives then."""

    def __init__(self, popped: list[bytes] | None, *replies: Any) -> None:
        self.popped = popped
        self.replies = list(replies)
        self.sent: list[tuple[Any, ...]] = []
        self.round_trips = 0

    async def execute(self, *words: Any) -> Any:
        (reply,) = await self.execute_all([words])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def execute_all(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        self.round_trips += 1
        self.sent += map(tuple, commands)
        lost = next((e for e in self.replies if isinstance(e, exceptions.ConnectionError)), None)
        if lost is not None and commands[0][0] != "BLPOP":
            raise lost
        return [self.popped if words[0] == "BLPOP" else self.replies.pop(0) for words in commands]


async def taken(pinned: PinnedConnection, room: int = 0) -> list[Popped]:
    connection = cast("AsyncPinnedConnection", pinned)
    return await pop(connection, ["one", "two"], 2, lambda: room)


async def test_a_job_is_taken_with_what_it_carries() -> None:
    pinned = PinnedConnection([b"two", b"id"], [[b"carried", 7]])
    assert await taken(pinned) == [Popped("two", "id", b"carried")]
    assert pinned.sent == [POP, read("id")]


async def test_further_jobs_of_the_queue_are_taken_with_it() -> None:
    pinned = PinnedConnection([b"two", b"id"], [[b"carried", 7]], [b"x", b"y"], [[b"of x", 4], []])
    assert await taken(pinned, room=3) == [
        Popped("two", "id", b"carried"),
        Popped("two", "x", b"of x"),
        Popped("two", "y", None),
    ]
    assert pinned.sent == [POP, read("id"), ("LPOP", "two", 3), read("x", "y")]
    assert pinned.round_trips == 3


async def test_no_more_are_taken_than_one_worker_should_lose() -> None:
    pinned = PinnedConnection([b"two", b"id"], [[b"carried", 7]], None)
    assert await taken(pinned, room=1000) == [Popped("two", "id", b"carried")]
    assert pinned.sent == [POP, read("id"), ("LPOP", "two", MOST_MORE)]
    assert pinned.round_trips == 2


async def test_where_nothing_came_nothing_is_read() -> None:
    pinned = PinnedConnection(None)
    assert await taken(pinned, room=3) == []
    assert pinned.sent == [POP]


async def test_a_redis_that_has_forgotten_the_script_is_sent_it_again() -> None:
    no_script = exceptions.NoScriptError("NOSCRIPT")
    pinned = PinnedConnection([b"two", b"id"], no_script, no_script, b"sha", [[b"carried", 7]])
    assert await taken(pinned) == [Popped("two", "id", b"carried")]
    assert pinned.sent[1:] == [
        read("id"),
        read("id"),
        ("SCRIPT LOAD", READ_JOBS.text),
        read("id"),
    ]


async def test_a_job_that_is_not_there_carries_nothing() -> None:
    assert await taken(PinnedConnection([b"one", b"id"], [[]])) == [Popped("one", "id", None)]


@pytest.mark.parametrize(
    "entry",
    [b"\xff\xfe", b"", b"a:b", b"a b", b"a\r\nb", b"x" * 201, b"x" * 10_000_000, "\u043a".encode()],
)
async def test_an_entry_that_is_no_id_of_rqs_is_dropped_with_one_short_line(
    entry: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    pinned = PinnedConnection([b"one", entry], [entry, b"id"], [[b"carried", 7]])
    assert await taken(pinned, room=2) == [Popped("one", "", None), Popped("one", "id", b"carried")]
    assert pinned.sent == [POP, ("LPOP", "one", 2), read("id")]
    assert len(caplog.records) == 2
    for record in caplog.records:
        line = record.getMessage()
        assert "which is no job's id; it was dropped" in line
        assert len(line) < 400
        assert line.isprintable()


async def test_a_key_that_is_no_job_is_one_job_less_and_no_lost_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pinned = PinnedConnection([b"one", b"id"], [[b"", -1]])
    assert await taken(pinned) == [Popped("one", "id", None)]
    assert "job id cannot be read" in caplog.text


async def test_a_connection_that_was_lost_is_said_so() -> None:
    with pytest.raises(exceptions.ConnectionError):
        await taken(PinnedConnection([b"one", b"id"], exceptions.ConnectionError("gone")))
