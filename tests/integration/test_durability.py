"""A worker's log about its Redis, and the Redis that it refuses."""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import rq

from assistant_queue import AssistantMessageQueue, ConfigurationError
from assistant_queue.store.ops.server_info import ServerInfo, judge
from assistant_queue.testing import StandInProvider
from assistant_queue.worker import scheduler
from tests.conftest import PATIENCE_S, SERVERS, RedisServer
from tests.integration.conftest import BIN, HERE, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(SERVERS.get("path") or SERVERS["wheel"], tmp_path)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def admin(server: RedisServer) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(server.url) as client:
        yield client


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing


def options_of(url: str, prefix: str, provider: StandInProvider) -> dict[str, Any]:
    chosen = {
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
    }
    return {"redis_url": url, "queue_prefix": prefix, "message_delay": 0, **chosen}


def said(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    records = [
        record
        for record in caplog.records
        if record.name == "assistant_queue.worker.startup_checks"
    ]
    return {record.getMessage(): record.levelname for record in records}


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_worker_refuses_a_redis_that_may_throw_messages_away(
    server: RedisServer, admin: redis.Redis, prefix: str, provider: StandInProvider, policy: str
) -> None:
    admin.config_set("maxmemory-policy", policy)
    options = options_of(server.url, prefix, provider)
    with AssistantMessageQueue(**options) as queue:
        receipt = queue.add_message_to_thread("t", "hello")
        with pytest.raises(ConfigurationError, match=f"{policy}.*noeviction.*allow_eviction=True"):
            queue.start_worker()
        told = {
            "BOT": json.dumps({"options": options, "tools": False, "on_reply": False}),
            "PYTHONPATH": str(HERE.parent.parent),
        }
        environment = {**os.environ, **told, "ASSISTANT_QUEUE_APP": "tests.integration.bot:queue"}
        ours = [
            [str(BIN / "assistant-queue"), "worker", "--burst"],
            [str(BIN / "assistant-queue"), "worker", "--burst", "--fork"],
        ]
        stock = [str(BIN / "rq"), "worker", "-u", server.url, prefix, "--burst"]
        for command in (*ours, [*stock, "--worker-class", "assistant_queue.Worker"], stock):
            ended = subprocess.run(
                command,
                env=environment,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert f"maxmemory-policy {policy}" in ended.stderr, ended.stderr
            assert command not in ours or ended.returncode == 2
        assert provider.runs == ()
        assert rq.Worker.count(connection=admin) == 0
    with AssistantMessageQueue(**options, allow_eviction=True) as queue:
        queue.start_worker()
        assert queue.wait_for_reply(receipt.message_id, 30) == "You said: hello"


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_running_worker_reports_a_redis_that_comes_back_and_evicts(  # noqa: PLR0917 - fixtures
    server: RedisServer,
    prefix: str,
    provider: StandInProvider,
    policy: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As after a replica of another configuration replaced the primary of an address.

    Whether the outage was noticed or not.
    """
    monkeypatch.setattr(scheduler, "SERVER_LOOK_S", 0.5)
    words = "the Redis that answers now has maxmemory-policy allkeys-lru: it may throw accepted messages away"
    with AssistantMessageQueue(**options_of(server.url, prefix, provider)) as queue:
        queue.start_worker()
        server.stop()
        server.extra = ("--maxmemory-policy", policy)
        server.start()
        if policy == "noeviction":
            assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
            assert words not in caplog.text
        else:
            wait_until(lambda: words in caplog.text, "it is reported")


def test_a_worker_says_what_a_crash_of_redis_could_cost(
    server: RedisServer,
    admin: redis.Redis,
    prefix: str,
    provider: StandInProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue")
    with AssistantMessageQueue(**options_of(server.url, prefix, provider)) as queue:
        queue.start_worker().stop()
        off = "append-only file: off; a crash of Redis loses all data since its last snapshot; set appendonly yes in redis.conf"
        assert said(caplog)[off] == "INFO"
        assert said(caplog)["maxmemory-policy: noeviction"] == "DEBUG"
        caplog.clear()
        admin.config_set("appendonly", "yes")
        queue.start_worker().stop()
        on = "append-only file: on; a crash of Redis can cost the last second, nothing with appendfsync always"
        assert said(caplog)[on] == "DEBUG"


def test_a_worker_that_may_not_ask_says_so_and_works(
    server: RedisServer,
    admin: redis.Redis,
    prefix: str,
    provider: StandInProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    admin.execute_command(
        "ACL", "SETUSER", "curb", "on", ">pw", "~*", "&*", "+@all", "-info", "-config"
    )
    with AssistantMessageQueue(
        **options_of(f"redis://curb:pw@127.0.0.1:{server.port}/0", prefix, provider)
    ) as queue:
        queue.start_worker()
        assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
    assert (
        said(caplog)["maxmemory-policy: cannot be read here; check that it is noeviction"] == "INFO"
    )


@pytest.mark.parametrize(
    ("server", "level", "words"),
    [
        (ServerInfo(version="6.0.16"), "bad", "version 6.0.16"),
        (ServerInfo(version="6.2.1"), "ok", "version 6.2.1"),
        (ServerInfo(version="5.9", is_valkey=True), "ok", "version 5.9"),
        (ServerInfo(), "ok", "version unknown"),
        (ServerInfo(replicas=2), "note", "2 replica(s); a failover can lose"),
        (ServerInfo(append_only=False), "warn", "append-only file: off"),
        (ServerInfo(eviction="volatile-lru"), "bad", "maxmemory-policy: volatile-lru"),
    ],
)
def test_what_is_found_is_judged(server: ServerInfo, level: str, words: str) -> None:
    assert [finding.level for finding in judge(server) if words in finding.what] == [level]
