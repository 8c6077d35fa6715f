"""Windows that end before their time, and those that follow the pace of a thread."""

from __future__ import annotations

import pytest

from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window
from assistant_queue.errors import ThreadBusy
from assistant_queue.models import Message
from assistant_queue.store.ops import control
from tests.contract.store_rig import Rig

LONG = Window(delay_ms=60_000, max_chars=20)
ADAPTIVE = Window(delay_ms=10_000, kind="adaptive", max_wait_ms=30_000)


def flush(store: Rig, thread: str = "thread") -> bool:
    return store.run(control.flush(store.namespace, thread))


def due_in_s(store: Rig, thread: str = "thread") -> float:
    return (int(store.thread_hash(thread)["own_due"]) - store.clock.ms) / 1000


def test_a_flush_makes_what_waits_due(store: Rig) -> None:
    store.add(delay_s=60)
    store.add(delay_s=60)
    assert flush(store)
    assert store.status().waiting_count == 2
    assert len(store.claim().claimed.batch.messages) == 2


def test_a_hold_keeps_a_window_open(store: Rig) -> None:
    store.add(delay_s=3)
    store.clock.advance(2.9)
    store.add(window=Window(delay_ms=3000, hold_ms=2000))
    assert due_in_s(store) == pytest.approx(2.0)
    store.clock.advance(1.9)
    store.add(window=Window(delay_ms=3000, hold_ms=2000))
    assert due_in_s(store) == pytest.approx(2.0)
    store.clock.advance(2)
    assert len(store.claim().claimed.batch.messages) == 3


def test_a_flush_ends_a_hold(store: Rig) -> None:
    store.add(window=Window(delay_ms=0, hold_ms=60_000))
    assert store.refused() == "early"
    assert flush(store)
    assert store.claim().token


def test_an_album_that_begins_during_a_run_is_held_past_its_end(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.add(delay_s=0)
    store.clock.advance(5)
    store.add(window=Window(delay_ms=0, hold_ms=2000))
    store.finish(lease)
    assert store.refused() == "early"
    store.clock.advance(1)
    store.add(window=Window(delay_ms=0, hold_ms=2000))
    store.clock.advance(2)
    assert len(store.claim().claimed.batch.messages) == 3


def test_where_nothing_waits_a_flush_changes_nothing(store: Rig) -> None:
    assert not flush(store)
    assert store.all_keys() == [] or all(":over:" in key for key in store.all_keys())
    store.add(wants_reply=False)
    assert not flush(store)
    assert store.refused() == "idle"


def test_a_flush_reaches_later_batches(store: Rig) -> None:
    for _ in range(3):
        store.add(delay_s=60)
    assert flush(store)
    store.finish(store.claim(max_take=2))
    assert len(store.claim().claimed.batch.messages) == 1


def test_messages_behind_a_run_lose_their_window(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.add(delay_s=60, after_run="window")
    assert flush(store)
    assert store.state() is ThreadState.ACTIVE
    store.finish(lease)
    assert store.claim().token


def test_a_back_off_ends_as_before(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.add(delay_s=60, after_run="window")
    store.postpone(lease, ThreadState.RETRYING, 20, Phase.FROZEN)
    assert flush(store)
    assert store.refused() == "early"
    assert (store.status().delayed_count, store.status().waiting_count) == (2, 0)
    store.clock.advance(20)
    store.finish(store.claim())
    assert store.claim().token


def test_a_paused_thread_stays_paused(store: Rig) -> None:
    store.add(delay_s=60)
    store.run(control.pause_thread(store.namespace, "thread"))
    assert flush(store)
    assert store.refused() == "paused"
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.claim().token


def test_as_many_characters_end_the_window(store: Rig) -> None:
    store.add(content="x" * 12, window=LONG)
    assert due_in_s(store) == 60
    store.add(content="x" * 7, window=LONG)
    assert due_in_s(store) == 60
    store.add(content="x", window=LONG)
    assert due_in_s(store) == 0


def test_characters_are_counted_not_bytes(store: Rig) -> None:
    store.add(content="🙂" * 19, window=LONG)
    assert due_in_s(store) == 60


def test_text_of_content_parts_counts_and_pictures_do_not(store: Rig) -> None:
    store.add(
        content=[
            {"type": "text", "text": "x" * 19},
            {"type": "image_url", "image_url": {"url": "https://example.com/" + "x" * 100}},
        ],
        window=LONG,
    )
    assert due_in_s(store) == 60


def test_an_edit_changes_what_counts(store: Rig) -> None:
    store.add("thread", "m1", "x" * 19, window=LONG)
    store.run(control.edit(store.namespace, Message(id="m1", content="x")))
    store.add(content="x" * 18, window=LONG)
    assert due_in_s(store) == 60
    store.add(content="x", window=LONG)
    assert due_in_s(store) == 0


def test_without_a_limit_nothing_is_counted(store: Rig) -> None:
    store.add(content="x" * 100)
    assert "chars" not in store.thread_hash("thread")


def test_an_adaptive_window_begins_with_the_delay(store: Rig) -> None:
    store.add(window=ADAPTIVE)
    assert due_in_s(store) == 10


def test_an_adaptive_window_follows_the_pace_of_its_thread(store: Rig) -> None:
    for _ in range(12):
        store.add(window=ADAPTIVE)
        store.clock.advance(2)
    assert 2 < due_in_s(store) + 2 < 4


def test_a_pace_outlives_the_batch_and_is_forgotten_with_the_thread(store: Rig) -> None:
    for _ in range(8):
        store.add(window=ADAPTIVE)
        store.clock.advance(1)
    store.clock.advance(10)
    store.finish(store.claim())
    store.clock.advance(3600)
    store.add(window=ADAPTIVE)
    assert due_in_s(store) < 5
    store.run(control.forget(store.namespace, "thread"))
    assert not store.client.exists(store.keys.pace("thread"))


def test_a_pace_never_exceeds_max_wait(store: Rig) -> None:
    for _ in range(4):
        store.add(window=ADAPTIVE)
        store.clock.advance(14)
    assert due_in_s(store) <= 30


@pytest.mark.parametrize("foreign", ["list", "text"])
def test_a_pace_that_another_program_wrote_is_written_anew(store: Rig, foreign: str) -> None:
    key = store.keys.pace("thread")
    if foreign == "list":
        store.client.rpush(key, "mine")
    else:
        store.client.set(key, "as fast as I can")
    store.add(window=ADAPTIVE)
    assert due_in_s(store) == 10
    store.add(window=ADAPTIVE)
    assert store.client.type(key) in (b"string", "string")


@pytest.mark.parametrize("chars", ["many", "-"])
def test_characters_that_another_program_wrote_quarantine_the_thread(
    store: Rig, chars: str
) -> None:
    store.add(window=LONG)
    store.client.hset(store.keys.thread("thread"), "chars", chars)
    store.add(window=LONG)
    assert store.thread().pending_count == 2


def test_a_thread_with_a_batch_may_refuse_a_message(store: Rig) -> None:
    store.add(delay_s=0, mid_run="reject")
    lease = store.claim()
    before = store.snapshot()
    with pytest.raises(ThreadBusy, match="nothing was queued: add the message when it is answered"):
        store.add("thread", "late", mid_run="reject")
    assert {name: value for name, value in store.snapshot().items() if ":over:" not in name} == {
        name: value for name, value in before.items() if ":over:" not in name
    }
    store.add("thread", "quiet", wants_reply=False, mid_run="reject")
    store.finish(lease)
    store.add("thread", "late", mid_run="reject")
