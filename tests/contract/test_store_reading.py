"""Statuses of a message, a thread and the queue, in every state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from assistant_queue.core.progress import Progress, dump_result, moment
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import ErrorInfo, MessageStatus, QueueStatus, ThreadStatus, Timeline
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.statuses import read_result
from tests.contract.store_rig import ERROR, Rig

START = 1_700_000_000_000
WAITING = ErrorInfo(code="request_refused", message="429")


def claimed(store: Rig) -> Lease:
    lease = store.claim(batch_id="b1")
    store.save(lease, Phase.SENDING, Progress(attempts=1), mark=["m1"])
    return lease


def running(store: Rig) -> None:
    store.save(claimed(store), Phase.RUNNING, Progress(attempts=1, run_id="run_1"))


def retrying(store: Rig) -> None:
    store.postpone(
        claimed(store), ThreadState.RETRYING, 5, progress=Progress(attempts=1, error=WAITING)
    )


def held(store: Rig) -> None:
    store.postpone(
        claimed(store),
        ThreadState.HELD,
        35,
        phase=Phase.SENDING,
        progress=Progress(attempts=1, error=WAITING),
    )


def completed(store: Rig) -> None:
    store.finish(claimed(store))


def delivering(store: Rig) -> None:
    store.complete(claimed(store))


def failed(store: Rig) -> None:
    store.bury(claimed(store), progress=Progress(attempts=3, run_id="run_7"))


def discarded(store: Rig) -> None:
    failed(store)
    store.discard_failed("b1")


def returned(store: Rig) -> None:
    failed(store)
    store.retry_failed("b1")


def status(state: str, **fields: object) -> MessageStatus:
    return MessageStatus(message_id="m1", thread_id="thread", status=state, **fields)  # type: ignore[arg-type]


LIVES: dict[str, tuple[Callable[[Rig], object], MessageStatus]] = {
    "waiting": (lambda _: None, status("queued")),
    "frozen": (lambda store: store.claim(), status("queued")),
    "sending": (claimed, status("processing", batch_id="b1", attempts=1)),
    "running": (running, status("processing", batch_id="b1", attempts=1, run_id="run_1")),
    "retrying": (retrying, status("queued", batch_id="b1", attempts=1, error=WAITING)),
    "held": (held, status("processing", batch_id="b1", attempts=1, error=WAITING)),
    "delivering": (
        delivering,
        status(
            "completed",
            batch_id="b1",
            attempts=1,
            run_id="run_1",
            reply="hi",
            replies=("hi",),
            delivery="pending",
        ),
    ),
    "completed": (
        completed,
        status("completed", batch_id="b1", attempts=1, run_id="run_1", reply="hi", replies=("hi",)),
    ),
    "failed": (failed, status("failed", batch_id="b1", attempts=3, run_id="run_7", error=ERROR)),
    "discarded": (
        discarded,
        status("failed", batch_id="b1", attempts=3, run_id="run_7", error=ERROR),
    ),
    "returned": (returned, status("queued")),
}


@pytest.mark.parametrize("life", LIVES)
def test_a_message_can_be_asked_for_at_every_point_of_its_life(store: Rig, life: str) -> None:
    live, expected = LIVES[life]
    store.add(message_id="m1", delay_s=0)
    live(store)
    found = store.message("m1")
    assert found is not None
    assert replace(found, queued_at=None, due_at=None, timeline=Timeline()) == expected
    times = found.timeline
    assert (found.queued_at, times.queued_at) == (moment(START), moment(START))
    assert found.due_at == times.due_at
    assert found.due_at is not None
    is_claimed = life not in {"waiting", "returned"}
    assert (times.claimed_at is not None) == is_claimed
    assert (times.completed_at is not None) == (expected.status == "completed")


def test_an_unknown_message_is_none(store: Rig) -> None:
    assert store.message("nobody") is None


def test_a_message_that_was_given_back_waits_again(store: Rig) -> None:
    for number in (1, 2):
        store.add(message_id=f"m{number}", delay_s=0)
    lease = store.claim(batch_id="b1")
    store.trim(lease, 1)
    store.save(lease, mark=["m1"])
    first, second = store.message("m1"), store.message("m2")
    assert first is not None
    assert second is not None
    assert (first.status, second.status, second.batch_id) == ("processing", "queued", None)


def test_a_result_can_be_read_while_it_is_kept(store: Rig) -> None:
    store.add(message_id="m1", delay_s=0)
    lease = store.claim(batch_id="b1")
    result = store.result(lease)
    assert store.run(read_result(store.namespace, "b1")) is None
    store.finish(lease, result=result)
    found = store.run(read_result(store.namespace, "b1"))
    assert found is not None
    assert dump_result(found) == dump_result(result)
    times = (found.timeline.claimed_at, found.timeline.completed_at)
    assert times == (result.started_at, result.ended_at)


# --- a thread -------------------------------------------------------------------------------------


def thread(state: str, **fields: object) -> ThreadStatus:
    return ThreadStatus(thread_id="thread", state=state, **fields)  # type: ignore[arg-type]


THREADS: dict[str, tuple[Callable[[Rig], object], ThreadStatus]] = {
    "waiting": (lambda _: None, thread("pending", pending_count=1, due_at=moment(START))),
    "running": (
        running,
        thread("active", batch_id="b1", run_id="run_1", attempts=1, due_at=moment(START + 30_000)),
    ),
    "retrying": (
        retrying,
        thread("retrying", batch_id="b1", attempts=1, due_at=moment(START + 5000)),
    ),
    "held": (held, thread("held", batch_id="b1", attempts=1, due_at=moment(START + 35_000))),
    "completed": (completed, thread("idle")),
    "failed": (failed, thread("idle")),
    "returned": (returned, thread("pending", pending_count=1, due_at=moment(START))),
}


@pytest.mark.parametrize("life", THREADS)
def test_a_thread_can_be_asked_for_in_every_state(store: Rig, life: str) -> None:
    live, expected = THREADS[life]
    store.add(message_id="m1", delay_s=0)
    live(store)
    assert store.thread() == expected


def test_an_unknown_thread_is_idle(store: Rig) -> None:
    assert store.thread("nobody") == ThreadStatus(thread_id="nobody", state="idle")


def test_a_thread_counts_messages_that_wait_after_its_batch(store: Rig) -> None:
    store.add(delay_s=0)
    store.claim()
    for _ in range(3):
        store.add(delay_s=0)
    assert store.thread().pending_count == 3


# --- the queue ------------------------------------------------------------------------------------


def test_an_unused_queue_is_empty(store: Rig) -> None:
    assert store.status() == QueueStatus()


def test_the_passing_of_time_is_booked_before_a_status_is_read(store: Rig) -> None:
    for number in range(130):
        store.add(f"t{number}", delay_s=1)
    store.add("later", delay_s=60)
    assert store.status() == QueueStatus(delayed_count=131)
    store.clock.advance(1)
    assert store.status() == QueueStatus(waiting_count=130, delayed_count=1)
    store.check()


@pytest.mark.parametrize("state", [ThreadState.RETRYING, ThreadState.HELD])
def test_a_batch_that_fell_due_again_is_counted_as_what_it_is(
    store: Rig, state: ThreadState
) -> None:
    store.add(delay_s=0)
    store.postpone(store.claim(), state, wait_s=5)
    waits = state is ThreadState.RETRYING
    assert store.status() == (
        QueueStatus(delayed_count=1) if waits else QueueStatus(active_count=1)
    )
    store.clock.advance(5)
    assert store.status() == (
        QueueStatus(waiting_count=1) if waits else QueueStatus(active_count=1)
    )
    store.check()
