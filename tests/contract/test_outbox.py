"""The outbox: replies that wait for their delivery, in order, under a separate lease."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_queue import Message, RunResult
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import moment
from assistant_queue.errors import BatchNotFound, LeaseLost, ThreadBusy
from assistant_queue.models import AttemptInfo, Timeline, Usage
from assistant_queue.store import wakeups
from assistant_queue.store.ops import control, reply_outbox, statuses
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.store.reply_codec import pack_reply, unpack_reply
from assistant_queue.worker.scheduler import Scheduler
from tests.contract.store_rig import Rig


def answered(store: Rig, text: str = "hi", *, at_once: bool = True) -> DeliveryLease | None:
    """Take one message to its reply."""
    store.add(delay_s=0)
    return store.reply(store.claim(), reply=text, at_once=at_once)


def held(store: Rig) -> DeliveryLease:
    lease = answered(store)
    assert lease is not None
    return lease


def contents(store: Rig) -> dict[str, object]:
    """Return all keys with their contents, in an order that does not depend on hashing."""
    read = {
        b"hash": store.hash,
        b"list": lambda key: store.client.lrange(key, 0, -1),
        b"zset": lambda key: store.client.zrange(key, 0, -1, withscores=True),
        b"string": store.client.get,
    }
    return {key: read[store.client.type(key)](key) for key in store.all_keys()}


def replies(store: Rig) -> tuple[int, int, int]:
    return store.run(reply_outbox.read_counts(store.namespace))


def test_the_step_that_stores_the_result_hands_the_delivery_to_its_caller(store: Rig) -> None:
    lease = held(store)
    assert store.outbox() == [lease.batch_id]
    assert lease.reply is not None
    assert lease.reply.result.reply == "hi"
    assert store.due_deliveries() == []
    assert store.delivered(lease) is None
    assert store.outbox() == []
    assert replies(store) == (0, 1, 0)
    assert store.hash(store.keys.record(lease.batch_id))["delivery"] == "delivered"


def test_a_delivered_reply_leaves_no_key_of_the_thread(store: Rig) -> None:
    store.delivered(held(store))
    left = [key for key in store.all_keys() if "thread" in key]
    assert left == [store.keys.conversation("thread"), store.keys.journal("thread")]
    assert store.client.zcard(store.keys.deliveries) == 0


def test_a_reply_that_its_caller_cannot_deliver_is_due_at_once(store: Rig) -> None:
    assert answered(store, at_once=False) is None
    assert [due.thread_id for due in store.due_deliveries()] == ["thread"]
    lease = store.claim_delivery()
    assert lease is not None
    assert lease.reply is not None
    assert lease.reply.result.reply == "hi"
    assert [message.content for message in lease.reply.result.messages] == ["hello"]


def test_a_reply_that_waits_has_all_of_its_result() -> None:
    result = RunResult(
        thread_id="thread",
        run_id="run_1",
        batch_id="batch_1",
        message_ids=("m1", "m2"),
        messages_processed=2,
        status="incomplete",
        incomplete_reason="max_output_tokens",
        reply="one\n\ntwo",
        replies=("one", "two"),
        usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7),
        attempts=2,
        started_at=moment(1_000),
        ended_at=moment(5_000),
        messages=(
            Message(id="m1", content="1", author="ann", tenant="acme", queued_at=moment(10)),
            Message(id="m2", content=[{"type": "text", "text": "2"}], metadata={"k": "v"}),
        ),
        authors=("ann",),
        metadata={"k": "v"},
        tenant="acme",
        model="gpt-5",
        timeline=Timeline(
            queued_at=moment(10),
            due_at=moment(20),
            claimed_at=moment(1_000),
            sent_at=moment(2_000),
            first_token_at=moment(3_000),
            completed_at=moment(5_000),
            attempts=(AttemptInfo(number=2, started_at=moment(1_000), ended_at=moment(5_000)),),
        ),
    )
    entry = f"batch_1 6000 late {pack_reply(result)}"
    found = unpack_reply("thread", entry)
    assert found is not None
    assert found.result == replace(result, late=True)
    assert (found.since_ms, found.preview) == (6_000, None)
    shown = unpack_reply("thread", f"batch_1 6000 reply {pack_reply(result, '4711')}")
    assert shown is not None
    assert (shown.result, shown.preview) == (result, "4711")


def test_the_longest_overdue_deliveries_can_be_passed_over(store: Rig) -> None:
    for thread in ("one", "two", "three"):
        store.add(thread, delay_s=0)
        store.reply(store.claim(thread), at_once=False)
        store.clock.advance(1)
    found = store.run(reply_outbox.find_due(store.namespace, offset=1))
    assert [due.thread_id for due in found.due] == ["two", "three"]
    assert store.run(reply_outbox.find_due(store.namespace, offset=3)).due == ()


def test_whether_replies_of_a_thread_wait_can_be_asked(store: Rig) -> None:
    assert not store.run(reply_outbox.has_waiting(store.namespace, "thread"))
    lease = held(store)
    assert store.run(reply_outbox.has_waiting(store.namespace, "thread"))
    store.delivered(lease)
    assert not store.run(reply_outbox.has_waiting(store.namespace, "thread"))


def test_a_usual_reply_takes_little_more_than_its_texts() -> None:
    messages = (Message(id="m" * 24, content="hello" * 20, queued_at=moment(1_796_028_140_721)),)
    at = messages[0].queued_at
    assert at is not None
    row = AttemptInfo(number=1, started_at=at, ended_at=None, worker="host:1", run_id="r" * 50)
    result = RunResult(
        thread_id="thread",
        run_id="r" * 50,
        batch_id="b" * 24,
        message_ids=("m" * 24,),
        messages_processed=1,
        status="completed",
        incomplete_reason=None,
        reply="hi" * 50,
        replies=("hi" * 50,),
        usage=Usage(input_tokens=3, output_tokens=4, total_tokens=7),
        attempts=1,
        started_at=at,
        ended_at=at,
        messages=messages,
        model="gpt-5",
        timeline=Timeline(
            queued_at=at,
            due_at=at,
            claimed_at=at,
            sent_at=at,
            first_token_at=at,
            completed_at=at,
            attempts=(row,),
        ),
    )
    entry = f"{result.batch_id} 1796028140721 reply {pack_reply(result)}"
    found = unpack_reply("thread", entry)
    assert found is not None
    assert found.result == result
    assert len(entry) < 200 + 350


def test_a_check_that_was_rebuilt_is_moved_to_where_it_belongs(store: Rig) -> None:
    lease = held(store)
    store.client.zadd(store.keys.deliveries, {"thread": 0})
    assert store.claim_delivery() is None
    assert store.due_deliveries() == [], "it is leased"
    store.postpone_delivery(lease, wait_s=60)
    store.client.zadd(store.keys.deliveries, {"thread": 0})
    assert store.claim_delivery() is None
    assert store.due_deliveries() == [], "it waits"
    store.clock.advance(60)
    assert store.claim_delivery() is not None


def test_replies_of_a_thread_are_delivered_in_order(store: Rig) -> None:
    first = held(store)
    assert answered(store, "two") is None  # one at a time
    assert answered(store, "three") is None
    second = store.delivered(first)
    assert second is not None
    assert second.reply is not None
    assert second.reply.result.reply == "two"
    assert store.claim_delivery() is None
    third = store.delivered(second, takes_next=False)
    assert third is None
    third = store.claim_delivery()
    assert third is not None
    assert third.reply is not None
    assert third.reply.result.reply == "three"


def test_the_next_run_does_not_wait_for_a_delivery(store: Rig) -> None:
    held(store)
    store.add(delay_s=0)
    assert store.claim() is not None


def test_a_postponed_reply_is_due_after_its_wait_and_keeps_its_progress(store: Rig) -> None:
    lease = held(store)
    state = DeliveryState(tries=1, part_ids=("a", None), unsure=2)
    store.postpone_delivery(lease, 5.0, state)
    assert store.claim_delivery() is None
    store.clock.advance(5)
    again = store.claim_delivery()
    assert again is not None
    assert again.state == state
    assert again.deaths == 0


def test_a_lease_that_lapses_is_taken_over_and_counts_as_a_death(store: Rig) -> None:
    first = held(store)
    assert store.claim_delivery() is None
    store.clock.advance(31)
    second = store.claim_delivery()
    assert second is not None
    assert second.deaths == 1
    with pytest.raises(LeaseLost):
        store.delivered(first)
    with pytest.raises(LeaseLost):
        store.postpone_delivery(first)
    with pytest.raises(LeaseLost):
        store.park_delivery(first)
    with pytest.raises(LeaseLost):
        store.save_delivery(first, DeliveryState(tries=1))
    store.clock.advance(31)  # its holder has called nothing: this death is no death of the reply's
    third = store.claim_delivery()
    assert third is not None
    assert third.deaths == 1
    store.save_delivery(third, third.state)
    store.clock.advance(31)
    fourth = store.claim_delivery()
    assert fourth is not None
    assert fourth.deaths == 2


def test_a_part_that_was_sent_acquits_the_reply(store: Rig) -> None:
    held(store)
    store.clock.advance(31)
    lease = store.claim_delivery()
    assert lease is not None
    store.save_delivery(lease, DeliveryState(unsure=0))
    store.save_delivery(lease, DeliveryState(part_ids=("1",)))
    store.clock.advance(31)
    again = store.claim_delivery()
    assert again is not None
    assert (again.deaths, again.state.part_ids) == (1, ("1",))


def test_a_renewed_lease_is_not_taken_over(store: Rig) -> None:
    lease = held(store)
    store.clock.advance(20)
    assert store.renew(lease) is not None
    store.clock.advance(20)
    assert store.claim_delivery() is None
    store.delivered(lease)
    assert store.renew(lease) is None


def test_a_parked_reply_leaves_the_line_and_is_listed(store: Rig) -> None:
    lease = held(store)
    answered(store, "two")
    following = store.park_delivery(lease, state=DeliveryState(tries=4))
    assert following is not None
    assert following.reply is not None
    assert following.reply.result.reply == "two"
    (failed,) = store.failed()
    assert (failed.batch_id, failed.reason, failed.attempts) == (lease.batch_id, "undelivered", 4)
    assert replies(store) == (1, 0, 1)
    assert store.counters()["completed"] == 2
    assert store.counters()["failed"] == 0
    status = store.message(failed.message_ids[0])
    assert status is not None
    assert (status.status, status.reply) == ("completed", "hi")


def test_a_parked_reply_is_delivered_again_before_those_that_wait_and_marked_late(
    store: Rig,
) -> None:
    lease = held(store)
    answered(store, "two")
    following = store.park_delivery(lease, state=DeliveryState(tries=4, part_ids=("a",)))
    assert following is not None
    store.postpone_delivery(following, 50.0, DeliveryState(tries=2))
    store.retry_failed(lease.batch_id)
    assert store.failed() == []
    late = store.claim_delivery()
    assert late is not None
    assert late.reply is not None
    assert (late.reply.result.reply, late.reply.result.late) == ("hi", True)
    assert late.state == DeliveryState(part_ids=("a",))
    assert store.delivered(late) is not None  # the displaced one
    assert replies(store) == (1, 1, 0)


def test_a_reply_that_a_late_one_displaces_keeps_its_progress(store: Rig) -> None:
    lease = held(store)
    answered(store, "two")
    following = store.park_delivery(lease)
    assert following is not None
    store.postpone_delivery(following, 50.0, DeliveryState(tries=2, part_ids=("x",)))
    store.retry_failed(lease.batch_id)
    late = store.claim_delivery()
    assert late is not None
    second = store.delivered(late)
    assert second is not None
    assert second.state == DeliveryState(tries=2, part_ids=("x",))


def test_a_late_reply_waits_for_the_one_that_is_being_delivered(store: Rig) -> None:
    lease = held(store)
    answered(store, "two")
    following = store.park_delivery(lease, state=DeliveryState(part_ids=("a",)))
    assert following is not None
    store.retry_failed(lease.batch_id)
    assert store.outbox() == [following.batch_id, lease.batch_id]
    late = store.delivered(following)
    assert late is not None
    assert late.reply is not None
    assert late.reply.result.late
    assert late.state.part_ids == ("a",)


def test_a_discarded_reply_keeps_no_text(store: Rig) -> None:
    lease = held(store)
    store.park_delivery(lease)
    store.discard_failed(lease.batch_id)
    assert store.failed() == []
    assert store.client.exists(store.keys.reply(lease.batch_id)) == 0
    assert replies(store) == (0, 0, 0)
    with pytest.raises(BatchNotFound):
        store.retry_failed(lease.batch_id)


def test_a_record_that_has_expired_meanwhile_is_written_again_by_a_parked_reply(
    store: Rig,
) -> None:
    lease = held(store)
    store.client.delete(store.keys.record(lease.batch_id))
    store.park_delivery(lease)
    assert [failed.thread_id for failed in store.failed()] == ["thread"]


def test_a_paused_thread_holds_its_deliveries_until_it_is_resumed(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.reply(lease) is None
    assert store.due_deliveries() == []
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.claim_delivery() is not None


def test_a_paused_queue_holds_all_deliveries(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.pause_queue()
    assert store.reply(lease) is None
    assert store.due_deliveries() == []
    assert store.claim_delivery() is None
    store.resume_queue()
    assert store.claim_delivery() is not None


def test_a_delivery_that_has_begun_ends_while_its_thread_is_paused(store: Rig) -> None:
    lease = held(store)
    answered(store, "two")
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.delivered(lease) is None
    assert store.claim_delivery() is None
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.claim_delivery() is not None


# --- a clock that is set back ---------------------------------------------------------------------

HOUR_MS = 3_600_000


def set_back(store: Rig, back_ms: int = 0) -> None:
    store.clock.ms -= HOUR_MS
    store.run(reply_outbox.rewind_deliveries(store.namespace, back_ms))
    before = contents(store)
    store.run(reply_outbox.rewind_deliveries(store.namespace, back_ms))
    assert contents(store) == before, "it is done once"


def due_in_ms(store: Rig) -> int:
    return round(store.client.zscore(store.keys.deliveries, "thread")) - store.clock.ms


def test_a_reply_that_is_due_when_the_clock_is_set_back_is_delivered(store: Rig) -> None:
    answered(store, at_once=False)
    set_back(store)
    assert due_in_ms(store) == 0
    lease = store.claim_delivery()
    assert lease is not None
    assert lease.reply is not None
    assert lease.reply.since_ms == store.clock.ms, "it does not wait since an hour to come"


def test_a_reply_that_waits_when_the_clock_is_set_back_waits_no_longer(store: Rig) -> None:
    store.postpone_delivery(held(store), wait_s=5)
    store.clock.advance(2)
    set_back(store)
    assert due_in_ms(store) == 5_000, "at most what the wait is long"
    assert store.claim_delivery() is None
    store.clock.advance(5)
    assert store.claim_delivery() is not None


@pytest.mark.parametrize("is_claimed", [False, True], ids=["at once", "claimed"])
@pytest.mark.parametrize("is_renewed", [False, True], ids=["dead", "alive"])
def test_a_dead_holders_delivery_is_taken_over_although_the_clock_is_set_back(
    store: Rig, is_claimed: bool, is_renewed: bool
) -> None:
    lease = answered(store, at_once=not is_claimed)
    if is_claimed:
        lease = store.claim_delivery()
    assert lease is not None
    store.clock.advance(10)
    store.clock.ms -= HOUR_MS
    if is_renewed:
        assert store.renew(lease) is not None
    store.run(reply_outbox.rewind_deliveries(store.namespace, HOUR_MS))
    assert store.claim_delivery() is None, "it is leased"
    assert due_in_ms(store) <= 31_000
    store.clock.advance(31)
    assert store.claim_delivery() is not None


def test_a_guard_wake_up_moves_with_the_clock(store: Rig) -> None:
    answered(store, at_once=False)
    lease = store.claim_delivery(guard=True)
    assert lease is not None
    set_back(store)
    (at,) = store.scheduled().values()
    assert at <= store.clock.ms // 1000 + 32


def test_a_paused_reply_is_delivered_when_resumed_although_the_clock_was_set_back(
    store: Rig,
) -> None:
    store.postpone_delivery(held(store), wait_s=5)
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.claim_delivery() is None
    set_back(store)
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.claim_delivery() is None, "it still waits"
    assert due_in_ms(store) == 5_000
    store.clock.advance(5)
    assert store.claim_delivery() is not None


def test_a_scheduler_that_sees_the_clock_set_back_moves_deliveries(
    store: Rig, redis_client: Any
) -> None:
    scheduler = Scheduler(store.namespace, redis_client)
    store.postpone_delivery(held(store), wait_s=5)
    scheduler.look()
    store.clock.ms -= HOUR_MS
    scheduler.look()
    # What passed between the two looks, by the machine's clock, is taken for a part of it.
    assert 0 <= due_in_ms(store) <= 5_000


def test_a_clock_that_advances_moves_no_delivery(store: Rig) -> None:
    store.postpone_delivery(held(store), wait_s=5)
    store.clock.advance(2)
    before = contents(store)
    store.run(reply_outbox.rewind_deliveries(store.namespace, 0))
    assert contents(store) == before


def test_forgetting_a_thread_forgets_its_replies(store: Rig) -> None:
    store.park_delivery(held(store))
    answered(store, "two", at_once=False)
    store.run(control.forget(store.namespace, "thread"))
    left = {store.keys.counters, store.keys.metrics, store.keys.format}
    assert set(store.all_keys()) <= left
    assert replies(store) == (0, 0, 0)


def test_a_thread_whose_reply_is_being_delivered_is_not_forgotten(store: Rig) -> None:
    held(store)
    with pytest.raises(ThreadBusy):
        store.run(control.forget(store.namespace, "thread"))


def test_a_wake_up_is_enqueued_for_a_reply_that_no_process_delivers(store: Rig) -> None:
    answered(store, at_once=False)
    store.lose_wakeups()
    assert store.run(reply_outbox.wake_deliveries(store.namespace)) == 0
    store.clock.advance(1.5)
    assert store.run(reply_outbox.wake_deliveries(store.namespace)) == 1
    store.clock.advance(5)
    assert store.run(reply_outbox.wake_deliveries(store.namespace)) == 0  # it is in the queue
    assert store.pop() == "thread"
    store.clock.advance(5)
    assert store.run(reply_outbox.wake_deliveries(store.namespace)) == 1  # it was lost


def test_a_worker_without_a_loop_leaves_a_wake_up_for_its_death(store: Rig) -> None:
    answered(store, at_once=False)
    lease = store.claim_delivery(guard=True)
    assert lease is not None
    assert list(store.scheduled()) == [lease.guard_id]
    store.delivered(lease)
    assert store.scheduled() == {}
    assert store.client.exists(wakeups.job_key(lease.guard_id)) == 0


@pytest.mark.parametrize("what", ["delivered", "park", "postpone", "save", "claim", "finish"])
def test_a_call_of_a_delivery_that_is_sent_twice_happens_once(store: Rig, what: str) -> None:
    lease = held(store)
    answered(store, "two")
    if what == "claim":
        store.clock.advance(31)
        lease = store.claim_delivery(token="again")
    elif what == "delivered":
        store.delivered(lease)
    elif what == "park":
        store.park_delivery(lease)
    elif what == "postpone":
        store.postpone_delivery(lease)
    elif what == "save":
        store.save_delivery(lease, DeliveryState(part_ids=("a",)))
    call = store.sent[-1]
    before = contents(store)
    counts = replies(store)
    reply = store.again(call)
    assert reply[0] not in (b"lost", b"changed")
    assert contents(store) == before
    assert replies(store) == counts


@pytest.mark.parametrize("what", ["claim", "save", "postpone", "delivered", "retry", "discard"])
def test_a_late_copy_of_a_call_changes_nothing(store: Rig, what: str) -> None:
    if what == "claim":
        answered(store, at_once=False)
        lease = store.claim_delivery()
        assert lease is not None
        call = store.sent[-1]
        store.postpone_delivery(lease, 0.0)
    elif what == "save":
        lease = held(store)
        store.save_delivery(lease, DeliveryState(unsure=0))
        call = store.sent[-1]
        store.save_delivery(lease, DeliveryState(part_ids=("a",)))
    elif what == "postpone":
        lease = held(store)
        store.postpone_delivery(lease, 0.0)
        call = store.sent[-1]
        again = store.claim_delivery()
        assert again is not None
    elif what == "delivered":
        lease = held(store)
        answered(store, "two")
        following = store.delivered(lease)
        call = store.sent[-1]
        assert following is not None
        store.delivered(following)
        answered(store, "three")
    else:
        lease = held(store)
        store.park_delivery(lease)
        if what == "retry":
            store.retry_failed(lease.batch_id)
        else:
            store.discard_failed(lease.batch_id)
        call = store.sent[-1]
        if what == "retry":
            again = store.claim_delivery()
            assert again is not None
            store.clock.advance(1)
            store.park_delivery(again)
    before = contents(store)
    store.again(call)
    assert contents(store) == before


@pytest.mark.parametrize("kind", ["outbox", "delivering", "deliveries"])
def test_a_key_of_another_type_is_moved_aside_and_the_thread_continues(
    store: Rig, kind: str
) -> None:
    answered(store, at_once=False)
    key = getattr(store.keys, kind)
    name = key if kind == "deliveries" else key("thread")
    store.client.delete(name)
    store.client.set(name, "foreign")
    answered(store, "two", at_once=False)
    assert store.client.zcard(store.keys.quarantine) == 1
    found = []
    while (lease := store.claim_delivery()) is not None:
        assert lease.reply is not None
        found.append(lease.reply.result.reply)
        store.delivered(lease, takes_next=False)
    assert found == (["two"] if kind == "outbox" else ["hi", "two"])
    assert store.outbox() == []


def test_an_entry_that_is_no_reply_is_moved_aside_and_the_others_are_delivered(store: Rig) -> None:
    answered(store, at_once=False)
    store.client.lpush(store.keys.outbox("thread"), "nonsense")
    lease = store.claim_delivery()
    assert lease is not None
    assert lease.reply is not None
    assert lease.reply.result.reply == "hi"


def test_a_reply_that_cannot_be_read_has_no_result(store: Rig) -> None:
    answered(store, at_once=False)
    entry = store.client.lpop(store.keys.outbox("thread"))
    header = entry.split(b" {")[0]
    store.client.lpush(store.keys.outbox("thread"), header + b" {broken")
    lease = store.claim_delivery()
    assert lease is not None
    assert lease.reply is None
    assert store.run(statuses.read_result(store.namespace, lease.batch_id)).reply == "hi"


def test_a_batch_that_version_0_1_was_delivering_joins_the_outbox(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.complete(lease)
    store.clock.advance(32)
    again = store.claim()
    assert store.reply(again, at_once=False) is None
    found = store.claim_delivery()
    assert found is not None
    assert found.reply is not None
    assert found.reply.result.reply == "hi"
    assert store.counters()["completed"] == 1
