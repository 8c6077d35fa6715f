"""The command, as people and programs use it: real processes, a real Redis, the stand-in provider."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest
import redis
import rq
import rq.suspension
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.cli.shared_options import backend_name, redis_name
from assistant_queue.config import configure
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import refuse
from assistant_queue.worker import health_server
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from tests import fork_server
from tests.conftest import PATIENCE_S, RedisServer, free_port
from tests.integration.conftest import wait_until
from tests.integration.terminal import line_of, seen_in_a_terminal, wait_for_line

COMMANDS = [
    ["demo"],
    ["worker"],
    ["send"],
    ["status"],
    ["threads"],
    ["failed"],
    ["failed", "retry"],
    ["failed", "discard"],
    ["sweep"],
]
NOWHERE = "redis://127.0.0.1:1/0"


class Command:
    """`assistant-queue` in separate processes, configured by their environment."""

    def __init__(self, url: str, prefix: str, provider: StandInProvider, directory: Path) -> None:
        self.prefix = prefix
        self.directory = directory
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ASSISTANT_QUEUE_", "OPENAI_", "REDIS_URL"))
        }
        self.environment = {
            **kept,
            "REDIS_URL": url,
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "ASSISTANT_QUEUE_MODEL": "stand-in-model",
            "ASSISTANT_QUEUE_QUEUE_PREFIX": prefix,
            "ASSISTANT_QUEUE_MESSAGE_DELAY": "0.2",
            "ASSISTANT_QUEUE_BACKOFF": json.dumps({"type": "fixed", "delay": 0.1}),
            "ASSISTANT_QUEUE_LOCK_DURATION": "3",
        }

    def run(self, *args: str, said: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command until it ends; as a child of the fork server, unless RQ reads a variable.

        RQ reads the beginning of its keys when it is imported.
        """
        environment = {**self.environment, **variables}
        if "RQ_KEY_PREFIX" not in environment:
            return fork_server.run(
                self._command(*args),
                env=environment,
                cwd=self.directory,
                said=said,
                timeout=PATIENCE_S,
            )
        return subprocess.run(
            self._command(*args),
            env=environment,
            cwd=self.directory,
            input=said,
            capture_output=True,
            check=False,
            text=True,
            timeout=PATIENCE_S,
        )

    @contextmanager
    def start(self, *args: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            self._command(*args),
            env={**self.environment, **variables},
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    @staticmethod
    def _command(*args: str) -> list[str]:
        return [sys.executable, "-m", "assistant_queue.cli", *args]

    def json(self, *args: str) -> dict[str, object]:
        done = self.run(*args, "--json")
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))


@pytest.fixture
def command(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, tmp_path: Path
) -> Iterator[Command]:
    yield Command(one_redis.url, prefix, provider, tmp_path)
    with redis.Redis.from_url(one_redis.url) as client:
        for pattern in (f"{prefix}:*", f"rq:*{prefix}*"):
            for name in client.scan_iter(match=pattern):
                client.delete(name)


# --- what it says about itself --------------------------------------------------------------------


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_teaches_what_it_does_with_an_example_and_its_exit_codes(
    path: list[str],
) -> None:
    shown = CliRunner().invoke(main, [*path, "--help"])
    assert shown.exit_code == 0
    assert (
        f"assistant-queue {' '.join(path)}" in shown.output.split("Usage:")[1].split("\n", 1)[1]
    ), "no example"
    assert "Exit codes: 0" in shown.output


def test_the_exit_codes_are_explained_once_for_all_commands() -> None:
    shown = CliRunner().invoke(main, ["--help"]).output
    assert all(f"  {code}  " in shown for code in range(4))


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["status", "--redis-url", "http://x"], "Invalid redis_url"),
        (
            ["status", "--redis-url", "http://x"],
            "; expected redis://, rediss://, unix:// or redis+sentinel://",
        ),
        (["status", "--prefix", "a b"], "queue_prefix"),
        (["status", "--app", "nowhere"], "module:attribute"),
        (["worker", "--app", "no_such_module:queue"], "cannot be imported"),
        (["worker", "--app", "json:dumps"], "is not a queue"),
        (["worker", "--fork", "--concurrency", "2"], "leave out --concurrency"),
        (["worker", "--fork", "--metrics-port", "9108"], "leave out --fork"),
        (["send", "thread", "  "], "message is empty or blank"),
        (["send", "", "text"], "thread_id"),
        (["sweep", "--json"], "--once"),
        (["demo", "--model", "gpt"], "--live"),
        (["demo", "--port", "80"], "--web"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_given_wrong_ends_with_2_and_one_line(
    args: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)
    done = CliRunner().invoke(main, args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@pytest.mark.parametrize(
    ("missing", "says"), [("OPENAI_API_KEY", "OPENAI_API_KEY"), ("ASSISTANT_QUEUE_MODEL", "model=")]
)
def test_a_worker_without_key_or_backend_does_not_start(
    command: Command, missing: str, says: str
) -> None:
    del command.environment[missing]
    done = command.run("worker")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("code", "app", "says"),
    [
        (
            "import no_such_package\n",
            "lame_bot:queue",
            "this environment lacks an import of it",
        ),
        ("raise SystemExit('usage: lame_bot')\n", "lame_bot:queue", "under `if __name__ =="),
        ("", "bots/lame_bot.py:queue", "name the module, not its file"),
        ("", "lame:queue", "start this where `import lame` works"),
    ],
    ids=["import", "exit", "file", "nowhere"],
)
def test_an_app_that_cannot_be_imported_is_reported_with_what_to_do(
    command: Command, code: str, app: str, says: str
) -> None:
    (command.directory / "lame_bot.py").write_text(code)
    done = command.run("worker", "--app", app)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["send", "t", "x", "--wait", "nan"],
        ["send", "t", "x", "--wait", "inf"],
        ["worker", "--shutdown-timeout", "nan"],
        ["demo", "--speed", "inf"],
    ],
    ids=" ".join,
)
def test_what_is_no_number_to_count_with_is_refused_before_anything_is_done(
    args: list[str],
) -> None:
    done = CliRunner().invoke(main, args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no number to count with" in done.stderr


def test_the_backend_is_called_by_its_protocol() -> None:
    assert (
        backend_name(configure({"model": "m", "protocol": "chat_completions"}))
        == "chat_completions (m)"
    )
    assert backend_name(configure({"model": "m"})) == "responses (m)"


def test_an_app_that_raises_is_reported_in_one_line_with_its_place(command: Command) -> None:
    (command.directory / "broken_bot.py").write_text("import os\nqueue = 1 / 0\n")
    done = command.run("worker", "--app", "broken_bot:queue")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "ZeroDivisionError" in done.stderr
    assert "broken_bot.py:2" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ["status"],
        ["failed"],
        ["send", "t", "x"],
        ["sweep"],
        ["sweep", "--once"],
        ["worker"],
        ["worker", "--fork"],
    ],
    ids=" ".join,
)
def test_a_redis_that_is_away_ends_with_3_and_shows_no_password(
    command: Command, args: list[str]
) -> None:
    done = command.run(*args, REDIS_URL=NOWHERE.replace("//", "//:hidden@"))
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: Redis did not answer")
    assert done.stderr.count("\n") == 1
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@host:6380/2", "redis://host:6380/2"),
        ("rediss://:p%40ss@host/0?ssl_cert_reqs=none", "rediss://host/0"),
        ("unix:///run/redis.sock?db=1", "unix:///run/redis.sock"),
    ],
)
def test_redis_is_named_without_its_password(url: str, shown: str) -> None:
    assert redis_name(configure({"redis_url": url})) == shown


# --- worker and send ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--concurrency", "3"], ["--fork"]], ids=["asyncio", "fork"])
def test_a_worker_says_when_it_is_ready_and_answers(
    command: Command, provider: StandInProvider, how: list[str]
) -> None:
    with command.start("worker", *how) as worker:
        ready = line_of(worker.stdout)
        assert ready.startswith(f"worker ready: queue {command.prefix}, ")
        assert "backend responses (stand-in-model)" in ready
        assert provider.api_key not in ready
        with redis.Redis.from_url(command.environment["REDIS_URL"]) as client:
            (shown,) = rq.Worker.all(queue=rq.Queue(command.prefix, connection=client))
            assert shown.get_state() in {"started", "idle"}, "`rq info` knows it"
        done = command.run("send", "mia", "Hello!", "--author", "Mia", "--wait", "20")
        assert (done.returncode, done.stdout) == (0, "You said: Mia: Hello!\n"), done.stderr
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0


def test_a_worker_answers_for_itself(command: Command, one_redis: RedisServer) -> None:
    port = free_port()

    def ask(path: str) -> tuple[int, dict[str, object]]:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=PATIENCE_S)
        return answer.status_code, answer.json()

    ports = ["--health-port", str(port), "--metrics-port", str(port)]
    second = f"{command.prefix}:second"
    words = ["worker", *ports, "--concurrency", "7", "--prefix", command.prefix, "--prefix", second]
    with command.start(*words) as worker:
        assert line_of(worker.stdout).startswith("worker ready")
        status, health = ask("/ready")
        assert (status, health["status"], health["concurrency"]) == (200, "working", 7)
        assert ask("/live")[0] == 200
        assert httpx.get(f"http://127.0.0.1:{port}/elsewhere").status_code == 404
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S).text
        for queue in (command.prefix, second):
            assert f'assistant_queue_worker_room{{queue="{queue}"}} 7.0\n' in text
        taken = command.run(*words)
        assert taken.returncode == 2
        assert f"cannot listen at 127.0.0.1:{port} for health checks and metrics" in taken.stderr
        assert "give another --health-port and --metrics-port" in taken.stderr
        with redis.Redis.from_url(one_redis.url) as client:
            rq.suspension.suspend(client)
            try:
                wait_until(lambda: ask("/ready")[1]["status"] == "suspended", "it is suspended")
                assert (ask("/ready")[0], ask("/live")[0]) == (503, 200)
            finally:
                rq.suspension.resume(client)
        worker.terminate()
        assert worker.wait(PATIENCE_S) == 0


def test_a_worker_without_its_scheduler_is_broken() -> None:
    worker = AsyncioWorker(configure({"backend": lambda _: "hi"}))
    assert health_server.answer_to("/ready", worker)[0] == 503
    assert health_server.answer_to("/live", worker)[1]["status"] == "starting"
    worker.ready.set()
    assert health_server.answer_to("/ready", worker)[1]["status"] == "working"
    worker.schedulers = [SimpleNamespace(is_alive=False)]  # type: ignore[list-item]
    assert health_server.answer_to("/live", worker)[0] == 503
    worker.stop()
    assert health_server.answer_to("/live", worker) == (200, health_server.health_of(worker))


def test_a_worker_finds_an_app_in_the_directory_it_is_started_in(command: Command) -> None:
    bot = "from assistant_queue import AssistantMessageQueue\nqueue = AssistantMessageQueue(model='own-model')\n"
    (command.directory / "own_bot.py").write_text(bot)
    with command.start("worker", "--app", "own_bot:queue") as worker:
        assert "responses (own-model)" in line_of(worker.stdout)


def test_a_signal_lets_the_run_at_hand_finish(command: Command, provider: StandInProvider) -> None:
    with provider.hold() as gate, command.start("worker") as worker:
        line_of(worker.stdout)
        command.run("send", "mia", "Hello!", "--message-id", "m-1")
        gate.wait_reached(timeout=PATIENCE_S)
        worker.terminate()
        said = wait_for_line(worker.stderr, "stopping")
        assert re.match(
            r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d stopping: runs may finish within 30 s", said
        )
        gate.release()
        assert worker.wait(PATIENCE_S) == 0
    assert command.json("status")["completed_count"] == 1


def test_a_second_signal_hands_the_run_back_and_another_worker_follows_it(
    command: Command, provider: StandInProvider
) -> None:
    with provider.hold() as gate:
        with command.start("worker") as worker:
            line_of(worker.stdout)
            command.run("send", "mia", "Hello!")
            gate.wait_reached(timeout=PATIENCE_S)
            wait_until(
                lambda: command.json("status", "--thread", "mia")["run_id"],
                "the run's id is stored",
            )
            worker.terminate()
            wait_for_line(worker.stderr, "stopping")
            worker.send_signal(signal.SIGINT)
            assert worker.wait(PATIENCE_S) == 0
        assert command.json("status", "--thread", "mia")["state"] == "held"
        gate.release()
        assert command.run("worker", "--burst").returncode == 0
    assert [run.status for run in provider.runs] == ["completed"]
    assert command.json("status")["completed_count"] == 1


@pytest.mark.parametrize("how", [[], ["--fork"]], ids=["asyncio", "fork"])
def test_a_burst_answers_what_is_due_and_ends(
    command: Command, provider: StandInProvider, how: list[str]
) -> None:
    for number in range(3):
        assert (
            command.run(
                "send", f"thread-{number}", "Hello!", ASSISTANT_QUEUE_MESSAGE_DELAY="0"
            ).returncode
            == 0
        )
    done = command.run("worker", "--burst", *how)
    assert done.returncode == 0, done.stderr
    assert command.json("status")["completed_count"] == 3
    assert len(provider.runs) == 3


@pytest.mark.parametrize("how", [[], ["--fork"]], ids=["asyncio", "fork"])
def test_a_worker_for_another_queue_than_its_producers_mean_does_not_start(
    command: Command, one_redis: RedisServer, how: list[str]
) -> None:
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=command.prefix, model="another-model"
    ) as queue:
        queue.add_message_to_thread("mia", "Hello!")
    done = command.run("worker", *how)
    assert (done.returncode, done.stdout) == (2, "")
    assert "another-model" in done.stderr
    assert done.stderr.count("\n") == 1


def test_send_without_an_app_does_not_say_what_the_queue_is(command: Command) -> None:
    command.run(
        "send",
        "mia",
        "Hello!",
        ASSISTANT_QUEUE_MODEL="of-this-shell",
        ASSISTANT_QUEUE_MESSAGE_DELAY="0",
    )
    assert command.run("worker", "--burst").returncode == 0
    assert command.json("status")["completed_count"] == 1


def test_a_burst_leaves_what_is_paused(command: Command, one_redis: RedisServer) -> None:
    with AssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=command.prefix, message_delay=0
    ) as queue:
        queue.pause("mia")
        queue.add_message_to_thread("mia", "Hello!")
        queue.add_message_to_thread("tom", "Hello!")
    assert command.run("worker", "--burst").returncode == 0
    assert command.json("status")["completed_count"] == 1


def test_send_reads_stdin_and_knows_a_message_it_has_sent(command: Command) -> None:
    first = command.run("send", "mia", "-", "--message-id", "m-1", said="from stdin")
    again = command.run("send", "mia", "from stdin", "--message-id", "m-1")
    other = command.run("send", "mia", "another text", "--message-id", "m-1")
    assert "message m-1 is queued" in first.stdout
    assert "message m-1 was taken before" in again.stdout
    assert other.returncode == 1
    assert other.stderr.startswith("error: Message id 'm-1' is already used")
    assert command.json("status", "--thread", "mia")["pending_count"] == 1


def test_send_that_waits_in_vain_ends_with_1_and_leaves_the_message_queued(
    command: Command,
) -> None:
    done = command.run("send", "mia", "Hello?", "--wait", "0.1")
    assert done.returncode == 1
    assert "stays queued" in done.stderr.splitlines()[-1]
    assert "no worker is alive either: start assistant-queue worker" in done.stderr.splitlines()[-1]
    assert command.json("status", "--thread", "mia")["pending_count"] == 1


# --- status, sweep and failed ---------------------------------------------------------------------


def test_status_counts_and_shows_a_thread(command: Command) -> None:
    command.run("send", "mia", "Hello!", ASSISTANT_QUEUE_MESSAGE_DELAY="600")
    shown = command.run("status").stdout
    assert f"queue {command.prefix} at redis://" in shown
    assert re.search(r"\bdelayed +1\b", shown), shown
    assert command.json("status")["delayed_count"] == 1
    assert "gone-by" in command.run("status", "--thread", "gone-by").stdout
    assert command.json("status", "--thread", "mia")["state"] == "pending"


def test_status_watch_prints_a_line_a_second_until_ctrl_c(command: Command) -> None:
    with command.start("status", "--watch", PYTHONUNBUFFERED="1") as watching:
        assert "active 0  waiting 0" in line_of(watching.stdout)
        assert "active 0  waiting 0" in line_of(watching.stdout)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(PATIENCE_S) == 0
        assert line_of(watching.stderr) == ""


def test_status_watch_changes_in_place_in_a_terminal(command: Command) -> None:
    args = [sys.executable, "-m", "assistant_queue.cli", "status", "--watch"]
    code, shown = seen_in_a_terminal(args, until="Ctrl-C ends", **command.environment)
    assert code == 0, shown
    assert f"queue {command.prefix} at" in shown
    assert "answered, ever" in shown


def test_sweep_once_says_what_it_saw(command: Command) -> None:
    assert command.run("sweep", "--once").stdout == "0 overdue, 0 woken\n"
    assert command.json("sweep", "--once") == {"overdue": 0, "woken": 0, "next_due_in_ms": None}


def test_the_sweep_sidecar_wakes_an_overdue_thread(
    command: Command, one_redis: RedisServer
) -> None:
    with command.start("sweep") as sidecar, redis.Redis.from_url(one_redis.url) as client:
        assert line_of(sidecar.stdout).startswith(f"sweeping queue {command.prefix} at redis://")
        command.run("send", "mia", "Hello!")
        wait_until(
            lambda: client.llen(f"rq:queue:{command.prefix}"), "the wake-up is handed to RQ's queue"
        )
        sidecar.terminate()
        assert sidecar.wait(PATIENCE_S) == 0


def test_failed_lists_retries_and_discards(command: Command, provider: StandInProvider) -> None:
    assert command.run("failed").stdout == "nothing has failed\n"
    provider.fault("responses.create", refuse(400, "invalid_prompt", "not this one"), times=2)
    command.run("send", "mia", "Hello!", ASSISTANT_QUEUE_MESSAGE_DELAY="0")
    command.run("worker", "--burst", ASSISTANT_QUEUE_MAX_ATTEMPTS="1")
    listed = command.run("failed").stdout
    batch = str(command.json("failed")["batch_id"])
    assert listed.startswith(f"{batch}  thread mia  ")
    assert "1 message" in listed

    retried = command.run("failed", "retry", batch)
    assert (retried.returncode, retried.stdout) == (0, f"batch {batch} is queued again\n")
    assert command.run("failed").stdout == "nothing has failed\n"
    command.run("worker", "--burst", ASSISTANT_QUEUE_MAX_ATTEMPTS="1")
    again = str(command.json("failed")["batch_id"])

    # The group's options are the subcommand's, too.
    assert (
        command.run(
            "failed",
            "--prefix",
            command.prefix,
            "discard",
            again,
            ASSISTANT_QUEUE_QUEUE_PREFIX="other",
        ).returncode
        == 0
    )
    assert command.json("status")["failed_count"] == 0
    gone = command.run("failed", "discard", again)
    assert (gone.returncode, gone.stdout) == (1, "")
    assert gone.stderr.startswith("error: ")
