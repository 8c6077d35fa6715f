"""The feed has the events of all threads, each once, and only while it has readers."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window
from assistant_queue.errors import StoreError
from assistant_queue.events import EVENTS, Event
from assistant_queue.models import FunctionCall, Message, ToolCall
from assistant_queue.store.calls import EventRules, Namespace
from assistant_queue.store.ops import control, event_log, leases
from assistant_queue.store.ops.event_log import ALL_THREADS
from tests.contract.store_rig import Rig
from tests.contract.test_store_events import Twice

SLIDING = Window(delay_ms=2000, kind="sliding", max_wait_ms=6000)
CALL = ToolCall("call_1", FunctionCall("order", "{}"))
OF_SUBSCRIBERS = {"text_delta", "typing", "events_missed"}
"""Types of events that are not in the feed."""


def follow(rig: Rig) -> Rig:
    rig.run(event_log.listen(rig.namespace, ALL_THREADS))
    return rig


@pytest.fixture
def followed(store: Rig) -> Rig:
    """A store with a reader of its feed."""
    return follow(store)


def page(rig: Rig, after: str = event_log.START, count: int = 10_000) -> event_log.EventPage:
    return rig.run(event_log.read(rig.namespace, ALL_THREADS, after, count))


def found(rig: Rig) -> list[tuple[str, str]]:
    return [(event.thread_id, event.type) for event in page(rig).events]


def contents(events: tuple[Event, ...]) -> list[dict[str, Any]]:
    """The events without their ids."""
    names = [
        {name for cls in type(event).__mro__ for name in getattr(cls, "__slots__", ())} - {"id"}
        for event in events
    ]
    return [
        {name: getattr(event, name) for name in sorted(of)}
        for event, of in zip(events, names, strict=True)
    ]


def live(rig: Rig) -> None:
    """Every event in the life of a thread."""
    rig.add(message_id="m1", content="hello", author="Ann", window=SLIDING)
    rig.run(event_log.typing(rig.namespace, "thread", "Ann", SLIDING))
    rig.run(control.edit(rig.namespace, Message(id="m1", content="better")))
    rig.add(message_id="gone", window=SLIDING)
    rig.run(control.cancel(rig.namespace, "gone", 60))
    rig.add(message_id="m2", window=SLIDING)
    rig.clock.advance(6)
    lease = rig.claim(batch_id="b1", token="t1")
    rig.trim(lease, 1)
    sending = Progress(attempts=1, run_id="run_1", in_user_code=True)
    called = [event_log.tool_called("b1", "run_1", CALL)]
    rig.run(leases.save(rig.namespace, lease, Phase.RUNNING, sending, new_events=called))
    rig.run(
        event_log.publish(
            rig.namespace, lease, "1", [event_log.text_delta("b1", "run_1", 0, 0, "H")]
        )
    )
    answered = [event_log.tool_answered("b1", "run_1", "call_1", "done")]
    rounds = Progress(attempts=1, run_id="run_1", rounds=1)
    rig.run(leases.save(rig.namespace, lease, Phase.SENDING, rounds, new_events=answered))
    rig.postpone(lease, ThreadState.RETRYING, wait_s=0)
    lease = rig.claim(token="t2")
    rig.bury(lease)
    rig.retry_failed("b1")
    delivery = rig.reply(rig.claim(batch_id="b2", token="t3"), token="d1")
    assert delivery is not None
    rig.delivered(delivery)
    rig.add(message_id="m3", delay_s=0)
    delivery = rig.reply(rig.claim(batch_id="b3", token="t4"), token="d2")
    assert delivery is not None
    rig.park_delivery(delivery)
    rig.discard_failed("b3")
    rig.add(message_id="m4", delay_s=0)
    rig.bury(rig.claim(batch_id="b4", token="t5"), reason="parked")
    rig.discard_failed("b4")
    rig.say(batch_id="b5", message_id="said")
    rig.add(message_id="m5", delay_s=0)
    lease = rig.claim(batch_id="b7", token="t7")
    rig.add(message_id="m6", delay_s=0, mid_run="interrupt")
    rig.refuse(lease)
    lease, _ = rig.join(lease)
    rig.add(message_id="m7", delay_s=0)
    lease, _ = rig.join(lease, event="message_steered")
    rig.park(lease, rig.open_call("c1"))
    rig.settle("c1")
    lease = rig.claim(token="t8")
    rig.stop()
    rig.stopped(lease)
    rig.take_over("Eve")
    rig.hand_back()


@pytest.mark.parametrize("has_subscribers", [False, True])
def test_the_feed_has_every_event_of_a_thread_but_pieces_of_text_and_typing(
    followed: Rig, has_subscribers: bool
) -> None:
    everything = {kind.__dataclass_fields__["type"].default for kind in EVENTS}
    if has_subscribers:
        followed.run(event_log.listen(followed.namespace, "thread"))
    live(followed)
    events = page(followed).events
    assert {event.type for event in events} == everything - OF_SUBSCRIBERS
    assert bool(followed.client.exists(followed.keys.events("thread"))) is has_subscribers
    if has_subscribers:
        own = followed.run(event_log.read(followed.namespace, "thread", event_log.START, 1000))
        kept = tuple(event for event in own.events if event.type not in OF_SUBSCRIBERS)
        assert contents(events) == contents(kept)


def test_a_call_that_is_sent_twice_is_in_the_feed_once(store: Rig) -> None:
    seen = []
    for times in (1, 2):
        rig = Twice(store.client, f"{store.prefix}x{times}")
        follow(rig)
        rig.add(message_id="m", delay_s=0)
        rig.doubles = times == 2
        rig.add(message_id="n", delay_s=0)
        lease = rig.claim(batch_id="b1", token="t1")
        rig.trim(lease, 1)
        rig.save(lease, Phase.RUNNING, Progress(attempts=1, run_id="run_1"), ["m"])
        rig.postpone(lease, ThreadState.RETRYING, wait_s=0)
        rig.bury(rig.claim(token="t2"))
        rig.finish(rig.claim(batch_id="b2", token="t3"))
        rig.doubles = False
        seen.append(found(rig))
    assert seen[0] == seen[1]
    assert len(seen[0]) == 10


def test_no_late_copy_is_in_the_feed(followed: Rig) -> None:
    live(followed)
    before = found(followed)
    copies = [call for call in followed.sent if call.script and call.script.name != "typing"]
    for call in copies:
        followed.again(call)
    assert found(followed) == before
    assert {"add", "claim", "finish", "bury", "delivered", "park_delivery", "say"} <= {
        call.script.name for call in copies if call.script
    }


def test_events_of_all_threads_are_in_one_order_and_a_reader_continues_after_any(
    followed: Rig,
) -> None:
    names = ["a", "b:c", "ключ 🙂", "a"]
    for name in names:
        followed.add(name)
    events = page(followed).events
    assert [event.thread_id for event in events] == names
    for number, event in enumerate(events):
        assert page(followed, event.id).events == events[number + 1 :]
        assert not page(followed, event.id).missed


# --- without readers, bounds and lifetimes --------------------------------------------------------


def test_nothing_is_kept_without_readers_and_holders_publish_no_text_for_them(store: Rig) -> None:
    store.add(delay_s=0)
    assert not store.client.exists(store.keys.feed)
    follow(store)
    lease = store.claim()
    assert not lease.has_subscribers
    renewed = store.renew(lease)
    assert renewed is not None
    assert not renewed.has_subscribers
    saved = store.run(leases.save(store.namespace, lease, Phase.SENDING, Progress(attempts=1)))
    assert not saved.has_subscribers
    assert found(store) == [("thread", "batch_claimed")]


def is_fake(rig: Rig) -> bool:
    return "FakeRedis" in type(rig.client).__name__


def commands(rig: Rig) -> dict[str, int]:
    rows = rig.client.info("commandstats").items()
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in rows}


@pytest.mark.parametrize(
    ("mode", "streams", "looks", "written"),
    [
        ("listened", [], 1, 0),
        ("listened", ["thread"], 2, 1),
        ("listened", [ALL_THREADS], 2, 1),
        ("listened", ["thread", ALL_THREADS], 1, 2),
        ("always", [], 1, 1),
        ("always", [ALL_THREADS], 1, 2),
        ("off", [], 0, 0),
        ("off", ["thread", ALL_THREADS], 0, 0),
    ],
)
def test_a_feed_costs_a_script_at_most_one_more_look(
    store: Rig, mode: str, streams: list[str], looks: int, written: int
) -> None:
    if is_fake(store):
        pytest.skip("it counts no commands")
    for name in streams:
        store.run(event_log.listen(store.namespace, name))
    rig = Rig(store.client, store.prefix)
    rig.namespace = Namespace(store.prefix, rig.clock, EventRules(mode=mode))
    rig.add("other")  # loads the script
    before = commands(rig)
    rig.add()
    after = commands(rig)
    assert after.get("exists", 0) - before.get("exists", 0) == looks
    assert after.get("xadd", 0) - before.get("xadd", 0) == written


def fill(rig: Rig, thread: str, count: int, text: str = "{}") -> list[str]:
    """Write entries as the scripts do; return their ids."""
    pipe = rig.client.pipeline(transaction=False)
    for _ in range(count):
        pipe.xadd(rig.keys.feed, {"at": "1", "type": "said", "thread": thread, "data": text})
    return [one.decode() for one in pipe.execute()]


def test_a_feed_has_a_bounded_length_and_lives_as_long_as_it_is_read(followed: Rig) -> None:
    ttl_ms = followed.namespace.events.ttl_ms
    (first, *_) = fill(followed, "thread", 12_000)
    followed.client.pexpire(followed.keys.feed, 1000)
    followed.add()
    assert 10_000 <= followed.client.xlen(followed.keys.feed) <= 10_200
    assert followed.client.pttl(followed.keys.feed) <= 1000, "an event is no reader"
    follow(followed)
    assert ttl_ms - 1000 < followed.client.pttl(followed.keys.feed) <= ttl_ms
    assert page(followed, first, 1).missed


def test_a_feed_of_another_type_hurts_nothing(store: Rig) -> None:
    store.client.set(store.keys.feed, "not a stream")
    store.add(message_id="m1", delay_s=0)
    store.finish(store.claim())
    status = store.message("m1")
    assert status is not None
    assert status.status == "completed"
    store.run(control.forget(store.namespace, "thread"))
    assert store.client.get(store.keys.feed) == b"not a stream"
    with pytest.raises(StoreError):
        follow(store)


def test_entries_that_are_no_events_are_skipped(followed: Rig) -> None:
    key = followed.keys.feed
    followed.client.xadd(key, {"type": "typing", "at": "1", "data": "{}"})
    followed.client.xadd(key, {"type": "from a newer version", "at": "1", "thread": "t"})
    followed.client.xadd(key, {"anything": "else"})
    followed.add()
    assert found(followed) == [("thread", "message_queued")]


# --- forgotten threads ----------------------------------------------------------------------------


def dumped(rig: Rig) -> bytes:
    """All that Redis keeps of the feed, and writes to its disk."""
    if not is_fake(rig):
        rig.client.config_set("rdbcompression", "no")
    raw: bytes = rig.client.dump(rig.keys.feed)
    return raw


def test_the_texts_of_a_forgotten_thread_are_gone_and_no_reader_misses_an_event(
    followed: Rig,
) -> None:
    for name in ("thread", "other", "thread"):
        followed.add(name, content=f"a secret of {name}")
    followed.client.xadd(followed.keys.feed, {"odd": "entry"})
    before = page(followed)
    followed.run(control.forget(followed.namespace, "thread"))
    assert b"a secret of other" in dumped(followed)
    assert b"a secret of thread" not in dumped(followed)
    assert found(followed) == [("other", "message_queued")]
    assert 0 < followed.client.pttl(followed.keys.feed) <= followed.namespace.events.ttl_ms
    followed.add("third")
    for event in before.events:
        after = page(followed, event.id)
        assert not after.missed
        assert [one.thread_id for one in after.events][-1] == "third"
    assert [one.thread_id for one in page(followed, before.last).events] == ["third"]


def test_a_long_feed_is_cut_when_a_thread_is_forgotten_and_readers_find_out(followed: Rig) -> None:
    (first, *_) = fill(followed, "thread", 1, '{"text": "a secret"}')
    (second, *_) = fill(followed, "other", 2500)
    followed.add("newest")
    followed.run(control.forget(followed.namespace, "thread"))
    assert b"a secret" not in dumped(followed)
    assert followed.client.xlen(followed.keys.feed) == 2000
    assert [page(followed, after, 1).missed for after in (first, second)] == [True, True]
    assert found(followed)[-1] == ("newest", "message_queued")


def test_a_late_copy_of_a_forget_removes_no_event_of_the_threads_new_life(followed: Rig) -> None:
    followed.add()
    followed.run(control.forget(followed.namespace, "thread"))
    call = next(one for one in followed.sent if one.script and one.script.name == "forget")
    followed.add()
    followed.again(call)
    assert found(followed) == [("thread", "message_queued")]


def test_a_thread_without_events_in_the_feed_is_forgotten_without_writing_it(
    followed: Rig,
) -> None:
    followed.add("other")
    before = followed.client.xinfo_stream(followed.keys.feed)
    followed.run(control.forget(followed.namespace, "thread"))
    assert followed.client.xinfo_stream(followed.keys.feed) == before
