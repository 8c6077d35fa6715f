"""RQ's keys can begin with something else than `rq` (RQ 3, `RQ_KEY_PREFIX`): every worker answers, and none of our keys stands elsewhere."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from assistant_queue.store import wakeups
from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer, installed_redis
from tests.integration.conftest import BIN, WORKER_CLASSES, wait_until
from tests.integration.test_cli import Command

KNOWN = int(importlib.metadata.version("rq").partition(".")[0]) >= 3
"""RQ 2 has no such setting: its keys begin with `rq`, whatever the environment says."""


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own: which keys there are at all is what is asked."""
    yield from installed_redis(tmp_path)


@pytest.fixture(params=["{tenant}:rq"])
def rq_prefix(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Prefix of RQ's keys, for all processes of the test."""
    if request.param is None:
        monkeypatch.delenv("RQ_KEY_PREFIX", raising=False)
        return "rq"
    monkeypatch.setenv("RQ_KEY_PREFIX", request.param)
    return request.param if KNOWN else "rq"


@pytest.fixture
def command(
    own_redis: RedisServer, rq_prefix: str, prefix: str, provider: StandInProvider, tmp_path: Path
) -> Command:
    return Command(own_redis.url, prefix, provider, tmp_path)


@contextmanager
def worker_of(
    kind: str, command: Command, server: RedisServer, rq_prefix: str, directory: Path
) -> Iterator[redis.Redis]:
    """Run a worker of this kind; yield a client of its Redis."""
    words = [sys.executable, "-m", "assistant_queue.cli", "worker"]
    if kind != "command":
        extra = (
            ["--with-scheduler"] if kind == "stock" else ["--worker-class", WORKER_CLASSES[kind]]
        )
        words = [str(BIN / "rq"), "worker", "-u", server.url, command.prefix, *extra]
    with (
        redis.Redis.from_url(server.url) as client,
        (directory / "worker.log").open("wb") as log,
    ):
        worker = subprocess.Popen(words, env=command.environment, stdout=log, stderr=log)
        try:
            wait_until(
                lambda: client.scard(f"{rq_prefix}:workers:{command.prefix}"),
                "the worker registers with RQ",
            )
            yield client
        finally:
            worker.terminate()
            worker.wait(60)


@pytest.mark.parametrize(
    ("kind", "rq_prefix"),
    [("command", None), *((kind, "{tenant}:rq") for kind in ("stock", "forking", "concurrent"))],
    indirect=["rq_prefix"],
)
def test_every_worker_answers_and_all_keys_of_rq_begin_as_rq_says(
    kind: str, command: Command, own_redis: RedisServer, rq_prefix: str, tmp_path: Path
) -> None:
    with worker_of(kind, command, own_redis, rq_prefix, tmp_path) as client:
        sent = command.run("send", "mia", "Hello!", "--wait", "50")
        assert (sent.returncode, sent.stdout != "") == (0, True), sent.stderr
        assert not strangers_in(client, command, rq_prefix)


def test_what_a_worker_leaves_is_looked_for_where_rq_keeps_it(
    command: Command, own_redis: RedisServer, rq_prefix: str, tmp_path: Path
) -> None:
    with worker_of("command", command, own_redis, rq_prefix, tmp_path) as client:
        sent = command.run("send", "mia", "Hello!", "--wait", "50")
        assert (sent.returncode, sent.stdout != "") == (0, True), sent.stderr
        command.run("send", "mia", "Later!", ASSISTANT_QUEUE_MESSAGE_DELAY="600")
        told = command.run("doctor", "--no-provider")
        assert "no worker is alive" not in told.stdout
        assert not strangers_in(client, command, rq_prefix)
        assert client.exists(f"{rq_prefix}:scheduled:{command.prefix}")


def strangers_in(client: redis.Redis, command: Command, rq_prefix: str) -> set[str]:
    """Return the keys that are neither the queue's nor RQ's."""
    names = {name.decode() for name in client.scan_iter(count=1000)}
    assert names
    return {name for name in names if not name.startswith((f"{rq_prefix}:", f"{command.prefix}:"))}


def test_a_thread_that_calls_the_asyncio_worker_itself_finds_the_same_keys(
    command: Command, own_redis: RedisServer, rq_prefix: str
) -> None:
    script = (
        "from assistant_queue import AssistantMessageQueue\n"
        "queue = AssistantMessageQueue(backend=lambda _: 'hi', message_delay=0)\n"
        "queue.start_worker()\n"
        "print(queue.wait_for_reply(queue.add_message_to_thread('t', 'hello').message_id, timeout=50), queue.get_queue().key)\n"
        "queue.close()\n"
    )
    environment = {
        name: value
        for name, value in command.environment.items()
        if name != "ASSISTANT_QUEUE_MODEL"
    }
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.stdout == f"hi {rq_prefix}:queue:{command.prefix}\n", ran.stderr


@pytest.mark.skipif(not KNOWN, reason="RQ 2 does not look at it")
@pytest.mark.parametrize(
    "words", [["send", "mia", "Hello!"], ["worker"], ["worker", "--fork"]], ids=" ".join
)
def test_a_beginning_that_rq_refuses_ends_with_2_and_one_line(
    words: list[str], one_redis: RedisServer, prefix: str, provider: StandInProvider, tmp_path: Path
) -> None:
    done = Command(one_redis.url, prefix, provider, tmp_path).run(*words, RQ_KEY_PREFIX="two words")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: Invalid RQ_KEY_PREFIX 'two words'")
    assert done.stderr.count("\n") == 1


def test_what_rq_has_read_counts_not_what_the_environment_says_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import rq.defaults

    monkeypatch.setenv("RQ_KEY_PREFIX", "later")
    wakeups.rq_prefix.cache_clear()
    assert wakeups.rq_prefix() == getattr(rq.defaults, "RQ_KEY_PREFIX", "rq")


def test_a_producer_does_not_import_rq_for_an_unset_prefix() -> None:
    script = "import sys, assistant_queue.client.queue\nfrom assistant_queue.store.wakeups import queue_key\nprint(queue_key('a'), 'rq' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "RQ_KEY_PREFIX"}
    ran = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout == "rq:queue:a False\n"
