"""Rows that count: our commands for a batch of five under each worker, beside RQ's own, and HTTP calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from assistant_queue import AssistantMessageQueue
from tests.benchmarks.bench import PREFIX, TEXT, WORKERS, Bench, wait_until
from tests.benchmarks.proxy import Commands, Relay
from tests.benchmarks.raw_rq import perform
from tests.benchmarks.table import Row

GROUP = "counting"
COMMANDS = {"asyncio": 30, "forking": 15}
"""Under the asyncio worker RQ's records are ours to write, and counted."""
BATCH = 5
SET_UP = frozenset({b"HELLO", b"CLIENT", b"AUTH", b"SELECT"})
PROTOCOLS = ("responses", "assistants")


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    alone = _rq_alone(bench)
    for kind in WORKERS:
        yield from _commands(bench, kind, alone)
    yield Row(
        group=GROUP,
        what="raw RQ: commands of an empty job, enqueue and perform, connections set up",
        here=f"{alone:.1f}",
    )
    for protocol in PROTOCOLS:
        yield _http_calls(bench, protocol)


def _burst(queue: AssistantMessageQueue, thread_id: str) -> None:
    """Five messages, and the end of their run; looking costs none of our commands that a program would send."""
    for number in range(BATCH):
        queue.add_message_to_thread(thread_id, f"{TEXT} ({number})")


def _answered(bench: Bench, queue: AssistantMessageQueue, batches: int) -> None:
    counters = f"{PREFIX}:counters"
    thread = f"{PREFIX}:thread:*"
    wait_until(
        lambda: (
            int(bench.client.hget(counters, "completed") or 0) == batches * BATCH
            and not bench.client.keys(thread)
        ),
        f"{batches} batches of {queue!r} are answered",
    )


def _commands(bench: Bench, kind: str, alone: float) -> Iterator[Row]:
    relay = Relay(bench.redis_port, count=True)
    options = bench.options(redis_url=relay.url)
    with bench.queue(redis_url=relay.url) as queue, bench.worker(kind, options, url=relay.url):
        _burst(queue, "warm")  # connections, scripts, the conversation
        _answered(bench, queue, 1)
        relay.take()
        for batch in range(2, bench.sizes.batches + 2):
            _burst(queue, "warm")
            _answered(bench, queue, batch)
        sent = relay.take()
    relay.close()
    ours, theirs, set_up = _sorted(sent, all_ours=kind == "asyncio")
    batches = bench.sizes.batches
    each = sum(ours.values()) / batches
    names = ", ".join(f"{name} {calls / batches:.1f}" for name, calls in ours.most_common())
    beside = (
        f"RQ's own {sum(theirs.values()) / batches:.1f}"
        if kind == "forking"
        else f"a raw RQ job a message {BATCH * alone:.0f}"
    )
    yield Row(
        group=GROUP,
        what=f"our commands, a batch of five, {kind} worker",
        here=f"{each:.1f}",
        beside=beside,
        ratio=each / (sum(theirs.values()) / batches if kind == "forking" else BATCH * alone),
        target=f"<= {COMMANDS[kind]}",
        met=each <= COMMANDS[kind],
    )
    yield Row(group=GROUP, what="  of these", here=names)
    yield Row(
        group=GROUP,
        what="  beside them, to set up our connections",
        here=f"{set_up / batches:.1f}",
    )


def _sorted(sent: Commands, *, all_ours: bool) -> tuple[Counter[str], Counter[str], int]:
    """Ours, RQ's, and what sets up our connections; ours name a key of the prefix, what else passes under RQ's worker is RQ's."""
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    set_up: Counter[int] = Counter()
    own_connections = set()
    own = f"{PREFIX}:".encode()
    for connection, command in sent:
        name = command[0].upper()
        if name in SET_UP:
            set_up[connection] += 1
        elif all_ours or any(word.startswith(own) for word in command[1:]):
            ours[name.decode()] += 1
            own_connections.add(connection)
        else:
            theirs[name.decode()] += 1
    mine = sum(count for connection, count in set_up.items() if connection in own_connections)
    theirs["set up"] += set_up.total() - mine
    return ours, theirs, mine


def _rq_alone(bench: Bench) -> float:
    relay = Relay(bench.redis_port, count=True)
    bench.client.flushall()
    with bench.worker("rq", {"queue_prefix": "raw"}, url=relay.url):
        perform(relay.url, 1)
        relay.take()
        jobs = bench.sizes.batches
        perform(relay.url, jobs)
        sent = relay.take()
    relay.close()
    return sum(command[0].upper() != b"XREAD" for _, command in sent) / jobs


def _http_calls(bench: Bench, protocol: str) -> Row:
    chosen = {} if protocol == "responses" else {"assistant_id": bench.provider.assistant_id}
    with bench.queue(**chosen) as queue:
        worker = queue.start_worker()
        _burst(queue, "warm")  # creates the conversation
        _answered(bench, queue, 1)
        before = len(bench.provider.requests)
        for batch in range(2, bench.sizes.batches + 2):
            _burst(queue, "warm")
            _answered(bench, queue, batch)
        requests = bench.provider.requests[before:]
        worker.stop()
    each = len(requests) / bench.sizes.batches
    names = ", ".join(sorted({request.op for request in requests}))
    return Row(
        group=GROUP,
        what=f"HTTP calls, a batch of five without tools, {protocol}",
        here=f"{each:g} ({names})",
        beside=f"a run a message: {BATCH}",
        ratio=each / BATCH,
        target="= 1",
        met=each == 1,
    )
