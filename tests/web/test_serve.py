"""`assistant-queue serve` and `assistant-queue demo --web`, as commands."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.errors import ConfigurationError, MissingExtra
from assistant_queue.integrations.fastapi import allow_all, create_app
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, SERVERS, RedisServer
from tests.docs.generated import ROOT
from tests.web.conftest import queue_options
from tests.web.listening import listening

OURS = ("ASSISTANT_QUEUE_", "OPENAI_", "REDIS_URL")


@contextmanager
def command(*words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A command of ours that serves: the process, and its address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    process = subprocess.Popen(
        [sys.executable, "-m", "assistant_queue.cli", *words],
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        cwd=ROOT / "examples",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines = iter(process.stdout.readline, "")
        address = next((line.split()[1].rstrip("/") for line in lines if line.startswith("serving: ")), None)
        assert address is not None, process.stderr.read()
        yield process, address
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def surroundings(redis: RedisServer, provider: StandInProvider, prefix: str) -> dict[str, str]:
    return {
        "REDIS_URL": redis.url,
        "OPENAI_API_KEY": provider.api_key,
        "OPENAI_BASE_URL": provider.base_url,
        "ASSISTANT_QUEUE_MODEL": "any",
        "ASSISTANT_QUEUE_QUEUE_PREFIX": prefix,
        "ASSISTANT_QUEUE_MESSAGE_DELAY": "0",
    }


def test_one_command_serves_the_page_answers_and_stops_as_asked(one_redis: RedisServer, provider: StandInProvider, prefix: str) -> None:
    with command("serve", "--app", "app:queue", "--worker", "--port", "0", **surroundings(one_redis, provider, prefix)) as (process, url):
        answer = httpx.post(f"{url}/api/chat", json={"thread_id": "t", "message": "Hi!"})
        assert answer.status_code == 200
        page = httpx.get(f"{url}/room/t")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert httpx.get(f"{url}/page/main.js").headers["content-type"].startswith("text/javascript")
        assert httpx.get(f"{url}/", headers={"Host": "evil.example"}).status_code == 400
        sent = [httpx.post(f"{url}/api/threads/t/messages", json={"message": "Hi!"}).status_code for _ in range(5)]
        assert sent == [202, 202, 202, 202, 429], "five a minute by default"
        with listening(url, "t") as stream:
            stream.until("caught_up")
            process.send_signal(signal.SIGTERM)
            stream.rest()
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert "warning: without --authorize no client is asked for its identity" in said
    assert "Traceback" not in said


def test_a_service_without_redis_says_so_and_lives() -> None:
    with command("serve", "--port", "0", REDIS_URL="redis://127.0.0.1:1/0") as (process, url):
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("warning: ")
        assert "requests are refused: Redis did not answer" in line
        assert httpx.get(f"{url}/api/health/live").status_code == 200
        assert httpx.get(f"{url}/api/health/ready").status_code == 503


def test_your_function_decides_who_may_do_what(one_redis: RedisServer, provider: StandInProvider, prefix: str) -> None:
    options = ("--port", "0", "--authorize", "jwt_access:authorize", "--no-page")
    told = {**surroundings(one_redis, provider, prefix), "JWT_SECRET": "a secret of thirty-two characters"}
    with command("serve", "--app", "app:queue", *options, **told) as (_, url):
        assert httpx.get(f"{url}/api/threads/t").status_code == 401
        assert httpx.get(f"{url}/api/health/ready").status_code == 200
        assert httpx.get(f"{url}/").status_code == 404


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--host", "0.0.0.0"], "--allow-anyone"),
        (["--host", "example.com"], "--allow-anyone"),
        (["--authorize", "nonsense"], "module:function"),
        (["--authorize", "no_such_module:f"], "no_such_module"),
        (["--authorize", "os:no_such_function"], "no function"),
        (["--rate-limit", "often"], "rate_limit cannot be read"),
        (["--trusted-proxy", "everybody"], "trusted_proxies"),
        (["--origin", "example.com"], "allowed_origins"),
        (["--worker"], "backend"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(words: list[str], says: str, no_backend: None) -> None:
    done = CliRunner().invoke(main, ["serve", "--port", "0", *words])
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output


@pytest.mark.parametrize("host", ["127.0.0.1", "192.0.2.1"], ids=["taken", "not ours"])
def test_an_address_that_cannot_be_had_is_one_line_and_1(host: str, no_backend: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(main, ["serve", "--host", host, "--allow-anyone", "--port", port])
    assert done.exit_code == 1
    assert done.stderr.startswith(f"error: cannot listen at {host}:{port}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["messages", "pings", "bodies"])
def test_others_are_answered_while_a_hostile_process_floods(
    kind: str, one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    with command("serve", "--app", "app:queue", "--port", "0", **surroundings(one_redis, provider, prefix)) as (process, url):
        words = [sys.executable, "-m", "tests.benchmarks.flooding", kind, "--port", url.rpartition(":")[2]]
        with subprocess.Popen(words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE) as flooding_process:
            assert flooding_process.stdout is not None
            assert flooding_process.stdout.readline() == b"ready\n"
            try:
                for _ in range(10):
                    assert httpx.get(f"{url}/api/threads/t", timeout=PATIENCE_S).status_code == 200
                sent = httpx.post(f"{url}/api/threads/t/messages", json={"message": "Hi!"}, timeout=PATIENCE_S)
                assert sent.status_code == 202
            finally:
                flooding_process.kill()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert [line for line in said.splitlines() if not line.startswith("warning: without --authorize")] == [], "a flood fills no log"


@pytest.fixture
def no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


def test_the_demo_of_the_page_has_everything_behind_it() -> None:
    with command("demo", "--web", "--workers", "1") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        taken = [httpx.post(f"{url}/api/threads/kitchen/messages", json={"message": text, "author": "Mia"}) for text in ("Hi!", "#4711?")]
        found = httpx.get(f"{url}{taken[-1].headers['location']}", params={"wait": 30}, timeout=PATIENCE_S).json()
        assert "`4711`" in found["reply"]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def test_the_demo_of_the_page_does_not_play_a_file() -> None:
    assert CliRunner().invoke(main, ["demo", "--web", "--json"]).exit_code == 2


@pytest.mark.parametrize("missing", ["fastapi", "limits", "sse_starlette"])
def test_what_is_not_installed_is_named_with_its_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "assistant_queue.integrations.fastapi"
    for module in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=rf"{missing}.*assistant-queue\[web\]") as found:
        importlib.import_module(name)
    assert isinstance(found.value, ImportError | ConfigurationError)


@pytest.mark.parametrize("kind", sorted(SERVERS))
async def test_the_service_works_as_the_shipped_redis_user(provider: StandInProvider, tmp_path: Path, kind: str) -> None:
    users = tmp_path / "users.acl"
    users.write_text((ROOT / "docs" / "redis-users.acl").read_text(encoding="utf-8"), encoding="utf-8")
    server = RedisServer(SERVERS[kind], tmp_path, "--aclfile", str(users), "--acl-pubsub-default", "resetchannels")
    server.start()
    try:
        url = f"redis://web:change-me-web@127.0.0.1:{server.port}/0"
        options: dict[str, Any] = {**queue_options(url, provider, "assistant"), "queue_prefix": "assistant"}
        worker_url = url.replace("web:change-me-web", "worker:change-me-worker")
        with AssistantMessageQueue(**options) as queue, AssistantMessageQueue(**{**options, "redis_url": worker_url}) as working:
            working.start_worker()
            app = create_app(queue, authorize=allow_all, rate_limit="5/minute", request_limit="100/minute")
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test", timeout=PATIENCE_S) as client:
                assert (await client.post("/api/chat", json={"thread_id": "t", "message": "Hi!"})).status_code == 200
                ready = (await client.get("/api/health/ready")).json()
                assert ready["workers"] == 1
                for method, path in (("GET", "/api/status"), ("GET", "/api/failed"), ("POST", "/api/pause"), ("POST", "/api/resume")):
                    assert (await client.request(method, path)).status_code < 300, path
                assert (await client.post("/api/threads/t/typing", json={"author": "Mia"})).status_code == 204
                assert (await client.delete("/api/threads/t")).status_code == 204
    finally:
        server.stop()
