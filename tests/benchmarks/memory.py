"""Rows about memory: bytes of a message that waits, and what an idle thread leaves behind."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import redis
import rq

from assistant_queue import AssistantMessageQueue
from assistant_queue.core.account import answering, timeline_of
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import AttemptRow
from assistant_queue.models import ErrorInfo, Message, RunResult
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace, Operation, plain
from assistant_queue.store.ops import leases, outcomes, producing, reply_outbox
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.outcomes import DeliveryWish, ResultRules
from tests.benchmarks import journal
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.depth import AT_ONCE, LATER, REPLY, result_of
from tests.benchmarks.measuring import run_abreast
from tests.benchmarks.raw_rq import JOB
from tests.benchmarks.table import Row

GROUP = "memory"
TARGET = 700
WHOLE_QUEUE = {"counters", "format", "fingerprint", "rq"}
SHAPES = {"all in one thread": None, "five a thread": 5, "one a thread": 1}
REPLIES = {"ten in a thread": 10, "one a thread": 1}
TARGET_REPLY = 500
NO_SLOT = DeliveryWish(token="", lease_s=60)
TTL_S = 86_400.0


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    count = bench.sizes.memory
    with bench.queue() as queue:
        raw = _raw_bytes(bench.client, count)
        for shape, per_thread in SHAPES.items():
            yield _pending(queue, shape, per_thread=per_thread or count, count=count, raw=raw)
        yield from _idle(bench.client, queue, count)
        yield from _undelivered(bench.client, queue, count)
    yield from journal.rows(bench.client)


def _thread(number: int) -> str:
    return f"whatsapp:4915112{number:06}"


def _message() -> Message:
    return Message(id=secrets.token_hex(12), content=TEXT)


def _used(client: redis.Redis) -> int:
    return int(client.info("memory")["used_memory"])


def _empty(client: redis.Redis) -> int:
    client.flushall()
    return _used(client)


def _raw_bytes(client: redis.Redis, count: int) -> float:
    """Raw RQ: one queued job a message."""
    before = _empty(client)
    queue = rq.Queue("raw", connection=client)
    data = [rq.Queue.prepare_data(JOB, args=(_thread(number), TEXT)) for number in range(count)]
    with client.pipeline() as pipeline:
        queue.enqueue_many(data, pipeline=pipeline)
        pipeline.execute()
    return (_used(client) - before) / count - len(TEXT)


def _pending(
    queue: AssistantMessageQueue, shape: str, *, per_thread: int, count: int, raw: float
) -> Row:
    client = queue._store.client
    before = _empty(client)
    namespace = queue._commands.namespace
    run_abreast(
        queue._store,
        (
            producing.add(namespace, _thread(number // per_thread), _message(), LATER)
            for number in range(count)
        ),
    )
    used = _used(client) - before
    wakeup = _wakeup_bytes(client, namespace)
    threads = -(-count // per_thread)
    each = (used - threads * wakeup) / count - len(TEXT)
    return Row(
        group=GROUP,
        what=f"a waiting message, {shape} ({count:,})",
        here=f"{each:.0f} bytes + text; wake-up {threads * wakeup / count:.0f}",
        beside=f"raw RQ, a job a message: {raw:.0f} bytes + text",
        ratio=(each + threads * wakeup / count) / raw,
        target=f"<= {TARGET} + text",
        met=each <= TARGET,
    )


def _wakeup_bytes(client: redis.Redis, namespace: Namespace) -> float:
    """One RQ wake-up: its hash, its place in the schedule, and its key's place in the dictionary."""
    scheduled = wakeups.scheduled_key(namespace.prefix)
    jobs = client.zrange(scheduled, 0, 99)
    hashes = sum(client.memory_usage(wakeups.job_key(job.decode())) or 0 for job in jobs) / len(
        jobs
    )
    return hashes + (client.memory_usage(scheduled, samples=0) or 0) / client.zcard(scheduled)


def _idle(client: redis.Redis, queue: AssistantMessageQueue, count: int) -> Iterator[Row]:
    before = _empty(client)
    namespace = queue._commands.namespace
    run_abreast(queue._store, (_life(namespace, _thread(number)) for number in range(count)))
    kinds = _kinds(client, namespace)
    records = _used(client) - before
    _pass_the_ttl(client)
    left = _kinds(client, namespace)
    used = _used(client) - before
    named = ", ".join(f"{kind} {number:,}" for kind, number in sorted(left.items()))
    own = sum(number for kind, number in left.items() if kind not in WHOLE_QUEUE)
    yield Row(
        group=GROUP,
        what=f"keys of a thread gone idle ({count:,}), past result_ttl",
        here=f"{own / count:g} a thread",
        beside=f"all keys: {named}",
        target="= 1, the mapping",
        met=own == left["conversation"] == count,
    )
    yield Row(
        group=GROUP,
        what="bytes of a thread gone idle, past result_ttl",
        here=f"{used / count:.0f} a thread",
        beside=f"with its records: {records / count:.0f}",
        ratio=used / records,
    )
    ours = ", ".join(
        f"{kind} {number / count:g}"
        for kind, number in sorted(kinds.items())
        if kind in {"message", "batch"}
    )
    yield Row(
        group=GROUP,
        what=f"records of one answered message, within result_ttl ({TTL_S:,.0f} s)",
        here=f"{(records - used) / count:.0f} bytes",
        beside=f"keys: {ours}",
    )


def _life(
    namespace: Namespace, thread_id: str, delivery: DeliveryWish | None = None
) -> Operation[None]:
    """A mapped thread's one message from the add to the reply, as a worker has it happen."""
    receipt = yield from producing.add(namespace, thread_id, _message(), AT_ONCE)
    job = receipt.job_id or ""
    yield plain("LREM", wakeups.queue_key(namespace.prefix), 1, job)
    yield plain("DEL", wakeups.job_key(job))
    lease = yield from leases.claim(
        namespace, thread_id, token=secrets.token_hex(8), batch_id=secrets.token_hex(12), lease_s=60
    )
    assert isinstance(lease, Lease), lease
    yield from leases.set_conversation(namespace, thread_id, f"conv_{secrets.token_hex(24)}")
    rules = ResultRules(result_ttl_s=TTL_S, keep_text=False)
    anchor = f"msg_{secrets.token_hex(24)}"
    yield from outcomes.finish(
        namespace,
        lease,
        guard_id=lease.guard_id,
        result=_with_messages(lease),
        anchor=anchor,
        rules=rules,
        delivery=delivery,
    )


def _with_messages(lease: Lease) -> RunResult:
    """A result as a worker passes it on: with its messages, times and attempts."""
    result = answering(result_of(lease), lease.claimed.batch)
    progress = Progress(
        run_sent_ms=lease.claimed.claimed_ms,
        first_text_ms=lease.claimed.claimed_ms,
        tries=(AttemptRow(number=1, started_ms=lease.claimed.claimed_ms, worker="worker-1:4711"),),
    )
    timeline = timeline_of(
        result.messages,
        progress,
        claimed_ms=lease.claimed.claimed_ms,
        due_ms=lease.claimed.claimed_ms,
        completed_ms=lease.claimed.claimed_ms,
    )
    run_id = f"resp_{secrets.token_hex(24)}"
    at = moment(lease.claimed.claimed_ms)
    return replace(
        result,
        run_id=run_id,
        model="gpt-5-mini-2025-08-07",
        timeline=timeline,
        started_at=at,
        ended_at=at,
    )


def _undelivered(client: redis.Redis, queue: AssistantMessageQueue, count: int) -> Iterator[Row]:
    """Replies that wait because their platform is away, each tried once."""
    namespace = queue._commands.namespace
    texts = len(TEXT) + len(REPLY)
    for shape, per_thread in REPLIES.items():
        each = count // per_thread
        used = []
        for wish in (None, NO_SLOT):
            before = _empty(client)
            for _ in range(per_thread):
                lives = (_life(namespace, _thread(number), wish) for number in range(each))
                run_abreast(queue._store, lives)
            if wish is not None:
                fresh = _used(client) - before
                run_abreast(queue._store, (_fail(namespace, _thread(n)) for n in range(each)))
            used.append(_used(client) - before)
        without, tried = used
        per_reply = (tried - without) / (each * per_thread) - texts
        per_fresh = (fresh - without) / (each * per_thread) - texts
        yield Row(
            group=GROUP,
            what=f"an undelivered reply, {shape} ({each * per_thread:,})",
            here=f"{per_reply:.0f} bytes + texts",
            beside=f"before the first try: {per_fresh:.0f} bytes + texts",
            target=f"<= {TARGET_REPLY} + texts",
            met=per_reply <= TARGET_REPLY,
        )


def _fail(namespace: Namespace, thread_id: str) -> Operation[None]:
    """One try of the reply at the head of a thread's outbox, which the platform refuses."""
    due = yield from reply_outbox.find_check(namespace, thread_id)
    assert due is not None
    lease = yield from reply_outbox.claim_delivery(
        namespace, due, token=secrets.token_hex(8), lease_s=60
    )
    assert lease is not None
    error = ErrorInfo(code="callback", message="on_reply raised ConnectError: connection refused")
    state = DeliveryState(tries=1, error=error)
    yield from reply_outbox.postpone_delivery(namespace, lease, state, 60.0)


def _pass_the_ttl(client: redis.Redis) -> None:
    """Delete all keys that would expire within a day; keys without a lifetime stay."""
    names = list(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.pttl(name)
        left = pipeline.execute()
    mortal = [name for name, ttl_ms in zip(names, left, strict=True) if ttl_ms > 0]
    for start in range(0, len(mortal), 1000):
        client.delete(*mortal[start : start + 1000])


def _kinds(client: redis.Redis, namespace: Namespace) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name in client.scan_iter(count=1000):
        first, second, *_ = name.decode().split(":")
        kinds[second if first == namespace.prefix else first] += 1
    return kinds
