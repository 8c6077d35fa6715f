"""The demo: real processes, a short input, and nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
import redis
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.cli.demo.redis_server import private_redis, version_of
from assistant_queue.cli.exit_errors import Problem
from tests import fork_server
from tests.conftest import PATIENCE_S, SERVERS
from tests.integration.terminal import seen_in_a_terminal

LINES = [
    {"t": 0, "thread": "mia", "text": "Hi!"},
    {"t": 0.2, "thread": "mia", "text": "where is #4711?"},
    {"t": 0.1, "thread": "lake", "text": "Who drives?", "author": "Tom"},
    {"t": 0.3, "thread": "lake", "text": "I can\ntake four", "author": "Léa 🚗"},
    {"t": 2.2, "thread": "mia", "text": "and one more thing"},
    {"t": 0.4, "thread": "yuki", "text": "すみません"},
]


def demo(*args: str) -> list[str]:
    return [sys.executable, "-m", "assistant_queue.cli", "demo", *args]


def run(
    command: list[str], environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its workers are processes that it starts."""
    return fork_server.run(command, env=environment, timeout=PATIENCE_S)


@pytest.fixture
def short(tmp_path: Path) -> Path:
    path = tmp_path / "short.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in LINES), encoding="utf-8")
    return path


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_the_demo_plays_a_file_and_proves_that_nothing_was_lost_or_doubled(
    short: Path, protocol: str
) -> None:
    misleading = {
        "ASSISTANT_QUEUE_MESSAGE_DELAY": "60",
        "ASSISTANT_QUEUE_MODEL": "m",
        "OPENAI_ASSISTANT_ID": "asst_x",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    done = run(
        demo("--input", str(short), "--protocol", protocol, "--json"), {**os.environ, **misleading}
    )
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    facts = {
        name: verdict[name]
        for name in (
            "holds",
            "messages",
            "threads",
            "lost",
            "doubled",
            "failed",
            "ordered",
            "at_once",
            "tool_calls",
        )
    }
    assert facts == {
        "holds": True, "messages": 6, "threads": 3, "lost": 0, "doubled": 0, "failed": 0, "ordered": 3, "at_once": 0, "tool_calls": 1
    }  # fmt: skip
    assert verdict["runs"] < 6
    assert verdict["runs_saved"] == 6 - verdict["runs"]
    assert "provider's own log" in verdict["checked_by"]


def test_on_a_platform_that_misbehaves_each_reply_is_on_the_screen_once(short: Path) -> None:
    done = run(demo("--input", str(short), "--channel", "telegram", "--json"))
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads(done.stdout)
    screens = verdict["screens"]
    assert verdict["holds"]
    assert (screens["lost"], screens["doubled"], screens["ordered"]) == (0, 0, 3)
    assert screens["replies"] == verdict["runs"]
    assert screens["away_s"] >= 2


def test_the_window_of_ones_own_messages_can_be_chosen(short: Path) -> None:
    done = run(demo("--input", str(short), "--window", "0.05", "--workers", "1"))
    assert done.returncode == 0, done.stderr
    assert "window 0.05 s" in done.stdout
    alone = re.search(r"^ +runs +(\d+)", done.stdout, re.MULTILINE)
    assert alone is not None
    in_bursts = run(demo("--input", str(short), "--json"))
    assert int(alone[1]) > json.loads(in_bursts.stdout)["runs"]


def test_without_a_terminal_the_demo_prints_plain_lines(short: Path) -> None:
    done = run(demo("--input", str(short)))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "mia                < Hi!" in done.stdout
    assert "tool order_status(#4711)" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("OK: ")


def test_in_a_terminal_the_demo_shows_a_table_that_changes_in_place(short: Path) -> None:
    code, shown = seen_in_a_terminal(demo("--input", str(short)))
    assert code == 0, shown
    assert "\x1b[" in shown
    assert "last reply" in shown
    assert "gathering" in shown
    assert "OK: every message was answered exactly once" in shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupted_demo_leaves_no_process_behind(number: signal.Signals) -> None:
    process = subprocess.Popen(
        demo(),
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    while " < " not in (line := process.stdout.readline()):
        assert line, "it ended before its first message"
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    process.send_signal(number)
    _, said = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert said.startswith("error: interrupted")
    assert said.count("\n") == 1
    gone, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert not alive
    assert len(gone) == len(children)


def test_a_bad_line_ends_with_2_and_names_file_line_and_problem(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(
        '{"t": 0, "thread": "a", "text": "x"}\n{"t": "soon", "thread": "a", "text": "x"}\n[]\n'
    )
    done = CliRunner().invoke(main, ["demo", "--input", str(path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert (
        done.stderr
        == f'error: {path}, line 2: t must be a number of seconds, not "soon" (1 more line is wrong); nothing was started\n'
    )


@pytest.mark.parametrize(
    ("args", "environment", "says"),
    [
        (["--live", "--model", "m"], {"OPENAI_API_KEY": None}, "OPENAI_API_KEY"),
        (["--live"], {"OPENAI_API_KEY": "sk-hidden"}, "--model"),
        (
            ["--live", "--protocol", "assistants"],
            {"OPENAI_API_KEY": "sk-hidden", "OPENAI_ASSISTANT_ID": None},
            "OPENAI_ASSISTANT_ID",
        ),
    ],
)
def test_the_real_service_needs_a_key_and_a_name(
    args: list[str], environment: dict[str, str | None], says: str
) -> None:
    done = CliRunner().invoke(main, ["demo", *args], env=environment)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "hidden" not in done.stderr


# --- the private Redis ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*sorted(SERVERS), "fake"])
def test_any_private_redis_serves_the_queue_and_is_gone_afterwards(kind: str) -> None:
    with private_redis((kind,)) as (url, name):
        assert "edis" in name
        with AssistantMessageQueue(
            redis_url=url, backend=lambda batch: f"You said: {batch.text}", message_delay=0.1
        ) as queue:
            with redis.Redis.from_url(url) as client:
                with pytest.raises(redis.ResponseError):
                    client.execute_command("NO SUCH COMMAND")
                assert client.ping(), "an error is an answer, not the end"
                assert str(client.client_info()["addr"]).startswith("127.0.0.1:")
            queue.start_worker()
            assert queue.ask("mia", "Hello!", timeout=30) == "You said: Hello!"
            assert queue.get_queue_status().completed_count == 1
    with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
        client.ping()


def test_without_any_redis_the_error_says_what_to_do() -> None:
    with pytest.raises(Problem, match="install redis-server"), private_redis(()):
        pass


def test_a_program_that_is_no_redis_is_not_started() -> None:
    assert version_of(sys.executable) == (0,)
    assert version_of("no-such-program-at-all") == (0,)
