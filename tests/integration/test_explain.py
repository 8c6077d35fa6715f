"""`assistant-queue explain` beside real workers, for messages without an answer."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    RetryLater,
    RunResult,
    Undeliverable,
)
from assistant_queue.cli import main
from assistant_queue.core.explaining import of_workers
from assistant_queue.store import wakeups
from assistant_queue.store.ops.rq_signs import read_signs
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls, Turn, refuse
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import Service, wait_until

Explain = Callable[[str], str]


@pytest.fixture
def options(one_redis: RedisServer, prefix: str, provider: StandInProvider) -> dict[str, Any]:
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0,
        "max_attempts": 1,
        "concurrency": 1,
    }


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Lets the functions of the test return."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def explain(one_redis: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Explain:
    """The command's output, with single spaces."""
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)

    def run(name: str) -> str:
        words = ["explain", name, "--redis-url", one_redis.url, "--prefix", prefix]
        told = CliRunner().invoke(main, words)
        assert told.exit_code == told.output.startswith("unknown"), told.output
        return " ".join(told.output.split())

    return run


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A due thread is late from its first moment on: two seconds less for a test to wait."""
    monkeypatch.setattr(of_workers, "BRIEF_MS", 0)


def deliver(result: RunResult) -> None:
    if "gone" in str(result.reply):
        raise Undeliverable("the chat is gone")
    if "later" in str(result.reply):
        raise RetryLater(60)


def model(turn: Turn) -> Any:
    said = " ".join(turn.user_texts)
    wants_tool = "refund" in said and not turn.round
    return ToolCalls([("refund", {})]) if wants_tool else Reply(f"You said: {said}")


class Operator:
    """Adds messages, each in its own thread, and asks the command about them."""

    def __init__(self, queue: AssistantMessageQueue, explain: Explain) -> None:
        self.queue = queue
        self.explain = explain

    def add(self, text: str) -> str:
        return self.queue.add_message_to_thread(text, text, message_id=f"m-{text}").message_id

    def answer(self, name: str, verdict: str) -> str:
        """Return the words of the command once it has this verdict."""
        return wait_until(
            lambda: (said := self.explain(name)).startswith(f"{verdict}:") and said, verdict
        )


@pytest.mark.usefixtures("at_once")
def test_an_operator_finds_why_each_message_has_no_answer(
    options: dict[str, Any], provider: StandInProvider, explain: Explain
) -> None:
    provider.model = model
    with (
        AssistantMessageQueue(**options, on_reply=deliver) as queue,
        AssistantMessageQueue(**{**options, "message_delay": 600}) as slow,
    ):
        operator = Operator(queue, explain)
        hello = operator.add("hello")
        assert "0 worker(s) are registered" in operator.answer(hello, "no_worker")
        slow.add_message_to_thread("windowed", "hello", message_id="m-window")
        assert "no worker is alive either" in operator.answer("m-window", "window_open")
        queue.start_worker()
        assert "the delivery was confirmed at" in operator.answer(hello, "delivered")
        assert "no worker" not in operator.answer("m-window", "window_open")
        slow.cancel("m-window")
        operator.answer("m-window", "cancelled")
        operator.answer("m-never", "unknown")
        queue.pause("paused")
        assert "resume paused" in operator.answer(operator.add("paused"), "thread_paused")
        said = operator.answer(operator.add("gone"), "undelivered")
        assert "the chat is gone" in said
        assert "the next try is at" in operator.answer(operator.add("later"), "delivery_retrying")
        provider.fault("responses.create", refuse(429, retry_after=70))
        said = operator.answer(operator.add("limited"), "backing_off")
        assert "after 1 attempt(s), of which 1 do not count; the last failure is" in said
        assert "the next attempt is made at" in said
        queue.add_message_to_thread("limited", "and?", message_id="m-behind")
        said = operator.answer("m-behind", "backing_off")
        assert "an earlier batch of its thread is before it" in said
        provider.fault("responses.create", refuse(401))
        said = operator.answer(operator.add("refused"), "failed")
        assert "as refused" in said
        assert "assistant-queue failed retry" in said
        operator.answer("refused", "failed")  # by the thread's id


@pytest.mark.usefixtures("at_once")
def test_an_operator_sees_which_function_holds_all_workers(
    options: dict[str, Any], provider: StandInProvider, released: threading.Event, explain: Explain
) -> None:
    provider.model = model
    with AssistantMessageQueue(**options) as queue:

        @queue.tool
        def refund() -> str:
            """Refund."""
            released.wait(PATIENCE_S)
            return "refunded"

        operator = Operator(queue, explain)
        worker = queue.start_worker()
        said = operator.answer(operator.add("refund"), "user_code")
        assert "refund is being called since" in said
        assert f":{os.getpid()} has it" in said
        waits = queue.add_message_to_thread("slow", "refund", message_id="m-slow")
        assert waits.job_id is not None
        assert "is one of this thread" in operator.answer(waits.job_id, "workers_full")
        queue.cancel("m-slow")
        full = operator.add("full")
        said = operator.answer(full, "workers_full")
        assert "due thread(s) stand before it" in said
        assert "1 worker(s) are registered" in said
        queue.pause()
        operator.answer(full, "queue_paused")
        queue.resume()
        released.set()
        operator.answer(full, "answered")
        worker.stop()
        operator.answer(operator.add("late"), "no_worker")  # it has unregistered


async def test_the_asyncio_class_explains_likewise(options: dict[str, Any]) -> None:
    async with AsyncAssistantMessageQueue(**options) as queue:
        receipt = await queue.add_message_to_thread("t", "hello")
        found = await queue.explain(receipt.message_id)
        assert (found.verdict, found.thread_id) == ("no_worker", "t")
        assert str(found).startswith("No worker is alive: it was added at ")
        assert str(found).endswith("of the program that adds the messages.")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("service", ["concurrent", "stock"], indirect=True)
def test_a_killed_worker_differs_from_one_that_may_be_busy(
    service: Service, explain: Explain
) -> None:
    queue = service.start(message_delay=0)
    assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
    (process,) = service.processes
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    leader = queue.core.namespace.keys.leader
    wait_until(lambda: not service.client.exists(leader), "the leader's term ends")
    queue.add_message_to_thread("t", "hello?", message_id="m")
    said = explain("m")
    # RQ's own worker has no scheduler: it may be busy for as long as it beats.
    assert said.startswith("workers_full" if service.kind == "stock" else "no_worker")
    assert "1 worker(s) are registered, the last sign of one is" in said
    assert "and no scheduler leads" in said


@pytest.mark.parametrize("service", ["concurrent", "forking", "asyncio", "stock"], indirect=True)
def test_workers_with_a_scheduler_are_marked_from_the_start(service: Service) -> None:
    queue = service.start()
    members = wakeups.workers_key(service.prefix)
    (key,) = wait_until(lambda: service.client.smembers(members), "it registers")
    if service.kind == "stock":
        assert not service.client.hexists(key, wakeups.ABANDONED_FIELD)
    else:
        wait_until(lambda: service.client.hexists(key, wakeups.ABANDONED_FIELD), "it is marked")
    assert queue.core.store.run(read_signs(queue.core.namespace)) is not None
