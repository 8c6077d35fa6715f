"""Windows that end early, and limits of one batch, with a real worker and every backend."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, InvalidArgument, Message, ThreadBusy
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until

HOUR_S = 3600.0


def answer(batch: Batch) -> str:
    """Return the stand-in's default reply, from a function."""
    return "You said: " + " | ".join(message.text for message in batch.messages)


@pytest.fixture(params=["responses", "assistants", "chat_completions", "function"])
def options(
    request: pytest.FixtureRequest,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
) -> dict[str, Any]:
    shared = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": HOUR_S,
    }
    chosen: dict[str, dict[str, Any]] = {
        "responses": {"model": "stand-in-model"},
        "assistants": {"assistant_id": provider.assistant_id},
        "chat_completions": {
            "model": "stand-in-model",
            "protocol": "chat_completions",
            "history": 0,
        },
        "function": {"backend": answer},
    }
    return shared | chosen[request.param]


@pytest.fixture
def queue(options: dict[str, Any]) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(**options) as made:
        yield made


def add(queue: AssistantMessageQueue, *texts: str, **fields: Any) -> list[str]:
    return [queue.add_message_to_thread("t", text, **fields).message_id for text in texts]


def replies_to(queue: AssistantMessageQueue, ids: list[str]) -> list[str | None]:
    return [queue.wait_for_reply(one, PATIENCE_S) for one in ids]


def test_a_flush_answers_what_waits(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    ids = add(queue, "one", "two")
    assert queue.flush("t")
    assert replies_to(queue, ids) == ["You said: one | two"] * 2
    assert not queue.flush("t")


def test_a_message_holds_the_window_for_what_belongs_to_it(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    ids = add(queue, "one", message_delay=0, hold=60)
    rows = [{"thread_id": "t", "message": "two", "message_delay": 0, "hold": 60}]
    ids.append(queue.add_messages(rows)[0].message_id)
    assert queue.get_thread_status("t").pending_count == 2
    assert queue.flush("t")
    assert replies_to(queue, ids) == ["You said: one | two"] * 2


@pytest.mark.parametrize("wrong", [-1, 61, "2", True])
def test_a_hold_that_is_none_is_refused(queue: AssistantMessageQueue, wrong: Any) -> None:
    with pytest.raises(InvalidArgument, match="hold must be a number of seconds from 0 to"):
        queue.add_message_to_thread("t", "one", hold=wrong)
    with pytest.raises(InvalidArgument, match="row 0: hold"):
        queue.add_messages([{"thread_id": "t", "message": "one", "hold": wrong}])
    assert queue.get_thread_status("t").pending_count == 0


def test_a_message_may_have_another_delay(queue: AssistantMessageQueue) -> None:
    queue.start_worker()
    ids = add(queue, "one") + add(queue, "now", message_delay=0)
    assert replies_to(queue, ids) == ["You said: one | now"] * 2
    rows = [{"thread_id": "rows", "message": "now", "message_delay": 0}]
    assert queue.wait_for_reply(queue.add_messages(rows)[0].message_id, PATIENCE_S)
    assert queue.ask("asked", "now", timeout=PATIENCE_S, message_delay=0) == "You said: now"


@pytest.mark.parametrize("delay", [-1, float("nan"), float("inf"), "soon", True, 1e10])
def test_a_delay_that_is_none_is_refused(one_redis: RedisServer, prefix: str, delay: Any) -> None:
    with AssistantMessageQueue(redis_url=one_redis.url, queue_prefix=prefix) as queue:
        with pytest.raises(InvalidArgument, match="message_delay must be a number of seconds"):
            queue.add_message_to_thread("t", "hi", message_delay=delay)
        with pytest.raises(InvalidArgument, match="row 0: message_delay must be"):
            queue.add_messages([{"thread_id": "t", "message": "hi", "message_delay": delay}])
        assert queue.get_thread_status("t").pending_count == 0


def test_a_word_answers_what_waits(options: dict[str, Any]) -> None:
    with AssistantMessageQueue(**options, flush_when=["go"]) as queue:
        queue.start_worker()
        ids = add(queue, "one", "two", "Go!")
        assert replies_to(queue, ids) == ["You said: one | two | Go!"] * 3


def test_a_batch_holds_so_many_characters(options: dict[str, Any]) -> None:
    with AssistantMessageQueue(**options, max_batch_chars=10) as queue:
        ids = add(queue, "a" * 4, "b" * 4, "c" * 30)
        queue.start_worker()
        replies = replies_to(queue, ids)
    assert replies == [
        "You said: aaaa | bbbb",
        "You said: aaaa | bbbb",
        f"You said: {'c' * 30}",
    ]


def test_each_author_gets_a_run(options: dict[str, Any]) -> None:
    with AssistantMessageQueue(**options, separate_authors=True) as queue:
        ids = [
            *add(queue, "one", author="Ann"),
            *add(queue, "two", author="Ben"),
            *add(queue, "three", author="Ben"),
        ]
        queue.flush("t")
        queue.start_worker()
        replies_to(queue, ids)
        batches = [status.batch_id for one in ids if (status := queue.get_message(one))]
    assert batches[0] != batches[1] == batches[2]


@pytest.mark.parametrize("way", ["says", "raises", "hangs"])
def test_a_function_says_which_authors_share_a_run(
    options: dict[str, Any], way: str, caplog: pytest.LogCaptureFixture
) -> None:
    staff = {"Ann", "Ben"}

    def may_share(one: str | None, other: str | None) -> bool:
        if way == "raises":
            raise KeyError(one)
        if way == "hangs":
            wait_until(lambda: released, "the test is over")
        return one in staff and other in staff

    released: list[bool] = []
    with AssistantMessageQueue(
        **options, separate_authors=may_share, callback_timeout=0.3
    ) as queue:
        ids = [add(queue, name, author=name)[0] for name in ("Ann", "Ben", "Eve")]
        queue.flush("t")
        queue.start_worker()
        replies_to(queue, ids)
        batches = [status.batch_id for one in ids if (status := queue.get_message(one))]
        released.append(True)
    assert len(set(batches)) == (2 if way == "says" else 3), "what must not be mixed is not"
    assert (way == "says") is not any("may_share" in line.message for line in caplog.records)


def test_flush_when_gets_the_message(options: dict[str, Any]) -> None:
    seen: list[Message] = []

    def rule(message: Message) -> bool:
        seen.append(message)
        return message.author == "Boss"

    with AssistantMessageQueue(**options, flush_when=rule) as queue:
        queue.start_worker()
        ids = add(queue, "one") + add(queue, "two", author="Boss")
        replies_to(queue, ids)
    assert [message.text for message in seen] == ["one", "two"]


def test_a_message_during_a_run_may_be_refused(one_redis: RedisServer, prefix: str) -> None:
    begun, let_go = threading.Event(), threading.Event()

    def slow(batch: Batch) -> str:
        begun.set()
        assert let_go.wait(PATIENCE_S)
        return answer(batch)

    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        backend=slow,
        message_delay=0,
        mid_run="reject",
    ) as queue:
        ids = add(queue, "one", "two")  # a window is no run
        queue.start_worker()
        assert begun.wait(PATIENCE_S)
        with pytest.raises(ThreadBusy):
            add(queue, "three")
        with pytest.raises(ThreadBusy):
            queue.add_messages([{"thread_id": "t", "message": "three"}])
        assert queue.get_thread_status("t").pending_count == 0
        ids += add(queue, "four", mid_run="collect")
        let_go.set()
        assert replies_to(queue, ids)[2] == "You said: four"
