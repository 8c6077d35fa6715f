"""The examples run as a reader runs them, without a key."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assistant_queue.testing import StandInProvider
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer
from tests.docs.generated import ROOT

EXAMPLES = ROOT / "examples"
OURS = ("ASSISTANT_QUEUE_", "OPENAI_", "REDIS_URL")


def run(*command: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script or a module, as a process that has imported what workers import."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    first, *rest = command
    return fork_server.run(
        [sys.executable, first, *rest] if first.startswith("-") else [cwd / first, *rest],
        cwd=cwd,
        env={**kept, "PYTHONPATH": str(ROOT), **variables},
        timeout=PATIENCE_S,
    )


def test_three_messages_are_one_run() -> None:
    done = run("examples/basic.py")
    assert done.returncode == 0, done.stderr
    assert (
        "Bot: You said: Mia: Hi! | Mia: I want to bake a cake | Mia: but I have no eggs"
        in done.stdout
    )
    assert "3 messages, 1 run" in done.stdout
    assert done.stderr == ""


def test_two_calls_are_answered_in_one_round(docs_redis: RedisServer) -> None:
    done = run("examples/function_calling.py", REDIS_URL=docs_redis.url)
    assert done.returncode == 0, done.stderr
    assert "calls get_weather(Paris)" in done.stdout
    assert "Bot to travel (3 messages, completed): In Paris: " in done.stdout
    assert done.stderr == ""


def test_a_telegram_bot_answers_a_burst_once(docs_redis: RedisServer) -> None:
    done = run("examples/telegram_bot.py", REDIS_URL=docs_redis.url.replace("/0", "/4"))
    assert done.returncode == 0, done.stderr
    answers = [line for line in done.stdout.splitlines() if line.startswith("Bot: ")]
    assert answers == [
        "Bot: You said: Mia: Hi! | Mia: I want to bake a cake | Mia: but I have no eggs"
    ]
    assert done.stderr == ""


def test_an_app_of_ones_own_has_the_queues_routes(docs_redis: RedisServer) -> None:
    done = run("examples/fastapi_app.py", REDIS_URL=docs_redis.url)
    assert done.returncode == 0, done.stderr
    assert "completed - You said: Mia: Hi! | Mia: My lamp is broken" in done.stdout
    assert "Tom's thread: 403 not_allowed" in done.stdout
    assert done.stderr == ""


def test_the_classic_chat_answers_once_and_has_a_limit(docs_redis: RedisServer) -> None:
    done = run("examples/classic_chat.py", REDIS_URL=docs_redis.url.replace("/0", "/2"))
    assert done.returncode == 0, done.stderr
    # Two requests at once have no order; they have one answer.
    answers = re.findall(r"200 (You said: .*)", done.stdout)
    assert len(answers) == 2
    assert answers[0] == answers[1]
    assert set(answers) <= {
        "You said: Hi! | What is a debounce?",
        "You said: What is a debounce? | Hi!",
    }
    assert "sent twice: True\nYou said: Thanks!" in done.stdout
    assert "429 too_many_requests, come back in " in done.stdout
    assert done.stderr == ""


def test_people_in_a_shared_room_see_each_other_and_the_host_knows_them(
    docs_redis: RedisServer,
) -> None:
    done = run("examples/shared_room.py", REDIS_URL=docs_redis.url.replace("/0", "/3"))
    assert done.returncode == 0, done.stderr
    for name in ("Mia", "Tom"):
        assert f"[{name}'s screen] Tom: How do I start a cake?" in done.stdout
        round_of = "In this round: Mia bakes for a living; Tom has never baked."
        host = f"[{name}'s screen] Host: (You are the host of a room. {round_of}"
        assert host in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    "name",
    ["basic.py", "function_calling.py", "fastapi_app.py", "classic_chat.py", "shared_room.py"],
)
def test_with_a_key_a_model_has_to_be_named(name: str) -> None:
    done = run(f"examples/{name}", OPENAI_API_KEY="sk-not-a-key")
    assert done.returncode == 2
    assert "--model" in done.stderr


def test_workers_serve_the_app(
    docs_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    variables = {
        "REDIS_URL": docs_redis.url,
        "OPENAI_API_KEY": provider.api_key,
        "OPENAI_BASE_URL": provider.base_url,
        "ASSISTANT_QUEUE_MODEL": "any",
        "ASSISTANT_QUEUE_QUEUE_PREFIX": prefix,
        "ASSISTANT_QUEUE_MESSAGE_DELAY": "0",
    }
    cli = ("-m", "assistant_queue.cli")
    sent = run(
        *cli,
        "send",
        "--app",
        "app:queue",
        "customer-42",
        "Where is order 4711?",
        cwd=EXAMPLES,
        **variables,
    )
    assert sent.returncode == 0, sent.stderr
    worked = run(*cli, "worker", "--app", "app:queue", "--burst", cwd=EXAMPLES, **variables)
    assert worked.returncode == 0, worked.stderr
    assert "1 messages answered" in worked.stderr
    (first, *_) = provider.runs
    assert first.user_texts == ("Where is order 4711?",)


def test_every_example_is_in_the_table_of_examples() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*"):
        if path.is_file() and path.name != "README.md":
            assert path.name in page
