"""Claims that mark their batch as sent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from assistant_queue.core.first_send import FirstSend
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.store.ops import leases
from tests.contract.store_rig import Rig

FIRST = FirstSend(
    template='{"attempts":1,"sent_ms":@now,"deadline_ms":@deadline,@anchor"run_sent_ms":@now}',
    run_ms=600_000,
    thread_ids="mapped",
    stateless=False,
    conversations=True,
    anchored=True,
)
STATELESS = replace(
    FIRST,
    template=FIRST.template.replace("@anchor", ""),
    stateless=True,
    conversations=False,
    anchored=False,
)
ODD = 'item "0" 100% @now \\ ü'


def has_conversation(store: Rig, **fields: str) -> None:
    store.client.hset(store.keys.conversation("thread"), mapping={"id": "conv_1", **fields})


def test_a_batch_is_marked_and_returned_as_new(store: Rig) -> None:
    has_conversation(store, anchor=ODD)
    store.add(message_id="m1", delay_s=0)
    lease = store.claim(first_send=FIRST)
    assert lease.is_sending
    assert (lease.claimed.phase, lease.claimed.progress) == (Phase.FROZEN, Progress())
    fields = store.client.hgetall(store.keys.thread("thread"))
    assert fields[b"phase"] == b"sending"
    assert Progress.load(fields[b"progress"].decode()) == Progress(
        attempts=1,
        sent_ms=store.clock.ms,
        run_sent_ms=store.clock.ms,
        deadline_ms=store.clock.ms + 600_000,
        anchor=ODD,
    )


def test_the_same_call_again_returns_the_same(store: Rig) -> None:
    has_conversation(store, anchor="item_0")
    store.add(delay_s=0)
    one, other = (store.claim(token="t", batch_id="b", first_send=FIRST) for _ in range(2))
    assert other.is_sending
    assert other.claimed == one.claimed


def test_a_worker_that_takes_over_finds_that_it_may_have_been_sent(store: Rig) -> None:
    has_conversation(store, anchor="item_0")
    store.add(delay_s=0)
    store.claim(first_send=FIRST, lease_s=30)
    store.clock.advance(31)
    lease = store.claim(first_send=FIRST)
    assert not lease.is_sending
    assert (lease.claimed.phase, lease.claimed.deaths) == (Phase.SENDING, 1)
    assert (lease.claimed.progress.attempts, lease.claimed.progress.anchor) == (1, "item_0")


def test_once_its_holder_has_stored_something_it_is_not_the_claims_mark(store: Rig) -> None:
    has_conversation(store, anchor="item_0")
    store.add(delay_s=0)
    lease = store.claim(token="t", batch_id="b", first_send=FIRST)
    store.save(lease, Phase.SENDING, Progress(attempts=2))
    again = store.claim(token="t", batch_id="b", first_send=FIRST)
    assert not again.is_sending
    assert (again.claimed.phase, again.claimed.progress.attempts) == (Phase.SENDING, 2)


@pytest.mark.parametrize(
    ("known", "first"),
    [
        ({}, FIRST),
        ({"id": "conv_1"}, FIRST),
        ({"anchor": "item_0"}, FIRST),
        ({}, replace(FIRST, anchored=False)),
        ({"id": "", "anchor": "item_0"}, FIRST),
    ],
    ids=["nothing", "no end", "no conversation", "none at all", "an empty one"],
)
def test_a_batch_that_needs_a_step_first_is_not_marked(
    store: Rig, known: dict[str, str], first: FirstSend
) -> None:
    if known:
        store.client.hset(store.keys.conversation("thread"), mapping=dict(known))
    store.add(delay_s=0)
    lease = store.claim(first_send=first)
    assert not lease.is_sending
    assert store.client.hget(store.keys.thread("thread"), "phase") == b"frozen"
    assert not store.client.hget(store.keys.thread("thread"), "progress")


@pytest.mark.parametrize(
    ("known", "first", "anchor"),
    [
        ({"id": "conv_1"}, replace(FIRST, anchored=False), None),
        ({"id": "conv_1", "anchor": "i"}, replace(FIRST, anchored=False), "i"),
        ({"anchor": "i"}, replace(FIRST, conversations=False), "i"),
        ({"anchor": "all that was said"}, STATELESS, None),
    ],
    ids=["no end wanted", "its end", "the provider's own id", "nothing is kept"],
)
def test_a_mark_has_the_end_of_its_conversation(
    store: Rig, known: dict[str, str], first: FirstSend, anchor: str | None
) -> None:
    store.client.hset(store.keys.conversation("thread"), mapping=dict(known))
    store.add(delay_s=0)
    assert store.claim(first_send=first).is_sending
    progress = store.client.hget(store.keys.thread("thread"), "progress")
    assert Progress.load(progress.decode()).anchor == anchor


def test_a_batch_that_was_given_back_is_not_marked_again(store: Rig) -> None:
    has_conversation(store, anchor="item_0")
    store.add(delay_s=0)
    lease = store.claim(first_send=FIRST)
    store.postpone(lease, phase=Phase.FROZEN, progress=Progress(), wait_s=0)
    again = store.claim(first_send=FIRST)
    assert not again.is_sending
    assert (again.claimed.phase, again.claimed.progress) == (Phase.FROZEN, Progress())


def test_its_messages_are_being_answered_before_they_are_marked(store: Rig) -> None:
    has_conversation(store, anchor="item_0")
    store.add(message_id="m1", delay_s=0)
    lease = store.claim(first_send=FIRST)
    before = store.message("m1")
    store.run(leases.save(store.namespace, lease, Phase.SENDING, Progress(attempts=1), ["m1"]))
    after = store.message("m1")
    assert (before.status, before.batch_id, before.attempts) == (
        "processing",
        lease.claimed.batch.id,
        1,
    )
    assert (after.status, after.batch_id, after.attempts) == (
        before.status,
        before.batch_id,
        before.attempts,
    )
