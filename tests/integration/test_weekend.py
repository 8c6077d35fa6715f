"""An approval after a weekend, a deploy and a restart of Redis: one call, one answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.chaos.shifting import set_shift, shifted
from tests import fork_server
from tests.conftest import PATIENCE_S, SERVERS, RedisServer
from tests.integration.approval_bot import Deploy, Log, make_queue, model
from tests.integration.conftest import wait_until
from tests.integration.steering_bot import backend

BEFORE_EXPIRY_S = 545.0
"""A run of Assistants expires after 600 s, and is ended a minute before."""
WEEKEND_S = 64 * 3600.0
NAMES = {
    "responses": "responses",
    "chat": "chat_completions",
    "assistants": "assistants",
    "away": "assistants",
}
"""Names of the queues, and their protocols; no worker is there when the run of the last expires."""


class Site:
    """A Redis that keeps what it was given, a provider, and the queues of one worker process."""

    def __init__(self, directory: Path, provider: StandInProvider) -> None:
        self.directory = directory
        self.provider = provider
        self.clock = directory / "clock"
        self.log = Log(directory / "log.jsonl")
        program = SERVERS.get("path") or SERVERS["wheel"]
        self.redis = RedisServer(
            program, directory, "--appendonly", "yes", "--appendfsync", "always"
        )
        self.workers: list[fork_server.ForkedProcess] = []
        set_shift(self.clock, 0)
        self.redis.start()

    def deploy(self, version: int, names: Any = NAMES, **options: Any) -> Deploy:
        return Deploy(
            queues={name: self.options(name) | options for name in names},
            log=str(self.log.path),
            clock=str(self.clock),
            version=version,
        )

    def options(self, name: str) -> dict[str, Any]:
        return {
            "redis_url": self.redis.url,
            "queue_prefix": name,
            "openai_api_key": self.provider.api_key,
            "openai_base_url": self.provider.base_url,
            "message_delay": 0,
            "approval_timeout": 7 * 86400.0,
            **backend(NAMES[name], self.provider),
        }

    def start_worker(self, deploy: Deploy) -> fork_server.ForkedProcess:
        path = self.directory / f"deploy-{len(self.workers)}.json"
        deploy.write(path)
        with (self.directory / "workers.log").open("ab") as log:
            worker = fork_server.start(
                [sys.executable, "-m", "tests.integration.approval_bot", str(path)],
                env={**os.environ, "PYTHONPATH": str(fork_server.ROOT)},
                stdout=log,
            )
        self.workers.append(worker)
        return worker

    def forget_what_expires(self, seconds: float) -> list[str]:
        """Delete the keys that Redis would not have any more after so many seconds."""
        with redis.Redis.from_url(self.redis.url) as client:
            gone = [key for key in client.scan_iter() if 0 <= client.pttl(key) <= seconds * 1000]
            if gone:
                client.delete(*gone)
        return [key.decode() for key in gone]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
            worker.wait()
        self.redis.stop()
        sys.stdout.write((self.directory / "workers.log").read_text(errors="replace")[-3000:])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with StandInProvider(model, latency=0) as provider:
        made = Site(tmp_path, provider)
        with shifted(made.clock):
            yield made
        made.close()
        assert provider.model_errors == ()


def wait_until_parked(queue: AssistantMessageQueue, thread: str = "t") -> str:
    """Wait; return the id of the one call that the batch waits for."""
    wait_until(lambda: queue.get_thread_status(thread).state == "parked", "the batch is parked")
    (found,) = queue.list_approvals()
    return found.call_id


def statuses(site: Site) -> list[str]:
    return [run.status for run in site.provider.runs]


def replies(site: Site, name: str) -> list[list[str]]:
    """Wait until two replies were delivered; return all."""
    wait_until(lambda: len(site.log.read(name, "reply")) >= 2, "both are delivered")
    return site.log.read(name, "reply", "t")


def conversation(queue: AssistantMessageQueue, thread: str = "t") -> list[tuple[str, str]]:
    rows = queue.list_messages(thread, limit=100, order="asc")
    return [(row.role, row.text) for row in rows if row.text]


def test_an_approval_after_a_weekend_a_deploy_and_a_restart_of_redis(site: Site) -> None:
    friday = site.start_worker(site.deploy(1))
    queues = {name: make_queue(name, site.deploy(1)) for name in NAMES}
    asked: dict[str, str] = {}
    calls: dict[str, str] = {}
    for name, queue in queues.items():
        asked[name] = queue.add_message_to_thread("t", "refund", author="ann").message_id
    for name, queue in queues.items():
        calls[name] = wait_until_parked(queue)
    # As if the workers of this queue had ended before.
    queues["away"].pause("t")
    set_shift(site.clock, BEFORE_EXPIRY_S)
    wait_until(lambda: "cancelled" in statuses(site), "the run is ended before it expires")
    wait_until_parked(queues["assistants"])
    friday.terminate()
    friday.wait(PATIENCE_S)
    for queue in queues.values():
        queue.close()
    for run in site.provider.runs:
        if run.protocol == "assistants":
            site.provider.expire(run.id)
    assert sorted(statuses(site)) == ["cancelled", "completed", "completed", "expired"]
    site.redis.stop()
    site.redis.start()
    gone = site.forget_what_expires(WEEKEND_S)
    set_shift(site.clock, BEFORE_EXPIRY_S + WEEKEND_S)

    monday = site.deploy(2, lock_duration=20.0, max_attempts=2, default_instructions="Be brief.")
    site.start_worker(monday)
    for name in NAMES:
        with make_queue(name, monday) as queue:
            queue.resume("t")
            (found,) = queue.list_approvals()
            assert (found.call_id, found.question) == (calls[name], "Refund 3? (1)"), gone
            assert found.authors == ("ann",)
            assert queue.approve(found.call_id, by="eve"), name
            assert not queue.approve(found.call_id, by="joe"), name
            reply = str(queue.wait_for_reply(asked[name], PATIENCE_S))
            assert "refunded 3 by version 2" in reply, (name, reply)
            assert "7 left" in reply, (name, reply)
            after = queue.add_message_to_thread("t", "and?").message_id
            last = str(queue.wait_for_reply(after, PATIENCE_S))
            assert last.endswith("and?"), name
            assert site.log.read(name, "call") == [[calls[name], "eve"]]
            assert site.log.read(name, "stock") == [[]]
            assert replies(site, name) == [[reply], [last]]
            assert conversation(queue) == [
                ("user", "ann: refund"),
                ("assistant", reply),
                ("user", "and?"),
                ("assistant", last),
            ], name
            assert queue.list_failed() == []
            (_, record) = queue.get_timeline("t")
            rows = {one.name: one for one in record.tool_calls}
            assert (rows["refund"].verdict, rows["refund"].settled_by) == ("approved", "eve")
    assert site.provider.overlaps == ()
