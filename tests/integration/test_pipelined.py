"""Pipelined round trips lose, duplicate and reorder nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from redis import exceptions

from assistant_queue import AssistantMessageQueue, ThreadFull
from assistant_queue.store.calls import Operation, Pipelined, plain
from assistant_queue.store.ops import producing
from assistant_queue.store.transport.connect import sync_client
from assistant_queue.store.transport.pipelined import PipelinedSender
from assistant_queue.store.transport.stores import SyncStore
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.lossy_redis import LossyRedis

TEXTS = [f"m{number:02}" for number in range(10)]


@pytest.fixture(params=["short", "general"])
def client(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[redis.Redis]:
    """One that goes the short way, and one that is the user's own."""
    made = (
        sync_client(redis_server.url)
        if request.param == "short"
        else redis.Redis.from_url(redis_server.url)
    )
    with made as one:
        yield one


@pytest.fixture
def short(redis_server: RedisServer) -> Iterator[redis.Redis]:
    with sync_client(redis_server.url) as one:
        yield one


@pytest.fixture
def in_threes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(producing, "BULK", 3)


def connections_in_use(client: redis.Redis) -> int:
    pool: Any = client.connection_pool
    return len(pool._connections) - pool.pool.qsize() + pool.pool.queue.count(None)


# --- the sender -----------------------------------------------------------------------------------


def test_each_round_trip_is_answered_when_the_next_is_sent(client: redis.Redis) -> None:
    sender = PipelinedSender(client)
    assert sender.swap([("ECHO", "a"), ("ECHO", "b")]) == []
    assert sender.swap([("ECHO", "c")]) == [b"a", b"b"]
    assert sender.swap([]) == [b"c"]
    assert sender.swap([]) == []
    sender.close()


def test_replies_that_were_waited_for_are_given_with_the_next(
    client: redis.Redis, prefix: str
) -> None:
    sender = PipelinedSender(client)
    sender.swap([("INCR", prefix)])
    sender.settle()
    assert client.get(prefix) == b"1"
    assert sender.swap([("INCR", prefix)]) == [1]
    sender.close()
    assert client.get(prefix) == b"2"


def test_what_only_prepares_has_no_reply(client: redis.Redis) -> None:
    sender = PipelinedSender(client)
    sender.swap([("ECHO", "prepares"), ("ECHO", "a")], leading=1)
    assert sender.swap([("ECHO", "b")]) == [b"a"]
    assert sender.swap([]) == [b"b"]
    sender.close()


def test_a_refused_command_is_an_error_and_the_rest_happens(
    client: redis.Redis, prefix: str
) -> None:
    sender = PipelinedSender(client)
    sender.swap([("SET", prefix, "text"), ("INCR", prefix), ("APPEND", prefix, "!")])
    with pytest.raises(exceptions.ResponseError):
        sender.swap([("APPEND", prefix, "?")])
    sender.close()
    assert client.get(prefix) == b"text!?"


def test_the_connection_is_given_back_clean_however_it_ends(
    short: redis.Redis, prefix: str
) -> None:
    for _ in range(3):
        sender = PipelinedSender(short)
        sender.swap([("RPUSH", prefix, "x")] * 5)
        assert connections_in_use(short) == 1
        sender.close()
        sender.close()
        assert connections_in_use(short) == 0
        assert short.echo("for me") == b"for me"
    assert short.llen(prefix) == 15


def test_an_interrupt_leaves_no_reply_for_the_next_command(
    short: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = PipelinedSender(short)
    sender.swap([("ECHO", "for nobody")])

    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sender._connection, "read_response", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sender.swap([("ECHO", "for nobody")])
    sender.close()
    assert short.echo("for me") == b"for me"


def test_what_has_no_reply_is_sent_again_in_order_where_the_connection_was_lost(
    short: redis.Redis, prefix: str
) -> None:
    sender = PipelinedSender(short)
    sender.swap([("CLIENT", "ID"), ("SET", prefix, "first")])
    own, _ = sender.swap([("SET", prefix, "second")])
    short.client_kill_filter(_id=own)
    assert sender.swap([("APPEND", prefix, "!"), ("CLIENT", "ID")]) == [b"OK"]
    _, other = sender.swap([])
    assert other != own
    assert short.get(prefix) == b"second!"
    sender.close()


# --- operations -----------------------------------------------------------------------------------


def test_a_step_in_between_waits_for_what_is_on_its_way(client: redis.Redis, prefix: str) -> None:
    def operation() -> Operation[list[Any]]:
        seen = [(yield Pipelined([plain("INCR", prefix)] * 3))]
        seen.append((yield plain("GET", prefix)))
        seen.append((yield Pipelined([plain("INCR", prefix)])))
        seen.append((yield Pipelined([])))
        return seen

    assert SyncStore(client).run(operation()) == [[], b"3", [1, 2, 3], [4]]


@pytest.mark.usefixtures("in_threes")
def test_messages_and_receipts_keep_their_order_over_many_round_trips(
    client: redis.Redis, prefix: str
) -> None:
    with AssistantMessageQueue(redis=client, queue_prefix=prefix, message_delay=60) as queue:
        receipts = queue.add_messages(
            {"thread_id": f"t{number % 2}", "message": text, "message_id": text}
            for number, text in enumerate(TEXTS)
        )
        assert [receipt.message_id for receipt in receipts] == TEXTS
        for number in range(2):
            assert [one.message_id for one in queue.get_jobs_by_thread_id(f"t{number}")] == TEXTS[
                number::2
            ]
        again = queue.add_messages(
            {"thread_id": f"t{number % 2}", "message": text, "message_id": text}
            for number, text in enumerate(TEXTS)
        )
        assert [receipt.duplicate for receipt in again] == [True] * len(TEXTS)
        assert queue.add_messages([]) == []


@pytest.mark.usefixtures("in_threes")
@pytest.mark.parametrize("full_at", [0, 4, 9])
def test_after_an_error_nothing_is_on_its_way_and_the_call_can_be_repeated(
    short: redis.Redis, prefix: str, full_at: int
) -> None:
    rows = [
        {"thread_id": "full" if number == full_at else "t", "message": text, "message_id": text}
        for number, text in enumerate(TEXTS)
    ]
    with AssistantMessageQueue(
        redis=short, queue_prefix=prefix, message_delay=60, max_pending=20
    ) as queue:
        queue.add_messages({"thread_id": "full", "message": "before"} for _ in range(20))
        with pytest.raises(ThreadFull):
            queue.add_messages(rows)
        assert connections_in_use(short) == 0
        queued = [one.message_id for one in queue.get_jobs_by_thread_id("t")]
        own = [text for number, text in enumerate(TEXTS) if number != full_at]
        assert queued == own[: len(queued)], "those of its round trip and of the next, in order"
        queue.forget_thread("full")
        queue.add_messages(rows)
        assert [one.message_id for one in queue.get_jobs_by_thread_id("t")] == own


@pytest.mark.usefixtures("in_threes")
@pytest.mark.parametrize("kind", ["thread", "pending"])
def test_a_corrupt_key_is_quarantined_and_the_order_stays(
    client: redis.Redis, prefix: str, kind: str
) -> None:
    client.set(f"{prefix}:{kind}:t", "not written by the queue")
    with AssistantMessageQueue(redis=client, queue_prefix=prefix, message_delay=60) as queue:
        receipts = queue.add_messages(
            {"thread_id": "t", "message": text, "message_id": text} for text in TEXTS
        )
        assert [receipt.duplicate for receipt in receipts] == [False] * len(TEXTS)
        assert [one.message_id for one in queue.get_jobs_by_thread_id("t")] == TEXTS


@pytest.mark.usefixtures("in_threes")
def test_the_loss_of_any_answer_loses_and_doubles_nothing(lossy: LossyRedis, prefix: str) -> None:
    number = 0
    while not number or lossy.lost is not None:
        number += 1
        lossy.lose(number)
        with AssistantMessageQueue(
            redis_url=lossy.url, queue_prefix=f"{prefix}-{number}", message_delay=60
        ) as queue:
            receipts = queue.add_messages(
                {"thread_id": "t", "message": text, "message_id": text} for text in TEXTS
            )
            assert [receipt.duplicate for receipt in receipts] == [False] * len(TEXTS), lossy.lost
            lossy.lose_no_more()
            assert [one.message_id for one in queue.get_jobs_by_thread_id("t")] == TEXTS, lossy.lost
            assert queue.get_queue_status().delayed_count == len(TEXTS), lossy.lost
    assert number > 3


def test_only_two_round_trips_are_in_memory_however_many_messages_there_are(
    short: redis.Redis, prefix: str
) -> None:
    size = 10_000
    count = 20 * producing.BULK
    rows = [{"thread_id": f"t{number % 50}", "message": "x" * size} for number in range(count)]
    with AssistantMessageQueue(redis=short, queue_prefix=prefix, message_delay=60) as queue:
        queue.add_messages(rows[:10])
        tracemalloc.start()
        try:
            queue.add_messages(rows)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < count * size / 2, (
        "a call's words and its packed form, for two round trips of twenty"
    )


@pytest.mark.usefixtures("in_threes")
def test_one_connection_is_enough(redis_server: RedisServer, prefix: str) -> None:
    """A caller's client may have one connection: pipelining must release it for another step."""
    pool = redis.BlockingConnectionPool.from_url(
        redis_server.url, max_connections=1, timeout=PATIENCE_S
    )
    with (
        redis.Redis.from_pool(pool) as client,
        AssistantMessageQueue(redis=client, queue_prefix=prefix, message_delay=60) as queue,
    ):
        client.set(f"{prefix}:thread:t", "not written by the queue")
        queue.add_messages(
            {"thread_id": "t", "message": text, "message_id": text} for text in TEXTS
        )
        assert [one.message_id for one in queue.get_jobs_by_thread_id("t")] == TEXTS
