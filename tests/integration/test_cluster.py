"""A Redis in cluster mode is refused by name.

The command, workers, and callers that add a message refuse it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, ConfigurationError
from assistant_queue.cli import main
from assistant_queue.testing import StandInProvider
from tests.conftest import SERVERS, RedisServer
from tests.integration.conftest import wait_until
from tests.integration.test_cli import Command

SLOTS = 16384
MOST_PORT = 55_000
"""A node talks to others at its port and 10,000. Source: Redis, cluster-port."""
SAYS = "Redis Cluster is not supported"
PROCESSES = [["worker"], ["worker", "--fork"], ["serve"], ["send", "t", "hello"]]
COMMANDS = [
    ["status"],
    ["status", "--thread", "t"],
    ["doctor", "--no-provider"],
    ["sweep"],
    ["sweep", "--once"],
    ["send", "t", "hello"],
    ["failed"],
    ["failed", "retry", "batch"],
    ["thread", "t"],
    ["cancel", "message"],
    ["pause"],
    ["pause", "t"],
    ["resume"],
    ["forget", "t", "--yes"],
]


def cluster_node(directory: Path) -> RedisServer:
    directory.mkdir()
    program = SERVERS.get("path") or SERVERS["wheel"]
    made = RedisServer(program, directory, "--cluster-enabled", "yes")
    while made.port > MOST_PORT:
        made = RedisServer(program, directory, "--cluster-enabled", "yes")
    made.start()
    return made


@pytest.fixture(scope="module", params=["whole", "half", "unborn"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """A node that has all slots, one that has half of them and names another for the rest, and one that has none."""
    node = cluster_node(tmp_path_factory.mktemp("cluster") / "node")
    with redis.Redis.from_url(node.url) as client:
        own = {"whole": SLOTS, "half": SLOTS // 2, "unborn": 0}[request.param]
        if own:
            client.execute_command("CLUSTER ADDSLOTS", *range(own))
        if request.param == "half":
            client.config_set("cluster-require-full-coverage", "no")
        if own:
            wait_until(
                lambda: client.cluster("info")["cluster_state"] == "ok", "the node serves its slots"
            )
    yield node
    node.stop()


@pytest.fixture
def command(
    cluster: RedisServer, prefix: str, provider: StandInProvider, tmp_path: Path
) -> Command:
    return Command(cluster.url, prefix, provider, tmp_path)


def refused(code: int, stdout: str, stderr: str) -> None:
    assert (code, stdout) == (2, ""), stderr
    assert stderr.startswith(f"error: {SAYS}")
    assert "redis+sentinel://" in stderr
    assert stderr.count("\n") == 1, stderr


def test_every_command_ends_with_2_and_one_line_that_says_what_to_use(
    command: Command, cluster: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    for words in COMMANDS:
        done = CliRunner().invoke(main, words)
        refused(done.exit_code, done.stdout, done.stderr)
    with redis.Redis.from_url(cluster.url) as client:
        assert client.keys(f"{command.prefix}*") == []


@pytest.mark.parametrize("cluster", ["whole"], indirect=True)
@pytest.mark.parametrize("words", PROCESSES, ids=" ".join)
def test_so_does_a_process(command: Command, words: list[str]) -> None:
    done = command.run(*words)
    refused(done.returncode, done.stdout, done.stderr)


def test_a_url_that_names_a_database_gets_the_same_error(
    command: Command, cluster: RedisServer
) -> None:
    done = CliRunner().invoke(
        main,
        ["send", "t", "hello"],
        env={**command.environment, "REDIS_URL": f"{cluster.url[:-1]}3"},
    )
    refused(done.exit_code, done.stdout, done.stderr)


async def test_an_add_is_refused_and_nothing_is_queued(cluster: RedisServer, prefix: str) -> None:
    with AssistantMessageQueue(
        redis_url=cluster.url, queue_prefix=prefix, backend=lambda _: "hi"
    ) as queue:
        with pytest.raises(ConfigurationError, match=SAYS):
            queue.add_message_to_thread("t", "hello")
        with pytest.raises(ConfigurationError, match=SAYS):
            queue.add_messages([{"thread_id": "t", "message": "hello"}])
        with pytest.raises(ConfigurationError, match=SAYS):
            queue.start_worker()
    async with AsyncAssistantMessageQueue(
        redis_url=cluster.url, queue_prefix=prefix, backend=lambda _: "hi"
    ) as queue:
        with pytest.raises(ConfigurationError, match=SAYS):
            await queue.add_message_to_thread("t", "hello")
        with pytest.raises(ConfigurationError, match=SAYS):
            await queue.start_worker()


@pytest.mark.parametrize(
    "cluster", ["whole"], indirect=True
)  # of any other RQ's own command says first that it cannot work
@pytest.mark.parametrize("kind", ["assistant_queue.Worker", "assistant_queue.ConcurrentWorker"])
def test_workers_under_rqs_command_do_not_start(
    command: Command, kind: str, cluster: RedisServer
) -> None:
    words = [
        str(Path(sys.executable).parent / "rq"),
        "worker",
        "-u",
        cluster.url,
        command.prefix,
        "--worker-class",
        kind,
    ]
    ended = subprocess.run(
        words,
        env={**os.environ, **command.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode != 0
    assert SAYS in ended.stderr + ended.stdout


@pytest.mark.parametrize("cluster", ["whole"], indirect=True)
def test_a_cluster_client_is_refused_by_name(cluster: RedisServer) -> None:
    node: Any = redis.cluster.ClusterNode("127.0.0.1", cluster.port)
    asyncio_node: Any = redis.asyncio.cluster.ClusterNode("127.0.0.1", cluster.port)
    for client in (
        redis.RedisCluster(startup_nodes=[node]),
        redis.asyncio.RedisCluster(startup_nodes=[asyncio_node]),
    ):
        for kind in (AssistantMessageQueue, AsyncAssistantMessageQueue):
            with pytest.raises(ConfigurationError, match=SAYS):
                kind(redis=client, backend=lambda _: "hi")
