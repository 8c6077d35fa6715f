"""From the claim to the end of a batch: the frozen messages, the lease, and the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import StoreError
from assistant_queue.store.calls import GUARD_MS, RECHECK_MS, each_or_error, plain
from assistant_queue.store.ops import leases as lease_ops
from assistant_queue.store.ops.leases import EARLY_MS, NoLease
from assistant_queue.store.quarantine import MAX_REPAIRS
from tests.conftest import PATIENCE_S
from tests.contract.store_rig import KEEP, Rig, seconds_up, text

START = 1_700_000_000_000
RETRYING = ThreadState.RETRYING
HELD = ThreadState.HELD


def add_many(store: Rig, count: int, **fields: object) -> list[str]:
    return [store.add(delay_s=0, **fields).message_id for _ in range(count)]  # type: ignore[arg-type]


# --- claim ----------------------------------------------------------------------------------------


def test_a_claim_freezes_what_waits_in_order(store: Rig) -> None:
    ids = add_many(store, 3, instructions="be kind", author="Ann", metadata={"k": "v"})
    lease = store.claim(token="mine", batch_id="b1")
    batch = lease.claimed.batch
    assert [message.id for message in batch.messages] == ids
    assert (
        batch.messages[0].instructions,
        batch.messages[0].author,
        batch.messages[0].metadata,
    ) == ("be kind", "Ann", {"k": "v"})
    assert (batch.id, batch.attempts, lease.claimed.phase, lease.claimed.deaths) == (
        "b1",
        1,
        Phase.FROZEN,
        0,
    )
    assert (lease.now_ms, lease.until_ms, lease.claimed.claimed_ms) == (
        START,
        START + 30_000,
        START,
    )
    assert (store.pending(), store.frozen()) == ([], ids)
    assert store.counters() == {
        "delayed": 0,
        "waiting": 0,
        "active": 3,
        "completed": 0,
        "failed": 0,
    }


def test_a_second_worker_is_refused_until_the_lease_lapses(store: Rig) -> None:
    add_many(store, 1)
    store.claim(lease_s=30)
    refusal = store.try_claim()
    assert refusal == NoLease(reason="refused", until_ms=START + 30_000)
    store.clock.advance(29.999)
    assert store.refused() == "refused"
    store.clock.advance(0.001)
    assert store.claim().claimed.deaths == 1


def test_a_batch_of_a_dead_worker_comes_with_what_was_known_and_without_latecomers(
    store: Rig,
) -> None:
    ids = add_many(store, 2)
    lease = store.claim(batch_id="b1")
    progress = Progress(attempts=1, run_id="run_1", outputs={"c": "o"})
    store.save(lease, Phase.RUNNING, progress)
    add_many(store, 1)
    store.clock.advance(31)
    again = store.claim(batch_id="b2")
    assert [message.id for message in again.claimed.batch.messages] == ids
    assert (again.claimed.batch.id, again.claimed.phase, again.claimed.progress) == (
        "b1",
        Phase.RUNNING,
        progress,
    )
    assert (again.claimed.claimed_ms, again.claimed.batch.attempts) == (START, 2)


def test_no_more_is_frozen_than_may_be_taken(store: Rig) -> None:
    ids = add_many(store, 5)
    lease = store.claim(max_take=2)
    assert (store.frozen(), store.pending()) == (ids[:2], ids[2:])
    assert store.counters() == {
        "delayed": 0,
        "waiting": 3,
        "active": 2,
        "completed": 0,
        "failed": 0,
    }
    store.check()
    assert store.finish(lease)
    assert [message.id for message in store.claim(max_take=3).claimed.batch.messages] == ids[2:]
    store.check()


def test_a_claim_of_all_messages_leaves_no_list(store: Rig) -> None:
    add_many(store, 2)
    store.claim(max_take=2)
    assert not store.client.exists(store.keys.pending("thread"))


def test_nothing_waits_for_an_idle_thread(store: Rig) -> None:
    assert store.try_claim() == NoLease(reason="idle")
    assert store.all_keys() == []


def test_a_wake_up_that_is_a_little_early_waits_in_place(store: Rig) -> None:
    store.add(delay_s=2)
    store.clock.advance(1)
    before = store.snapshot()
    refusal = store.try_claim()
    assert isinstance(refusal, NoLease)
    assert (refusal.reason, refusal.until_ms, refusal.wait_ms) == ("early", START + 2000, EARLY_MS)
    assert store.snapshot() == before


def test_a_wake_up_that_is_much_too_early_writes_the_next_one(store: Rig) -> None:
    receipt = store.add(delay_s=2)
    store.clock.advance(0.5)
    store.lose_wakeups()  # it was taken from the queue
    assert store.refused() == "early"
    (job_id,) = store.scheduled()
    assert job_id != receipt.job_id
    assert store.scheduled()[job_id] == seconds_up(START + 2000)
    store.check()


@pytest.mark.parametrize("state", [RETRYING, HELD])
def test_a_batch_that_waits_is_not_claimed_before_its_time(store: Rig, state: ThreadState) -> None:
    add_many(store, 1)
    store.postpone(store.claim(), state, wait_s=10)
    assert store.refused() == "early"
    store.clock.advance(10)
    assert store.claim().claimed.deaths == 0


def test_a_claim_brings_the_conversation(store: Rig) -> None:
    add_many(store, 1)
    assert store.claim().claimed.conversation_id is None
    store.clock.advance(31)
    assert store.run(lease_ops.set_conversation(store.namespace, "thread", "conv_1")) == (
        "conv_1",
        None,
    )
    assert store.run(lease_ops.set_conversation(store.namespace, "thread", "conv_2")) == (
        "conv_1",
        None,
    )
    lease = store.claim()
    assert (lease.claimed.conversation_id, lease.claimed.anchor, lease.claimed.open_calls) == (
        "conv_1",
        None,
        (),
    )
    store.finish(lease, anchor="item_7")
    add_many(store, 1)
    assert store.claim().claimed.anchor == "item_7"
    assert store.run(lease_ops.set_conversation(store.namespace, "thread", "conv_3")) == (
        "conv_1",
        "item_7",
    )


# --- the whole queue, or a thread, is paused ------------------------------------------------------


def test_a_paused_queue_takes_messages_and_gives_none(store: Rig) -> None:
    store.pause_queue()
    add_many(store, 1)
    assert store.refused() == "paused"
    store.resume_queue()
    store.claim()


def test_a_paused_queue_lets_its_holders_finish(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    store.pause_queue()
    assert store.renew(lease)
    store.save(lease)
    assert not store.finish(lease)


# --- progress, deaths -----------------------------------------------------------------------------


def test_deaths_in_a_phase_are_counted_until_there_is_progress(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    for deaths in (1, 2):
        store.clock.advance(31)
        lease = store.claim()
        assert lease.claimed.deaths == deaths
    store.save(lease, Phase.SENDING, Progress(attempts=1))
    store.clock.advance(31)
    lease = store.claim()
    assert lease.claimed.deaths == 1
    store.save(lease, Phase.SENDING, Progress(attempts=1))
    store.clock.advance(31)
    assert store.claim().claimed.deaths == 2, "the same again is no progress"


@pytest.mark.parametrize("state", [RETRYING, HELD])
def test_giving_a_thread_back_in_good_order_ends_the_count_of_deaths(
    store: Rig, state: ThreadState
) -> None:
    add_many(store, 1)
    store.claim()
    store.clock.advance(31)
    store.postpone(store.claim(), state, wait_s=0)
    assert store.claim().claimed.deaths == 0


def test_deaths_of_one_batch_are_not_the_next_ones(store: Rig) -> None:
    add_many(store, 1)
    store.claim()
    store.clock.advance(31)
    lease = store.claim()
    add_many(store, 1)
    store.finish(lease)
    assert store.claim().claimed.deaths == 0


# --- the guard ------------------------------------------------------------------------------------


def test_a_claim_schedules_a_guard_after_the_end_of_the_lease(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim(lease_s=30)
    assert store.scheduled() == {lease.guard_id: seconds_up(START + 30_000 + GUARD_MS)}
    assert store.due() == {"thread": START + 30_000 + GUARD_MS}
    assert store.jobs() == {lease.guard_id: "thread"}


def test_a_wake_up_that_is_still_to_come_becomes_the_guard(store: Rig) -> None:
    receipt = store.add(delay_s=1)
    store.clock.advance(1.2)  # a sweeper was faster than RQ's scheduler
    lease = store.claim()
    assert lease.guard_id == receipt.job_id
    assert len(store.jobs()) == 1


def test_renewing_moves_the_lease_and_its_guard(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim(lease_s=30)
    store.clock.advance(10)
    renewed = store.renew(lease, lease_s=30)
    assert renewed == lease_ops.Renewed(START + 40_000, lease.guard_id)
    assert store.scheduled() == {lease.guard_id: seconds_up(START + 40_000 + GUARD_MS)}
    assert store.due() == {"thread": START + 40_000 + GUARD_MS}
    store.clock.advance(29.999)
    assert store.refused() == "refused"


def test_a_guard_that_went_off_is_replaced_by_the_next_renewal(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim(lease_s=30)
    store.clock.advance(31)
    assert store.scheduler() == 1
    assert store.pop() == "thread"
    renewed = store.renew(lease)
    assert renewed is not None
    assert renewed.guard_id != lease.guard_id
    assert set(store.scheduled()) == {renewed.guard_id}
    store.finish(lease, guard_id=renewed.guard_id)
    assert store.jobs() == {}


def test_each_of_many_renewals_has_its_own_result_however_many_are_corrupt(store: Rig) -> None:
    threads = [f"t{number}" for number in range(MAX_REPAIRS + 4)]
    leases = []
    for thread in threads:
        store.add(thread, delay_s=0)
        leases.append(store.claim(thread))
    corrupt = threads[1:-2]
    lost = threads[-2]
    for thread in corrupt:
        store.client.hset(store.namespace.keys.thread(thread), "n", "no number")
    store.client.hset(store.namespace.keys.thread(lost), "token", "another's")
    store.clock.advance(10)
    renewed = store.run(lease_ops.renew_all(store.namespace, leases, 30))
    held = [
        thread
        for thread, one in zip(threads, renewed, strict=True)
        if isinstance(one, lease_ops.Renewed)
    ]
    assert held == [threads[0], threads[-1]]
    assert [
        one for one in renewed if one is not None and not isinstance(one, lease_ops.Renewed)
    ] == []
    assert store.client.zcard(store.namespace.keys.quarantine) == len(corrupt)
    assert {store.thread(thread).state for thread in held} == {"active"}


def test_of_many_commands_those_that_redis_refuses_stand_as_errors_in_their_places(
    store: Rig,
) -> None:
    key = store.namespace.keys.done("nothing")
    store.client.set(key, "text")
    replies = store.run(each_or_error([plain("GET", key), plain("LLEN", key), plain("GET", key)]))
    assert [text(reply) for reply in (replies[0], replies[2])] == ["text", "text"]
    assert type(replies[1]) is StoreError
    assert "WRONGTYPE" in str(replies[1])


def test_the_end_of_the_batch_takes_the_guard_away(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    store.finish(store.claim())
    store.check_idle()


def test_a_guard_that_went_off_after_the_end_finds_nothing_to_do(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim()
    store.clock.advance(32)
    store.scheduler()
    store.finish(lease)
    assert store.pop() is None
    assert store.refused() == "idle"
    store.check_idle()


# --- finish ---------------------------------------------------------------------------------------


def test_a_finished_thread_owns_no_key_but_its_conversation_and_its_journal(store: Rig) -> None:
    store.run(lease_ops.set_conversation(store.namespace, "thread", "conv_1"))
    ids = add_many(store, 2)
    store.pop()
    lease = store.claim()
    store.save(lease, mark=ids)
    assert not store.finish(lease)
    store.check_idle()
    kinds = {key.removeprefix(f"{store.prefix}:").partition(":")[0] for key in store.all_keys()}
    assert kinds == {"conversation", "counters", "metrics", "message", "batch", "journal"}
    assert store.counters() == {
        "delayed": 0,
        "waiting": 0,
        "active": 0,
        "completed": 2,
        "failed": 0,
    }


def test_what_is_kept_of_a_finished_batch_expires_together(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim(batch_id="b1")
    store.finish(lease, rules=replace(KEEP, result_ttl_s=60))
    for key in (store.keys.record("b1"), store.keys.message("message-1")):
        assert 59_000 < store.client.pttl(key) <= 60_000, key


@pytest.mark.parametrize("keep", [True, False])
def test_the_text_goes_at_completion_unless_it_is_to_be_kept(store: Rig, keep: bool) -> None:
    store.add(delay_s=0, content="my secret")
    store.finish(store.claim(), rules=replace(KEEP, keep_text=keep))
    kept = [
        key
        for key in store.all_keys()
        if store.client.type(key) == b"hash" and "my secret" in str(store.hash(key))
    ]
    assert kept == ([store.keys.message("message-1")] if keep else [])


def test_a_finished_thread_with_messages_is_woken_by_its_own_guard(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim()
    add_many(store, 1)
    assert store.finish(lease)
    assert (store.queued(), store.scheduled()) == ([lease.guard_id], {})
    assert store.due() == {"thread": START + RECHECK_MS}
    assert store.pop() == "thread"
    store.finish(store.claim())
    store.check_idle()


def test_an_unknown_end_of_the_conversation_is_not_remembered(store: Rig) -> None:
    for anchor in ("item_1", None):
        add_many(store, 1)
        store.finish(store.claim(), anchor=anchor)
    add_many(store, 1)
    assert store.claim().claimed.anchor is None


def test_waiters_are_notified_of_the_batch(store: Rig) -> None:
    with store.client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(store.keys.done("thread"))
        channel.get_message(timeout=PATIENCE_S)
        add_many(store, 1)
        store.finish(store.claim(batch_id="b1"))
        add_many(store, 1)
        store.bury(store.claim(batch_id="b2"))
        heard = [channel.get_message(timeout=PATIENCE_S) for _ in range(2)]
    assert [text(message["data"]) for message in heard if message] == ["b1", "b2"]


def test_a_due_time_that_is_earlier_than_all_others_is_published(store: Rig) -> None:
    with store.client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(store.keys.tick)
        channel.get_message(timeout=PATIENCE_S)
        store.add("a", delay_s=50)
        store.add("b", delay_s=60)
        store.add("c", delay_s=40)
        heard = [channel.get_message(timeout=PATIENCE_S) for _ in range(2)]
        assert channel.get_message() is None
    assert [int(text(message["data"])) for message in heard if message] == [
        START + 50_000,
        START + 40_000,
    ]


# --- delivery -------------------------------------------------------------------------------------


def test_a_completed_batch_keeps_its_lease_until_it_is_delivered(store: Rig) -> None:
    add_many(store, 2)
    lease = store.claim()
    progress = store.complete(lease)
    assert store.counters() == {
        "delayed": 0,
        "waiting": 0,
        "active": 0,
        "completed": 2,
        "failed": 0,
    }
    assert store.refused() == "refused"
    assert store.frozen() == []
    store.check()
    store.clock.advance(31)
    again = store.claim()
    assert (again.claimed.phase, again.claimed.progress.result) == (
        Phase.DELIVERING,
        progress.result,
    )
    assert store.counters()["active"] == 0
    store.finish(again, result=progress.result)
    assert store.counters()["completed"] == 2
    store.check()


def test_a_delivery_that_is_tried_again_is_counted_nowhere_twice(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    progress = store.complete(lease)
    add_many(store, 1)
    store.postpone(lease, RETRYING, wait_s=5, phase=Phase.DELIVERING, progress=progress)
    assert store.counters() == {
        "delayed": 1,
        "waiting": 0,
        "active": 0,
        "completed": 1,
        "failed": 0,
    }
    store.check()
    store.clock.advance(5)
    store.sweep()
    store.check()
    again = store.claim()
    assert store.finish(again, result=progress.result)
    store.check()
    assert store.counters() == {
        "delayed": 0,
        "waiting": 1,
        "active": 0,
        "completed": 1,
        "failed": 0,
    }


# --- trim -----------------------------------------------------------------------------------------


def test_the_tail_of_a_batch_goes_back_in_front_of_what_came_since(store: Rig) -> None:
    ids = add_many(store, 4)
    lease = store.claim()
    late = add_many(store, 1)
    store.trim(lease, 1)
    assert (store.frozen(), store.pending()) == (ids[:1], ids[1:] + late)
    assert store.counters() == {
        "delayed": 0,
        "waiting": 4,
        "active": 1,
        "completed": 0,
        "failed": 0,
    }
    store.check()
    kept = replace(store.result(lease), message_ids=(ids[0],), messages_processed=1)
    assert store.finish(lease, result=kept)
    assert [message.id for message in store.claim().claimed.batch.messages] == ids[1:] + late
    store.check()


@pytest.mark.parametrize("after_run", ["immediate", "window"])
def test_trimming_keeps_the_counters_whatever_waits_after_the_batch(
    store: Rig, after_run: str
) -> None:
    add_many(store, 3)
    lease = store.claim()
    store.add(delay_s=60, after_run=after_run)
    store.trim(lease, 1)
    store.check()
    kept = replace(store.result(lease), message_ids=("message-1",), messages_processed=1)
    assert store.finish(lease, result=kept)
    store.check()
    assert store.counters() == {
        "delayed": 0,
        "waiting": 3,
        "active": 0,
        "completed": 1,
        "failed": 0,
    }


def test_trimming_to_more_than_there_is_changes_nothing(store: Rig) -> None:
    add_many(store, 2)
    lease = store.claim()
    before = store.snapshot()
    store.trim(lease, 2)
    store.client.hdel(store.keys.thread("thread"), "number")  # of the write
    assert store.snapshot() == before


def test_sequence_numbers_locate_a_waiting_message(store: Rig) -> None:
    def places() -> list[int]:
        head = int(store.thread_hash()["head"])
        return [
            int(store.hash(store.keys.message(message_id))["seq"]) - head
            for message_id in store.pending()
        ]

    add_many(store, 5)
    assert places() == [0, 1, 2, 3, 4]
    lease = store.claim(max_take=4)
    assert places() == [0]
    store.trim(lease, 2)
    assert places() == [0, 1, 2]
    add_many(store, 1)
    assert places() == [0, 1, 2, 3]
    store.bury(lease)
    assert places() == [0, 1, 2, 3]


# --- postpone -------------------------------------------------------------------------------------


def test_a_retried_batch_is_delayed_with_all_messages_after_it(store: Rig) -> None:
    add_many(store, 2)
    lease = store.claim()
    add_many(store, 1)
    store.postpone(lease, RETRYING, wait_s=5)
    assert store.counters() == {
        "delayed": 3,
        "waiting": 0,
        "active": 0,
        "completed": 0,
        "failed": 0,
    }
    assert store.due() == {"thread": START + 5000}
    assert store.scheduled()[lease.guard_id] == seconds_up(START + 5000)
    store.check()


def test_a_batch_that_is_held_stays_active(store: Rig) -> None:
    add_many(store, 2)
    lease = store.claim()
    store.postpone(lease, HELD, wait_s=35)
    assert store.counters() == {
        "delayed": 0,
        "waiting": 0,
        "active": 2,
        "completed": 0,
        "failed": 0,
    }
    assert store.due() == {"thread": START + 35_000}
    store.check()


@pytest.mark.parametrize("state", [RETRYING, HELD])
def test_a_batch_that_waited_continues_with_the_same_messages_and_progress(
    store: Rig, state: ThreadState
) -> None:
    ids = add_many(store, 2)
    lease = store.claim(batch_id="b1")
    progress = Progress(attempts=2, anchor="item_0", located=True)
    store.postpone(lease, state, wait_s=5, phase=Phase.SENDING, progress=progress)
    add_many(store, 1)
    store.clock.advance(5)
    again = store.claim().claimed
    assert [message.id for message in again.batch.messages] == ids
    assert (again.batch.id, again.phase, again.progress, again.batch.attempts) == (
        "b1",
        Phase.SENDING,
        progress,
        3,
    )
    store.check()


def test_a_batch_without_a_wait_is_handed_to_the_queue_at_once(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim()
    store.postpone(lease, RETRYING, wait_s=0)
    assert store.queued() == [lease.guard_id]
    assert store.counters()["waiting"] == 1
    store.check()


# --- the counters ---------------------------------------------------------------------------------


def test_counters_of_many_threads_are_what_a_scan_would_count(store: Rig) -> None:
    for number in range(12):
        for _ in range(number % 3 + 1):
            store.add(f"t{number}", delay_s=number % 4)
    leases = [store.claim(f"t{number}") for number in (0, 4, 8)]
    store.postpone(leases[0])
    store.bury(leases[1])
    store.finish(leases[2])
    store.check()
    assert sum(store.counters().values()) == 24
    store.clock.advance(10)
    counted = store.status()
    assert (counted.delayed_count, counted.active_count) == (0, 0)
    assert (counted.waiting_count, counted.completed_count, counted.failed_count) == (19, 3, 2)
    store.check()
