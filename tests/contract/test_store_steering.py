"""Stop, interrupt and steer in the store: wishes, the ends they lead to, and messages that join."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.auditing import AuditRecord
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.errors import BatchNotFound, LeaseLost, ThreadBusy
from assistant_queue.events import Event
from assistant_queue.models import Message
from assistant_queue.store import audit_codec
from assistant_queue.store.calls import AuditRules, Call, JournalRules, Namespace
from assistant_queue.store.ops import audit_spool, control, event_log, leases, steering, sweeping
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.outcomes import ResultRules
from tests.conftest import PATIENCE_S
from tests.contract.store_rig import ERROR, KEEP, Rig, text

RETRYING = ThreadState.RETRYING
HELD = ThreadState.HELD
SECRET = "words of a customer"
EVENT_WISHES = ["interrupt", "steer"]


def claimed(store: Rig, *ids: str, **fields: Any) -> Lease:
    """A worker's batch; its messages are marked as sent."""
    for message_id in ids or ("m1",):
        store.add(message_id=message_id, delay_s=0, **fields)
    store.pop()
    lease = store.claim()
    store.save(lease, Phase.RUNNING, Progress(attempts=1, run_id="run_1"), ids or ("m1",))
    return lease


def batch_ids(lease: Lease) -> list[str]:
    return [message.id for message in lease.claimed.batch.messages]


def last(store: Rig, name: str) -> Call:
    """The last call of a script."""
    return [call for call in store.sent if call.script is not None and call.script.name == name][-1]


def assert_a_copy_changes_nothing(store: Rig, name: str) -> Any:
    before = store.snapshot()
    reply = store.again(last(store, name))
    assert store.snapshot() == before
    return reply


def status(store: Rig, message_id: str) -> str:
    found = store.message(message_id)
    assert found is not None
    return found.status


def events(store: Rig) -> list[Event]:
    return list(store.run(event_log.read(store.namespace, "thread", event_log.START, 1000)).events)


def kinds(store: Rig) -> list[str]:
    return [event.type for event in events(store)]


def heard(store: Rig, channel: str, act: Callable[[], object]) -> list[str]:
    """Return what an act publishes on a channel."""
    with store.client.pubsub() as listener:
        listener.subscribe(channel)
        assert listener.get_message(timeout=PATIENCE_S)
        act()
        store.client.publish(channel, "the end")
        found = []
        while (got := listener.get_message(timeout=PATIENCE_S)) is not None:
            if text(got["data"]) == "the end":
                break
            found.append(text(got["data"]))
        return found


# --- a stop is wished -----------------------------------------------------------------------------


def test_there_is_nothing_to_stop_before_a_batch_is_claimed(store: Rig) -> None:
    assert not store.stop()
    assert store.threads() == []
    store.add(delay_s=0)
    before = store.snapshot()
    assert not store.stop()
    assert store.snapshot() == before


@pytest.mark.parametrize("phase", [Phase.FROZEN, Phase.SENDING, Phase.RUNNING])
def test_a_held_batch_is_wished_to_stop_in_every_phase_and_the_holder_is_notified(
    store: Rig, phase: Phase
) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    if phase is not Phase.FROZEN:
        store.save(lease, phase)
    assert heard(store, store.keys.wishes, store.stop) == ["thread"]
    assert store.wish() == "stop batch-1"
    assert store.state() is ThreadState.ACTIVE
    store.check()


@pytest.mark.parametrize("state", [RETRYING, HELD])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_batch_that_waits_is_due_at_once_when_it_is_stopped_also_in_a_paused_thread(
    store: Rig, state: ThreadState, is_paused: bool
) -> None:
    lease = claimed(store)
    store.postpone(lease, state, wait_s=600)
    store.add(message_id="behind", delay_s=0)
    if is_paused:
        store.run(control.pause_thread(store.namespace, "thread"))
    store.lose_wakeups()
    assert store.stop()
    store.check()
    assert (store.state(), int(store.thread_hash()["due"])) == (state, store.clock.ms)
    assert store.pop() == "thread"
    taken = store.claim()
    assert (taken.claimed.wish, batch_ids(taken)) == (Wish.STOP, ["m1"])
    store.stopped(taken)
    assert (status(store, "m1"), store.pending()) == ("cancelled", ["behind"])
    assert store.refused() == "paused" if is_paused else store.claim()
    store.check()


@pytest.mark.parametrize("is_paused", [False, True])
def test_the_removal_of_the_only_message_of_a_batch_that_waits_is_a_stop(
    store: Rig, is_paused: bool
) -> None:
    store.postpone(claimed(store), wait_s=600)
    if is_paused:
        store.run(control.pause_thread(store.namespace, "thread"))
    assert store.run(steering.revise(store.namespace, "m1", None))
    store.check()
    assert store.pop() == "thread"
    taken = store.claim()
    assert taken.claimed.wish is Wish.STOP
    store.stopped(taken)
    store.check()


def test_a_pause_after_a_stop_does_not_keep_it_though_its_wake_up_is_lost(store: Rig) -> None:
    store.postpone(claimed(store), wait_s=600)
    assert store.stop()
    store.run(control.pause_thread(store.namespace, "thread"))
    store.lose_wakeups()
    store.clock.advance(60)
    store.sweep()
    assert store.pop() == "thread"
    store.stopped(store.claim())
    store.check()


def test_the_batch_of_a_dead_worker_is_stopped_in_a_paused_thread(store: Rig) -> None:
    """No scheduler looks at the thread any more when the stop comes."""
    claimed(store)
    store.run(control.pause_thread(store.namespace, "thread"))
    store.clock.advance(60)
    store.sweep()
    assert store.due() == {}
    store.lose_wakeups()
    assert store.stop()
    store.check()
    assert store.pop() == "thread"
    taken = store.claim()
    assert (taken.claimed.wish, taken.claimed.deaths) == (Wish.STOP, 1)
    store.stopped(taken)
    store.check()


def test_a_worker_that_dies_over_a_stop_in_a_paused_thread_is_replaced(store: Rig) -> None:
    claimed(store)
    store.run(control.pause_thread(store.namespace, "thread"))
    store.client.zrem(store.keys.due, "thread")
    assert store.stop()
    store.check()
    store.lose_wakeups()
    store.clock.advance(60)
    store.sweep()
    assert store.pop() == "thread"
    store.stopped(store.claim())
    store.check()


def test_a_paused_queue_does_not_keep_a_stop(store: Rig) -> None:
    store.postpone(claimed(store), wait_s=600)
    store.run(control.pause_queue(store.namespace))
    assert store.refused() == "paused"
    assert store.stop()
    assert store.pop() == "thread"
    store.clock.advance(60)
    assert store.wake() == 1
    store.stopped(store.claim())
    assert status(store, "m1") == "cancelled"


def test_a_paused_queue_does_not_keep_a_stop_that_waits_for_a_grace(store: Rig) -> None:
    lease = claimed(store)
    store.add("other", delay_s=0)
    store.run(control.pause_queue(store.namespace))
    store.lose_wakeups()
    assert store.stop()
    store.postpone(lease, HELD, wait_s=20, seen=Wish.STOP)
    store.lose_wakeups()
    store.clock.advance(5)
    assert store.sweep().woken == 0
    store.clock.advance(15)
    store.check()
    assert store.sweep().woken == 1, "and not the other thread"
    assert store.pop() == "thread"
    store.stopped(store.claim())
    store.check()
    assert store.sweep().overdue == 0


def test_a_worker_that_dies_over_a_stop_in_a_paused_queue_is_replaced(store: Rig) -> None:
    claimed(store)
    store.run(control.pause_queue(store.namespace))
    assert store.stop()
    for _ in range(2):
        store.lose_wakeups()
        store.clock.advance(60)
        assert sweeping_watch(store) == 1
        assert store.pop() == "thread"
        lease = store.claim()
    store.stopped(lease)
    store.check()


def sweeping_watch(store: Rig) -> int:
    """Look as the leader does, which wakes the thread that it expects."""
    return store.run(sweeping.watch(store.namespace, "scheduler", "thread")).woken


def test_a_thread_in_a_paused_queue_is_not_woken_by_a_scheduler_that_expects_it(
    store: Rig,
) -> None:
    store.add(delay_s=0)
    store.run(control.pause_queue(store.namespace))
    store.lose_wakeups()
    before = store.thread_hash()
    store.clock.advance(60)
    assert sweeping_watch(store) == 0
    assert store.thread_hash() == before


def test_a_list_of_stops_of_another_type_is_quarantined_and_made_again(store: Rig) -> None:
    lease = claimed(store)
    assert store.stop()
    store.client.delete(store.keys.stopping)
    store.client.set(store.keys.stopping, "x")
    store.stopped(lease)
    assert quarantined(store) > 0
    lease = claimed(store, "m2")
    store.stop()
    store.client.delete(store.keys.stopping)
    store.client.set(store.keys.stopping, "x")
    store.sweep()
    assert store.client.zrange(store.keys.stopping, 0, -1) == [b"thread"]


def test_a_batch_of_which_version_0_1_stored_the_results_is_not_stopped(store: Rig) -> None:
    lease = claimed(store)
    store.complete(lease)
    before = store.snapshot()
    assert not store.stop()
    assert store.snapshot() == before
    store.run(control.pause_thread(store.namespace, "thread"))
    store.clock.advance(60)
    assert store.refused() == "paused"
    store.check()


def test_a_stop_before_version_0_1_stored_the_results_means_nothing_after(store: Rig) -> None:
    lease = claimed(store)
    assert store.stop()
    store.complete(lease)
    renewed = store.renew(lease)
    assert renewed is not None
    assert renewed.wish is None
    store.clock.advance(60)
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.refused() == "paused"
    store.run(control.resume_thread(store.namespace, "thread"))
    taken = store.claim()
    assert taken.claimed.wish is None
    store.finish(taken, result=store.result(lease))
    assert status(store, "m1") == "completed"


def test_a_batch_that_is_only_written_is_not_stopped(store: Rig) -> None:
    store.add(wants_reply=False, delay_s=0)
    store.say(kind="reply")
    store.claim()
    before = store.snapshot()
    assert not store.stop()
    assert store.snapshot() == before


def test_a_stop_that_is_repeated_after_a_lost_reply_stops_no_later_batch(store: Rig) -> None:
    lease = claimed(store)
    assert store.stop()
    assert assert_a_copy_changes_nothing(store, "stop") == [b"stopping"]
    store.stopped(lease)
    assert assert_a_copy_changes_nothing(store, "stop") == [b"stopping"]
    assert not store.stop()
    claimed(store, "m2")
    assert assert_a_copy_changes_nothing(store, "stop") == [b"none"]
    store.check()


def test_a_second_stop_keeps_the_time_of_the_first(store: Rig) -> None:
    claimed(store)
    assert store.stop()
    before = store.thread_hash()
    store.clock.advance(1)
    assert store.stop()
    assert store.thread_hash() == before


# --- the wish belongs to its batch ----------------------------------------------------------------


@pytest.mark.parametrize(
    "damaged",
    ["stop batch-0", "stop", "stop batch-1 again", " stop batch-1", "", b"\xff\xfe batch-1", "7 x"],
)
def test_a_wish_of_another_batch_or_a_damaged_one_means_nothing(store: Rig, damaged: Any) -> None:
    """As a worker of version 0.1 leaves it, which knows no such field."""
    lease = claimed(store)
    store.client.hset(store.keys.thread("thread"), "wish", damaged)
    renewed = store.renew(lease)
    assert renewed is not None
    assert renewed.wish is None
    store.postpone(lease, wait_s=2)
    assert store.due()["thread"] == store.clock.ms + 2000
    store.clock.advance(2)
    taken = store.claim()
    assert taken.claimed.wish is None
    assert not store.finish(taken)
    store.check()
    assert store.threads() == []


def test_a_wish_that_version_0_1_left_is_no_wish_for_the_next_batch(store: Rig) -> None:
    lease = claimed(store, "m1")
    store.add(message_id="m2", delay_s=0)
    assert store.stop()
    store.finish(lease, seen=Wish.STOP)
    store.client.hset(store.keys.thread("thread"), mapping={"wish": "stop batch-1", "wished": "x"})
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.refused() == "paused"
    store.check()
    store.run(control.resume_thread(store.namespace, "thread"))
    taken = store.claim(batch_id="next")
    assert taken.claimed.wish is None
    store.add(message_id="m3", mid_run="steer", delay_s=0)
    assert store.wish() == "steer next"
    store.check()


def test_a_wish_of_a_newer_version_means_nothing(store: Rig) -> None:
    lease = claimed(store)
    store.client.hset(store.keys.thread("thread"), "wish", "hurry batch-1")
    renewed = store.renew(lease)
    assert renewed is not None
    assert renewed.wish is None
    store.add(message_id="m2", mid_run="steer", delay_s=0)
    assert store.wish() == "steer batch-1"
    store.finish(lease)


def test_every_write_of_the_holder_returns_the_wish_and_so_does_a_takeover(store: Rig) -> None:
    lease = claimed(store)
    assert lease.claimed.wish is None
    store.stop()
    saved = store.run(
        leases.save(store.namespace, lease, Phase.RUNNING, Progress(attempts=1, run_id="run_2"))
    )
    assert saved.wish is Wish.STOP
    again = store.again(last(store, "progress"))
    assert text(again[2]) == "stop"
    renewed = store.renew(lease)
    assert renewed is not None
    assert renewed.wish is Wish.STOP
    _, left = store.join(lease, Phase.RUNNING)
    assert left is Wish.STOP
    store.clock.advance(60)
    assert store.claim().claimed.wish is Wish.STOP


@pytest.mark.parametrize("kind", EVENT_WISHES)
def test_a_message_wishes_to_interrupt_or_to_steer_a_batch_that_is_under_way(
    store: Rig, kind: str
) -> None:
    lease = claimed(store)
    assert heard(
        store, store.keys.wishes, lambda: store.add(message_id="m2", mid_run=kind, delay_s=0)
    ) == ["thread"]
    assert store.wish() == f"{kind} batch-1"
    renewed = store.renew(lease)
    assert renewed is not None
    assert renewed.wish is Wish(kind)
    assert store.pending() == ["m2"]
    store.check()
    assert store.finish(lease), "an answer that was faster stands"
    assert store.wish() == ""
    assert status(store, "m1") == "completed"


@pytest.mark.parametrize("kind", EVENT_WISHES)
def test_no_wish_is_made_without_a_batch_nor_for_stored_results_nor_by_a_quiet_message(
    store: Rig, kind: str
) -> None:
    store.add(mid_run=kind, delay_s=0)
    assert store.wish() == ""
    lease = store.claim()
    store.add(mid_run=kind, wants_reply=False, delay_s=0)
    assert store.wish() == ""
    store.complete(lease)
    store.add(mid_run=kind, delay_s=0)
    assert store.wish() == ""


def test_a_stronger_wish_replaces_a_weaker_one_and_never_the_other_way(store: Rig) -> None:
    claimed(store)
    for kind, expected in (
        ("steer", "steer"),
        ("interrupt", "interrupt"),
        ("steer", "interrupt"),
    ):
        store.add(mid_run=kind, delay_s=0)
        assert store.wish() == f"{expected} batch-1"
    store.stop()
    store.add(mid_run="interrupt", delay_s=0)
    assert store.wish() == "stop batch-1"
    store.check()


@pytest.mark.parametrize("state", [RETRYING, HELD])
def test_an_interruption_does_not_shorten_a_wait(store: Rig, state: ThreadState) -> None:
    store.postpone(claimed(store), state, wait_s=7)
    due = store.thread_hash()["due"]
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    assert store.thread_hash()["due"] == due
    assert store.refused() == "early"
    store.check()
    store.clock.advance(7)
    assert store.claim().claimed.wish is Wish.INTERRUPT


def test_a_copy_of_an_add_that_interrupts_makes_no_wish_again(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.join(lease)
    assert_a_copy_changes_nothing(store, "add")
    assert store.add(message_id="m2", mid_run="interrupt", delay_s=0).duplicate
    assert store.wish() == ""


# --- keys of another type -------------------------------------------------------------------------


def quarantined(store: Rig) -> int:
    return int(store.client.zcard(store.keys.quarantine))


def test_a_stop_that_meets_a_batch_of_another_type_quarantines_it(store: Rig) -> None:
    claimed(store)
    store.client.set(store.keys.frozen("thread"), "x")
    assert not store.stop()
    assert quarantined(store) > 0
    assert store.wish() == ""


def test_a_thread_that_cannot_be_read_loses_its_wish_with_its_hash(store: Rig) -> None:
    claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.stop()
    store.client.hset(store.keys.thread("thread"), "due", "never")
    assert not store.stop()
    assert (quarantined(store) > 0, store.wish()) == (True, "")
    assert store.ids(store.keys.dead("batch-1")) == ["m1"]
    assert store.pending() == ["m2"]


def test_a_join_that_meets_waiting_messages_of_another_type_ends_with_the_batch_failed(
    store: Rig,
) -> None:
    lease = claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.client.delete(store.keys.pending("thread"))
    store.client.set(store.keys.pending("thread"), "x")
    with pytest.raises(LeaseLost):
        store.join(lease)
    assert store.ids(store.keys.dead("batch-1")) == ["m1"]
    assert quarantined(store) > 0


# --- ends that have not seen a stop ---------------------------------------------------------------


@pytest.mark.parametrize("end", ["finish", "bury"])
def test_an_end_that_has_not_seen_a_stop_changes_nothing_and_one_that_has_is_made(
    store: Rig, end: str
) -> None:
    lease = claimed(store)
    act = getattr(store, end)
    store.stop()
    before = store.snapshot()
    for seen in (None, Wish.INTERRUPT):
        with pytest.raises(Wished) as raised:
            act(lease, seen=seen)
        assert raised.value.wish is Wish.STOP
        assert store.snapshot() == before
    act(lease, seen=Wish.STOP)
    assert status(store, "m1") == ("completed" if end == "finish" else "failed")
    assert store.threads() == []
    store.check()


@pytest.mark.parametrize("kind", EVENT_WISHES)
def test_an_end_is_made_although_a_message_wished_to_join(store: Rig, kind: str) -> None:
    lease = claimed(store)
    store.add(message_id="m2", mid_run=kind, delay_s=0)
    store.bury(lease)
    assert (status(store, "m1"), store.pending(), store.wish()) == ("failed", ["m2"], "")
    store.check()


@pytest.mark.parametrize("state", [RETRYING, HELD])
@pytest.mark.parametrize("is_paused", [False, True])
def test_a_batch_that_is_left_without_knowing_of_its_stop_is_due_at_once(
    store: Rig, state: ThreadState, is_paused: bool
) -> None:
    lease = claimed(store)
    store.stop()
    if is_paused:
        store.run(control.pause_thread(store.namespace, "thread"))
    store.postpone(lease, state, wait_s=600)
    store.check()
    assert int(store.thread_hash()["due"]) == store.clock.ms
    assert store.pop() == "thread"
    store.stopped(store.claim())
    store.check()


def test_a_batch_that_is_left_because_of_its_stop_waits_also_in_a_paused_thread(store: Rig) -> None:
    lease = claimed(store)
    store.stop()
    store.run(control.pause_thread(store.namespace, "thread"))
    store.postpone(lease, HELD, wait_s=20, seen=Wish.STOP)
    store.check()
    assert store.refused() == "early"
    store.clock.advance(20)
    store.sweep()
    assert store.pop() == "thread"
    store.stopped(store.claim())
    store.check()


# --- stopped --------------------------------------------------------------------------------------


def test_a_stopped_batch_has_a_record_and_its_messages_are_cancelled_with_what_was_said(
    store: Rig,
) -> None:
    store.namespace = Namespace(store.prefix, store.clock, journal=JournalRules(most=5))
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store, "m1", "m2")
    store.stop()
    assert heard(store, store.keys.done("thread"), lambda: store.stopped(lease)) == ["batch-1"]
    for message_id in ("m1", "m2"):
        found = store.message(message_id)
        assert found is not None
        assert (found.status, found.batch_id) == ("cancelled", "batch-1")
        assert (found.reply, found.run_id, found.delivery) == ("hi", "run_1", "none")
    record = store.hash(store.keys.record("batch-1"))
    assert (record["state"], record["token"]) == ("stopped", lease.token)
    assert "delivery" not in record
    assert store.outbox() == []
    (entry,) = store.journal()
    assert (entry.outcome, entry.message_ids, entry.delivery.state) == (
        "stopped",
        ("m1", "m2"),
        "none",
    )
    metrics = store.metrics()
    assert metrics.messages == {
        "queued": 2, "answered": 0, "failed": 0, "cancelled": 2, "deduplicated": 0,
    }  # fmt: skip
    assert metrics.batches == {"completed": 0, "incomplete": 0, "failed": 0, "stopped": 1}
    assert store.counters() == dict.fromkeys(store.counters(), 0)
    event = events(store)[-1]
    assert (event.type, event.batch_id, event.reply) == ("run_stopped", "batch-1", "hi")  # type: ignore[attr-defined]
    assert store.threads() == []
    store.check()


def test_a_stopped_batch_is_audited_with_what_was_said(store: Rig) -> None:
    rules = AuditRules(most=3, max_chars=50)
    store.namespace = Namespace(store.prefix, store.clock, audit=rules)
    lease = claimed(store)
    store.stop()
    store.stopped(lease)
    page = store.run(audit_spool.drain(store.namespace, "a", written=0, lease_s=10.0))
    (record,) = [audit_codec.unpack_entry(store.prefix, one) for one in page.entries]
    assert isinstance(record, AuditRecord)
    assert (record.batch_id, record.outcome, record.reply) == ("batch-1", "stopped", "hi")
    assert [message.text for message in record.messages] == ["hello"]


@pytest.mark.parametrize(
    ("anchor", "is_kept", "expected"),
    [("item_9", False, "item_9"), (None, False, None), (None, True, "item_1")],
)
def test_the_conversation_of_a_stopped_batch_has_its_end_and_its_open_calls(
    store: Rig, anchor: str | None, is_kept: bool, expected: str | None
) -> None:
    store.finish(claimed(store, "m0"), anchor="item_1")
    lease = claimed(store)
    store.stop()
    store.stopped(lease, anchor=anchor, keep_anchor=is_kept, open_calls=("call_1", "call_2"))
    conversation = store.hash(store.keys.conversation("thread"))
    assert conversation.get("anchor") == expected
    assert json.loads(conversation["open"]) == ["call_1", "call_2"]
    assert claimed(store, "m2").claimed.open_calls == ("call_1", "call_2")


def test_open_calls_that_are_answered_are_gone_unless_nothing_was_written(store: Rig) -> None:
    store.stopped(claimed(store, "m0"), open_calls=("call_1",))
    store.stopped(claimed(store, "m1"), keep_anchor=True)
    assert store.hash(store.keys.conversation("thread"))["open"] == '["call_1"]'
    store.stopped(claimed(store, "m2"))
    assert "open" not in store.hash(store.keys.conversation("thread"))


@pytest.mark.parametrize("keeps", [False, True])
def test_texts_of_a_stopped_batch_are_kept_as_long_as_asked_and_not_longer(
    store: Rig, keeps: bool
) -> None:
    lease = claimed(store, content=SECRET)
    store.stop()
    store.stopped(lease, rules=ResultRules(result_ttl_s=60, keep_text=keeps))
    assert (SECRET in str(store.snapshot())) is keeps
    for key in (store.keys.record("batch-1"), store.keys.message("m1")):
        assert 0 < store.client.pttl(key) <= 60_000


def test_a_stopped_batch_that_is_removed_leaves_no_text_nor_any_key_that_stays(store: Rig) -> None:
    rules = AuditRules(most=0)
    store.namespace = Namespace(
        store.prefix, store.clock, audit=rules, journal=JournalRules(most=5)
    )
    lease = claimed(store, content=SECRET)
    store.add(message_id="m2", content=SECRET, mid_run="interrupt", delay_s=0)
    lease, _ = store.join(lease)
    store.stop()
    result = replace(store.result(lease, SECRET), status="stopped", messages=())
    assert SECRET in str(store.snapshot())
    store.stopped(lease, result=result, rules=ResultRules(result_ttl_s=0, keep_text=False))
    store.client.delete(store.keys.record("batch-1"))  # it lives a millisecond, with what was said
    assert SECRET not in str(store.snapshot())
    assert store.threads() == []


@pytest.mark.parametrize("end", ["finish", "stopped", "bury"])
def test_an_edit_that_came_too_late_leaves_no_text(store: Rig, end: str) -> None:
    lease = claimed(store)
    edited = Message(id="m1", content=SECRET)
    assert store.run(steering.revise(store.namespace, "m1", edited))
    assert SECRET in str(store.snapshot())
    getattr(store, end)(lease)
    assert SECRET not in str(store.snapshot())


def test_messages_behind_a_stopped_batch_are_answered_next(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", delay_s=0)
    store.stop()
    store.stopped(lease)
    assert (store.state(), store.pending()) == (ThreadState.PENDING, ["m2"])
    store.check()
    assert store.pop() == "thread"
    taken = store.claim()
    assert (batch_ids(taken), taken.claimed.wish) == (["m2"], None)


def test_a_stop_leaves_a_paused_thread_paused(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", delay_s=0)
    store.run(control.pause_thread(store.namespace, "thread"))
    store.stop()
    store.stopped(lease)
    assert store.refused() == "paused"
    store.check()


def test_a_stopped_batch_that_is_repeated_after_a_lost_reply_changes_nothing(store: Rig) -> None:
    store.namespace = Namespace(store.prefix, store.clock, journal=JournalRules(most=5))
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    store.stop()
    store.stopped(lease)
    assert assert_a_copy_changes_nothing(store, "stopped") == [b"idle"]
    store.add(message_id="m2", delay_s=0)
    assert assert_a_copy_changes_nothing(store, "stopped") == [b"pending"]
    store.claim()
    assert_a_copy_changes_nothing(store, "stopped")


def test_a_worker_that_lost_the_lease_stops_nothing(store: Rig) -> None:
    lease = claimed(store)
    store.stop()
    store.clock.advance(60)
    store.claim()
    before = store.snapshot()
    for act in (store.stopped, store.refuse, store.join):
        with pytest.raises(LeaseLost):
            act(lease)
        assert store.snapshot() == before


def test_a_stopped_batch_is_not_in_the_failed_list(store: Rig) -> None:
    lease = claimed(store)
    store.stop()
    store.stopped(lease)
    assert store.failed() == []
    for act in (store.retry_failed, store.discard_failed):
        with pytest.raises(BatchNotFound):
            act("batch-1")
    assert not store.run(control.cancel(store.namespace, "m1", 3600))
    assert not store.run(control.edit(store.namespace, Message(id="m1", content="new")))
    assert store.add(message_id="m1").duplicate


def test_a_thread_is_forgotten_after_a_stop_and_while_one_waits(store: Rig) -> None:
    store.stopped(claimed(store, "m1", content=SECRET), rules=replace(KEEP, keep_text=True))
    lease = claimed(store, "m2", content=SECRET)
    store.stop()
    with pytest.raises(ThreadBusy):
        store.run(control.forget(store.namespace, "thread"))
    store.postpone(lease, HELD, wait_s=20, seen=Wish.STOP)
    store.run(control.forget(store.namespace, "thread"))
    assert SECRET not in str(store.snapshot())
    kept = {"counters", "metrics"}
    found = {key.removeprefix(f"{store.prefix}:").partition(":")[0] for key in store.all_keys()}
    # Records of the first batch live as long as its results, without their thread.
    assert found <= kept | {"message", "batch"}
    assert store.due() == {}
    assert not store.stop()


# --- join -----------------------------------------------------------------------------------------


def test_all_waiting_messages_join_in_order_and_the_wish_is_fulfilled(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    for message_id, how in (("m2", "collect"), ("m3", "interrupt"), ("m4", "steer")):
        store.add(message_id=message_id, mid_run=how, delay_s=0)
    joined, left = store.join(lease, Phase.SENDING, Progress(attempts=1, interrupts=1))
    assert (batch_ids(joined), left) == (["m1", "m2", "m3", "m4"], None)
    assert (store.frozen(), store.pending(), store.wish()) == (["m1", "m2", "m3", "m4"], [], "")
    thread = store.thread_hash()
    assert (thread["phase"], thread["bn"], thread["n"]) == ("sending", "4", "0")
    assert Progress.load(thread["progress"]).interrupts == 1
    event = events(store)[-1]
    assert event.type == "run_interrupted"
    assert event.message_ids == ("m1", "m2", "m3", "m4")  # type: ignore[attr-defined]
    ids = batch_ids(joined)
    assert [status(store, one) for one in ids] == ["processing", *["queued"] * 3]
    store.save(joined, Phase.SENDING, mark=ids)
    assert [status(store, one) for one in ids] == ["processing"] * 4
    store.check()
    store.finish(joined)
    assert [status(store, one) for one in ids] == ["completed"] * 4
    assert store.threads() == []


def test_messages_that_steer_are_named_in_their_event_and_nothing_is_said_of_none(
    store: Rig,
) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    store.add(message_id="m2", mid_run="steer", delay_s=0)
    lease, _ = store.join(lease, event="message_steered")
    event = events(store)[-1]
    assert (event.type, event.message_ids) == ("message_steered", ("m2",))  # type: ignore[attr-defined]
    store.join(lease, event="message_steered")
    assert kinds(store).count("message_steered") == 1


def test_an_interruption_without_new_messages_is_published_with_those_of_the_batch(
    store: Rig,
) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    store.join(lease)
    event = events(store)[-1]
    assert (event.type, event.message_ids) == ("run_interrupted", ("m1",))  # type: ignore[attr-defined]


@pytest.mark.parametrize(("most", "joins"), [(1, 0), (2, 1), (3, 2), (4, 3), (1000, 3)])
def test_what_is_beyond_the_limit_is_the_next_batch(store: Rig, most: int, joins: int) -> None:
    lease = claimed(store)
    waiting = ["m2", "m3", "m4"]
    for message_id in waiting:
        store.add(message_id=message_id, mid_run="interrupt", delay_s=0)
    joined, _ = store.join(lease, most=most)
    assert batch_ids(joined) == ["m1", *waiting[:joins]]
    assert store.pending() == waiting[joins:]
    store.check()
    assert store.finish(joined) is (joins < 3)
    if joins < 3:
        assert store.pop() == "thread"
        assert batch_ids(store.claim()) == waiting[joins:]
    store.check()


@pytest.mark.parametrize("most", [1, 2, 1000])
@pytest.mark.parametrize("places", [{0}, {1}, {2}, {0, 1}, {1, 2}, {0, 2}, {0, 1, 2}])
def test_places_of_cancelled_messages_neither_join_nor_count_nor_move_the_others(
    store: Rig, places: set[int], most: int
) -> None:
    lease = claimed(store)
    ids = ["m2", "m3", "m4"]
    for message_id in ids:
        store.add(message_id=message_id, mid_run="interrupt", delay_s=0)
    for place in places:
        assert store.run(control.cancel(store.namespace, ids[place], 3600))
    waiting = [one for place, one in enumerate(ids) if place not in places]
    joined, _ = store.join(lease, most=most)
    new = waiting[: most - 1]
    assert batch_ids(joined) == ["m1", *new]
    left = waiting[len(new) :]
    assert [one for one in store.pending() if one] == left
    store.check()
    for message_id in left:
        assert status(store, message_id) == "queued"
        assert store.run(control.edit(store.namespace, Message(id=message_id, content="new")))
        assert store.run(control.cancel(store.namespace, message_id, 3600))
    for message_id in new:
        assert not store.run(control.cancel(store.namespace, message_id, 3600))
    store.check()
    assert not store.finish(joined)
    store.check_idle()


def test_messages_that_want_no_reply_join_and_use_up_nothing_of_the_limit(store: Rig) -> None:
    store.add(message_id="q1", wants_reply=False)
    lease = claimed(store)
    store.add(message_id="q2", wants_reply=False)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.add(message_id="m3", mid_run="interrupt", delay_s=0)
    store.add(message_id="q3", wants_reply=False)
    joined, _ = store.join(lease, most=2)
    assert batch_ids(joined) == ["q1", "m1", "q2", "m2"]
    assert store.pending() == ["m3", "q3"]
    store.check()
    joined, _ = store.join(joined, most=3)
    assert batch_ids(joined)[-1] == "m3"
    assert store.pending() == ["q3"]
    store.check()
    store.finish(joined)
    assert store.state() is ThreadState.PENDING
    assert store.refused() == "idle"
    store.check()


def test_a_reply_of_say_in_between_ends_what_joins(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", delay_s=0)
    store.say(message_id="s1", kind="reply")
    store.add(message_id="m3", mid_run="interrupt", delay_s=0)
    joined, _ = store.join(lease)
    assert (batch_ids(joined), store.pending()) == (["m1", "m2"], ["s1", "m3"])
    store.check()
    again, _ = store.join(joined)
    assert (batch_ids(again), store.pending()) == (["m1", "m2"], ["s1", "m3"])
    assert store.finish(again)
    assert batch_ids(store.claim()) == ["s1"]
    store.check()


def test_a_cancelled_place_before_a_reply_of_say_leaves_the_places_behind_it(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", delay_s=0)
    store.say(message_id="s1", kind="reply")
    store.add(message_id="m3", mid_run="interrupt", delay_s=0)
    assert store.run(control.cancel(store.namespace, "m2", 3600))
    store.join(lease)
    assert store.pending() == ["s1", "m3"]
    assert store.run(control.cancel(store.namespace, "m3", 3600))
    store.check()


def test_what_is_left_by_a_join_keeps_its_window_and_its_characters(store: Rig) -> None:
    window = Window(delay_ms=5000, max_chars=20)
    lease = claimed(store)
    for message_id in ("m2", "m3"):
        store.add(message_id=message_id, window=window, after_run="window", mid_run="interrupt")
    due = store.thread_hash()["own_due"]
    joined, _ = store.join(lease, most=2)
    thread = store.thread_hash()
    assert (thread["own_due"], thread["n"]) == (due, "1")
    store.check()
    store.join(joined)
    assert "chars" not in store.thread_hash()
    assert not store.finish(joined)


def test_messages_join_after_a_takeover_and_the_batch_is_whole_for_the_next_holder(
    store: Rig,
) -> None:
    claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.clock.advance(60)
    taken = store.claim()
    assert taken.claimed.wish is Wish.INTERRUPT
    store.join(taken)
    store.clock.advance(60)
    again = store.claim()
    assert (batch_ids(again), again.claimed.wish) == (["m1", "m2"], None)
    store.stop()
    store.stopped(again)
    assert [status(store, one) for one in ("m1", "m2")] == ["cancelled"] * 2
    store.check()


def test_a_copy_of_a_join_takes_nothing_and_returns_the_batch(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    joined, _ = store.join(lease)
    store.add(message_id="m3", mid_run="interrupt", delay_s=0)
    word, wish, entries = assert_a_copy_changes_nothing(store, "join")
    assert (text(word), text(wish)) == ("ok", "interrupt")
    assert [json.loads(entry)["id"] for entry in entries] == ["m1", "m2"]
    store.save(joined, Phase.SENDING)
    assert_a_copy_changes_nothing(store, "join")
    store.finish(joined)
    assert_a_copy_changes_nothing(store, "join")


def test_what_joined_is_put_back_with_its_batch_in_order(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    joined, _ = store.join(lease)
    store.add(message_id="m3", delay_s=0)
    store.bury(joined)
    assert store.ids(store.keys.dead("batch-1")) == ["m1", "m2"]
    store.retry_failed("batch-1")
    assert store.pending() == ["m1", "m2", "m3"]
    store.check()


def test_what_joined_beyond_the_characters_is_given_back_in_order(store: Rig) -> None:
    store.add(message_id="m1", delay_s=0)
    lease = store.claim()
    for message_id in ("m2", "m3"):
        store.add(message_id=message_id, mid_run="interrupt", delay_s=0)
    joined, _ = store.join(lease)
    store.add(message_id="m4", delay_s=0)
    store.trim(joined, 2)
    assert (store.frozen(), store.pending()) == (["m1", "m2"], ["m3", "m4"])
    assert store.run(control.cancel(store.namespace, "m3", 3600))
    store.check()


@pytest.mark.parametrize("event", ["run_interrupted", "message_steered"])
@pytest.mark.parametrize(
    ("limits", "joins", "reason"),
    [
        ({"most": 1}, 0, "max_batch_size"),
        ({"most": 2}, 1, "max_batch_size"),
        ({"most": 3}, 2, ""),
        ({"most_chars": 3}, 0, "max_batch_chars"),
        ({"most_chars": 5}, 0, "max_batch_chars"),
        ({"most_chars": 6}, 1, "max_batch_chars"),
        ({"most_chars": 8, "most": 2}, 1, "max_batch_size"),
        ({"most_chars": 8}, 2, ""),
        ({"own_authors": True}, 1, "separate_authors"),
        ({"own_authors": True, "most": 1}, 0, "max_batch_size"),
    ],
)
def test_what_a_limit_keeps_from_joining_is_published(
    store: Rig, event: str, limits: dict[str, Any], joins: int, reason: str
) -> None:
    """In one step: a holder that dies after it leaves no batch that is too large."""
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store, content="🙂é日", author="Ann")
    parts = [{"type": "text", "text": "é"}, {"type": "image"}, {"type": "text", "text": "l"}]
    store.add(message_id="m2", content=parts, author="Ann", mid_run="steer", delay_s=0)
    store.add(message_id="m3", content="🙂🙂", author="Ben", mid_run="interrupt", delay_s=0)
    joined, left = store.join(lease, event=event, **limits)
    assert (batch_ids(joined), left) == (["m1", "m2", "m3"][: joins + 1], None)
    assert store.frozen() == batch_ids(joined)
    refusals = [one.reason for one in events(store) if one.type == "interrupt_refused"]
    assert refusals == [reason] * bool(reason)
    store.check()


def test_a_reply_of_say_that_keeps_a_message_from_joining_is_published(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    store.say(message_id="s1", kind="reply")
    store.join(lease)
    assert "interrupt_refused" not in kinds(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.join(lease)
    event = events(store)[-1]
    assert (event.type, event.reason) == ("interrupt_refused", "say")  # type: ignore[attr-defined]


# --- refuse ---------------------------------------------------------------------------------------


def test_a_refusal_forgets_the_wish_and_is_published_once(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    store.refuse(lease, "cannot_cancel")
    assert store.wish() == ""
    event = events(store)[-1]
    assert (event.type, event.reason) == ("interrupt_refused", "cannot_cancel")  # type: ignore[attr-defined]
    store.add(message_id="m3", mid_run="interrupt", delay_s=0)
    assert_a_copy_changes_nothing(store, "refuse")
    assert store.wish() == "interrupt batch-1"
    assert kinds(store).count("interrupt_refused") == 1
    store.finish(lease)
    assert_a_copy_changes_nothing(store, "refuse")
    store.check()


@pytest.mark.parametrize("kind", ["stop", "steer", ""])
def test_only_an_interruption_is_refused(store: Rig, kind: str) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    if kind == "stop":
        store.stop()
    elif kind:
        store.add(message_id="m2", mid_run=kind, delay_s=0)
    before = store.snapshot()
    store.refuse(lease)
    assert store.snapshot() == before


def test_an_error_of_a_stop_is_counted_as_any_other(store: Rig) -> None:
    lease = claimed(store)
    store.stop()
    store.postpone(lease, RETRYING, wait_s=2, seen=Wish.STOP)
    assert store.metrics().errors == {ERROR.code: 1}
