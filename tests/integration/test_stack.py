"""Rehearsal of docker-compose.yml: its commands as they stand there, without an engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
import yaml

from tests.audit.conftest import PostgresServer, postgres
from tests.conftest import PATIENCE_S, SERVERS, RedisServer, free_port
from tests.integration.conftest import wait_until

__all__ = ["postgres"]

ROOT = Path(__file__).resolve().parents[2]
STACK = ROOT / "deploy" / "stack"
PORTS = ("8000", "8080", "9100", "9090")
PROMETHEUS = shutil.which("prometheus")


class Stack:
    """The services of the file, on this machine's loopback address."""

    def __init__(self, redis: RedisServer, database: str, directory: Path) -> None:
        self._directory = directory
        self._free = {port: str(free_port()) for port in PORTS}
        self._redis = redis
        self.database = database
        self._processes: list[subprocess.Popen[bytes]] = []
        self.variables = dict(
            line.split("=", 1)
            for line in (STACK / "stand-in.env").read_text(encoding="utf-8").splitlines()
            if line and not line.startswith("#")
        )
        text = self.elsewhere((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
        self.services = yaml.safe_load(self._filled_in(text))["services"]

    def elsewhere(self, text: str) -> str:
        """Return a file with the addresses of this rehearsal."""
        text = re.sub(r"postgresql\+psycopg://\S+", self.database, text)
        text = text.replace("redis:6379", f"127.0.0.1:{self._redis.port}")
        for name in ("worker", "web", "model", "prometheus"):
            text = text.replace(f'"{name}:', '"127.0.0.1:').replace(f"//{name}:", "//127.0.0.1:")
        for port, free in self._free.items():
            text = re.sub(rf"\b{port}\b", free, text)
        return text

    def _filled_in(self, text: str) -> str:
        """Return the file with the variables that Compose would put in."""

        def value(match: re.Match[str]) -> str:
            name, kind, rest = match.groups()
            given = self.elsewhere(self.variables.get(name, ""))
            assert given or kind == ":-", f"{name} is required"
            return given or rest

        return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, text)

    def environment(self, service: str) -> dict[str, str]:
        named = {name: str(value) for name, value in self.services[service]["environment"].items()}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        inherited = {
            name: os.environ[name] for name in ("PYTHONPATH", "HOME") if name in os.environ
        }
        return {**inherited, "PATH": path, "NO_PROXY": "127.0.0.1", **named}

    def start(self, service: str) -> subprocess.Popen[bytes]:
        with (self._directory / f"{service}.log").open("ab") as log:
            process = subprocess.Popen(
                self.services[service]["command"],
                cwd=ROOT / "examples",
                env=self.environment(service),
                stdout=log,
                stderr=log,
            )
        self._processes.append(process)
        return process

    def is_healthy(self, service: str) -> bool:
        words = self.services[service]["healthcheck"]["test"][1:]
        done = subprocess.run(
            words, env=self.environment(service), capture_output=True, check=False
        )
        return done.returncode == 0

    def url(self, port: str, path: str) -> str:
        return f"http://127.0.0.1:{self._free[port]}{path}"

    def start_prometheus(self) -> None:
        """Start it with the file of the stack, and the rules beside it."""
        shutil.copy(ROOT / "deploy" / "alerts.yaml", self._directory / "alerts.yaml")
        configuration = self._directory / "prometheus.yaml"
        text = (STACK / "prometheus.yaml").read_text(encoding="utf-8")
        configuration.write_text(self.elsewhere(text).replace("15s", "1s"), encoding="utf-8")
        command = [str(PROMETHEUS), f"--config.file={configuration}"]
        where = f"--web.listen-address=127.0.0.1:{self._free['9090']}"
        storage = f"--storage.tsdb.path={self._directory / 'prometheus'}"
        with (self._directory / "prometheus.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen([*command, where, storage], stdout=log, stderr=log)
            )

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(PATIENCE_S)


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if shutil.which("postgres") is None or shutil.which("initdb") is None:
        return f"sqlite:///{tmp_path / 'audit.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    engine = sa.create_engine(server.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE audit"))
    engine.dispose()
    return server.url.replace("/postgres", "/audit")


@pytest.fixture
def stack(tmp_path: Path, database: str) -> Iterator[Stack]:
    redis = RedisServer(SERVERS.get("path") or SERVERS["wheel"], tmp_path)
    redis.start()
    made = Stack(redis, database, tmp_path)
    yield made
    made.stop()
    redis.stop()


def answer(url: str, **fields: Any) -> Any:
    """Return a page's JSON; None while it does not answer."""
    try:
        found = httpx.get(url, timeout=PATIENCE_S, **fields)
    except httpx.TransportError:
        return None
    return found.json() if found.status_code == httpx.codes.OK else None


def test_the_stack_without_a_key_chats_audits_and_is_watched(stack: Stack) -> None:
    assert stack.start("audit-tables").wait(PATIENCE_S) == 0
    for service in ("model", "worker", "web"):
        stack.start(service)
    for service in ("worker", "web"):
        wait_until(lambda name=service: stack.is_healthy(name), f"{service} is healthy")
    api = stack.url("8000", "/api/threads/mia/messages")
    sent = httpx.post(api, json={"message": "hi"}, headers={"origin": stack.url("8000", "")})
    assert sent.status_code == httpx.codes.ACCEPTED
    link = stack.url("8000", sent.headers["location"])
    found = wait_until(lambda: answer(link, params={"wait": 20}), "the message is known")
    assert (found["status"], found["reply"]) == ("completed", "You said: hi")
    assert "<html" in httpx.get(stack.url("8000", "/")).text
    assert "assistant_queue" in httpx.get(stack.url("9100", "/metrics")).text

    engine = sa.create_engine(stack.database)

    def is_audited() -> list[Any]:
        with engine.connect() as connection:
            return list(connection.execute(sa.text("SELECT * FROM assistant_queue_batches")))

    wait_until(is_audited, "the batch is in the audit")
    engine.dispose()
    if PROMETHEUS is not None:
        stack.start_prometheus()
        targets = stack.url("9090", "/api/v1/targets")

        def are_up() -> bool:
            active = (answer(targets) or {"data": {"activeTargets": []}})["data"]["activeTargets"]
            return [one["health"] for one in active] == ["up", "up"]

        wait_until(are_up, "Prometheus scrapes the worker and the service")
