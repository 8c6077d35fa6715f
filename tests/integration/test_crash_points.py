"""Die before and after every step of a batch, recover, and look at what the provider really got."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue, Batch, RunResult
from assistant_queue.core.thread_state import Phase
from assistant_queue.store.ops import leases
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls
from assistant_queue.worker.runtime import Runtime
from tests.conftest import PATIENCE_S, RedisServer, with_clock
from tests.integration.conftest import wait_until

CHOSEN = {
    "responses": {"model": "stand-in-model"},
    "chat_completions": {"model": "stand-in-model", "protocol": "chat_completions"},
}
"""Options that make a queue speak a protocol by its model; Assistants want an assistant."""
TEXTS = ("hi", "one question", "about my order")


class Bot:
    """A queue with user functions that remember what was asked of them."""

    def __init__(
        self,
        url: str,
        prefix: str,
        provider: StandInProvider,
        protocol: str,
        *,
        rq_name: str = "",
        **options: Any,
    ) -> None:
        self.rq_name = rq_name
        self.asked: list[str] = []
        self.delivered: list[str] = []
        chosen = CHOSEN.get(protocol, {"assistant_id": provider.assistant_id})
        tool = {
            "type": "function",
            "name": "order",
            "parameters": {"type": "object", "properties": {}},
        }
        self.protocol = protocol
        self.clock = FakeClock()
        self.provider = provider
        self.queue = AssistantMessageQueue(
            redis_url=url,
            queue_prefix=prefix,
            openai_api_key=provider.api_key,
            openai_base_url=provider.base_url,
            handle_requires_action=self.handle,
            message_delay=5,
            tools=[tool] if protocol in CHOSEN else None,
            **{**chosen, **options},
        )
        self.queue = with_clock(self.queue, self.clock)

    def handle(self, _thread_id: str, _run_id: str, calls: list[Any]) -> list[dict[str, str]]:
        self.asked += [call.id for call in calls]
        return [{"tool_call_id": call.id, "output": "shipped"} for call in calls]

    def remembered(self, thread_id: str, runs: Any) -> list[str]:
        """The user texts of a thread: in the provider's one conversation, or in the history that the queue keeps."""
        if self.protocol == "chat_completions":
            return [
                message.text
                for message in self.queue.list_messages(thread_id, limit=100, order="asc")
                if message.role == "user"
            ]
        (conversation_id,) = {run.conversation_id for run in runs}
        return self.provider.user_texts(conversation_id)

    def work(self, probe: Any = None) -> None:
        InstantWorker(
            self.queue.config, self.clock, probe=probe, rq_name=self.rq_name
        ).run_until_idle()


class CrashAt:
    """Dies before the first step, or after the k-th, which is as well before the next one.

    `passed` counts the points.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.passed = 0
        self.name = ""

    def __call__(self, name: str, _: Batch) -> None:
        if self.passed and name.startswith("before "):
            return
        self.passed += 1
        if self.passed == self.number:
            self.name = name
            raise Crash(name)


def with_tools(turn: Any) -> Any:
    return (
        ToolCalls([("order", {"id": turn.round})])
        if turn.round < 2
        else Reply("done: " + " | ".join(turn.user_texts))
    )


@pytest.fixture(params=["responses", "assistants", "chat_completions"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


def crash_everywhere(
    url: str,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    *,
    earlier: tuple[str, ...] = (),
    **options: Any,
) -> list[str]:
    """For each point: run, die there, recover, and check. The points' names."""
    names: list[str] = []
    number = 0
    while True:
        number += 1
        seen = len(provider.runs)
        bot = Bot(url, f"{prefix}-{number}", provider, protocol, **options)
        if "on_reply" in options:
            bot.delivered.clear()
        with bot.queue:
            for text in earlier:
                bot.queue.add_message_to_thread("t", f"{number} {text}")
                bot.work()
            for text in TEXTS:
                bot.queue.add_message_to_thread("t", f"{number} {text}")
            crash = CrashAt(number)
            try:
                bot.work(crash)
            except Crash:
                bot.queue.add_message_to_thread("t", f"{number} late")
                bot.work()
            check(bot, number, provider.runs[seen:], crash.name, earlier=earlier)
            if not crash.name:
                return names
            names.append(crash.name)


def check(bot: Bot, number: int, runs: Any, name: str, *, earlier: tuple[str, ...] = ()) -> None:
    where = f"died at point {number}, {name}"
    texts = (*earlier, *TEXTS, "late") if name else (*earlier, *TEXTS)
    expected = [f"{number} {text}" for text in texts]
    # A tool round of Responses is its own run over the same texts: the first one carries them.
    is_round_a_run = bot.protocol != "assistants"
    answered = [
        text
        for run in runs
        if run.status == "completed" and not (is_round_a_run and run.outputs)
        for text in run.user_texts
    ]
    if (
        bot.protocol == "chat_completions"
    ):  # nothing is kept there: a reply that no worker heard may be repeated
        answered = list(dict.fromkeys(answered))
    assert answered == expected, where
    assert bot.remembered("t", runs) == expected, where
    assert bot.provider.overlaps == (), where
    assert bot.queue.list_failed() == [], where
    status = bot.queue.get_queue_status()
    assert (
        status.completed_count,
        status.active_count,
        status.waiting_count,
        status.delayed_count,
    ) == (len(expected), 0, 0, 0), where
    check_metrics(bot, len(expected), where)
    # Only a death between the function's return and the write of its outputs can ask again.
    doubled = len(bot.asked) - len(set(bot.asked))
    assert doubled == 0 or name in {"after Answer", "before Save"}, where


def check_metrics(bot: Bot, answered: int, where: str) -> None:
    """Each message, batch and call of a tool was counted once, whichever worker ended it."""
    counted = bot.queue.get_metrics()
    assert counted.messages == {
        "queued": answered,
        "answered": answered,
        "failed": 0,
        "cancelled": 0,
        "deduplicated": 0,
    }, where
    assert counted.runs_saved == answered - counted.batches["completed"], where
    assert counted.durations["run"].count == counted.batches["completed"] > 0, where
    assert counted.takeovers <= 1, where
    calls = sum(tool.calls for tool in counted.tools.values())
    assert calls == len(set(bot.asked)), where


def test_a_plain_batch_survives_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    names = crash_everywhere(one_redis.url, prefix, provider, protocol)
    assert {"after Start", "after Watch", "after Finish"} <= set(names)


def test_a_batch_that_its_claim_marks_as_sent_survives_a_death_at_every_step(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A thread with a conversation: nothing is stored between the claim and the request."""
    written: list[tuple[str, Phase]] = []
    save = leases.save

    def saved(namespace: Any, lease: Any, phase: Phase, *args: Any, **fields: Any) -> Any:
        written.append((lease.claimed.batch.id, phase))
        return save(namespace, lease, phase, *args, **fields)

    monkeypatch.setattr(leases, "save", saved)
    names = crash_everywhere(one_redis.url, prefix, provider, protocol, earlier=("before",))
    assert {"after Save", "after Start", "after Watch", "after Finish"} <= set(names)
    last = written[-1][0]
    assert [phase for batch, phase in written if batch == last] == [Phase.RUNNING]


def test_tool_rounds_survive_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    provider.model = with_tools
    names = crash_everywhere(one_redis.url, prefix, provider, protocol)
    assert {"after Answer", "after Submit"} <= set(names)


def test_the_concurrent_workers_records_survive_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    """The same with RQ's records of each job kept.

    Only the records of jobs that lost their worker are left, and they expire.
    """
    provider.model = with_tools
    with redis.Redis.from_url(one_redis.url) as client:
        names = crash_everywhere(
            one_redis.url, prefix, provider, "responses", rq_name=f"worker-of-{prefix}"
        )
        left = list(client.scan_iter(match=f"rq:wip:{prefix}-*", count=1000))
        assert all(client.zcard(key) <= 1 for key in left)
        assert len(left) <= len(names)
        for key in client.scan_iter(match="rq:execution*", count=1000):
            assert client.ttl(key) > 0, key
    assert {"after Answer", "after Submit", "after Finish"} <= set(names)


def test_a_delivery_survives_a_death_at_every_step(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    delivered: list[str] = []
    names = crash_everywhere(
        one_redis.url,
        prefix,
        provider,
        "responses",
        on_reply=lambda result: delivered.append(result.batch_id),
    )
    assert {"after Deliver", "after Delivered"} <= set(names)
    # One for each scenario and, after a death, one for the late message; a death after `on_reply`
    # may deliver again, never less.
    assert len(set(delivered)) == 2 * len(names) + 1


class DiesOnTheWayBack:
    """The first worker dies in `on_reply`, and each one after it before it has called that again."""

    def __init__(self, most: int) -> None:
        self.deaths = 0
        self._most = most

    def __call__(self, name: str, _: Batch) -> None:
        if (
            name == ("after Deliver" if self.deaths == 0 else "before EnterExclusive")
            and self.deaths < self._most
        ):
            self.deaths += 1
            raise Crash(name)


def test_a_delivery_is_repeated_however_many_workers_die_on_the_way_to_it(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    """Only a death in `on_reply` itself can be its fault; three others in a row once had the reply given up."""
    delivered: list[str] = []
    bot = Bot(
        one_redis.url,
        prefix,
        provider,
        "responses",
        on_reply=lambda result: delivered.append(result.reply),
    )
    with bot.queue as queue:
        queue.add_message_to_thread("t", "hi")
        dying = DiesOnTheWayBack(most=8)
        lived = False
        while not lived:
            try:
                bot.work(dying)
                lived = True
            except Crash:
                assert len(delivered) == 1
        assert dying.deaths == 8
        assert delivered == ["You said: hi"] * 2
        assert queue.list_failed() == []


class Suspects(Bot):
    """A bot with a function that waits for both suspects.

    Called for one suspect, it waits until the other wants to be called, too.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.trace: list[tuple[str, str]] = []
        self.both_want = asyncio.Event()
        super().__init__(*args, **options)

    def watch(self, name: str, batch: Batch) -> None:
        self.trace.append((name, batch.thread_id))
        if [name for name, _ in self.trace].count("before EnterExclusive") == 2:
            self.both_want.set()

    async def handle(self, _thread_id: str, _run_id: str, calls: list[Any]) -> list[dict[str, str]]:  # type: ignore[override]
        await self.both_want.wait()
        await asyncio.sleep(0)
        return [{"tool_call_id": call.id, "output": "shipped"} for call in calls]


def test_two_suspects_in_one_process_are_called_one_after_the_other(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    """Called together, they would be convicted of each other's deaths."""
    provider.model = lambda turn: ToolCalls([("order", {})]) if turn.round == 0 else Reply("done")

    def die(name: str, _: Batch) -> None:
        if name == "before Answer":
            raise Crash(name)

    bot = Suspects(one_redis.url, prefix, provider, "responses", lock_duration=30.0)

    async def both() -> None:
        runtime = Runtime(bot.queue.config, clock=bot.clock)
        runtime.watch_steps(bot.watch)
        try:
            await asyncio.gather(runtime.handle("a"), runtime.handle("b"))
        finally:
            await runtime.close()

    with bot.queue as queue:
        for thread in ("a", "b"):
            queue.add_message_to_thread(thread, f"hi {thread}")
            with pytest.raises(Crash):
                bot.work(die)
        bot.clock.advance(31)
        asyncio.run(both())
        assert queue.get_queue_status().completed_count == 2
    called = [
        (name, thread)
        for name, thread in bot.trace
        if name in {"after EnterExclusive", "after Answer"}
    ]
    first = called[0][1]
    second = called[2][1]
    assert {first, second} == {"a", "b"}
    assert called == [
        ("after EnterExclusive", first),
        ("after Answer", first),
        ("after EnterExclusive", second),
        ("after Answer", second),
    ]


@pytest.mark.parametrize("point", ["after Deliver", "before Postpone", "after Postpone"])
def test_a_delivery_that_was_given_up_and_returned_is_not_repeated_after_a_death(
    one_redis: RedisServer, prefix: str, point: str
) -> None:
    calls: list[str] = []
    let_go = threading.Event()
    clock = FakeClock()

    def on_reply(result: RunResult) -> None:
        calls.append(result.batch_id)
        assert let_go.wait(PATIENCE_S)

    def dies(name: str, batch: Batch) -> None:
        if name == point and not let_go.is_set():
            let_go.set()
            wait_until(
                lambda: queue._store.client.get(f"{prefix}:delivery:{batch.id}") == b"done",
                "the call has returned",
            )
            raise Crash(name)

    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0,
        "callback_timeout": 0.02,
    }
    with with_clock(
        AssistantMessageQueue(**options, backend=lambda batch: batch.text, on_reply=on_reply), clock
    ) as queue:
        queue.add_message_to_thread("t", "hello")
        with pytest.raises(Crash):
            InstantWorker(queue.config, clock, probe=dies).run_until_idle()
        InstantWorker(queue.config, clock).run_until_idle()
        assert queue.get_thread_status("t").state == "idle"
    assert len(calls) == 1
