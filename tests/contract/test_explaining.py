"""`explain`: each reason why a message has no answer is made, and found with its evidence."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue, Explanation, ExplanationVerdict
from assistant_queue.cli import main
from assistant_queue.cli.shared_options import Where
from assistant_queue.client.queue_core import QueueCore
from assistant_queue.config import configure
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.explaining.explanation import MEANINGS
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import AttemptRow
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window
from assistant_queue.core.wishes import Wish
from assistant_queue.models import ErrorInfo
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Call, Operation
from assistant_queue.store.ops import control, delivery_marks, explaining, job_messages, sweeping
from assistant_queue.store.rq_jobs import JobRun, write_books
from tests.contract.store_rig import ERROR, Rig

READS = frozenset(
    {
        "TIME", "GET", "EXISTS", "HMGET", "LLEN", "LPOS", "SCARD", "SMEMBERS", "ZCARD", "ZRANGE", "ZSCORE",
    }
)  # fmt: skip
MOST_TRIPS = 12


def explained(store: Rig, name: str, **kwargs: Any) -> Explanation:
    """Explain; assert that nothing was written or scanned, in few round trips."""
    before = store.snapshot()
    trips = 0

    def noted() -> Operation[Explanation]:
        nonlocal trips
        operation = explaining.explain(store.namespace, name, **kwargs)
        step: Any = next(operation)
        while True:
            trips += 1
            for call in [step] if isinstance(step, Call) else step:
                assert call.script is None
                assert call.words[0] in READS
            try:
                step = operation.send((yield step))
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]

    found = store.run(noted())
    assert trips <= MOST_TRIPS
    assert store.snapshot() == before
    return found


# --- the situations -------------------------------------------------------------------------------

WORKER = "host:17"
TRIES = (AttemptRow(number=1, started_ms=1_700_000_000_000, ended_ms=0, worker=WORKER),)


def leading(store: Rig) -> None:
    """A scheduler leads: some worker process of this package is alive."""
    store.run(sweeping.watch(store.namespace, "scheduler-1"))


def registered(store: Rig, *, silent_s: float = 1.0, is_stock: bool = False) -> None:
    """RQ lists a worker that beat so many seconds ago."""
    key = wakeups.worker_key(f"w-{store.prefix}")
    beat = moment(store.clock.ms - round(silent_s * 1000)).isoformat()[:-6] + "Z"
    store.client.sadd(wakeups.workers_key(store.prefix), key)
    store.client.hset(key, mapping={"last_heartbeat": beat, "state": "idle"})
    if not is_stock:
        store.client.hset(key, wakeups.ABANDONED_FIELD, 0)


def sent(store: Rig, *, thread: str = "thread", **progress: Any) -> Any:
    """A batch whose request left three seconds ago."""
    lease = store.claim(thread)
    fields = {"attempts": 1, "run_sent_ms": store.clock.ms, "tries": TRIES, **progress}
    phase = fields.pop("phase", Phase.RUNNING)
    ids = [message.id for message in lease.claimed.batch.messages]
    store.save(lease, phase, Progress(**fields), ids)
    store.clock.advance(3)
    return lease


def window_open(store: Rig) -> str:
    store.add(delay_s=10)
    store.clock.advance(4)
    return store.add(delay_s=10).message_id


def window_open_for_no_worker(store: Rig) -> str:
    return store.add(delay_s=10).message_id


def no_reply_wanted(store: Rig) -> str:
    return store.add(wants_reply=False).message_id


def queue_paused(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.run(control.pause_queue(store.namespace))
    store.client.set(store.keys.paused, store.clock.ms)
    store.clock.advance(120)
    return name


def thread_paused(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.run(control.pause_thread(store.namespace, "thread"))
    return name


def taken_over(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.take_over("Jo")
    store.clock.advance(60)
    return name


def paused_in_a_back_off(store: Rig) -> str:
    name = backing_off(store)
    store.run(control.pause_thread(store.namespace, "thread"))
    return name


def backing_off(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.postpone(store.claim(), wait_s=40)
    return name


def behind_a_back_off(store: Rig) -> str:
    backing_off(store)
    return store.add(delay_s=0).message_id


def waits_for_answer(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.park(sent(store), store.open_call("c1"), wait_s=600)
    store.clock.advance(3)
    return name


def in_background(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.park(sent(store), wait_s=60)
    store.clock.advance(3)
    return name


def held(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    lease = sent(store, phase=Phase.SENDING, sent_ms=store.clock.ms)
    unknown = ErrorInfo(code="outcome_unknown", message="the answer was lost")
    progress = Progress(attempts=1, sent_ms=store.clock.ms, error=unknown)
    store.postpone(lease, ThreadState.HELD, 35, Phase.SENDING, progress)
    return name


def direct_call(store: Rig) -> str:
    store.run(control.lock(store.namespace, "thread", token="direct", lease_s=60))
    return store.add(delay_s=0).message_id


def due(store: Rig) -> str:
    registered(store)
    leading(store)
    return store.add(delay_s=0).message_id


def no_worker_alive(store: Rig) -> str:
    return store.add(delay_s=0).message_id


def a_sweeper_alone(store: Rig) -> str:
    leading(store)
    return store.add(delay_s=0).message_id


def killed_workers(store: Rig) -> str:
    registered(store)
    name = store.add(delay_s=0).message_id
    store.clock.advance(4)
    return name


def records_of_dead_workers(store: Rig) -> str:
    store.client.sadd(wakeups.workers_key(store.prefix), wakeups.worker_key("gone"))
    leading(store)
    return store.add(delay_s=0).message_id


def silent_stock_worker(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.clock.advance(70)
    registered(store, silent_s=65, is_stock=True)
    return name


def idle_stock_worker(store: Rig) -> str:
    """It beats once in seven minutes while it has nothing to do."""
    name = store.add(delay_s=0).message_id
    store.clock.advance(5)
    registered(store, silent_s=65, is_stock=True)
    return name


def busy_stock_worker(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.clock.advance(70)
    registered(store, silent_s=20, is_stock=True)
    return name


def suspended(store: Rig) -> str:
    due(store)
    store.client.set(wakeups.suspended_key(), 1)
    return "message-1"


def workers_full(store: Rig) -> str:
    registered(store)
    for number in range(3):
        store.add(f"t{number}", delay_s=0)
    name = store.add(delay_s=0).message_id
    store.clock.advance(5)
    store.client.hset(store.keys.counters, "pace", 250_000)
    leading(store)
    return name


def wake_up_lost(store: Rig) -> str:
    registered(store)
    name = store.add(delay_s=0).message_id
    store.lose_wakeups()
    store.clock.advance(5)
    store.client.set(store.keys.leader, "scheduler-1")
    return name


def wake_up_not_handed_over(store: Rig) -> str:
    registered(store, is_stock=True)
    name = store.add(delay_s=1).message_id
    store.clock.advance(9)
    return name


def claimed(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.claim()
    return name


def behind_a_run(store: Rig) -> str:
    store.add(delay_s=0)
    sent(store, run_id="run_1", deadline_ms=store.clock.ms + 600_000)
    return store.add(delay_s=0).message_id


def unnamed_run(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(store, phase=Phase.SENDING)
    return name


def writing(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(store, run_id="run_1", first_text_ms=store.clock.ms + 1000)
    return name


def user_code(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(store, run_id="run_1", in_user_code=True, called="refund", called_ms=store.clock.ms)
    return name


def exclusive_user_code(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(
        store,
        in_user_code=True,
        called="refund",
        called_ms=store.clock.ms,
        waits_for_exclusive=True,
    )
    return name


def worker_lost(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(store, run_id="run_1", in_user_code=True, called="refund", called_ms=store.clock.ms)
    store.clock.advance(29)
    registered(store)
    leading(store)
    return name


def taken_over_from_user_code(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(store, run_id="run_1", in_user_code=True, called="refund", called_ms=store.clock.ms)
    store.clock.advance(60)
    store.claim()
    return name


def failed(store: Rig, reason: str = "refused", **kwargs: Any) -> str:
    name = store.add(delay_s=0).message_id
    store.bury(store.claim(), reason=reason, **kwargs)
    return name


def parked(store: Rig) -> str:
    return failed(store, "parked")


def discarded(store: Rig) -> str:
    name = failed(store)
    store.discard_failed("batch-1")
    return name


def cancelled(store: Rig) -> str:
    name = store.add(delay_s=10).message_id
    store.run(control.cancel(store.namespace, name, 3600))
    return name


def answered(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.finish(store.claim())
    return name


def empty_reply(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    lease = store.claim()
    silent = {
        "reply": None,
        "replies": (),
        "status": "incomplete",
        "incomplete_reason": "max_tokens",
    }
    store.finish(lease, result=replace(store.result(lease), **silent))
    return name


def stopping(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    sent(store, run_id="run_1")
    assert store.stop()
    store.clock.advance(2)
    assert store.stop()
    return name


def behind_a_stop(store: Rig) -> str:
    stopping(store)
    return store.add(delay_s=0).message_id


def stopping_without_a_worker(store: Rig) -> str:
    """A pause does not keep a stop."""
    name = backing_off(store)
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.stop()
    return name


def stopping_after_a_grace(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    lease = sent(store, phase=Phase.SENDING, sent_ms=store.clock.ms)
    assert store.stop()
    progress = Progress(attempts=1, sent_ms=store.clock.ms, error=ERROR)
    store.postpone(lease, ThreadState.HELD, 35, Phase.SENDING, progress, seen=Wish.STOP)
    store.clock.advance(1)
    return name


def stopped(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    lease = store.claim()
    assert store.stop()
    store.stopped(lease)
    return name


def written(store: Rig) -> str:
    name = store.add(delay_s=0, wants_reply=False).message_id
    store.say(kind="reply")
    lease = store.claim()
    silent = {"reply": None, "replies": (), "run_id": ""}
    store.finish(lease, result=replace(store.result(lease), **silent))
    return name


def delivering(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    assert store.reply(store.claim(), at_once=False) is None
    assert store.claim_delivery() is not None
    store.clock.advance(7)
    return name


def delivery_retrying(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    lease = store.reply(store.claim())
    assert lease is not None
    store.postpone_delivery(lease, 25, DeliveryState(tries=2, error=ERROR))
    return name


def delivery_behind_another(store: Rig) -> str:
    delivery_retrying(store)
    name = store.add(delay_s=0).message_id
    store.reply(store.claim())
    return name


def delivery_due(store: Rig) -> str:
    registered(store)
    name = store.add(delay_s=0).message_id
    store.reply(store.claim(), at_once=False)
    store.clock.advance(6)
    leading(store)
    return name


def reply_without_worker(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    store.reply(store.claim(), at_once=False)
    return name


def abandoned_on_reply(store: Rig) -> str:
    name = delivery_retrying(store)
    store.run(delivery_marks.announce(store.namespace, "batch-1", 30))
    return name


def worker_lost_in_delivery(store: Rig) -> str:
    name = delivering(store)
    store.clock.advance(30)
    return name


def reply_of_a_paused_thread(store: Rig) -> str:
    name = delivery_retrying(store)
    store.run(control.pause_thread(store.namespace, "thread"))
    return name


def undelivered(store: Rig, reason: str = "undelivered") -> str:
    name = store.add(delay_s=0).message_id
    lease = store.reply(store.claim())
    assert lease is not None
    store.park_delivery(lease, reason=reason, state=DeliveryState(tries=4))
    return name


def delivery_unknown(store: Rig) -> str:
    return undelivered(store, "delivery_unknown")


def delivered(store: Rig) -> str:
    name = store.add(delay_s=0).message_id
    lease = store.reply(store.claim())
    assert lease is not None
    store.clock.advance(2)
    store.delivered(lease)
    return name


def said(store: Rig) -> str:
    return store.say().message_id


def said_and_delivered(store: Rig) -> str:
    name = store.say(kind="reply").message_id
    lease = store.claim_delivery()
    assert lease is not None
    store.delivered(lease)
    return name


def said_without_its_record(store: Rig) -> str:
    """It was delivered long ago, and still waits for the conversation."""
    store.run(control.pause_thread(store.namespace, "thread"))
    name = store.say(kind="reply", batch_id="note").message_id
    store.client.delete(store.keys.record("note"))
    return name


def forgotten(store: Rig) -> str:
    name = store.add(delay_s=10).message_id
    store.client.delete(store.keys.thread("thread"), store.keys.pending("thread"))
    return name


def expired_batch(store: Rig) -> str:
    name = answered(store)
    store.client.delete(store.keys.record("batch-1"))
    return name


@dataclass(frozen=True, kw_only=True)
class Case:
    """A situation, and what is to be found.

    Attributes:
        make: Makes it; returns the message's id.
        verdict: The verdict.
        says: Words of the evidence, which the command prints, too.
        since_s: Seconds before now; None for a time that is not known.
        until_s: Seconds after now; None likewise.
        evidence: Part of the evidence for programs.
    """

    make: Callable[[Rig], str]
    verdict: ExplanationVerdict
    says: tuple[str, ...] = ()
    since_s: float | None = None
    until_s: float | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)


V = ExplanationVerdict
CASES = [
    Case(make=window_open, verdict=V.WINDOW_OPEN, says=("2 message(s) wait for its end", "(in 6.0 s)", "no worker is alive either"), since_s=4, until_s=6, evidence={"waiting": 2, "is_behind": None}),
    Case(make=no_reply_wanted, verdict=V.NO_REPLY_WANTED, says=("none of which wants a reply",)),
    Case(make=queue_paused, verdict=V.QUEUE_PAUSED, says=("(2 min)",), since_s=120),
    Case(make=thread_paused, verdict=V.THREAD_PAUSED, says=("assistant-queue resume thread",)),
    Case(make=taken_over, verdict=V.TAKEN_OVER, says=("a person, Jo, answers this thread since", "assistant-queue hand-back thread"), since_s=60),
    Case(make=paused_in_a_back_off, verdict=V.THREAD_PAUSED, says=("its last attempt failed with request_refused: 400",)),
    Case(make=backing_off, verdict=V.BACKING_OFF, says=("after 1 attempt(s)", "request_refused: 400", "the next attempt is made at", "(in 40 s)"), until_s=40, evidence={"attempts": 1}),
    Case(make=behind_a_back_off, verdict=V.BACKING_OFF, says=("an earlier batch of its thread is before it", "request_refused: 400"), until_s=40, evidence={"is_behind": True}),
    Case(make=waits_for_answer, verdict=V.WAITS_FOR_ANSWER, says=("1 call(s) of tools wait, the first is c1; until", "(in 10 min)", "assistant-queue approvals"), since_s=3, until_s=597, evidence={"call_id": "c1"}),
    Case(make=in_background, verdict=V.IN_BACKGROUND, says=("run run_1 is at work", "(in 57 s)"), since_s=3, until_s=57),
    Case(make=held, verdict=V.HELD, says=("outcome_unknown: the answer was lost", "the provider is asked at", "(in 35 s)"), since_s=0, until_s=35),
    Case(make=direct_call, verdict=V.DIRECT_CALL, says=("its lease lasts until",), since_s=0, until_s=60),
    Case(make=due, verdict=V.DUE, says=("it is due since",), since_s=0, until_s=1),
    Case(make=no_worker_alive, verdict=V.NO_WORKER, says=("it is due since", "0 worker(s) are registered", "Start assistant-queue worker"), since_s=0, evidence={"workers": 0, "has_scheduler": False}),
    Case(make=a_sweeper_alone, verdict=V.NO_WORKER, says=("0 worker(s) are registered",), since_s=0),
    Case(make=killed_workers, verdict=V.NO_WORKER, says=("1 worker(s) are registered, the last sign of one is 5.0 s old, and no scheduler leads",), since_s=4, evidence={"workers": 1}),
    Case(make=records_of_dead_workers, verdict=V.NO_WORKER, says=("1 worker(s) are registered",), since_s=0),
    Case(make=silent_stock_worker, verdict=V.NO_WORKER, says=("the last sign of one is 65 s old",), since_s=70),
    Case(make=idle_stock_worker, verdict=V.WORKERS_FULL, says=("the last sign of one is 65 s old",), since_s=5),
    Case(make=busy_stock_worker, verdict=V.WORKERS_FULL, says=("0 of 1 due thread(s) stand before it",), since_s=70),
    Case(make=suspended, verdict=V.WORKERS_SUSPENDED, says=("rq resume",), since_s=0),
    Case(make=workers_full, verdict=V.WORKERS_FULL, says=("(5.0 s)", "3 of 4 due thread(s) stand before it", "in about 1.0 s", "0 run(s) are in progress"), since_s=5, until_s=1, evidence={"line": 4, "before": 3, "workers": 1, "wait_s": 1.0}),
    Case(make=wake_up_lost, verdict=V.WAKE_UP_LOST, says=("neither in the line nor with a worker",), since_s=5, evidence={"line": 0}),
    Case(make=wake_up_not_handed_over, verdict=V.WAKE_UP_LOST, says=("no scheduler hands it over", "sweep --once"), since_s=8),
    Case(make=claimed, verdict=V.RUNNING, says=("a worker has it", "nothing was sent yet"), since_s=0),
    Case(make=behind_a_run, verdict=V.RUNNING, says=("an earlier batch of its thread is before it", "worker host:17 has it", "run run_1 has no text yet, since", "(3.0 s)"), since_s=3, until_s=597, evidence={"run_id": "run_1", "worker": WORKER, "is_behind": True}),
    Case(make=unnamed_run, verdict=V.RUNNING, says=("the request left, and the provider has not named a run yet",), since_s=3),
    Case(make=writing, verdict=V.RUNNING, says=("run run_1 writes since", "(2.0 s)"), since_s=3),
    Case(make=user_code, verdict=V.USER_CODE, says=("worker host:17 has it", "refund is being called since", "(3.0 s)"), since_s=3, evidence={"function": "refund"}),
    Case(make=exclusive_user_code, verdict=V.USER_CODE, says=("refund waits until no other batch",), since_s=3),
    Case(make=worker_lost, verdict=V.WORKER_LOST, says=("the lease of its worker expired since", "its worker was host:17", "it was in refund"), since_s=2, until_s=1.1, evidence={"function": "refund"}),
    Case(make=taken_over_from_user_code, verdict=V.RUNNING, says=("1 worker(s) died over it in this phase",), since_s=63, evidence={"deaths": 1}),
    Case(make=failed, verdict=V.FAILED, says=("it failed at", "as refused", "the provider would refuse the batch again", "request_refused: 400", "assistant-queue failed retry batch-1"), since_s=0, evidence={"reason": "refused"}),
    Case(make=parked, verdict=V.PARKED, says=("as parked", "Read the conversation first"), since_s=0, evidence={"reason": "parked"}),
    Case(make=discarded, verdict=V.DISCARDED, says=("request_refused: 400",), since_s=0),
    Case(make=cancelled, verdict=V.CANCELLED, says=("it was added at", "it was withdrawn")),
    Case(make=answered, verdict=V.ANSWERED, says=("run run_1 ended at", "no on_reply and no channel"), since_s=0, evidence={"run_id": "run_1"}),
    Case(make=empty_reply, verdict=V.EMPTY_REPLY, says=("without a text", "incomplete (max_tokens)"), since_s=0),
    Case(make=stopping, verdict=V.STOPPING, says=("it is to be stopped since", "(2.0 s)", "worker host:17 has it"), since_s=2, evidence={"run_id": "run_1", "is_behind": None}),
    Case(make=behind_a_stop, verdict=V.STOPPING, says=("an earlier batch of its thread is before it", "Those that only wait are answered next"), since_s=2, evidence={"is_behind": True}),
    Case(make=stopping_without_a_worker, verdict=V.NO_WORKER, says=("it is to be stopped", "it is due since"), since_s=0),
    Case(make=stopping_after_a_grace, verdict=V.STOPPING, says=("it is to be stopped since", "the provider is asked at"), since_s=1, until_s=34),
    Case(make=stopped, verdict=V.STOPPED, says=("its batch was stopped at", "what was said so far is its reply"), since_s=0, evidence={"run_id": "run_1"}),
    Case(make=written, verdict=V.WRITTEN, says=("it was written there at", "wants no reply"), since_s=0),
    Case(make=delivering, verdict=V.DELIVERING, says=("a worker delivers since", "(7.0 s)"), since_s=7),
    Case(make=delivery_retrying, verdict=V.DELIVERY_RETRYING, says=("2 tries failed, the last with request_refused: 400", "the next try is at", "(in 25 s)"), since_s=0, until_s=25, evidence={"tries": 2}),
    Case(make=delivery_behind_another, verdict=V.DELIVERY_WAITS, says=("the reply of batch batch-1 is before it", "request_refused: 400"), since_s=0, until_s=25, evidence={"waiting": 2, "is_behind": True}),
    Case(make=delivery_due, verdict=V.DELIVERY_WAITS, says=("the delivery is due since", "(6.0 s)", "1 worker(s) are registered"), since_s=6),
    Case(make=reply_without_worker, verdict=V.NO_WORKER, says=("it was answered", "the delivery is due since"), since_s=0),
    Case(make=abandoned_on_reply, verdict=V.USER_CODE, says=("a call of on_reply exceeded callback_timeout and is still running",), evidence={"function": "on_reply"}),
    Case(make=worker_lost_in_delivery, verdict=V.WORKER_LOST, says=("the worker that delivered is lost since",), since_s=7),
    Case(make=reply_of_a_paused_thread, verdict=V.THREAD_PAUSED, says=("it was answered",)),
    Case(make=undelivered, verdict=V.UNDELIVERED, says=("it is in the failed list since", "request_refused: 400", "without asking the model"), since_s=0, evidence={"tries": 4, "reason": "undelivered"}),
    Case(make=delivery_unknown, verdict=V.DELIVERY_UNKNOWN, says=("Look at the platform first",), since_s=0),
    Case(make=delivered, verdict=V.DELIVERED, says=("run run_1 ended at", "the delivery was confirmed at"), since_s=0),
    Case(make=said, verdict=V.NO_WORKER, says=("it was said", "the delivery is due since"), since_s=0),
    Case(make=said_and_delivered, verdict=V.DELIVERED, says=("it was said at", "the delivery was confirmed at"), since_s=0),
    Case(make=said_without_its_record, verdict=V.THREAD_PAUSED),
    Case(make=forgotten, verdict=V.UNKNOWN, says=("its thread does not hold it any more",)),
    Case(make=expired_batch, verdict=V.UNKNOWN, says=("it was in batch batch-1, whose record is gone",)),
    Case(make=lambda _: "nothing", verdict=V.UNKNOWN, says=("neither a message, a thread nor", "result_ttl")),
]  # fmt: skip


def test_every_verdict_is_made_once_at_least() -> None:
    assert {case.verdict for case in CASES} == set(ExplanationVerdict) - {ExplanationVerdict.IDLE}
    assert set(MEANINGS) == set(ExplanationVerdict)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.make.__name__.strip("<>"))
def test_a_situation_is_found_with_its_evidence_and_said_by_the_command(
    store: Rig, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = case.make(store)
    found = explained(store, name)
    assert found.verdict is case.verdict, found
    for since_or_until, seconds, sign in (
        (found.since, case.since_s, -1),
        (found.until, case.until_s, 1),
    ):
        expected = None if seconds is None else store.clock.ms + sign * round(seconds * 1000)
        assert since_or_until == (None if expected is None else moment(expected)), found
    assert {key: found.evidence.get(key) for key in case.evidence} == case.evidence
    assert (found.title, found.advice) != ("", "")
    is_known = name != "nothing"
    assert (found.message_id, found.thread_id) == ((name, "thread") if is_known else (None, None))
    told, words = commanded(store, monkeypatch, name)
    assert told.exit_code == (1 if case.verdict is ExplanationVerdict.UNKNOWN else 0), told.output
    for said_here in case.says:
        assert said_here in words
    assert words.startswith(f"{case.verdict.value}: {found.title} {found.because} ")
    assert words.endswith(f"-> {found.advice}")
    assert str(found).lower().startswith(found.title.lower())


def commanded(store: Rig, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[Any, str]:
    """Run the command on the store; return its result, and its output with single spaces."""
    config = configure({"redis": store.client, "queue_prefix": store.prefix})
    core = QueueCore(config, store.namespace, store.store)
    monkeypatch.setattr(Where, "queue", lambda _: AssistantMessageQueue(core))
    told = CliRunner().invoke(main, ["explain", *words])
    return told, " ".join(told.output.split())


# --- threads --------------------------------------------------------------------------------------


def test_a_thread_is_explained_by_its_own_id(store: Rig) -> None:
    assert explained(store, "thread").verdict is ExplanationVerdict.UNKNOWN
    window_open(store)
    found = explained(store, "thread")
    assert (found.verdict, found.thread_id, found.message_id) == (V.WINDOW_OPEN, "thread", None)
    store.clock.advance(10)
    lease = store.claim()
    assert explained(store, "thread").verdict is ExplanationVerdict.RUNNING
    store.reply(lease, at_once=False)
    assert explained(store, "thread").verdict is ExplanationVerdict.NO_WORKER
    delivery = store.claim_delivery()
    assert delivery is not None
    store.delivered(delivery)
    assert explained(store, "thread").verdict is ExplanationVerdict.IDLE
    store.run(control.pause_thread(store.namespace, "thread"))
    assert "it is paused" in explained(store, "thread").because


def test_an_idle_thread_with_a_failed_batch_is_explained_by_that(store: Rig) -> None:
    failed(store)
    store.add("other", delay_s=0)
    store.bury(store.claim("other"), reason="parked")
    found = explained(store, "thread")
    assert (found.verdict, found.batch_id) == (ExplanationVerdict.FAILED, "batch-1")
    assert explained(store, "other").verdict is ExplanationVerdict.PARKED
    undelivered(store)
    assert explained(store, "thread").verdict is ExplanationVerdict.UNDELIVERED


def test_an_id_of_both_is_the_message_unless_the_thread_is_meant(store: Rig) -> None:
    store.add("b", message_id="a", delay_s=10)
    store.add("a", delay_s=0)
    assert explained(store, "a").thread_id == "b"
    found = explained(store, "a", is_thread=True)
    assert (found.thread_id, found.verdict, found.message_id) == (
        "a",
        ExplanationVerdict.NO_WORKER,
        None,
    )


def test_a_wake_up_is_explained_as_its_thread_while_it_waits_and_runs(store: Rig) -> None:
    job_id = store.add(delay_s=1).job_id
    assert job_id is not None
    found = explained(store, job_id)
    assert (found.verdict, found.thread_id, found.message_id) == (V.WINDOW_OPEN, "thread", None)
    assert found.evidence["job_id"] == job_id
    store.clock.advance(2)
    assert explained(store, job_id).verdict is V.NO_WORKER
    store.scheduler()
    taken = store.take()
    assert taken is not None
    _, job = taken
    lease = store.claim(job=job)
    assert explained(store, job_id).verdict is V.UNKNOWN, "it became the guard, under another id"
    run = JobRun(job=job, token=lease.token, thread_id="thread", began_ms=0, began="", began_s=0.0)
    store.run(write_books(store.namespace, [run], [], None, 30))
    assert explained(store, job_id).verdict is V.RUNNING
    store.finish(lease)
    assert explained(store, job_id).verdict is V.IDLE


def test_the_messages_of_a_wake_up_are_found_as_long_as_their_records_live(store: Rig) -> None:
    def ids(job_id: str | None) -> list[tuple[str, str]]:
        assert job_id is not None
        found = store.run(job_messages.messages_of_job(store.namespace, job_id))
        return [(one.message_id, one.status) for one in found]

    job_id = store.add(delay_s=1, message_id="z").job_id
    store.clock.advance(0.1)
    assert store.add(delay_s=1, message_id="a").job_id == job_id
    other = store.add("another", delay_s=1, message_id="other").job_id
    assert ids(job_id) == [("z", "queued"), ("a", "queued")], "one wake-up for a window"
    assert ids(other) == [("other", "queued")]
    store.clock.advance(2)
    store.scheduler()
    store.finish(store.claim())
    assert ids(job_id) == [("z", "completed"), ("a", "completed")]
    assert ids("0123456789abcdef") == []
    store.run(control.forget(store.namespace, "thread"))
    assert ids(job_id) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"origin": "another", "data": b"\x80\x04"},
        {"origin": None, "data": b"cos\nsystem\n(S'true'\ntR."},
        {"origin": None, "data": b""},
        {"origin": None},
    ],
)
def test_a_foreign_job_is_not_explained(store: Rig, fields: dict[str, Any]) -> None:
    key = wakeups.job_key("a-job")
    own = {**fields, "origin": fields["origin"] or store.prefix}
    store.client.hset(key, mapping=own)
    assert store.run(explaining.explain(store.namespace, "a-job")).verdict is V.UNKNOWN
    store.client.delete(key)
    store.client.set(key, "a string")
    assert store.run(explaining.explain(store.namespace, "a-job")).verdict is V.UNKNOWN


# --- other conditions -----------------------------------------------------------------------------


def test_the_first_message_of_the_next_batch_waits_behind_the_run(store: Rig) -> None:
    """A claim of one message leaves the others in the list, and its own is not marked yet."""
    first = store.add(delay_s=0).message_id
    second = store.add(delay_s=0).message_id
    store.claim(max_take=1)
    assert "is_behind" not in explained(store, first).evidence
    assert explained(store, second).evidence["is_behind"] is True


def test_a_wake_up_after_the_searched_part_is_in_line_unless_a_later_one_was_taken(
    store: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explaining, "_SEARCH", 2)
    name = workers_full(store)
    found = explained(store, name)
    assert (found.verdict, found.evidence.get("before")) == (ExplanationVerdict.WORKERS_FULL, None)
    assert "many of 4 due thread(s) stand before it" in found.because
    store.client.hset(store.keys.counters, "taken", store.clock.ms)
    assert explained(store, name).verdict is ExplanationVerdict.WAKE_UP_LOST


@pytest.mark.parametrize("is_sent", [False, True])
def test_a_batch_that_ends_between_two_reads_is_read_again(store: Rig, is_sent: bool) -> None:
    name = store.add(delay_s=0).message_id
    lease = sent(store) if is_sent else None
    operation = explaining.explain(store.namespace, name)
    reply = store.store.run(_once(next(operation)))
    store.finish(lease or store.claim())  # after the message was read, before its thread is

    def rest() -> Operation[Explanation]:
        step = operation.send(reply)
        while True:
            try:
                step = operation.send((yield step))
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]

    assert store.run(rest()).verdict is ExplanationVerdict.ANSWERED


def _once(step: Any) -> Operation[Any]:
    return (yield step)


def test_a_batch_with_an_earlier_failure_that_is_due_names_it(store: Rig) -> None:
    name = backing_off(store)
    store.clock.advance(41)
    found = explained(store, name)
    assert (found.verdict, found.error) == (ExplanationVerdict.NO_WORKER, ERROR)
    assert "after request_refused: 400" in found.because


def test_json_has_the_evidence_and_times(store: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    name = backing_off(store)
    told, _ = commanded(store, monkeypatch, name, "--json")
    row = json.loads(told.output)
    assert (row["verdict"], row["error"]["code"]) == ("backing_off", "request_refused")
    assert datetime.fromisoformat(row["until"]) == datetime.fromtimestamp(
        store.clock.ms / 1000 + 40, tz=UTC
    )
    assert row["evidence"]["attempts"] == 1


def test_a_sliding_window_and_a_long_id_are_explained(store: Rig) -> None:
    window = Window(delay_ms=5000, kind="sliding", max_wait_ms=60_000)
    thread = "-100 ü'" + "x" * 400
    store.add(thread, window=window)
    store.clock.advance(3)
    name = store.add(thread, window=window).message_id
    found = explained(store, name)
    assert (found.verdict, found.until) == (V.WINDOW_OPEN, moment(store.clock.ms + 5000))
    store.run(control.pause_thread(store.namespace, thread))
    assert "resume '-100 ü'\"'\"'x" in explained(store, name).advice
