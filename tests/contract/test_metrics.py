"""Metrics: what each step counts, once, and what is read of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue import Metrics, TokenMetrics, ToolMetrics, Usage, WorkerMetrics
from assistant_queue.core import measures
from assistant_queue.core.measures import BOUNDS, MOST_LABELS, MOST_PAIRS, OTHER
from assistant_queue.core.progress import moment
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.errors import LeaseLost, NotPermitted, ThreadTakenOver
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import control, measuring
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.rq_jobs import JobCount, WorkerRoom, write_books
from tests.contract.store_rig import CHANNEL, ERROR, Rig

USAGE = Usage(
    input_tokens=100,
    cached_input_tokens=40,
    cache_write_tokens=5,
    output_tokens=20,
    reasoning_tokens=8,
    total_tokens=120,
    model="gpt-4.1",
)


def claimed(store: Rig, count: int = 1, **fields: Any) -> Lease:
    """A batch of so many messages, claimed 0.3 s after a window of a second."""
    for _ in range(count):
        store.add(delay_s=1, **fields)
    store.clock.advance(1.3)
    return store.claim()


def ended(store: Rig, lease: Lease, usage: Usage | None = None, **fields: Any) -> None:
    """End the batch with a result."""
    found = replace(store.result(lease), usage=usage, model=usage.model if usage else None)
    store.finish(lease, result=replace(found, **fields))


@contextmanager
def queued_never_decreases(store: Rig) -> Iterator[None]:
    before = store.metrics().messages["queued"]
    yield
    assert store.metrics().messages["queued"] == before


def seconds(metrics: Metrics) -> dict[str, float]:
    """Durations together, by name; without those that were not counted."""
    return {name: one.sum_s for name, one in metrics.durations.items() if one.count}


def test_a_queue_that_was_never_used_has_counted_nothing(store: Rig) -> None:
    found = store.metrics()
    assert found == Metrics(
        at=moment(store.clock.ms),
        status=found.status,
        messages=dict.fromkeys(("queued", "answered", "failed", "cancelled", "deduplicated"), 0),
        batches=dict.fromkeys(("completed", "incomplete", "failed", "stopped"), 0),
        approvals=dict.fromkeys(("requested", "approved", "denied", "answered", "expired"), 0),
        persons={"taken_over": 0, "handed_back": 0},
        durations=found.durations,
    )
    assert seconds(found) == {}


def test_a_batch_is_counted_where_it_ends(store: Rig) -> None:
    lease = claimed(store, 3, tenant="acme")
    progress = lease.claimed.progress
    progress.run_sent_ms = 1000
    progress.first_text_ms = 1650
    progress.tools = (
        ToolRow(name="weather", ms=120),
        ToolRow(name="weather", ms=80, error="timeout"),
        ToolRow(name="refund", ms=0),
    )
    store.clock.advance(2)
    before = store.metrics()
    ended(store, lease, USAGE, attempts=2, status="incomplete")
    found = store.metrics()
    assert before.messages == {**found.messages, "answered": 0}
    assert (found.messages["queued"], found.messages["answered"]) == (3, 3)
    assert found.batches == {"completed": 0, "incomplete": 1, "failed": 0, "stopped": 0}
    assert (found.runs, found.runs_saved) == (2, 2)
    assert seconds(found) == {
        "window_wait": 1.0,
        "queue_wait": 0.3,
        "first_token": 0.65,
        "run": 2.0,
        "end_to_end": 3.3,
    }
    assert found.tools == {
        "weather": ToolMetrics(calls=2, errors=1, seconds=0.2),
        "refund": ToolMetrics(calls=1),
    }
    assert found.tokens == (
        TokenMetrics(
            model="gpt-4.1",
            tenant="acme",
            input_tokens=100,
            cached_input_tokens=40,
            cache_write_tokens=5,
            output_tokens=20,
            reasoning_tokens=8,
        ),
    )
    assert found.cut == ()
    assert found.status.completed_count == 3


def test_a_failed_batch_is_counted_with_the_attempts_before_it(store: Rig) -> None:
    lease = claimed(store, 2)
    store.postpone(lease, wait_s=0)
    assert store.metrics().errors == {ERROR.code: 1}, "an outage is not seen before the end"
    lease = store.claim()
    store.postpone(lease, ThreadState.HELD, wait_s=0, failed=None)  # it only waited
    lease = store.claim()
    lease.claimed.progress.usage = USAGE
    store.bury(lease, progress=replace(lease.claimed.progress, attempts=2))
    found = store.metrics()
    assert found.errors == {ERROR.code: 2}
    assert (found.messages["failed"], found.messages["answered"]) == (2, 0)
    assert (found.batches["failed"], found.runs, found.runs_saved) == (1, 2, 0)
    assert (found.tokens[0].tenant, found.tokens[0].output_tokens) == ("", 20)
    assert found.durations["end_to_end"].count == 1


def test_what_a_person_takes_over_and_hands_back_is_counted_once(store: Rig) -> None:
    assert not store.hand_back()
    assert store.take_over("Jo")
    assert not store.take_over("Jo")
    with pytest.raises(ThreadTakenOver):
        store.take_over("Ann")
    assert store.take_over("Ann", instead_of="Jo")
    assert store.hand_back()
    assert not store.hand_back()
    assert store.metrics().persons == {"taken_over": 2, "handed_back": 1}
    assert store.metrics().takeovers == 0


def test_a_takeover_is_counted_and_a_handover_is_not(store: Rig) -> None:
    store.postpone(claimed(store), wait_s=0)
    store.claim()
    assert store.metrics().takeovers == 0
    store.clock.advance(31)
    store.claim()
    assert store.metrics().takeovers == 1
    assert store.metrics().errors["worker_lost"] == 1


def test_a_message_is_queued_for_good_whatever_becomes_of_it(store: Rig) -> None:
    store.finish(claimed(store))
    lease = claimed(store)
    with queued_never_decreases(store):
        store.bury(lease)
    kept = store.failed()[0].batch_id
    store.add(message_id="m1")
    store.add(message_id="m2")
    with queued_never_decreases(store):
        assert store.run(control.cancel(store.namespace, "m1", 3600))
    with queued_never_decreases(store):
        store.discard_failed(kept)
    store.clock.advance(2)
    store.bury(store.claim())
    with queued_never_decreases(store):
        store.retry_failed(store.failed()[0].batch_id)
    store.bury(store.claim())
    store.add("thread", "m3")
    with queued_never_decreases(store):
        store.run(control.forget(store.namespace, "thread"))
    found = store.metrics().messages
    assert (found["queued"], found["cancelled"], found["failed"]) == (5, 1, 3)


def test_a_duplicate_is_counted_and_so_is_the_next(store: Rig) -> None:
    store.add(message_id="m1")
    store.again(store.sent[-1])
    assert store.metrics().messages["deduplicated"] == 0, "a repeated call is no duplicate"
    for count in (1, 2):
        assert store.add(message_id="m1").duplicate
        store.again(store.sent[-1])
        assert store.metrics().messages["deduplicated"] == count
    for call in store.sent[:3]:
        store.again(call)
    found = store.metrics().messages
    assert (found["queued"], found["deduplicated"]) == (1, 2)


def test_what_is_said_is_no_message_and_what_wants_no_reply_is_one(store: Rig) -> None:
    store.add(wants_reply=False)
    store.say(kind="reply")
    lease = store.claim()
    ended(store, lease, run_id="", attempts=0)
    found = store.metrics()
    assert (found.messages["queued"], found.messages["answered"]) == (1, 1)
    assert (found.batches["completed"], found.runs, found.runs_saved) == (0, 0, 1)
    assert seconds(found) == {}, "no run was made"


def test_a_delivery_is_counted_by_its_channel_and_ends_the_way_of_its_messages(store: Rig) -> None:
    lease = claimed(store)
    delivery = store.reply(lease)
    assert delivery is not None
    assert "end_to_end" not in seconds(store.metrics())
    store.clock.advance(0.4)
    store.postpone_delivery(delivery, wait_s=1)
    store.clock.advance(1)
    delivery = store.claim_delivery()
    assert delivery is not None
    store.delivered(delivery)
    found = store.metrics()
    assert found.deliveries == {CHANNEL: {"retried": 1, "delivered": 1}}
    assert seconds(found)["delivery"] == 1.4
    assert seconds(found)["end_to_end"] == 2.7
    for reason in ("undelivered", "delivery_unknown"):
        delivery = store.reply(claimed(store))
        assert delivery is not None
        store.park_delivery(delivery, reason=reason)
    assert store.metrics().deliveries == {
        CHANNEL: {"retried": 1, "delivered": 1, "undelivered": 1, "unknown": 1}
    }
    store.retry_failed(store.failed()[0].batch_id)
    delivery = store.claim_delivery()
    assert delivery is not None
    store.delivered(delivery)
    assert store.metrics().durations["end_to_end"].count == 2


def test_a_text_that_is_said_is_delivered_and_answers_nothing(store: Rig) -> None:
    store.say()
    store.clock.advance(0.2)
    delivery = store.claim_delivery()
    assert delivery is not None
    store.delivered(delivery)
    assert seconds(store.metrics()) == {"delivery": 0.2}


# --- histograms -----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_known", [True, False], ids=["known before", "known by the script"])
def test_a_bound_belongs_to_its_bucket(store: Rig, is_known: bool) -> None:
    spans = [round(bound * 1000) + over for bound in BOUNDS for over in (0, 1)]
    lease = claimed(store)
    counts = measures.Counts()
    for ms in [0, -1, *spans]:
        if is_known:
            counts.took("run", ms)
        else:
            counts.took_since("run", store.clock.ms - ms)
    store.run(_counted(store.namespace, lease, counts))
    found = store.metrics().durations["run"]
    assert found.bounds == BOUNDS
    assert found.counts == (3, *[2] * 20, 1)
    assert found.sum_s == sum(spans) / 1000
    assert (found.quantile(0.01), found.quantile(1.0)) == (0.005, float("inf"))


def _counted(namespace: Namespace, lease: Lease, counts: measures.Counts) -> Any:
    """The step `postpone` with other counts."""
    yield namespace.call(
        "postpone",
        lease.thread_id,
        token=lease.token,
        seen="",
        state="retrying",
        wait_ms=0,
        phase="frozen",
        progress="{}",
        counts=counts.dump(),
    )


def test_a_clock_that_is_set_back_makes_no_duration_negative(store: Rig) -> None:
    lease = claimed(store)
    store.clock.ms -= 60_000
    store.finish(lease)
    found = store.metrics()
    assert seconds(found)["run"] == 0.0
    assert found.durations["run"].counts[0] == 1


# --- labels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a:b", "*", "100%", "über 🙂", "", "x" * 500, "half \udc80"])
def test_a_label_is_read_as_it_was_given(store: Rig, name: str) -> None:
    lease = claimed(store)
    lease.claimed.progress.tools = (ToolRow(name=name, ms=1),)
    store.finish(lease)
    kept = name[:128].replace("\udc80", "?")
    assert store.metrics().tools == {kept: ToolMetrics(calls=1, seconds=0.001)}
    assert store.metrics().cut == ()


def test_labels_beyond_the_bound_are_counted_together_whichever_process_meets_them(
    store: Rig,
) -> None:
    def counted(rig: Rig, names: list[str]) -> None:
        lease = claimed(rig)
        lease.claimed.progress.tools = tuple(ToolRow(name=name, ms=2) for name in names)
        rig.finish(lease)

    other = Rig(store.client, store.prefix)
    other.clock = store.clock
    other.namespace = Namespace(store.prefix, store.clock)
    other._numbers = store._numbers
    names = [f"tool {number}" for number in range(MOST_LABELS)]
    counted(store, names[:60])
    counted(other, [*names[60:], *names[:10]])
    assert store.metrics().cut == ()
    counted(store, ["one more", names[0]])
    counted(other, ["yet another", "one more"])
    found = store.metrics()
    assert found.cut == ("tools",)
    assert len(found.tools) == MOST_LABELS + 1
    assert found.tools["other"] == ToolMetrics(calls=3, seconds=0.006)
    assert found.tools[names[0]].calls == 3
    assert not any("one more" in field for field in store.counted())


def test_tenants_beyond_the_bound_share_a_row_by_model(store: Rig) -> None:
    fields = {f"k:gpt:t{number}:a": 7 for number in range(MOST_PAIRS)}
    store.client.hset(store.keys.metrics, mapping={**fields, "n:tenants": MOST_PAIRS})
    for tenant, model in (("t0", "gpt"), ("new", "gpt"), ("newer", "gpt"), ("new", "claude")):
        ended(store, claimed(store, tenant=tenant), replace(USAGE, model=model))
    found = {(row.model, row.tenant): row.input_tokens for row in store.metrics().tokens}
    assert len(found) == MOST_PAIRS + 2
    assert found["gpt", "t0"] == 107
    assert (found["gpt", "other"], found["claude", "other"]) == (200, 100)
    assert store.metrics().cut == ("tenants",)
    store.client.hset(store.keys.metrics, "n:models", MOST_LABELS)
    ended(store, claimed(store, tenant="new"), replace(USAGE, model="llama"))
    assert store.metrics().cut == ("models", "tenants")
    assert store.hash(store.keys.metrics)[f"k:{OTHER}:{OTHER}:a"] == "120"


# --- a key that another program changed, and a queue that counts nothing ------------------------


@pytest.mark.parametrize("is_counted", [True, False])
def test_a_batch_whose_thread_was_overwritten_counts_as_failed(
    store: Rig, *, is_counted: bool
) -> None:
    store.add(delay_s=0, wants_reply=False)
    store.add(delay_s=0)
    store.add(delay_s=0)
    lease = store.claim()
    if not is_counted:
        store.namespace = Namespace(store.prefix, store.clock, is_counted=False)
    store.client.delete(store.keys.thread("thread"))
    store.client.set(store.keys.thread("thread"), "not a hash")
    call = len(store.sent)
    with pytest.raises(LeaseLost):
        store.finish(lease)
    (failed,) = store.failed()
    assert failed.reason == "corrupt"
    found = store.metrics()
    none = dict.fromkeys(found.batches, 0)
    expected = ({**none, "failed": 1}, 3, {"corrupt": 1}, 1)
    nothing = (none, 0, {}, 0)
    seen = (found.batches, found.messages["failed"], found.errors, found.runs)
    assert seen == (expected if is_counted else nothing)
    assert found.durations["run"].count == 0
    for one in [one for one in store.sent[call:] if one.script.name == "quarantine"]:
        store.again(one)
    assert store.metrics().errors == found.errors, "a late copy counts nothing"


def test_a_key_of_another_type_costs_no_batch_and_the_counts_begin_anew(store: Rig) -> None:
    store.client.set(store.keys.metrics, "not a hash")
    store.postpone(claimed(store), wait_s=0)
    delivery = store.reply(store.claim())
    assert delivery is not None
    store.delivered(delivery)
    assert store.client.get(store.keys.metrics) == b"not a hash"
    found = store.metrics()
    assert (found.messages["queued"], found.messages["answered"], found.errors) == (1, 0, {})
    (shelved,) = store.client.zrange(store.keys.quarantine, 0, -1)
    assert store.client.get(shelved) == b"not a hash"
    store.client.delete(store.keys.quarantine)
    store.finish(claimed(store))
    assert store.metrics().messages["answered"] == 1


def test_a_field_that_is_no_number_begins_anew_and_unknown_fields_are_ignored(store: Rig) -> None:
    foreign = {
        "b:completed": "many",
        "saved": 3,
        "z:new": 1,
        "k": 1,
        "h:run": "x",
        "h:r:ms:x": 1,
    }
    store.client.hset(store.keys.metrics, mapping=foreign)
    assert store.metrics().batches["completed"] == 0
    store.finish(claimed(store))
    found = store.metrics()
    assert (found.batches["completed"], found.messages["answered"]) == (1, 4)
    assert found.durations["run"].count == 1


def test_nothing_is_counted_where_the_option_is_off_but_messages(store: Rig) -> None:
    store.namespace.is_counted = False
    store.postpone(claimed(store), wait_s=0)
    store.bury(store.claim())
    delivery = store.reply(claimed(store))
    assert delivery is not None
    store.delivered(delivery)
    assert not store.client.exists(store.keys.metrics)
    found = store.metrics()
    assert not found.is_counted
    assert found.messages["queued"] == 2
    assert found.batches == {"completed": 0, "incomplete": 0, "failed": 0, "stopped": 0}


# --- what is now ----------------------------------------------------------------------------------


def test_the_oldest_due_thread_is_found_in_the_line_and_without_one(store: Rig) -> None:
    store.add("a", delay_s=1)
    assert (store.metrics().oldest_due_s, store.metrics().thread_count) == (0.0, 1)
    store.clock.advance(3)
    assert store.metrics().oldest_due_s == 2.0, "no scheduler has handed it over"
    store.sweep()
    store.add("b", delay_s=0)
    store.clock.advance(0.5)
    found = store.metrics()
    assert (found.oldest_due_s, found.thread_count) == (2.5, 2), "its wake-up stands in line"
    store.claim(store.pop() or "")
    assert store.metrics().oldest_due_s == 0.5
    store.claim(store.pop() or "")
    assert store.metrics().oldest_due_s == 0.0


def test_a_job_that_is_no_wake_up_is_not_looked_into(store: Rig) -> None:
    queue = wakeups.queue_key(store.prefix)
    store.client.rpush(queue, "foreign")
    for data in (None, b"\x80\x04K\x01.", b""):
        if data is not None:
            store.client.hset(wakeups.job_key("foreign"), "data", data)
        assert store.metrics().oldest_due_s == 0.0
    store.client.delete(queue, wakeups.job_key("foreign"))


def test_workers_show_their_room(store: Rig) -> None:
    books = {
        "ours": {"last_heartbeat": "2026-11-30T10:00:00.5Z", "state": "busy", "abandoned": 2},
        "stock": {"last_heartbeat": "2026-11-30T10:00:00Z", "state": "busy"},
        "idle": {"last_heartbeat": "whenever", "state": "idle"},
    }
    for name, fields in books.items():
        store.client.hset(wakeups.worker_key(name), mapping=fields)
        store.client.sadd(wakeups.workers_key(store.prefix), wakeups.worker_key(name))
    store.client.sadd(wakeups.workers_key(store.prefix), wakeups.worker_key("gone"))
    room = WorkerRoom(concurrency=50, running=7)
    for count in (
        JobCount(worker="ours", room=room, abandoned=3),
        JobCount(worker="gone", room=room),
    ):
        store.run(write_books(store.namespace, [], [], count, 30))
    found = store.metrics()
    assert [replace(worker, seen_at=None) for worker in found.workers] == [
        WorkerMetrics(name="idle"),
        WorkerMetrics(name="ours", concurrency=50, running=7, abandoned_calls=2),
        WorkerMetrics(name="stock", running=1),
    ]
    assert [worker.seen_at is None for worker in found.workers] == [True, False, False]
    assert found.abandoned_calls == 3
    assert not store.client.exists(wakeups.worker_key("gone")), "a dead worker was revived"
    store.client.delete(*map(wakeups.worker_key, books), wakeups.workers_key(store.prefix))


def test_a_redis_user_without_the_right_to_read_the_counts_gets_the_error(store: Rig) -> None:
    operation = measuring.read_metrics(store.namespace)
    calls = next(operation)
    replies: list[Any] = [None] * len(calls)
    replies[0] = (1, 2)
    replies[1] = NotPermitted("no permissions to run the 'hgetall' command")
    with pytest.raises(NotPermitted):
        operation.send(replies)


# --- what is stored -----------------------------------------------------------------------------

STORED = {
    "about": "a text",
    "b:completed": 3,
    "b:incomplete": 1,
    "b:failed": 2,
    "m:failed": 4,
    "saved": 5,
    "again": 7,
    "e:rate_limit_exceeded": 2,
    "e:*": 1,
    "t:weather:n": 3,
    "t:weather:e": 1,
    "t:weather:ms": 1500,
    "k:gpt-4.1:acme%3A1:a": 120,
    "k:gpt-4.1:acme%3A1:o": 20,
    "k:gpt-4.1:acme%3A1:c": 40,
    "k:gpt-4.1:acme%3A1:w": 5,
    "k:gpt-4.1:acme%3A1:r": 8,
    "d:telegram:delivered": 6,
    "d:on_reply:unknown": 1,
    **{f"h:{name}:{bucket}": 1 for bucket, name in enumerate("wqfrde")},
    "h:r:21": 1,
    "h:r:ms": 9_000_500,
    "n:tools": 1,
    "abandoned": 2,
}
"""A hash that this version stored: later ones read it."""


def test_what_this_version_stored_is_read(store: Rig) -> None:
    store.client.hset(store.keys.metrics, mapping=STORED)
    ever = {"cancelled": 1, "discarded": 2, "forgotten": 3, "said": 4, "duplicates": 5}
    now = {"completed": 9, "failed": 2, "waiting": 1, "takeovers": 6}
    store.client.hset(store.keys.counters, mapping={**ever, **now})
    found = store.metrics()
    assert found.messages == {
        "queued": 14,
        "answered": 9,
        "failed": 4,
        "cancelled": 1,
        "deduplicated": 5,
    }
    assert found.batches == {"completed": 3, "incomplete": 1, "failed": 2, "stopped": 0}
    assert (found.runs, found.runs_saved, found.takeovers) == (13, 5, 6)
    assert found.errors == {"rate_limit_exceeded": 2, "other": 1, "worker_lost": 6}
    assert found.tools == {"weather": ToolMetrics(calls=3, errors=1, seconds=1.5)}
    tokens = TokenMetrics(
        model="gpt-4.1",
        tenant="acme:1",
        input_tokens=100,
        cached_input_tokens=40,
        cache_write_tokens=5,
        output_tokens=20,
        reasoning_tokens=8,
    )
    assert found.tokens == (tokens,)
    assert found.deliveries == {"telegram": {"delivered": 6}, "on_reply": {"unknown": 1}}
    assert [one.counts.index(1) for one in found.durations.values()] == [0, 1, 2, 3, 4, 5]
    assert (found.durations["run"].counts[21], found.durations["run"].sum_s) == (1, 9000.5)
    assert (found.abandoned_calls, found.cut) == (2, ("errors",))
