"""A store under the test's clock, and readings of its keys without the store's help."""

from __future__ import annotations

import functools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import redis

from assistant_queue.core.account import answering
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.settlements import OpenCall, Settlement, SettlementKind, open_calls
from assistant_queue.core.stored_rows import ToolRow, WaitRow
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.core.window import Window, is_never
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import StoreError
from assistant_queue.metrics import Metrics
from assistant_queue.models import (
    Batch,
    BatchRecord,
    ErrorInfo,
    FunctionCall,
    Message,
    MessageStatus,
    QueueStatus,
    Receipt,
    RunResult,
    SayKind,
    ThreadStatus,
    ToolCall,
)
from assistant_queue.store import scripts, wakeup_codec, wakeups
from assistant_queue.store.calls import Call, Namespace, Operation, Pipelined
from assistant_queue.store.ops import (
    batch_changes,
    failures,
    journal,
    leases,
    measuring,
    message_records,
    outcomes,
    parking,
    producing,
    provider_webhooks,
    questions,
    reply_outbox,
    runs_at_work,
    saying,
    settling,
    statuses,
    steering,
    sweeping,
    takeovers,
)
from assistant_queue.store.ops.leases import Lease, NoLease
from assistant_queue.store.ops.outcomes import ResultRules
from assistant_queue.store.ops.packed_fields import PROGRESS, joined
from assistant_queue.store.ops.questions import DueQuestion, HeldQuestion
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.store.ops.takeovers import TAKEOVER
from assistant_queue.store.rq_jobs import RqJob
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.testing.fake_clock import FakeClock
from tests.contract.store_copy import Copy

T = TypeVar("T")

KEEP = ResultRules(result_ttl_s=3600, keep_text=False)
ERROR = ErrorInfo(code="request_refused", message="400")
CHANNEL = "telegram"
COUNTERS = ("delayed", "waiting", "active", "parked", "completed", "failed")
REPLIES = ("replies", "delivered", "undelivered")
EVER = ("cancelled", "discarded", "forgotten", "said", "duplicates", "takeovers")
_COMPLETE = Path(__file__).parent.parent / "fixtures" / "complete_780ee65.lua"


def complete_as_0_1(  # noqa: PLR0917
    namespace: Namespace,
    lease: Lease,
    result: RunResult,
    progress: Progress,
    anchor: str | None,
    rules: ResultRules,
) -> Operation[None]:
    """Store the results and keep the lease, as a worker of version 0.1 does."""
    source = scripts._INCLUDE.sub(
        lambda match: "\n".join(scripts._source(f"_{part}") for part in match[1].split()),
        _COMPLETE.read_text(encoding="utf-8"),
    )
    source = source.replace(
        "and is_watched() then", "and has_subscribers() then"
    )  # it knows no feed
    now = namespace.clock.store_now_ms()
    script = scripts.build("complete", source, namespace._constants)
    args = {
        "now": "" if now is None else now,
        "thread_id": lease.thread_id,
        "token": lease.token,
        "progress": progress.dump(),
        **outcomes._result_args(namespace, lease, result, anchor, rules),
    }
    names = {
        "thread": namespace.keys.thread(lease.thread_id),
        "frozen": namespace.keys.frozen(lease.thread_id),
        "conversation": namespace.keys.conversation(lease.thread_id),
        "record": namespace.keys.record(result.batch_id),
        "counters": namespace.keys.counters,
        "events": namespace.keys.events(lease.thread_id),
    }
    keys = [names[name] for name in script.keys]
    keys += [namespace.keys.message(message_id) for message_id in result.message_ids]
    words = [args[name] for name in script.args]
    reply = yield Call(script, words, keys, lease.thread_id, namespace)
    leases.check(text(reply[0]), lease.thread_id)


class Rig:
    """The store, and the actions of producers, workers, RQ and an operator."""

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self.client: Any = client
        self.prefix = prefix
        self.clock = FakeClock()
        self.namespace = Namespace(prefix, self.clock)
        self.keys = self.namespace.keys
        self.store = SyncStore(client)
        self.sent: list[Call] = []
        self._numbers: Counter[str] = Counter()

    def run(self, operation: Operation[T]) -> T:
        return self.store.run(self._noted(operation))

    def _noted(self, operation: Operation[T]) -> Operation[T]:
        """The operation; the scripts that it calls are noted in `sent`."""
        try:
            step = next(operation)
            while True:
                calls = (
                    [step]
                    if isinstance(step, Call)
                    else step.calls
                    if isinstance(step, Pipelined)
                    else step
                )
                self.sent += [call for call in calls if call.script is not None]
                try:
                    reply = yield step
                except StoreError as error:
                    step = operation.throw(error)
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own

    def again(self, call: Call) -> Any:
        """Deliver a late copy of a call now; return its reply, for which no caller waits."""
        assert call.script is not None
        words = [
            self.clock.ms if name == "now" else word
            for name, word in zip(call.script.args, call.words, strict=True)
        ]

        def copy() -> Operation[Any]:
            return (yield replace(call, words=words))

        return self.store.run(copy())

    def fresh(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}-{self._numbers[kind]}"

    # --- producers --------------------------------------------------------------------------------

    def add(
        self,
        thread: str = "thread",
        message_id: str | None = None,
        content: Any = "hello",
        *,
        delay_s: float = 1.0,
        after_run: str = "immediate",
        max_pending: int = 0,
        mid_run: str = "collect",
        window: Window | None = None,
        **fields: Any,
    ) -> Receipt:
        message = Message(id=message_id or self.fresh("message"), content=content, **fields)
        rules = producing.AddRules(
            window=window or Window(delay_ms=round(delay_s * 1000)),
            after_run=after_run,
            max_pending=max_pending,
            mid_run=mid_run,
        )
        return self.run(producing.add(self.namespace, thread, message, rules))

    def message(self, message_id: str) -> MessageStatus | None:
        return self.run(statuses.read_message(self.namespace, message_id))

    def thread(self, thread: str = "thread") -> ThreadStatus:
        return self.run(statuses.read_thread(self.namespace, thread))

    def metrics(self) -> Metrics:
        return self.run(measuring.read_metrics(self.namespace))

    def status(self) -> QueueStatus:
        return self.run(statuses.read_status(self.namespace))

    # --- workers ----------------------------------------------------------------------------------

    def try_claim(
        self,
        thread: str = "thread",
        *,
        token: str | None = None,
        batch_id: str | None = None,
        **fields: Any,
    ) -> Lease | NoLease:
        return self.run(
            leases.claim(
                self.namespace,
                thread,
                token=token or self.fresh("token"),
                batch_id=batch_id or self.fresh("batch"),
                lease_s=fields.pop("lease_s", 30),
                **fields,
            )
        )

    def claim(self, thread: str = "thread", **fields: Any) -> Lease:
        lease = self.try_claim(thread, **fields)
        assert isinstance(lease, Lease), lease
        return lease

    def refused(self, thread: str = "thread", **fields: Any) -> str:
        refusal = self.try_claim(thread, **fields)
        assert isinstance(refusal, NoLease), refusal
        return refusal.reason

    def renew(self, lease: Lease, lease_s: float = 30) -> leases.Renewed | None:
        return self.run(leases.renew(self.namespace, lease, lease_s))

    def save(
        self,
        lease: Lease,
        phase: Phase = Phase.SENDING,
        progress: Progress | None = None,
        mark: Sequence[str] = (),
    ) -> leases.Saved:
        return self.run(
            leases.save(self.namespace, lease, phase, progress or Progress(attempts=1), mark)
        )

    def trim(self, lease: Lease, keep: int) -> None:
        self.run(batch_changes.trim(self.namespace, lease, keep, result_ttl_s=3600))

    def result(self, lease: Lease, reply: str = "hi") -> RunResult:
        batch = lease.claimed.batch
        result = RunResult(
            thread_id=batch.thread_id,
            run_id="run_1",
            batch_id=batch.id,
            message_ids=tuple(message.id for message in batch.messages),
            messages_processed=len(batch.messages),
            status="completed",
            incomplete_reason=None,
            reply=reply,
            replies=(reply,),
            usage=None,
            attempts=1,
            started_at=moment(lease.claimed.claimed_ms),
            ended_at=moment(self.clock.ms),
        )
        return answering(result, batch)

    def complete(
        self,
        lease: Lease,
        *,
        result: RunResult | None = None,
        anchor: str | None = "item_1",
        rules: ResultRules = KEEP,
    ) -> Progress:
        """Store the results and keep the lease, as a worker of version 0.1 does."""
        ended = result or self.result(lease)
        progress = Progress(attempts=1, run_id=ended.run_id, result=ended)
        self.run(complete_as_0_1(self.namespace, lease, ended, progress, anchor, rules))
        return Progress.load(progress.dump())

    def finish(
        self,
        lease: Lease,
        *,
        result: RunResult | None = None,
        anchor: str | None = "item_1",
        rules: ResultRules = KEEP,
        guard_id: str = "",
        tools: Sequence[ToolRow] = (),
        shown: Sequence[str] = (),
        seen: Wish | None = None,
    ) -> bool:
        guard = guard_id or lease.guard_id
        return self.run(
            outcomes.finish(
                self.namespace,
                lease,
                guard_id=guard,
                result=result or self.result(lease),
                anchor=anchor,
                rules=rules,
                tools=tools,
                shown=shown,
                seen=seen,
            )
        ).has_pending

    def reply(
        self,
        lease: Lease,
        *,
        at_once: bool = True,
        reply: str = "hi",
        token: str | None = None,
        rules: ResultRules = KEEP,
    ) -> DeliveryLease | None:
        """End a batch with a reply to deliver, by the caller if it can be at once."""
        given = token or (self.fresh("delivery") if at_once else "")
        return self.run(
            outcomes.finish(
                self.namespace,
                lease,
                guard_id=lease.guard_id,
                result=self.result(lease, reply),
                anchor="item_1",
                rules=rules,
                delivery=outcomes.DeliveryWish(token=given, lease_s=30),
            )
        ).delivery

    def say(
        self,
        thread: str = "thread",
        words: str = "hello",
        *,
        batch_id: str | None = None,
        message_id: str | None = None,
        kind: SayKind = "notice",
        author: str | None = "Jo",
    ) -> Receipt:
        message = Message(id=message_id or self.fresh("said"), content=words, author=author)
        if kind == "reply":
            message = replace(message, role="assistant", wants_reply=False)
        return self.run(
            saying.say(
                self.namespace,
                thread,
                message,
                batch_id=batch_id or self.fresh("note"),
                kind=kind,
                result_ttl_s=3600,
            )
        )

    # --- deliveries -------------------------------------------------------------------------------

    def due_deliveries(self) -> list[outbox.DueDelivery]:
        return list(self.run(reply_outbox.find_due(self.namespace)).due)

    def claim_delivery(
        self, thread: str = "thread", *, token: str | None = None, guard: bool = False
    ) -> DeliveryLease | None:
        due = self.run(reply_outbox.find_check(self.namespace, thread))
        if due is None:
            return None
        given = token or self.fresh("delivery")
        return self.run(
            reply_outbox.claim_delivery(self.namespace, due, token=given, lease_s=30, guard=guard)
        )

    def delivered(
        self,
        lease: DeliveryLease,
        *,
        takes_next: bool = True,
        state: DeliveryState | None = None,
        channel: str | None = CHANNEL,
    ) -> DeliveryLease | None:
        return self.run(
            reply_outbox.delivered(
                self.namespace,
                lease,
                lease.guard_id,
                result_ttl_s=3600,
                lease_s=30,
                takes_next=takes_next,
                state=state,
                channel=channel,
            )
        )

    def park_delivery(
        self,
        lease: DeliveryLease,
        *,
        reason: str = "undelivered",
        state: DeliveryState | None = None,
        takes_next: bool = True,
    ) -> DeliveryLease | None:
        return self.run(
            reply_outbox.park_delivery(
                self.namespace,
                lease,
                lease.guard_id,
                reason=reason,
                error=ERROR,
                state=state or lease.state,
                lease_s=30,
                takes_next=takes_next,
                channel=CHANNEL,
            )
        )

    def postpone_delivery(
        self, lease: DeliveryLease, wait_s: float = 5.0, state: DeliveryState | None = None
    ) -> None:
        given = state or DeliveryState(tries=1, error=ERROR)
        self.run(
            reply_outbox.postpone_delivery(self.namespace, lease, given, wait_s, channel=CHANNEL)
        )

    def save_delivery(
        self, lease: DeliveryLease, state: DeliveryState, *, waits: bool = False
    ) -> None:
        self.run(reply_outbox.save_delivery(self.namespace, lease, state, waits=waits))

    def outbox(self, thread: str = "thread") -> list[str]:
        """Return the batch ids of the replies that wait, in order."""
        rows = self.client.lrange(self.keys.outbox(thread), 0, -1)
        return [text(row).partition(" ")[0] for row in rows]

    def journal(self, thread: str = "thread", **page: Any) -> list[BatchRecord]:
        """Return what became of the thread's batches, newest first."""
        page = {"limit": 1000, "before": None} | page
        return self.run(journal.read_timeline(self.namespace, thread, **page))

    def postpone(
        self,
        lease: Lease,
        state: ThreadState = ThreadState.RETRYING,
        wait_s: float = 5.0,
        phase: Phase = Phase.FROZEN,
        progress: Progress | None = None,
        *,
        failed: ErrorInfo | None = ERROR,
        seen: Wish | None = None,
    ) -> None:
        given = progress or Progress(attempts=1, error=ERROR)
        self.run(
            leases.postpone(
                self.namespace,
                lease,
                state=state,
                wait_s=wait_s,
                phase=phase,
                progress=given,
                failed=failed,
                seen=seen,
            )
        )

    def park(
        self,
        lease: Lease,
        *calls: OpenCall,
        wait_s: float = 600.0,
        phase: Phase = Phase.RUNNING,
        progress: Progress | None = None,
        new: int = 0,
        seen: Wish | None = None,
        asks: bool = False,
    ) -> bool:
        return self.run(
            parking.park(
                self.namespace,
                lease,
                wait_s=wait_s,
                phase=phase,
                progress=progress or waiting_for(*calls),
                calls=calls,
                new=new,
                seen=seen,
                asks=asks,
            )
        )

    def due_questions(self, offset: int = 0) -> list[DueQuestion]:
        return list(self.run(questions.find_due(self.namespace, offset=offset)).due)

    def take_question(
        self, due: DueQuestion, token: str = "", lease_s: float = 30.0
    ) -> HeldQuestion | None:
        return self.run(
            questions.claim_question(
                self.namespace, due, token=token or self.fresh("asker"), lease_s=lease_s
            )
        )

    def claim_question(self, call_id: str) -> HeldQuestion | None:
        """Claim a question that is due."""
        (found,) = [one for one in self.due_questions() if one.call_id == call_id]
        return self.take_question(found)

    def note_asked(self, held: HeldQuestion, part_id: str | None) -> bool:
        return self.run(questions.note_asked(self.namespace, held, part_id))

    def release_question(self, held: HeldQuestion, wait_s: float | None, *, tries: int = 0) -> bool:
        return self.run(questions.release_question(self.namespace, held, wait_s, tries=tries))

    def await_run(
        self,
        lease: Lease,
        run_id: str = "run_1",
        *,
        wait_s: float = 1.0,
        most_s: float = 600.0,
        phase: Phase = Phase.RUNNING,
        seen: Wish | None = None,
    ) -> None:
        self.run(
            runs_at_work.await_run(
                self.namespace,
                lease,
                run_id=run_id,
                wait_s=wait_s,
                most_s=most_s,
                phase=phase,
                progress=Progress(attempts=1, run_id=run_id or None),
                seen=seen,
            )
        )

    def run_ended(self, run_id: str = "run_1", webhook_id: str | None = None) -> bool:
        """Whether a webhook about a run woke a batch."""
        ident = webhook_id or self.fresh("webhook")
        return self.run(provider_webhooks.run_ended(self.namespace, run_id, ident))

    def open_call(self, call_id: str, **fields: Any) -> OpenCall:
        named = FunctionCall(name="refund", arguments='{"amount":3}')
        plain = {"kind": "approval", "question": "Refund 3?", "until_ms": self.clock.ms + 600_000}
        return OpenCall(id=call_id, call=ToolCall(id=call_id, function=named), **plain | fields)

    def settle(
        self, call_id: str, kind: SettlementKind = SettlementKind.APPROVED, **fields: Any
    ) -> bool:
        return self.run(settling.settle(self.namespace, call_id, Settlement(kind=kind, **fields)))

    def close_calls(self, lease: Lease, *call_ids: str) -> None:
        self.run(parking.close(self.namespace, lease, call_ids, KEEP.result_ttl_s))

    def open_calls(self, **fields: Any) -> list[str]:
        """Return the ids of the open calls, as they are listed."""
        given = {"limit": 100, "after": None, "thread_id": None} | fields
        return [row.call_id for row in self.run(settling.list_open(self.namespace, **given))]

    def asked(self, thread: str = "thread") -> list[str]:
        """Return the ids of the calls that are open by the thread's own hash."""
        read = self.thread_hash(thread)
        progress = joined([read.get(name, "") for name in PROGRESS])
        mark, batch, asks = (read.get(name, "") for name in ("shut", "batch", "asks"))
        return open_calls(Progress.load(progress), batch, mark, asks)

    def stop(self, thread: str = "thread") -> bool:
        return self.run(steering.stop(self.namespace, thread))

    def stopped(
        self,
        lease: Lease,
        *,
        result: RunResult | None = None,
        anchor: str | None = "item_1",
        keep_anchor: bool = False,
        open_calls: Sequence[str] = (),
        rules: ResultRules = KEEP,
    ) -> None:
        self.run(
            outcomes.stopped(
                self.namespace,
                lease,
                guard_id=lease.guard_id,
                result=result or replace(self.result(lease), status="stopped"),
                anchor=anchor,
                keep_anchor=keep_anchor,
                open_calls=open_calls,
                rules=rules,
            )
        )

    def join(
        self,
        lease: Lease,
        phase: Phase = Phase.FROZEN,
        progress: Progress | None = None,
        *,
        most: int = leases.MAX_BATCH,
        event: str = "run_interrupted",
        **limits: Any,
    ) -> tuple[Lease, Wish | None]:
        """Let what waits join; return the lease with the batch as it is now, and what is left."""
        messages, invalid, wish = self.run(
            batch_changes.join(
                self.namespace,
                lease,
                phase,
                progress or Progress(attempts=1),
                most=most,
                event=event,
                run_id="run_1",
                **limits,
            )
        )
        assert invalid == 0
        batch = replace(lease.claimed.batch, messages=messages)
        return replace(lease, claimed=replace(lease.claimed, batch=batch)), wish

    def refuse(self, lease: Lease, reason: str = "max_interrupts") -> None:
        self.run(batch_changes.refuse(self.namespace, lease, reason))

    def take_over(
        self,
        by: str = "Jo",
        thread: str = "thread",
        *,
        instead_of: str | None = None,
        stops: bool = True,
    ) -> bool:
        return self.run(
            takeovers.take_over(self.namespace, thread, by, instead_of=instead_of, stops=stops)
        )

    def hand_back(self, thread: str = "thread") -> bool:
        return self.run(takeovers.hand_back(self.namespace, thread))

    def wish(self, thread: str = "thread") -> str:
        return self.thread_hash(thread).get("wish", "")

    def bury(
        self,
        lease: Lease,
        *,
        reason: str = "attempts",
        pause: bool = False,
        open_calls: Sequence[str] = (),
        progress: Progress | None = None,
        guard_id: str = "",
        seen: Wish | None = None,
    ) -> None:
        self.run(
            outcomes.bury(
                self.namespace,
                lease,
                guard_id or lease.guard_id,
                reason=reason,
                error=ERROR,
                progress=progress or Progress(attempts=3, run_id="run_1"),
                message_ids=[message.id for message in lease.claimed.batch.messages],
                open_calls=open_calls,
                pause=pause,
                ended_ms=self.clock.ms,
                seen=seen,
            )
        )

    def forged(self, thread: str = "thread", *, batch_id: str = "forged-batch") -> Lease:
        """Return a lease that the store never granted."""
        return Lease(
            thread_id=thread,
            token="forged",
            now_ms=self.clock.ms,
            until_ms=self.clock.ms + 30_000,
            guard_id="forged-guard",
            claimed=Claimed(
                batch=Batch(id=batch_id, thread_id=thread, messages=()),
                phase=Phase.FROZEN,
                progress=Progress(),
                deaths=0,
                claimed_ms=self.clock.ms,
                conversation_id=None,
            ),
        )

    # --- the sweeper, RQ, a person ----------------------------------------------------------------

    def sweep(self, limit: int = sweeping.SWEEP_LIMIT) -> sweeping.Swept:
        return self.run(sweeping.sweep(self.namespace, limit))

    def wake(self, *threads: str) -> int:
        return self.run(sweeping.wake(self.namespace, threads or ("thread",)))

    def failed(self, limit: int = 100, after: str | None = None) -> list[Any]:
        return self.run(failures.list_failed(self.namespace, limit, after))

    def retry_failed(self, batch_id: str) -> None:
        self.run(failures.retry_failed(self.namespace, batch_id))

    def discard_failed(self, batch_id: str) -> None:
        self.run(failures.discard_failed(self.namespace, batch_id, 3600))

    def pause_queue(self) -> None:
        self.client.set(self.keys.paused, "1")

    def resume_queue(self) -> None:
        self.client.delete(self.keys.paused)

    def scheduler(self) -> int:
        """RQ's scheduler: what is due by its whole seconds goes to the queue."""
        due = self.client.zrangebyscore(
            wakeups.scheduled_key(self.prefix), "-inf", self.clock.ms // 1000
        )
        for job_id in due:
            if self.client.zrem(wakeups.scheduled_key(self.prefix), job_id):
                self.client.rpush(wakeups.queue_key(self.prefix), job_id)
        return len(due)

    def pop(self) -> str | None:
        """Take a job as RQ's worker, and finish it; return its thread, None for no job."""
        while True:
            job_id = self.client.lpop(wakeups.queue_key(self.prefix))
            if job_id is None:
                return None
            data = self.client.hget(wakeups.job_key(text(job_id)), "data")
            self.client.delete(wakeups.job_key(text(job_id)))
            if data is not None:
                return wakeup_codec.thread_of(data)

    def take(self, worker: str = "worker") -> tuple[str, RqJob] | None:
        """Take a job as the concurrent worker, with RQ's records; return the thread and the job."""
        while (job_id := self.client.lpop(wakeups.queue_key(self.prefix))) is not None:
            data = self.client.hget(wakeups.job_key(text(job_id)), "data")
            if data is not None:
                return wakeup_codec.thread_of(data), RqJob(text(job_id), worker)
        return None

    def lose_replies(self) -> None:
        """The replies in all outboxes are gone."""
        keys = [
            text(key)
            for kind in (self.keys.outbox(""), self.keys.delivering(""))
            for key in self.client.scan_iter(f"{kind}*", count=1000)
        ]
        self.client.delete(self.keys.deliveries, *keys)
        self.client.hdel(self.keys.counters, "replies")

    def lose_wakeups(self) -> None:
        """Everything RQ holds is gone."""
        for job_id in [*self.queued(), *self.scheduled()]:
            self.client.delete(wakeups.job_key(job_id))
        self.client.delete(wakeups.queue_key(self.prefix), wakeups.scheduled_key(self.prefix))

    # --- what stands in the keys ------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read the keys as they stand now, for one round trip; nothing may write meanwhile."""
        client = self.client
        if isinstance(client, Copy):
            yield
            return
        self.client = Copy(client, f"{self.prefix}:*", "rq:*")
        try:
            yield
        finally:
            self.client = client

    def all_keys(self) -> list[str]:
        """Return every key of the queue, except for the records of calls that are over."""
        memory = self.keys.over("")
        return [key for key in self._keys(f"{self.keys.prefix}:") if not key.startswith(memory)]

    def _keys(self, start: str) -> list[str]:
        return sorted(map(text, self.client.scan_iter(f"{start}*", count=1000)))

    def threads(self) -> list[str]:
        start = self.keys.thread("")
        return [key.removeprefix(start) for key in self._keys(start)]

    def hash(self, key: str) -> dict[str, str]:
        if isinstance(self.client, Copy):
            return self.client.texts(key)
        return {text(name): text(value) for name, value in self.client.hgetall(key).items()}

    def thread_hash(self, thread: str = "thread") -> dict[str, str]:
        return self.hash(self.keys.thread(thread))

    def state(self, thread: str = "thread") -> ThreadState:
        fields = self.thread_hash(thread)
        names = ("state", "until", "parked", "last")
        return ThreadState(message_records.state_of(*(fields.get(name, "") for name in names)))

    def ids(self, key: str) -> list[str]:
        """Message ids in a list of packed messages, '' where one was cancelled."""
        return [_id_of(entry) if entry else "" for entry in self.client.lrange(key, 0, -1)]

    def pending(self, thread: str = "thread") -> list[str]:
        return self.ids(self.keys.pending(thread))

    def frozen(self, thread: str = "thread") -> list[str]:
        return self.ids(self.keys.frozen(thread))

    def queued(self) -> list[str]:
        return [
            text(job_id) for job_id in self.client.lrange(wakeups.queue_key(self.prefix), 0, -1)
        ]

    def scheduled(self) -> dict[str, int]:
        rows = self.client.zrange(wakeups.scheduled_key(self.prefix), 0, -1, withscores=True)
        return {text(job_id): int(score) for job_id, score in rows}

    def jobs(self) -> dict[str, str]:
        """Return every job hash of this prefix that no worker has taken -> its thread."""
        found = {}
        for raw in self.client.scan_iter("rq:job:*", count=1000):
            key = text(raw)
            origin, data, status = self.client.hmget(key, "origin", "data", "status")
            if origin is not None and text(origin) == self.prefix and status != b"started":
                found[key.removeprefix("rq:job:")] = _thread_of(data)
        return found

    def due(self) -> dict[str, int]:
        return {
            text(thread): int(score)
            for thread, score in self.client.zrange(self.keys.due, 0, -1, withscores=True)
        }

    def counters(self) -> dict[str, int]:
        found = self.hash(self.keys.counters)
        assert set(found) <= {*COUNTERS, *REPLIES, *EVER, "taken", "taken_at", "pace"}, found
        counters = {name: int(found.get(name, 0)) for name in COUNTERS}
        return counters if counters["parked"] else without_parked(counters)

    def counted(self) -> Counter[str]:
        """Return the metrics as they are stored, each histogram as the number of its durations.

        With the counters that never decrease.
        """
        found: Counter[str] = Counter()
        for field, count in self.hash(self.keys.metrics).items():
            if field.startswith("h:"):
                kind, name, bucket = field.split(":")
                found[f"{kind}:{name}"] += int(count) if bucket != "ms" else 0
            elif field != "about":
                found[field] += int(count)
        stored = self.hash(self.keys.counters)
        found.update({name: int(stored.get(name, 0)) for name in EVER})
        return Counter({name: count for name, count in found.items() if count})

    def recount(self) -> dict[str, int]:
        """Compute the counters from the keys, `completed` from records and open deliveries."""
        counted = dict.fromkeys(COUNTERS, 0)
        for thread in self.threads():
            fields = self.thread_hash(thread)
            waiting = sum(map(bool, self.pending(thread)))
            assert waiting == int(fields.get("n", 0)), (
                f"{thread}: n is {fields.get('n')}, {waiting} wait"
            )
            assert waiting or not self.client.exists(self.keys.pending(thread)), (
                f"{thread}: a list is left in which nothing waits"
            )
            if waiting:
                counted[fields["pk"]] += waiting
            frozen = len(self.frozen(thread))
            if fields.get("batch") and fields.get("bk") != "":
                assert frozen == int(fields["bn"]), (
                    f"{thread}: bn is {fields['bn']}, {frozen} are frozen"
                )
                counted[fields["bk"]] += frozen
            else:
                assert frozen == 0, f"{thread}: {frozen} messages are frozen in no batch"
        for batch_id in self.client.zrange(self.keys.failed, 0, -1):
            counted["failed"] += len(self.ids(self.keys.dead(text(batch_id))))
        for key in self._keys(self.keys.record("")):
            record = self.hash(key)
            if record.get("state") == "completed":
                counted["completed"] += json.loads(record["result"])["messages_processed"]
        return counted if counted["parked"] else without_parked(counted)

    def snapshot(self) -> dict[str, Any]:
        """Everything there is, to see that nothing has changed."""
        with self.reading():
            return self._snapshot()

    def _snapshot(self) -> dict[str, Any]:
        keys = [
            *self.all_keys(),
            wakeups.queue_key(self.prefix),
            wakeups.scheduled_key(self.prefix),
        ]
        keys += [wakeups.job_key(job_id) for job_id in self.jobs()]
        readers: dict[str, Any] = {
            "hash": self.client.hgetall,
            "list": lambda key: self.client.lrange(key, 0, -1),
            "zset": lambda key: self.client.zrange(key, 0, -1, withscores=True),
            "string": self.client.get,
            "stream": self.client.xlen,  # which only grows
            "none": lambda _: None,
        }
        return {key: readers[text(self.client.type(key))](key) for key in keys}

    def check(self) -> None:
        """Assert the invariants that hold after every script."""
        with self.reading():
            self._check()

    def _check(self) -> None:
        assert not self.client.exists(self.keys.quarantine), (
            f"sound keys were quarantined: {self.client.zrange(self.keys.quarantine, 0, -1)}"
        )
        assert self.counters() == self.recount()
        scheduled = self.scheduled()
        assert not any(is_never(at * 1000) for at in scheduled.values()), "a wake-up for nothing"
        known = {*self.queued(), *scheduled}
        jobs = self.jobs()
        assert set(jobs) <= known, f"job hashes that nobody will run: {set(jobs) - known}"
        queue_paused = bool(self.client.exists(self.keys.paused))
        due = self.due()
        stopping = set(map(text, self.client.zrange(self.keys.stopping, 0, -1)))
        assert stopping <= set(self.threads()), "a thread is to be stopped that has no batch"
        for thread in self.threads():
            fields = self.thread_hash(thread)
            is_stopping = fields.get("wish") == f"stop {fields.get('batch')}"
            assert is_stopping is (thread in stopping), f"{thread}: the list of stops is wrong"
            if not fields.get("state"):
                marks = {"paused"} if "taken_by" not in fields else set(TAKEOVER)
                assert set(fields) == marks, f"{thread} is idle and has {fields}"
                assert thread not in due
                continue
            is_stopping = fields.get("wish") == f"stop {fields.get('batch')}"
            if is_stopping and fields.get("phase") != "delivering":
                assert thread in due, f"a stop of {thread} is kept"
            elif not (self.is_paused(fields) and fields["state"] == "active"):
                assert (thread in due) is not self.is_kept_back(fields), (
                    f"{thread} is in state {fields['state']}, due holds {due}"
                )
            assert ("until" in fields) is ("token" in fields)
            if fields.get("batch"):
                assert ("token" in fields) is (fields["state"] == "active"), fields
            assert bool(fields.get("batch")) is (fields["state"] != "pending"), fields
        idle = set(due) - set(self.threads())
        assert not idle, f"idle threads that somebody will look at: {idle} {queue_paused}"

    @staticmethod
    def is_paused(fields: dict[str, str]) -> bool:
        return "paused" in fields and "taken_by" not in fields

    def is_kept_back(self, fields: dict[str, str]) -> bool:
        """Whether no worker may take anything of a thread, by its fields."""
        if "paused" not in fields or "taken_by" not in fields:
            return "paused" in fields
        seq, _, _ = fields.get("spoken", "").partition(" ")
        is_spoken = seq != "" and int(seq) >= int(fields["head"])
        return not (is_spoken or fields.get("batch"))

    def check_idle(self) -> None:
        """Nothing is left but conversations, counters, and records that expire."""
        for key in self.all_keys():
            kind = key.removeprefix(f"{self.keys.prefix}:").partition(":")[0]
            if kind in (
                "message",
                "batch",
                "journal",
                "pace",
                "call",
                "early",
                "heard",
                "polls",
                "webhook",
            ):
                assert self.client.pttl(key) > 0, f"{key} never goes"
            else:
                assert kind in ("conversation", "counters", "feed", "metrics"), key
        assert self.jobs() == {}
        assert self.scheduled() == {}


@functools.lru_cache(4096)
def _id_of(entry: bytes) -> str:
    found: str = json.loads(entry)["id"]
    return found


_thread_of = functools.lru_cache(4096)(wakeup_codec.thread_of)
"""The same jobs are read after each step of a walk."""


def text(reply: Any) -> str:
    if reply.__class__ is bytes:
        return reply.decode()
    return reply if reply.__class__ is str else str(reply)


def waiting_for(*calls: OpenCall) -> Progress:
    """Return the progress of a batch that is parked for these calls."""
    waits = tuple(
        WaitRow(call_id=one.id, id=one.id, kind=one.kind, until_ms=one.until_ms, is_listed=True)
        for one in calls
    )
    return Progress(attempts=1, run_id="run_1", waits=waits)


def without_parked(counters: dict[str, int]) -> dict[str, int]:
    return {name: count for name, count in counters.items() if name != "parked"}


def seconds_up(ms: float) -> int:
    return math.ceil(ms / 1000)


__all__ = ["COUNTERS", "ERROR", "KEEP", "Rig", "replace", "seconds_up", "text"]


def noting(operation: Operation[T], words: set[str]) -> Operation[T]:
    """Note the commands of an operation."""
    try:
        step = next(operation)
        while True:
            calls = step if isinstance(step, list) else [step]
            words |= {one.script.name if one.script else one.words[0] for one in calls}
            step = operation.send((yield step))
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]  # the operation's own
