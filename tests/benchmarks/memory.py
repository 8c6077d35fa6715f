"""Rows about memory: bytes of a message that waits, and what an idle thread leaves behind."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator

import redis
import rq

from assistant_queue import AssistantMessageQueue
from assistant_queue.models import Message
from assistant_queue.store import ending, holding, producing, wakeups
from assistant_queue.store.calls import Operation, Space, plain
from assistant_queue.store.ending import ResultRules
from assistant_queue.store.holding import Lease
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.depth import AT_ONCE, LATER, result_of
from tests.benchmarks.measuring import run_abreast
from tests.benchmarks.raw_rq import JOB
from tests.benchmarks.table import Row

GROUP = "memory"
TARGET = 700
WHOLE_QUEUE = {"counters", "format", "fingerprint", "rq"}
SHAPES = {"all in one thread": None, "five a thread": 5, "one a thread": 1}
TTL_S = 86_400.0


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    count = bench.sizes.memory
    with bench.queue() as queue:
        raw = _raw_bytes(bench.client, count)
        for shape, per_thread in SHAPES.items():
            yield _pending(queue, shape, per_thread=per_thread or count, count=count, raw=raw)
        yield from _idle(bench.client, queue, count)


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


def _pending(queue: AssistantMessageQueue, shape: str, *, per_thread: int, count: int, raw: float) -> Row:
    client = queue._store.client
    before = _empty(client)
    space = queue._door.space
    run_abreast(queue._store, (producing.add(space, _thread(number // per_thread), _message(), LATER) for number in range(count)))
    used = _used(client) - before
    wakeup = _wakeup_bytes(client, space)
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


def _wakeup_bytes(client: redis.Redis, space: Space) -> float:
    """One RQ wake-up: its hash, its place in the schedule, and its key's place in the dictionary."""
    scheduled = wakeups.scheduled_key(space.prefix)
    jobs = client.zrange(scheduled, 0, 99)
    hashes = sum(client.memory_usage(wakeups.job_key(job.decode())) or 0 for job in jobs) / len(jobs)
    return hashes + (client.memory_usage(scheduled, samples=0) or 0) / client.zcard(scheduled)


def _idle(client: redis.Redis, queue: AssistantMessageQueue, count: int) -> Iterator[Row]:
    before = _empty(client)
    space = queue._door.space
    run_abreast(queue._store, (_life(space, _thread(number)) for number in range(count)))
    kinds = _kinds(client, space)
    records = _used(client) - before
    _pass_the_ttl(client)
    left = _kinds(client, space)
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
    ours = ", ".join(f"{kind} {number / count:g}" for kind, number in sorted(kinds.items()) if kind in {"message", "batch"})
    yield Row(
        group=GROUP,
        what=f"records of one answered message, within result_ttl ({TTL_S:,.0f} s)",
        here=f"{(records - used) / count:.0f} bytes",
        beside=f"keys: {ours}",
    )


def _life(space: Space, thread_id: str) -> Operation[None]:
    """A mapped thread's one message from the add to the reply, as a worker has it happen."""
    receipt = yield from producing.add(space, thread_id, _message(), AT_ONCE)
    job = receipt.job_id or ""
    yield plain("LREM", wakeups.queue_key(space.prefix), 1, job)
    yield plain("DEL", wakeups.job_key(job))
    lease = yield from holding.claim(space, thread_id, token=secrets.token_hex(8), batch_id=secrets.token_hex(12), lease_s=60)
    assert isinstance(lease, Lease), lease
    yield from holding.set_conversation(space, thread_id, f"conv_{secrets.token_hex(24)}")
    rules = ResultRules(result_ttl_s=TTL_S, keep_text=False)
    anchor = f"msg_{secrets.token_hex(24)}"
    yield from ending.finish(space, lease, guard_id=lease.guard_id, result=result_of(lease), anchor=anchor, rules=rules)


def _pass_the_ttl(client: redis.Redis) -> None:
    """What would be gone after a day is gone now; what has no lifetime stays."""
    names = list(client.scan_iter(count=1000))
    with client.pipeline(transaction=False) as pipeline:
        for name in names:
            pipeline.pttl(name)
        left = pipeline.execute()
    mortal = [name for name, ttl_ms in zip(names, left, strict=True) if ttl_ms > 0]
    for start in range(0, len(mortal), 1000):
        client.delete(*mortal[start : start + 1000])


def _kinds(client: redis.Redis, space: Space) -> Counter[str]:
    kinds: Counter[str] = Counter()
    for name in client.scan_iter(count=1000):
        first, second, *_ = name.decode().split(":")
        kinds[second if first == space.prefix else first] += 1
    return kinds
