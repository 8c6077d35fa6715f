"""Rows about batches that wait for an approval: how soon it is obeyed, and what a parked one keeps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from assistant_queue import AssistantMessageQueue
from assistant_queue.store.wakeups import job_key
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from tests.benchmarks.bench import Bench, wait_until
from tests.benchmarks.measuring import quantile
from tests.benchmarks.steering import Noted
from tests.benchmarks.table import Row

GROUP = "approvals"
APPROVE_MS = 20.0
MOST_BYTES = 1000
TEXT = "please refund what I paid"


def model(turn: Turn) -> Any:
    """Call the tool once."""
    return Reply("done") if turn.round else ToolCalls([("refund", {"amount": 3})])


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    bench.provider.model = model
    bench.client.flushall()
    taken_ms: list[float] = []
    kept: list[tuple[int, int]] = []
    with AssistantMessageQueue(**bench.options(message_delay=0)) as queue:

        @queue.tool(approval="Refund {amount}?")
        def refund(amount: int) -> str:
            return f"refunded {amount}"

        creates = Noted(bench, "responses.create")
        queue.start_worker()
        for number in range(bench.sizes.asyncio_samples):
            thread = f"approve {number}"
            call_id = _parked(queue, thread)
            kept.append(_bytes_of(bench, queue, thread, call_id))
            taken_ms.append(creates.ms_after(lambda one=call_id: queue.approve(one)))
            wait_until(lambda one=thread: _is_idle(queue, one), "it is answered")
    bench.provider.clear_faults()
    p50, p99 = quantile(taken_ms, 0.5), quantile(taken_ms, 0.99)
    yield Row(
        group=GROUP,
        what="approve -> outputs submitted, responses",
        here=f"p50 {p50:.1f} ms, p99 {p99:.1f} ms",
        target=f"p50 <= {APPROVE_MS:g} ms",
        met=p50 <= APPROVE_MS,
    )
    most = max(own for own, _ in kept)
    around = max(rest for _, rest in kept)
    yield Row(
        group=GROUP,
        what="Redis' memory of a parked batch, texts and record of the message aside",
        here=f"{most} bytes",
        beside=f"what every message that waits has: {around} bytes",
        target=f"<= {MOST_BYTES} bytes",
        met=most <= MOST_BYTES,
    )


def _is_idle(queue: AssistantMessageQueue, thread: str) -> bool:
    return queue.get_thread_status(thread).state == "idle"


def _parked(queue: AssistantMessageQueue, thread: str) -> str:
    queue.add_message_to_thread(thread, TEXT, message_id=f"{thread}-m")
    wait_until(lambda: queue.get_thread_status(thread).state == "parked", "it is parked")
    (found,) = queue.list_approvals(thread_id=thread)
    return found.call_id


def _bytes_of(
    bench: Bench, queue: AssistantMessageQueue, thread: str, call_id: str
) -> tuple[int, int]:
    """Return the memory of a parked batch without its texts, and of what a waiting message has."""
    client = bench.client
    keys = queue.core.namespace.keys

    def used_by(*names: str | bytes) -> int:
        # Of a long hash, Redis would guess from a few values, of which one may be long.
        return sum(int(client.memory_usage(name, samples=0) or 0) for name in names)

    used = used_by(keys.thread(thread), keys.frozen(thread), keys.call(call_id))
    wake = str(client.hget(keys.thread(thread), "wake"), "ascii")
    around = used_by(keys.message(f"{thread}-m"), keys.conversation(thread), job_key(wake))
    # Its message; the call's arguments, twice: in its record and in the batch's progress; question.
    texts = len(TEXT) + 2 * len('{"amount": 3}') + len("Refund 3?")
    return used - texts, around
