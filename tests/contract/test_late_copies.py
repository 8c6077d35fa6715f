"""A copy of a call arrives long after the call had its effect: nothing changes.

`tests/properties` repeats every call of a queue's life; these are the calls that its machine does
not make.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.window import Window
from assistant_queue.errors import LeaseLost, ThreadBusy, ThreadFull
from assistant_queue.models import Message
from assistant_queue.store import wakeups
from assistant_queue.store.calls import OVER_MS, Call, Operation
from assistant_queue.store.ops import (
    control,
    conversations,
    delivery_marks,
    event_log,
    leases,
    producing,
)
from assistant_queue.store.quarantine import quarantine
from assistant_queue.store.rq_jobs import RqJob
from tests.contract.store_rig import Rig


def last(store: Rig, name: str) -> Call:
    """The last call of a script."""
    return [call for call in store.sent if call.script is not None and call.script.name == name][-1]


def assert_a_copy_changes_nothing(store: Rig, call: Call) -> None:
    before = store.snapshot()
    store.again(call)
    assert store.snapshot() == before


def published(store: Rig) -> list[str]:
    return [
        json.loads(fields[b"data"])["text"]
        for _, fields in store.client.xrange(store.keys.events("thread"))
        if b"text" in fields[b"data"]
    ]


def tell(store: Rig, lease: leases.Lease, text: str, so_far: str) -> None:
    store.run(
        event_log.publish(
            store.namespace, lease, so_far, [event_log.text_delta("b", "r", 0, 0, text)]
        )
    )


def test_a_piece_of_text_is_not_published_again_after_the_next(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    store.add(delay_s=0)
    lease = store.claim()
    tell(store, lease, "Hel", "3")
    first = last(store, "tell")
    tell(store, lease, "lo", "5")
    store.again(first)
    assert published(store) == ["Hel", "lo"]
    assert store.thread_hash()["told"] == "5"
    store.postpone(lease, wait_s=0)
    tell(store, store.claim(), "!", "6")
    assert published(store) == ["Hel", "lo", "!"], "the next holder counts anew"


def move(store: Rig, lease: leases.Lease, old: str, new: str) -> None:
    store.run(
        leases.move_conversation(
            store.namespace,
            lease,
            old_id=old,
            conversation_id=new,
            anchor=None,
            phase=Phase.FROZEN,
            progress=Progress(attempts=1),
        )
    )


def test_a_thread_that_was_moved_and_moved_back_is_not_moved_again(store: Rig) -> None:
    store.run(leases.set_conversation(store.namespace, "thread", "conv_1"))
    store.add(delay_s=0)
    lease = store.claim()
    move(store, lease, "conv_1", "conv_2")
    first = last(store, "move_conversation")
    move(store, lease, "conv_2", "conv_1")
    assert_a_copy_changes_nothing(store, first)


def test_a_forgotten_thread_is_not_given_its_old_conversation_again(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.run(leases.set_conversation(store.namespace, "thread", "conv_1", token=lease.token))
    store.finish(lease)
    store.run(control.forget(store.namespace, "thread"))
    assert_a_copy_changes_nothing(store, last(store, "set_conversation"))


def test_a_worker_that_lost_the_lease_sets_no_conversation(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.postpone(lease)
    before = store.snapshot()
    with pytest.raises(LeaseLost):
        store.run(leases.set_conversation(store.namespace, "thread", "conv_1", token=lease.token))
    assert store.snapshot() == before


def test_a_thread_that_lives_again_is_not_forgotten_again(store: Rig) -> None:
    store.add(delay_s=0)
    store.run(control.forget(store.namespace, "thread"))
    store.add(delay_s=0)
    assert_a_copy_changes_nothing(store, last(store, "forget"))


def test_a_direct_call_that_is_over_does_not_take_the_lease_again(store: Rig) -> None:
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    store.run(control.unlock(store.namespace, "thread", token="call"))
    assert_a_copy_changes_nothing(store, last(store, "lock"))


def test_a_direct_call_that_was_refused_does_not_take_the_lease_later(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    with pytest.raises(ThreadBusy):
        store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    refused = last(store, "lock")
    store.run(control.unlock(store.namespace, "thread", token="call"))  # as every direct call ends
    store.finish(lease)
    assert_a_copy_changes_nothing(store, refused)


@pytest.mark.parametrize("forget", [conversations.forget_end, conversations.forget_open_calls])
def test_a_direct_call_that_is_over_takes_nothing_of_the_conversation(
    store: Rig, forget: Any
) -> None:
    store.client.hset(
        store.keys.conversation("thread"),
        mapping={"id": "conv_1", "anchor": "item_1", "open": '["call_1"]'},
    )
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    store.run(forget(store.namespace, "thread", token="call"))
    assert len(store.hash(store.keys.conversation("thread"))) == 2
    store.run(control.unlock(store.namespace, "thread", token="call"))
    store.client.hset(
        store.keys.conversation("thread"), mapping={"anchor": "item_2", "open": '["call_2"]'}
    )
    assert_a_copy_changes_nothing(store, last(store, "forget_end"))


def test_what_an_earlier_producer_believed_is_not_believed_again(store: Rig) -> None:
    store.run(control.introduce(store.namespace, {"model": "old"}))
    first = last(store, "introduce")
    store.run(control.introduce(store.namespace, {"model": "new"}))
    assert_a_copy_changes_nothing(store, first)
    store.run(control.check_in(store.namespace, {"model": "new"}))


def test_a_delivery_that_is_done_is_not_open_again(store: Rig) -> None:
    store.run(delivery_marks.announce(store.namespace, "batch", 30))
    store.run(delivery_marks.keep_open(store.namespace, "batch", 30))
    assert store.run(delivery_marks.look(store.namespace, "batch")) == delivery_marks.OPEN
    store.run(delivery_marks.settle(store.namespace, "batch", 3600))
    assert_a_copy_changes_nothing(store, last(store, "keep_delivery"))
    assert store.run(delivery_marks.look(store.namespace, "batch")) == delivery_marks.DONE


def test_a_sound_thread_is_not_quarantined_again(store: Rig) -> None:
    """Nor by a second call that met the same corrupt key."""
    store.add("thread", "m1", delay_s=0)
    store.client.hset(store.keys.thread("thread"), "n", "many")
    store.client.rpush(store.keys.frozen("thread"), "x")
    assert store.add("thread", "m2", delay_s=0).duplicate is False
    store.run(quarantine(store.namespace, "thread", store.keys.thread("thread"), "thread"))
    found = last(store, "quarantine")
    lease = store.claim()
    assert_a_copy_changes_nothing(store, found)
    store.run(quarantine(store.namespace, "frozen", store.keys.frozen("thread"), "thread"))
    assert store.frozen() == [message.id for message in lease.claimed.batch.messages]


def test_a_claim_is_over_once_rq_has_deleted_its_job(store: Rig) -> None:
    """RQ's own worker keeps the records of its jobs, and deletes a job that is done."""
    store.add(delay_s=0)
    thread, job = store.take("") or ("", RqJob())
    store.pause_queue()
    assert store.refused(thread, job=job) == "paused"
    store.resume_queue()
    claim = last(store, "claim")
    store.client.delete(wakeups.job_key(job.id))
    assert_a_copy_changes_nothing(store, claim)


def test_a_job_that_rq_has_started_is_claimed_for(store: Rig) -> None:
    """Its status is RQ's own word there, and says nothing of a claim."""
    store.add(delay_s=0)
    thread, job = store.take("") or ("", RqJob())
    store.client.hset(wakeups.job_key(job.id), "status", "started")
    assert store.claim(thread, job=job).token


def test_an_add_that_was_answered_long_ago_is_the_same_add_after_an_edit(store: Rig) -> None:
    store.add("thread", "m1", delay_s=60)
    store.run(control.edit(store.namespace, Message(id="m1", content="better")))
    reply = store.again(last(store, "add"))
    assert reply[0] in ("added", b"added")


def test_an_edit_of_what_was_edited_meanwhile_is_made_all_the_same(store: Rig) -> None:
    """Two calls at once: the one that comes second reads again, and is the one that stays."""
    store.add("thread", "m1", delay_s=60)
    slow = control.edit(store.namespace, Message(id="m1", content="second"))
    read = store.store.run(one_step(slow))
    store.run(control.edit(store.namespace, Message(id="m1", content="first")))
    assert store.run(resumed(slow, read)) is True
    store.clock.advance(60)
    assert [message.content for message in store.claim().claimed.batch.messages] == ["second"]


def one_step(operation: Operation[Any]) -> Operation[Any]:
    return (yield next(operation))


def resumed(operation: Operation[Any], reply: Any) -> Operation[Any]:
    """Return the rest of an operation, from this reply on."""
    try:
        while True:
            reply = yield operation.send(reply)
    except StopIteration as stop:
        return stop.value


def test_a_cancel_of_what_was_edited_meanwhile_cancels_it(store: Rig) -> None:
    store.add("thread", "m1", delay_s=60)
    slow = control.cancel(store.namespace, "m1", 3600)
    read = store.store.run(one_step(slow))
    store.run(control.edit(store.namespace, Message(id="m1", content="first")))
    assert store.run(resumed(slow, read)) is True
    assert store.pending() == []


def test_what_is_remembered_of_a_call_is_forgotten_after_a_while(store: Rig) -> None:
    rules = producing.AddRules(window=Window(delay_ms=0), max_pending=1)
    store.run(producing.add(store.namespace, "thread", Message(id="m1", content="x"), rules))
    with pytest.raises(ThreadFull):
        store.run(producing.add(store.namespace, "thread", Message(id="m2", content="x"), rules))
    store.run(control.pause_queue(store.namespace))
    store.run(control.resume_queue(store.namespace))
    store.run(control.pause_thread(store.namespace, "thread"))
    store.run(control.resume_thread(store.namespace, "thread"))
    store.run(control.forget(store.namespace, "thread"))
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    store.run(control.unlock(store.namespace, "thread", token="call"))
    memory = list(store.client.scan_iter(store.keys.over("*")))
    assert len(memory) == 7
    assert all(0 < store.client.pttl(key) <= OVER_MS for key in memory)
