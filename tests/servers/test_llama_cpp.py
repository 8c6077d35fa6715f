"""llama.cpp: its own HTTP server, as the package xllamacpp brings it, over a model that the test makes (`gguf_model.py`)."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant_queue.events import AttemptFailed, ReplyReady, TextDelta
from tests.conftest import PATIENCE_S, free_port
from tests.servers.processes import LLAMA_CPP, ForeignServer
from tests.servers.usual import (
    Delivered,
    Doctor,
    Foreign,
    MakeQueue,
    UsualBehaviour,
    failure_of,
    first_error,
    keeps_its_backlog,
)
from tests.servers.wire import Wire

LLAMA_CPP.require()

HERE = Path(__file__).parent
CHAT = "/v1/chat/completions"
PIXEL = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()

MakeModel = Callable[[str], Path]


@pytest.fixture(scope="module")
def make_model(tmp_path_factory: pytest.TempPathFactory) -> MakeModel:
    """Write a model with one of the chat templates of `gguf_model.py`; each once."""
    folder = tmp_path_factory.mktemp("models")
    made = {}

    def make(template: str) -> Path:
        if template not in made:
            made[template] = folder / f"{template}.gguf"
            subprocess.run(
                [LLAMA_CPP.python(), HERE / "gguf_model.py", made[template], template], check=True
            )
        return made[template]

    return make


class Llama:
    """A llama.cpp server, and the wire before it."""

    def __init__(
        self, model: Path, log: Path, *, context: int, slots: int, key: str | None
    ) -> None:
        self._port = free_port()
        self._context = context
        self._slots = slots
        self._key = key
        self._log = log
        self.wire = Wire(self._port)
        self.server = self._server(model)

    def _server(self, model: Path) -> ForeignServer:
        given = [
            str(self._port),
            str(self._context),
            str(self._slots),
            *([self._key] if self._key else []),
        ]
        command = [LLAMA_CPP.python(), HERE / "llama_cpp_server.py", model, *given]
        return ForeignServer(command, port=self._port, ready="/health", log=self._log)

    def serve_instead(self, model: Path) -> None:
        """Prepare the same address with another model; the running server must have been killed."""
        self.server = self._server(model)

    @property
    def options(self) -> dict[str, Any]:
        return {
            "protocol": "chat_completions",
            "model": "tiny",
            "openai_base_url": f"{self.wire.url}/v1",
            "openai_api_key": self._key or "none",
        }

    @property
    def asked(self) -> list[Any]:
        """The bodies of the chat completions that were asked for."""
        return self.wire.posted(CHAT)


@pytest.fixture
def start(make_model: MakeModel, tmp_path: Path) -> Iterator[Callable[..., Llama]]:
    """Start llama.cpp servers; stopped afterwards."""
    started: list[Llama] = []

    def start(
        template: str = "usual", *, context: int = 4096, slots: int = 2, key: str | None = None
    ) -> Llama:
        made = Llama(
            make_model(template), tmp_path / "llama_cpp.log", context=context, slots=slots, key=key
        )
        started.append(made)
        made.server.start()
        return made

    yield start
    for made in started:
        made.wire.close()
        made.server.kill()
        print(made.server.tail())  # noqa: T201 - shown where the test fails


@pytest.fixture
def foreign(start: Callable[..., Llama]) -> Foreign:
    llama = start(context=8192)
    return Foreign(
        options=llama.options,
        says_first=lambda *_: "All is well.",
        says_next=lambda *_: "You asked again!",
        found="The order was found;",
        requests=lambda: len(llama.asked),
    )


class TestUsual(UsualBehaviour):
    """The suite for every server."""


# --- the conversation and the context -------------------------------------------------------------


def test_a_conversation_that_outgrows_the_context_continues_with_less_of_it(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start(context=1024, slots=2)  # 512 tokens for each slot, about one a letter
    queue = make_queue(**llama.options)
    replies = [
        queue.ask("ann", f"message {number} " + "x" * 60, timeout=PATIENCE_S)
        for number in range(12)
    ]
    # Where the context is nearly full, the answer is cut short by a token or two.
    assert [(reply or "")[:9] for reply in replies] == ["All is we", *["You asked"] * 11]
    assert "exceeds the available context size" in llama.wire.answers
    assert queue.list_failed() == []


def test_a_message_that_is_too_long_by_itself_fails_once_with_the_servers_words(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start(context=1024, slots=2)
    queue = make_queue(**llama.options)
    failure = failure_of(queue, "ann", "x" * 2000)
    assert "exceeds the available context size (512 tokens)" in failure
    assert len(llama.asked) == 1
    assert queue.ask("ann", "shorter", timeout=PATIENCE_S) == "All is well."


def test_an_answer_that_fills_the_context_is_incomplete(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start(context=1024, slots=2)
    delivered = Delivered()
    queue = make_queue(**llama.options, on_reply=delivered)
    reply = queue.ask("ann", "count for ever", timeout=PATIENCE_S)
    assert reply is not None
    assert reply.startswith("and so on")
    result = delivered.one()
    assert (result.status, result.incomplete_reason) == ("incomplete", "length")


def test_what_the_model_thinks_is_not_a_part_of_the_reply(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    queue = make_queue(**start().options)
    assert queue.ask("ann", "think", timeout=PATIENCE_S) == "Thought over?"


# --- templates ------------------------------------------------------------------------------------


def test_a_template_that_wants_the_roles_in_turn(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start("alternating")
    queue = make_queue(**llama.options, message_delay=0.5)
    receipts = [queue.add_message_to_thread("ann", text) for text in ("hi", "are you there?")]
    assert [queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts] == [
        "All is well."
    ] * 2
    assert len(llama.asked) == 2  # refused, and joined
    assert queue.ask("ann", "and now?", timeout=PATIENCE_S) == "You asked again!"
    assert len(llama.asked) == 3


def test_a_template_that_wants_the_roles_in_turn_takes_a_tool_round(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start("alternating")
    queue = make_queue(**llama.options)

    @queue.tool
    def order_status(order: int) -> str:
        """Return the state of an order."""
        return f"order {order} is on its way"

    assert queue.ask("ann", "where is my order?", timeout=PATIENCE_S) == "The order was found;"


def test_a_template_without_a_system_role(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start("no_system")
    queue = make_queue(**llama.options, default_instructions="Be brief.")
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "All is well."


# --- refusals -------------------------------------------------------------------------------------


def test_a_wrong_key_fails_at_once_with_the_servers_words(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start(key="sk-the-right-one")
    queue = make_queue(**{**llama.options, "openai_api_key": "sk-a-wrong-one"})
    failure = failure_of(queue, "ann", "hi")
    assert "Invalid API Key" in failure
    assert len(llama.asked) == 1


def test_the_right_key_is_taken(make_queue: MakeQueue, start: Callable[..., Llama]) -> None:
    queue = make_queue(**start(key="sk-the-right-one").options)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "All is well."


def test_a_picture_for_a_model_that_sees_none_fails_with_the_servers_words(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    """It says 500, so it is tried as often as any failure that may pass."""
    queue = make_queue(**start().options)
    failure = failure_of(queue, "ann", [{"type": "image_url", "image_url": {"url": PIXEL}}])
    assert "image input is not supported" in failure
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "All is well."


def test_an_address_without_v1_works(make_queue: MakeQueue, start: Callable[..., Llama]) -> None:
    llama = start()
    queue = make_queue(**{**llama.options, "openai_base_url": llama.wire.url})
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "All is well."


def test_a_wrong_path_keeps_the_backlog_and_says_what_to_do(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start()
    queue = make_queue(
        **{**llama.options, "openai_base_url": f"{llama.wire.url}/v2"}, max_attempts=1
    )
    keeps_its_backlog(queue, "File Not Found", "/v1")


def test_the_responses_protocol_keeps_the_backlog_and_says_what_to_do(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    """There are no conversations: 404 File Not Found.

    The person's message waits for the correction, and the error tells of it.
    """
    llama = start()
    queue = make_queue(**{**llama.options, "protocol": None})
    keeps_its_backlog(queue, "/conversations", "chat_completions")


def test_the_doctor_repeats_what_the_server_says_of_a_key(
    doctor: Doctor, start: Callable[..., Llama]
) -> None:
    said = doctor({**start(key="sk-the-right-one").options, "openai_api_key": "sk-a-wrong-one"})
    assert "Invalid API Key" in said
    assert "bad  " in said


# --- a server that is away ------------------------------------------------------------------------


def test_messages_wait_for_a_server_that_is_down_and_use_no_attempt_up(
    make_queue: MakeQueue, start: Callable[..., Llama]
) -> None:
    llama = start()
    llama.server.kill()
    queue = make_queue(
        **{**llama.options, "openai_base_url": f"{llama.server.url}/v1"}, max_attempts=1
    )
    receipt = queue.add_message_to_thread("ann", "hi")
    first_error(queue, receipt.message_id)
    llama.server.start()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "All is well."


def test_a_server_that_still_loads_its_model_is_waited_for(
    make_queue: MakeQueue, start: Callable[..., Llama], make_model: MakeModel
) -> None:
    """503 Loading model, without a Retry-After: it uses no attempt up."""
    llama = start()
    llama.server.kill()
    llama.serve_instead(make_model("slow_to_load"))
    llama.wire.wait_for_the_server(PATIENCE_S)
    queue = make_queue(**llama.options, max_attempts=1, request_timeout=PATIENCE_S)
    receipt = queue.add_message_to_thread("ann", "hi")
    llama.server.start(wait=False)
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "All is well."
    assert 503 in llama.wire.statuses
    assert "Loading model" in llama.wire.answers


def test_a_server_killed_in_the_middle_of_an_answer(
    make_queue: MakeQueue, start: Callable[..., Llama], make_model: MakeModel
) -> None:
    """The broken text is taken back, and the thread answered once, by the server that comes up in its place."""
    llama = start(context=65536, slots=1)
    delivered = Delivered()
    queue = make_queue(
        **{**llama.options, "openai_base_url": f"{llama.server.url}/v1"}, on_reply=delivered
    )
    begin = queue.open_events("ann")
    receipt = queue.add_message_to_thread("ann", "count for ever")
    failed = 0
    text = ""
    for event in queue.events("ann", after=begin, timeout=PATIENCE_S):
        if isinstance(event, TextDelta):
            text += event.text
            if failed == 0 and len(text) > 20 and llama.server.is_running:
                llama.server.kill()
                llama.serve_instead(make_model("patient"))
                llama.server.start()
        elif isinstance(event, AttemptFailed):
            failed = failed + 1
            text = ""
        elif isinstance(event, ReplyReady):
            break
    assert failed >= 1
    assert text == queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "All is well."
    result = delivered.one()
    assert (result.status, result.reply) == ("completed", "All is well.")
