"""A scheduler's poll: the thread that is due and all others, in one round trip."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from assistant_queue.store import wakeups
from assistant_queue.store.calls import RECHECK_MS, Call
from assistant_queue.store.ops import sweeping
from assistant_queue.store.ops.sweeping import SWEEP_LIMIT, DueScan
from tests.contract.store_rig import Rig

START = 1_700_000_000_000


def look(store: Rig, expected: str = "", scheduler: str = "one") -> DueScan:
    return store.run(sweeping.watch(store.namespace, scheduler, expected))


def sent(store: Rig, expected: str) -> list[str]:
    """The names of the scripts that a look sends, each in its own round trip."""
    names = []
    operation = sweeping.watch(store.namespace, "one", expected)
    reply = None
    with suppress(StopIteration):
        while True:
            calls: Any = operation.send(reply)
            names += [call.script.name for call in ([calls] if isinstance(calls, Call) else calls)]
            reply = (
                store.store._send(calls)
                if isinstance(calls, Call)
                else store.store._send_many(calls)
            )
    return names


def test_a_poll_returns_the_next_due_thread_and_its_time(store: Rig) -> None:
    store.add("b", delay_s=7)
    store.add("a", delay_s=3)
    seen = look(store)
    assert (seen.next_thread, seen.next_due_in_ms, seen.is_leader) == ("a", 3000, True)


def test_the_due_thread_is_woken_in_the_same_round_trip(store: Rig) -> None:
    receipt = store.add(delay_s=1)
    store.add("later", delay_s=5)
    store.clock.advance(1)
    assert sent(store, "thread") == ["watch"]
    assert (store.queued(), list(store.scheduled())) == (
        [receipt.job_id],
        [store.thread_hash("later")["wake"]],
    )
    assert store.due()["thread"] == START + 1000 + RECHECK_MS
    assert store.status().waiting_count == 1, "its window is booked as over"
    store.check()


def test_the_same_poll_reports_the_other_threads(store: Rig) -> None:
    for thread, delay_s in (("thread", 1.0), ("as due", 1.0), ("later", 5.0)):
        store.add(thread, delay_s=delay_s)
    store.clock.advance(1)
    seen = look(store, "thread")
    assert seen == DueScan(
        overdue=2, woken=2, next_due_in_ms=RECHECK_MS, is_leader=True, next_thread="thread"
    ), "in case it is lost"
    assert sorted(str(store.pop()) for _ in range(2)) == ["as due", "thread"]


@pytest.mark.parametrize("expected", ["thread", "unknown"])
def test_a_thread_that_is_not_due_does_not_change(store: Rig, expected: str) -> None:
    store.add(delay_s=2)
    before = store.thread_hash()
    store.clock.advance(1)
    assert look(store, expected) == DueScan(
        overdue=0, woken=0, next_due_in_ms=1000, is_leader=True, next_thread="thread"
    )
    assert (store.thread_hash(), store.queued()) == (before, [])


def test_a_wake_up_is_handed_over_once_however_often_it_is_looked_for(store: Rig) -> None:
    store.add(delay_s=1)
    store.clock.advance(1)
    assert [look(store, "thread").woken for _ in range(3)] == [1, 0, 0]
    assert len(store.queued()) == len(store.jobs()) == 1


def test_a_follower_wakes_nothing(store: Rig) -> None:
    store.add(delay_s=1)
    look(store, scheduler="other")
    store.clock.advance(1)
    assert look(store, "thread") == DueScan(
        overdue=0, woken=0, next_due_in_ms=None, is_leader=False
    )
    assert store.queued() == []


def test_in_a_paused_queue_nothing_is_handed_over(store: Rig) -> None:
    store.add(delay_s=1)
    store.pause_queue()
    store.clock.advance(1)
    before = store.due()
    assert look(store, "thread") == DueScan(overdue=0, woken=0, next_due_in_ms=None, is_leader=True)
    assert (store.queued(), store.due()) == ([], before)


def test_more_than_a_look_is_bounded_to_are_left_for_the_next(store: Rig) -> None:
    for number in range(SWEEP_LIMIT + 5):
        store.add(f"t{number:03}", delay_s=1)
    store.clock.advance(1)
    assert [look(store, expected).woken for expected in ("t000", "")] == [SWEEP_LIMIT, 5]


def test_a_poll_continues_if_the_due_thread_cannot_be_woken(
    store: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """RQ's queue is not a list: RQ has to repair it, and other threads must not wait for that."""
    store.add(delay_s=1)
    store.client.set(wakeups.queue_key(store.prefix), "not a list")
    store.clock.advance(1)
    seen = look(store, "thread")
    assert (seen.overdue, seen.woken, seen.is_leader) == (1, 0, True)
    assert "inspect its keys" in caplog.text
    store.client.delete(wakeups.queue_key(store.prefix))
    assert look(store, "thread").woken == 1


def test_a_poll_quarantines_a_corrupt_thread_and_continues(store: Rig) -> None:
    store.add(delay_s=1)
    store.client.delete(store.keys.thread("thread"))
    store.client.set(store.keys.thread("thread"), "not a hash")
    store.clock.advance(1)
    look(store, "thread")
    store.clock.advance(2)
    look(store, "thread")
    assert store.pop() == "thread"


def test_a_name_that_is_no_text_is_not_waited_for(store: Rig) -> None:
    store.client.zadd(store.keys.due, {b"\xff": START + 1000})
    assert look(store).next_thread == ""
