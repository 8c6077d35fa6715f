"""`assistant-queue serve` and `assistant-queue demo --web`, as commands."""

from __future__ import annotations

import importlib
import json
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
from assistant_queue.testing.channels import AnswerWith, LoseAnswer, WebhookReceiver
from tests.conftest import PATIENCE_S, SERVERS, RedisServer
from tests.docs.generated import ROOT
from tests.web.conftest import queue_options
from tests.web.listening import listening

OURS = ("ASSISTANT_QUEUE_", "OPENAI_", "REDIS_URL")


@contextmanager
def command(*words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """One of our commands that serves: the process, and its address."""
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
        address = next(
            (line.split()[1].rstrip("/") for line in lines if line.startswith("serving: ")), None
        )
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


def test_one_command_serves_the_page_answers_and_stops_as_asked(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    with command(
        "serve",
        "--app",
        "app:queue",
        "--worker",
        "--port",
        "0",
        **surroundings(one_redis, provider, prefix),
    ) as (process, url):
        answer = httpx.post(f"{url}/api/chat", json={"thread_id": "t", "message": "Hi!"})
        assert answer.status_code == 200
        page = httpx.get(f"{url}/room/t")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert (
            httpx.get(f"{url}/page/main.js").headers["content-type"].startswith("text/javascript")
        )
        assert httpx.get(f"{url}/", headers={"Host": "evil.example"}).status_code == 400
        sent = [
            httpx.post(f"{url}/api/threads/t/messages", json={"message": "Hi!"}).status_code
            for _ in range(5)
        ]
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


def test_requests_and_batches_are_logged_as_json(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    words = ["--worker", "--port", "0", "--access-log", "json"]
    words += ["--log-format", "json", "--log-level", "info"]
    variables = surroundings(one_redis, provider, prefix)
    with command("serve", *words, **variables) as (process, url):
        headers = {"X-Request-ID": "req-1"}
        body = {"thread_id": "t", "message": "Hi!"}
        assert httpx.post(f"{url}/api/chat", json=body, headers=headers).status_code == 200
        process.send_signal(signal.SIGTERM)
        printed, logged = process.communicate(timeout=PATIENCE_S)
    request = json.loads(printed.splitlines()[0])
    assert (request["path"], request["status"], request["request_id"]) == (
        "/api/chat",
        200,
        "req-1",
    )
    lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
    (ended,) = [line for line in lines if line.get("outcome") == "completed"]
    assert (ended["logger"], ended["thread_id"], ended["request_ids"]) == (
        "assistant_queue.batches",
        "t",
        ["req-1"],
    )


def test_replies_are_posted_to_your_own_address_until_it_takes_them(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    with WebhookReceiver() as receiver:
        receiver.fault(AnswerWith(503, headers={"retry-after": "0"}))
        receiver.fault(LoseAnswer(accept=True))
        variables = {
            **surroundings(one_redis, provider, prefix),
            "ASSISTANT_QUEUE_WEBHOOK_SECRET": receiver.secret,
            "ASSISTANT_QUEUE_DELIVERY_BACKOFF": '{"delay": 0.1}',
        }
        words = ("serve", "--worker", "--port", "0", "--webhook", receiver.url)
        with command(*words, **variables) as (process, url):
            sent = httpx.post(f"{url}/api/threads/a:1/messages", json={"message": "Hi!"})
            assert sent.status_code == 202
            receiver.wait_for(lambda: receiver.repeated, PATIENCE_S)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
            assert process.stderr is not None
            assert receiver.secret not in process.stderr.read()
        (event,) = receiver.events
    data = event["data"]
    assert (event["type"], data["thread_id"], data["reply"]) == (
        "reply.created",
        "a:1",
        "You said: Hi!",
    )
    assert data["message_ids"] == [sent.json()["message_id"]]


@pytest.mark.parametrize(
    ("words", "secret", "expected"),
    [
        (("--webhook", "http://x/"), "whsec_" + "a" * 44, "needs --worker"),
        (("--worker", "--webhook", "http://x/"), "", "needs a secret"),
        (("--worker", "--webhook", "http://x/"), "short", "Invalid webhook secret"),
        (("--worker", "--webhook", "x"), "whsec_" + "a" * 44, "Invalid url"),
    ],
)
def test_a_webhook_needs_a_worker_a_secret_and_an_address(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], secret: str, expected: str
) -> None:
    monkeypatch.setenv("ASSISTANT_QUEUE_WEBHOOK_SECRET", secret)
    result = CliRunner().invoke(main, ["serve", *words])
    assert result.exit_code == 2
    assert expected in result.output
    assert secret == "" or secret not in result.output


def test_a_service_without_redis_says_so_and_lives() -> None:
    with command("serve", "--port", "0", REDIS_URL="redis://127.0.0.1:1/0") as (process, url):
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("warning: ")
        assert "requests are refused: Redis did not answer" in line
        assert httpx.get(f"{url}/api/health/live").status_code == 200
        assert httpx.get(f"{url}/api/health/ready").status_code == 503


def test_serve_takes_its_port_and_options_from_the_environment_and_a_file(
    one_redis: RedisServer, provider: StandInProvider, prefix: str, tmp_path: Path
) -> None:
    file = tmp_path / "settings.env"
    file.write_text(
        "# the service\nexport PORT=0\nASSISTANT_QUEUE_QUEUE_PREFIX=not-this-one\n"
        f"REDIS_URL='{one_redis.url}'\nASSISTANT_QUEUE_MESSAGE_DELAY=7\n"
    )
    variables = surroundings(one_redis, provider, prefix)
    for name in ("REDIS_URL", "ASSISTANT_QUEUE_MESSAGE_DELAY"):
        del variables[name]
    with command("serve", "--env-file", str(file), **variables) as (_, url):
        assert not url.endswith(":8000")
        taken = httpx.post(f"{url}/api/threads/t/messages", json={"message": "Hi!"}).json()
    assert 5 < taken["estimated_wait_s"] <= 7, "from the file"
    with AssistantMessageQueue(redis_url=one_redis.url, queue_prefix=prefix) as queue:
        assert queue.get_message(taken["message_id"]), "the environment comes before the file"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--env-file", "nowhere.env"], "--env-file 'nowhere.env' cannot be read: No such file"),
        (["--env-file", "binary.env"], "--env-file 'binary.env' is not UTF-8"),
        ([], "'eighty' is not a valid integer"),
    ],
)
def test_a_file_or_port_that_cannot_be_read_is_named(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", "eighty")
    (tmp_path / "binary.env").write_bytes(b"A=\xff")
    told = CliRunner().invoke(main, ["serve", *words])
    assert told.exit_code == 2
    assert said in told.output


def test_a_file_beside_the_service_is_read_without_being_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PORT", raising=False)
    (tmp_path / ".env").write_text("PORT=eighty\n")
    told = CliRunner().invoke(main, ["serve"], env={"PORT": None})
    assert "'eighty' is not a valid integer" in told.output
    monkeypatch.delenv("PORT", raising=False)
    refused = CliRunner().invoke(
        main, ["serve", "--env-file", "", "--host", "0.0.0.0"], env={"PORT": None}
    )
    assert "'eighty'" not in refused.output
    assert refused.exit_code == 2


def test_serve_uses_your_authorize_function(
    one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    options = ("--port", "0", "--authorize", "jwt_access:authorize", "--no-page")
    told = {
        **surroundings(one_redis, provider, prefix),
        "JWT_SECRET": "a secret of thirty-two characters",
    }
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
        (["--frame-limit", "often"], "frame_limit cannot be read"),
        (["--trusted-proxy", "everybody"], "trusted_proxies"),
        (["--origin", "example.com"], "allowed_origins"),
        (["--worker"], "backend"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_line(
    words: list[str], says: str, no_backend: None
) -> None:
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
    with command(
        "serve", "--app", "app:queue", "--port", "0", **surroundings(one_redis, provider, prefix)
    ) as (process, url):
        words = [
            sys.executable,
            "-m",
            "tests.benchmarks.flooding",
            kind,
            "--port",
            url.rpartition(":")[2],
        ]
        with subprocess.Popen(
            words, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
        ) as flooding_process:
            assert flooding_process.stdout is not None
            assert flooding_process.stdout.readline() == b"ready\n"
            try:
                for _ in range(10):
                    assert httpx.get(f"{url}/api/threads/t", timeout=PATIENCE_S).status_code == 200
                sent = httpx.post(
                    f"{url}/api/threads/t/messages", json={"message": "Hi!"}, timeout=PATIENCE_S
                )
                assert sent.status_code == 202
            finally:
                flooding_process.kill()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None
        said = process.stderr.read()
    assert [
        line for line in said.splitlines() if not line.startswith("warning: without --authorize")
    ] == [], "a flood fills no log"


@pytest.fixture
def no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(OURS):
            monkeypatch.delenv(name)


def test_the_demo_of_the_page_has_everything_behind_it() -> None:
    with command("demo", "--web", "--workers", "1") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        taken = [
            httpx.post(
                f"{url}/api/threads/kitchen/messages", json={"message": text, "author": "Mia"}
            )
            for text in ("Hi!", "#4711?")
        ]
        found = httpx.get(
            f"{url}{taken[-1].headers['location']}", params={"wait": 30}, timeout=PATIENCE_S
        ).json()
        assert "`4711`" in found["reply"]
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0


def test_the_demo_of_the_page_does_not_play_a_file() -> None:
    assert CliRunner().invoke(main, ["demo", "--web", "--json"]).exit_code == 2


@pytest.mark.parametrize("missing", ["fastapi", "limits", "sse_starlette"])
def test_what_is_not_installed_is_named_with_its_extra(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "assistant_queue.integrations.fastapi"
    for module in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingExtra, match=rf"{missing}.*assistant-queue\[web\]") as found:
        importlib.import_module(name)
    assert isinstance(found.value, ImportError | ConfigurationError)


@pytest.mark.parametrize("kind", sorted(SERVERS))
async def test_the_service_works_as_the_shipped_redis_user(
    provider: StandInProvider, tmp_path: Path, kind: str
) -> None:
    users = tmp_path / "users.acl"
    users.write_text(
        (ROOT / "docs" / "redis-users.acl").read_text(encoding="utf-8"), encoding="utf-8"
    )
    server = RedisServer(
        SERVERS[kind], tmp_path, "--aclfile", str(users), "--acl-pubsub-default", "resetchannels"
    )
    server.start()
    try:
        url = f"redis://web:change-me-web@127.0.0.1:{server.port}/0"
        options: dict[str, Any] = {
            **queue_options(url, provider, "assistant"),
            "queue_prefix": "assistant",
        }
        worker_url = url.replace("web:change-me-web", "worker:change-me-worker")
        with (
            AssistantMessageQueue(**options) as queue,
            AssistantMessageQueue(**{**options, "redis_url": worker_url}) as working,
        ):
            working.start_worker()
            app = create_app(
                queue, authorize=allow_all, rate_limit="5/minute", request_limit="100/minute"
            )
            async with httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://test", timeout=PATIENCE_S
            ) as client:
                assert (
                    await client.post("/api/chat", json={"thread_id": "t", "message": "Hi!"})
                ).status_code == 200
                ready = (await client.get("/api/health/ready")).json()
                assert ready["workers"] == 1
                scraped = (await client.get("/metrics")).text
                assert '\nassistant_queue_up{queue="assistant"} 1.0\n' in scraped
                assert "\nassistant_queue_workers{" not in scraped, "it may not read them"
                for method, path in (
                    ("GET", "/api/status"),
                    ("GET", "/api/failed"),
                    ("POST", "/api/pause"),
                    ("POST", "/api/resume"),
                ):
                    assert (await client.request(method, path)).status_code < 300, path
                assert (
                    await client.post("/api/threads/t/typing", json={"author": "Mia"})
                ).status_code == 204
                assert (await client.delete("/api/threads/t")).status_code == 204
    finally:
        server.stop()
