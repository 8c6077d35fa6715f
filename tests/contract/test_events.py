"""Events are published in the step that they describe, once, and only for subscribers."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window, held_open
from assistant_queue.errors import ConfigurationError, LeaseLost
from assistant_queue.events import EVENTS, Event, EventsMissed
from assistant_queue.models import FunctionCall, ToolCall
from assistant_queue.store.calls import EventRules, Namespace
from assistant_queue.store.ops import control, event_log, leases
from assistant_queue.store.scripts import load
from assistant_queue.testing.fake_clock import START_MS
from tests.contract.store_rig import ERROR, Rig

CALL = ToolCall("call_1", FunctionCall("order", '{"id": 7}'))
SLIDING = Window(delay_ms=2000, kind="sliding", max_wait_ms=6000)


@pytest.fixture
def heard(store: Rig) -> Rig:
    """A store with a subscribed thread."""
    store.run(event_log.listen(store.namespace, "thread"))
    return store


def published(rig: Rig, thread: str = "thread", after: str = event_log.START) -> list[Event]:
    return list(rig.run(event_log.read(rig.namespace, thread, after, 1000)).events)


def types(rig: Rig) -> list[str]:
    return [event.type for event in published(rig)]


def fields(event: Event) -> dict[str, Any]:
    slots = {name for cls in type(event).__mro__ for name in getattr(cls, "__slots__", ())}
    return {name: getattr(event, name) for name in slots - {"id", "at", "thread_id", "type"}}


def at(seconds: float) -> Any:
    return moment(START_MS + seconds * 1000)


def the_last(rig: Rig) -> dict[str, Any]:
    event = published(rig)[-1]
    assert event.thread_id == "thread"
    assert event.at == moment(rig.clock.ms)
    return {"type": event.type, **fields(event)}


# --- each event -----------------------------------------------------------------------------------


def test_a_message_is_published_with_its_author_and_its_windows_end(heard: Rig) -> None:
    heard.add(message_id="m1", content="hello", author="Ann", delay_s=3)
    assert the_last(heard) == {
        "type": "message_queued", "message_id": "m1", "author": "Ann", "content": "hello", "due_at": at(3), "pending_count": 1,
    }  # fmt: skip
    parts = [{"type": "text", "text": "look"}]
    heard.add(
        message_id="m2", content=parts, instructions="be kind", metadata={"k": "v"}, delay_s=3
    )
    assert the_last(heard)["content"] == parts


def test_a_known_message_is_not_published_again(heard: Rig) -> None:
    heard.add(message_id="m1")
    heard.add(message_id="m1")
    assert types(heard) == ["message_queued"]


def test_a_window_is_published_only_when_it_moved(heard: Rig) -> None:
    heard.add(delay_s=3)
    heard.add(delay_s=3)
    assert types(heard) == ["message_queued"] * 2
    heard.add(window=Window(delay_ms=9000, kind="sliding", max_wait_ms=20_000))
    assert the_last(heard) == {"type": "window_moved", "due_at": at(9), "pending_count": 3}
    heard.add(window=Window(delay_ms=3000, max_batch=4))
    assert the_last(heard) == {"type": "window_moved", "due_at": at(0), "pending_count": 4}


def test_a_claim_is_published_with_its_messages_and_attempt(heard: Rig) -> None:
    heard.add(message_id="m1", delay_s=0)
    heard.add(message_id="m2", delay_s=0)
    heard.run(control.cancel(heard.namespace, "m1", 60))
    heard.claim(batch_id="b1", token="t1")
    expected = {"type": "batch_claimed", "batch_id": "b1", "message_ids": ("m2",), "attempt": 1}
    assert the_last(heard) == expected
    heard.claim(batch_id="b2", token="t1")  # the same call again
    assert types(heard).count("batch_claimed") == 1
    heard.clock.advance(60)
    heard.claim(token="t2")  # its worker died
    assert the_last(heard) == expected
    assert types(heard).count("batch_claimed") == 2


def test_a_trimmed_batch_is_published_again(heard: Rig) -> None:
    for name in ("m1", "m2", "m3"):
        heard.add(message_id=name, delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        heard.trim(lease, 2)
    assert types(heard).count("batch_claimed") == 2
    assert the_last(heard)["message_ids"] == ("m1", "m2")


def test_a_run_is_published_once_when_its_id_is_stored(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    heard.save(lease, Phase.SENDING)
    assert "run_started" not in types(heard)
    for deadline in (
        1,
        1,
        2,
    ):  # the same call again, and the same run with something else known of it
        heard.save(lease, Phase.RUNNING, Progress(attempts=1, run_id="run_1", deadline_ms=deadline))
    assert the_last(heard) == {"type": "run_started", "batch_id": "b1", "run_id": "run_1"}
    assert types(heard).count("run_started") == 1
    heard.save(lease, Phase.RUNNING, Progress(attempts=1, run_id="run_2"))
    assert the_last(heard)["run_id"] == "run_2"


def test_tool_calls_and_their_outputs_are_published_with_the_step_that_stores_them(
    heard: Rig,
) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        progress = Progress(attempts=1, run_id="run_1", in_user_code=True)
        news = [event_log.tool_called("b1", "run_1", CALL)]
        heard.run(leases.save(heard.namespace, lease, Phase.RUNNING, progress, new_events=news))
    assert the_last(heard) == {
        "type": "tool_called", "batch_id": "b1", "run_id": "run_1", "tool_call_id": "call_1", "name": "order", "arguments": '{"id": 7}',
    }  # fmt: skip
    for _ in range(2):
        news = [event_log.tool_answered("b1", "run_1", "call_1", "shipped - 🚚")]
        heard.run(
            leases.save(
                heard.namespace,
                lease,
                Phase.SENDING,
                Progress(attempts=1, rounds=1),
                new_events=news,
            )
        )
    assert the_last(heard) == {
        "type": "tool_answered", "batch_id": "b1", "run_id": "run_1", "tool_call_id": "call_1", "output": "shipped - 🚚",
    }  # fmt: skip
    assert [types(heard).count(name) for name in ("tool_called", "tool_answered")] == [1, 1]


def test_pieces_of_text_are_published_once_and_their_place_is_stored_with_them(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    assert (lease.has_subscribers, lease.published) == (True, "")
    news = [
        event_log.text_delta("b1", "run_1", 0, 0, 'He said "hi"\n\ud83d'),
        event_log.text_delta("b1", "run_1", 1, 0, "🚚"),
    ]
    for _ in range(2):
        assert heard.run(event_log.publish(heard.namespace, lease, "so far", news))
    assert types(heard).count("text_delta") == 2
    assert fields(published(heard)[-2]) == {
        "batch_id": "b1",
        "run_id": "run_1",
        "index": 0,
        "offset": 0,
        "text": 'He said "hi"\n\ud83d',
    }
    heard.clock.advance(60)
    assert heard.claim().published == "so far"
    with pytest.raises(LeaseLost):
        heard.run(event_log.publish(heard.namespace, lease, "more", news))
    assert types(heard).count("text_delta") == 2


def test_the_published_length_is_deleted_with_its_batch(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim()
    heard.run(
        event_log.publish(
            heard.namespace, lease, "so far", [event_log.text_delta("b", "r", 0, 0, "x")]
        )
    )
    heard.add(delay_s=0)
    heard.finish(lease)
    assert heard.claim().published == ""


@pytest.mark.parametrize("delivers", [False, True])
def test_a_reply_is_published_when_it_is_stored_and_not_when_it_was_delivered(
    heard: Rig, delivers: bool
) -> None:
    heard.add(message_id="m1", delay_s=0)
    lease = heard.claim(batch_id="b1")
    if delivers:
        for _ in range(2):
            heard.complete(lease)
        assert types(heard)[-1] == "reply_ready"
        heard.clock.advance(60)
        lease = heard.claim()  # takes the delivery over: subscribers see nothing of it
    for _ in range(2):
        heard.finish(lease)
    assert types(heard).count("reply_ready") == 1
    event = published(heard)[-1]
    timeline = event.timeline
    assert None not in {timeline.claimed_at, timeline.completed_at}
    assert fields(event) == {
        "usage": None, "model": None, "tenant": None, "timeline": timeline, "answered_by": None,
        "batch_id": "b1", "run_id": "run_1", "message_ids": ("m1",), "reply": "hi", "replies": ("hi",), "incomplete_reason": None,
    }  # fmt: skip


def test_a_failed_attempt_is_published_with_the_time_of_the_next(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        heard.postpone(lease, wait_s=5)
    assert types(heard).count("attempt_failed") == 1
    assert the_last(heard) == {
        "type": "attempt_failed",
        "batch_id": "b1",
        "attempt": 1,
        "error": ERROR,
        "retry_at": at(5),
    }
    heard.clock.advance(5)
    lease = heard.claim()
    assert the_last(heard)["attempt"] == 2
    heard.postpone(lease, ThreadState.HELD)
    assert types(heard).count("attempt_failed") == 1, (
        "a batch that is only looked at again has not failed"
    )


@pytest.mark.parametrize(
    ("reason", "kind"), [("parked", "batch_parked"), ("attempts", "batch_dead_lettered")]
)
def test_a_failed_batch_and_its_retry_or_discard_are_published(
    heard: Rig, reason: str, kind: str
) -> None:
    heard.add(message_id="m1", delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        heard.bury(lease, reason=reason)
    assert the_last(heard) == {
        "type": kind,
        "batch_id": "b1",
        "message_ids": ("m1",),
        "error": ERROR,
    }
    assert types(heard).count(kind) == 1
    heard.retry_failed("b1")
    assert the_last(heard) == {
        "type": "batch_retried",
        "batch_id": "b1",
        "message_ids": ("m1",),
        "pending_count": 1,
    }
    heard.bury(heard.claim(batch_id="b2"))
    heard.discard_failed("b2")
    assert the_last(heard) == {"type": "batch_discarded", "batch_id": "b2", "message_ids": ("m1",)}


def test_a_cancelled_and_an_edited_message_are_published(heard: Rig) -> None:
    heard.add(message_id="m1")
    heard.add(message_id="m2")
    message = control.Message(id="m1", content="better")
    for _ in range(2):
        assert heard.run(control.edit(heard.namespace, message))
    assert the_last(heard) == {"type": "message_edited", "message_id": "m1", "content": "better"}
    assert heard.run(control.cancel(heard.namespace, "m2", 60))
    assert not heard.run(control.cancel(heard.namespace, "m2", 60))
    assert the_last(heard) == {"type": "message_cancelled", "message_id": "m2"}
    assert types(heard) == [
        "message_queued",
        "message_queued",
        "message_edited",
        "message_cancelled",
    ]


def test_every_event_type_is_published_by_a_test_above() -> None:
    """And has a reader: a class that is new and not read would be left out in silence."""
    assert {kind.__dataclass_fields__["type"].default for kind in EVENTS} - {
        "events_missed"
    } == set(event_log._READERS)


# --- typing ---------------------------------------------------------------------------------------


def see_typing(rig: Rig, author: str = "Ann", window: Window = SLIDING) -> None:
    rig.run(event_log.typing(rig.namespace, "thread", author, window))


def test_typing_holds_a_sliding_window_open_but_never_beyond_max_wait(heard: Rig) -> None:
    heard.add(window=SLIDING)
    dues = []
    for _ in range(4):
        heard.clock.advance(1.5)
        see_typing(heard)
        dues.append((heard.thread().due_at - at(0)).total_seconds())
    assert dues == [6.0, 6.0, 6.0, 6.0]
    heard.clock.advance(0.1)
    see_typing(heard)
    assert heard.thread().due_at == at(6), "a window that is over stays over"
    assert heard.sweep().woken == 1


def test_typing_moves_the_wakeup_with_the_window(heard: Rig) -> None:
    heard.add(window=Window(delay_ms=2000, kind="sliding", max_wait_ms=60_000))
    heard.clock.advance(1)
    see_typing(heard, window=Window(delay_ms=2000, kind="sliding", max_wait_ms=60_000))
    assert the_last(heard) == {"type": "window_moved", "due_at": at(6), "pending_count": 1}
    heard.clock.advance(4)
    assert heard.sweep().overdue == 0
    assert heard.refused() == "early"
    heard.clock.advance(1)
    heard.claim()


@pytest.mark.parametrize(
    "window", [Window(delay_ms=2000), Window(delay_ms=9000, kind="sliding", max_wait_ms=20_000)]
)
def test_typing_changes_no_fixed_window_and_shortens_none(heard: Rig, window: Window) -> None:
    heard.add(window=window)
    before = heard.thread()
    see_typing(heard, window=window)
    assert heard.thread() == before
    assert types(heard) == ["message_queued", "typing"]


def test_typing_without_waiting_messages_creates_no_thread(store: Rig) -> None:
    see_typing(store)
    assert store.all_keys() == []


def test_typing_is_published_once_in_a_while_for_each_author(heard: Rig) -> None:
    for author in ("Ann", "Ann", "Bob", "Bob"):
        see_typing(heard, author)
    assert [event.author for event in published(heard)] == ["Ann", "Bob"]
    assert the_last(heard) == {"type": "typing", "author": "Bob", "until": at(5)}
    heard.clock.advance(2)
    see_typing(heard, "Bob")
    assert types(heard) == ["typing"] * 3


def test_the_rule_of_typing_is_the_same_in_python(store: Rig) -> None:
    for delay, most, after in [
        (2000, 6000, 500),
        (2000, 60_000, 1500),
        (9000, 20_000, 100),
        (2000, 6000, 1999),
        (2000, 2100, 1000),
    ]:
        window = Window(delay_ms=delay, kind="sliding", max_wait_ms=most)
        thread = f"{delay}-{most}-{after}"
        first = store.clock.ms
        due = round(store.add(thread, window=window).due_at.timestamp() * 1000)
        store.clock.advance(after / 1000)
        store.run(event_log.typing(store.namespace, thread, "Ann", window))
        expected = held_open(
            window, now_ms=store.clock.ms, hold_ms=event_log.TYPING_MS, first_ms=first, due_ms=due
        )
        assert store.thread(thread).due_at == moment(expected)


# --- without subscribers, and lifetimes -----------------------------------------------------------


def test_nothing_is_kept_without_subscribers(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    assert not lease.has_subscribers
    assert store.renew(lease).has_subscribers is False
    saved = store.run(leases.save(store.namespace, lease, Phase.SENDING, Progress(attempts=1)))
    assert not saved.has_subscribers
    assert not store.run(
        event_log.publish(
            store.namespace, lease, "told", [event_log.text_delta("b", "r", 0, 0, "x")]
        )
    )
    assert store.client.hget(store.keys.thread("thread"), "told") is None
    store.finish(lease)
    assert store.client.exists(store.keys.events("thread")) == 0


def test_a_holder_learns_of_a_subscriber_with_its_next_write(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.run(event_log.listen(store.namespace, "thread"))
    assert store.renew(lease).has_subscribers
    saved = store.run(leases.save(store.namespace, lease, Phase.SENDING, Progress(attempts=1)))
    assert saved.has_subscribers


def other(store: Rig, **rules: Any) -> Rig:
    rig = Rig(store.client, store.prefix)
    rig.namespace = Namespace(store.prefix, rig.clock, EventRules(**rules))
    return rig


def test_always_keeps_them_from_the_first_message_on_and_off_keeps_none(store: Rig) -> None:
    other(store, mode="always").add()
    assert types(store) == ["message_queued"]
    off = other(store, mode="off")
    off.add()
    assert types(store) == ["message_queued"]
    with pytest.raises(ConfigurationError, match="off"):
        off.run(event_log.listen(off.namespace, "other"))
    assert store.client.exists(store.keys.events("other")) == 0


def test_a_stream_has_a_bounded_length_and_life(store: Rig) -> None:
    rig = other(store, limit=100, ttl_ms=50_000)
    rig.run(event_log.listen(rig.namespace, "thread"))
    key = rig.keys.events("thread")
    for number in range(500):
        rig.add(message_id=f"m{number}")
    assert 100 <= rig.client.xlen(key) <= 250
    rig.client.pexpire(key, 1000)
    rig.add()
    assert 49_000 < rig.client.pttl(key) <= 50_000
    rig.client.pexpire(key, 1000)
    rig.run(event_log.listen(rig.namespace, "thread"))
    assert 49_000 < rig.client.pttl(key) <= 50_000


def test_a_forgotten_thread_has_no_events(heard: Rig) -> None:
    heard.add(message_id="m1")
    heard.run(control.forget(heard.namespace, "thread"))
    assert heard.all_keys() in ([], [heard.keys.counters])


def test_a_foreign_key_does_not_stop_the_queue(store: Rig) -> None:
    store.client.set(store.keys.events("thread"), "not a stream")
    store.add(message_id="m1", delay_s=0)
    store.finish(store.claim())
    assert store.message("m1").status == "completed"


# --- reading --------------------------------------------------------------------------------------


def test_reading_continues_strictly_after_an_id(heard: Rig) -> None:
    for number in range(5):
        heard.add(message_id=f"m{number}")
    everything = published(heard)
    for number, event in enumerate(everything):
        assert published(heard, after=event.id) == everything[number + 1 :]


def test_a_reader_with_an_id_that_is_gone_may_have_missed_events(
    store: Rig,
) -> None:
    rig = other(store, limit=100)
    rig.run(event_log.listen(rig.namespace, "thread"))
    rig.add(message_id="m")
    first = published(rig)[0].id
    page = rig.run(event_log.read(rig.namespace, "thread", first, 10))
    assert (page.missed, page.events) == (False, ())
    for number in range(500):
        rig.add(message_id=f"m{number}")
    page = rig.run(event_log.read(rig.namespace, "thread", first, 1000))
    assert page.missed
    assert page.events == tuple(published(rig))
    assert not rig.run(event_log.read(rig.namespace, "thread", event_log.START, 1)).missed, (
        '"0" asks for what is kept'
    )


def _redis_ms(heard: Rig) -> int:
    seconds, micros = heard.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def test_an_id_of_a_stream_that_was_lost_is_gone_too(heard: Rig) -> None:
    heard.add(message_id="m1")
    last = published(heard)[-1].id
    heard.client.delete(heard.keys.events("thread"))
    while _redis_ms(heard) <= int(last.split("-")[0]):
        pass  # in the same millisecond a new stream would begin with the same id
    assert heard.run(event_log.read(heard.namespace, "thread", last, 10)).missed
    heard.run(event_log.listen(heard.namespace, "thread"))
    heard.add(message_id="m2")
    page = heard.run(event_log.read(heard.namespace, "thread", last, 10))
    assert page.missed
    assert [event.message_id for event in page.events] == ["m2"]


def test_an_id_from_the_future_is_one_that_redis_has_lost(heard: Rig) -> None:
    heard.add(message_id="m1")
    page = heard.run(event_log.read(heard.namespace, "thread", "9999999999999-0", 10))
    assert page.missed
    assert [event.message_id for event in page.events] == ["m1"]


def test_entries_that_are_no_events_are_skipped(heard: Rig) -> None:
    heard.client.xadd(
        heard.keys.events("thread"), {"type": "from_a_newer_version", "at": "1", "data": "{}"}
    )
    heard.client.xadd(heard.keys.events("thread"), {"type": "typing", "at": "1", "data": "no JSON"})
    heard.client.xadd(heard.keys.events("thread"), {"anything": "else"})
    heard.add()
    assert types(heard) == ["message_queued"]


def test_the_header_of_each_publishing_script_names_the_stream() -> None:
    for name in (
        "add",
        "claim",
        "finish",
        "delivered",
        "park_delivery",
        "bury",
        "postpone",
        "progress",
        "trim",
        "cancel",
        "edit",
        "tell",
        "typing",
    ):
        assert "events" in load(name).keys, name


def test_missed_is_an_event_like_any_other() -> None:
    event = EventsMissed(id="1-0", thread_id="t", at=moment(0), after="1-0")
    assert (event.type, fields(event)) == ("events_missed", {"after": "1-0"})
