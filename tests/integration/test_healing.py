"""Leftovers of a batch at the provider do not prevent the thread's next batch from an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import Personality, StandInProvider
from assistant_queue.testing.fake_clock import START_MS, FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Never, OutputItems, Reply, ToolCalls, refuse
from tests.conftest import PATIENCE_S, RedisServer, with_clock

BOTH = pytest.mark.parametrize("protocol", ["responses", "assistants"])


def asks_once(turn: Any) -> Any:
    """The first batch makes the model call a function, the next one is answered."""
    return (
        ToolCalls([("order", {"id": 1})])
        if "first" in turn.user_texts[-1] and turn.round == 0
        else Reply("done")
    )


def hangs_once(turn: Any) -> Any:
    return Never() if "first" in turn.user_texts[-1] else Reply("done")


class Conversation:
    """A thread with a first batch that goes wrong and a next one that must be answered."""

    def __init__(self, url: str, prefix: str, provider: StandInProvider, protocol: str) -> None:
        self.url = url
        self.prefix = prefix
        self.provider = provider
        self.protocol = protocol
        self.client = redis.Redis.from_url(url, decode_responses=True)
        self.clock = FakeClock()
        self.asked = 0
        self.queue: AssistantMessageQueue

    def make(self, handle: Callable[..., Any], **options: Any) -> None:
        tool = {
            "type": "function",
            "name": "order",
            "parameters": {"type": "object", "properties": {}},
        }
        chosen = (
            {"model": "stand-in-model", "tools": [tool]}
            if self.protocol == "responses"
            else {"assistant_id": self.provider.assistant_id}
        )
        usual = {"message_delay": 5, "max_attempts": 1, "run_timeout": 1.0, "request_timeout": 2.0}
        self.queue = AssistantMessageQueue(
            redis_url=self.url,
            queue_prefix=self.prefix,
            openai_api_key=self.provider.api_key,
            openai_base_url=self.provider.base_url,
            handle_requires_action=handle,
            **{**usual, **options, **chosen},
        )
        self.queue = with_clock(self.queue, self.clock)

    def work(self, probe: Callable[..., Any] | None = None) -> None:
        InstantWorker(self.queue.config, self.clock, probe=probe).run_until_idle()

    def first_fails(self) -> None:
        first = self.queue.add_message_to_thread("t", "first")
        self.work()
        assert self.queue.get_message(first.message_id).status == "failed"

    def next_is_answered(self, within_s: float = 60) -> None:
        following = self.queue.add_message_to_thread("t", "next")
        before = self.clock.ms
        self.work()
        status = self.queue.get_message(following.message_id)
        assert (status.status, status.reply) == ("completed", "done")
        assert self.clock.ms - before < within_s * 1000
        open_runs = [
            run
            for run in self.provider.runs
            if run.status
            not in {"completed", "cancelled", "failed", "expired", "incomplete", "vanished"}
        ]
        assert [run.status for run in open_runs if self.protocol == "assistants"] == []
        assert self.provider.overlaps == ()


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


@pytest.fixture
def talk(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> Iterator[Conversation]:
    made = Conversation(one_redis.url, prefix, provider, protocol)
    yield made
    made.queue.close()
    made.client.close()


# --- unanswered calls -----------------------------------------------------------------------------


@BOTH
def test_calls_that_the_users_function_did_not_answer(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = asks_once
    talk.make(lambda *_: "this is no list of outputs")
    talk.first_fails()
    talk.next_is_answered()


@BOTH
def test_calls_beyond_the_last_round(talk: Conversation, provider: StandInProvider) -> None:
    provider.model = lambda turn: (
        ToolCalls([("order", {})]) if "first" in turn.user_texts[-1] else Reply("done")
    )
    talk.make(
        lambda _thread, _run, calls: [{"tool_call_id": call.id, "output": "x"} for call in calls],
        max_tool_rounds=1,
    )
    talk.first_fails()
    talk.next_is_answered()


@BOTH
def test_calls_with_outputs_that_the_provider_refuses(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = asks_once

    def handle(_thread: str, _run: str, calls: Any) -> Any:
        op = "responses.create" if talk.protocol == "responses" else "runs.submit_tool_outputs"
        provider.fault(op, refuse(400))
        return [{"tool_call_id": call.id, "output": "x"} for call in calls]

    talk.make(handle)
    talk.first_fails()
    talk.next_is_answered()


@pytest.mark.parametrize("protocol", ["responses"])
def test_calls_that_the_queue_does_not_know_of(
    talk: Conversation, provider: StandInProvider
) -> None:
    """Calls of another writer, or lost in a failover: the refusal names one, the items name all."""
    provider.model = lambda turn: (
        ToolCalls([("order", {}), ("order", {})])
        if "first" in turn.user_texts[-1]
        else Reply("done")
    )
    talk.make(lambda *_: "this is no list of outputs")
    talk.first_fails()
    assert talk.client.hdel(f"{talk.prefix}:conversation:t", "open") == 1
    talk.next_is_answered()


@pytest.mark.parametrize("protocol", ["responses"])
def test_a_call_that_no_function_answers(talk: Conversation, provider: StandInProvider) -> None:
    """The same tools would be called again: the batch fails at once, with the reason."""
    item = {"type": "custom_tool_call", "call_id": "call_1", "name": "grep", "input": "x"}
    provider.model = lambda turn: (
        OutputItems([item]) if "first" in turn.user_texts[-1] else Reply("done")
    )
    talk.make(lambda *_: [], max_attempts=3)
    talk.first_fails()
    (failed,) = talk.queue.list_failed()
    assert failed.error.code == "unsupported_tool_call"
    assert len(provider.runs) == 1
    talk.next_is_answered()


# --- a call, or a run, that is not there any more -------------------------------------------------


@pytest.mark.parametrize("protocol", ["responses"])
def test_a_call_that_the_provider_never_stored(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = asks_once
    talk.make(lambda *_: "this is no list of outputs")
    talk.first_fails()
    talk.client.hset(f"{talk.prefix}:conversation:t", "open", '["call_ghost"]')
    talk.next_is_answered()


@BOTH
def test_a_run_that_vanishes_while_its_tools_are_called(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = asks_once

    def handle(_thread: str, run_id: str, calls: Any) -> Any:
        provider.vanish(run_id)
        return [{"tool_call_id": call.id, "output": "x"} for call in calls]

    talk.make(handle)
    receipt = talk.queue.add_message_to_thread("t", "first")
    talk.work()
    assert talk.queue.get_message(receipt.message_id).status in {"failed", "completed"}
    talk.next_is_answered()


# --- stuck in requires_action ---------------------------------------------------------------------


@BOTH
def test_a_run_that_waits_for_a_function_that_hangs(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = asks_once

    async def handle(*_: Any) -> Any:
        await asyncio.Event().wait()

    talk.make(handle)
    talk.first_fails()
    talk.next_is_answered()


@BOTH
def test_a_run_with_a_function_that_kills_its_workers(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = asks_once
    talk.make(lambda *_: [], run_timeout=3600)
    receipt = talk.queue.add_message_to_thread("t", "first")

    def probe(name: str, _: Any) -> None:
        if name == "before Answer":
            raise Crash(name)

    for _ in range(3):
        with pytest.raises(Crash):
            talk.work(probe)
    talk.work()
    (failed,) = talk.queue.list_failed()
    assert (failed.reason, failed.message_ids) == ("worker_deaths", (receipt.message_id,))
    talk.next_is_answered()


# --- in progress after the deadline ---------------------------------------------------------------


@BOTH
def test_a_run_that_does_not_end(talk: Conversation, provider: StandInProvider) -> None:
    provider.model = hangs_once
    talk.make(lambda *_: [])
    talk.first_fails()
    talk.next_is_answered()


@BOTH
def test_a_run_of_a_dead_worker_after_its_deadline(
    talk: Conversation, provider: StandInProvider
) -> None:
    provider.model = hangs_once
    talk.make(lambda *_: [])
    receipt = talk.queue.add_message_to_thread("t", "first")

    def probe(name: str, _: Any) -> None:
        if name == "before Watch":
            raise Crash(name)

    with pytest.raises(Crash):
        talk.work(probe)
    talk.clock.advance(3600)
    talk.work()
    assert talk.queue.get_message(receipt.message_id).status == "failed"
    talk.next_is_answered()


@pytest.mark.parametrize("protocol", ["responses"])
def test_a_response_that_cannot_be_cancelled_is_waited_for(
    talk: Conversation, provider: StandInProvider
) -> None:
    """A foreground run has no cancel: the next batch waits for it, and is then answered."""
    provider.personality = Personality(background="refused")
    provider.model = lambda turn: Reply("done", delay=2.4 if "first" in turn.user_texts[-1] else 0)
    # Time flies here while the provider takes its own: patience is what is not tested.
    talk.make(lambda *_: [], max_attempts=2, retry_for=1e9)
    talk.queue.add_message_to_thread("t", "first")
    talk.work()
    talk.next_is_answered(within_s=1e9)


@pytest.mark.parametrize("protocol", ["responses"])
@pytest.mark.parametrize("lock", ["refuse", "conflict"])
def test_a_run_that_was_given_up_and_ends_well_after_all_is_the_only_one(
    talk: Conversation, provider: StandInProvider, lock: Any
) -> None:
    """It kept the conversation locked for later attempts: each looks for it before it sends."""
    provider.personality = Personality(background="refused", lock=lock)
    provider.model = lambda turn: Reply("done", delay=2.4 if "first" in turn.user_texts[-1] else 0)
    talk.make(lambda *_: [], max_attempts=5, retry_for=1e9)
    receipt = talk.queue.add_message_to_thread("t", "first")
    talk.work()
    assert talk.queue.get_message(receipt.message_id).reply == "done"
    assert [run.user_texts for run in provider.runs] == [("first",)]


@pytest.mark.parametrize("protocol", ["responses"])
def test_a_run_after_its_server_was_restarted(
    talk: Conversation, provider: StandInProvider
) -> None:
    """The run stays in progress for ever: the batch is answered long before `run_timeout`."""
    provider.personality = Personality(background="refused")
    provider.model = lambda _: Never()
    talk.make(lambda *_: [], max_attempts=3, run_timeout=3600, stream_idle_timeout=0.3)
    receipt = talk.queue.add_message_to_thread("t", "first")

    def restart(name: str, _: Any) -> None:
        if name == "before Watch" and len(provider.runs) == 1:
            provider.restart()
            provider.model = lambda _: Reply("done")

    talk.work(restart)
    assert talk.queue.get_message(receipt.message_id).reply == "done"
    assert [run.status for run in provider.runs] == ["stranded", "completed"]
    assert talk.clock.ms < START_MS + 3600 * 1000
    talk.next_is_answered()


# --- ended without a worker -----------------------------------------------------------------------


@BOTH
def test_a_run_that_ended_while_no_worker_was_there_is_the_only_one(
    talk: Conversation, provider: StandInProvider
) -> None:
    """After any time: its reply is the batch's, and no second run answers the same messages."""
    talk.make(lambda *_: [], max_attempts=3)
    provider.model = lambda _: Reply("done")
    receipt = talk.queue.add_message_to_thread("t", "first")

    def probe(name: str, _: Any) -> None:
        if name == "before Watch":
            raise Crash(name)

    with pytest.raises(Crash):
        talk.work(probe)
    provider.wait_for(runs_ended=1, timeout=PATIENCE_S)
    talk.clock.advance(3600)
    talk.work()
    assert talk.queue.get_message(receipt.message_id).reply == "done"
    assert [run.user_texts for run in provider.runs] == [("first",)]
    talk.next_is_answered()
