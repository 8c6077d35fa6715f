"""Cancel, edit, pause, forget, and the lease of a direct call."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations

import pytest

from assistant_queue.core.progress import moment
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.errors import MessageNotFound, ThreadBusy
from assistant_queue.models import Message
from assistant_queue.store.calls import GUARD_MS, RECHECK_MS, Operation
from assistant_queue.store.ops import control, leases
from tests.contract.store_rig import Rig, seconds_up

START = 1_700_000_000_000


def cancel(store: Rig, message_id: str) -> bool:
    return store.run(control.cancel(store.namespace, message_id, 3600))


def edit(store: Rig, message_id: str, content: str) -> bool:
    return store.run(control.edit(store.namespace, Message(id=message_id, content=content)))


def lock(store: Rig, token: str = "call", lease_s: float = 30) -> None:
    store.run(control.lock(store.namespace, "thread", token=token, lease_s=lease_s))


def unlock(store: Rig, token: str = "call") -> None:
    store.run(control.unlock(store.namespace, "thread", token=token))


def add_many(store: Rig, count: int) -> list[str]:
    return [store.add(delay_s=0).message_id for _ in range(count)]


# --- cancel ---------------------------------------------------------------------------------------


def test_a_waiting_message_is_cancelled_and_its_text_goes_at_once(store: Rig) -> None:
    store.add(message_id="a", delay_s=5)
    store.add(message_id="b", content="my secret", delay_s=5)
    store.add(message_id="c", delay_s=5)
    assert cancel(store, "b")
    assert store.pending() == ["a", "", "c"]
    assert "my secret" not in str(store.snapshot())
    assert store.counters()["delayed"] == 2
    found = store.message("b")
    assert found is not None
    assert found.status == "cancelled"
    store.check()
    store.clock.advance(5)
    assert [message.id for message in store.claim().claimed.batch.messages] == ["a", "c"]
    store.check()


def test_the_last_waiting_message_that_is_cancelled_leaves_an_idle_thread(store: Rig) -> None:
    add_many(store, 2)
    assert cancel(store, "message-1")
    assert cancel(store, "message-2")
    assert store.state() is ThreadState.IDLE
    assert store.threads() == []
    assert store.pop() == "thread"
    assert store.refused() == "idle"
    store.check()
    store.check_idle()


def test_a_message_cancelled_during_a_run_leaves_nothing_to_do_after_it(store: Rig) -> None:
    add_many(store, 1)
    store.pop()
    lease = store.claim()
    add_many(store, 1)
    assert cancel(store, "message-2")
    store.check()
    assert not store.finish(lease)
    store.check_idle()


def test_a_message_in_a_batch_cannot_be_cancelled(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    before = store.snapshot()
    assert not cancel(store, "message-1")
    store.save(lease, mark=["message-1"])
    assert not cancel(store, "message-1")
    store.finish(lease)
    assert not cancel(store, "message-1")
    assert not cancel(store, "unknown")
    assert before[store.keys.frozen("thread")]


def test_a_message_is_cancelled_once(store: Rig) -> None:
    add_many(store, 2)
    assert cancel(store, "message-1")
    before = store.snapshot()
    assert not cancel(store, "message-1")
    assert store.snapshot() == before


def test_a_message_can_be_cancelled_wherever_it_waits(store: Rig) -> None:
    """After a trimmed batch in which another was cancelled, or a batch that was returned."""
    ids = add_many(store, 6)
    assert cancel(store, ids[2])
    lease = store.claim()
    store.trim(lease, 1)
    assert store.pending() == [ids[1], *ids[3:]]
    assert cancel(store, ids[1])
    assert cancel(store, ids[4])
    assert store.pending() == ["", ids[3], "", ids[5]]
    store.check()
    kept = replace(lease.claimed.batch, messages=lease.claimed.batch.messages[:1])
    store.bury(replace(lease, claimed=replace(lease.claimed, batch=kept)))
    store.retry_failed(kept.id)
    assert cancel(store, ids[3])
    store.check()
    assert [
        message.id for message in store.claim().claimed.batch.messages if message.id not in ids[:1]
    ] == [ids[5]]
    store.check()


@pytest.mark.parametrize("cancelled", [range(3), range(2, 5), range(5)])
def test_a_batch_is_never_frozen_without_a_message(store: Rig, cancelled: range) -> None:
    ids = add_many(store, 7)
    for number in cancelled:
        assert cancel(store, ids[number])
    left = [message_id for number, message_id in enumerate(ids) if number not in cancelled]
    answered: list[str] = []
    while store.state() is not ThreadState.IDLE:
        lease = store.claim(max_take=2)
        assert lease.claimed.batch.messages
        answered += [message.id for message in lease.claimed.batch.messages]
        store.check()
        store.finish(lease)
        store.check()
    assert answered == left


def test_messages_cancelled_after_the_cut_leave_a_sound_thread_that_becomes_idle(
    store: Rig,
) -> None:
    add_many(store, 2)
    assert cancel(store, "message-2")
    store.pop()
    lease = store.claim(max_take=1)
    assert store.thread().pending_count == 0
    store.check()
    assert not store.finish(lease), "nothing waits, so nothing is woken"
    assert store.refused(max_take=1) == "idle"
    store.check_idle()


def subsets(count: int) -> Iterator[tuple[int, ...]]:
    for size in range(count + 1):
        yield from combinations(range(count), size)


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("trimmed", [False, True])
def test_cancelled_places_use_up_nothing_of_a_batch_and_falsify_no_count(
    store: Rig, most: int, trimmed: bool
) -> None:
    """At any place: first, middle, last, and after the cut; with edits and trimmed batches."""
    for cancelled in subsets(4):
        ids = [
            store.add(message_id=f"{most}{trimmed}{cancelled}{number}", delay_s=0).message_id
            for number in range(4)
        ]
        for number in cancelled:
            assert cancel(store, ids[number])
        left = [message_id for number, message_id in enumerate(ids) if number not in cancelled]
        while left:
            assert edit(store, left[-1], f"edited {left}")
            lease = store.claim(max_take=most)
            if trimmed:
                store.trim(lease, 1)
                kept = replace(lease.claimed.batch, messages=lease.claimed.batch.messages[:1])
                lease = replace(lease, claimed=replace(lease.claimed, batch=kept))
            took = 1 if trimmed else min(most, len(left))
            assert [message.id for message in lease.claimed.batch.messages] == left[:took]
            left = left[took:]
            assert store.pending() == [] or [one for one in store.pending() if one] == left
            assert store.thread().pending_count == len(left)
            store.check()
            store.finish(lease)
            store.check()
        assert store.threads() == []


def test_many_cancelled_places_stand_between_the_messages_of_one_batch(store: Rig) -> None:
    """More than the script looks at in one go."""
    ids = add_many(store, 450)
    for number in range(450):
        if number % 150:
            assert cancel(store, ids[number])
    lease = store.claim(max_take=2)
    assert [message.id for message in lease.claimed.batch.messages] == [ids[0], ids[150]]
    assert store.pending()[0] == ids[300]
    assert store.thread().pending_count == 1
    store.check()


def test_a_count_that_version_0_1_left_too_high_ends_in_an_idle_thread(store: Rig) -> None:
    add_many(store, 2)
    assert cancel(store, "message-2")
    store.pop()
    lease = store.claim(max_take=1)
    # What its claim left behind: the place of the cancelled message, counted as one that waits.
    store.client.rpush(store.keys.pending("thread"), "")
    store.client.hset(store.keys.thread("thread"), "n", 1)
    store.client.hincrby(store.keys.counters, "waiting", 1)
    assert store.finish(lease)
    assert store.pop() == "thread"
    assert store.refused(max_take=1) == "idle"
    store.check()
    store.check_idle()


def test_a_count_that_is_too_low_forgets_no_message(store: Rig) -> None:
    ids = add_many(store, 4)
    store.client.hset(store.keys.thread("thread"), "n", 1)
    store.client.hset(store.keys.counters, "waiting", 1)
    lease = store.claim(max_take=2)
    assert store.thread().pending_count == 2
    store.check()
    store.finish(lease)
    assert [message.id for message in store.claim(max_take=2).claimed.batch.messages] == ids[2:]


# --- edit -----------------------------------------------------------------------------------------


def test_a_waiting_message_is_edited_in_its_place(store: Rig) -> None:
    store.add(
        message_id="a",
        content="one",
        author="Ann",
        metadata={"k": "v"},
        instructions="be kind",
        delay_s=0,
    )
    store.add(message_id="b", delay_s=0)
    assert edit(store, "a", "another")
    message = store.claim().claimed.batch.messages[0]
    assert message == Message(
        id="a", content="another", author="Ann", metadata={"k": "v"}, instructions="be kind"
    )
    assert not edit(store, "a", "too late")


def test_an_edit_changes_the_content_alone(store: Rig) -> None:
    fields = {
        "instructions": "be kind",
        "author": "Ann",
        "metadata": {"k": "v"},
        "tenant": "acme",
        "wants_reply": False,
        "request_id": "request-1",
    }
    store.add(message_id="a", content="one", **fields)
    assert edit(store, "a", "another")
    store.add(message_id="b", delay_s=0)
    message = store.claim().claimed.batch.messages[0]
    assert message.content == "another"
    assert {name: getattr(message, name) for name in fields} == fields


def test_a_message_is_edited_although_those_before_it_are_claimed_at_that_moment(
    store: Rig,
) -> None:
    def with_a_claim_between(operation: Operation[bool]) -> Operation[bool]:
        step = next(operation)
        for number in range(2):  # it reads the message's thread, then its place
            step = operation.send((yield step))
            if number == 1:
                store.claim(max_take=1)
        try:
            while True:
                step = operation.send((yield step))
        except StopIteration as stop:
            return bool(stop.value)

    add_many(store, 2)
    assert store.run(
        with_a_claim_between(
            control.edit(store.namespace, Message(id="message-2", content="another"))
        )
    )
    (entry,) = store.client.lrange(store.keys.pending("thread"), 0, -1)
    assert b"another" in entry


def test_an_unknown_message_cannot_be_edited(store: Rig) -> None:
    with pytest.raises(MessageNotFound, match="'nobody'"):
        edit(store, "nobody", "x")


# --- pause ----------------------------------------------------------------------------------------


def test_a_paused_thread_takes_messages_and_gives_none_until_it_is_resumed(store: Rig) -> None:
    store.run(control.pause_thread(store.namespace, "thread"))
    receipt = store.add(delay_s=3)
    assert (receipt.job_id, store.due(), store.scheduled()) == (None, {}, {})
    assert store.thread().paused
    store.clock.advance(10)
    assert store.refused() == "paused"
    assert store.sweep().overdue == 0
    store.run(control.resume_thread(store.namespace, "thread"))
    assert not store.thread().paused
    assert store.due() == {"thread": store.clock.ms + RECHECK_MS}
    assert store.pop() == "thread"
    store.claim()
    store.check()


def test_a_thread_resumed_within_its_window_waits_for_its_end(store: Rig) -> None:
    store.run(control.pause_thread(store.namespace, "thread"))
    store.add(delay_s=9)
    store.run(control.resume_thread(store.namespace, "thread"))
    assert list(store.scheduled().values()) == [seconds_up(START + 9000)]
    assert store.due() == {"thread": START + 9000}
    store.check()


@pytest.mark.parametrize(
    "state", [ThreadState.PENDING, ThreadState.RETRYING, ThreadState.HELD, ThreadState.ACTIVE]
)
def test_pausing_and_resuming_in_any_state_loses_nothing(store: Rig, state: ThreadState) -> None:
    add_many(store, 1)
    if state is not ThreadState.PENDING:
        lease = store.claim()
    if state in (ThreadState.RETRYING, ThreadState.HELD):
        store.postpone(lease, state, wait_s=5)
    store.run(control.pause_thread(store.namespace, "thread"))
    store.check()
    store.clock.advance(60)
    assert store.sweep().woken == 0
    assert store.refused() == "paused"
    store.run(control.resume_thread(store.namespace, "thread"))
    store.check()
    assert store.sweep().woken + len(store.queued()) >= 1
    assert store.claim().claimed.batch.messages
    store.check()


def test_a_paused_thread_that_finishes_stays_paused(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    store.run(control.pause_thread(store.namespace, "thread"))
    add_many(store, 1)
    assert store.finish(lease)
    assert (store.refused(), store.due()) == ("paused", {})
    store.check()


def test_a_thread_that_pauses_after_a_failure_keeps_what_waits(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    add_many(store, 1)
    store.bury(lease, pause=True)
    assert (store.refused(), store.thread().paused, store.pending()) == (
        "paused",
        True,
        ["message-2"],
    )
    store.check()
    store.run(control.resume_thread(store.namespace, "thread"))
    store.claim()


def test_an_idle_thread_that_was_paused_leaves_nothing_when_it_is_resumed(store: Rig) -> None:
    store.run(control.pause_thread(store.namespace, "thread"))
    store.check()
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.all_keys() == []


def test_a_resumed_queue_wakes_what_fell_due(store: Rig) -> None:
    store.run(control.pause_queue(store.namespace))
    store.add(delay_s=1)
    store.clock.advance(5)
    assert store.sweep().overdue == 0
    store.run(control.resume_queue(store.namespace))
    assert store.pop() == "thread"
    store.check()


def test_a_queue_knows_since_when_it_is_paused(store: Rig) -> None:
    assert (store.status().paused, store.status().paused_since) == (False, None)
    store.run(control.pause_queue(store.namespace))
    since = moment(store.clock.ms)
    store.clock.advance(60)
    store.run(
        control.pause_queue(store.namespace)
    )  # once more, and it is paused since then all the same
    assert (store.status().paused, store.status().paused_since) == (True, since)
    store.run(control.resume_queue(store.namespace))
    assert (store.status().paused, store.status().paused_since) == (False, None)


@pytest.mark.parametrize("value", ["1", "", "soon", "9" * 40, "-5"])
def test_a_pause_of_an_older_version_or_of_another_making_is_one(store: Rig, value: str) -> None:
    store.client.set(store.keys.paused, value)
    assert (store.status().paused, store.status().paused_since) == (True, None)


def test_a_pause_under_a_key_of_another_type_is_one(store: Rig) -> None:
    store.client.rpush(store.keys.paused, "x")
    store.add(delay_s=0)
    status = store.status()
    assert (status.paused, status.paused_since, status.waiting_count) == (True, None, 1)


def test_a_paused_queue_wakes_no_thread_when_messages_arrive(store: Rig) -> None:
    store.add("a", delay_s=1)
    store.lose_wakeups()
    store.run(control.pause_queue(store.namespace))
    store.clock.advance(10)
    store.add("b", delay_s=60)
    assert store.queued() == []


def test_what_is_due_in_a_paused_queue_is_counted_as_waiting(store: Rig) -> None:
    store.add("a", delay_s=1)
    store.run(control.pause_queue(store.namespace))
    store.clock.advance(10)
    assert (store.status().waiting_count, store.status().delayed_count) == (1, 0)
    assert store.queued() == []
    store.run(control.resume_queue(store.namespace))
    store.clock.advance(RECHECK_MS / 1000)
    store.sweep()
    assert store.pop() == "a"


# --- forget ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["idle", "pending", "retrying", "failed", "paused"])
def test_a_forgotten_thread_leaves_no_key(store: Rig, state: str) -> None:
    store.run(leases.set_conversation(store.namespace, "thread", "conv_1"))
    store.add("other", delay_s=0)
    before = {key for key in store.all_keys() if "other" in key}
    add_many(store, 2)
    if state != "pending":
        lease = store.claim()
        store.save(lease, mark=["message-2", "message-3"])
        if state == "idle":
            store.finish(lease)
        elif state == "failed":
            store.bury(lease)
        else:
            store.postpone(lease)
    if state == "paused":
        store.run(control.pause_thread(store.namespace, "thread"))
    store.run(control.forget(store.namespace, "thread"))
    assert {key for key in store.all_keys() if "other" in key} == before
    left = set(store.all_keys()) - before
    kept = ("counters", "metrics", "due", "message:message-1")
    assert left <= {f"{store.prefix}:{name}" for name in kept}
    assert store.failed() == []
    counted = store.counters()
    assert counted == {**counted, "delayed": 0, "waiting": 1, "active": 0, "failed": 0}
    assert store.due().keys() == {"other"}


def test_a_thread_that_a_worker_holds_is_not_forgotten_and_nothing_of_it_is(store: Rig) -> None:
    add_many(store, 1)
    store.bury(store.claim())
    add_many(store, 1)
    store.claim()
    before = store.snapshot()
    with pytest.raises(ThreadBusy):
        store.run(control.forget(store.namespace, "thread"))
    assert store.snapshot() == before
    assert len(store.failed()) == 1


@pytest.mark.parametrize("thread", ["a*", "[ab]", "a?", "ключ:🙂"])
def test_threads_of_similar_names_are_not_forgotten(store: Rig, thread: str) -> None:
    for one in (thread, "a", "ab", "b"):
        store.add(one, f"m-{one}")
    store.run(control.forget(store.namespace, thread))
    assert store.threads() == ["a", "ab", "b"]
    assert store.message(f"m-{thread}") is None
    assert store.message("m-a") is not None


# --- the lease of a direct call -------------------------------------------------------------------


def test_a_direct_call_holds_an_idle_thread_and_leaves_nothing(store: Rig) -> None:
    lock(store)
    with pytest.raises(ThreadBusy):
        lock(store, "another")
    lock(store)  # the same call again: its reply was lost
    unlock(store)
    assert store.all_keys() == []


def test_a_batch_keeps_direct_calls_out(store: Rig) -> None:
    add_many(store, 1)
    lease = store.claim()
    with pytest.raises(ThreadBusy):
        lock(store)
    store.postpone(lease)
    with pytest.raises(ThreadBusy):
        lock(store)


def test_a_message_during_a_direct_call_is_answered_after_it(store: Rig) -> None:
    lock(store)
    add_many(store, 1)
    assert store.pop() == "thread"
    assert store.refused() == "refused"
    unlock(store)
    assert store.pop() == "thread"
    lease = store.claim()
    assert lease.claimed.deaths == 0
    store.finish(lease)
    store.check_idle()


def test_a_direct_call_before_the_end_of_a_window_does_not_cut_it_short(store: Rig) -> None:
    store.add(delay_s=60)
    lock(store, lease_s=10)
    store.clock.advance(10)  # the caller died
    assert store.refused() == "early"
    store.clock.advance(50)
    lease = store.claim()
    assert lease.claimed.deaths == 0
    assert not store.finish(lease)


def test_a_dead_direct_call_on_an_idle_thread_is_cleared_away(store: Rig) -> None:
    lock(store, lease_s=10)
    assert store.due() == {"thread": START + 10_000 + GUARD_MS}
    store.clock.advance(11)
    store.sweep()
    assert store.all_keys() == []


def test_a_dead_direct_call_on_an_idle_thread_is_cleared_away_though_a_stray_wake_up_came_by(
    store: Rig,
) -> None:
    lock(store, lease_s=10)
    store.clock.advance(5)
    assert store.refused() in ("idle", "refused")
    store.clock.advance(6)
    store.sweep()
    store.refused()
    assert store.all_keys() == []


def test_messages_after_a_dead_direct_call_are_answered(store: Rig) -> None:
    lock(store, lease_s=10)
    add_many(store, 1)
    store.lose_wakeups()
    store.clock.advance(11)
    assert store.sweep().woken == 1
    assert store.pop() == "thread"
    lease = store.claim()
    store.finish(replace(lease))
    store.check_idle()


def test_cancelling_the_only_message_during_a_direct_call_keeps_the_call_its_lease(
    store: Rig,
) -> None:
    lock(store)
    add_many(store, 1)
    assert cancel(store, "message-1")
    with pytest.raises(ThreadBusy):
        lock(store, "another")
    unlock(store)
    store.pop()
    store.check_idle()


def test_an_unlock_with_a_foreign_token_changes_nothing(store: Rig) -> None:
    lock(store)
    before = store.snapshot()
    unlock(store, "another")
    assert store.snapshot() == before
