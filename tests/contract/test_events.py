"""Events in the step that they tell of: each once, with its fields, and nothing where nobody listens."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window, held_open
from assistant_queue.errors import ConfigurationError, LeaseLost
from assistant_queue.event_models import EVENTS, Event, EventsMissed
from assistant_queue.models import FunctionCall, ToolCall
from assistant_queue.store import control, events, holding
from assistant_queue.store.calls import EventRules, Space
from assistant_queue.store.scripts import load
from assistant_queue.testing.clock import START_MS
from tests.contract.store_rig import ERROR, Rig

CALL = ToolCall("call_1", FunctionCall("order", '{"id": 7}'))
SLIDING = Window(delay_ms=2000, kind="sliding", max_wait_ms=6000)


@pytest.fixture
def heard(store: Rig) -> Rig:
    """A store on whose thread somebody listens."""
    store.run(events.listen(store.space, "thread"))
    return store


def told(rig: Rig, thread: str = "thread", after: str = events.START) -> list[Event]:
    return list(rig.run(events.read(rig.space, thread, after, 1000)).events)


def types(rig: Rig) -> list[str]:
    return [event.type for event in told(rig)]


def fields(event: Event) -> dict[str, Any]:
    slots = {name for cls in type(event).__mro__ for name in getattr(cls, "__slots__", ())}
    return {name: getattr(event, name) for name in slots - {"id", "at", "thread_id", "type"}}


def at(seconds: float) -> Any:
    return moment(START_MS + seconds * 1000)


def the_last(rig: Rig) -> dict[str, Any]:
    event = told(rig)[-1]
    assert event.thread_id == "thread"
    assert event.at == moment(rig.clock.ms)
    return {"type": event.type, **fields(event)}


# --- each event ------------------------------------------------------------------------------------------------------------


def test_a_message_is_told_with_its_author_and_its_windows_end(heard: Rig) -> None:
    heard.add(message_id="m1", content="hello", author="Ann", delay_s=3)
    assert the_last(heard) == {
        "type": "message_queued", "message_id": "m1", "author": "Ann", "content": "hello", "due_at": at(3), "pending_count": 1,
    }  # fmt: skip
    parts = [{"type": "text", "text": "look"}]
    heard.add(message_id="m2", content=parts, instructions="be kind", metadata={"k": "v"}, delay_s=3)
    assert the_last(heard)["content"] == parts


def test_a_message_that_was_known_is_not_told_again(heard: Rig) -> None:
    heard.add(message_id="m1")
    heard.add(message_id="m1")
    assert types(heard) == ["message_queued"]


def test_a_window_is_told_only_when_it_moved(heard: Rig) -> None:
    heard.add(delay_s=3)
    heard.add(delay_s=3)
    assert types(heard) == ["message_queued"] * 2
    heard.add(window=Window(delay_ms=9000, kind="sliding", max_wait_ms=20_000))
    assert the_last(heard) == {"type": "window_moved", "due_at": at(9), "pending_count": 3}
    heard.add(window=Window(delay_ms=3000, max_batch=4))
    assert the_last(heard) == {"type": "window_moved", "due_at": at(0), "pending_count": 4}


def test_a_claim_is_told_with_its_messages_and_attempt(heard: Rig) -> None:
    heard.add(message_id="m1", delay_s=0)
    heard.add(message_id="m2", delay_s=0)
    heard.run(control.cancel(heard.space, "m1", 60))
    heard.claim(batch_id="b1", token="t1")
    expected = {"type": "batch_claimed", "batch_id": "b1", "message_ids": ("m2",), "attempt": 1}
    assert the_last(heard) == expected
    heard.claim(batch_id="b2", token="t1")  # the same call again
    assert types(heard).count("batch_claimed") == 1
    heard.clock.advance(60)
    heard.claim(token="t2")  # its worker died
    assert the_last(heard) == expected
    assert types(heard).count("batch_claimed") == 2


def test_what_is_given_back_is_told_by_telling_the_batch_again(heard: Rig) -> None:
    for name in ("m1", "m2", "m3"):
        heard.add(message_id=name, delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        heard.trim(lease, 2)
    assert types(heard).count("batch_claimed") == 2
    assert the_last(heard)["message_ids"] == ("m1", "m2")


def test_a_run_is_told_once_when_its_id_is_stored(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    heard.save(lease, Phase.SENDING)
    assert "run_started" not in types(heard)
    for deadline in (1, 1, 2):  # the same call again, and the same run with something else known of it
        heard.save(lease, Phase.RUNNING, Progress(attempts=1, run_id="run_1", deadline_ms=deadline))
    assert the_last(heard) == {"type": "run_started", "batch_id": "b1", "run_id": "run_1"}
    assert types(heard).count("run_started") == 1
    heard.save(lease, Phase.RUNNING, Progress(attempts=1, run_id="run_2"))
    assert the_last(heard)["run_id"] == "run_2"


def test_tool_calls_and_their_outputs_are_told_with_the_step_that_stores_them(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        progress = Progress(attempts=1, run_id="run_1", calling=True)
        news = [events.tool_called("b1", "run_1", CALL)]
        heard.run(holding.save(heard.space, lease, Phase.RUNNING, progress, news=news))
    assert the_last(heard) == {
        "type": "tool_called", "batch_id": "b1", "run_id": "run_1", "tool_call_id": "call_1", "name": "order", "arguments": '{"id": 7}',
    }  # fmt: skip
    for _ in range(2):
        news = [events.tool_answered("b1", "run_1", "call_1", "shipped - 🚚")]
        heard.run(holding.save(heard.space, lease, Phase.SENDING, Progress(attempts=1, rounds=1), news=news))
    assert the_last(heard) == {
        "type": "tool_answered", "batch_id": "b1", "run_id": "run_1", "tool_call_id": "call_1", "output": "shipped - 🚚",
    }  # fmt: skip
    assert [types(heard).count(name) for name in ("tool_called", "tool_answered")] == [1, 1]


def test_pieces_of_text_are_told_once_and_their_place_is_stored_with_them(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    assert (lease.listened, lease.told) == (True, "")
    news = [events.text_delta("b1", "run_1", 0, 0, 'He said "hi"\n\ud83d'), events.text_delta("b1", "run_1", 1, 0, "🚚")]
    for _ in range(2):
        assert heard.run(events.tell(heard.space, lease, "so far", news))
    assert types(heard).count("text_delta") == 2
    assert fields(told(heard)[-2]) == {"batch_id": "b1", "run_id": "run_1", "index": 0, "offset": 0, "text": 'He said "hi"\n\ud83d'}
    heard.clock.advance(60)
    assert heard.claim().told == "so far"
    with pytest.raises(LeaseLost):
        heard.run(events.tell(heard.space, lease, "more", news))
    assert types(heard).count("text_delta") == 2


def test_what_was_told_is_forgotten_with_its_batch(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim()
    heard.run(events.tell(heard.space, lease, "so far", [events.text_delta("b", "r", 0, 0, "x")]))
    heard.add(delay_s=0)
    heard.finish(lease)
    assert heard.claim().told == ""


@pytest.mark.parametrize("delivers", [False, True])
def test_a_reply_is_told_when_it_is_stored_and_not_when_it_was_delivered(heard: Rig, delivers: bool) -> None:
    heard.add(message_id="m1", delay_s=0)
    lease = heard.claim(batch_id="b1")
    if delivers:
        for _ in range(2):
            heard.complete(lease)
        assert types(heard)[-1] == "reply_ready"
        heard.clock.advance(60)
        lease = heard.claim()  # takes the delivery over: nothing that anybody who listens sees
    for _ in range(2):
        heard.finish(lease)
    assert types(heard).count("reply_ready") == 1
    event = told(heard)[-1]
    assert fields(event) == {
        "batch_id": "b1", "run_id": "run_1", "message_ids": ("m1",), "reply": "hi", "replies": ("hi",), "incomplete_reason": None,
    }  # fmt: skip


def test_a_failed_attempt_is_told_with_the_time_of_the_next(heard: Rig) -> None:
    heard.add(delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        heard.postpone(lease, wait_s=5)
    assert types(heard).count("attempt_failed") == 1
    assert the_last(heard) == {"type": "attempt_failed", "batch_id": "b1", "attempt": 1, "error": ERROR, "retry_at": at(5)}
    heard.clock.advance(5)
    lease = heard.claim()
    assert the_last(heard)["attempt"] == 2
    heard.postpone(lease, ThreadState.HELD)
    assert types(heard).count("attempt_failed") == 1, "a batch that is only looked at again has not failed"


@pytest.mark.parametrize(("reason", "kind"), [("parked", "batch_parked"), ("attempts", "batch_dead_lettered")])
def test_a_batch_in_the_failed_list_is_told_and_what_a_person_does_with_it(heard: Rig, reason: str, kind: str) -> None:
    heard.add(message_id="m1", delay_s=0)
    lease = heard.claim(batch_id="b1")
    for _ in range(2):
        heard.bury(lease, reason=reason)
    assert the_last(heard) == {"type": kind, "batch_id": "b1", "message_ids": ("m1",), "error": ERROR}
    assert types(heard).count(kind) == 1
    heard.retry_failed("b1")
    assert the_last(heard) == {"type": "batch_retried", "batch_id": "b1", "message_ids": ("m1",), "pending_count": 1}
    heard.bury(heard.claim(batch_id="b2"))
    heard.discard_failed("b2")
    assert the_last(heard) == {"type": "batch_discarded", "batch_id": "b2", "message_ids": ("m1",)}


def test_a_cancelled_and_an_edited_message_are_told(heard: Rig) -> None:
    heard.add(message_id="m1")
    heard.add(message_id="m2")
    message = control.Message(id="m1", content="better")
    for _ in range(2):
        assert heard.run(control.edit(heard.space, message))
    assert the_last(heard) == {"type": "message_edited", "message_id": "m1", "content": "better"}
    assert heard.run(control.cancel(heard.space, "m2", 60))
    assert not heard.run(control.cancel(heard.space, "m2", 60))
    assert the_last(heard) == {"type": "message_cancelled", "message_id": "m2"}
    assert types(heard) == ["message_queued", "message_queued", "message_edited", "message_cancelled"]


def test_every_event_that_redis_holds_is_told_by_a_test_above() -> None:
    """And has a reader: a class that is new and not read would be left out in silence."""
    assert {kind.__dataclass_fields__["type"].default for kind in EVENTS} - {"events_missed"} == set(events._READERS)


# --- typing ----------------------------------------------------------------------------------------------------------------


def see_typing(rig: Rig, author: str = "Ann", window: Window = SLIDING) -> None:
    rig.run(events.typing(rig.space, "thread", author, window))


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


@pytest.mark.parametrize("window", [Window(delay_ms=2000), Window(delay_ms=9000, kind="sliding", max_wait_ms=20_000)])
def test_typing_changes_no_fixed_window_and_shortens_none(heard: Rig, window: Window) -> None:
    heard.add(window=window)
    before = heard.thread()
    see_typing(heard, window=window)
    assert heard.thread() == before
    assert types(heard) == ["message_queued", "typing"]


def test_typing_where_nothing_waits_leaves_no_thread_behind(store: Rig) -> None:
    see_typing(store)
    assert store.all_keys() == []


def test_typing_is_told_once_in_a_while_for_each_author(heard: Rig) -> None:
    for author in ("Ann", "Ann", "Bob", "Bob"):
        see_typing(heard, author)
    assert [event.author for event in told(heard)] == ["Ann", "Bob"]
    assert the_last(heard) == {"type": "typing", "author": "Bob", "until": at(5)}
    heard.clock.advance(2)
    see_typing(heard, "Bob")
    assert types(heard) == ["typing"] * 3


def test_the_rule_of_typing_is_the_same_in_python(store: Rig) -> None:
    for delay, most, after in [(2000, 6000, 500), (2000, 60_000, 1500), (9000, 20_000, 100), (2000, 6000, 1999), (2000, 2100, 1000)]:
        window = Window(delay_ms=delay, kind="sliding", max_wait_ms=most)
        thread = f"{delay}-{most}-{after}"
        first, due = store.clock.ms, round(store.add(thread, window=window).due_at.timestamp() * 1000)
        store.clock.advance(after / 1000)
        store.run(events.typing(store.space, thread, "Ann", window))
        expected = held_open(window, now_ms=store.clock.ms, hold_ms=events.TYPING_MS, first_ms=first, due_ms=due)
        assert store.thread(thread).due_at == moment(expected)


# --- where nobody listens, and how long it lives -----------------------------------------------------------------------------


def test_nothing_is_kept_where_nobody_listens(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    assert not lease.listened
    assert store.renew(lease).listened is False
    assert not store.run(holding.save(store.space, lease, Phase.SENDING, Progress(attempts=1)))
    assert not store.run(events.tell(store.space, lease, "told", [events.text_delta("b", "r", 0, 0, "x")]))
    assert store.client.hget(store.keys.thread("thread"), "told") is None
    store.finish(lease)
    assert store.client.exists(store.keys.events("thread")) == 0


def test_a_holder_learns_with_its_next_write_that_somebody_listens(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.run(events.listen(store.space, "thread"))
    assert store.renew(lease).listened
    assert store.run(holding.save(store.space, lease, Phase.SENDING, Progress(attempts=1)))


def other(store: Rig, **rules: Any) -> Rig:
    rig = Rig(store.client, store.prefix)
    rig.space = Space(store.prefix, rig.clock, EventRules(**rules))
    return rig


def test_always_keeps_them_from_the_first_message_on_and_off_keeps_none(store: Rig) -> None:
    other(store, mode="always").add()
    assert types(store) == ["message_queued"]
    off = other(store, mode="off")
    off.add()
    assert types(store) == ["message_queued"]
    with pytest.raises(ConfigurationError, match="off"):
        off.run(events.listen(off.space, "other"))
    assert store.client.exists(store.keys.events("other")) == 0


def test_a_stream_has_a_bounded_length_and_life(store: Rig) -> None:
    rig = other(store, limit=100, ttl_ms=50_000)
    rig.run(events.listen(rig.space, "thread"))
    key = rig.keys.events("thread")
    for number in range(500):
        rig.add(message_id=f"m{number}")
    assert 100 <= rig.client.xlen(key) <= 250
    rig.client.pexpire(key, 1000)
    rig.add()
    assert 49_000 < rig.client.pttl(key) <= 50_000
    rig.client.pexpire(key, 1000)
    rig.run(events.listen(rig.space, "thread"))
    assert 49_000 < rig.client.pttl(key) <= 50_000


def test_a_forgotten_thread_has_no_events(heard: Rig) -> None:
    heard.add(message_id="m1")
    heard.run(control.forget(heard.space, "thread"))
    assert heard.all_keys() in ([], [heard.keys.counters])


def test_a_key_of_somebody_elses_does_not_stop_the_queue(store: Rig) -> None:
    store.client.set(store.keys.events("thread"), "not a stream")
    store.add(message_id="m1", delay_s=0)
    store.finish(store.claim())
    assert store.message("m1").status == "completed"


# --- reading -----------------------------------------------------------------------------------------------------------------


def test_reading_goes_on_strictly_behind_an_id(heard: Rig) -> None:
    for number in range(5):
        heard.add(message_id=f"m{number}")
    everything = told(heard)
    for number, event in enumerate(everything):
        assert told(heard, after=event.id) == everything[number + 1 :]


def test_whoever_has_an_id_that_is_gone_is_told_that_he_may_have_missed_something(store: Rig) -> None:
    rig = other(store, limit=100)
    rig.run(events.listen(rig.space, "thread"))
    rig.add(message_id="m")
    first = told(rig)[0].id
    page = rig.run(events.read(rig.space, "thread", first, 10))
    assert (page.missed, page.events) == (False, ())
    for number in range(500):
        rig.add(message_id=f"m{number}")
    page = rig.run(events.read(rig.space, "thread", first, 1000))
    assert page.missed
    assert page.events == tuple(told(rig))
    assert not rig.run(events.read(rig.space, "thread", events.START, 1)).missed, '"0" asks for what is kept'


def _redis_ms(heard: Rig) -> int:
    seconds, micros = heard.client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def test_an_id_of_a_stream_that_was_lost_is_gone_too(heard: Rig) -> None:
    heard.add(message_id="m1")
    last = told(heard)[-1].id
    heard.client.delete(heard.keys.events("thread"))
    while _redis_ms(heard) <= int(last.split("-")[0]):
        pass  # in the same millisecond a new stream would begin with the same id
    assert heard.run(events.read(heard.space, "thread", last, 10)).missed
    heard.run(events.listen(heard.space, "thread"))
    heard.add(message_id="m2")
    page = heard.run(events.read(heard.space, "thread", last, 10))
    assert page.missed
    assert [event.message_id for event in page.events] == ["m2"]


def test_an_id_from_the_future_is_one_that_redis_has_lost(heard: Rig) -> None:
    heard.add(message_id="m1")
    page = heard.run(events.read(heard.space, "thread", "9999999999999-0", 10))
    assert page.missed
    assert [event.message_id for event in page.events] == ["m1"]


def test_what_is_no_event_of_ours_is_left_out(heard: Rig) -> None:
    heard.client.xadd(heard.keys.events("thread"), {"type": "from_a_newer_version", "at": "1", "data": "{}"})
    heard.client.xadd(heard.keys.events("thread"), {"type": "typing", "at": "1", "data": "no JSON"})
    heard.client.xadd(heard.keys.events("thread"), {"anything": "else"})
    heard.add()
    assert types(heard) == ["message_queued"]


def test_the_header_of_each_script_that_tells_names_the_stream() -> None:
    for name in ("add", "claim", "finish", "complete", "bury", "postpone", "progress", "trim", "cancel", "edit", "tell", "typing"):
        assert "events" in load(name).keys, name


def test_missed_is_an_event_like_any_other() -> None:
    event = EventsMissed(id="1-0", thread_id="t", at=moment(0), after="1-0")
    assert (event.type, fields(event)) == ("events_missed", {"after": "1-0"})
