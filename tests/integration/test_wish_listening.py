"""Wishes reach workers of each kind: by a notification, or by the next renewal of a lease."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue, Batch
from assistant_queue.testing.provider import Never, Reply, Turn
from assistant_queue.testing.provider.script import Outcome
from assistant_queue.worker import driver
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import Service, wait_until

LONG_LEASE_S = 600.0
"""Its renewal comes later than a test waits: only a notification is in time."""


def model(turn: Turn) -> Outcome:
    last = turn.user_texts[-1]
    return Never() if last.startswith("wait") else Reply(f"You said: {last}")


class Waiting:
    """A function that does not answer `wait`."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    async def __call__(self, batch: Batch) -> str:
        self.begun.set()
        if batch.messages[-1].text == "wait":
            await asyncio.Event().wait()
        return "done"


def is_cancelled(queue: AssistantMessageQueue, message_id: str) -> bool:
    found = queue.get_message(message_id)
    return found is not None and found.status == "cancelled"


def test_a_stop_and_an_interrupt_reach_a_worker_of_each_kind(service: Service) -> None:
    service.provider.model = model
    queue = service.start(lock_duration=LONG_LEASE_S)
    first = queue.add_message_to_thread("t", "wait 1").message_id
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run is known")
    assert queue.stop("t")
    wait_until(lambda: is_cancelled(queue, first), "it is stopped")
    second = queue.add_message_to_thread("t", "wait 2").message_id
    wait_until(lambda: queue.get_thread_status("t").run_id, "the next run is known")
    third = queue.add_message_to_thread("t", "hi", mid_run="interrupt").message_id
    assert queue.wait_for_reply(third, PATIENCE_S) == "You said: hi"
    assert queue.wait_for_reply(second, PATIENCE_S) == "You said: hi"


def test_a_worker_that_may_not_subscribe_stops_at_the_next_renewal(
    one_redis: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"deaf-{prefix}"
    with redis.Redis.from_url(one_redis.url) as admin:
        channels = ["resetchannels", "&rq:*", f"&{prefix}:[^w]*"]
        admin.execute_command("ACL", "SETUSER", user, "on", ">secret", "~*", "+@all", *channels)
    answer = Waiting()
    options: dict[str, Any] = {"queue_prefix": prefix, "message_delay": 0, "backend": answer}
    deaf = one_redis.url.replace("redis://", f"redis://{user}:secret@")
    with (
        AssistantMessageQueue(redis_url=one_redis.url, **options) as asking,
        AssistantMessageQueue(redis_url=deaf, lock_duration=3.0, **options) as working,
    ):
        working.start_worker()
        message_id = asking.add_message_to_thread("t", "wait").message_id
        assert answer.begun.wait(PATIENCE_S)
        wait_until(lambda: "NOPERM" in caplog.text, "it may not listen")
        assert asking.stop("t")
        wait_until(lambda: is_cancelled(asking, message_id), "it is stopped")


def test_a_wish_before_the_subscription_is_found(
    one_redis: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LISTEN_AFTER_S", 1.0)
    answer = Waiting()
    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        message_delay=0,
        backend=answer,
        lock_duration=LONG_LEASE_S,
    ) as queue:
        queue.start_worker()
        message_id = queue.add_message_to_thread("t", "wait").message_id
        assert answer.begun.wait(PATIENCE_S)
        assert queue.stop("t")
        wait_until(lambda: is_cancelled(queue, message_id), "it is stopped")


MANY = 1000


def test_a_thousand_interruptions_starve_no_message(one_redis: RedisServer, prefix: str) -> None:
    calls: Counter[str] = Counter()
    released = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def answer(batch: Batch) -> str:
        calls[batch.id] += 1
        loops.append(asyncio.get_running_loop())
        if batch.thread_id == "busy" and calls[batch.id] <= 3:
            await released.wait()
        return str(len(batch.messages))

    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=0, backend=answer
    ) as queue:
        queue.start_worker()
        busy = [
            queue.add_message_to_thread("busy", f"{number}", mid_run="interrupt").message_id
            for number in range(MANY)
        ]
        other = queue.add_message_to_thread("other", "hi").message_id
        assert queue.wait_for_reply(other, PATIENCE_S) == "1"
        loops[-1].call_soon_threadsafe(released.set)
        assert queue.wait_for_reply(busy[-1], PATIENCE_S)
        found = [queue.get_message(one) for one in busy]
        assert {one and one.status for one in found} == {"completed"}
    assert max(calls.values()) <= 4
