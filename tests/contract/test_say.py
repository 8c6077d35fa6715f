"""`say`: a text without a run, in the outbox and in the thread's events."""

from __future__ import annotations

import pytest

from assistant_queue import InvalidArgument
from assistant_queue.models import Message, Receipt, RunResult
from assistant_queue.store.ops import control, event_log, failures
from tests.contract.store_rig import Rig

WORDS = "We are closed today."


def deliver(store: Rig) -> list[RunResult]:
    """Deliver all that is due, as workers do."""
    found: list[RunResult] = []
    lease = store.claim_delivery()
    while lease is not None:
        assert lease.reply is not None
        found.append(lease.reply.result)
        lease = store.delivered(lease)
    return found


def delivery_of(store: Rig, receipt: Receipt) -> tuple[str, str | None, str]:
    status = store.message(receipt.message_id)
    assert status is not None
    return status.status, status.reply, status.delivery


def test_a_text_is_delivered_at_once_without_a_run(store: Rig) -> None:
    receipt = store.say(words=WORDS)
    assert receipt.job_id in store.queued()
    assert store.pop() == "thread"
    assert store.refused() == "idle"
    assert delivery_of(store, receipt) == ("completed", WORDS, "pending")
    (result,) = deliver(store)
    assert (result.replies, result.run_id) == ((WORDS,), "")
    assert (result.messages, result.message_ids) == ((), (receipt.message_id,))
    assert result.ended_at == receipt.due_at
    assert delivery_of(store, receipt)[2] == "delivered"
    assert store.counters()["completed"] == 0
    store.check_idle()


def test_texts_and_replies_are_delivered_in_order(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.say(words="one moment")
    store.reply(lease, reply="the answer", at_once=False)
    store.say(words="bye")
    assert [result.reply for result in deliver(store)] == ["one moment", "the answer", "bye"]


def test_a_run_does_not_wait_for_a_text(store: Rig) -> None:
    store.add(delay_s=0)
    store.say(words=WORDS)
    lease = store.claim()
    assert [message.text for message in lease.claimed.batch.messages] == ["hello"]
    store.check()


def test_the_same_call_again_says_it_once(store: Rig) -> None:
    receipt = store.say(words=WORDS)
    call = next(call for call in store.sent if call.script and call.script.name == "say")
    before = store.snapshot()
    store.clock.advance(1)
    assert store.again(call)[1:] == [
        str(round(receipt.due_at.timestamp() * 1000)).encode(),
        str(receipt.job_id).encode(),
    ]
    assert store.snapshot() == before
    deliver(store)
    before = store.snapshot()
    store.again(call)
    assert store.snapshot() == before, "nor once it was delivered"


def test_subscribers_get_it(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    receipt = store.say(words=WORDS)
    page = store.run(event_log.read(store.namespace, "thread", event_log.START, 10))
    (event,) = page.events
    assert event.type == "said"
    assert (event.message_id, event.text) == (receipt.message_id, WORDS)
    assert (event.author, event.kind) == ("Jo", "notice")


def test_a_text_that_cannot_be_delivered_is_returned_and_discarded_as_a_reply(store: Rig) -> None:
    receipt = store.say(words=WORDS)
    lease = store.claim_delivery()
    assert lease is not None
    store.park_delivery(lease)
    (failed,) = store.failed()
    assert (failed.reason, failed.message_ids) == ("undelivered", (receipt.message_id,))
    assert delivery_of(store, receipt)[2] == "undelivered"
    store.retry_failed(failed.batch_id)
    (result,) = deliver(store)
    assert result.late
    second = store.say(words=WORDS)
    lease = store.claim_delivery()
    assert lease is not None
    store.park_delivery(lease)
    store.run(failures.discard_failed(store.namespace, lease.batch_id, 3600))
    assert store.failed() == []
    assert delivery_of(store, second)[0] == "completed"
    store.check_idle()


def test_a_paused_thread_keeps_it_until_it_is_resumed(store: Rig) -> None:
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.say(words=WORDS).job_id is None
    assert store.claim_delivery() is None
    store.run(control.resume_thread(store.namespace, "thread"))
    assert len(deliver(store)) == 1


def test_a_paused_queue_keeps_it_until_it_is_resumed(store: Rig) -> None:
    store.run(control.pause_queue(store.namespace))
    assert store.say(words=WORDS).job_id is None
    assert store.claim_delivery() is None
    store.run(control.resume_queue(store.namespace))
    assert len(deliver(store)) == 1


def test_what_was_said_is_no_message_to_cancel_or_edit_and_is_forgotten(store: Rig) -> None:
    receipt = store.say(words=WORDS)
    assert not store.run(control.cancel(store.namespace, receipt.message_id, 3600))
    edited = Message(id=receipt.message_id, content="no")
    assert not store.run(control.edit(store.namespace, edited))
    store.run(control.forget(store.namespace, "thread"))
    assert "closed" not in str(store.snapshot())
    assert [key for key in store.all_keys() if "thread" in key or "note" in key] == []


@pytest.mark.parametrize("kind", ["note", None, 7])
def test_a_kind_is_checked_before_anything_is_sent(kind: object) -> None:
    from assistant_queue.client.arguments import check_say

    with pytest.raises(InvalidArgument, match="kind"):
        check_say("hello", None, kind)
