"""Edits and removals of messages in a batch under way, and the promotion of those that wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import LeaseLost
from assistant_queue.models import Message
from assistant_queue.store.calls import text
from assistant_queue.store.message_codec import digest, unpack_readable
from assistant_queue.store.ops import batch_changes, control, event_log, steering
from assistant_queue.store.ops.leases import Lease
from tests.contract.store_rig import Rig

RUNNING = Progress(attempts=1, run_id="run_1")


def running(store: Rig, *texts: str) -> Lease:
    """Claim a batch of these messages, m0 and so on, and note its run."""
    for number, content in enumerate(texts):
        store.add(message_id=f"m{number}", content=content, delay_s=0)
    lease = store.claim()
    ids = [message.id for message in lease.claimed.batch.messages]
    store.save(lease, Phase.RUNNING, RUNNING, ids)
    return lease


def edit(store: Rig, message_id: str, content: str) -> bool:
    made = Message(id=message_id, content=content)
    return store.run(steering.revise(store.namespace, message_id, made))


def remove(store: Rig, message_id: str) -> bool:
    return store.run(steering.revise(store.namespace, message_id, None))


def read(store: Rig, lease: Lease) -> tuple[Mapping[str, Message | None], str]:
    return store.run(batch_changes.read_revisions(store.namespace, lease))


def make(store: Rig, lease: Lease, messages: tuple[Message, ...], **fields: object) -> bool:
    found, count = read(store, lease)
    given = {"revisions": found, "count": count, **fields}
    return store.run(
        batch_changes.make_revisions(
            store.namespace,
            lease,
            Phase.FROZEN,
            Progress(interrupts=1),
            messages=messages,
            result_ttl_s=60,
            **given,  # type: ignore[arg-type]
        )
    )


def wish(store: Rig, lease: Lease) -> Wish | None:
    return store.claim(token=lease.token).claimed.wish


def frozen(store: Rig) -> list[str]:
    entries = store.client.lrange(store.keys.frozen("thread"), 0, -1)
    messages, _ = unpack_readable([text(entry) for entry in entries])
    return [message.text for message in messages]


def test_an_edit_is_read_by_the_holder_and_made_in_place(store: Rig) -> None:
    lease = running(store, "one", "two")
    assert edit(store, "m1", "three")
    assert wish(store, lease) is Wish.INTERRUPT
    found, _ = read(store, lease)
    first, second = lease.claimed.batch.messages
    assert found == {"m1": replace(second, content="three")}
    assert make(store, lease, (first, replace(second, content="three")))
    assert frozen(store) == ["one", "three"]
    hash_ = store.thread_hash("thread")
    assert (hash_["phase"], hash_["bn"]) == ("frozen", "2")
    assert "revisions" not in hash_
    record = store.client.hgetall(store.keys.message("m1"))
    fields = {text(name): text(value) for name, value in record.items()}
    assert fields["digest"] == digest("three")
    assert "revision" not in fields
    store.check()


def test_a_removed_message_is_cancelled_and_counted(store: Rig) -> None:
    lease = running(store, "one", "two")
    assert remove(store, "m0")
    assert wish(store, lease) is Wish.INTERRUPT
    assert read(store, lease)[0] == {"m0": None}
    assert make(store, lease, lease.claimed.batch.messages[1:])
    status = store.message("m0")
    assert status is not None
    assert (status.status, status.batch_id) == ("cancelled", None)
    assert frozen(store) == ["two"]
    assert store.thread_hash("thread")["bn"] == "1"
    store.check()


def test_a_batch_of_which_nothing_would_be_left_is_stopped(store: Rig) -> None:
    lease = running(store, "one")
    assert remove(store, "m0")
    assert wish(store, lease) is Wish.STOP
    assert read(store, lease)[0] == {}


@pytest.mark.parametrize("state", [ThreadState.RETRYING, ThreadState.HELD])
def test_a_batch_that_waits_is_reached(store: Rig, state: ThreadState) -> None:
    lease = running(store, "one", "two")
    store.postpone(lease, state, wait_s=60)
    assert edit(store, "m0", "three")
    store.clock.advance(60)
    again = store.claim()
    assert again.claimed.wish is Wish.INTERRUPT
    assert read(store, again)[0].keys() == {"m0"}


def test_what_is_in_no_batch_under_way_is_not_revised(store: Rig) -> None:
    assert not edit(store, "unknown", "x")
    store.add(message_id="waits", delay_s=60)
    assert not edit(store, "waits", "x")
    store.clock.advance(60)
    lease = store.claim()
    store.finish(lease)
    assert not remove(store, "waits")
    assert not edit(store, "waits", "x")


def test_revisions_that_come_meanwhile_are_read_again(store: Rig) -> None:
    lease = running(store, "one", "two")
    edit(store, "m0", "three")
    found, count = read(store, lease)
    edit(store, "m0", "four")
    messages = lease.claimed.batch.messages
    assert not make(store, lease, messages, revisions=found, count=count)
    assert frozen(store) == ["one", "two"]
    assert make(store, lease, messages)


def test_an_edit_between_the_revisions_and_what_joins_is_a_wish_that_is_left(store: Rig) -> None:
    lease = running(store, "one", "two")
    edit(store, "m0", "three")
    first, second = lease.claimed.batch.messages
    assert make(store, lease, (replace(first, content="three"), second))
    edit(store, "m1", "four")
    _, _, left = store.run(
        batch_changes.join(
            store.namespace,
            lease,
            Phase.FROZEN,
            Progress(interrupts=1),
            most=10,
            event="run_interrupted",
            run_id="",
        )
    )
    assert left is Wish.INTERRUPT
    assert wish(store, lease) is Wish.INTERRUPT


def claimed(store: Rig, *texts: str) -> Lease:
    """Claim a batch of these messages, m0 and so on, of which nothing was sent."""
    for number, content in enumerate(texts):
        store.add(message_id=f"m{number}", content=content, delay_s=0)
    return store.claim()


def waiting(store: Rig) -> list[str]:
    entries = store.client.lrange(store.keys.pending("thread"), 0, -1)
    messages, _ = unpack_readable([text(entry) for entry in entries if entry])
    return [message.text for message in messages]


def test_what_is_given_back_to_the_list_is_edited_and_removed_there(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store, "one", "two", "three", "four")
    assert edit(store, "m1", "dos")
    assert remove(store, "m2")
    assert edit(store, "m0", "uno")
    store.trim(lease, 1)
    store.check()
    assert (frozen(store), waiting(store)) == (["one"], ["dos", "four"])
    assert store.thread_hash("thread")["revisions"] == "3"
    status = store.message("m2")
    assert status is not None
    assert (status.status, status.batch_id) == ("cancelled", None)
    assert store.add(message_id="m1", content="dos", delay_s=0).duplicate
    found = store.run(event_log.read(store.namespace, "thread", event_log.START, 100)).events
    assert [one.type for one in found][-3:] == [
        "message_edited", "message_cancelled", "batch_claimed",
    ]  # fmt: skip
    assert store.run(control.edit(store.namespace, Message(id="m3", content="cuatro")))
    kept = replace(lease.claimed.batch, messages=lease.claimed.batch.messages[:1])
    lease = replace(lease, claimed=replace(lease.claimed, batch=kept))
    assert read(store, lease)[0].keys() == {"m0"}
    assert make(store, lease, (Message(id="m0", content="uno"),))
    assert store.finish(lease)
    assert [one.text for one in store.claim().claimed.batch.messages] == ["dos", "cuatro"]


def test_a_batch_of_which_the_whole_rest_is_removed_leaves_nothing_behind(store: Rig) -> None:
    lease = claimed(store, "one", "two")
    assert remove(store, "m1")
    store.trim(lease, 1)
    store.check()
    assert "revisions" not in store.thread_hash("thread")
    assert not store.finish(lease)
    assert store.threads() == []


def test_a_late_copy_of_a_trim_gives_back_nothing_that_has_joined(store: Rig) -> None:
    lease = claimed(store, "one", "two")
    store.trim(lease, 1)
    lease, _ = store.join(lease)
    (call,) = [one for one in store.sent if one.script is not None and one.script.name == "trim"]
    before = store.snapshot()
    store.again(call)
    assert store.snapshot() == before


def test_a_revision_of_an_earlier_batch_means_nothing(store: Rig) -> None:
    lease = running(store, "one", "two")
    edit(store, "m0", "three")
    store.bury(lease)
    store.retry_failed(lease.claimed.batch.id)
    again = store.claim()
    assert again.claimed.wish is None
    assert read(store, again) == ({}, "")


def test_only_the_holder_makes_revisions(store: Rig) -> None:
    lease = running(store, "one", "two")
    edit(store, "m0", "three")
    store.clock.advance(120)
    store.claim()
    with pytest.raises(LeaseLost):
        make(store, lease, lease.claimed.batch.messages)
    assert frozen(store) == ["one", "two"]


@pytest.mark.parametrize("kind", [Wish.INTERRUPT, Wish.STEER])
def test_a_waiting_message_is_promoted(store: Rig, kind: Wish) -> None:
    lease = running(store, "one")
    store.add(message_id="waits", delay_s=60)
    assert store.run(steering.promote(store.namespace, "waits", kind))
    assert wish(store, lease) is kind
    store.check()


def test_a_stronger_wish_stays(store: Rig) -> None:
    lease = running(store, "one")
    store.add(message_id="waits", delay_s=60)
    assert store.run(steering.stop(store.namespace, "thread"))
    assert store.run(steering.promote(store.namespace, "waits", Wish.STEER))
    assert wish(store, lease) is Wish.STOP


def test_nothing_is_promoted_without_a_batch(store: Rig) -> None:
    store.add(message_id="waits", delay_s=60)
    assert not store.run(steering.promote(store.namespace, "waits", Wish.INTERRUPT))
    assert "wish" not in store.thread_hash("thread")
    assert not store.run(steering.promote(store.namespace, "unknown", Wish.INTERRUPT))
