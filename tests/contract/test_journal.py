"""The journal of a thread: one entry for each batch that ended, bounded, and without texts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from assistant_queue.accounting import AttemptInfo, Timeline, Usage
from assistant_queue.core import journal_entries
from assistant_queue.core.batch_records import load_records
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.packed_ids import pack_id, unpack_id
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import AttemptRow, ToolRow
from assistant_queue.errors import BatchNotFound, LeaseLost
from assistant_queue.models import ErrorInfo
from assistant_queue.store.calls import JournalRules, Namespace
from assistant_queue.store.ops import control, outcomes
from assistant_queue.store.ops.leases import Lease
from tests.contract.store_rig import Rig, text

DAY_S = 86400
SECRET = "the customer's words"


def keep(store: Rig, most: int, ttl_s: int = 7 * DAY_S) -> None:
    """Keep so many entries of each journal, for so long."""
    rules = JournalRules(most=most, ttl_ms=ttl_s * 1000)
    store.namespace = Namespace(store.prefix, store.clock, journal=rules)


def answered(store: Rig, thread: str = "thread") -> str:
    """Answer one message; return the batch's id."""
    store.add(thread, delay_s=0)
    lease = store.claim(thread)
    store.finish(lease)
    return lease.claimed.batch.id


def raw(store: Rig, thread: str = "thread") -> list[str]:
    return [text(one) for one in store.client.lrange(store.keys.journal(thread), 0, -1)]


def ids(store: Rig, **page: Any) -> list[str]:
    return [one.batch_id for one in store.journal(**page)]


# --- what an entry has ----------------------------------------------------------------------------


def test_an_entry_has_what_became_of_a_batch(store: Rig) -> None:
    store.add(delay_s=0, message_id="m1", tenant="acme", content=SECRET)
    store.add(delay_s=0, message_id="m2")
    lease = store.claim()
    at = store.clock.ms
    usage = Usage(input_tokens=9, output_tokens=3, total_tokens=12, rounds=2, model="gpt-x")
    attempts = (
        AttemptInfo(
            number=1,
            started_at=moment(at),
            ended_at=moment(at + 5),
            worker="host:1",
            error=ErrorInfo(code="rate_limited", message=SECRET),
        ),
        AttemptInfo(number=2, started_at=moment(at + 9), ended_at=moment(at + 30), run_id="run_1"),
    )
    timeline = Timeline(
        queued_at=moment(at - 4),
        due_at=moment(at - 1),
        claimed_at=moment(at),
        sent_at=moment(at + 9),
        first_token_at=moment(at + 20),
        completed_at=moment(at + 30),
        attempts=attempts,
    )
    store.clock.advance(0.03)
    result = replace(
        store.result(lease), timeline=timeline, usage=usage, model="gpt-x", attempts=2, reply=SECRET
    )
    tools = [
        ToolRow(name="weather", call_id="call_1", started_ms=at + 12, ms=7),
        ToolRow(name="refund", call_id="call_2", started_ms=at, ms=0, error="KeyError"),
    ]
    store.finish(lease, result=result, tools=tools)
    (found,) = store.journal()
    assert found.batch_id == lease.claimed.batch.id
    assert (found.thread_id, found.message_ids, found.message_count) == ("thread", ("m1", "m2"), 2)
    assert (found.outcome, found.reason, found.error_code) == ("completed", None, None)
    assert (found.attempts, found.run_ids, found.tenant) == (2, ("run_1",), "acme")
    assert (found.usage, found.model) == (usage, "gpt-x")
    wordless = replace(attempts[0], error=ErrorInfo(code="rate_limited", message=""))
    assert found.timeline == replace(timeline, attempts=(wordless, attempts[1]))
    assert found.ended_at == moment(at + 30)
    assert [
        (one.name, one.call_id, one.started_at, one.duration_s, one.error_code)
        for one in found.tool_calls
    ] == [
        ("weather", "call_1", moment(at + 12), 0.007, None),
        ("refund", "call_2", moment(at), 0.0, "KeyError"),
    ]
    assert found.delivery.state == "none"
    assert SECRET not in "".join(raw(store))


def test_a_failed_batch_has_its_reason_and_the_code_of_its_error(store: Rig) -> None:
    store.add(delay_s=0, message_id="m1")
    lease = store.claim()
    error = ErrorInfo(code="run_failed", message=SECRET)
    progress = Progress(
        attempts=3,
        run_id="run_3",
        usage=Usage(input_tokens=5, total_tokens=5),
        tries=(AttemptRow(number=3, started_ms=store.clock.ms, run_id="run_3", error=error),),
        tools=(ToolRow(name="f", call_id="c", started_ms=store.clock.ms, ms=1),),
    )
    store.clock.advance(2)
    store.bury(lease, progress=progress)
    (found,) = store.journal()
    assert (found.outcome, found.reason, found.error_code) == (
        "failed",
        "attempts",
        "request_refused",
    )
    assert (found.attempts, found.run_ids, found.message_ids) == (3, ("run_3",), ("m1",))
    assert (found.ended_at, found.timeline.completed_at) == (moment(store.clock.ms), None)
    assert found.timeline.attempts[0].error == ErrorInfo(code="run_failed", message="")
    assert (found.usage, len(found.tool_calls)) == (Usage(input_tokens=5, total_tokens=5), 1)
    assert SECRET not in "".join(raw(store))


def test_a_failed_batch_that_is_retried_is_answered_as_another(store: Rig) -> None:
    store.add(delay_s=0, message_id="m1")
    failed = store.claim()
    store.bury(failed)
    store.retry_failed(failed.claimed.batch.id)
    again = store.claim()
    store.finish(again)
    assert [(one.batch_id, one.outcome, one.message_ids) for one in store.journal()] == [
        (again.claimed.batch.id, "completed", ("m1",)),
        (failed.claimed.batch.id, "failed", ("m1",)),
    ]


def test_words_in_the_place_of_a_code_are_not_kept(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    result = replace(
        store.result(lease), status="incomplete", incomplete_reason="I said: " + SECRET
    )
    store.finish(lease, result=result)
    (found,) = store.journal()
    assert (found.outcome, found.reason) == ("incomplete", "other")


def test_an_incomplete_batch_has_the_reason_of_the_provider(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    ended = replace(store.result(lease), status="incomplete", incomplete_reason="max_output_tokens")
    store.finish(lease, result=ended)
    (found,) = store.journal()
    assert (found.outcome, found.reason) == ("incomplete", "max_output_tokens")


def test_an_entry_is_bounded_however_large_its_batch_is(store: Rig) -> None:
    for number in range(300):
        store.add(delay_s=0, message_id=f"{number:0512}")
    lease = store.claim()
    row = AttemptInfo(number=1, started_at=moment(store.clock.ms), worker="w" * 900)
    result = replace(
        store.result(lease),
        run_id="r" * 9000,
        model="m" * 9000,
        timeline=Timeline(attempts=(replace(row, run_id="r" * 9000),) * 20),
    )
    tools = [ToolRow(name="n" * 900, call_id="c" * 900, started_ms=1, ms=1, error="E" * 900)] * 20
    store.finish(lease, result=result, tools=tools)
    (found,) = store.journal()
    assert (found.message_count, len(found.message_ids)) == (300, journal_entries.MOST_IDS)
    assert (found.message_ids[0][-3:], found.message_ids[-1][-3:]) == ("000", "299")
    assert len(raw(store)[0]) < 80_000


@pytest.mark.parametrize(
    "name",
    [
        "",
        "m1",
        "0123456789abcdef",
        "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b",
        "0123456789abcde",
        "a~b",
        "~",
        "~~",
        "~0123456789abcdef",
        "telegram:12:7",
        "é" * 20,
        "0123456789ABCDEF0123",
        "ff0123456789abcdef0",
    ],
)
def test_an_id_is_the_same_after_it_was_packed(name: str) -> None:
    assert unpack_id(pack_id(name)) == name
    assert len(pack_id(name)) <= len(name) + 2


def test_what_a_newer_version_adds_is_ignored(store: Rig) -> None:
    batch = answered(store)
    (entry,) = raw(store)
    row = json.loads(entry)
    newer = json.dumps([*row[:8], {"zz": 1}, [0, "d", "c", 1, [], "", "new"], "new"])
    (found,) = load_records("thread", [newer, "no JSON", "{}", "[]", '[1,"b",5]', '"x"'])
    assert (found.batch_id, found.delivery.state, found.delivery.channel) == (
        batch,
        "delivered",
        "c",
    )


# --- deliveries -----------------------------------------------------------------------------------


def test_a_delivery_joins_the_entry_of_its_batch(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.reply(store.claim())
    assert lease is not None
    assert store.journal()[0].delivery.state == "pending"
    store.clock.advance(1.5)
    parts = DeliveryState(tries=1, part_ids=("101", None, "103"))
    store.delivered(lease, state=parts)
    (found,) = store.journal()
    delivery = found.delivery
    assert (delivery.state, delivery.channel, delivery.tries) == ("delivered", "telegram", 2)
    assert (delivery.part_ids, delivery.error_code) == (("101", None, "103"), None)
    assert found.timeline.delivered_at == moment(store.clock.ms)
    assert len(raw(store)) == 1


def test_a_delivery_that_is_given_up_and_made_by_hand_leaves_both(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.reply(store.claim())
    assert lease is not None
    store.park_delivery(lease, reason="delivery_unknown", state=DeliveryState(tries=3))
    (found,) = store.journal()
    assert (found.delivery.state, found.delivery.tries) == ("unknown", 3)
    assert (found.delivery.error_code, found.timeline.delivered_at) == ("request_refused", None)
    store.retry_failed(lease.batch_id)
    again = store.claim_delivery()
    assert again is not None
    store.delivered(again)
    (found,) = store.journal()
    assert (found.delivery.state, found.delivery.tries) == ("delivered", 4)
    assert found.delivery.error_code is None


def test_a_delivery_after_many_other_batches_is_an_entry_by_itself(store: Rig) -> None:
    for _ in range(20):
        store.add(delay_s=0)
        store.reply(store.claim(), at_once=False)
    lease = store.claim_delivery()
    assert lease is not None
    store.delivered(lease, takes_next=False)
    assert len(raw(store)) == 21
    found = store.journal()
    assert len(found) == 20
    assert [one.delivery.state for one in found] == ["pending"] * 19 + ["delivered"]
    assert found[-1].batch_id == lease.batch_id


def test_the_delivery_of_a_batch_that_left_no_entry_leaves_none(store: Rig) -> None:
    keep(store, 0)
    store.add(delay_s=0)
    lease = store.reply(store.claim())
    keep(store, 10)
    assert lease is not None
    store.delivered(lease)
    assert raw(store) == []


def test_the_delivery_of_a_fallback_joins_its_failed_batch(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.run(
        outcomes.bury(
            store.namespace,
            lease,
            lease.guard_id,
            reason="attempts",
            error=ErrorInfo(code="run_failed", message=SECRET),
            progress=Progress(attempts=3),
            message_ids=[one.id for one in lease.claimed.batch.messages],
            open_calls=(),
            pause=False,
            ended_ms=store.clock.ms,
            fallback="sorry",
            result=store.result(lease, "sorry"),
            delivery=outcomes.DeliveryWish(token="", lease_s=30),
        )
    )
    assert store.journal()[0].delivery.state == "pending"
    delivery = store.claim_delivery()
    assert delivery is not None
    store.delivered(delivery)
    (found,) = store.journal()
    assert (found.outcome, found.delivery.state) == ("failed", "delivered")


def test_what_is_said_has_an_entry_with_its_delivery(store: Rig) -> None:
    store.say(batch_id="note", message_id="said", words=SECRET)
    lease = store.claim_delivery()
    assert lease is not None
    store.delivered(lease)
    (found,) = store.journal()
    assert (found.batch_id, found.message_ids, found.outcome) == ("note", ("said",), "said")
    assert (found.attempts, found.run_ids, found.usage) == (0, (), None)
    assert found.ended_at == found.timeline.queued_at == moment(store.clock.ms)
    assert found.delivery.state == "delivered"
    assert SECRET not in "".join(raw(store))


# --- bounds ---------------------------------------------------------------------------------------


def test_the_latest_entries_are_kept(store: Rig) -> None:
    keep(store, 3)
    made = [answered(store) for _ in range(5)]
    assert ids(store) == made[:1:-1]
    assert store.client.llen(store.keys.journal("thread")) == 3


def test_entries_that_are_too_old_go_with_the_next_batch(store: Rig) -> None:
    keep(store, 100, ttl_s=DAY_S)
    for _ in range(8):
        answered(store)
    store.clock.advance(DAY_S + 1)
    kept = [answered(store)]
    assert len(raw(store)) == 4  # a few with each batch
    kept.append(answered(store))
    assert ids(store) == kept[::-1]
    assert 0 < store.client.pttl(store.keys.journal("thread")) <= DAY_S * 1000


def test_an_idle_thread_keeps_its_journal(store: Rig) -> None:
    batch = answered(store)
    assert store.thread_hash() == {}
    assert ids(store) == [batch]
    assert store.client.pttl(store.keys.journal("thread")) > 0


def test_without_a_journal_nothing_is_written(store: Rig) -> None:
    keep(store, 0)
    store.add(delay_s=0)
    lease = store.reply(store.claim())
    assert lease is not None
    store.delivered(lease)
    store.say()
    store.add(delay_s=0)
    store.bury(store.claim())
    assert not store.client.exists(store.keys.journal("thread"))


def test_a_direct_call_leaves_nothing(store: Rig) -> None:
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=30))
    store.run(control.unlock(store.namespace, "thread", token="call"))
    assert store.journal() == []


def test_a_forgotten_thread_has_no_journal(store: Rig) -> None:
    answered(store)
    other = answered(store, "other")
    store.run(control.forget(store.namespace, "thread"))
    assert not store.client.exists(store.keys.journal("thread"))
    assert [one.batch_id for one in store.journal("other")] == [other]


# --- pages ----------------------------------------------------------------------------------------


def test_pages_begin_with_the_newest(store: Rig) -> None:
    made = [answered(store) for _ in range(5)][::-1]
    assert ids(store, limit=2) == made[:2]
    assert ids(store, limit=2, before=made[1]) == made[2:4]
    assert ids(store, limit=2, before=made[3]) == made[4:]
    assert ids(store, before=made[4]) == []
    with pytest.raises(BatchNotFound):
        ids(store, before="unknown")
    assert store.journal("unknown") == []


# --- once -----------------------------------------------------------------------------------------


def finish(store: Rig, lease: Lease) -> None:
    store.finish(lease)


def bury(store: Rig, lease: Lease) -> None:
    store.bury(lease)


ENDS = pytest.mark.parametrize("end", [finish, bury])


@ENDS
def test_a_late_copy_writes_no_second_entry(store: Rig, end: Callable[[Rig, Lease], None]) -> None:
    store.add(delay_s=0)
    end(store, store.claim())
    call = store.sent[-1]
    before = raw(store)
    store.again(call)
    assert raw(store) == before
    answered(store)
    before = raw(store)
    store.again(call)
    assert raw(store) == before
    assert len(before) == 2


@ENDS
def test_a_worker_that_lost_the_lease_writes_no_entry(
    store: Rig, end: Callable[[Rig, Lease], None]
) -> None:
    store.add(delay_s=0)
    late = store.claim()
    store.clock.advance(31)
    holder = store.claim()
    with pytest.raises(LeaseLost):
        end(store, late)
    assert raw(store) == []
    end(store, holder)
    assert ids(store) == [holder.claimed.batch.id]


@pytest.mark.parametrize("settle", [Rig.delivered, Rig.park_delivery])
def test_a_late_copy_of_a_settled_delivery_writes_nothing(
    store: Rig, settle: Callable[[Rig, Any], None]
) -> None:
    store.add(delay_s=0)
    lease = store.reply(store.claim())
    assert lease is not None
    settle(store, lease)
    call = store.sent[-1]
    before = raw(store)
    store.again(call)
    assert raw(store) == before
    assert len([one for one in json.loads(before[0])[8:] if isinstance(one, list)]) == 1


def test_a_late_copy_of_what_was_said_writes_nothing(store: Rig) -> None:
    store.say()
    before = raw(store)
    store.again(store.sent[-1])
    assert raw(store) == before


def test_a_batch_that_version_0_1_answered_leaves_an_entry_when_it_ends(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.complete(lease)
    assert raw(store) == []
    store.finish(lease)
    assert ids(store) == [lease.claimed.batch.id]


# --- what another program left in its place -------------------------------------------------------


@pytest.mark.parametrize("end", ["finish", "bury", "delivered", "park_delivery", "say", "forget"])
def test_a_journal_of_another_type_is_moved_aside(store: Rig, end: str) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    reply = None
    if end in {"delivered", "park_delivery"}:
        reply = store.reply(lease)
        store.client.delete(store.keys.journal("thread"))
    store.client.set(store.keys.journal("thread"), "someone's")
    assert store.journal() == []
    acts: dict[str, Callable[[], Any]] = {
        "finish": lambda: store.finish(lease),
        "bury": lambda: store.bury(lease),
        "delivered": lambda: store.delivered(reply),
        "park_delivery": lambda: store.park_delivery(reply),
        "say": store.say,
    }
    if end == "forget":
        store.finish(lease)
        store.client.set(store.keys.journal("thread"), "someone's")
        store.run(control.forget(store.namespace, "thread"))
    else:
        acts[end]()
    (shelved,) = [
        key
        for key in store.all_keys()
        if key.startswith(store.keys.shelf) and key.endswith(":journal:thread")
    ][-1:]
    assert store.client.get(shelved) == b"someone's"
    if end in {"finish", "bury", "say"}:
        assert len(store.journal()) == 1


def test_entries_of_another_program_neither_stop_the_journal_nor_stay(store: Rig) -> None:
    store.client.rpush(store.keys.journal("thread"), "foreign", '["x"]', "{}")
    batch = answered(store)
    assert ids(store) == [batch]
    assert len(raw(store)) == 1


def test_times_before_the_clock_was_set_back_are_read(store: Rig) -> None:
    store.add(delay_s=0)
    lease = store.claim()
    store.clock.ms -= 3_600_000
    store.finish(lease)
    (found,) = store.journal()
    assert found.timeline.claimed_at == moment(lease.claimed.claimed_ms)
    assert found.ended_at == datetime.fromtimestamp(store.clock.ms / 1000, tz=UTC)
