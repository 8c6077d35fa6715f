"""The failed list: what a person sees, retries, discards."""

from __future__ import annotations

import pytest

from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.errors import BatchNotFound
from assistant_queue.store.ops.leases import Lease
from tests.contract.store_rig import ERROR, Rig

START = 1_700_000_000_000


def fail(store: Rig, thread: str = "thread", count: int = 1, **fields: object) -> Lease:
    for _ in range(count):
        store.add(thread, delay_s=0)
    lease = store.claim(thread)
    store.bury(lease, **fields)  # type: ignore[arg-type]
    return lease


def test_a_failed_batch_is_seen_with_everything_that_is_known(store: Rig) -> None:
    store.clock.advance(1)
    lease = fail(store, count=2, progress=Progress(attempts=3, run_id="run_9"), reason="attempts")
    (row,) = store.failed()
    assert (row.batch_id, row.thread_id, row.message_ids) == (
        lease.claimed.batch.id,
        "thread",
        ("message-1", "message-2"),
    )
    assert (row.reason, row.error, row.attempts, row.known_run_id) == (
        "attempts",
        ERROR,
        3,
        "run_9",
    )
    assert row.failed_at == moment(START + 1000)
    assert store.counters() == {
        "delayed": 0,
        "waiting": 0,
        "active": 0,
        "completed": 0,
        "failed": 2,
    }
    assert store.state() is ThreadState.IDLE
    store.check()


def test_a_failed_batch_stays_until_it_is_retried_or_discarded(store: Rig) -> None:
    lease = fail(store)
    batch_id = lease.claimed.batch.id
    assert store.client.pttl(store.keys.record(batch_id)) == -1
    assert store.client.pttl(store.keys.dead(batch_id)) == -1
    assert store.client.pttl(store.keys.message("message-1")) == -1


def test_the_thread_continues_after_a_failed_batch(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.add(delay_s=0)
    store.bury(lease)
    assert [message.id for message in store.claim().claimed.batch.messages] == ["message-2"]
    store.check()


def test_failed_batches_are_listed_oldest_first_and_by_pages(store: Rig) -> None:
    ids = []
    for number in range(5):
        ids.append(fail(store, f"t{number}").claimed.batch.id)
        store.clock.advance(1)
    assert [row.batch_id for row in store.failed()] == ids
    first = store.failed(limit=2)
    assert [row.batch_id for row in first] == ids[:2]
    assert [row.batch_id for row in store.failed(limit=2, after=ids[1])] == ids[2:4]
    assert [row.batch_id for row in store.failed(limit=2, after=ids[3])] == ids[4:]
    assert store.failed(after=ids[4]) == []
    with pytest.raises(BatchNotFound, match="nothing"):
        store.failed(after="nothing")


def test_nothing_failed_is_an_empty_list(store: Rig) -> None:
    assert store.failed() == []


# --- retry ----------------------------------------------------------------------------------------


def test_a_retried_batch_goes_to_the_head_of_its_thread_in_order_and_is_due_at_once(
    store: Rig,
) -> None:
    lease = fail(store, count=3)
    store.lose_wakeups()
    store.add(message_id="later", delay_s=60)
    store.retry_failed(lease.claimed.batch.id)
    assert store.pending() == ["message-1", "message-2", "message-3", "later"]
    assert store.pop() == "thread"
    again = store.claim()
    assert [message.id for message in again.claimed.batch.messages] == [
        "message-1",
        "message-2",
        "message-3",
        "later",
    ]
    assert (again.claimed.batch.id, again.claimed.progress) == ("batch-2", Progress())
    assert store.failed() == []
    store.check()


@pytest.mark.parametrize("state", [ThreadState.ACTIVE, ThreadState.RETRYING, ThreadState.HELD])
def test_a_retried_batch_waits_for_the_current_one(store: Rig, state: ThreadState) -> None:
    failed = fail(store)
    store.add(message_id="current", delay_s=0)
    current = store.claim()
    store.add(message_id="behind", delay_s=0)
    if state is not ThreadState.ACTIVE:
        store.postpone(current, state, wait_s=30)
    due = store.due()
    store.retry_failed(failed.claimed.batch.id)
    assert (store.state(), store.due()) == (state, due)
    assert (store.frozen(), store.pending()) == (["current"], ["message-1", "behind"])
    store.check()
    assert store.refused() == ("refused" if state is ThreadState.ACTIVE else "early")


@pytest.mark.parametrize("held", [True, False])
def test_a_retried_batch_knows_whether_the_provider_holds_its_text(store: Rig, held: bool) -> None:
    lease = fail(store, count=2, progress=Progress(attempts=3, already_in_thread=held))
    store.retry_failed(lease.claimed.batch.id)
    assert [message.held for message in store.claim().claimed.batch.messages] == [held, held]


def test_two_failed_batches_retried_newest_first_are_in_order(store: Rig) -> None:
    first, second = fail(store, count=2), fail(store, count=2)
    store.retry_failed(second.claimed.batch.id)
    store.retry_failed(first.claimed.batch.id)
    assert store.pending() == ["message-1", "message-2", "message-3", "message-4"]
    store.check()


def test_a_retried_batch_of_a_paused_thread_waits(store: Rig) -> None:
    lease = fail(store, pause=True)
    assert store.thread().paused
    store.retry_failed(lease.claimed.batch.id)
    assert (store.due(), store.refused()) == ({}, "paused")
    store.check()


def test_a_batch_that_fails_again_is_failed_again(store: Rig) -> None:
    lease = fail(store)
    for _ in range(3):
        store.retry_failed(lease.claimed.batch.id)
        lease = store.claim()
        store.bury(lease)
        assert [row.message_ids for row in store.failed()] == [("message-1",)]
        store.check()


# --- discard --------------------------------------------------------------------------------------


def test_a_discarded_batch_loses_its_text_and_stays_failed_for_a_while(store: Rig) -> None:
    store.add(delay_s=0, content="my secret")
    lease = store.claim(batch_id="b1")
    store.bury(lease)
    store.discard_failed("b1")
    assert "my secret" not in str(store.snapshot())
    assert store.failed() == []
    assert store.counters()["failed"] == 0
    status = store.message("message-1")
    assert status is not None
    assert (status.status, status.error) == ("failed", ERROR)
    for key in (store.keys.record("b1"), store.keys.message("message-1")):
        assert 0 < store.client.pttl(key) <= 3_600_000
    store.pop()
    store.check()
    store.check_idle()


@pytest.mark.parametrize("first", ["retry", "discard"])
def test_a_batch_that_was_decided_about_cannot_be_decided_about_again(
    store: Rig, first: str
) -> None:
    batch_id = fail(store).claimed.batch.id
    (store.retry_failed if first == "retry" else store.discard_failed)(batch_id)
    before = store.snapshot()
    for act in (store.retry_failed, store.discard_failed):
        with pytest.raises(BatchNotFound, match=batch_id):
            act(batch_id)
    assert store.snapshot() == before


def test_a_completed_batch_can_neither_be_retried_nor_discarded(store: Rig) -> None:
    store.add(delay_s=0)
    store.finish(store.claim(batch_id="b1"))
    for act in (store.retry_failed, store.discard_failed):
        with pytest.raises(BatchNotFound, match="never failed"):
            act("b1")


# --- what is left at the provider -----------------------------------------------------------------


def test_open_calls_are_passed_to_the_next_batch_until_one_completes(store: Rig) -> None:
    fail(store, open_calls=["call_1", "call_2"])
    store.add(delay_s=0)
    lease = store.claim()
    assert lease.claimed.open_calls == ("call_1", "call_2")
    store.bury(lease)
    store.add(delay_s=0)
    lease = store.claim()
    assert lease.claimed.open_calls == ("call_1", "call_2")
    store.finish(lease)
    store.add(delay_s=0)
    assert store.claim().claimed.open_calls == ()


def test_a_failed_batch_makes_the_conversations_end_unknown(store: Rig) -> None:
    store.add(delay_s=0)
    store.finish(store.claim(), anchor="item_1")
    fail(store)
    store.add(delay_s=0)
    assert store.claim().claimed.anchor is None
