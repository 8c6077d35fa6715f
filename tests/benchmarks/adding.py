"""Rows about adding: one message into an open window beside a PING of the same client, and beside raw RQ."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import redis
import rq

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.client.judging import judge
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.measuring import compare, compare_rounds, quantile
from tests.benchmarks.raw_rq import JOB
from tests.benchmarks.table import Row

GROUP = "adding"
SHARE = 0.7
BULK = 20_000
IN_FLIGHT = 50
PIPELINED = 250
LINK_S = 0.0005
_SIX_COMMANDS = """
redis.call('HMGET', KEYS[1], 'a', 'b')
redis.call('HGETALL', KEYS[2])
redis.call('RPUSH', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[1], 'a', ARGV[2])
redis.call('HINCRBY', KEYS[4], 'b', 1)
redis.call('DEL', KEYS[3])
return {'added', 1}"""


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    with bench.queue(message_delay=3600) as queue:
        yield _round_trips(bench, queue)
        yield from _beside_ping(bench, queue)
        yield from _many(bench, queue)
    yield asyncio.run(_in_flight(bench))
    with bench.far_redis(LINK_S) as url, bench.queue(message_delay=3600, redis_url=url) as queue:
        (far,) = compare(
            queue._store.client.ping,
            [_add(queue)],
            rounds=max(2, bench.sizes.rounds // 2),
            calls=bench.sizes.calls,
        )
        yield Row(
            group=GROUP,
            what=f"add, with Redis behind a relay that delays each answer by {LINK_S * 1000:g} ms",
            here=f"{far.subject_us:.0f} us",
            beside=f"PING {far.baseline_us:.0f} us",
            ratio=far.ratio,
            spread=far.spread,
        )


def _add(queue: AssistantMessageQueue) -> Callable[[], object]:
    return lambda: queue.add_message_to_thread("customer-4711", TEXT)


def _prepare(queue: AssistantMessageQueue) -> object:
    """An add up to the moment at which it would be sent."""
    row = queue._commands.make(
        "customer-4711", TEXT, None, message_id=None, author=None, metadata=None
    )
    return next(queue._commands.add_one(judge(queue.config, row)))


def _round_trips(bench: Bench, queue: AssistantMessageQueue) -> Row:
    _add(queue)()
    before = _calls(bench.client)
    count = bench.sizes.calls
    for _ in range(count):
        _add(queue)()
    after = _calls(bench.client) - before
    sent = after["evalsha"] + after["eval"] + after["ping"]
    inside = Counter(
        {
            name: calls
            for name, calls in after.items()
            if name not in {"evalsha", "eval", "ping", "info"}
        }
    )
    names = ", ".join(f"{name} {calls / count:g}" for name, calls in inside.most_common())
    return Row(
        group=GROUP, what="round trips of an add into an open window", here=f"{sent / count:g}", beside=f"inside the script: {names}",
        target="= 1", met=sent == count,
    )  # fmt: skip


def _calls(client: redis.Redis) -> Counter[str]:
    return Counter(
        {
            name.removeprefix("cmdstat_"): stat["calls"]
            for name, stat in client.info("commandstats").items()
        }
    )


def _many(bench: Bench, queue: AssistantMessageQueue) -> Iterator[Row]:
    """`add_messages`, beside PINGs in pipelines of the same length."""
    count = bench.sizes.bulk
    client = queue._store.client
    rows = [{"thread_id": f"customer-{number // 5}", "message": TEXT} for number in range(count)]

    def ping() -> float:
        start = time.perf_counter()
        for _ in range(0, count, PIPELINED):
            with client.pipeline(transaction=False) as pipeline:
                for _ in range(PIPELINED):
                    pipeline.ping()
                pipeline.execute()
        return (time.perf_counter() - start) / count

    def add() -> float:
        start = time.perf_counter()
        queue.add_messages(rows)
        return (time.perf_counter() - start) / count

    (bulk,) = compare_rounds(lambda: [ping() * 1e6, add() * 1e6], max(2, bench.sizes.rounds // 4))
    rate = 1e6 / bulk.subject_us
    yield Row(
        group=GROUP, what=f"add_messages of {count:,}, messages a second", here=f"{rate:,.0f} /s",
        beside=f"PING in pipelines {1e6 / bulk.baseline_us:,.0f} /s", ratio=1 / bulk.ratio, spread=(1 / bulk.spread[1], 1 / bulk.spread[0]),
        target=f">= {BULK:,} /s", met=rate >= BULK,
    )  # fmt: skip


async def _in_flight(bench: Bench) -> Row:
    """Adds of the asyncio class, fifty at a time, beside PINGs of redis-py's asyncio client."""
    count = bench.sizes.bulk // 4
    bench.client.flushall()

    async def timed(call: Callable[[int], Awaitable[object]]) -> float:
        numbers = iter(range(count))

        async def work() -> None:
            for number in numbers:
                await call(number)

        start = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        return count / (time.perf_counter() - start)

    async with AsyncAssistantMessageQueue(**bench.options(message_delay=3600)) as queue:
        await timed(
            lambda number: queue.add_message_to_thread(f"customer-{number % IN_FLIGHT}", TEXT)
        )
        figures = [
            (
                await timed(
                    lambda number: queue.add_message_to_thread(
                        f"customer-{number % IN_FLIGHT}", TEXT
                    )
                ),
                await timed(lambda _: queue._store.client.ping()),
            )
            for _ in range(max(2, bench.sizes.rounds // 4))
        ]
    ratios = [added / pinged for added, pinged in figures]
    added, pinged = (statistics.median(column) for column in zip(*figures, strict=True))
    return Row(
        group=GROUP, what=f"adds a second, {IN_FLIGHT} in flight, asyncio class", here=f"{added:,.0f} /s",
        beside=f"PING, {IN_FLIGHT} in flight {pinged:,.0f} /s", ratio=statistics.median(ratios),
        spread=(quantile(ratios, 0.25), quantile(ratios, 0.75)),
    )  # fmt: skip


def _beside_ping(bench: Bench, queue: AssistantMessageQueue) -> Iterator[Row]:
    client = queue._store.client
    floor = client.script_load(_SIX_COMMANDS)
    raw = rq.Queue("raw", connection=client)
    subjects = [
        _add(queue),
        lambda: (_prepare(queue), client.ping()),
        lambda: queue.add_message_to_thread("customer-4712", TEXT, message_id="the same"),
        lambda: client.execute_command("EVALSHA", floor, 4, "f1", "f2", "f3", "f4", TEXT, "x"),
        lambda: raw.enqueue(JOB, "customer-4711"),
    ]
    add, prepared, again, bare, enqueue = compare(
        client.ping, subjects, rounds=bench.sizes.rounds, calls=bench.sizes.calls
    )
    ping = f"PING {add.baseline_us:.0f} us"
    yield Row(
        group=GROUP, what="add into an open window", here=f"{add.subject_us:.0f} us", beside=ping, ratio=add.ratio, spread=add.spread,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="adds a second, one after another", here=f"{1e6 / add.subject_us:,.0f} /s",
        beside=f"PING {1e6 / add.baseline_us:,.0f} /s", ratio=1 / add.ratio, target=f">= {SHARE}", met=1 / add.ratio >= SHARE,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="what the client does for an add, then a PING", here=f"{prepared.subject_us:.0f} us", beside=ping,
        ratio=prepared.ratio, spread=prepared.spread,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="add of a message that is known already", here=f"{again.subject_us:.0f} us", beside=ping, ratio=again.ratio,
        spread=again.spread,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="floor: a bare EVALSHA of six commands", here=f"{bare.subject_us:.0f} us", beside=ping, ratio=bare.ratio,
        spread=bare.spread,
    )  # fmt: skip
    yield Row(
        group=GROUP, what="raw RQ: enqueue of an empty job", here=f"{enqueue.subject_us:.0f} us", beside=ping, ratio=enqueue.ratio,
        spread=enqueue.spread,
    )  # fmt: skip
