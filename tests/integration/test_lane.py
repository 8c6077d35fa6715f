"""The connection that a blocking queue keeps: as safe as redis-py's general way."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis import exceptions

from assistant_queue.store.connect import sync_client
from assistant_queue.store.lane import Lane, fits
from tests.conftest import PATIENCE_S, RedisServer


@pytest.fixture
def client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with sync_client(redis_server.url) as client:
        yield client


def connection_of(lane: Lane) -> Any:
    return lane._connection


def test_one_connection_serves_one_command_after_another(client: redis.Redis) -> None:
    lane = Lane(client)
    ids = {lane.execute("CLIENT", "ID") for _ in range(5)}
    assert len(ids) == 1


def test_a_reply_that_is_an_error_leaves_the_connection_as_it_is(client: redis.Redis) -> None:
    lane = Lane(client)
    before = lane.execute("CLIENT", "ID")
    with pytest.raises(exceptions.NoScriptError):
        lane.execute("EVALSHA", "0" * 40, 0)
    assert lane.execute("CLIENT", "ID") == before


def test_a_connection_that_redis_has_closed_is_opened_again(client: redis.Redis) -> None:
    lane = Lane(client)
    before = lane.execute("CLIENT", "ID")
    client.execute_command("CLIENT KILL", "ID", before)
    assert lane.execute("CLIENT", "ID") != before


def test_one_that_was_closed_while_nobody_used_it_costs_no_repetition(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = Lane(client)
    before = lane.execute("CLIENT", "ID")
    client.execute_command("CLIENT KILL", "ID", before)
    lane._used_at -= 10
    monkeypatch.setattr(connection_of(lane).retry, "_retries", 0)
    assert lane.execute("CLIENT", "ID") != before


def test_an_interrupt_between_command_and_reply_does_not_leave_the_reply_for_the_next_command(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane = Lane(client)
    lane.execute("PING")
    connection = connection_of(lane)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lane.execute("ECHO", "for nobody")
    assert lane.execute("ECHO", "for me") == b"for me"


def test_who_finds_the_lane_taken_goes_another_way(client: redis.Redis) -> None:
    lane = Lane(client)
    own = lane.execute("CLIENT", "ID")
    others: list[Any] = []
    with lane._taken:
        other = threading.Thread(target=lambda: others.append(lane.execute("CLIENT", "ID")))
        other.start()
        other.join(PATIENCE_S)
    assert others
    assert others != [own]
    assert lane.execute("CLIENT", "ID") == own


def _say_id(lane: Lane, answers: Any) -> None:
    answers.put(lane.execute("CLIENT", "ID"))


def test_a_forked_process_takes_a_connection_of_its_own(client: redis.Redis) -> None:
    lane = Lane(client)
    own = lane.execute("CLIENT", "ID")
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_say_id, args=(lane, answers))
    child.start()
    other = answers.get(timeout=PATIENCE_S)
    child.join(PATIENCE_S)
    assert other != own
    assert lane.execute("CLIENT", "ID") == own


def test_only_a_plain_client_of_our_own_gets_one(client: redis.Redis) -> None:
    assert fits(client)
    assert not fits(sync_client("redis+sentinel://localhost:26379/mymaster/0"))
    assert not fits(redis.Redis())
    with redis.Redis.from_pool(redis.ConnectionPool.from_url(f"redis://localhost:{client.get_connection_kwargs()['port']}/0")) as other:
        assert Lane(other).execute("PING") is True  # the general way
