"""`python -m tests.benchmarks.journal`: what the journal costs, on against off.

The scripts of many batches are sent in pipelines, in turns with the journal and without it, and the
CPU of the server is read between them (`script_cost`). Commands that run inside the scripts are
counted by Redis. The bytes are those of `MEMORY USAGE` over a full journal.
"""

from __future__ import annotations

import argparse
import secrets
import string
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import redis

from assistant_queue.clock import SystemClock
from assistant_queue.core.account import answering, timeline_of
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import AttemptRow, ToolRow
from assistant_queue.models import Message, RunResult, Usage
from assistant_queue.store.calls import JournalRules, Namespace, Operation
from assistant_queue.store.ops import leases, outcomes, producing, reply_outbox
from assistant_queue.store.ops.leases import Lease
from assistant_queue.store.ops.outcomes import DeliveryWish, ResultRules
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.store.transport.stores import SyncStore
from tests.benchmarks.bench import PREFIX, TEXT, Bench
from tests.benchmarks.depth import AT_ONCE, result_of
from tests.benchmarks.measuring import run_abreast
from tests.benchmarks.redis_profile import redis_cpu_s
from tests.benchmarks.sizes import FULL
from tests.benchmarks.table import Row

ENTRIES = 200
"""As many as are kept."""
TARGET = 400
RULES = ResultRules(result_ttl_s=86_400.0, keep_text=False)
RUN_MS = 1_400
AUTHOR = "Ann"
LETTERS = string.ascii_letters + string.digits
USAGE = Usage(
    input_tokens=1_234,
    output_tokens=156,
    total_tokens=1_390,
    rounds=2,
    model="gpt-4o-mini-2024-07-18",
    service_tier="default",
)


def rows(client: redis.Redis) -> Iterator[Row]:
    """Bytes of an entry: of the smallest batch, and of one with everything."""
    for what, shape in (
        ("one message", {"messages": 1, "tools": 0, "delivers": False}),
        ("four messages, a tool call, a delivery", {"messages": 4, "tools": 1, "delivers": True}),
    ):
        each = bytes_of_an_entry(client, **shape)
        yield Row(
            group="memory",
            what=f"an entry of the journal, {what} ({ENTRIES})",
            here=f"{each:.0f} bytes",
            target=f"<= {TARGET}",
            met=each <= TARGET,
        )


def bytes_of_an_entry(client: redis.Redis, *, messages: int, tools: int, delivers: bool) -> float:
    """Fill the journal of a thread with such batches; return the bytes of each."""
    client.flushall()
    store = SyncStore(client)
    namespace = Namespace(PREFIX, SystemClock())
    for _ in range(ENTRIES):
        lease = store.run(_claimed(namespace, "whatsapp:491511", messages))
        held = store.run(_finished(namespace, lease, tools=tools, delivers=delivers))
        if held is not None:
            store.run(_delivered(namespace, held))
    key = namespace.keys.journal("whatsapp:491511")
    return float(client.memory_usage(key, samples=0) or 0) / client.llen(key)


def _claimed(namespace: Namespace, thread_id: str, messages: int = 1) -> Operation[Lease]:
    for _ in range(messages):
        message = Message(id=secrets.token_hex(12), content=TEXT, author=AUTHOR)
        yield from producing.add(namespace, thread_id, message, AT_ONCE)
    lease = yield from leases.claim(
        namespace, thread_id, token=secrets.token_hex(8), batch_id=secrets.token_hex(12), lease_s=60
    )
    assert isinstance(lease, Lease), lease
    return lease


def _finished(
    namespace: Namespace, lease: Lease, *, tools: int = 0, delivers: bool = True
) -> Operation[DeliveryLease | None]:
    wish = DeliveryWish(token=secrets.token_hex(8), lease_s=60) if delivers else None
    start = lease.claimed.claimed_ms
    calls = [
        ToolRow(
            name="get_weather",
            ms=850,
            call_id="call_" + "".join(secrets.choice(LETTERS) for _ in range(24)),
            started_ms=start + 500,
        )
    ]
    item = f"msg_{secrets.token_hex(24)}"
    ended = yield from outcomes.finish(
        namespace,
        lease,
        guard_id=lease.guard_id,
        result=_result(lease),
        anchor=item,
        rules=RULES,
        tools=calls[:tools],
        shown=[item],
        delivery=wish,
    )
    return ended.delivery


def _result(lease: Lease) -> RunResult:
    """A result as a worker has it: two rounds in a second and a half."""
    start = lease.claimed.claimed_ms
    run_id = f"resp_{secrets.token_hex(24)}"
    result = answering(result_of(lease), lease.claimed.batch)
    row = AttemptRow(
        number=1,
        started_ms=start + 2,
        ended_ms=start + RUN_MS - 4,
        worker="worker-7d9f:41273",
        run_id=run_id,
    )
    progress = Progress(run_sent_ms=start + 12, first_text_ms=start + 950, tries=(row,))
    timeline = timeline_of(
        result.messages, progress, claimed_ms=start, due_ms=start - 3, completed_ms=start + RUN_MS
    )
    return replace(
        result,
        run_id=run_id,
        usage=USAGE,
        model=USAGE.model,
        timeline=timeline,
        started_at=moment(start),
        ended_at=moment(start + RUN_MS),
    )


def _delivered(namespace: Namespace, lease: DeliveryLease) -> Operation[Any]:
    return reply_outbox.delivered(
        namespace,
        lease,
        lease.guard_id,
        result_ttl_s=RULES.result_ttl_s,
        lease_s=60,
        takes_next=False,
        state=DeliveryState(part_ids=("100123",)),
        channel="telegram",
    )


class Turns:
    """Batches with one kind of rules: CPU and commands of the scripts that write a journal."""

    def __init__(self, client: redis.Redis, prefix: str, most: int, batches: int) -> None:
        self._client = client
        self._store = SyncStore(client)
        rules = JournalRules(most=most)
        self._namespace = Namespace(prefix, SystemClock(), journal=rules)
        self._threads = [f"customer-{number}" for number in range(batches)]
        self.us: list[float] = []
        self.commands = 0.0

    def turn(self) -> None:
        """Take a batch of every thread from its end to its delivery; the claims are not counted."""
        namespace = self._namespace
        held = run_abreast(self._store, [_claimed(namespace, one) for one in self._threads])
        ends = [_finished(namespace, lease) for lease in held]
        calls_before = _commands(self._client)
        cpu_before = redis_cpu_s(self._client)
        deliveries = run_abreast(self._store, ends)
        run_abreast(self._store, [_delivered(namespace, one) for one in deliveries])
        self.us.append((redis_cpu_s(self._client) - cpu_before) / len(held) * 1e6)
        self.commands = (_commands(self._client) - calls_before) / len(held)


def _commands(client: redis.Redis) -> int:
    """Commands so far, those inside scripts included."""
    found = client.info("commandstats")
    return sum(int(one["calls"]) for name, one in found.items() if name != "cmdstat_info")


def main() -> None:
    """Print bytes, and microseconds and commands of `finish` and `delivered`, on against off."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.journal", description=__doc__)
    parser.add_argument("--batches", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=8)
    told = parser.parse_args()
    with Bench(FULL) as bench:
        for messages in (1, 4):
            for tools, delivers in ((0, False), (1, False), (1, True)):
                each = bytes_of_an_entry(
                    bench.client, messages=messages, tools=tools, delivers=delivers
                )
                sys.stdout.write(
                    f"{messages} message(s), {tools} tool call(s), {int(delivers)} delivery: "
                    f"{each:.0f} bytes\n"
                )
        bench.client.flushall()
        on = Turns(bench.client, "on", ENTRIES, told.batches)
        off = Turns(bench.client, "off", 0, told.batches)
        for number in range(told.rounds + 1):
            for one in (on, off) if number % 2 else (off, on):
                one.turn()
    for name, one in (("on", on), ("off", off)):
        sys.stdout.write(
            f"journal {name}: {min(one.us[1:]):.1f} us of Redis' CPU, {one.commands:.1f} commands\n"
        )


if __name__ == "__main__":
    main()
