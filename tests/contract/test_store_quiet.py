"""Messages that want no reply: they wait, without a window, for one that wants a reply."""

from __future__ import annotations

from assistant_queue.core.thread_state import ThreadState
from assistant_queue.core.window import NEVER_MS
from assistant_queue.models import Message
from assistant_queue.store.message_codec import pack, unpack
from assistant_queue.store.ops import control
from assistant_queue.store.ops.leases import MAX_BATCH
from tests.contract.store_rig import Rig

START = 1_700_000_000_000
NEVER = {"thread": NEVER_MS}
"""The set `due` of a thread in which no message wants a reply."""


def ids(store: Rig, **fields: object) -> list[str]:
    return [message.id for message in store.claim(**fields).claimed.batch.messages]


def test_a_message_that_wants_no_reply_opens_no_window(store: Rig) -> None:
    receipt = store.add(message_id="a", wants_reply=False)
    assert (receipt.job_id, receipt.due_at.year) == (None, 9999)
    assert (store.due(), store.jobs(), store.state()) == (NEVER, {}, ThreadState.PENDING)
    thread = store.thread()
    message = store.message("a")
    assert message is not None
    assert (thread.pending_count, thread.due_at) == (1, None)
    assert (message.status, message.due_at, message.timeline.due_at) == ("queued", None, None)
    assert store.counters()["delayed"] == 1
    assert store.refused() == "idle"
    store.check()


def test_it_is_answered_with_the_next_that_wants_a_reply_after_the_window_of_that(
    store: Rig,
) -> None:
    store.add(message_id="a", wants_reply=False)
    store.clock.advance(60)
    receipt = store.add(message_id="b", delay_s=2)
    assert receipt.due_at.timestamp() * 1000 == store.clock.ms + 2000
    store.clock.advance(1)
    store.add(message_id="c", delay_s=2, wants_reply=False)
    waiting = store.message("a")
    assert waiting is not None
    assert waiting.due_at == receipt.due_at
    store.check()
    store.clock.advance(1)
    assert ids(store) == ["a", "b", "c"]


def test_a_message_keeps_its_wish_in_the_list_and_through_an_edit(store: Rig) -> None:
    quiet = Message(id="a", content="hi", wants_reply=False)
    assert unpack(pack(quiet)) == quiet
    assert unpack(pack(Message(id="a", content="hi"))).wants_reply
    store.add(message_id="a", wants_reply=False)
    edited = Message(id="a", content="hello")
    assert store.run(control.edit(store.namespace, edited))
    store.add(message_id="b", delay_s=0)
    messages = store.claim().claimed.batch.messages
    assert [(one.text, one.wants_reply) for one in messages] == [("hello", False), ("hello", True)]


def test_what_a_message_says_does_not_look_like_the_mark(store: Rig) -> None:
    store.add(message_id='{"w":0,', content='{"w":0,', delay_s=0)
    assert ids(store) == ['{"w":0,']


def test_it_waits_after_a_run_for_the_next(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    assert store.pop() == "thread"
    lease = store.claim()
    store.add(message_id="b", wants_reply=False)
    assert store.finish(lease)
    assert (store.due(), store.jobs()) == (NEVER, {})
    store.check()
    store.add(message_id="c", delay_s=0)
    assert ids(store) == ["b", "c"]


def test_a_cancelled_message_takes_its_window_with_it(store: Rig) -> None:
    store.add(message_id="a", wants_reply=False)
    store.add(message_id="b", delay_s=1)
    assert store.run(control.cancel(store.namespace, "b", 3600))
    assert (store.due(), store.thread().due_at) == (NEVER, None)
    store.check()
    store.clock.advance(2)
    store.scheduler()  # the wake-up of the window finds nothing to do
    assert store.pop() == "thread"
    assert store.refused() == "idle"
    receipt = store.add(message_id="c", delay_s=0)
    assert receipt.job_id in store.queued()
    assert ids(store) == ["a", "c"]


def test_they_do_not_count_towards_the_messages_of_a_batch(store: Rig) -> None:
    for number in range(6):
        store.add(message_id=f"{number}", delay_s=0, wants_reply=number in {3, 5})
    assert ids(store, max_take=1) == ["0", "1", "2", "3"]
    store.check()


def test_a_batch_has_a_thousand_messages_at_most_whatever_they_want(store: Rig) -> None:
    for _ in range(MAX_BATCH + 1):
        store.add(wants_reply=False)
    store.add(delay_s=0)
    lease = store.claim()
    assert len(lease.claimed.batch.messages) == MAX_BATCH
    assert not store.finish(lease) or len(ids(store)) == 2
    store.check()


def test_a_direct_call_leaves_them_waiting(store: Rig) -> None:
    store.add(wants_reply=False)
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    store.run(control.unlock(store.namespace, "thread", token="call"))
    assert (store.due(), store.jobs()) == (NEVER, {})
    store.check()


def test_a_direct_call_that_died_leaves_them_waiting(store: Rig) -> None:
    store.add(wants_reply=False)
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    store.clock.advance(40)
    store.sweep()
    assert store.pop() == "thread"
    assert store.refused() == "idle"
    assert "token" not in store.thread_hash()
    store.check()


def test_a_worker_of_version_0_1_may_have_scheduled_the_end_of_time(store: Rig) -> None:
    store.add(message_id="a", wants_reply=False)
    store.client.zadd(store.keys.due, {"thread": NEVER_MS})
    assert store.run(control.pause_thread(store.namespace, "thread")) is None
    store.run(control.resume_thread(store.namespace, "thread"))
    store.check()
    assert store.add(message_id="b", delay_s=0).job_id in store.queued()
