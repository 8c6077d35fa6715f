"""Open calls of a function in a real queue: they are the queue's, in its store and its words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from assistant_queue import (
    Approval,
    AssistantMessageQueue,
    Batch,
    BatchFailed,
    FunctionBackend,
    GuestCall,
    InvalidArgument,
    OpenCalls,
    RunContext,
    SettledCall,
)
from assistant_queue.backends.function.deferral import MAX_STATE_BYTES, StoredRound
from assistant_queue.core.runs import RunEnded
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from tests.conftest import RedisServer, with_clock
from tests.contract.test_function_backend import request

CANARY = "state-of-the-agent " * 1000
"""So long that it is stored as it is, not packed."""


class Idle(Exception):
    """Nothing is due soon."""


class Clock(FakeClock):
    """A clock that no worker moves to the time when calls expire."""

    def advance(self, seconds: float) -> None:
        if seconds > 3600:
            raise Idle
        super().advance(seconds)


def work(queue: AssistantMessageQueue, clock: Clock, probe: Any = None) -> None:
    """Have a worker do all that is due soon."""
    with suppress(Idle):
        InstantWorker(queue.config, clock, probe=probe).run_until_idle()


class Agent:
    """A function that leaves calls open, round by round, and then says what came of the last."""

    def __init__(self, where: RedisServer, prefix: str, *rounds: Any, **options: Any) -> None:
        self.rounds = list(rounds)
        self.seen: list[RunContext] = []
        self.refunds: list[Any] = []
        self.stocks = 0
        self.clock = Clock()
        self.queue = with_clock(
            AssistantMessageQueue(
                backend=FunctionBackend(self.answer, history=options.pop("history", 0)),
                redis_url=where.url,
                queue_prefix=prefix,
                message_delay=0,
                **options,
            ),
            self.clock,
        )

        @self.queue.tool(approval="Look for {product}?")
        def stock(product: str) -> str:
            self.stocks += 1
            return f"7 {product}"

    async def answer(self, batch: Batch, context: RunContext) -> Any:
        self.seen.append(context)
        done = 0 if context.state is None else len(context.state) - len(CANARY)
        self.refunds += [one for one in context.settled.values() if one.verdict == "approved"]
        if done < len(self.rounds):
            made = self.rounds[done]
            return made(CANARY + "x" * (done + 1)) if callable(made) else made
        return f"done: {batch.text}"

    def work(self, probe: Any = None) -> None:
        work(self.queue, self.clock, probe)

    def add(self, text: str = "hi") -> str:
        message_id = self.queue.add_message_to_thread("t", text, author="mia").message_id
        self.work()
        return message_id

    def open(self) -> list[Approval]:
        return self.queue.list_approvals()


def asks(*calls: GuestCall) -> Any:
    return lambda state: OpenCalls(calls, state)


REFUND = GuestCall(
    call_id="call_3f0b1c2d3e4f5a6b7c8d", tool="refund", arguments={"amount": 3}, question="Pay 3?"
)
NUMBERED = GuestCall(call_id="call_0", tool="refund", arguments='{"amount": 4}')
LATER = GuestCall(call_id="call_1", tool="courier", kind="answer")
STOCK = GuestCall(call_id="call_2", tool="stock", arguments={"product": "lamp"}, kind="tool")


@pytest.fixture
def agent(one_redis: RedisServer, prefix: str) -> Iterator[Any]:
    made: list[Agent] = []

    def make(*rounds: Any, **options: Any) -> Agent:
        made.append(Agent(one_redis, f"{prefix}-{len(made)}", *rounds, **options))
        return made[-1]

    yield make
    for one in made:
        one.queue.close()


def test_open_calls_are_the_queues_and_the_function_is_given_what_came_of_them(agent: Any) -> None:
    shop: Agent = agent(asks(REFUND, NUMBERED, LATER), asks(NUMBERED))
    message_id = shop.add()
    found = {one.tool + str(one.arguments.get("amount", "")): one for one in shop.open()}
    assert {one.kind for one in found.values()} == {"approval", "answer"}
    pay = found["refund3"]
    assert (pay.call_id, pay.question, pay.authors) == (REFUND.call_id, "Pay 3?", ("mia",))
    assert found["refund4"].question is None
    assert shop.queue.get_message(message_id).approval is not None
    assert shop.queue.approve(pay.call_id, by="eve", arguments={"amount": 2})
    shop.work()
    assert len(shop.seen) == 1, "the others are open"
    assert not shop.queue.deny(pay.call_id)
    assert shop.queue.deny(found["refund4"].call_id, by="eve", reason="too much")
    assert shop.queue.answer_tool(found["courier"].call_id, {"at": "noon"})
    shop.work()
    assert shop.seen[1].settled == {
        REFUND.call_id: SettledCall(
            call_id=REFUND.call_id, verdict="approved", by="eve", arguments={"amount": 2}
        ),
        "call_0": SettledCall(call_id="call_0", verdict="denied", by="eve", reason="too much"),
        "call_1": SettledCall(call_id="call_1", verdict="answered", output='{"at":"noon"}'),
    }
    # The same id in the next round is another call.
    (again,) = shop.open()
    assert again.call_id != found["refund4"].call_id
    for _ in range(25):
        shop.clock.advance(3600)
    shop.work()
    assert shop.seen[2].settled["call_0"].verdict == "expired"
    assert shop.queue.get_message(message_id).reply == "done: hi"
    (record,) = shop.queue.get_timeline("t")
    verdicts = [(one.verdict, one.settled_by) for one in record.tool_calls]
    assert verdicts[:3] == [("approved", "eve"), ("denied", "eve"), ("answered", None)]
    assert len(shop.refunds) == 1


def test_a_tool_of_the_queue_is_called_by_the_queue(agent: Any) -> None:
    shop: Agent = agent(asks(REFUND, STOCK))
    message_id = shop.add()
    calls = {one.tool: one for one in shop.open()}
    assert calls["stock"].question == "Look for lamp?"
    assert shop.queue.approve(calls["stock"].call_id)
    shop.work()
    assert (shop.stocks, len(shop.seen)) == (1, 1)
    assert shop.queue.approve(calls["refund"].call_id)
    shop.work()
    settled = shop.seen[1].settled
    assert (settled["call_2"].verdict, settled["call_2"].output) == ("answered", "7 lamp")
    assert shop.queue.get_message(message_id).reply == "done: hi"
    assert shop.stocks == 1


def test_the_state_is_gone_with_the_batch_and_with_the_thread(
    agent: Any, one_redis: RedisServer
) -> None:
    client = redis.Redis.from_url(one_redis.url)
    shop: Agent = agent(asks(REFUND), history=4)

    def stored() -> str:
        readers: dict[bytes, Callable[[bytes], Any]] = {
            b"hash": client.hgetall,
            b"string": client.get,
            b"list": lambda key: client.lrange(key, 0, -1),
            b"set": client.smembers,
            b"zset": lambda key: client.zrange(key, 0, -1),
            b"stream": client.xrange,
        }
        keys = client.scan_iter(f"{shop.queue.config.queue_prefix}:*")
        return repr([readers[client.type(key)](key) for key in keys])

    first = shop.add()
    assert CANARY in stored()
    shop.queue.approve(REFUND.call_id)
    shop.work()
    assert shop.queue.get_message(first).reply == "done: hi"
    assert CANARY not in stored()
    shop.rounds = [asks(NUMBERED)]
    shop.add("again")
    assert [one.text for one in shop.seen[-1].history] == ["mia: hi", "done: hi"]
    assert CANARY in stored()
    shop.queue.forget_thread("t")
    assert CANARY not in stored()
    assert shop.open() == []
    client.close()


def test_what_cannot_be_left_open(agent: Any) -> None:
    shop: Agent = agent(OpenCalls([REFUND], "x" * (MAX_STATE_BYTES + 1)))
    message_id = shop.add()
    with pytest.raises(BatchFailed, match="1,000,001 bytes: expected at most 1,000,000"):
        shop.queue.wait_for_reply(message_id, 0)
    (failed,) = shop.queue.list_failed()
    assert (failed.reason, failed.error.code) == ("refused", "state_too_large")
    assert len(shop.seen) == 1, "it would be too large again"
    for calls, state in (
        ([], ""),
        ([REFUND, REFUND], ""),
        (["call"], ""),
        ([GuestCall(call_id="a", tool="b", kind="other")], ""),  # type: ignore[arg-type]
        ([GuestCall(call_id="a", tool="b", arguments=3)], ""),  # type: ignore[arg-type]
        ([REFUND], 3),
    ):
        with pytest.raises(InvalidArgument):
            OpenCalls(calls, state)  # type: ignore[arg-type]


def test_text_before_open_calls_is_part_of_the_reply(one_redis: RedisServer, prefix: str) -> None:
    async def speaks(_: Batch, context: RunContext) -> AsyncIterator[str | OpenCalls]:
        if context.state is None:
            yield "one moment"
            yield OpenCalls([REFUND], b"bytes")
        else:
            assert context.state == "bytes"
            yield "paid"

    clock = Clock()
    with with_clock(
        AssistantMessageQueue(
            backend=speaks, redis_url=one_redis.url, queue_prefix=prefix, message_delay=0
        ),
        clock,
    ) as queue:
        message_id = queue.add_message_to_thread("t", "hi").message_id
        work(queue, clock)
        queue.approve(REFUND.call_id)
        work(queue, clock)
        assert queue.get_message(message_id).reply == "one moment\n\npaid"


def test_a_worker_that_dies_anywhere_makes_no_approved_call_twice(agent: Any) -> None:
    def life(number: int) -> tuple[Agent, str, int]:
        """Let a worker die at the so-manieth point; others take over."""
        shop: Agent = agent(asks(REFUND, STOCK))
        passed = 0
        where = ""

        def probe(point: str, _: Batch) -> None:
            nonlocal passed, where
            passed += 1
            if passed == number:
                where = point
                raise Crash(point)

        message_id = shop.queue.add_message_to_thread("t", "hi").message_id
        for _ in range(6):
            try:
                shop.work(probe)
            except Crash:
                shop.clock.advance(60)
            for one in shop.open():
                shop.queue.approve(one.call_id)
        state = shop.queue.get_message(message_id).status
        fate = "parked" if state == "failed" else state
        assert fate in {"completed", "parked"}, (where, fate)
        assert len(shop.refunds) <= 1, where
        assert shop.stocks <= 2, where
        if fate == "completed":
            assert [one.call_id for one in shop.refunds] == [REFUND.call_id], where
            assert shop.queue.get_message(message_id).reply == "done: hi"
        return shop, fate, passed

    _, fate, points = life(0)
    assert fate == "completed"
    lives = [life(number) for number in range(2, points + 1, 2)]  # after each step
    ends = [fate for _, fate, _ in lives]
    # The queue's own tool may be called again if its worker died before its output was stored.
    assert sum(shop.stocks > 1 for shop, _, _ in lives) <= 2
    # Only while the function is called, or its answer is not stored, cannot be known what it did.
    assert 0 < ends.count("parked") <= 5 < ends.count("completed")


def test_a_stored_round_is_read_as_it_was_written() -> None:
    first = StoredRound().next(OpenCalls([REFUND, NUMBERED], "a"), ("text",), 1)
    assert StoredRound.load(first.dump()) == first
    second = first.next(OpenCalls([REFUND], "b"), (), 1)
    assert len(set(second.taken)) == 3
    assert second.said == ("text",)


async def test_a_function_that_could_not_read_what_came_of_its_calls_leaves_none_open() -> None:
    backend = FunctionBackend(lambda _batch: OpenCalls([REFUND]))
    *_, ended = [event async for event in backend.start(request())]
    assert isinstance(ended, RunEnded)
    assert "takes no RunContext" in str(ended.error)
