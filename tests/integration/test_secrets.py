"""A canary in every place that must stay secret: the provider's key, Redis' password, and what people write."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import subprocess
import traceback
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import (
    AssistantMessageQueue,
    AssistantQueueError,
    AsyncAssistantMessageQueue,
    ConfigurationError,
    MessageRefused,
    Undeliverable,
)
from assistant_queue.backends.factory import make_backend
from assistant_queue.config import configure
from assistant_queue.core.packed_text import MARK, unpack
from assistant_queue.store.ops.packed_fields import ASK, PROGRESS, joined
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls, drop_connection, refuse
from tests.conftest import PATIENCE_S, SERVERS, RedisServer, with_clock
from tests.integration.conftest import BIN, HERE, wait_until

KEY = "sk-canary-5dd1c7b0a9"
PASSWORD = "canary-password-77e1"
TEXT = "canary text 3f9a: I moved to Elm Street"
REPLY = "canary reply 8c2b"
WEBHOOK_SECRET = "whsec_Y2FuYXJ5IG9mIHdlYmhvb2tzIDQ3MTE="
APPROVAL_SECRET = "canary of approval links 4711"
SECRETS = (KEY, PASSWORD, WEBHOOK_SECRET, APPROVAL_SECRET)
TOOL = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis with a password."""
    server = RedisServer(
        SERVERS.get("path") or SERVERS["wheel"],
        tmp_path_factory.mktemp("redis"),
        "--requirepass",
        PASSWORD,
    )
    server.url = f"redis://:{PASSWORD}@127.0.0.1:{server.port}/0"
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["responses", "assistants"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0, api_key=KEY) as standing:
        yield standing


def _parts_of(fields: dict[bytes, bytes]) -> list[bytes]:
    """Return names and values of a hash, and the texts that are stored packed and in pieces."""
    texts = [
        joined([fields.get(name.encode(), b"").decode("latin-1") for name in names])
        for names in (PROGRESS, ASK)
    ]
    return [
        *(part for pair in fields.items() for part in pair),
        *(unpack(one).encode() for one in texts if one.startswith(MARK)),
    ]


def everything_in(server: RedisServer, match: str = "*") -> str:
    """Every key and every value of a Redis, unpacked where RQ or the queue has packed it."""
    found: list[bytes] = []
    with redis.Redis.from_url(server.url) as client:
        for name in client.scan_iter(match, count=1000):
            kind = client.type(name)
            readers: dict[bytes, Any] = {
                b"none": lambda _: [],  # it expired after the scan
                b"string": lambda name: [client.get(name)],
                b"list": lambda name: client.lrange(name, 0, -1),
                b"set": lambda name: list(client.smembers(name)),
                b"zset": lambda name: client.zrange(name, 0, -1),
                b"hash": lambda name: _parts_of(client.hgetall(name)),
                b"stream": lambda name: [
                    part
                    for _, fields in client.xrange(name)
                    for pair in fields.items()
                    for part in pair
                ],
            }
            found += [name, *readers[kind](name)]
    for value in list(found):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompress(value))
    return "\n".join(value.decode("utf-8", "replace") for value in found)


def rq_jobs_in(server: RedisServer) -> str:
    with redis.Redis.from_url(server.url) as client:
        jobs = [client.hgetall(name) for name in client.scan_iter(match="rq:job:*")]
    return repr(jobs)


def assert_absent(words: tuple[str, ...], text: str, where: str) -> None:
    for word in words:
        at = text.find(word)
        assert at < 0, f"{word!r} in {where}: ...{text[max(0, at - 200) : at + 80]}"


def written(caplog: pytest.LogCaptureFixture) -> str:
    formatter = logging.Formatter("%(name)s %(message)s")
    return "\n".join(formatter.format(record) for record in caplog.records)


def handle(_thread_id: str, _run_id: str, _calls: list[Any]) -> list[dict[str, str]]:
    msg = "the shop is closed"
    raise RuntimeError(msg)


class Delivery:
    """Fails twice, then takes the reply; the chat of the next one is gone."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _result: Any) -> None:
        self.calls += 1
        if self.calls < 3:
            msg = "the chat is down"
            raise RuntimeError(msg)
        if self.calls > 3:
            raise Undeliverable(f"the chat is gone, says a platform that repeats {KEY}")


def options_of(
    server: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> dict[str, Any]:
    chosen = (
        {"model": "stand-in-model", "tools": [TOOL]}
        if protocol == "responses"
        else {"assistant_id": provider.assistant_id}
    )
    return {
        "redis_url": server.url,
        "queue_prefix": prefix,
        "openai_api_key": KEY,
        "openai_base_url": provider.base_url,
        "webhook_secret": WEBHOOK_SECRET,
        "approval_secret": [APPROVAL_SECRET, f"old {APPROVAL_SECRET}"],
        "message_delay": 1,
        **chosen,
    }


def trouble(options: dict[str, Any], provider: StandInProvider, protocol: str) -> list[str]:
    """A batch with tool errors and failing deliveries, one that is cut off, a dead letter; what the caller was shown."""
    create = "responses.create" if protocol == "responses" else "runs.create"
    clock = FakeClock()
    shown = []
    with with_clock(
        AssistantMessageQueue(**options, handle_requires_action=handle, on_reply=Delivery()), clock
    ) as queue:
        worker = InstantWorker(queue.config, clock)
        shown += [
            repr(queue),
            str(queue),
            repr(queue.config),
            str(queue.config),
            repr(vars(queue.config.backoff)),
        ]
        shown += [repr(make_backend(queue.config)), repr(worker)]
        queue.feed()  # what is published is searched, too
        provider.model = lambda turn: ToolCalls([("order", {})]) if turn.round < 1 else Reply(REPLY)
        shown.append(repr(queue.add_message_to_thread("t", TEXT)))
        worker.run_until_idle()
        provider.model = lambda _: Reply(REPLY)
        provider.fault(create, drop_connection())
        queue.add_message_to_thread("t", TEXT)
        worker.run_until_idle()
        (undelivered,) = queue.list_failed()
        assert undelivered.reason == "undelivered"
        shown.append(repr(undelivered))
        # A server that repeats the key and the text in its answer.
        provider.fault(
            "*",
            refuse(401, "invalid_api_key", f"Incorrect API key provided: {KEY}. You said: {TEXT}"),
            times=None,
        )
        receipt = queue.add_message_to_thread("t", TEXT)
        shown.append(repr(queue.say("said", TEXT)))
        worker.run_until_idle()
        failed = [one for one in queue.list_failed() if one.reason != "undelivered"]
        assert {one.thread_id for one in failed} == {"t", "said"}
        shown += [
            repr(failed),
            repr(queue.get_message(receipt.message_id)),
            repr(queue.get_thread_status("t")),
        ]
        for call in (
            lambda: queue.handle_provider_webhook(b"{}", {"webhook-id": WEBHOOK_SECRET}),
            lambda: queue.wait_for_reply(receipt.message_id, 1),
            queue.create_thread,
            lambda: queue.create_message("conv_" + "0" * 32, TEXT),
        ):
            shown += trace_of(call)
        provider.clear_faults()
        outcomes = [one.outcome for one in queue.get_timeline("t")]
        assert outcomes == ["failed", "completed", "completed"]
        assert [one.outcome for one in queue.get_timeline("said")] == ["failed", "said"]
    return shown


def journals_in(server: RedisServer) -> str:
    with redis.Redis.from_url(server.url) as client:
        entries = [client.lrange(name, 0, -1) for name in client.scan_iter(match="*:journal:*")]
    return repr(entries)


def trace_of(call: Any) -> list[str]:
    try:
        call()
    except AssistantQueueError as error:
        return [str(error), repr(error), "".join(traceback.format_exception(error))]
    pytest.fail("it did not fail")


def test_the_key_and_the_password_are_nowhere_and_texts_not_in_logs_or_jobs(
    guarded: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue")
    shown = trouble(options_of(guarded, prefix, provider, protocol), provider, protocol)
    assert "goes to the failed list" in caplog.text
    assert_absent((*SECRETS, TEXT, REPLY), written(caplog), "the log")
    words = "You said: [text]"
    assert words in caplog.text, "the provider's own words are there"
    assert words in shown[-9]
    assert_absent(SECRETS, "\n".join(shown), "what the caller sees")
    assert_absent(SECRETS, everything_in(guarded), "Redis")
    assert_absent((*SECRETS, TEXT, REPLY), rq_jobs_in(guarded), "RQ's jobs")
    journals = journals_in(guarded)
    assert "order" in journals
    errors = ("the shop", "the chat", "Incorrect")
    assert_absent((*SECRETS, *errors, TEXT, REPLY), journals, "the journals")
    assert TEXT in everything_in(guarded), (
        "the failed batch keeps its text: the search finds what is there"
    )
    assert REPLY in everything_in(guarded), "and so does the reply that was not delivered"


def assert_no_words(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """Neither texts nor secrets are in RQ's jobs, in the journals, or in the log."""
    assert_absent((TEXT, REPLY, *SECRETS), rq_jobs_in(server), "RQ's jobs")
    assert_absent((TEXT, REPLY, *SECRETS), journals_in(server), "the journals")
    assert_absent((TEXT, REPLY, *SECRETS), written(caplog), "the log")


@pytest.mark.parametrize("step", ["Save", "Finish"])
def test_the_texts_of_a_stopped_batch_leave_no_trace(  # noqa: PLR0917 - fixtures
    guarded: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
    step: str,
) -> None:
    """Stopped before its request leaves, and after its run has ended, with messages that joined."""
    caplog.set_level(logging.DEBUG, "assistant_queue")
    provider.model = lambda _: Reply(REPLY)
    clock = FakeClock()
    options = options_of(guarded, prefix, provider, protocol)
    with with_clock(AssistantMessageQueue(**options), clock) as queue:
        queue.add_message_to_thread("t", TEXT)
        acts = [step]

        def probe(name: str, _batch: Any) -> None:
            if name == f"before {step}" and acts:
                acts.clear()
                queue.add_message_to_thread("t", TEXT, mid_run="interrupt")
                assert queue.stop("t")

        InstantWorker(queue.config, clock, probe=probe).run_until_idle()
        stopped = queue.get_timeline("t")[-1]
        assert stopped.outcome == "stopped"
        kept = everything_in(guarded, f"*{prefix}*")
        assert stopped.batch_id in kept, "the search finds what is there"
        assert_absent((TEXT, *SECRETS), kept, "Redis")
        assert_no_words(guarded, caplog)


def test_a_call_that_waited_leaves_no_trace(
    guarded: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue")
    provider.model = lambda turn: (
        Reply("done") if turn.tool_outputs else ToolCalls([("buy", {"what": TEXT})])
    )
    clock = FakeClock()
    options = options_of(guarded, prefix, provider, protocol)
    with with_clock(AssistantMessageQueue(**options), clock) as queue:

        @queue.tool(approval="Buy {what}?")
        def buy(what: str) -> str:
            return f"{REPLY} {what}"

        asked: list[str | None] = []

        def approve(name: str, _batch: Any) -> None:
            if name == "after ParkBatch":
                (call,) = queue.list_approvals()
                asked.append(call.question)
                assert TEXT in everything_in(guarded, f"*{prefix}*"), "it is kept meanwhile"
                links = queue.approval_links(call.call_id, base_url="https://a.example")
                assert_absent((TEXT, *SECRETS), links.approve + links.deny, "the links")
                assert queue.approve(call.call_id, by="eve")

        queue.add_message_to_thread("t", "hi")
        InstantWorker(queue.config, clock, probe=approve).run_until_idle()
        assert asked == [f"Buy {TEXT}?"]
        assert queue.get_timeline("t")[-1].outcome == "completed"
        assert_absent((TEXT, REPLY, *SECRETS), everything_in(guarded, f"*{prefix}*"), "Redis")
        assert_no_words(guarded, caplog)


def test_words_in_a_thread_that_was_taken_over_are_not_logged(
    guarded: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue")
    clock = FakeClock()
    options = options_of(guarded, prefix, provider, protocol)
    with with_clock(AssistantMessageQueue(**options), clock) as queue:
        worker = InstantWorker(queue.config, clock)
        assert queue.take_over("t", "Jo")
        queue.add_message_to_thread("t", TEXT)
        queue.say("t", REPLY, author="Jo")
        worker.run_until_idle()
        assert queue.hand_back("t")
        assert "Jo" in {record.answered_by for record in queue.get_timeline("t")}
        assert_no_words(guarded, caplog)


def test_the_key_and_the_password_are_not_even_in_the_libraries_logs(
    guarded: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With everything turned on, the openai package logs texts, too; the key is not among them."""
    caplog.set_level(logging.DEBUG)
    trouble(options_of(guarded, prefix, provider, protocol), provider, protocol)
    lines = "\n".join(
        record.getMessage()
        for record in caplog.records
        if "Incorrect API key" not in record.getMessage()
    )
    assert_absent(SECRETS, lines, "the logs of all libraries")


BAD_URLS = [
    f"redis://:{PASSWORD}@localhost:port/0",
    f"redis://user:{PASSWORD}/more@localhost:6379/0",
    f"redis://:{PASSWORD}@localhost:6379/zero?socket_timeout=soon",
    f"redis+sentinel://:{PASSWORD}@localhost:port/master",
    f"redis+sentinel://:{PASSWORD}@localhost:26379",
    f"redis+sentinel://:{PASSWORD}@localhost:26379/master/zero",
    f"http://:{PASSWORD}@localhost:6379/0",
    f"redis://:{PASSWORD}\u2100@localhost:6379/0",
    f"redis://[:{PASSWORD}@localhost:6379/0",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("queue_class", [AssistantMessageQueue, AsyncAssistantMessageQueue])
def test_an_address_that_cannot_be_read_is_not_repeated(url: str, queue_class: Any) -> None:
    try:
        queue = queue_class(redis_url=url)
    except ConfigurationError as error:
        assert_absent((PASSWORD,), "".join(traceback.format_exception(error)), "a traceback")
    else:
        assert_absent((PASSWORD,), repr(queue) + repr(queue.config), "a repr")


def test_errors_of_options_do_not_repeat_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in (
        {"openai_api_key": [KEY]},
        {"openai_api_key": KEY, "concurrency": 0},
        {"openai_api_key": KEY, "concurency": 1},
    ):
        for text in trace_of(
            lambda wrong=wrong: configure({"redis_url": f"redis://:{PASSWORD}@localhost", **wrong})
        ):
            assert_absent(SECRETS, text, "a configuration error")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("ASSISTANT_QUEUE_RUN_OPTIONS", KEY)
    for text in trace_of(lambda: configure({})):
        assert_absent(SECRETS, text, "a configuration error")


def test_a_wrong_password_is_not_repeated(guarded: RedisServer, prefix: str) -> None:
    wrong = "canary-wrong-password"
    with AssistantMessageQueue(
        redis_url=f"redis://:{wrong}@127.0.0.1:{guarded.port}/0", queue_prefix=prefix
    ) as queue:
        for text in trace_of(lambda: queue.add_message_to_thread("t", TEXT)):
            assert_absent((wrong, TEXT), text, "an error of the store")


@pytest.mark.parametrize("kind", [[], ["--fork"]], ids=["asyncio", "forking"])
def test_a_worker_process_at_its_loudest_says_nothing_of_it(
    guarded: RedisServer, prefix: str, provider: StandInProvider, kind: list[str], tmp_path: Path
) -> None:
    provider.model = lambda _: Reply(REPLY)
    options = {
        **options_of(guarded, prefix, provider, "responses"),
        "message_delay": 0.1,
        "max_attempts": 1,
    }
    log = tmp_path / "worker.log"
    environment = {
        **os.environ,
        "BOT": json.dumps(
            {
                "options": options,
                "tools": True,
                "on_reply": True,
                "audit": f"postgresql+psycopg://audit:{PASSWORD}@127.0.0.1:9/away",
            }
        ),
        "PYTHONPATH": str(HERE.parent.parent),
    }
    command = [
        str(BIN / "assistant-queue"),
        "worker",
        "--app",
        "tests.integration.bot:queue",
        "--log-level",
        "debug",
        *kind,
    ]
    with log.open("wb") as output, AssistantMessageQueue(**options) as queue:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert queue.ask("t", TEXT, timeout=PATIENCE_S) == REPLY
            provider.fault(
                "responses.create",
                refuse(
                    401, "invalid_api_key", f"Incorrect API key provided: {KEY}. You said: {TEXT}"
                ),
            )
            queue.add_message_to_thread("t", TEXT)
            wait_until(queue.list_failed, "the second message fails")
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)
    said = log.read_text(encoding="utf-8")
    assert "worker ready" in said
    assert "goes to the failed list" in said
    assert "The audit's database failed" in said
    assert_absent((*SECRETS, TEXT, REPLY), said, "a worker's output")
    assert_absent(SECRETS, everything_in(guarded), "Redis")
    assert_absent((*SECRETS, TEXT, REPLY), rq_jobs_in(guarded), "RQ's jobs")


BOT_TOKEN = "123456789:AAF-canaryDEFghiJKLmnoPQRstuVWXyz12"
SLACK_TOKEN = "xoxb-canary-123456789"
OWN_SECRETS = (BOT_TOKEN, SLACK_TOKEN, PASSWORD, "canary-signature")


def telling(kind: str) -> Any:
    """Return a function that raises an exception with an address and all that is in it."""

    def tells(*_: Any) -> Any:
        msg = (
            f"{kind}: POST https://api.telegram.org/bot{BOT_TOKEN}/sendMessage?signature=canary-signature failed for {SLACK_TOKEN} "
            f"at redis://:{PASSWORD}@localhost; Authorization: Basic {PASSWORD}"
        )
        raise RuntimeError(msg)

    return tells


@pytest.mark.parametrize("tracebacks", [False, True])
def test_what_user_code_raises_is_shown_without_its_secrets(
    one_redis: RedisServer, prefix: str, tracebacks: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO if tracebacks else logging.DEBUG, "assistant_queue")
    shared = {
        "redis_url": one_redis.url,
        "message_delay": 0,
        "max_attempts": 1,
        "log_tracebacks": tracebacks,
    }

    def model(turn: Any) -> Any:
        return Reply("said") if turn.round else ToolCalls([("order", {}), ("typed", {})])

    shown: list[str] = []
    heard: list[str] = []

    def heard_of(_: Any, error: Exception) -> None:
        heard.append(str(error))

    with StandInProvider(model, latency=0) as provider:
        served = {
            "openai_api_key": provider.api_key,
            "openai_base_url": provider.base_url,
            "model": "stand-in-model",
            "tools": [TOOL],
        }
        functions = {"handle_requires_action": telling("handler"), "on_reply": telling("on_reply")}
        with AssistantMessageQueue(
            **shared, **served, **functions, queue_prefix=f"{prefix}-1"
        ) as queue:

            @queue.tool
            def typed() -> None:
                telling("tool")()

            worker = queue.start_worker().on("completed", telling("completed listener"))
            assert queue.ask("t", "hello", timeout=PATIENCE_S) == "said"
            wait_until(
                lambda: "completed listener" in caplog.text,
                "the reply is not delivered, the listener fails",
            )
            shown += [repr(queue.get_thread_status("t"))]
            worker.stop()
    for kind in ("backend", "default_instructions"):
        more: dict[str, Any] = (
            {"backend": telling("backend")}
            if kind == "backend"
            else {kind: telling(kind), "backend": lambda _: "never"}
        )
        with AssistantMessageQueue(
            **shared, **more, fallback_reply=telling("fallback"), queue_prefix=f"{prefix}-{kind}"
        ) as queue:
            queue.start_worker().on("failed", telling("failed listener")).on("failed", heard_of)
            receipt = queue.add_message_to_thread("t", "hello")
            (failed,) = wait_until(queue.list_failed, "it fails")
            wait_until(lambda: heard, "the listeners are called")
            shown.append(heard.pop())
            assert (
                f"RuntimeError: {kind}: POST https://api.telegram.org/[key]/sendMessage"
                in failed.error.message
            )
            shown += [repr(failed), repr(queue.get_message(receipt.message_id))]
    with AssistantMessageQueue(
        **shared, validators=[telling("validator")], queue_prefix=f"{prefix}-v"
    ) as queue:
        with pytest.raises(MessageRefused) as refused:
            queue.add_message_to_thread("t", "hello")
        shown += [str(refused.value), repr(refused.value)]
    said = written(caplog)
    kinds = (
        "handler",
        "on_reply",
        "tool",
        "completed listener",
        "backend",
        "default_instructions",
        "fallback",
        "failed listener",
    )
    for kind in kinds:
        assert (
            f"raised: RuntimeError: {kind}: " in said or f"failed: RuntimeError: {kind}: " in said
        ), kind
    assert said.count("Traceback (most recent call last)") >= len(kinds)
    assert_absent(OWN_SECRETS, said, "the log")
    assert_absent(OWN_SECRETS, "\n".join(shown), "what the caller sees")
    assert_absent(OWN_SECRETS, everything_in(one_redis), "Redis")
    caplog.clear()


def test_tracebacks_are_not_logged_unless_asked_for(
    one_redis: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    options = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0,
        "max_attempts": 1,
    }
    with AssistantMessageQueue(**options, backend=telling("backend")) as queue:
        queue.start_worker()
        queue.add_message_to_thread("t", "hello")
        wait_until(queue.list_failed, "it fails")
    assert (
        "raised: RuntimeError: backend: POST https://api.telegram.org/[key]/sendMessage"
        in caplog.text
    )
    assert "Traceback" not in caplog.text
