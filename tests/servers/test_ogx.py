"""OGX: a server of Responses and Conversations, with its inference at the stand-in provider."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI

from assistant_queue import AssistantMessageQueue
from assistant_queue.backends.responses.backend import ResponsesBackend
from assistant_queue.testing import Personality, StandInProvider
from assistant_queue.testing.provider import IncompleteReply, refuse
from tests.conftest import PATIENCE_S, free_port
from tests.servers.processes import OGX, ForeignServer
from tests.servers.usual import (
    CRASH,
    NEVER,
    SLOWLY,
    Delivered,
    Doctor,
    Foreign,
    MakeQueue,
    Once,
    UsualBehaviour,
    failure_of,
    first_error,
    keeps_its_backlog,
    says,
)
from tests.servers.wire import Wire

OGX.require()

OP = "chat.completions.create"
RESPONSES = "/v1/responses"


def _config(folder: Path, upstream: StandInProvider) -> dict[str, Any]:
    """The smallest distribution that has responses and conversations; everything is kept in the folder."""
    sql = {"backend": "sql_default"}
    kv = {"backend": "kv_default"}
    queue = {"max_write_queue_size": 100, "num_writers": 1}
    inference = {"base_url": upstream.base_url, "api_token": upstream.api_key, "max_tokens": 4096}
    return {
        "version": 2,
        "distro_name": "responses",
        "apis": ["inference", "responses", "files", "file_processors", "tool_runtime", "vector_io"],
        "providers": {
            "inference": [
                {"provider_id": "upstream", "provider_type": "remote::vllm", "config": inference}
            ],
            "responses": [
                {
                    "provider_id": "builtin",
                    "provider_type": "inline::builtin",
                    "config": {
                        "persistence": {"responses": {"table_name": "responses", **sql, **queue}}
                    },
                }
            ],
            "files": [
                {
                    "provider_id": "files",
                    "provider_type": "inline::localfs",
                    "config": {
                        "storage_dir": str(folder / "files"),
                        "metadata_store": {"table_name": "files", **sql},
                    },
                }
            ],
            "file_processors": [],
            "tool_runtime": [],
            "vector_io": [],
        },
        "storage": {
            "backends": {
                "kv_default": {"type": "kv_sqlite", "db_path": str(folder / "kv.db")},
                "sql_default": {"type": "sql_sqlite", "db_path": str(folder / "sql.db")},
            },
            "stores": {
                "metadata": {"namespace": "registry", **kv},
                "inference": {"table_name": "inference", **sql, **queue},
                "conversations": {"table_name": "conversations", **sql},
                "prompts": {"table_name": "prompts", **sql},
                "connectors": {"table_name": "connectors", **sql},
            },
        },
        "registered_resources": {
            "models": [
                {
                    "metadata": {},
                    "model_id": "good",
                    "provider_id": "upstream",
                    "provider_model_id": "stand-in",
                    "model_type": "llm",
                }
            ],
            "vector_stores": [],
        },
    }


@pytest.fixture(scope="module")
def ogx(
    upstream_server: StandInProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForeignServer]:
    """The server, with stores that survive it."""
    folder = tmp_path_factory.mktemp("ogx")
    port = free_port()
    config = {**_config(folder, upstream_server), "server": {"port": port, "host": "127.0.0.1"}}
    (folder / "config.yaml").write_text(json.dumps(config))  # every JSON text is YAML
    program = OGX.python().parent / "ogx"
    server = ForeignServer(
        [program, "run", folder / "config.yaml", "--port", str(port), "--insecure"],
        port=port,
        ready="/v1/health",
        log=folder / "ogx.log",
        environment={"OGX_CONFIG_DIR": str(folder / "home")},
    )
    server.start()
    yield server
    server.kill()


@pytest.fixture
def wire(ogx: ForeignServer) -> Iterator[Wire]:
    made = Wire(ogx.port)
    yield made
    made.close()


@pytest.fixture
def options(wire: Wire, upstream: StandInProvider) -> dict[str, Any]:
    return {"model": "upstream/good", "openai_base_url": f"{wire.url}/v1", "openai_api_key": "none"}


@pytest.fixture(params=["responses", "chat_completions"])
def foreign(
    request: pytest.FixtureRequest, options: dict[str, Any], upstream: StandInProvider
) -> Foreign:
    return Foreign(
        options={**options, "protocol": request.param},
        says_first=lambda *texts: f"You said: {' | '.join(texts)}",
        says_next=lambda *texts: f"You said: {' | '.join(texts)}",
        found="found: on its way",
        requests=lambda: len(upstream.calls(OP)),
        has_deltas=request.param
        == "chat_completions",  # a response in the background is not streamed by this server
    )


class TestUsual(UsualBehaviour):
    """The suite for every server."""


def asked(upstream: StandInProvider, text: str) -> int:
    """Count the model's requests with this text as the last one of a conversation."""
    return sum(request.body["messages"][-1]["content"] == text for request in upstream.calls(OP))


def unheard() -> str:
    """A text that no other test has said: the stand-in's log is the module's."""
    return f"hi {secrets.token_hex(4)}"


class Conversation:
    """Read a thread from the server, without the queue."""

    def __init__(self, at: ForeignServer | Wire, queue: AssistantMessageQueue, thread: str) -> None:
        self._at = at
        self.id = queue.get_thread(thread).id

    def call(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._at.port, timeout=30)
        try:
            connection.request(
                method,
                path,
                None if body is None else json.dumps(body),
                {"content-type": "application/json"},
            )
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    @property
    def texts(self) -> list[str]:
        """All texts, oldest first."""
        listed = self.call("GET", f"/v1/conversations/{self.id}/items?order=asc&limit=100")["data"]
        return [_text(item) for item in listed]

    def holds(self, *texts: str) -> None:
        """See that these texts are all there is.

        A run's items join the conversation a little after it is said to have completed.
        """
        until = time.monotonic() + PATIENCE_S
        while self.texts != list(texts):
            assert time.monotonic() < until, self.texts
            time.sleep(0.05)

    def fill(self, count: int) -> None:
        """Add finished turns of another writer."""
        items = []
        for number in range(count):
            items.append({"type": "message", "role": "user", "content": f"earlier {number}"})
            answer = [{"type": "output_text", "text": f"answer {number}", "annotations": []}]
            items.append(
                {
                    "type": "message",
                    "role": "assistant",
                    "content": answer,
                    "id": f"msg_{secrets.token_hex(8)}",
                    "status": "completed",
                }
            )
        for start in range(0, len(items), 20):  # as many as one request may add
            added = self.call(
                "POST", f"/v1/conversations/{self.id}/items", {"items": items[start : start + 20]}
            )
            assert len(added["data"]) == len(items[start : start + 20]), added


def _text(item: Any) -> str:
    content = item.get("content") or item.get("output") or item.get("arguments")
    return (
        content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    )


# --- what the server cannot do --------------------------------------------------------------------


def test_stream_and_background_are_refused_together_and_background_is_kept(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    """A response in the foreground dies with its reader and stays in progress for ever; one in the background does not."""
    queue = make_queue(**options)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"
    assert queue.ask("ann", "again", timeout=PATIENCE_S) == "You said: again"
    sent = [
        (body.get("stream", False), body.get("background", False))
        for body in wire.posted(RESPONSES)
    ]
    assert sent == [(True, True), (False, True), (False, True)]


def test_a_conversation_that_outgrows_the_model_continues(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """The server leaves the oldest turns out by itself."""
    upstream.personality = Personality(context_words=40)
    queue = make_queue(**options, default_instructions=None)
    texts = [f"message {number} is about this and that" for number in range(8)]
    assert [queue.ask("ann", text, timeout=PATIENCE_S) for text in texts] == [
        f"You said: {text}" for text in texts
    ]


def test_a_message_that_is_too_long_by_itself_fails_and_the_next_is_answered(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    upstream.personality = Personality(context_words=40)
    queue = make_queue(**options, default_instructions=None)
    assert queue.ask("ann", "short", timeout=PATIENCE_S) == "You said: short"
    assert "could not be reduced further by truncation" in failure_of(queue, "ann", "word " * 100)
    assert queue.ask("ann", "shorter", timeout=PATIENCE_S) == "You said: shorter"


def test_a_batch_sees_the_one_before_it(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, wire: Wire
) -> None:
    """A response in the background is completed before its turn has joined the conversation: the next one must not be sent until then."""
    queue = make_queue(**options, max_batch_size=1)
    receipts = [queue.add_message_to_thread("ann", f"{number} of five") for number in range(5)]
    replies = [queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts]
    assert replies == [f"You said: {number} of five" for number in range(5)]
    seen = [
        [message["content"] for message in request.body["messages"] if message["role"] == "user"]
        for request in upstream.calls(OP)[-5:]
    ]
    assert seen == [[f"{number} of five" for number in range(count + 1)] for count in range(5)]
    turns = [
        words
        for number in range(5)
        for words in (f"{number} of five", f"You said: {number} of five")
    ]
    Conversation(wire, queue, "ann").holds(*turns)


# --- refusals -------------------------------------------------------------------------------------


def test_an_unknown_model_fails_once_with_the_servers_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    """In the background it says so as the failure of a response that it has accepted (`processing_error`)."""
    queue = make_queue(**{**options, "model": "nope"})
    assert "Model 'nope' not found" in failure_of(queue, "ann", "hi")
    assert sum(not body.get("stream") for body in wire.posted(RESPONSES)) == 1


def test_a_conversation_that_is_unknown_is_not_tried_again(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    failure_of(queue, "conv_" + "0" * 48, "hi")
    (failed,) = queue.list_failed()
    assert failed.reason == "unknown_thread"


def test_an_address_without_v1_keeps_the_backlog_and_says_what_to_do(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**{**options, "openai_base_url": wire.url})
    keeps_its_backlog(queue, "/conversations", "/v1")


def test_an_upstream_that_fails_once_is_asked_again(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    upstream.model = Once(CRASH)
    queue = make_queue(**options)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_an_upstream_that_refuses_is_quoted_in_its_own_words(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    upstream.fault(
        OP, refuse(401, "invalid_api_key", message="Incorrect API key provided."), times=None
    )
    queue = make_queue(**options, max_attempts=1)
    assert "Incorrect API key provided" in failure_of(queue, "ann", "hi")


def test_an_upstream_that_is_busy_is_waited_for_by_the_server(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """Its own client obeys Retry-After; the response is silent meanwhile, and is not given up."""
    upstream.fault(OP, refuse(429, "rate_limit_exceeded", retry_after=3))
    queue = make_queue(**options, max_attempts=1, stream_idle_timeout=1.0)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_an_answer_that_is_cut_short_is_incomplete(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    upstream.model = lambda _: IncompleteReply("length", "cut sh")
    delivered = Delivered()
    queue = make_queue(**options, on_reply=delivered)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "cut sh"
    assert delivered.one().status == "incomplete"


def test_the_doctor_repeats_what_the_server_says_and_leaves_no_conversation_behind(
    doctor: Doctor, options: dict[str, Any], ogx: ForeignServer
) -> None:
    said = doctor({**options, "model": "nope"})
    assert "Model 'nope' not found" in said
    assert "was deleted again" in said
    said = doctor({**options, "openai_base_url": ogx.url})
    assert "POST /conversations answered 404" in said
    assert "/v1" in said


# --- lost answers: absence is proven before anything is sent again --------------------------------


@pytest.mark.parametrize(
    "texts", [["one"], ["one", "two", "three"], ["yes", "yes"]], ids=["one", "burst", "same words"]
)
def test_an_answer_that_was_lost_is_found_and_not_asked_for_again(
    make_queue: MakeQueue,
    options: dict[str, Any],
    upstream: StandInProvider,
    wire: Wire,
    texts: list[str],
) -> None:
    queue = make_queue(**options, message_delay=0.3, request_timeout=3.0)
    queue.ask("ann", "hello", timeout=PATIENCE_S)
    before = len(upstream.calls(OP))
    wire.lose_the_answer(RESPONSES)
    receipts = [queue.add_message_to_thread("ann", text) for text in texts]
    reply = f"You said: {' | '.join(texts)}"
    assert {queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts} == {reply}
    assert len(upstream.calls(OP)) == before + 1
    Conversation(wire, queue, "ann").holds("hello", "You said: hello", *texts, reply)


def test_an_answer_that_was_lost_is_found_in_a_conversation_of_several_pages(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, wire: Wire
) -> None:
    queue = make_queue(**options, request_timeout=3.0)
    queue.ask("ann", "hello", timeout=PATIENCE_S)
    conversation = Conversation(wire, queue, "ann")
    conversation.holds("hello", "You said: hello")
    conversation.fill(110)
    before = len(upstream.calls(OP))
    wire.lose_the_answer(RESPONSES)
    assert queue.ask("ann", "are you there?", timeout=PATIENCE_S) == "You said: are you there?"
    assert len(upstream.calls(OP)) == before + 1


def test_an_answer_to_tool_outputs_that_was_lost_is_found(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, wire: Wire
) -> None:
    queue = make_queue(**options, request_timeout=3.0)

    @queue.tool
    def order_status(order: int) -> str:
        """Return the state of an order."""
        wire.lose_the_answer(RESPONSES)  # of the request that brings this output
        return f"order {order} is on its way"

    before = len(upstream.calls(OP))
    assert (
        queue.ask("ann", "where is my order?", timeout=PATIENCE_S) == "found: order 7 is on its way"
    )
    assert len(upstream.calls(OP)) == before + 2


# --- the end of processes -------------------------------------------------------------------------


class Worker:
    """A worker process of the command, with options from the environment."""

    def __init__(self, queue: AssistantMessageQueue, log: Path) -> None:
        config = queue.config
        told = {
            "REDIS_URL": config.redis_url,
            "OPENAI_BASE_URL": config.openai_base_url,
            "OPENAI_API_KEY": "none",
            "ASSISTANT_QUEUE_MODEL": config.model,
            "ASSISTANT_QUEUE_QUEUE_PREFIX": config.queue_prefix,
            "ASSISTANT_QUEUE_LOCK_DURATION": "2",
            "ASSISTANT_QUEUE_STREAM_IDLE_TIMEOUT": "2",
            "ASSISTANT_QUEUE_MESSAGE_DELAY": "0",
        }
        with log.open("ab") as kept:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "assistant_queue.cli", "worker"],
                env={**os.environ, **{name: str(value) for name, value in told.items()}},
                stdout=kept,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()


def test_a_worker_killed_in_the_middle_of_a_run_leaves_it_to_the_next(
    make_queue: MakeQueue,
    options: dict[str, Any],
    upstream: StandInProvider,
    ogx: ForeignServer,
    tmp_path: Path,
) -> None:
    upstream.model = lambda turn: SLOWLY if "slow" in turn.user_texts[-1] else says(turn)
    queue = make_queue(**options, has_worker=False)
    text = f"slow {unheard()}"
    workers = [Worker(queue, tmp_path / "worker.log")]
    try:
        receipt = queue.add_message_to_thread("ann", text)
        upstream.wait_for(lambda _: asked(upstream, text) == 1, timeout=PATIENCE_S)
        workers[0].kill()
        workers.append(Worker(queue, tmp_path / "worker.log"))
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "one two three four five six"
    finally:
        for worker in workers:
            worker.kill()
    assert asked(upstream, text) == 1
    Conversation(ogx, queue, "ann").holds(text, "one two three four five six")


def test_a_server_killed_in_the_middle_of_a_run(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, ogx: ForeignServer
) -> None:
    """Its response in the background stays in progress for ever, as one that takes its time: at the deadline it is cancelled."""
    upstream.model = Once(SLOWLY)
    text = unheard()
    queue = make_queue(
        **{**options, "openai_base_url": f"{ogx.url}/v1"}, run_timeout=20.0, max_attempts=2
    )
    receipt = queue.add_message_to_thread("ann", text)
    upstream.wait_for(lambda _: asked(upstream, text) == 1, timeout=PATIENCE_S)
    ogx.kill()
    ogx.start()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == f"You said: {text}"
    assert asked(upstream, text) == 2
    Conversation(ogx, queue, "ann").holds(text, f"You said: {text}")


def test_a_server_killed_in_the_middle_of_a_run_in_the_foreground(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, ogx: ForeignServer
) -> None:
    """Nothing can cancel it, and nothing of it will come: that is found out after `stream_idle_timeout`, long before `run_timeout`."""
    upstream.model = Once(SLOWLY)
    text = unheard()
    queue = make_queue(backend=in_the_foreground(f"{ogx.url}/v1"), stream_idle_timeout=3.0)
    receipt = queue.add_message_to_thread("ann", text)
    upstream.wait_for(lambda _: asked(upstream, text) == 1, timeout=PATIENCE_S)
    ogx.kill()
    ogx.start()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == f"You said: {text}"
    assert asked(upstream, text) == 2


def in_the_foreground(base_url: str) -> ResponsesBackend:
    """A backend that streams responses in the foreground, which is not what the queue chooses for this server."""
    client = AsyncOpenAI(base_url=base_url, api_key="none")
    return ResponsesBackend(
        client,
        model="upstream/good",
        background=False,
        request_timeout=3.0,
        stream_idle_timeout=1.0,
    )


def test_a_run_in_the_foreground_that_lost_its_reader_is_asked_for_again(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """The server abandons it and shows it in progress for ever: that is found out after `stream_idle_timeout`, not after `run_timeout`."""
    upstream.fault(
        OP, refuse(429, "rate_limit_exceeded", retry_after=4)
    )  # the stream is silent for longer than the reader waits
    queue = make_queue(
        backend=in_the_foreground(options["openai_base_url"]),
        request_timeout=3.0,
        stream_idle_timeout=1.0,
    )
    text = unheard()
    assert queue.ask("ann", text, timeout=PATIENCE_S) == f"You said: {text}"


def test_messages_wait_for_a_server_that_is_down(
    make_queue: MakeQueue, options: dict[str, Any], ogx: ForeignServer
) -> None:
    queue = make_queue(**{**options, "openai_base_url": f"{ogx.url}/v1"}, max_attempts=1)
    queue.ask("ann", "hi", timeout=PATIENCE_S)
    ogx.kill()
    try:
        receipt = queue.add_message_to_thread("ann", "are you there?")
        first_error(queue, receipt.message_id)
    finally:
        ogx.start()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: are you there?"


def test_a_run_that_does_not_end_is_cancelled_and_the_thread_continues(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, ogx: ForeignServer
) -> None:
    upstream.model = Once(NEVER)
    queue = make_queue(**options, run_timeout=2.0, max_attempts=1)
    failure_of(queue, "ann", "hi")
    assert queue.ask("ann", "hello?", timeout=PATIENCE_S) == "You said: hello?"
    Conversation(ogx, queue, "ann").holds("hello?", "You said: hello?")


# --- beside the queue -----------------------------------------------------------------------------


def test_messages_are_listed_in_both_orders(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**options)
    for text in ("one", "two"):
        queue.ask("ann", text, timeout=PATIENCE_S)
    told = ["one", "You said: one", "two", "You said: two"]
    Conversation(wire, queue, "ann").holds(*told)
    assert [message.text for message in queue.list_messages("ann", order="asc")] == told
    assert [message.text for message in queue.list_messages("ann")] == told[::-1]


def test_a_forgotten_thread_begins_anew(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    queue = make_queue(**options)
    queue.ask("ann", "one", timeout=PATIENCE_S)
    queue.forget_thread("ann")
    queue.ask("ann", "two", timeout=PATIENCE_S)
    assert [
        message["content"]
        for message in upstream.calls(OP)[-1].body["messages"]
        if message["role"] == "user"
    ] == ["two"]
