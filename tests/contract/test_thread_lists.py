"""`list_threads`: the threads that are not idle, by state and in pages."""

from __future__ import annotations

import pytest

from assistant_queue.core.thread_state import ThreadState
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import ThreadStatus
from assistant_queue.store.ops import control, thread_lists
from tests.contract.store_rig import Rig


def listed(
    store: Rig,
    state: str | None = None,
    limit: int = 100,
    after: str | None = None,
    order: str = "oldest_due",
) -> list[ThreadStatus]:
    return store.run(thread_lists.list_threads(store.namespace, state, limit, after, order))


def names(rows: list[ThreadStatus]) -> list[str]:
    return [row.thread_id for row in rows]


def a_thread_in_each_state(store: Rig) -> None:
    for name in ("parked", "retrying", "held", "active"):
        store.add(name, delay_s=0)
        lease = store.claim(name)
        if name == "parked":
            store.bury(lease, reason="parked")
        elif name != "active":
            store.postpone(lease, state=ThreadState(name), wait_s=60)
    store.add("pending", delay_s=120)
    for name in ("z paused", "a paused"):
        store.add(name)
        store.run(control.pause_thread(store.namespace, name))


def test_threads_are_listed_by_their_state(store: Rig) -> None:
    assert listed(store) == []
    a_thread_in_each_state(store)
    assert names(listed(store)) == ["active", "retrying", "held", "pending"] or names(
        listed(store)
    ) == ["active", "held", "retrying", "pending"]
    for state in ("pending", "active", "retrying", "held"):
        (row,) = listed(store, state)
        assert (row.thread_id, row.state) == (state, state)
    assert names(listed(store, "paused")) == ["a paused", "z paused"]
    assert [(row.state, row.paused, row.pending_count) for row in listed(store, "paused")] == [
        ("pending", True, 1)
    ] * 2
    assert names(listed(store, "parked")) == ["parked"]
    assert listed(store, "parked")[0].state == "idle", "the thread itself is free"


def test_stuck_are_those_that_no_worker_came_for(store: Rig) -> None:
    store.add("old", delay_s=1)
    store.add("new", delay_s=4)
    assert listed(store, "stuck") == []
    store.clock.advance(1 + thread_lists.STUCK_MS / 1000)
    assert names(listed(store, "stuck")) == ["old"]
    assert names(listed(store, "stuck", order="newest_due")) == ["old"]
    assert names(listed(store)) == ["old", "new"]


@pytest.mark.parametrize("order", thread_lists.ORDERS)
def test_pages_show_each_thread_once_in_either_order(
    store: Rig, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_lists, "_CHUNK", 3)
    expected = [f"thread-{number}" for number in range(8)]
    for number, name in enumerate(expected):
        store.add(name, delay_s=number + 1)
    if order == "newest_due":
        expected.reverse()
    for state in (None, "pending"):
        found: list[str] = []
        after = None
        while page := listed(store, state, 2, after, order):
            found += names(page)
            after = found[-1]
        assert found == expected
    with pytest.raises(InvalidArgument, match="begin with the first page"):
        listed(store, after="gone", order=order)
    with pytest.raises(InvalidArgument, match="begin with the first page"):
        listed(store, "paused", after="gone", order=order)


def test_a_key_of_another_program_hides_no_other_thread(store: Rig) -> None:
    store.add("good")
    store.add("bad")
    store.client.delete(store.keys.thread("bad"))
    store.client.set(store.keys.thread("bad"), "not ours")
    assert names(listed(store)) == ["good"]
    assert names(listed(store, "paused")) == []


def test_a_thread_in_which_no_message_wants_a_reply_is_listed_after_all_others(
    store: Rig,
) -> None:
    store.add("quiet", wants_reply=False)
    store.add("later", delay_s=60)
    assert names(listed(store, "pending")) == ["later", "quiet"]
    assert names(listed(store, None, order="newest_due")) == ["quiet", "later"]
    assert names(listed(store, "stuck")) == []
    assert store.sweep().next_due_in_ms == 60_000
    store.clock.advance(61)
    assert store.sweep().overdue == 1
