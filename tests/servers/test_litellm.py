"""LiteLLM's proxy, in front of the stand-in provider."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue.events import AttemptFailed, ReplyReady, TextDelta
from assistant_queue.testing import Personality, StandInProvider
from assistant_queue.testing.provider import IncompleteReply, cut_stream, drop_connection, refuse
from tests.conftest import PATIENCE_S, free_port
from tests.servers.processes import LITELLM, ForeignServer
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
)
from tests.servers.wire import Wire

LITELLM.require()

KEY = "sk-proxy"
CHAT = "/v1/chat/completions"
OP = "chat.completions.create"


@pytest.fixture(scope="module")
def proxy(
    upstream_server: StandInProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ForeignServer]:
    """The proxy: models that differ in what is behind them."""
    folder = tmp_path_factory.mktemp("litellm")
    port = free_port()
    usual = {
        "model": "openai/stand-in-model",
        "api_base": upstream_server.base_url,
        "api_key": upstream_server.api_key,
    }
    models = {
        "good": {**usual, "cooldown_time": 0},
        "impatient": {**usual, "cooldown_time": 0, "timeout": 1},
        "cooling": {**usual, "cooldown_time": 2},
        "locked-out": {**usual, "cooldown_time": 0, "api_key": "sk-not-the-upstreams"},
        "unreachable": {
            **usual,
            "cooldown_time": 0,
            "api_base": f"http://127.0.0.1:{free_port()}/v1",
        },
    }
    config = {
        "model_list": [
            {"model_name": name, "litellm_params": fields} for name, fields in models.items()
        ],
        "litellm_settings": {"num_retries": 0, "telemetry": False},
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": KEY},
    }
    (folder / "config.yaml").write_text(json.dumps(config))  # every JSON text is YAML
    program = LITELLM.python().parent / "litellm"
    server = ForeignServer(
        [program, "--config", folder / "config.yaml", "--host", "127.0.0.1", "--port", str(port)],
        port=port,
        ready="/health/liveliness",
        log=folder / "litellm.log",
        environment={
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_TELEMETRY": "False",
        },  # nothing is fetched from elsewhere
    )
    server.start()
    yield server
    server.kill()


@pytest.fixture
def wire(proxy: ForeignServer) -> Iterator[Wire]:
    made = Wire(proxy.port)
    yield made
    made.close()


@pytest.fixture
def options(wire: Wire, upstream: StandInProvider) -> dict[str, Any]:
    return {
        "protocol": "chat_completions",
        "model": "good",
        "openai_base_url": f"{wire.url}/v1",
        "openai_api_key": KEY,
    }


@pytest.fixture
def foreign(options: dict[str, Any], upstream: StandInProvider) -> Foreign:
    return Foreign(
        options=options,
        says_first=lambda *texts: f"You said: {' | '.join(texts)}",
        says_next=lambda *texts: f"You said: {' | '.join(texts)}",
        found="found: on its way",
        requests=lambda: len(upstream.calls(OP)),
    )


class TestUsual(UsualBehaviour):
    """The suite for every server."""


# --- refusals for good ----------------------------------------------------------------------------


def test_an_unknown_model_fails_once_with_the_proxys_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**{**options, "model": "nope"})
    assert "Invalid model name passed in model=nope" in failure_of(queue, "ann", "hi")
    assert len(wire.posted(CHAT)) == 1


def test_a_wrong_key_fails_once_with_the_proxys_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    """Without a database the proxy looks an unknown key up nowhere: 400 No connected db."""
    queue = make_queue(**{**options, "openai_api_key": "sk-not-the-proxys"})
    assert "No connected db" in failure_of(queue, "ann", "hi")
    assert len(wire.posted(CHAT)) == 1


def test_a_wrong_key_behind_the_proxy_fails_once_with_the_upstreams_words(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**{**options, "model": "locked-out"})
    assert "Incorrect API key" in failure_of(queue, "ann", "hi")
    assert len(wire.posted(CHAT)) == 1


def test_a_prompt_that_the_upstream_moderates_is_sent_once(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """Its code is lost on the way: only the words and the status arrive."""
    upstream.fault(OP, refuse(400, "content_filter"), times=None)
    before = len(upstream.calls(OP))
    queue = make_queue(**options)
    assert "content_filter" in failure_of(queue, "ann", "hi")
    assert len(upstream.calls(OP)) == before + 1


def test_an_upstream_without_quota_fails_once(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """429 throttling_error, code "429": only the words say that waiting does not help."""
    upstream.fault(
        OP,
        refuse(
            429,
            "insufficient_quota",
            message="You exceeded your current quota, please check your plan.",
        ),
        times=None,
    )
    before = len(upstream.calls(OP))
    queue = make_queue(**options, retry_for=5.0)
    assert "exceeded your current quota" in failure_of(queue, "ann", "hi")
    assert len(upstream.calls(OP)) == before + 1


# --- what passes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [429, 502, 503, 504, 529])
def test_an_upstream_that_is_busy_is_waited_for(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, status: int
) -> None:
    upstream.fault(OP, refuse(status), times=2)
    queue = make_queue(**options, max_attempts=1)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_a_deployment_that_cools_down_is_waited_for(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """The proxy's own 429 has a Retry-After."""
    upstream.fault(OP, refuse(429, "rate_limit_exceeded"))
    queue = make_queue(**{**options, "model": "cooling"}, max_attempts=1)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_the_upstreams_retry_after_is_obeyed(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """The proxy passes it on as `llm_provider-retry-after`."""
    upstream.fault(OP, refuse(429, "rate_limit_exceeded", retry_after=3))
    queue = make_queue(**options)
    before = time.monotonic()
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"
    assert time.monotonic() - before >= 3


@pytest.mark.parametrize(
    "trouble",
    [refuse(500), drop_connection(accept=True), cut_stream(after_events=2)],
    ids=["500", "lost", "cut"],
)
def test_an_upstream_that_fails_once_is_asked_again(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, trouble: Any
) -> None:
    upstream.fault(OP, trouble)
    queue = make_queue(**options)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_a_failure_inside_the_stream_is_no_answer(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """200, the role, an error with the code "500", and the end without [DONE]."""
    upstream.model = Once(CRASH)
    queue = make_queue(**options)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_what_keeps_failing_is_failed_with_the_upstreams_words(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    upstream.model = lambda _: CRASH
    before = len(upstream.calls(OP))
    queue = make_queue(**options, max_attempts=2)
    assert "the model crashed" in failure_of(queue, "ann", "hi")
    assert len(upstream.calls(OP)) == before + 2


def test_a_proxy_that_gives_the_upstream_up_is_asked_again(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    """Its time-out comes as an error inside the stream, code "408"."""
    upstream.model = Once(NEVER)
    queue = make_queue(**{**options, "model": "impatient"})
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_an_unreachable_upstream_is_reported_in_the_proxys_words(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    queue = make_queue(**{**options, "model": "unreachable"}, max_attempts=2)
    assert "Connection error" in failure_of(queue, "ann", "hi")


def test_an_answer_that_is_cut_short_is_incomplete(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider
) -> None:
    upstream.model = lambda _: IncompleteReply("length", "cut sh")
    delivered = Delivered()
    queue = make_queue(**options, on_reply=delivered)
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "cut sh"
    result = delivered.one()
    assert (result.status, result.incomplete_reason) == ("incomplete", "length")


# --- conversations --------------------------------------------------------------------------------


def test_a_conversation_that_outgrows_the_upstreams_model_continues(
    make_queue: MakeQueue, options: dict[str, Any], upstream: StandInProvider, wire: Wire
) -> None:
    upstream.personality = Personality(context_words=40)
    queue = make_queue(**options, default_instructions=None)
    texts = [f"message {number} is about this and that" for number in range(8)]
    assert [queue.ask("ann", text, timeout=PATIENCE_S) for text in texts] == [
        f"You said: {text}" for text in texts
    ]
    assert "ContextWindowExceededError" in wire.answers
    assert queue.list_failed() == []


def test_an_address_without_v1_works(
    make_queue: MakeQueue, options: dict[str, Any], wire: Wire
) -> None:
    queue = make_queue(**{**options, "openai_base_url": wire.url})
    assert queue.ask("ann", "hi", timeout=PATIENCE_S) == "You said: hi"


def test_the_responses_protocol_keeps_the_backlog_and_says_what_to_do(
    make_queue: MakeQueue, options: dict[str, Any]
) -> None:
    """The proxy has responses, but no conversations: 404 Not Found."""
    queue = make_queue(**{**options, "protocol": None})
    keeps_its_backlog(queue, "/conversations", "chat_completions")


# --- the doctor -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "nope"}, "`nope` does not exist"),
        ({"openai_api_key": "sk-not-the-proxys"}, "No connected db"),
    ],
    ids=["model", "key"],
)
def test_the_doctor_repeats_what_the_proxy_says(
    doctor: Doctor, options: dict[str, Any], change: dict[str, str], words: str
) -> None:
    said = doctor({**options, **change})
    assert words in said
    assert "bad  " in said


# --- a proxy that is away -------------------------------------------------------------------------


def test_messages_wait_for_a_proxy_that_is_down(
    make_queue: MakeQueue, options: dict[str, Any], proxy: ForeignServer
) -> None:
    proxy.kill()
    try:
        queue = make_queue(**{**options, "openai_base_url": f"{proxy.url}/v1"}, max_attempts=1)
        receipt = queue.add_message_to_thread("ann", "hi")
        first_error(queue, receipt.message_id)
    finally:
        proxy.start()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hi"


def test_a_proxy_killed_in_the_middle_of_an_answer(
    make_queue: MakeQueue, options: dict[str, Any], proxy: ForeignServer, upstream: StandInProvider
) -> None:
    """The partial text is withdrawn, and the restarted proxy answers the message once."""
    upstream.model = Once(SLOWLY)
    delivered = Delivered()
    queue = make_queue(**{**options, "openai_base_url": f"{proxy.url}/v1"}, on_reply=delivered)
    begin = queue.open_events("ann")
    receipt = queue.add_message_to_thread("ann", "hi")
    failed = 0
    text = ""
    for event in queue.events("ann", after=begin, timeout=PATIENCE_S):
        if isinstance(event, TextDelta):
            text += event.text
            if text.startswith("one") and proxy.is_running and not failed:
                proxy.kill()
                proxy.start()
        elif isinstance(event, AttemptFailed):
            failed = failed + 1
            text = ""
        elif isinstance(event, ReplyReady):
            break
    assert failed >= 1
    assert text == queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: hi"
    assert delivered.one().reply == "You said: hi"
