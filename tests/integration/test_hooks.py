"""Hooks are called in every kind of worker, in the process that has made the event."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure, refuse
from assistant_queue.testing.rehearsal import Rehearsal
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import Service, wait_until

HOOKS = ("started", "completed", "failed", "retrying", "delivered", "undelivered")


@pytest.fixture(params=["asyncio", "concurrent", "forking", "stock"])
def service(
    request: pytest.FixtureRequest,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    tmp_path: Path,
) -> Iterator[Service]:
    made = Service(request.param, one_redis.url, prefix, provider, tmp_path / "worker.log")
    made.on_reply = True
    made.hooks = HOOKS
    # The process lives, and later hooks are called.
    made.raises = "completed"
    yield made
    made.stop()


def noted(service: Service, thread: str) -> list[dict[str, Any]]:
    key = f"{service.prefix}:noted:hooks:{thread}"
    return [json.loads(row) for row in service.client.lrange(key, 0, -1)]


def names(service: Service, thread: str) -> list[str]:
    return [row["hook"] for row in noted(service, thread)]


def test_every_kind_of_worker_calls_hooks_in_its_own_process(
    service: Service, provider: StandInProvider
) -> None:
    queue = service.start(max_attempts=2, backoff={"type": "fixed", "delay": 0})
    queue.ask("t", "hello", timeout=PATIENCE_S)
    wait_until(lambda: "delivered" in names(service, "t"), "it is delivered")
    rows = noted(service, "t")
    assert [(row["hook"], row["kind"]) for row in rows] == [
        ("started", "Batch"),
        ("completed", "RunResult"),
        ("delivered", "DeliveredReply"),
    ]
    assert len({row["batch"] for row in rows}) == 1
    pids = {row["pid"] for row in rows}
    workers = {process.pid for process in service.processes}
    if service.kind == "asyncio":
        assert pids == {os.getpid()}
    elif service.kind == "concurrent":
        assert pids == workers
    else:
        assert not pids & {*workers, os.getpid()}, "in the child that has the batch"
    if service.kind not in {"asyncio", "forking"}:
        return  # the others share their code with these
    provider.fault("responses.create", refuse(401))
    queue.add_message_to_thread("refused", "hello")
    wait_until(lambda: "failed" in names(service, "refused"), "it fails")
    provider.model = lambda turn: (
        RunFailure() if "broken" in turn.user_texts[-1] else Reply("[nowhere]")
    )
    queue.add_message_to_thread("broken", "broken")
    wait_until(lambda: "failed" in names(service, "broken"), "its attempts are used up")
    queue.add_message_to_thread("gone", "[nowhere]")
    wait_until(lambda: "undelivered" in names(service, "gone"), "it is given up")
    assert names(service, "refused") == ["started", "failed"]
    assert names(service, "broken") == ["started", "retrying", "started", "failed"]
    assert names(service, "gone") == ["started", "completed", "undelivered"]


@pytest.mark.parametrize("service", ["forking"], indirect=True)
def test_a_hook_that_never_returns_costs_a_forking_worker_its_time_limit(
    service: Service,
) -> None:
    service.raises = ""
    service.hangs = "completed"
    queue = service.start(callback_timeout=0.3)
    for number in range(2):
        queue.ask(f"t{number}", "hello", timeout=PATIENCE_S)
        wait_until(lambda name=f"t{number}": "delivered" in names(service, name), "it is seen")
        assert names(service, f"t{number}") == ["started", "completed", "delivered"]
    log = service.log.read_text()
    assert "did not return within 0.3 s; it is still running and is abandoned" in log


def test_a_queue_of_several_prefixes_has_the_hooks_of_its_app(
    one_redis: RedisServer, prefix: str
) -> None:
    from assistant_queue.worker.asyncio_worker import AsyncioWorker

    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, backend=lambda _: "hi"
    ) as queue:
        queue.on("completed", print)
        worker = AsyncioWorker(queue.config, prefixes=[prefix, f"{prefix}other"])
        first, second = worker.runtimes.values()
        assert first.hook_calls is second.hook_calls
        assert first.config.hooks is second.config.hooks


def test_a_rehearsal_calls_hooks_too() -> None:
    seen: list[tuple[str, str]] = []
    queue = AssistantMessageQueue(model="m", message_delay=1)

    @queue.on("started")
    def started(batch: Any) -> None:
        seen.append(("started", batch.text))

    @queue.on("completed")
    async def completed(result: Any) -> None:
        seen.append(("completed", result.reply))

    with Rehearsal(queue) as play:
        play.say("ann", "hello")
        play.run_until_idle()
    assert seen == [("started", "hello"), ("completed", "You said: hello")]
