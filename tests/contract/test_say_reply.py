"""Replies of `say`: shown at once, and a separate batch for the provider's conversation."""

from __future__ import annotations

import pytest

from assistant_queue.core.thread_state import ThreadState
from assistant_queue.models import Message, MessageStatus, Receipt
from assistant_queue.store.message_codec import pack, unpack
from assistant_queue.store.ops import control, event_log
from assistant_queue.store.ops.leases import MAX_BATCH, Lease
from tests.contract.store_rig import Rig

WORDS = "A colleague is looking into it."


def say(store: Rig, message_id: str = "s", words: str = WORDS) -> Receipt:
    return store.say(words=words, message_id=message_id, kind="reply")


def batches(store: Rig, **fields: object) -> list[list[str]]:
    """Take and finish all that is due; return the message ids of each batch."""
    found = []
    while True:
        lease = store.try_claim(**fields)
        if not isinstance(lease, Lease):
            return found
        found.append([message.id for message in lease.claimed.batch.messages])
        store.finish(lease)
        store.check()


def status_of(store: Rig, message_id: str) -> MessageStatus:
    status = store.message(message_id)
    assert status is not None
    return status


def events_of(store: Rig) -> list[str]:
    page = store.run(event_log.read(store.namespace, "thread", event_log.START, 20))
    return [event.type for event in page.events]


def test_it_keeps_its_role_in_the_list() -> None:
    said = Message(id="s", content=WORDS, author="Jo", role="assistant", wants_reply=False)
    assert unpack(pack(said)) == said


def test_it_is_shown_at_once_and_waits_for_its_place_in_the_conversation(store: Rig) -> None:
    receipt = say(store)
    assert receipt.job_id in store.queued()
    assert len(store.queued()) == 1, "one wake-up for both"
    waiting = status_of(store, "s")
    assert (waiting.status, waiting.reply, waiting.delivery) == ("queued", WORDS, "pending")
    delivery = store.claim_delivery()
    assert delivery is not None
    assert delivery.reply is not None
    assert (delivery.reply.result.reply, delivery.reply.result.run_id) == (WORDS, "")
    store.delivered(delivery)
    store.check()
    assert status_of(store, "s").delivery == "delivered"
    assert store.pop() == "thread"
    lease = store.claim()
    (message,) = lease.claimed.batch.messages
    assert (message.id, message.text, message.role) == ("s", WORDS, "assistant")
    assert message.queued_at == receipt.due_at
    store.save(lease, mark=["s"])
    assert status_of(store, "s").status == "processing"
    store.finish(lease)
    done = status_of(store, "s")
    assert (done.status, done.reply, done.delivery) == ("completed", WORDS, "delivered")
    assert done.timeline.delivered_at is not None
    assert (store.state(), store.counters()["completed"]) == (ThreadState.IDLE, 1)
    store.check_idle()


def test_it_waits_for_the_run_and_goes_before_what_came_after_it(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    lease = store.claim()
    store.add(message_id="b", delay_s=0)
    say(store)
    store.add(message_id="c", delay_s=0)
    store.check()
    assert store.refused() == "refused"
    store.finish(lease)
    assert batches(store) == [["b"], ["s"], ["c"]]


def test_it_ends_no_window(store: Rig) -> None:
    receipt = store.add(message_id="a", delay_s=2)
    say(store)
    assert store.refused() == "early"
    assert store.thread().due_at == receipt.due_at
    store.clock.advance(2)
    assert batches(store) == [["a"], ["s"]]


def test_a_message_of_a_window_after_it_is_taken_right_after_it(store: Rig) -> None:
    say(store)
    store.add(message_id="a", delay_s=2)
    assert batches(store) == [["s"], ["a"]]


def test_messages_that_want_no_reply_before_it_are_written_with_it(store: Rig) -> None:
    store.add(message_id="a", wants_reply=False)
    say(store)
    store.add(message_id="b", wants_reply=False)
    assert batches(store) == [["a", "s"]]
    assert (store.pending(), store.thread().due_at) == (["b"], None)
    store.check()
    say(store, "t")
    store.add(message_id="c", delay_s=0)
    assert batches(store) == [["b", "t"], ["c"]]


def test_several_are_one_batch_each_whatever_a_batch_may_have(store: Rig) -> None:
    for number in range(3):
        say(store, f"s{number}")
        store.add(message_id=f"m{number}", delay_s=0)
    assert batches(store, max_take=1) == [["s0"], ["m0"], ["s1"], ["m1"], ["s2"], ["m2"]]


def test_it_ends_a_batch_behind_a_cancelled_place(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    store.add(message_id="b", delay_s=0)
    say(store)
    store.add(message_id="c", delay_s=0)
    assert store.run(control.cancel(store.namespace, "b", 3600))
    assert batches(store) == [["a"], ["s"], ["c"]]


def test_a_batch_has_a_thousand_messages_at_most_before_it(store: Rig) -> None:
    for number in range(MAX_BATCH + 1):
        store.add(message_id=f"{number}", wants_reply=False)
    say(store)
    assert [len(batch) for batch in batches(store)] == [MAX_BATCH, 2]


@pytest.mark.parametrize("waits", [True, False])
def test_the_last_message_before_it_may_be_cancelled(store: Rig, waits: bool) -> None:
    store.add(message_id="a", delay_s=2)
    say(store)
    assert store.run(control.cancel(store.namespace, "a", 3600))
    store.check()
    store.clock.advance(0 if waits else 2)
    assert batches(store) == ([] if waits else [["s"]])


def test_what_was_said_cannot_be_cancelled_or_edited(store: Rig) -> None:
    say(store)
    assert not store.run(control.cancel(store.namespace, "s", 3600))
    assert not store.run(control.edit(store.namespace, Message(id="s", content="no")))
    assert batches(store) == [["s"]]


@pytest.mark.parametrize("before", [[], ["a"]])
def test_a_batch_that_failed_returns_to_its_place(store: Rig, before: list[str]) -> None:
    for message_id in before:
        store.add(message_id=message_id, wants_reply=False)
    say(store)
    store.bury(store.claim())
    (failed,) = store.failed()
    assert (failed.message_ids, status_of(store, "s").status) == ((*before, "s"), "failed")
    assert (status_of(store, "s").reply, status_of(store, "s").delivery) == (WORDS, "pending")
    store.add(message_id="b", delay_s=0)
    store.retry_failed(failed.batch_id)
    store.check()
    assert batches(store) == [[*before, "s"], ["b"]]
    assert status_of(store, "s").status == "completed"


def test_a_trimmed_batch_leaves_it_to_the_next(store: Rig) -> None:
    store.add(message_id="a", wants_reply=False)
    say(store)
    lease = store.claim()
    store.trim(lease, 1)
    store.check()
    store.add(message_id="b", delay_s=0)
    store.postpone(lease, wait_s=0)
    assert batches(store) == [["a"], ["s"], ["b"]]


def test_the_same_call_again_says_it_once(store: Rig) -> None:
    receipt = say(store)
    call = next(call for call in store.sent if call.script and call.script.name == "say")
    for step in (lambda: None, lambda: batches(store)):
        step()
        before = store.snapshot()
        store.clock.advance(1)
        assert store.again(call)[1:] == [
            str(round(receipt.due_at.timestamp() * 1000)).encode(),
            str(receipt.job_id).encode(),
        ]
        assert store.snapshot() == before


def test_subscribers_get_it_once(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    say(store)
    batches(store)
    assert events_of(store) == ["said"]
    store.add(message_id="a", wants_reply=False)
    say(store, "t")
    batches(store)
    assert events_of(store)[1:] == ["message_queued", "said", "batch_claimed", "reply_ready"]


def test_its_failure_is_published(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    say(store)
    store.bury(store.claim())
    assert events_of(store) == ["said", "batch_dead_lettered"]


def test_a_paused_thread_keeps_it_until_it_is_resumed(store: Rig) -> None:
    store.run(control.pause_thread(store.namespace, "thread"))
    assert say(store).job_id is None
    assert (store.refused(), store.claim_delivery(), store.jobs()) == ("paused", None, {})
    store.check()
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.claim_delivery() is not None
    assert batches(store) == [["s"]]


def test_a_lost_wake_up_is_noticed(store: Rig) -> None:
    say(store)
    store.lose_wakeups()
    store.clock.advance(5)
    store.sweep()
    assert store.pop() == "thread"
    assert batches(store) == [["s"]]


def test_it_keeps_its_place_in_a_thread_that_another_program_broke(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    say(store)
    store.add(message_id="b", delay_s=0)
    store.client.hset(store.keys.thread("thread"), "n", "abc")
    found = []
    while isinstance(lease := store.try_claim(), Lease):
        found.append([message.id for message in lease.claimed.batch.messages])
        store.finish(lease)
    assert found == [["a"], ["s"], ["b"]]


def test_it_is_forgotten_with_its_thread(store: Rig) -> None:
    say(store)
    store.run(control.forget(store.namespace, "thread"))
    assert "colleague" not in str(store.snapshot())
    assert [key for key in store.all_keys() if "thread" in key or "note" in key] == []
