"""The commands for one thread, and the doctor: real Redis, a real worker, the command's own output and exit code."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from assistant_queue import AssistantMessageQueue, BatchFailed
from assistant_queue.cli import main
from assistant_queue.cli.output import echo_text
from assistant_queue.cli.recording import actor
from assistant_queue.clock import SystemClock
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import operation_log
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Never, Personality, Reply, refuse
from assistant_queue.worker.scheduler import Scheduler
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until

Run = Any


@pytest.fixture
def queue(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(
        redis_url=one_redis.url,
        queue_prefix=prefix,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        model="stand-in-model",
        message_delay=0.1,
    ) as made:
        yield made


@pytest.fixture
def run(
    queue: AssistantMessageQueue, provider: StandInProvider, monkeypatch: pytest.MonkeyPatch
) -> Run:
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", provider.api_key)
    monkeypatch.setenv("OPENAI_BASE_URL", provider.base_url)
    monkeypatch.setenv("ASSISTANT_QUEUE_MODEL", "stand-in-model")

    def invoke(*words: str, **kwargs: Any) -> Result:
        where = ["--redis-url", queue.config.redis_url, "--prefix", queue.config.queue_prefix]
        return CliRunner().invoke(main, [*words, *where], **kwargs)

    return invoke


@pytest.mark.parametrize("command", ["explain", "message", "thread", "threads", "failed"])
def test_control_characters_of_clients_do_not_reach_the_terminal(
    queue: AssistantMessageQueue, run: Run, provider: StandInProvider, command: str
) -> None:
    thread_id = "t\x1b[31m\x9b\nforged: idle"
    message_id = "m\x1b]0;title\x07"
    if command == "failed":
        provider.fault("responses.create", refuse(400, message="no\x1b[2J"))
    queue.add_message_to_thread(
        thread_id, "hi", message_id=message_id, wants_reply=command == "failed"
    )
    names = {"explain": [message_id], "message": [message_id], "thread": [thread_id]}
    if command == "failed":
        queue.start_worker()
        with pytest.raises(BatchFailed):
            queue.wait_for_reply(message_id, timeout=PATIENCE_S)
    shown = run(command, *names.get(command, []), color=True).output
    assert "t\\x1b[31m\\x9b\\x0aforged: idle" in shown
    assert not set(shown) & {"\x1b", "\x9b", "\x07"}


def test_the_history_of_a_thread_is_shown(
    queue: AssistantMessageQueue, run: Run, provider: StandInProvider
) -> None:
    queue.start_worker()
    queue.add_message_to_thread("t", "hello", message_id="m\x1b[31m")
    queue.wait_for_reply("m\x1b[31m", timeout=PATIENCE_S)
    provider.fault("responses.create", refuse(401), times=None)
    queue.add_message_to_thread("t", "again", message_id="m2")
    with pytest.raises(BatchFailed):
        queue.wait_for_reply("m2", timeout=PATIENCE_S)
    shown = run("history", "t", color=True)
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    (failed, completed) = (line for line in lines if "  batch " in line)
    assert failed.endswith("failed (refused, request_refused)"), failed
    assert completed.endswith(": completed")
    assert "  messages    1: m\\x1b[31m" in lines
    assert sum(line.startswith("  attempt 1 ") for line in lines) == 2
    assert any(line.startswith("  tokens ") for line in lines)
    rows = [json.loads(line) for line in run("history", "t", "--json").output.splitlines()]
    assert [row["message_ids"] for row in rows] == [["m2"], ["m\x1b[31m"]]
    (older,) = run("history", "t", "--before", rows[0]["batch_id"], "--json").output.splitlines()
    assert json.loads(older) == rows[1]
    assert "no batch of this thread" in run("history", "unknown").output
    assert run("history", "t", "--before", "unknown").exit_code == 1
    assert run("history", "t", "--limit", "0").exit_code == 2


def test_a_reply_is_whole_in_a_pipe_and_safe_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reply = "a\tb\n\x1b[2Jc\x9b"
    echo_text(reply)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    echo_text(reply)
    assert capsys.readouterr().out == f"{reply}\na\tb\n\\x1b[2Jc\\x9b\n"


def test_what_a_provider_says_does_not_reach_the_terminal_of_doctor(
    run: Run, provider: StandInProvider
) -> None:
    provider.fault("conversations.create", refuse(400, message="no\x1b[2J"))
    shown = run("doctor", "--no-run", color=True).output
    assert "no\\x1b[2J" in shown
    assert "\x1b" not in shown


def test_a_thread_is_shown_with_what_waits_and_what_was_said(
    queue: AssistantMessageQueue, run: Run
) -> None:
    with_worker = queue.start_worker()
    queue.ask("t", "hello", timeout=PATIENCE_S)
    with_worker.stop()
    receipt = queue.add_message_to_thread("t", "and now?")
    shown = run("thread", "t")
    assert shown.exit_code == 0, shown.output
    assert "t: pending, 1 waiting" in shown.output
    assert f"> {receipt.message_id} queued" in shown.output
    assert re.search(r"< You said: hello \(20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC\)\n", shown.output)
    rows = [json.loads(line) for line in run("thread", "t", "--json").output.splitlines()]
    assert (rows[0]["state"], rows[1]["message_id"]) == ("pending", receipt.message_id)


def test_a_message_is_shown_with_its_times_and_attempts(
    queue: AssistantMessageQueue, run: Run, provider: StandInProvider
) -> None:
    provider.fault("responses.create", refuse(429, retry_after=0))
    worker = queue.start_worker()
    receipt = queue.add_message_to_thread("t", "hello", author="Ann", tenant="acme")
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: Ann: hello"
    worker.stop()
    shown = run("message", receipt.message_id)
    assert shown.exit_code == 0, shown.output
    first, labels, *lines = shown.output.splitlines()
    assert first.startswith(f"{receipt.message_id}: completed, thread t, batch ")
    assert labels == "  author Ann, tenant acme"
    times = [line.split()[0] for line in lines if line.endswith(" s")]
    assert times == ["queued", "due", "claimed", "sent", "first", "completed"]
    assert lines[0].endswith("+0.000 s")
    assert lines[1].endswith("+0.100 s")
    failed, done = (line for line in lines if "attempt 1" in line)
    assert failed.endswith(": request_refused")
    assert f":{os.getpid()}, run resp_" in done
    assert lines[-1] == "  < You said: Ann: hello"
    row = json.loads(run("message", receipt.message_id, "--json").output)
    assert (row["status"], len(row["timeline"]["attempts"])) == ("completed", 2)
    assert run("message", "unknown").exit_code == 1
    assert receipt.job_id is not None
    of_job = run("message", receipt.job_id)
    assert (of_job.exit_code, of_job.output) == (0, shown.output)
    assert json.loads(run("message", receipt.job_id, "--json").output) == row
    explained = run("explain", receipt.job_id)
    assert explained.output == run("explain", receipt.message_id).output
    for command in ("message", "explain"):
        assert run(command, "0123456789abcdef").exit_code == 1


def test_the_events_of_a_thread_are_printed_and_those_after_an_id(
    queue: AssistantMessageQueue, run: Run
) -> None:
    assert run("events", "t").output == ""
    worker = queue.start_worker()
    queue.ask("t", "hello \x1b[31m", author="Ann", timeout=PATIENCE_S)
    worker.stop()
    shown = run("events", "t")
    assert shown.exit_code == 0, shown.output
    first, *_, last = shown.output.splitlines()
    assert " t message_queued message_id=" in first
    assert " author=Ann content='hello \\x1b[31m' " in first
    assert " reply='You said: Ann: hello" in last
    rows = [json.loads(line) for line in run("events", "t", "--json").output.splitlines()]
    kinds = [row["type"] for row in rows if row["type"] != "text_delta"]
    assert kinds == ["message_queued", "batch_claimed", "run_started", "reply_ready"]
    assert rows[0]["content"] == "hello \x1b[31m"
    after = run("events", "t", "--after", rows[-2]["id"], "--json").output
    assert json.loads(after) == rows[-1]
    assert run("events", "t", "--after", "yesterday").exit_code == 2


def test_the_feed_is_printed_and_continued(queue: AssistantMessageQueue, run: Run) -> None:
    assert run("feed", "--timeout", "0").output == ""
    for name in ("a", "b"):
        queue.add_message_to_thread(name, f"I am {name}")
    lines = run("feed", "--after", "0", "--timeout", "0").output.splitlines()
    assert [" a message_queued " in lines[0], " b message_queued " in lines[1]] == [True, True]
    assert "content='I am a'" in lines[0]
    first, second = run("feed", "--after", "0", "--timeout", "0", "--json").output.splitlines()
    rest = run("feed", "--after", json.loads(first)["id"], "--timeout", "0", "--json").output
    assert rest.splitlines() == [second]
    missed = run("feed", "--after", "1-0", "--timeout", "0").output.splitlines()
    assert " 1-0 - events_missed " in missed[0]


def test_a_waiting_message_is_cancelled_once(queue: AssistantMessageQueue, run: Run) -> None:
    receipt = queue.add_message_to_thread("t", "never mind")
    assert run("cancel", receipt.message_id).exit_code == 0
    again = run("cancel", receipt.message_id)
    assert (again.exit_code, "it is cancelled" in again.output) == (1, True)
    assert run("cancel", "unknown").exit_code == 1


def test_a_thread_and_the_queue_are_paused_and_resumed(
    queue: AssistantMessageQueue, run: Run
) -> None:
    assert run("pause", "t").exit_code == 0
    assert queue.get_thread_status("t").paused
    assert run("resume", "t").exit_code == 0
    assert not queue.get_thread_status("t").paused
    assert run("pause").exit_code == 0
    assert "the queue is paused" in run("doctor", "--no-provider").output
    assert run("resume").exit_code == 0
    flushed = run("flush", "nothing")
    assert (flushed.exit_code, "no message waits that wants a reply" in flushed.output) == (1, True)
    queue.add_message_to_thread("waits", "hi", message_delay=600)
    assert run("flush", "waits").output == "waits is due\n"
    stopped = run("stop", "waits")
    assert (stopped.exit_code, "no answer is under way" in stopped.output) == (1, True)


def test_a_person_takes_over_says_something_and_hands_back(
    queue: AssistantMessageQueue, run: Run
) -> None:
    assert run("hand-back", "t").exit_code == 1
    assert run("take-over", "t", "--by", "Jo").output == "t is answered by Jo\n"
    assert run("take-over", "t", "--by", "Jo", "--let-end").exit_code == 0
    other = run("take-over", "t", "--by", "Kim")
    assert (other.exit_code, "--instead-of 'Jo'" in other.output) == (1, True)
    assert run("take-over", "t", "--by", "Kim", "--instead-of", "Jo").exit_code == 0
    assert "t: idle (answered by Kim), 0 waiting" in run("thread", "t", "--replies", "0").output
    assert "(answered by Kim)" in run("threads", "--state", "taken_over").output
    asked = queue.add_message_to_thread("t", "hi").message_id
    assert run("say", "t", "Kim here.", "--author", "Kim").output.startswith("said as ")
    assert run("say", "t", "We are closed.", "--notice").exit_code == 0
    queue.start_worker()
    assert queue.wait_for_reply(asked, PATIENCE_S) == "Kim here."
    assert run("hand-back", "t").output == "t is answered by the model\n"
    assert run("threads", "--state", "taken_over").output == "no thread is taken over\n"


def test_a_running_answer_is_stopped_and_interrupted(
    queue: AssistantMessageQueue, run: Run, provider: StandInProvider
) -> None:
    provider.model = lambda turn: Never() if turn.user_texts[-1] == "wait" else Reply("done")
    queue.start_worker()

    def running() -> str:
        message_id = queue.add_message_to_thread("t", "wait", message_delay=0).message_id
        wait_until(lambda: queue.get_thread_status("t").run_id, PATIENCE_S)
        return message_id

    first = running()
    assert run("cancel", first).exit_code == 1
    assert run("stop", "t").output == "the answer of t is being stopped\n"
    wait_until(lambda: queue.get_thread_status("t").state == "idle", PATIENCE_S)
    running()
    second = queue.add_message_to_thread("t", "now").message_id
    assert run("promote", second).output == f"{second} interrupts the answer\n"
    assert queue.wait_for_reply(second, PATIENCE_S) == "done"
    assert run("promote", second, "--steer").exit_code == 1
    third = running()
    assert run("cancel", third, "--running").output == f"message {third} is cancelled\n"
    wait_until(lambda: queue.get_thread_status("t").state == "idle", PATIENCE_S)


GROUP = "-1001234567890"
"""A thread's id as Telegram's groups have it."""
CONTEXT = click.Context(main)


def command_of(name: str) -> click.Command:
    command = main.get_command(CONTEXT, name)
    assert command is not None
    return command


def test_a_negative_thread_id_is_an_id(queue: AssistantMessageQueue, run: Run) -> None:
    assert run("pause", GROUP).exit_code == 0
    assert queue.get_thread_status(GROUP).paused
    assert run("resume", GROUP).exit_code == 0
    assert not queue.get_thread_status(GROUP).paused
    sent = run(
        "send",
        GROUP,
        "-5 degrees, -h and --help",
        "--message-id",
        f"{GROUP}:1",
        "--author",
        "-7",
        "--json",
    )
    assert sent.exit_code == 0, sent.output
    assert json.loads(sent.output)["thread_id"] == GROUP
    shown = run("thread", GROUP, "--json", "--replies", "0")
    assert [json.loads(line)["thread_id"] for line in shown.output.splitlines()] == [GROUP, GROUP]
    assert run("cancel", f"{GROUP}:1").output == f"message {GROUP}:1 is cancelled\n"
    assert run("forget", "--yes", GROUP).output == f"{GROUP} is forgotten\n"
    assert queue.get_message(f"{GROUP}:1") is None


def test_the_text_of_a_negative_thread_arrives_whole(
    queue: AssistantMessageQueue, run: Run, provider: StandInProvider
) -> None:
    queue.start_worker()
    answered = run("send", "--wait", "60", GROUP, "-5 degrees, -h and --help", "--author=-7")
    assert answered.output.endswith("You said: -7: -5 degrees, -h and --help\n"), answered.output


def test_every_command_with_a_thread_or_message_id_takes_a_negative_one() -> None:
    commands = {name: command_of(name) for name in main.list_commands(CONTEXT)}
    with_ids = {
        name: command
        for name, command in commands.items()
        if any(
            isinstance(one, click.Argument)
            and one.name in {"thread", "thread_id", "message_id", "message_or_thread_id"}
            for one in command.params
        )
    }
    assert set(with_ids) == {
        "send",
        "thread",
        "message",
        "cancel",
        "pause",
        "resume",
        "flush",
        "stop",
        "promote",
        "take-over",
        "say",
        "hand-back",
        "forget",
        "explain",
        "events",
        "history",
    }
    for name, command in with_ids.items():
        texts = {"send": ["-5 degrees"], "say": ["-5 degrees"]}
        more = {**texts, "forget": ["--yes"], "take-over": ["--by=-7"]}.get(name, [])
        given = command.make_context(name, ["--prefix", "-9", GROUP, *more]).params
        assert GROUP in given.values()
        assert given["prefix"] == "-9"
    given = with_ids["send"].make_context("send", ["--wait=60", "--", "-x", "--json"]).params
    assert (given["thread"], given["text"], given["wait"], given["as_json"]) == (
        "-x",
        "--json",
        60,
        False,
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["thread", "-x"], "No such option"),
        (["thread", "--nonsense", "t"], "No such option"),
        (["send", "t", "text", "--wait"], "requires an argument"),
        (["send", "t", "text", "--wait", "-5"], "not in the range"),
        (["send", "-5"], "Missing argument"),
        (["pause", "-5", "-6"], "unexpected extra argument"),
        (["thread", "-h"], "Usage:"),
    ],
)
def test_other_words_with_a_dash_are_options_still(words: list[str], says: str) -> None:
    assert says in CliRunner().invoke(main, words).output


def test_a_thread_is_forgotten_only_when_that_is_meant(
    queue: AssistantMessageQueue, run: Run
) -> None:
    receipt = queue.add_message_to_thread("t", "secret")
    assert run("forget", "t", input="n\n").exit_code == 1
    assert queue.get_message(receipt.message_id) is not None
    assert run("forget", "t", "--yes").exit_code == 0
    assert queue.get_message(receipt.message_id) is None


def test_what_commands_change_is_recorded_with_the_user_of_the_system(
    queue: AssistantMessageQueue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    queue.add_message_to_thread("t", "one", message_id="m1", message_delay=600)
    queue.add_message_to_thread("t", "two", message_id="m2", message_delay=600)
    for words, code in (
        (["pause"], 0),
        (["resume"], 0),
        (["pause", "t"], 0),
        (["resume", "t"], 0),
        (["cancel", "m1"], 0),
        (["cancel", "m1"], 1),
        (["promote", "m2"], 1),
        (["take-over", "t", "--by", "Jo"], 0),
        (["take-over", "t", "--by", "Eve"], 1),
        (["say", "t", "A secret text."], 0),
        (["hand-back", "t"], 0),
        (["flush", "t"], 0),
        (["stop", "t"], 1),
        (["approve", "c"], 1),
        (["deny", "c"], 1),
        (["answer", "c", "x"], 1),
        (["failed", "retry", "--all", "--thread", "t"], 0),
        (["failed", "discard", "b"], 1),
    ):
        assert run(*words).exit_code == code, words
    found = queue.core.store.run(operation_log.read(queue.core.namespace, 50))[::-1]
    assert {one.by for one in found} == {"cli:ann@desk"}
    assert all(one.ended for one in found)
    assert [(one.operation, one.thread_id, one.done) for one in found] == [
        ("pause", None, True),
        ("resume", None, True),
        ("pause", "t", True),
        ("resume", "t", True),
        ("cancel_message", "t", True),
        ("cancel_message", "t", False),
        ("promote_message", "t", False),
        ("take_over", "t", True),
        ("take_over", "t", False),
        ("say", "t", True),
        ("hand_back", "t", True),
        ("flush", "t", True),
        ("stop", "t", False),
        ("approve_call", None, False),
        ("deny_call", None, False),
        ("answer_call", None, False),
        ("retry_failed", "t", False),
        ("discard_failed", None, False),
    ]
    assert {one.error for one in found} == {
        *(None, "thread_taken_over", "approval_not_found", "batch_not_found"),
    }
    kept = queue.core.store.client.lrange(queue.core.namespace.keys.operations, 0, -1)
    assert b"secret" not in b"".join(kept)
    assert run("forget", "t", "--yes").exit_code == 0
    left = queue.core.store.run(operation_log.read(queue.core.namespace, 50))
    assert left[0].operation == "forget_thread"
    assert {one.thread_id for one in left} == {None}

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", nameless)
    assert re.fullmatch(r"cli:\d+@desk", actor())


def test_the_doctor_says_what_is_missing_and_what_to_do(
    queue: AssistantMessageQueue, run: Run
) -> None:
    ill = run("doctor")
    assert ill.exit_code == 1
    assert "no worker is alive" in ill.output
    assert "-> start assistant-queue worker" in ill.output
    assert "append-only file: off" in ill.output
    assert "the provider answers and takes the key" in ill.output
    worker = queue.start_worker()
    wait_until(
        lambda: run("doctor", "--no-provider").exit_code == 0, "the worker's scheduler listens"
    )
    well = run("doctor", "--json")
    worker.stop()
    assert well.exit_code == 0, well.output
    levels = {
        json.loads(line)["what"].split(":")[0]: json.loads(line)["level"]
        for line in well.output.splitlines()
    }
    assert levels["maxmemory-policy"] == "ok"
    assert "bad" not in levels.values()


PROTOCOLS = {
    "responses": {},
    "chat_completions": {"ASSISTANT_QUEUE_PROTOCOL": "chat_completions"},
    "assistants": {"ASSISTANT_QUEUE_MODEL": "", "OPENAI_ASSISTANT_ID": "its own"},
}


def doctor_of(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    provider: StandInProvider,
    protocol: str,
    *options: str,
) -> str:
    for name, value in {
        "ASSISTANT_QUEUE_MODEL": "m",
        "OPENAI_BASE_URL": provider.base_url,
        **PROTOCOLS[protocol],
    }.items():
        monkeypatch.setenv(name, provider.assistant_id if value == "its own" else value)
    return run("doctor", *options).output


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_doctor_asks_for_the_model_has_it_answer_and_leaves_nothing_behind(
    run: Run, monkeypatch: pytest.MonkeyPatch, provider: StandInProvider, protocol: str
) -> None:
    told = doctor_of(run, monkeypatch, provider, protocol)
    assert (
        "the provider knows "
        + (f"assistant {provider.assistant_id!r}" if protocol == "assistants" else "model 'm'")
        in told
    )
    assert "ok  the model answered a question in" in told
    assert ("was deleted again" in told) == (protocol != "chat_completions")
    provider.fault("conversations.delete", refuse(403), times=None)
    provider.fault("threads.delete", refuse(403), times=None)
    told = doctor_of(run, monkeypatch, provider, protocol, "--no-run")
    assert ("was created and not deleted" in told) == (protocol != "chat_completions")
    assert "the model was not asked anything" in told


def test_the_doctor_says_which_remedies_are_on(
    run: Run, monkeypatch: pytest.MonkeyPatch, provider: StandInProvider
) -> None:
    provider.personality = Personality(background="refused")
    assert "note  remedy foreground: responses run in the foreground" in doctor_of(
        run, monkeypatch, provider, "responses"
    )
    provider.personality = Personality(stream_options="refused")
    assert "note  remedy stream_options: no stream_options are sent" in doctor_of(
        run, monkeypatch, provider, "chat_completions"
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_doctor_repeats_what_the_provider_says(
    run: Run, monkeypatch: pytest.MonkeyPatch, provider: StandInProvider, protocol: str
) -> None:
    ops = {
        "responses": "responses.create",
        "chat_completions": "chat.completions.create",
        "assistants": "runs.create",
    }
    provider.fault(
        ops[protocol], refuse(400, "invalid_value", "Temperature must be below 2."), times=None
    )
    told = doctor_of(run, monkeypatch, provider, protocol)
    assert "bad  a question was not answered" in told
    assert "Temperature must be below 2." in told
    provider.fault("models.retrieve", refuse(404, "model_not_found", "No model of that name."))
    provider.fault(
        "assistants.retrieve", refuse(404, "assistant_not_found", "No assistant of that name.")
    )
    assert "of that name." in doctor_of(run, monkeypatch, provider, protocol, "--no-run")


@pytest.mark.parametrize("protocol", ["responses", "assistants"])
def test_a_wrong_address_is_named_by_the_doctor(
    run: Run, monkeypatch: pytest.MonkeyPatch, provider: StandInProvider, protocol: str
) -> None:
    monkeypatch.setattr(
        type(provider),
        "base_url",
        property(lambda self: f"http://127.0.0.1:{self._server.port}/wrong"),
    )
    told = doctor_of(run, monkeypatch, provider, protocol)
    assert (
        f"POST {'/conversations' if protocol == 'responses' else '/threads'} answered 404" in told
    )
    assert "ends in /v1" in told
    assert 'protocol="chat_completions"' in told


def test_the_doctor_counts_the_workers_of_its_database(
    queue: AssistantMessageQueue, run: Run, one_redis: RedisServer
) -> None:
    """Channels are heard in all of them; this worker is alive, and answers nothing of the queue that is looked at."""
    with AssistantMessageQueue(
        redis_url=f"{one_redis.url[:-1]}5",
        queue_prefix=queue.config.queue_prefix,
        backend=lambda _: "hi",
        allow_mismatch=True,
    ) as elsewhere:
        worker = elsewhere.start_worker()
        assert "no worker is alive" in run("doctor", "--no-provider").output
        there = CliRunner().invoke(
            main,
            [
                "doctor",
                "--redis-url",
                elsewhere.config.redis_url,
                "--prefix",
                queue.config.queue_prefix,
            ],
        )
        assert "1 worker process(es) registered with RQ" in there.output
        worker.stop()


def test_the_doctor_does_not_take_a_sweeper_for_a_worker(
    queue: AssistantMessageQueue, run: Run
) -> None:
    scheduler = Scheduler(Namespace(queue.config.queue_prefix, SystemClock()), queue._store.client)
    scheduler.start()
    wait_until(
        lambda: "no worker is alive to answer" in run("doctor", "--no-provider").output,
        "it sees the timer",
    )
    ill = run("doctor", "--no-provider")
    assert ill.exit_code == 1
    scheduler.stop()


@pytest.mark.parametrize(("life_s", "is_slow"), [(480, True), (95, False)])
def test_the_doctor_warns_of_stock_workers_without_a_sweeper(
    queue: AssistantMessageQueue, run: Run, life_s: int, is_slow: bool
) -> None:
    """RQ's worker lets its key live for `--worker-ttl` and a minute."""
    workers = wakeups.workers_key(queue.config.queue_prefix)
    name = f"rq:worker:{life_s}"
    client = queue.core.store.client
    client.sadd(workers, name)
    client.hset(name, "state", "idle")
    client.expire(name, life_s)
    told = run("doctor", "--no-provider")
    client.delete(workers, name)
    assert told.exit_code == 0
    assert "1 stock worker(s) and no sweeper" in told.output
    assert ("waits up to 14 minutes" in told.output) is is_slow
    assert ("--worker-ttl 35 --maintenance-interval 15" in told.output) is is_slow


def test_status_shows_a_pause_of_the_queue_and_since_when(
    queue: AssistantMessageQueue, run: Run
) -> None:
    assert "paused" not in run("status").output
    assert json.loads(run("status", "--json").output)["paused"] is False
    queue.pause()
    shown = run("status").output
    since = queue.get_queue_status().paused_since
    assert since is not None
    assert abs((datetime.now(UTC) - since).total_seconds()) < PATIENCE_S
    assert (
        f"since {since:%Y-%m-%d %H:%M:%S} UTC, nothing is claimed: assistant-queue resume" in shown
    )
    assert json.loads(run("status", "--json").output)["paused_since"] == since.isoformat()
    queue.resume()
    assert "paused" not in run("status").output


def test_threads_are_listed_with_what_they_wait_for(queue: AssistantMessageQueue, run: Run) -> None:
    assert run("threads").output == "no thread is waiting\n"
    assert run("threads", "--state", "stuck").output == "no thread is stuck\n"
    queue.pause()
    queue.add_message_to_thread("a", "a secret text")
    queue.add_message_to_thread("b", "hello")
    shown = run("threads").output
    assert [line.partition(", due")[0] for line in shown.splitlines()] == [
        "a: pending, 1 waiting",
        "b: pending, 1 waiting",
    ]
    assert "secret" not in shown
    page = run("threads", "--after", "a", "--json").output
    assert [json.loads(line)["thread_id"] for line in page.splitlines()] == ["b"]
    gone = run("threads", "--after", "c")
    assert gone.exit_code == 2
    assert gone.output.startswith("error: after: thread 'c' is not in this list any more")


def test_the_doctor_sees_another_queues_worker_and_a_refused_key(
    queue: AssistantMessageQueue, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.add_message_to_thread("t", "hello")
    monkeypatch.setenv("ASSISTANT_QUEUE_MODEL", "another-model")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    ill = run("doctor")
    assert ill.exit_code == 1
    assert "another-model" in ill.output
    assert "check the key" in ill.output
    assert "sk-wrong" not in ill.output
