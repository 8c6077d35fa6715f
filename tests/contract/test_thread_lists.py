"""`list_threads`: the threads that are not idle, by state and in pages."""

from __future__ import annotations

import pytest

from assistant_queue.core.thread_state import ThreadState
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import ThreadStatus
from assistant_queue.store.ops import control, paused_threads, takeovers, thread_lists, thread_pages
from assistant_queue.worker import scheduler
from assistant_queue.worker.scheduler import Scheduler
from tests.contract.store_rig import Rig, noting


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


def paused_by_an_earlier_version(store: Rig, *names: str) -> None:
    for name in names:
        store.run(control.pause_thread(store.namespace, name))
    store.client.zrem(store.keys.pausing, *names)


def commands(store: Rig, state: str) -> set[str]:
    words: set[str] = set()
    listing = thread_lists.list_threads(store.namespace, state, 100, None, "oldest_due")
    store.run(noting(listing, words))
    return words


def test_paused_threads_are_scanned_for_once_and_then_read_from_their_list(store: Rig) -> None:
    store.add("waits", delay_s=60)
    paused_by_an_earlier_version(store, "b", "a")
    assert "SCAN" in commands(store, "paused")
    assert names(listed(store, "paused")) == ["a", "b"]
    for state in ("paused", "taken_over"):
        assert commands(store, state).isdisjoint({"SCAN", "KEYS"})
    store.clock.advance(1)
    store.run(takeovers.take_over(store.namespace, "c", "Jo", instead_of=None, stops=True))
    store.run(control.pause_thread(store.namespace, "d"))
    store.add("failed", delay_s=0)
    store.bury(store.claim("failed"), reason="attempts", pause=True)
    assert names(listed(store, "paused")) == ["a", "b", "d", "failed"]
    assert names(listed(store, "taken_over")) == ["c"]
    for name in ("a", "d"):
        store.run(control.resume_thread(store.namespace, name))
    store.run(control.forget(store.namespace, "failed"))
    assert names(listed(store, "paused")) == ["b"]
    assert store.client.zrange(store.keys.pausing, 0, -1) == [b"", b"b", b"c"]
    # The entry of another program, or one that an earlier version left, is not believed.
    store.client.zadd(store.keys.pausing, {"waits": 1, b"\xff": 2})
    assert names(listed(store, "paused")) == ["b"]
    store.client.delete(store.keys.pausing)


@pytest.mark.parametrize("order", thread_lists.ORDERS)
def test_pages_of_paused_threads_show_each_once(
    store: Rig, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_lists, "_CHUNK", 3)
    expected = [f"thread-{number}" for number in range(8)]
    for name in expected:
        store.run(control.pause_thread(store.namespace, name))
        store.run(
            takeovers.take_over(store.namespace, f"{name}*", "Jo", instead_of=None, stops=True)
        )
        store.clock.advance(1)
    if order == "newest_due":
        expected.reverse()
    for state, end in (("paused", ""), ("taken_over", "*")):
        found: list[str] = []
        after = None
        while page := listed(store, state, 3, after, order):
            found += names(page)
            after = found[-1]
        assert found == [f"{name}{end}" for name in expected]
    store.client.delete(store.keys.pausing)


def test_a_list_of_paused_threads_of_another_type_is_written_anew(store: Rig) -> None:
    for name in ("a", "b"):
        store.run(control.pause_thread(store.namespace, name))
    store.client.delete(store.keys.pausing)
    store.client.set(store.keys.pausing, "mine")
    assert names(listed(store, "paused")) == ["a", "b"]
    (shelved,) = store.client.zrange(store.keys.quarantine, 0, -1)
    assert store.client.get(shelved) == b"mine"
    store.client.delete(store.keys.pausing)
    store.client.set(store.keys.pausing, "mine, too")
    store.run(control.resume_thread(store.namespace, "a"))
    assert names(listed(store, "paused")) == ["b"]
    store.client.delete(store.keys.pausing, *store.client.zrange(store.keys.quarantine, 0, -1))
    store.client.delete(store.keys.quarantine)


def test_the_leader_finds_what_an_earlier_version_paused_once_a_day(
    store: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paused_threads, "_STEP", 10)
    paused_by_an_earlier_version(store, *(f"t{number}" for number in range(40)))
    leader = Scheduler(store.namespace, store.client)

    def walk() -> int:
        leader._walk_on()
        steps = 1
        while leader._walk is not None:
            leader._walk_on()
            steps += 1
        return steps

    assert walk() > 2, "in steps"
    assert store.client.zcard(store.keys.pausing) == 41
    paused_by_an_earlier_version(store, "t7")
    assert walk() == 1
    assert "t7" not in names(listed(store, "paused"))
    store.clock.advance(86_400)
    assert walk() > 2
    assert "t7" in names(listed(store, "paused"))
    assert leader._walk_at_s > scheduler.time.monotonic() + 2
    store.client.delete(store.keys.pausing)


def pages(store: Rig, state: str, limit: int, order: str) -> list[list[str]]:
    found = []
    after = None
    while True:
        page = store.run(thread_pages.read_page(store.namespace, state, limit, after, order))
        found.append(names(page.threads))
        after = page.next
        assert len(found) < 50
        if after is None:
            return found


@pytest.mark.parametrize("order", thread_lists.ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 100])
def test_a_page_of_a_request_reads_a_bounded_number_of_threads(
    store: Rig, order: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(thread_pages, "BUDGET", 4)
    monkeypatch.setattr(thread_pages, "CHUNK", 2)
    for number in range(4):
        name = f"parked-{number}"
        store.add(name, delay_s=0)
        store.bury(store.claim(name), reason="attempts" if number == 1 else "parked")
        store.clock.advance(1)
    for name in ("held-1", "held-2"):
        store.add(name, delay_s=0)
        store.postpone(store.claim(name), state=ThreadState.HELD, wait_s=60)
        store.clock.advance(1)
    for number in range(9):
        store.add(f"pending-{number}", delay_s=30 + number)
    held = ["held-1", "held-2"]
    parked = ["parked-0", "parked-2", "parked-3"]
    pending = [f"pending-{number}" for number in range(9)]
    for state, expected in (("held", held), ("parked", parked), ("pending", pending)):
        found = pages(store, state, limit, order)
        assert [one for page in found for one in page] == (
            expected[::-1] if order == "newest_due" else expected
        )
        assert all(len(page) <= min(limit, 4) for page in found)
    read = thread_pages.read_page(store.namespace, "held", limit, "pending-8", "oldest_due")
    assert names(store.run(read).threads)[0] == "held-1"
    with pytest.raises(InvalidArgument, match="begin with the first page"):
        store.run(thread_pages.read_page(store.namespace, "held", limit, "gone", order))
