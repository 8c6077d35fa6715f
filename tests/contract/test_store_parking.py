"""Parked batches in the store: what they wait for, what wakes them, and what is left of it."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import redis

from assistant_queue.core.progress import Progress
from assistant_queue.core.settlements import Settlement, SettlementKind, public_id
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import ApprovalNotFound, InvalidArgument, LeaseLost
from assistant_queue.events import BatchClaimed, RunStarted
from assistant_queue.models import ExplanationVerdict
from assistant_queue.store.ops import (
    control,
    event_log,
    explaining,
    parking,
    settling,
    steering,
    thread_lists,
)
from assistant_queue.store.ops.leases import Lease
from tests.contract.store_rig import Rig, waiting_for
from tests.contract.test_store_steering import assert_a_copy_changes_nothing, claimed, events

PARKED = ThreadState.PARKED
SECRET = "words of a customer"
COMPACT = 64
"""Bytes of a value. Source: Redis' `hash-max-listpack-value`."""


def parked(store: Rig, *ids: str, wait_s: float = 600.0, **fields: Any) -> Lease:
    lease = claimed(store)
    assert store.park(lease, *map(store.open_call, ids), wait_s=wait_s, new=len(ids), **fields)
    return lease


def settlements(store: Rig, *ids: str) -> dict[str, Settlement]:
    return store.run(settling.read_settlements(store.namespace, ids))


def test_a_parked_batch_holds_nothing_and_is_due_at_its_deadline(store: Rig) -> None:
    parked(store, "c1")
    fields = store.thread_hash()
    assert store.state() is PARKED
    assert not {"token", "until"} & fields.keys()
    assert store.counters()["parked"] == 1
    assert (store.status().parked_count, store.status().active_count) == (1, 0)
    assert store.refused() == "early"
    assert store.thread().state == "parked"
    message = store.message("m1")
    assert message is not None
    assert (message.status, message.approval) == ("processing", "c1")
    store.clock.advance(599)
    store.sweep()
    assert store.pop() is None
    store.clock.advance(2)
    store.sweep()
    store.scheduler()
    assert store.pop() == "thread"
    lease = store.claim()
    assert lease.claimed.phase is Phase.RUNNING
    assert store.counters()["active"] == 1
    store.check()


def test_the_record_of_a_call_outlives_the_call_however_soon_the_batch_is_due(store: Rig) -> None:
    """A batch is due at the first deadline, and before its run expires at the provider."""
    lives_s = {"c1": 600, "c2": 7 * 86_400}
    now_ms = store.clock.ms
    calls = [store.open_call(name, until_ms=now_ms + s * 1000) for name, s in lives_s.items()]
    assert store.park(claimed(store), *calls, wait_s=540)
    for name, life_s in lives_s.items():
        left_s = store.client.pttl(store.keys.call(name)) / 1000
        assert -60 < left_s - life_s - parking.KEPT_S <= 0, name


def test_a_parked_batch_is_small_and_is_resumed_as_it_was(store: Rig) -> None:
    """No value of its hashes is longer than what Redis keeps compactly, whatever it held before."""
    store.add(message_id="m1", delay_s=0)
    lease = store.claim()
    progress = replace(
        waiting_for(store.open_call("call_" + 32 * "a"), store.open_call("call_" + 32 * "b")),
        run_id="resp_1a0a4d3719203b4e2280093e0dd77fe6",
        sent_ms=1796096532332,
        carried="Grüße an die Köchin. " * 8,
    )
    store.save(lease, Phase.RUNNING, progress, ["m1"])
    calls = [store.open_call(row.id, question="Jörg zahlt? " * 8) for row in progress.waits]
    assert store.park(lease, *calls, progress=progress, new=2)
    assert_a_copy_changes_nothing(store, "park")
    assert not {"n", "pk", "own_due", "deaths"} & store.thread_hash().keys()
    for key in (store.keys.thread("thread"), *(store.keys.call(one.id) for one in calls)):
        fields = store.client.hgetall(key)
        assert max(len(value) for value in fields.values()) <= COMPACT, key
        with suppress(redis.ResponseError):  # fakeredis has no encodings
            assert store.client.object("encoding", key) in {b"listpack", b"ziplist"}
    rows = store.run(settling.list_open(store.namespace, 9, None, None))
    assert [row.question for row in rows] == [calls[0].question] * 2
    store.settle(calls[0].id)
    assert (store.asked(), store.open_calls()) == ([calls[1].id], [calls[1].id])
    resumed = store.claim()
    assert resumed.claimed.progress == progress
    assert_a_copy_changes_nothing(store, "claim")
    # A text of many kilobytes is stored as it is.
    long = replace(progress, carried=secrets.token_urlsafe(20_000))
    assert store.park(resumed, *calls, progress=long)
    assert store.claim().claimed.progress == long
    store.check()


def test_subscribers_hear_once_of_a_run_that_was_parked(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    progress = waiting_for(store.open_call("c1"))
    store.save(lease, Phase.RUNNING, progress, ["m1"])
    assert store.park(lease, store.open_call("c1"))
    store.settle("c1")
    lease = store.claim()
    store.save(lease, Phase.RUNNING, replace(progress, rounds=1), ["m1"])
    assert store.park(lease, progress=replace(progress, attempts=7), wait_s=0)
    lease = store.claim()
    store.save(lease, Phase.RUNNING, replace(progress, run_id="run_2"), ["m1"])
    found = events(store)
    started = [event.run_id for event in found if isinstance(event, RunStarted)]
    assert started == ["run_1", "run_2"]
    assert [event.attempt for event in found if isinstance(event, BatchClaimed)][-1] == 7


def test_0_1_sees_a_held_batch(store: Rig) -> None:
    """Its scripts take any other word for a corrupt thread."""
    parked(store, "c1")
    assert store.thread_hash()["state"] == "held"


def test_the_first_settlement_counts_and_wakes_the_thread_at_once(store: Rig) -> None:
    parked(store, "c1", "c2")
    assert store.open_calls() == store.open_calls(thread_id="thread") == ["c1", "c2"]
    assert store.settle("c2", by="eve", arguments='{"amount":1}')
    assert_a_copy_changes_nothing(store, "settle")
    assert store.pop() == "thread"
    assert not store.settle("c2", SettlementKind.DENIED, by="mallory")
    assert store.open_calls() == ["c1"]
    lease = store.claim()
    found = settlements(store, "c1", "c2")
    assert found.keys() == {"c2"}
    assert (found["c2"].by, found["c2"].arguments) == ("eve", '{"amount":1}')
    assert found["c2"].at_ms == store.clock.ms
    # While a worker has the batch, a verdict is only noted; parking it again makes it due.
    assert store.settle("c1", SettlementKind.DENIED, reason="no")
    assert store.state() is ThreadState.ACTIVE
    assert store.park(lease, store.open_call("c1"))
    assert store.thread_hash()["due"] == str(store.clock.ms)
    assert store.pop() == "thread"
    with pytest.raises(ApprovalNotFound, match="no open tool call 'c3'"):
        store.settle("c3")
    store.check()


def test_a_wish_that_the_holder_does_not_know_makes_the_batch_due(store: Rig) -> None:
    lease = claimed(store)
    store.add(message_id="m2", mid_run="interrupt", delay_s=0)
    assert store.park(lease, store.open_call("c1"))
    lease = store.claim()
    assert lease.claimed.wish is Wish.INTERRUPT
    assert store.park(lease, store.open_call("c1"), seen=Wish.INTERRUPT)
    assert store.refused() == "early"
    store.stop()
    assert store.claim().claimed.wish is Wish.STOP
    store.check()


@pytest.mark.parametrize("how", ["interrupt", "promoted", "revised"])
def test_an_interruption_wakes_a_parked_batch_and_a_message_that_steers_does_not(
    store: Rig, how: str
) -> None:
    parked(store, "c1")
    store.add(message_id="m2", mid_run="steer", delay_s=0)
    assert store.refused() == "early"
    if how == "interrupt":
        store.add(message_id="m3", mid_run="interrupt", delay_s=0)
    elif how == "promoted":
        store.run(steering.promote(store.namespace, "m2", Wish.INTERRUPT))
    else:
        store.add(message_id="m1b", delay_s=0)
        assert store.run(steering.revise(store.namespace, "m1", None))
    assert store.pop() == "thread"
    assert store.claim().claimed.wish in {Wish.INTERRUPT, Wish.STOP}
    store.check()


def test_a_paused_thread_keeps_its_verdict_until_it_is_resumed(store: Rig) -> None:
    parked(store, "c1")
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.settle("c1")
    assert store.pop() is None
    assert store.refused() == "paused"
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.pop() == "thread"
    assert store.claim()
    store.check()


def test_what_is_closed_keeps_no_texts_and_goes(store: Rig) -> None:
    lease = claimed(store)
    question = SECRET + secrets.token_urlsafe(150)  # is stored packed, in several pieces
    calls = [store.open_call(one, question=question) for one in ("c1", "c2")]
    assert store.park(lease, *calls)
    assert "a2" in store.hash(store.keys.call("c2"))
    store.settle("c1", SettlementKind.ANSWERED, output=SECRET)
    lease = store.claim()
    store.close_calls(lease, "c1", "c2")
    assert_a_copy_changes_nothing(store, "close")
    assert store.open_calls() == []
    assert SECRET not in str(store.snapshot())
    for one in ("c1", "c2"):
        left = store.hash(store.keys.call(one)).keys()
        assert left <= {"thread", "batch", "at", "until", "nonce", "settled"}
    assert not store.settle("c1")
    assert not store.settle("c2")
    message = store.message("m1")
    assert message is not None
    assert message.approval is None
    with pytest.raises(LeaseLost):
        store.close_calls(Lease(**{**_fields(lease), "token": "another"}), "c1")
    store.finish(lease)
    store.check()
    assert store.threads() == []
    assert all(store.client.pttl(store.keys.call(one)) > 0 for one in ("c1", "c2"))


def _fields(lease: Lease) -> dict[str, Any]:
    return {name: getattr(lease, name) for name in lease.__slots__}


def test_a_call_of_a_batch_that_is_over_is_unknown_and_not_listed(store: Rig) -> None:
    parked(store, "c1")
    store.clock.advance(601)
    store.finish(store.claim())  # as version 0.1 ends it
    assert store.open_calls() == []
    with pytest.raises(ApprovalNotFound):
        store.settle("c1")
    store.check()
    store.check_idle()


def test_two_batches_never_share_a_call(store: Rig) -> None:
    parked(store, "c1")
    store.add("other", message_id="o1", delay_s=0)
    lease = store.claim("other")
    before = store.snapshot()
    assert not store.park(lease, store.open_call("c1"))
    assert store.snapshot() == before
    assert public_id("call_0", "batch-7") == "call_0-batch-7"
    assert public_id("call_0123456789abcdefghij", "b") == "call_0123456789abcdefghij"
    assert public_id("a b/c", "b") == "abc-b"


def test_calls_are_listed_in_pages_oldest_first(store: Rig) -> None:
    for number in range(5):
        thread = f"t{number % 2}" if number < 2 else f"t{number}"
        store.add(thread, message_id=f"m{number}", delay_s=0, author="ann", tenant="acme")
        assert store.park(store.claim(thread), store.open_call(f"c{number}"))
        store.clock.advance(number % 2)
    everything = store.open_calls()
    assert everything == ["c0", "c1", "c2", "c3", "c4"]
    paged: list[str] = []
    while page := store.open_calls(limit=2, after=paged[-1] if paged else None):
        paged += page
        if paged[-1] == "c1":
            store.settle("c1")  # a page continues after a call that was settled meanwhile
    assert paged == everything
    (first,) = store.run(settling.list_open(store.namespace, 1, None, None))
    assert (first.tool, first.arguments) == ("refund", {"amount": 3})
    assert (first.authors, first.tenant, first.question) == (("ann",), "acme", "Refund 3?")
    assert (first.thread_id, first.kind) == ("t0", "approval")
    with pytest.raises(InvalidArgument, match="no record of the tool call 'nothing'"):
        store.open_calls(after="nothing")


def test_an_expired_call_is_settled_once_and_a_lost_record_has_expired(store: Rig) -> None:
    parked(store, "c1", "c2")
    store.settle("c2")
    found = store.run(
        settling.read_settlements(store.namespace, ["c1", "c2", "c3"], ["c1", "c2", "c3"])
    )
    assert [found[one].kind.value for one in ("c1", "c2", "c3")] == [
        "expired",
        "approved",
        "expired",
    ]
    counts = store.metrics().approvals
    assert counts == {"requested": 2, "approved": 1, "denied": 0, "answered": 0, "expired": 1}


def test_events_say_what_is_asked_and_what_came_of_it_without_contents(store: Rig) -> None:
    store.run(event_log.listen(store.namespace, "thread"))
    lease = claimed(store)
    assert store.park(lease, store.open_call("c1"))
    store.settle("c1", SettlementKind.ANSWERED, by="eve", output=SECRET)
    stream = store.client.xrange(store.keys.events("thread"))
    rows = [(row[b"type"].decode(), row[b"data"].decode()) for _, row in stream]
    asked = [data for kind, data in rows if kind == "approval_requested"]
    told = [data for kind, data in rows if kind == "approval_settled"]
    assert len(asked) == len(told) == 1
    assert '"question":"Refund 3?"' in asked[0]
    assert '"verdict":"answered","by":"eve"' in told[0]
    assert SECRET not in told[0]
    assert events(store)


def test_forgetting_a_thread_takes_its_calls(store: Rig) -> None:
    parked(store, "c1")
    store.run(control.forget(store.namespace, "thread"))
    assert not store.client.exists(store.keys.approvals, store.keys.call("c1"))
    with pytest.raises(ApprovalNotFound):
        store.settle("c1")
    store.check()


def test_parked_threads_are_listed_and_explained(store: Rig) -> None:
    parked(store, "c1")
    rows = store.run(thread_lists.list_threads(store.namespace, "parked", 10, None, "oldest_due"))
    assert [(row.thread_id, row.state) for row in rows] == [("thread", "parked")]
    found = store.run(explaining.explain(store.namespace, "m1"))
    assert found.verdict is ExplanationVerdict.WAITS_FOR_ANSWER
    assert found.evidence["call_id"] == "c1"
    store.settle("c1")
    lease = store.claim()
    assert store.park(lease, wait_s=5)
    found = store.run(explaining.explain(store.namespace, "thread"))
    assert found.verdict is ExplanationVerdict.IN_BACKGROUND


def test_a_foreign_key_in_place_of_a_call_is_moved_aside(store: Rig) -> None:
    parked(store, "c1")
    store.client.delete(store.keys.call("c1"), store.keys.approvals)
    store.client.set(store.keys.call("c1"), "mine")
    store.client.set(store.keys.approvals, "mine")
    store.clock.advance(601)
    lease = store.claim()
    assert settlements(store, "c1")["c1"].kind is SettlementKind.EXPIRED
    assert store.park(lease, store.open_call("c2"), progress=Progress(attempts=1))
    assert store.open_calls() == ["c2"]
    store.close_calls(store.claim() if store.settle("c2") else lease, "c1", "c2")
