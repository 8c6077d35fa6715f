"""A thread that continues in another conversation: the script `move_conversation`."""

from __future__ import annotations

import pytest

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import LeaseLost
from assistant_queue.store.ops import control, leases
from assistant_queue.store.ops.leases import Lease
from tests.contract.store_rig import Rig
from tests.contract.test_store_events import repeated

GOT = Progress(attempts=1, located=True, anchor="item_of_the_new_one", origin="conv_old")


def held(store: Rig) -> Lease:
    """A thread with a conversation, an end and open calls, and a batch under way in it."""
    store.add(message_id="one", delay_s=0)
    store.run(leases.set_conversation(store.namespace, "thread", "conv_old"))
    store.client.hset(
        store.keys.conversation("thread"),
        mapping={"anchor": "item_of_the_old_one", "open": '["call_1"]'},
    )
    lease = store.claim(token="mine")
    store.save(
        lease, Phase.SENDING, Progress(attempts=1, located=True, anchor="item_of_the_old_one")
    )
    return lease


def move(
    store: Rig,
    lease: Lease,
    *,
    old: str = "conv_old",
    new: str = "conv_new",
    anchor: str | None = "item_of_the_new_one",
    twice: bool = False,
) -> str:
    operation = leases.move_conversation(
        store.namespace,
        lease,
        old_id=old,
        conversation_id=new,
        anchor=anchor,
        phase=Phase.FROZEN,
        progress=GOT,
    )
    return store.run(repeated(operation) if twice else operation)  # type: ignore[arg-type]


def conversation(store: Rig) -> dict[str, str]:
    return store.hash(store.keys.conversation("thread"))


def test_the_conversation_and_how_far_the_batch_got_change_in_one_step(store: Rig) -> None:
    lease = held(store)
    assert move(store, lease) == "conv_new"
    assert conversation(store) == {"id": "conv_new", "anchor": "item_of_the_new_one"}, (
        "its open calls are the old one's"
    )
    fields = store.thread_hash()
    assert (fields["phase"], Progress.load(fields["progress"]), fields["state"]) == (
        "frozen",
        GOT,
        "active",
    )
    store.check()

    store.clock.advance(31)  # the worker dies right after it
    claimed = store.claim().claimed
    assert (claimed.conversation_id, claimed.anchor, claimed.open_calls) == (
        "conv_new",
        "item_of_the_new_one",
        (),
    )
    assert (claimed.phase, claimed.progress) == (Phase.FROZEN, GOT)


def test_a_conversation_without_an_end_leaves_none(store: Rig) -> None:
    move(store, held(store), anchor=None)
    assert conversation(store) == {"id": "conv_new"}


def test_a_second_call_changes_nothing(store: Rig) -> None:
    once, twice = Rig(store.client, f"{store.prefix}x1"), Rig(store.client, f"{store.prefix}x2")
    found = [
        (move(rig, held(rig), twice=rig is twice), conversation(rig), rig.thread_hash())
        for rig in (once, twice)
    ]
    for _, _, fields in found:
        del fields["wake"]
    assert found[0] == found[1]
    assert found[0][0] == "conv_new"


def test_a_thread_that_has_another_conversation_meanwhile_keeps_it(store: Rig) -> None:
    lease = held(store)
    store.client.hset(store.keys.conversation("thread"), "id", "conv_theirs")
    before = store.snapshot()
    assert move(store, lease) == "conv_theirs"
    assert store.snapshot() == before


def test_a_thread_with_a_removed_conversation_gets_none(store: Rig) -> None:
    lease = held(store)
    store.client.delete(store.keys.conversation("thread"))
    before = store.snapshot()
    assert move(store, lease) == ""
    assert store.snapshot() == before


@pytest.mark.parametrize("taken", [True, False], ids=["taken over", "forged"])
def test_without_the_lease_nothing_is_moved(store: Rig, taken: bool) -> None:
    lease = held(store)
    if taken:
        store.clock.advance(31)
        store.claim(token="theirs")
    else:
        lease = store.forged()
    before = store.snapshot()
    with pytest.raises(LeaseLost):
        move(store, lease)
    assert store.snapshot() == before


def test_an_expired_lease_counts_until_another_worker_takes_it(store: Rig) -> None:
    lease = held(store)
    store.clock.advance(31)
    assert move(store, lease) == "conv_new"


def test_an_idle_thread_is_not_moved_by_a_worker_that_is_late(store: Rig) -> None:
    lease = held(store)
    store.finish(lease)
    before = store.snapshot()
    with pytest.raises(LeaseLost):
        move(store, lease)
    assert store.snapshot() == before


def test_deaths_before_the_move_are_not_held_against_what_comes_after_it(store: Rig) -> None:
    held(store)
    for _ in range(3):
        store.clock.advance(31)
        lease = store.claim()
    assert lease.claimed.deaths == 3
    move(store, lease)
    store.clock.advance(31)
    assert store.claim().claimed.deaths == 1


def test_a_finish_after_the_move_leaves_the_new_end(store: Rig) -> None:
    lease = held(store)
    move(store, lease)
    store.finish(lease, anchor="item_2")
    assert conversation(store) == {"id": "conv_new", "anchor": "item_2"}
    store.check()


def test_a_thread_that_is_forgotten_after_the_move_leaves_nothing(store: Rig) -> None:
    lease = held(store)
    move(store, lease)
    store.finish(lease)
    store.run(control.forget(store.namespace, "thread"))
    assert store.all_keys() == [store.keys.counters, store.keys.metrics]
