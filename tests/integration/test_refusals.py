"""A refusing Redis counts as down: answers are kept, and written when it accepts writes again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    RunResult,
    StoreUnavailable,
)
from assistant_queue.client import event_hub
from assistant_queue.clock import SystemClock
from assistant_queue.store.calls import Namespace
from assistant_queue.testing import StandInProvider
from assistant_queue.worker import asyncio_worker, outage, store_writes
from assistant_queue.worker.scheduler import Scheduler
from tests.conftest import PATIENCE_S, RedisServer, free_port, installed_redis
from tests.integration.conftest import Service, wait_until
from tests.integration.refusing_redis import RefusingRedis

LEASE_S = 0.6
PASSWORD = "a-new-password"
SAID = {
    "NOREPLICAS": "NOREPLICAS Not enough good replicas to write.",
    "LOADING": "LOADING Redis is loading the dataset in memory",
    "UNKILLABLE": "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "CLUSTERDOWN": "CLUSTERDOWN The cluster is down",
    "TRYAGAIN": "TRYAGAIN Multiple keys request during rehashing of slot",
    "NOPERM": "NOPERM this user has no permissions to run the 'evalsha' command or its subcommand",
}
"""Refusals that this server cannot be brought to, or not for scripts: a relay says them."""


class Scene:
    """A Redis that can be brought to refuse, by itself or by a relay in front of it."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.admin = redis.Redis.from_url(server.url)
        self.relay = RefusingRedis(server.port)

    @contextmanager
    def full(self) -> Iterator[None]:
        self.admin.config_set("maxmemory", 1)
        yield
        self.admin.config_set("maxmemory", 0)

    @contextmanager
    def read_only(self) -> Iterator[None]:
        self.admin.execute_command("REPLICAOF", "127.0.0.1", free_port())
        yield
        self.admin.execute_command("REPLICAOF", "NO", "ONE")

    @contextmanager
    def orphaned(self) -> Iterator[None]:
        self.admin.config_set("replica-serve-stale-data", "no")
        with self.read_only():
            yield
        self.admin.config_set("replica-serve-stale-data", "yes")

    @contextmanager
    def without_disk(self) -> Iterator[None]:
        in_the_way = self.server.directory / "dump.rdb"
        in_the_way.unlink(missing_ok=True)
        in_the_way.mkdir()
        self.admin.config_set("save", "3600 1000000")
        self._save("err")
        yield
        in_the_way.rmdir()
        self._save("ok")
        self.admin.config_set("save", "")

    def _save(self, outcome: str) -> None:
        self.admin.bgsave()
        wait_until(
            lambda: self.admin.info("persistence")["rdb_last_bgsave_status"] == outcome,
            f"a save has ended: {outcome}",
        )

    @contextmanager
    def busy(self) -> Iterator[None]:
        self.admin.config_set("lua-time-limit", 1)

        def loop() -> None:
            with (
                contextlib.suppress(redis.ResponseError),
                redis.Redis.from_url(self.server.url, socket_timeout=PATIENCE_S) as client,
            ):
                client.eval("while true do end", 0)

        looping = threading.Thread(target=loop, daemon=True)
        looping.start()
        wait_until(self._is_busy, "the script is found to take long")
        yield
        self.admin.script_kill()
        looping.join(PATIENCE_S)

    def _is_busy(self) -> bool:
        try:
            return not self.admin.ping()
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The password is being rotated: connections that are made now are not let in."""
        self.admin.config_set("requirepass", PASSWORD)
        self.admin.execute_command("CLIENT KILL TYPE normal SKIPME yes")
        yield
        self.admin.config_set("requirepass", "")

    @contextmanager
    def saying(self, line: str) -> Iterator[None]:
        self.relay.says = line
        yield
        self.relay.says = ""

    def rejected(self, command: str) -> int:
        """Return the number of refused calls of a command since the last reset."""
        return int(
            self.admin.info("commandstats").get(f"cmdstat_{command}", {}).get("rejected_calls", 0)
        )

    def refusing(self, word: str) -> contextlib.AbstractContextManager[None]:
        """Refuse, in the block."""
        ways: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
            "OOM": self.full,
            "READONLY": self.read_only,
            "MASTERDOWN": self.orphaned,
            "MISCONF": self.without_disk,
            "BUSY": self.busy,
            "NOAUTH": self.locked,
        }
        return ways[word]() if word in ways else self.saying(SAID[word])

    def url(self, word: str) -> str:
        return self.relay.url if word in SAID else self.server.url


WORDS = ["OOM", "READONLY", "MASTERDOWN", "MISCONF", "BUSY", "NOAUTH", *SAID]


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from installed_redis(tmp_path_factory.mktemp("refusing"))


@pytest.fixture
def new_primary(tmp_path: Path) -> Iterator[RedisServer]:
    yield from installed_redis(tmp_path)


@pytest.fixture
def scene(own_redis: RedisServer) -> Iterator[Scene]:
    made = Scene(own_redis)
    yield made
    made.relay.close()
    made.admin.close()


def trouble(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return a worker's warnings, without slow renewals, which a busy machine causes."""
    records = [
        record
        for record in caplog.records
        if record.levelno >= logging.WARNING and "assistant_queue" in record.name
    ]
    return [record.getMessage() for record in records if not record.name.endswith(".capacity")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that asks again sooner."""
    monkeypatch.setattr(outage, "_DENIED_RETRY_S", 0.1)
    monkeypatch.setattr(asyncio_worker, "AWAY_S", 0.1)
    monkeypatch.setattr(asyncio_worker, "BEAT_S", 0.1)
    monkeypatch.setattr(store_writes, "_MAX_RETRY_S", 0.2)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("word", WORDS)
def test_an_answer_that_comes_while_redis_refuses_is_kept_and_written_once(
    scene: Scene,
    prefix: str,
    provider: StandInProvider,
    caplog: pytest.LogCaptureFixture,
    word: str,
) -> None:
    delivered: list[RunResult] = []
    with AssistantMessageQueue(
        redis_url=scene.url(word),
        queue_prefix=prefix,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        model="stand-in-model",
        # nothing can be found again there: a reply that is lost is paid for twice
        protocol="chat_completions",
        message_delay=0,
        lock_duration=LEASE_S,
        on_reply=delivered.append,
    ) as queue:
        worker = queue.start_worker()
        runtime = worker._worker.runtime
        with provider.hold("completing") as gate:
            receipt = queue.add_message_to_thread("t", "hi")
            gate.wait_reached(timeout=PATIENCE_S)
            (held,) = runtime.keeper._held
            with scene.refusing(word):
                wait_until(lambda: runtime.outage.is_on, "the worker meets the refusal")
                gate.release()
                wait_until(
                    lambda: "writes" in runtime.outage._failing, "the reply is there, and refused"
                )
                wait_until(lambda: held.remaining_s() == 0, "its lease has lapsed")
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hi"
        wait_until(lambda: queue.get_thread_status("t").state == "idle", "the batch is over")
        wait_until(
            lambda: not runtime.outage.is_on,
            f"all is well again, and not {runtime.outage._failing}",
        )
        worker.stop()
        status = queue.get_message(receipt.message_id)
    assert status is not None
    assert status.attempts == 1
    assert len(provider.calls("chat.completions.create")) == 1
    assert [result.reply for result in delivered] == ["You said: hi"]
    said = trouble(caplog)
    assert len(said) == 2, said
    began, ended = said
    assert word in began or (
        "UNBLOCKED" in began and word in {"READONLY", "MASTERDOWN"}
    )  # said first to a pop that waits
    assert began.endswith("; waiting, and trying again")
    assert PASSWORD not in began
    assert ended.startswith("Redis takes commands again, after ")


@pytest.mark.parametrize("word", ["OOM", "READONLY", "MISCONF"])
async def test_an_add_raises_redis_refusal_at_once(scene: Scene, prefix: str, word: str) -> None:
    with AssistantMessageQueue(
        redis_url=scene.server.url, queue_prefix=prefix, backend=lambda _: "hi"
    ) as queue:
        async with AsyncAssistantMessageQueue(
            redis_url=scene.server.url, queue_prefix=prefix, backend=lambda _: "hi"
        ) as other:
            queue.add_message_to_thread("t", "before")
            await other.add_message_to_thread("t", "before that")
            with scene.refusing(word):
                for add in (queue.add_message_to_thread, other.add_message_to_thread):
                    with pytest.raises(
                        StoreUnavailable, match=f"Redis refuses for now, {word}"
                    ) as caught:
                        done = add("t", "now", message_id="m")
                        await done
                    assert caught.value.refusal == word
            assert queue.get_message("m") is None, "it was not taken"
            queue.add_message_to_thread("t", "now", message_id="m")
            await other.add_message_to_thread("t", "now", message_id="m")
            assert queue.get_message("m").status == "queued"
            queue.forget_thread("t")


@pytest.mark.parametrize("word", ["OOM", "READONLY"])
def test_the_parent_of_a_horse_waits_as_well_or_the_reply_would_die_with_it(
    scene: Scene, prefix: str, provider: StandInProvider, tmp_path: Path, word: str
) -> None:
    service = Service("forking", scene.server.url, prefix, provider, tmp_path / "workers.log")
    service.protocol = "chat_completions"
    service.on_reply = True
    service.words = ("--job-monitoring-interval", "1")
    try:
        queue = service.start(lock_duration=LEASE_S)
        with provider.hold("completing") as gate:
            receipt = queue.add_message_to_thread("t", "hi")
            gate.wait_reached(timeout=PATIENCE_S)
            scene.admin.config_resetstat()
            with scene.refusing(word):
                gate.release()
                wait_until(lambda: scene.rejected("hset"), "the parent's heartbeat is refused")
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hi"
        wait_until(lambda: queue.get_thread_status("t").state == "idle", "the batch is over")
        after = queue.add_message_to_thread("t", "and now")
        assert queue.wait_for_reply(after.message_id, PATIENCE_S) == "You said: and now"
        assert service.processes[0].poll() is None, "the parent is alive"
        assert queue.get_message(receipt.message_id).attempts == 1
        assert len(provider.calls("chat.completions.create")) == 2
        wait_until(lambda: len(service.noted("replies")) == 2, "each is delivered once")
    finally:
        service.stop()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("own_client", [False, True], ids=["an address", "a client of the user's"])
async def test_a_connection_to_a_demoted_primary_is_closed_and_the_address_leads_to_the_new_one(
    scene: Scene, prefix: str, new_primary: RedisServer, own_client: bool
) -> None:
    # as a virtual address: connections that are there stay where they are, new ones go where it
    # leads by now
    relay = scene.relay
    where: dict[str, Any] = (
        {"redis": redis.Redis.from_url(relay.url)} if own_client else {"redis_url": relay.url}
    )
    options = {
        **where,
        "queue_prefix": prefix,
        "message_delay": 0,
        "backend": lambda batch: f"re: {batch.text}",
    }
    with AssistantMessageQueue(**options) as queue:
        async with AsyncAssistantMessageQueue(**options) as other:
            worker = queue.start_worker()
            for thread in ("a", "b"):
                assert await asyncio.gather(
                    other.ask(thread, "1"), other.ask(thread + thread, "2")
                ) == ["re: 1", "re: 2"]
                queue.add_message_to_thread(thread, "3")
            queue.add_messages([{"thread_id": f"c{number}", "message": "4"} for number in range(3)])
            with scene.read_only():
                relay.target_port = new_primary.port
                refused = {"one": 0, "many": 0, "async": 0}
                adds: dict[str, Any] = {
                    "one": lambda: queue.add_message_to_thread("t1", "hi", message_id="m1"),
                    "many": lambda: queue.add_messages(
                        [{"thread_id": "t2", "message": "hi", "message_id": "m2"}]
                    ),
                    "async": lambda: other.add_message_to_thread("t3", "hi", message_id="m3"),
                }
                for name, add in adds.items():
                    while refused[name] < 3:
                        try:
                            done = add()
                            if name == "async":
                                await done
                            break
                        except StoreUnavailable:
                            refused[name] += 1
                assert max(refused.values()) <= 2, refused
                replies = [
                    await asyncio.to_thread(queue.wait_for_reply, f"m{number}", PATIENCE_S)
                    for number in (1, 2, 3)
                ]
            assert replies == ["re: hi"] * 3, "the worker works for the new primary"
            await asyncio.to_thread(worker.stop)
    for client in where.values() if own_client else ():
        client.close()


def test_a_scheduler_wakes_nothing_before_redis_has_accepted_writes_for_a_moment(
    scene: Scene, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis.from_url(scene.relay.url) as client:
        scheduler = Scheduler(Namespace(prefix, SystemClock()), client)
        scheduler.start()
        wait_until(lambda: b"EVALSHA" in scene.relay.passed, "it looks")
        with scene.saying(SAID["NOREPLICAS"]):
            wait_until(lambda: scene.relay.refused > 1, "it is refused")
            scene.relay.passed.clear()
        wait_until(lambda: b"EVALSHA" in scene.relay.passed, "it looks again")
        passed = list(scene.relay.passed)
        scheduler.stop()
    assert passed.index(b"SETRANGE") < passed.index(b"EVALSHA")
    assert len(trouble(caplog)) == 2
    assert scene.admin.keys(f"{prefix}:*") == [], "what it asked with has written nothing"


def test_a_subscriber_waits_and_logs_two_lines(
    scene: Scene, prefix: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_hub, "BLOCK_S", 0.1)
    with AssistantMessageQueue(
        redis_url=scene.relay.url, queue_prefix=prefix, backend=lambda _: "hi"
    ) as queue:
        listening = queue.events("t", timeout=PATIENCE_S)
        queue.add_message_to_thread("t", "before")
        assert next(listening).content == "before"
        with scene.saying(SAID["LOADING"]):
            wait_until(lambda: trouble(caplog), "the reader is refused")
            refused = scene.relay.refused
            wait_until(lambda: scene.relay.refused > refused, "and again")
        queue.add_message_to_thread("t", "hello")
        assert next(listening).content == "hello"
        began, ended = trouble(caplog)
        assert began.startswith("Redis does not answer subscribers: Redis refuses for now, LOADING")
        assert ended.startswith("Redis answers subscribers again, after ")
        queue.forget_thread("t")
