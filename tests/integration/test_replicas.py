"""`durability="replicated"`: what is acknowledged, and what may have been sent, is on a replica."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    ConfigurationError,
    MessageIdConflict,
    NotReplicated,
    RunResult,
    StoreUnavailable,
)
from assistant_queue.cli import main
from assistant_queue.store.ops.server_info import ServerInfo, judge
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls
from tests.conftest import PATIENCE_S, SERVERS
from tests.integration.conftest import wait_until
from tests.integration.redis_pair import Pair


@pytest.fixture(params=sorted(SERVERS))
def pair(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pair]:
    made = Pair(SERVERS[request.param], tmp_path, monkeypatch)
    yield made
    made.close()


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


def options_of(url: str, prefix: str, provider: StandInProvider) -> dict[str, Any]:
    return {
        "redis_url": url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0,
        "lock_duration": 2.0,
        "request_timeout": 2.0,
        "backoff": {"type": "fixed", "delay": 0.1},
        "durability": "replicated",
    }


def test_an_acknowledged_add_survives_the_loss_of_the_primary(
    pair: Pair, prefix: str, provider: StandInProvider
) -> None:
    with AssistantMessageQueue(**options_of(pair.primary.url, prefix, provider)) as queue:
        one = queue.add_message_to_thread("t", "one")
        assert (
            pair.copy.hget(f"{prefix}:message:{one.message_id}", "thread") == "t"
        )  # no waiting: it is there already
        rest = queue.add_messages({"thread_id": "t", "message": text} for text in ("two", "three"))
        said = queue.say("t", "said")
        assert pair.copy.llen(f"{prefix}:pending:t") == 4
    with AssistantMessageQueue(
        **{**options_of(pair.fail_over(), prefix, provider), "durability": "local"}
    ) as queue:
        queue.start_worker()
        assert (
            queue.wait_for_reply(rest[-1].message_id, PATIENCE_S) == "You said: one | two | three"
        )
        assert queue.wait_for_reply(said.message_id, PATIENCE_S) == "said"
    assert [run.user_texts for run in provider.runs] == [("one", "two", "three")]


def test_an_add_that_no_replica_has_is_refused_and_can_be_repeated(
    pair: Pair, prefix: str, provider: StandInProvider
) -> None:
    options = options_of(pair.primary.url, prefix, provider)
    with AssistantMessageQueue(**options) as queue, AssistantMessageQueue(**options) as other:
        other.add_message_to_thread("w", "this one has introduced itself")
        pair.signal(signal.SIGSTOP)
        with pytest.raises(
            NotReplicated,
            match="may be kept or not; adding them again with the same message_id is safe",
        ) as refused:
            queue.add_message_to_thread("t", "hello", message_id="m")
        assert refused.value.message_ids == ("m",)
        assert isinstance(refused.value, StoreUnavailable)
        assert refused.value.retryable
        # A fresh connection, and nothing to write any more: WAIT alone would be content at once.
        other._store.client.connection_pool.disconnect()
        with pytest.raises(NotReplicated):
            other.add_message_to_thread("t", "hello", message_id="m")
        with pytest.raises(NotReplicated) as many:
            other.add_messages(
                [
                    {"thread_id": "t", "message": "a", "message_id": "a"},
                    {"thread_id": "u", "message": "b"},
                ]
            )
        assert many.value.message_ids[0] == "a"
        assert len(many.value.message_ids) == 2
        with pytest.raises(NotReplicated, match="it is shown, and may be lost"):
            queue.say("x", "said", kind="notice")
        with pytest.raises(NotReplicated) as asked:
            queue.ask("v", "generated", timeout=PATIENCE_S)
        (generated,) = asked.value.message_ids
        with pytest.raises(MessageIdConflict):  # what is not queued needs no replica
            queue.add_message_to_thread("t", "another text", message_id="m")
        pair.signal(signal.SIGCONT)
        assert queue.add_message_to_thread("t", "hello", message_id="m").duplicate
        assert queue.add_message_to_thread("v", "generated", message_id=generated).duplicate
        queue.start_worker()
        assert queue.wait_for_reply("m", PATIENCE_S) == "You said: hello | a"
        assert queue.wait_for_reply(generated, PATIENCE_S) == "You said: generated"


def test_a_replica_that_would_evict_keeps_all_until_it_is_promoted_and_no_worker_starts_on_it(
    pair: Pair, prefix: str, provider: StandInProvider
) -> None:
    """Redis: a replica leaves eviction to its primary (`replica-ignore-maxmemory`); promoted, it begins with the next command."""
    pair.copy.config_set("maxmemory", "3mb")
    pair.copy.config_set("maxmemory-policy", "allkeys-lru")
    options = options_of(pair.primary.url, prefix, provider)
    with (
        AssistantMessageQueue(**options) as queue,
        redis.Redis.from_url(pair.primary.url) as primary,
    ):
        queue.add_messages(
            {"thread_id": f"t{number}", "message": "x" * 200} for number in range(2000)
        )
        assert pair.copy.info("memory")["used_memory"] > 3_000_000
        assert pair.copy.dbsize() == primary.dbsize() > 2000
        url = pair.fail_over()
    with AssistantMessageQueue(**{**options, "redis_url": url, "durability": "local"}) as queue:
        wait_until(lambda: pair.copy.info("stats")["evicted_keys"], "what it evicts then is lost")
        with pytest.raises(ConfigurationError, match=r"allkeys-lru.*noeviction"):
            queue.start_worker()


async def test_the_asyncio_class_waits_and_refuses_alike(
    pair: Pair, prefix: str, provider: StandInProvider
) -> None:
    async with AsyncAssistantMessageQueue(
        **options_of(pair.primary.url, prefix, provider)
    ) as queue:
        await queue.add_message_to_thread("t", "one", message_id="m")
        assert pair.copy.hget(f"{prefix}:message:m", "thread") == "t"
        pair.signal(signal.SIGSTOP)
        with pytest.raises(NotReplicated):
            await queue.add_message_to_thread("t", "two", message_id="n")
        with pytest.raises(NotReplicated):
            await queue.add_messages([{"thread_id": "t", "message": "three"}])
        with pytest.raises(NotReplicated):
            await queue.ask("t", "four")
        pair.signal(signal.SIGCONT)
        assert (await queue.add_message_to_thread("t", "two", message_id="n")).duplicate


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_no_request_leaves_before_a_replica_knows_of_it(
    pair: Pair, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    """Neither the request that starts the run nor the one with the outputs of its tools; and no attempt is used up."""
    provider.model = lambda turn: ToolCalls([("order", {})]) if turn.round == 0 else Reply("done")
    calls = (
        ("responses.create",)
        if protocol == "responses"
        else ("runs.create", "runs.submit_tool_outputs")
    )
    options = options_of(pair.primary.url, prefix, provider)
    if protocol == "assistants":
        options["model"] = None
        options["assistant_id"] = provider.assistant_id
    else:
        options["tools"] = [
            {
                "type": "function",
                "name": "order",
                "parameters": {"type": "object", "properties": {}},
            }
        ]
    asked: list[str] = []

    def handle(_thread: str, _run: str, tool_calls: Any) -> Any:
        asked.extend(call.id for call in tool_calls)
        pair.signal(signal.SIGSTOP)
        return [{"tool_call_id": call.id, "output": "shipped"} for call in tool_calls]

    def sent() -> int:
        return sum(len(provider.calls(name)) for name in calls)

    def is_put_back() -> bool:
        status = queue.get_message("m")
        return (
            status is not None
            and status.error is not None
            and status.error.code == "not_replicated"
        )

    with AssistantMessageQueue(**options, handle_requires_action=handle, max_attempts=1) as queue:
        queue.add_message_to_thread("t", "hello", message_id="m")
        pair.signal(signal.SIGSTOP)
        queue.start_worker()
        wait_until(is_put_back, "the batch is put back")
        assert queue.get_message("m").attempts == 0
        assert sent() == 0
        pair.signal(signal.SIGCONT)
        wait_until(lambda: asked, "the tool is called")
        wait_until(is_put_back, "the outputs are put back")
        assert sent() == 1
        pair.signal(signal.SIGCONT)
        assert queue.wait_for_reply("m", PATIENCE_S) == "done"
        assert queue.get_message("m").attempts == 1
    assert len(asked) == 1
    assert sent() == 2


@pytest.mark.parametrize("protocol", ["chat_completions", "responses"])
def test_no_reply_is_delivered_before_a_replica_has_it(
    pair: Pair, prefix: str, provider: StandInProvider, protocol: str
) -> None:
    """A promoted replica that does not have it would have it asked for again, and another reply delivered."""
    gate = provider.hold()
    delivered: list[str | None] = []
    options = {
        **options_of(pair.primary.url, prefix, provider),
        "protocol": protocol,
        "max_attempts": 1,
    }
    with AssistantMessageQueue(
        **options, on_reply=lambda result: delivered.append(result.reply)
    ) as queue:
        queue.start_worker()
        queue.add_message_to_thread("t", "hello", message_id="m")
        gate.wait_reached(timeout=PATIENCE_S)
        pair.signal(signal.SIGSTOP)
        gate.release()
        with redis.Redis.from_url(pair.primary.url) as primary:
            wait_until(
                lambda: primary.hexists(f"{prefix}:delivering:t", "progress"),
                "the delivery is put off",
            )
        assert delivered == []
        assert queue.get_message("m").reply == "You said: hello"
        pair.signal(signal.SIGCONT)
        wait_until(lambda: delivered, "it is delivered")
        wait_until(lambda: queue.get_thread_status("t").state == "idle", "the thread goes on")
        assert (
            pair.copy.hget(f"{prefix}:batch:{queue.get_message('m').batch_id}", "state")
            == "completed"
        )
    assert delivered == ["You said: hello"]
    assert len(provider.runs) == 1


def test_a_fallback_on_a_replica_is_not_taken_for_a_reply_by_the_next_worker(
    pair: Pair, prefix: str, provider: StandInProvider
) -> None:
    """It would be delivered, and its batch completed instead of put on the failed list."""
    provider.model = lambda _: RunFailure("server_error", "it broke")
    phases: list[tuple[str | None, str | None]] = []

    def on_reply(result: RunResult) -> None:
        phases.append((result.reply, pair.copy.hget(f"{prefix}:thread:t", "phase")))

    with AssistantMessageQueue(
        **options_of(pair.primary.url, prefix, provider),
        max_attempts=1,
        fallback_reply="sorry",
        on_reply=on_reply,
    ) as queue:
        queue.start_worker()
        queue.add_message_to_thread("t", "hello", message_id="m")
        wait_until(queue.list_failed, "the batch is on the failed list")
        assert queue.get_message("m").fallback
    assert [(reply, phase != "delivering") for reply, phase in phases] == [("sorry", True)]


def test_a_run_that_had_started_is_found_from_the_promoted_replica(
    pair: Pair, prefix: str, provider: StandInProvider
) -> None:
    gate = provider.hold()
    options = options_of(pair.primary.url, prefix, provider)
    with AssistantMessageQueue(**options) as queue:
        queue.start_worker()
        receipt = queue.add_message_to_thread("t", "once")
        gate.wait_reached(timeout=PATIENCE_S)
        assert pair.copy.hget(f"{prefix}:thread:t", "phase") in {"sending", "running"}
        url = pair.fail_over()
    with AssistantMessageQueue(**{**options, "redis_url": url, "durability": "local"}) as queue:
        queue.start_worker()
        gate.release()
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: once"
    assert [run.user_texts for run in provider.runs] == [("once",)]


def test_a_worker_and_the_doctor_say_that_there_is_no_replica(
    pair: Pair,
    prefix: str,
    provider: StandInProvider,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    words = "durability='replicated', and Redis has no replica: every add is refused and nothing is sent"
    environment = {
        "REDIS_URL": pair.primary.url,
        "ASSISTANT_QUEUE_QUEUE_PREFIX": prefix,
        "ASSISTANT_QUEUE_DURABILITY": "replicated",
        "ASSISTANT_QUEUE_MODEL": "stand-in-model",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (
        "durability='replicated': 1 replica(s) connected"
        in CliRunner().invoke(main, ["doctor", "--no-provider"]).output
    )
    pair.copy.execute_command("REPLICAOF", "NO", "ONE")
    with redis.Redis.from_url(pair.primary.url) as primary:
        wait_until(
            lambda: primary.info("replication")["connected_slaves"] == 0, "the replica has gone"
        )
    told = CliRunner().invoke(main, ["doctor", "--no-provider"])
    assert f" bad  {words}" in told.output
    assert told.exit_code == 1
    with AssistantMessageQueue(**options_of(pair.primary.url, prefix, provider)) as queue:
        queue.start_worker()
    assert [record.levelname for record in caplog.records if words in record.getMessage()] == [
        "ERROR"
    ]


def test_a_redis_that_does_not_say_is_not_accused() -> None:
    (found,) = [
        one for one in judge(ServerInfo(), durability="replicated") if "replicated" in one.what
    ]
    assert found.level == "note"
