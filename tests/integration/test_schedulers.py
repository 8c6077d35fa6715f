"""The timer of a queue with many workers: each due thread wakes one, on time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.sweeping import SPARE_MS, SWEEP_LIMIT, TERM_MS, DueScan
from assistant_queue.worker.scheduler import SWEEP_INTERVAL_S, Scheduler
from tests.conftest import RedisServer
from tests.integration.conftest import wait_until


class Seen(Scheduler):
    """A scheduler that records its looks."""

    def __init__(self, namespace: Namespace, client: Any) -> None:
        super().__init__(namespace, client)
        self.looks: list[DueScan] = []

    def look(self, expected: str = "") -> DueScan:
        seen = super().look(expected)
        self.looks.append(seen)
        return seen

    @property
    def is_leader(self) -> bool:
        return bool(self.looks) and self.looks[-1].is_leader

    def die(self) -> None:
        """Without a word, as a killed process."""
        self._stop.set()


@pytest.fixture
def schedulers(one_redis: RedisServer, prefix: str) -> Iterator[list[Seen]]:
    client = redis.Redis.from_url(one_redis.url)
    made = [Seen(Namespace(prefix, SystemClock()), client) for _ in range(6)]
    for scheduler in made:
        scheduler.start()
    wait_until(lambda: all(len(scheduler.looks) > 2 for scheduler in made), "all have looked")
    yield made
    for scheduler in made:
        scheduler.stop()
    client.close()


def timer_of(schedulers: list[Seen]) -> Seen:
    (timer,) = [scheduler for scheduler in schedulers if scheduler.is_leader]
    return timer


def woken_by(scheduler: Seen) -> int:
    return sum(look.woken for look in scheduler.looks)


def test_a_due_thread_wakes_one_of_many_schedulers(
    schedulers: list[Seen], one_redis: RedisServer, prefix: str
) -> None:
    timer = timer_of(schedulers)
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.05
    ) as queue:
        for number in range(40):
            queue.add_message_to_thread(f"t{number}", "hello")
        wait_until(lambda: queue.get_queue().count == 40, "all are handed over")
    # A scheduler notes a look when Redis has answered it.
    wait_until(lambda: sum(woken_by(one) for one in schedulers) >= 40, "all looks are noted")
    handed = {scheduler: woken_by(scheduler) for scheduler in schedulers}
    assert handed[timer] == 40
    assert sum(handed.values()) == 40
    others = [scheduler for scheduler in schedulers if scheduler is not timer]
    assert all(
        look.next_due_in_ms is None or not look.is_leader
        for scheduler in others
        for look in scheduler.looks
    )


def test_the_others_look_once_a_second_whatever_is_added(
    schedulers: list[Seen], one_redis: RedisServer, prefix: str
) -> None:
    timer = timer_of(schedulers)
    others = [scheduler for scheduler in schedulers if scheduler is not timer]
    before = [len(scheduler.looks) for scheduler in others]
    began = time.monotonic()
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.02
    ) as queue:
        for number in range(50):
            queue.add_message_to_thread(f"t{number}", "hello")
            wait_until(
                lambda number=number: queue.get_queue().count == number + 1, "it is handed over"
            )
    seconds = time.monotonic() - began
    assert len(timer.looks) >= 50
    for scheduler, looks in zip(others, before, strict=True):
        assert len(scheduler.looks) - looks <= seconds / (SWEEP_INTERVAL_S * 0.8) + 2


def test_a_burst_is_handed_over_by_one_in_bounded_steps_oldest_first(
    schedulers: list[Seen], one_redis: RedisServer, prefix: str
) -> None:
    """Followers do not help a leader that falls behind: they would look at the same threads."""
    threads = [f"t{number:04d}" for number in range(3000)]
    client = redis.Redis.from_url(one_redis.url)
    with (
        client,
        AssistantMessageQueue(redis=client, queue_prefix=prefix, message_delay=0.5) as queue,
    ):
        key = Namespace(prefix, SystemClock()).keys.due
        queue.pause()
        queue.add_messages({"thread_id": thread, "message": "hello"} for thread in threads)
        due = client.zrange(key, 0, -1)
        wait_until(
            lambda: client.zcount(key, "-inf", time.time() * 1000) == len(threads),
            "all are overdue",
        )
        seen = {scheduler: len(scheduler.looks) for scheduler in schedulers}
        began = time.monotonic()
        queue.resume()
        wait_until(lambda: queue.get_queue().count >= len(threads), "all are handed over")
        seconds = time.monotonic() - began
        assert [job.args[0] for job in queue.get_queue().get_jobs(0, 500)] == [
            thread.decode() for thread in due[:500]
        ]
    assert all(look.overdue <= SWEEP_LIMIT for scheduler in schedulers for look in scheduler.looks)
    for scheduler in schedulers:  # on a busy machine another may have become the timer
        idle = [look for look in scheduler.looks[seen[scheduler] :] if not look.is_leader]
        assert len(idle) <= seconds / (SWEEP_INTERVAL_S * 0.8) + 2


def test_a_timer_that_stops_is_followed_at_once(schedulers: list[Seen]) -> None:
    timer = timer_of(schedulers)
    others = [scheduler for scheduler in schedulers if scheduler is not timer]
    timer.stop()
    wait_until(lambda: any(scheduler.is_leader for scheduler in others), "another is the leader")
    assert sum(scheduler.is_leader for scheduler in others) == 1


def test_a_timer_that_dies_is_replaced_and_its_threads_are_not_late_for_long(
    schedulers: list[Seen], one_redis: RedisServer, prefix: str
) -> None:
    timer = timer_of(schedulers)
    others = [scheduler for scheduler in schedulers if scheduler is not timer]
    timer.die()
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, message_delay=0.05
    ) as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        wait_until(lambda: queue.get_queue().count == 1, "somebody hands it over")
        assert queue.get_queue().job_ids == [receipt.job_id]
    wait_until(
        lambda: sum(scheduler.is_leader for scheduler in others) == 1, "another is the leader"
    )


def test_the_limits_fit_together() -> None:
    assert SWEEP_INTERVAL_S * 1000 < TERM_MS < 2000, (
        "a timer looks within its term, and a dead one is replaced within two seconds"
    )
    assert SPARE_MS < SWEEP_INTERVAL_S * 1000
