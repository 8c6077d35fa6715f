"""Adding: deduplication, limits, windows, the wake-up in the same step."""

from __future__ import annotations

import random
from typing import Any

import pytest

from assistant_queue.core.thread_state import ThreadState
from assistant_queue.core.window import Window, due_at
from assistant_queue.errors import MessageIdConflict, ThreadFull
from assistant_queue.store import wakeups
from assistant_queue.store.calls import GUARD_MS, RECHECK_MS
from assistant_queue.store.ops.producing import AddRules, add
from tests.contract.store_rig import Rig, seconds_up

START = 1_700_000_000_000


def test_a_message_waits_with_a_wake_up_for_the_end_of_its_window(store: Rig) -> None:
    receipt = store.add(message_id="m1", delay_s=1.5)
    assert (receipt.message_id, receipt.thread_id, receipt.duplicate) == ("m1", "thread", False)
    assert receipt.due_at.timestamp() * 1000 == START + 1500
    assert store.scheduled() == {receipt.job_id: seconds_up(START + 1500)}
    assert store.due() == {"thread": START + 1500}
    assert (store.pending(), store.state()) == (["m1"], ThreadState.PENDING)
    assert store.counters()["delayed"] == 1


def test_a_message_without_a_window_is_handed_to_the_queue_at_once(store: Rig) -> None:
    receipt = store.add(delay_s=0)
    assert (store.queued(), store.scheduled()) == ([receipt.job_id], {})
    assert store.due() == {"thread": START + RECHECK_MS}
    assert store.counters()["waiting"] == 1
    assert store.pop() == "thread"


def test_messages_of_one_window_share_one_wake_up(store: Rig) -> None:
    receipts = [store.add(delay_s=2) for _ in range(4)]
    assert len({receipt.job_id for receipt in receipts}) == 1
    assert len(store.scheduled()) == len(store.jobs()) == 1
    assert store.pending() == ["message-1", "message-2", "message-3", "message-4"]


def test_threads_do_not_share_anything(store: Rig) -> None:
    one, other = store.add("a", delay_s=2), store.add("b", delay_s=3)
    assert one.job_id != other.job_id
    assert (store.pending("a"), store.pending("b")) == (["message-1"], ["message-2"])
    assert store.due() == {"a": START + 2000, "b": START + 3000}


# --- the same id again ----------------------------------------------------------------------------


def but_for_the_count(store: Rig) -> dict[str, Any]:
    """Everything there is, without the count of duplicates."""
    found = store.snapshot()
    for values in found.values():
        if isinstance(values, dict):
            values.pop(b"again", None)
            values.pop(b"duplicates", None)
    return found


def test_the_same_message_again_is_the_same_receipt(store: Rig) -> None:
    first = store.add(message_id="m1")
    before = but_for_the_count(store)
    store.clock.advance(0.5)
    again = store.add(message_id="m1", delay_s=9)
    assert again.duplicate
    assert (again.message_id, again.job_id, again.due_at) == (
        first.message_id,
        first.job_id,
        first.due_at,
    )
    assert but_for_the_count(store) == before


@pytest.mark.parametrize("stage", ["claimed", "completed", "failed", "retrying"])
def test_a_duplicate_is_known_at_every_stage_of_its_life(store: Rig, stage: str) -> None:
    store.add(message_id="m1", delay_s=0)
    lease = store.claim()
    if stage == "completed":
        store.finish(lease)
    elif stage == "failed":
        store.bury(lease)
    elif stage == "retrying":
        store.postpone(lease)
    before = but_for_the_count(store)
    assert store.add(message_id="m1").duplicate
    assert but_for_the_count(store) == before


def test_the_same_id_with_another_text_is_a_conflict(store: Rig) -> None:
    store.add(message_id="m1", content="hello")
    before = store.snapshot()
    with pytest.raises(
        MessageIdConflict, match="'m1' is already used by a message with another content"
    ):
        store.add(message_id="m1", content="bye")
    assert store.snapshot() == before


def test_the_same_id_in_another_thread_is_a_conflict_that_names_the_thread(store: Rig) -> None:
    store.add("a", message_id="m1")
    before = store.snapshot()
    with pytest.raises(MessageIdConflict, match="of thread 'a'"):
        store.add("b", message_id="m1")
    assert store.snapshot() == before


def test_content_parts_are_the_same_whatever_the_order_of_their_fields(store: Rig) -> None:
    store.add(message_id="m1", content=[{"type": "text", "text": "hi"}])
    assert store.add(message_id="m1", content=[{"text": "hi", "type": "text"}]).duplicate
    with pytest.raises(MessageIdConflict):
        store.add(message_id="m1", content="hi")


def test_a_repeated_call_is_not_a_duplicate_to_its_caller(store: Rig) -> None:
    from assistant_queue.models import Message

    operation = add(
        store.namespace,
        "thread",
        Message(id="m1", content="x"),
        AddRules(window=Window(delay_ms=1000)),
    )
    call = next(operation)
    first = store.store._send(call)  # type: ignore[arg-type]
    again = store.store._send(call)  # type: ignore[arg-type]
    assert first == again
    assert store.pending() == ["m1"]


# --- limits ---------------------------------------------------------------------------------------


def test_a_full_thread_takes_no_more(store: Rig) -> None:
    for _ in range(2):
        store.add(max_pending=2)
    before = store.snapshot()
    with pytest.raises(ThreadFull, match="has 2 waiting messages, max_pending is 2"):
        store.add(max_pending=2)
    assert store.snapshot() == before


def test_a_full_thread_still_knows_its_duplicates_and_others_are_not_full(store: Rig) -> None:
    store.add(message_id="m1", max_pending=1)
    assert store.add(message_id="m1", max_pending=1).duplicate
    store.add("other", max_pending=1)


def test_what_is_being_answered_does_not_fill_a_thread(store: Rig) -> None:
    store.add(delay_s=0, max_pending=1)
    store.claim()
    store.add(max_pending=1)
    with pytest.raises(ThreadFull):
        store.add(max_pending=1)


# --- windows --------------------------------------------------------------------------------------


def test_a_sliding_window_moves_its_wake_up(store: Rig) -> None:
    window = Window(delay_ms=1000, kind="sliding", max_wait_ms=2500)
    first = store.add(window=window)
    store.clock.advance(0.9)
    second = store.add(window=window)
    assert second.job_id == first.job_id
    assert store.scheduled() == {first.job_id: seconds_up(START + 1900)}
    assert store.due() == {"thread": START + 1900}


def test_a_full_batch_hands_its_wake_up_over_at_once(store: Rig) -> None:
    window = Window(delay_ms=60_000, max_batch=3)
    first = store.add(window=window)
    store.add(window=window)
    assert store.queued() == []
    third = store.add(window=window)
    assert (store.queued(), store.scheduled()) == ([first.job_id], {})
    assert third.due_at.timestamp() * 1000 == START
    assert store.counters()["waiting"] == 3


def test_a_latecomer_joins_a_window_that_is_over_without_a_second_wake_up(store: Rig) -> None:
    first = store.add(delay_s=1)
    store.clock.advance(1.2)
    store.scheduler()  # not yet: RQ works in whole seconds
    late = store.add(delay_s=1)
    assert late.job_id == first.job_id
    assert late.due_at == first.due_at
    assert len(store.jobs()) == 1
    assert store.counters()["waiting"] == 2


def test_a_wake_up_that_has_been_handed_over_is_not_doubled_by_a_sliding_window(store: Rig) -> None:
    window = Window(delay_ms=1000, kind="sliding", max_wait_ms=9000)
    first = store.add(window=window)
    store.client.zrem(wakeups.scheduled_key(store.prefix), first.job_id)
    store.client.rpush(wakeups.queue_key(store.prefix), first.job_id)
    store.clock.advance(0.5)
    store.add(window=window)
    assert (store.queued(), store.scheduled()) == ([first.job_id], {})


@pytest.mark.parametrize("seed", range(12))
def test_windows_end_as_the_rule_in_python_computes(store: Rig, seed: int) -> None:
    chance = random.Random(seed)
    delay = chance.choice([0, 700, 1000, 3000])
    window = Window(
        delay_ms=delay,
        kind=chance.choice(["fixed", "sliding"]),
        max_wait_ms=delay + chance.choice([0, 500, 4000]),
        max_batch=chance.choice([0, 0, 3, 5]),
    )
    first = due = None
    for count in range(1, 9):
        now = store.clock.ms
        first = first or now
        due = due_at(window, now_ms=now, first_ms=first, count=count, previous_due_ms=due)
        receipt = store.add(window=window)
        assert round(receipt.due_at.timestamp() * 1000) == due, (window, count)
        assert int(store.thread_hash()["due"]) == due
        kind = "waiting" if due <= now else "delayed"
        assert store.counters()[kind] == count
        store.check()
        store.clock.advance(chance.choice([0, 0.1, 0.4, 0.9, 1.3]))


# --- during a run ---------------------------------------------------------------------------------


@pytest.mark.parametrize("after_run", ["immediate", "window"])
def test_a_message_during_a_run_needs_no_wake_up(store: Rig, after_run: str) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    receipt = store.add(message_id="behind", delay_s=7, after_run=after_run)
    assert receipt.job_id is None
    assert store.scheduled() == {lease.guard_id: seconds_up(lease.until_ms + GUARD_MS)}
    assert receipt.due_at.timestamp() * 1000 == START + (0 if after_run == "immediate" else 7000)
    assert store.counters()["waiting" if after_run == "immediate" else "delayed"] == 1
    store.check()


@pytest.mark.parametrize("after_run", ["immediate", "window"])
def test_what_waits_when_a_run_ends_is_due_at_once_or_at_the_end_of_a_new_window(
    store: Rig, after_run: str
) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.pop()
    store.add(delay_s=7, after_run=after_run)
    store.clock.advance(3)
    assert store.finish(lease)
    if after_run == "immediate":
        assert store.queued() == [lease.guard_id]
        assert store.claim().claimed.batch.messages[0].id == "message-2"
    else:
        assert store.scheduled() == {lease.guard_id: seconds_up(START + 7000)}
        assert store.refused() == "early"
        store.clock.advance(4)
        store.claim()
    store.check()


@pytest.mark.parametrize("state", [ThreadState.RETRYING, ThreadState.HELD])
def test_a_message_after_a_waiting_batch_does_not_wake_it_early(
    store: Rig, state: ThreadState
) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.postpone(lease, state, wait_s=50)
    receipt = store.add(delay_s=0)
    assert (receipt.job_id, store.due()) == (None, {"thread": START + 50_000})
    assert store.counters()["delayed" if state is ThreadState.RETRYING else "waiting"] >= 1
    store.check()


# --- overdue threads ------------------------------------------------------------------------------


def test_an_add_wakes_threads_that_are_long_overdue(store: Rig) -> None:
    for number in range(3):
        store.add(f"forgotten-{number}", delay_s=1)
    store.lose_wakeups()
    store.clock.advance(2.9)
    store.add("busy", delay_s=60)
    assert store.queued() == [], "they are not overdue for long enough"
    store.clock.advance(0.2)
    store.add("busy", delay_s=60)
    assert len(store.queued()) == 2, "at most two"
    assert {store.pop(), store.pop()} <= {"forgotten-0", "forgotten-1", "forgotten-2"}
    store.add("busy", delay_s=60)
    assert len(store.queued()) == 1
    store.check()


# --- ids of any kind ------------------------------------------------------------------------------

STRANGE = [
    "ключ",
    "🙂🙂",
    "a:b:c",
    "line\nbreak\r\n",
    "  ",
    "a\x00b",
    "{tag}",
    "*",
    '"quoted"',
    "\\",
    "%s",
    "\x80\xff",
    "\u2028",
]
LONG = ["x" * 255, "x" * 256, "x" * 300, "x" * 512, "🙂" * 300, "🙂" * 512]


@pytest.mark.parametrize(
    "thread", STRANGE + LONG, ids=lambda thread: f"{thread[:12]!a}-{len(thread)}"
)
def test_a_thread_id_of_any_kind_lives_its_whole_life(store: Rig, thread: str) -> None:
    store.add(thread, "before " + thread, content=thread, author=thread)
    assert store.threads() == [thread]
    assert set(store.jobs().values()) == {thread}
    store.clock.advance(2)
    assert store.sweep().woken == 1
    assert store.pop() == thread
    lease = store.claim(thread)
    assert (lease.claimed.batch.thread_id, lease.claimed.batch.messages[0].content) == (
        thread,
        thread,
    )
    store.add(thread, "after")
    assert store.finish(lease)
    assert store.pop() == thread
    lease = store.claim(thread)
    store.bury(lease)
    assert store.failed()[0].thread_id == thread
    store.retry_failed(lease.claimed.batch.id)
    store.finish(store.claim(thread))
    assert store.thread(thread).state == "idle"
    store.check()
