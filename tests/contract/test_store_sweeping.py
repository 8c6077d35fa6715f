"""No thread is forgotten: what is overdue is looked at again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from assistant_queue.clock import SystemClock
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.core.window import Window
from assistant_queue.errors import StoreError
from assistant_queue.models import Message
from assistant_queue.store import wakeups
from assistant_queue.store.calls import GUARD_MS, RECHECK_MS, Namespace
from assistant_queue.store.ops import control, producing, statuses, sweeping
from assistant_queue.store.ops.sweeping import Swept
from assistant_queue.store.rq_jobs import RqJob
from assistant_queue.worker.scheduler import Scheduler
from tests.conftest import RedisServer
from tests.contract.store_rig import Rig

START = 1_700_000_000_000


def test_nothing_is_overdue_in_an_empty_queue(store: Rig) -> None:
    assert store.sweep() == Swept(overdue=0, woken=0, next_due_in_ms=None)


def test_a_sweep_returns_the_next_due_time(store: Rig) -> None:
    store.add("a", delay_s=7)
    store.add("b", delay_s=3)
    assert store.sweep() == Swept(overdue=0, woken=0, next_due_in_ms=3000)
    store.clock.advance(4)
    assert store.sweep() == Swept(overdue=1, woken=1, next_due_in_ms=3000)


def test_a_thread_that_falls_due_is_handed_its_wake_up(store: Rig) -> None:
    receipt = store.add(delay_s=1)
    store.clock.advance(1)
    assert store.sweep().woken == 1
    assert (store.queued(), store.scheduled()) == ([receipt.job_id], {})
    assert store.due() == {"thread": START + 1000 + RECHECK_MS}


def test_a_wake_up_that_stands_in_the_queue_is_not_doubled(store: Rig) -> None:
    store.add(delay_s=0)
    for _ in range(5):
        store.clock.advance(1)
        assert store.sweep().overdue == 1
    assert len(store.queued()) == len(store.jobs()) == 1


def test_a_wake_up_that_was_lost_is_written_again(store: Rig) -> None:
    store.add(delay_s=0)
    store.lose_wakeups()
    assert store.sweep().overdue == 0, "somebody may be about to claim it"
    store.clock.advance(RECHECK_MS / 1000)
    assert store.sweep().woken == 1
    assert store.pop() == "thread"
    store.check()


def test_a_wake_up_that_was_taken_by_a_worker_that_died_is_written_again(store: Rig) -> None:
    store.add(delay_s=0)
    for _ in range(3):
        assert store.pop() == "thread"
        store.clock.advance(RECHECK_MS / 1000)
        assert store.sweep().woken == 1


@pytest.fixture
def short_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of three is a long one."""
    monkeypatch.setattr(sweeping, "_SEARCH", 2)


@pytest.mark.usefixtures("short_search")
def test_wake_ups_of_a_long_queue_are_not_written_again_however_long_they_wait(store: Rig) -> None:
    store.add("first", delay_s=0)
    for number in range(6):
        store.add(f"t{number}", delay_s=number % 2)
        store.clock.advance(0.01)
    thread, job = store.take() or ("", RqJob())
    assert thread == "first"
    store.claim("first", job=job, lease_s=1000)
    for _ in range(100):
        store.clock.advance(5)
        store.sweep()
    assert len(store.queued()) == 6
    assert [store.pop() for _ in range(6)] == ["t0", "t2", "t4", "t1", "t3", "t5"], (
        "the longest overdue first"
    )


@pytest.mark.usefixtures("short_search")
@pytest.mark.parametrize("delay_s", [0, 1])
def test_a_wake_up_that_was_lost_ahead_of_a_long_queue_is_written_again(
    store: Rig, delay_s: float
) -> None:
    for number in range(9):
        store.add(f"t{number}", delay_s=delay_s)
        store.clock.advance(0.01)
    store.clock.advance(max(delay_s - 0.09, 0))
    for _ in range(9):
        store.sweep()  # each at its own time
        store.clock.advance(0.01)
    lost = [store.pop(), store.pop()]
    thread, job = store.take() or ("", RqJob())
    assert thread == "t2"
    store.claim("t2", job=job)
    assert len(store.queued()) == 6
    store.clock.advance(RECHECK_MS / 1000 + 0.2)
    assert store.wake("t0") == store.wake("t1") == 1
    assert store.wake(*(f"t{number}" for number in range(3, 9))) == 0
    assert [store.pop() for _ in range(8)][-2:] == lost


@pytest.mark.usefixtures("short_search")
def test_without_records_of_taken_wake_ups_one_far_back_is_assumed_to_be_queued_for_a_while(
    store: Rig,
) -> None:
    store.client.rpush(wakeups.queue_key(store.prefix), "x", "y", "z")
    store.add(delay_s=1)
    store.clock.advance(1)
    assert store.sweep().woken == 1
    store.clock.advance(1.1)
    assert store.sweep() == Swept(overdue=1, woken=0, next_due_in_ms=None)
    store.clock.advance(60)
    assert store.sweep().woken == 1


def test_a_thread_is_looked_at_again_when_its_turn_can_have_come(store: Rig) -> None:
    """Not once a second: with a hundred thousand in the queue that would be all that Redis does."""
    for number in range(120):
        store.add(f"t{number:03}", delay_s=1)
    store.clock.advance(1)
    store.sweep(limit=120)
    assert store.due() == {
        f"t{number:03}": START + 1000 + RECHECK_MS + -(-number * 15 // 100) * 100
        for number in range(120)
    }
    store.add("at once", delay_s=0)
    assert store.due()["at once"] == START + 1000 + RECHECK_MS + 1800
    for _ in range(80):
        store.pop()
    store.clock.advance(5)
    store.wake("t119")
    assert store.due()["t119"] == START + 6000 + RECHECK_MS + 600, "it has moved up"


@pytest.mark.parametrize(
    ("pace_s", "each_ms"), [(0.002, 2), (0.008, 8), (5.0, 50)], ids=["fast", "slow", "slowest"]
)
def test_threads_that_stand_in_line_are_not_looked_at_before_their_turn(
    store: Rig, pace_s: float, each_ms: int
) -> None:
    """The pace is known from what is taken; a pause without wake-ups in line is none."""
    for number in range(100):
        store.add(f"t{number:03}", delay_s=0)
    store.clock.advance(60)
    for _ in range(80):
        store.clock.advance(pace_s)
        thread, job = store.take() or ("", RqJob())
        store.claim(thread, job=job, lease_s=1000)
    store.wake("t099")
    now = store.clock.ms
    waits = store.due()["t099"] - now - RECHECK_MS
    assert 19 * each_ms * 1.4 <= waits <= 19 * each_ms * 1.7 + 100
    while (taken := store.take()) is not None:
        store.claim(taken[0], job=taken[1], lease_s=1000)
    store.clock.advance(3600)
    store.add("after a quiet hour", delay_s=0)
    thread, job = store.take() or ("", RqJob())
    paced = store.hash(store.keys.counters)["pace"]
    store.claim(thread, job=job)
    assert store.hash(store.keys.counters)["pace"] == paced


@pytest.mark.parametrize("state", [ThreadState.RETRYING, ThreadState.HELD])
def test_a_batch_is_woken_after_its_wait_though_its_wake_up_was_lost(
    store: Rig, state: ThreadState
) -> None:
    store.add(delay_s=0)
    store.postpone(store.claim(), state, wait_s=5)
    store.lose_wakeups()
    store.clock.advance(4.999)
    assert store.sweep().overdue == 0
    store.clock.advance(0.001)
    assert store.sweep().woken == 1
    assert store.pop() == "thread"
    store.claim()


def test_a_dead_worker_is_noticed_a_second_after_its_lease_though_everything_of_rq_is_lost(
    store: Rig,
) -> None:
    store.add(delay_s=0)
    store.claim(lease_s=30)
    store.lose_wakeups()
    store.clock.advance(30 + GUARD_MS / 1000 - 0.001)
    assert store.sweep().overdue == 0
    store.clock.advance(0.001)
    assert store.sweep().woken == 1
    assert store.pop() == "thread"
    assert store.claim().claimed.deaths == 1


def test_a_worker_that_renews_is_left_alone(store: Rig) -> None:
    store.add(delay_s=0)
    store.pop()
    lease = store.claim(lease_s=30)
    for _ in range(10):
        store.clock.advance(10)
        store.renew(lease, lease_s=30)
        assert store.sweep().overdue == 0
        assert store.scheduler() == 0
    assert store.queued() == []


def test_a_sweep_is_bounded_and_takes_the_longest_overdue_first(store: Rig) -> None:
    for number in range(5):
        store.add(f"t{number}", delay_s=5 - number)
    store.lose_wakeups()
    store.clock.advance(10)
    assert store.sweep(limit=2) == Swept(overdue=2, woken=2, next_due_in_ms=None)
    assert [store.pop(), store.pop()] == ["t4", "t3"]
    assert store.sweep(limit=10).overdue == 3


def test_a_paused_queue_is_not_swept(store: Rig) -> None:
    store.add(delay_s=1)
    store.pause_queue()
    store.clock.advance(10)
    assert store.sweep() == Swept(overdue=0, woken=0, next_due_in_ms=None)
    assert store.wake() == 0
    assert store.queued() == []
    store.resume_queue()
    store.clock.advance(RECHECK_MS / 1000)
    assert store.sweep().woken == 1


def test_looking_at_a_thread_that_is_not_overdue_changes_nothing(store: Rig) -> None:
    store.add("a", delay_s=5)
    before = store.snapshot()
    assert store.wake("a", "nobody") == 0
    assert store.snapshot() == before


def test_two_sweepers_wake_a_thread_once(store: Rig) -> None:
    for number in range(3):
        store.add(f"t{number}", delay_s=1)
    store.clock.advance(1)
    assert store.sweep().woken == 3
    assert store.wake("t0", "t1", "t2") == 0
    assert len(store.queued()) == 3


def test_a_stray_entry_for_an_idle_thread_is_cleared_away(store: Rig) -> None:
    store.client.zadd(store.keys.due, {"ghost": START - 5000})
    assert store.sweep().woken == 0
    assert store.due() == {}


# --- callers that ask -----------------------------------------------------------------------------

ASKING: dict[str, Callable[[Rig], Any]] = {
    "a message that waits": lambda store: store.message("waits"),
    "a message in a batch": lambda store: store.message("batched"),
    "a thread": lambda store: store.thread("asked"),
}


def forgotten(store: Rig) -> None:
    """Three threads that no scheduler checks, and two that a caller reads."""
    store.add("asked", "batched", delay_s=0)
    store.claim("asked", batch_id="b", lease_s=1000)
    store.add("asked", "waits", delay_s=60)
    for number in range(3):
        store.add(f"forgotten-{number}", delay_s=1)
    store.lose_wakeups()


@pytest.mark.parametrize("what", ASKING)
def test_a_reading_call_wakes_threads_that_are_long_overdue(store: Rig, what: str) -> None:
    forgotten(store)
    ask = ASKING[what]
    store.clock.advance(2.9)
    before = ask(store)
    assert store.queued() == [], "they are not overdue for long enough"
    store.clock.advance(0.2)
    assert ask(store) == before
    assert len(store.queued()) == 2, "at most two"
    assert {store.pop(), store.pop()} <= {"forgotten-0", "forgotten-1", "forgotten-2"}
    ask(store)
    assert len(store.queued()) == 1
    store.check()


@pytest.mark.parametrize("what", ASKING)
def test_looking_for_others_costs_no_round_trip(
    store: Rig, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten(store)
    trips: list[str] = []
    single = store.store._send
    many = store.store._send_many
    monkeypatch.setattr(store.store, "_send", lambda call: (trips.append("one"), single(call))[1])
    monkeypatch.setattr(
        store.store, "_send_many", lambda calls: (trips.append("many"), many(calls))[1]
    )
    ASKING[what](store)
    assert len(trips) == (1 if what == "a thread" else 2)


def test_a_caller_is_answered_though_it_may_not_look_and_what_it_finds_is_broken(
    store: Rig,
) -> None:
    forgotten(store)
    store.client.zadd(store.keys.due, {b"\xff": 0})
    before = store.message("waits")
    assert before is not None
    assert b"\xff" not in store.client.zrange(store.keys.due, 0, -1), "no name of ours"
    store.client.set(store.keys.due, "no sorted set")
    assert store.message("waits") == before
    assert store.thread("asked").pending_count == 1
    store.client.set(store.keys.thread("asked"), "no hash")
    with pytest.raises(StoreError):
        store.thread("asked")


@pytest.mark.parametrize("protocol", [2, 3])
def test_overdue_threads_are_found_over_either_protocol(
    redis_server: RedisServer, prefix: str, protocol: int
) -> None:
    with redis.Redis.from_url(
        redis_server.url, protocol=protocol, decode_responses=protocol == 3
    ) as client:
        store = Rig(client, prefix)
        forgotten(store)
        store.clock.advance(10)
        store.thread("asked")
        assert len(store.queued()) == 2


def test_what_is_not_overdue_by_the_clock_of_redis_is_left_alone(store: Rig) -> None:
    """As in production: no clock is passed, Redis' own counts."""
    namespace = Namespace(store.prefix, SystemClock())
    store.run(
        producing.add(
            namespace,
            "t",
            Message(id="m", content="hello"),
            producing.AddRules(window=Window(delay_ms=60_000)),
        )
    )
    store.run(statuses.read_thread(namespace, "t"))
    assert store.queued() == []
    store.client.zadd(store.keys.due, {"t": 1000})
    store.run(statuses.read_thread(namespace, "t"))
    assert len(store.queued()) == 1


# --- a clock that is set back ---------------------------------------------------------------------

HOUR = 3600


def set_back(store: Rig, seconds: float = HOUR) -> int:
    """Set Redis' clock back and rewind; return the number of threads that were not due then."""
    store.clock.ms -= round(seconds * 1000)
    moved = store.run(sweeping.rewind(store.namespace))
    assert store.run(sweeping.rewind(store.namespace)) == 0, "it is done once"
    store.check()
    return moved


def times(store: Rig, thread: str = "thread") -> dict[str, int]:
    """From now, in ms."""
    fields = store.thread_hash(thread)
    names = ("first", "claimed", "queued", "due", "own_due", "until")
    return {name: int(fields[name]) - store.clock.ms for name in names if name in fields}


def test_a_window_that_is_open_when_the_clock_is_set_back_ends_as_if_it_had_not_been(
    store: Rig,
) -> None:
    receipt = store.add(delay_s=5)
    store.clock.advance(2)
    assert set_back(store) == 1
    assert times(store) == {"first": 0, "due": 5000, "own_due": 5000}, (
        "at most what the window is long"
    )
    assert store.scheduled() == {receipt.job_id: store.clock.ms // 1000 + 5}
    store.clock.advance(5)
    assert store.sweep().woken == 1
    assert store.pop() == "thread"
    store.finish(store.claim())
    store.check_idle()


def test_a_window_that_was_over_when_the_clock_is_set_back_is_not_opened_again(
    store: Rig,
) -> None:
    store.add(delay_s=5)
    store.clock.advance(6)
    store.add(message_id="late", delay_s=0)  # counts the window as over
    assert set_back(store) == 0
    assert times(store)["due"] == times(store)["own_due"] == 0
    assert store.pop() == "thread"
    store.finish(store.claim())
    store.check_idle()


@pytest.mark.parametrize("is_known", [False, True])
@pytest.mark.parametrize("is_renewed", [False, True])
def test_a_dead_holders_lease_lapses_and_a_live_ones_does_not_although_the_clock_is_set_back(
    store: Rig, is_renewed: bool, is_known: bool
) -> None:
    store.add("thread", "m", delay_s=0)
    lease = store.claim(lease_s=30)
    store.clock.advance(10)
    store.renew(lease)
    store.clock.ms -= HOUR * 1000
    if is_renewed:
        assert store.renew(lease) is not None
    store.run(sweeping.rewind(store.namespace, HOUR * 1000 if is_known else 0))
    assert times(store)["until"] == 30_000
    assert store.refused() == "refused"
    store.clock.advance(31)
    assert store.sweep().woken == 1
    store.pop()
    assert store.claim().claimed.batch.id == lease.claimed.batch.id
    store.check()


@pytest.mark.parametrize("state", [ThreadState.RETRYING, ThreadState.HELD])
def test_a_batch_that_waits_when_the_clock_is_set_back_is_tried_again(
    store: Rig, state: ThreadState
) -> None:
    store.add("thread", "m", delay_s=0)
    store.postpone(store.claim(), state, 7)
    set_back(store)
    assert times(store)["due"] == 7000
    store.clock.advance(7)
    assert store.sweep().woken == 1
    store.finish(store.claim())
    store.pop()
    store.check()


def test_what_is_due_when_the_clock_is_set_back_is_handed_over_and_a_lost_wake_up_is_written_again(
    store: Rig,
) -> None:
    store.add(delay_s=0)
    store.lose_wakeups()
    store.clock.ms -= HOUR * 1000
    store.clock.advance(0.001)
    store.run(sweeping.rewind(store.namespace))
    assert store.pop() == "thread"
    store.finish(store.claim())
    store.check_idle()


def test_messages_that_come_after_the_clock_was_set_back_and_before_that_was_noticed(
    store: Rig,
) -> None:
    store.add("old", "a", delay_s=5)
    store.clock.ms -= HOUR * 1000
    store.add("old", "b", delay_s=5)
    store.add("new", "c", delay_s=5)
    before = times(store, "new")
    store.run(sweeping.rewind(store.namespace))
    assert times(store, "new") == before
    assert times(store, "old")["due"] == 5000
    store.clock.advance(5)
    assert store.sweep().woken == 2
    assert store.claim("old").claimed.batch.messages[1].id == "b"
    store.check()


def test_a_thread_that_was_paused_when_the_clock_was_set_back_continues_when_resumed(
    store: Rig,
) -> None:
    store.add(delay_s=5)
    store.run(control.pause_thread(store.namespace, "thread"))
    assert set_back(store) == 0
    store.run(control.resume_thread(store.namespace, "thread"))
    assert times(store)["due"] == 5000
    store.clock.advance(5)
    assert store.sweep().woken == 1
    store.check()


def test_a_clock_that_advances_moves_nothing(store: Rig) -> None:
    store.add("a", delay_s=5)
    store.add("b", delay_s=0)
    store.claim("b")
    store.add("b", delay_s=9)
    store.clock.advance(3)
    before = store.snapshot()
    assert store.run(sweeping.rewind(store.namespace)) == 0
    assert store.snapshot() == before


@pytest.mark.parametrize("back_s", [0.5, HOUR])
def test_a_scheduler_notices_that_the_clock_was_set_back(
    store: Rig, redis_client: Any, back_s: float, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler(store.namespace, redis_client)
    store.add(delay_s=5)
    scheduler.look()
    store.clock.ms -= round(back_s * 1000)
    scheduler.look()
    is_noticed = (
        "the clock of Redis was set back by 3600.0 s; the times of 1 threads were moved"
        in caplog.text
    )
    assert is_noticed is (back_s == HOUR)
    assert times(store)["due"] <= 5000 if is_noticed else times(store)["due"] == 5500
