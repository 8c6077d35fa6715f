"""Parts of the OpenAI backends that no conforming server reaches.

Odd answers, lost connections, reading back, translation.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import openai
import pytest

from assistant_queue.backends import create_backend
from assistant_queue.backends.assistants.backend import AssistantsBackend
from assistant_queue.backends.assistants.parser import calls_of
from assistant_queue.backends.assistants.thread_log import ThreadLog
from assistant_queue.backends.base import (
    ActionRequired,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunRequest,
    Undecided,
)
from assistant_queue.backends.openai import content
from assistant_queue.backends.openai.clients import build_client
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.responses.backend import ResponsesBackend
from assistant_queue.backends.responses.conversation_items import Tail, tail_of, what_became_of
from assistant_queue.errors import (
    BackendError,
    ConfigurationError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import Batch, FunctionCall, Message, ToolCall
from tests.conftest import PATIENCE_S
from tests.contract.chat_servers import Body
from tests.fast_time import fast_time

# The HTTP library of the installed client: httpx with openai 2.x, httpx2 with 3.x.
http = importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])


STREAMED = {"content-type": "text/event-stream"}


def request(*texts: str, anchor: str | None = None) -> RunRequest:
    messages = tuple(Message(id=f"m{place}", content=text) for place, text in enumerate(texts))
    return RunRequest(
        batch=Batch(id="b", thread_id="t", messages=messages),
        conversation_id="conv_1",
        anchor=anchor,
        items=tuple(
            InputItem(content=message.content, message_ids=(message.id,)) for message in messages
        ),
    )


def client_of(answer: Callable[[Any], Any]) -> openai.AsyncOpenAI:
    transport = http.MockTransport(answer)
    http_client = http.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(
        api_key="k", base_url="http://provider.test/v1", http_client=http_client, max_retries=0
    )


def sse(*events: tuple[str, dict[str, Any]]) -> Any:
    text = (
        "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
        + "data: [DONE]\n\n"
    )
    return http.Response(200, headers=STREAMED, content=text.encode())


async def started(backend: Any) -> list[Any]:
    return [event async for event in backend.start(request("hello"))]


async def responses_answered(answer: Callable[[Any], Any]) -> list[Any]:
    backend = ResponsesBackend(client_of(answer), model="m")
    try:
        return await started(backend)
    finally:
        await backend.close()


def message(text: str, role: str = "assistant", **fields: Any) -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {
        "id": f"msg_{text}",
        "type": "message",
        "role": role,
        "content": [{"type": kind, "text": text}],
        **fields,
    }


def call(call_id: str) -> dict[str, Any]:
    return {
        "id": f"fc_{call_id}",
        "type": "function_call",
        "call_id": call_id,
        "name": "f",
        "arguments": "{}",
    }


def output(call_id: str) -> dict[str, Any]:
    return {
        "id": f"fco_{call_id}",
        "type": "function_call_output",
        "call_id": call_id,
        "output": "x",
    }


# --- odd answers ----------------------------------------------------------------------------------


async def test_a_server_that_ignores_stream_is_understood() -> None:
    done = {"object": "response", "id": "r1", "status": "completed", "output": [message("hi")]}
    events = await responses_answered(lambda _: http.Response(200, json=done))
    assert events[0] == RunAccepted(run_id="r1")
    assert events[1].replies == ("hi",)


@pytest.mark.parametrize("stays_open", [True, False])
async def test_a_response_that_was_only_queued_is_followed_by_its_id(stays_open: bool) -> None:
    queued = NeverEnding(
        '{"object": "response", "id": "r1", "status": "queued"}', ends=not stays_open
    )
    with pytest.raises(StreamCut, match="r1"):
        await responses_answered(lambda _: http.Response(200, stream=queued))


OVER = (
    "response.completed",
    {
        "type": "response.completed",
        "response": {"id": "r1", "status": "completed", "output": [message("hi")]},
    },
)
RUN_OVER = [
    ("thread.run.created", {"object": "thread.run", "id": "run_1", "status": "queued"}),
    (
        "thread.message.completed",
        {
            "object": "thread.message",
            "id": "m1",
            "role": "assistant",
            "content": [{"type": "text", "text": {"value": "hi"}}],
        },
    ),
    ("thread.run.completed", {"object": "thread.run", "id": "run_1", "status": "completed"}),
]


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain", "application/json", None])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_streams_of_both_protocols_are_known_by_their_bodies(
    kind: str | None, end: str
) -> None:
    headers = {} if kind is None else {"content-type": kind}

    def answer(*events: tuple[str, dict[str, Any]]) -> Any:
        body = "\ufeff" + sse(*events).text.replace("\n", end).rstrip()
        return lambda _: http.Response(200, headers=headers, content=body.encode())

    assert (await responses_answered(answer(OVER)))[-1].replies == ("hi",)
    backend = AssistantsBackend(client_of(answer(*RUN_OVER)), assistant_id="a")
    backend._takes_messages = True
    assert (await started(backend))[-1].replies == ("hi",)
    await backend.close()


async def test_a_responses_stream_without_names_of_events_is_read_by_their_types() -> None:
    body = f"event: message\ndata: {json.dumps(OVER[1])}\n\n".encode()
    assert (await responses_answered(lambda _: http.Response(200, headers=STREAMED, content=body)))[
        -1
    ].replies == ("hi",)


async def test_halves_of_a_character_are_joined_across_the_deltas_of_a_response() -> None:
    begun = sse(
        ("response.created", {"response": {"id": "r1", "status": "in_progress"}})
    ).text.replace("data: [DONE]\n\n", "")
    deltas = "".join(
        f'data: {{"type":"response.output_text.delta","item_id":"m","delta":"{half}"}}\n\n'
        for half in ("a\\ud83d", "\\ude00\\ude00")
    )
    over = sse(("response.completed", {"response": {"id": "r1", "status": "completed"}})).text
    _, *heard, ended = await responses_answered(
        lambda _: http.Response(200, headers=STREAMED, content=(begun + deltas + over).encode())
    )
    assert "".join(one.text for one in heard) == "a😀\ufffd"
    assert ended.replies == ("a😀\ufffd",)


async def test_calls_of_both_protocols_have_arguments_that_can_be_read() -> None:
    for arguments, read in (("", "{}"), (None, "{}"), ('{"t": "\\ud83d"}', '{"t": "\ufffd"}')):
        item = {**call("c1"), "arguments": arguments}
        over = (
            "response.completed",
            {"response": {"id": "r1", "status": "completed", "output": [item]}},
        )
        (asked,) = (await responses_answered(lambda _, over=over: sse(over)))[-1].calls
        assert asked.function.arguments == read
        action = {
            "submit_tool_outputs": {
                "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": arguments}}]
            }
        }
        (asked,) = calls_of({"required_action": action})
        assert asked.function.arguments == read


async def test_signs_of_life_keep_a_response_waiting_before_and_between_its_events() -> None:
    begun = (
        sse(("response.created", {"response": {"id": "r1", "status": "in_progress"}}))
        .text.replace("data: [DONE]\n\n", "")
        .encode()
    )
    waits: list[Any] = [b": ping\n\n", 8.0] * 5

    def answer(_: Any) -> Any:
        return http.Response(
            200, headers=STREAMED, stream=Body(*waits, begun, *waits, sse(OVER).text.encode())
        )

    with fast_time():
        backend = ResponsesBackend(
            client_of(answer), model="m", request_timeout=5, stream_idle_timeout=10
        )
        assert (await started(backend))[-1].replies == ("hi",)
        await backend.close()


@pytest.mark.parametrize(
    "body",
    [
        b'\xef\xbb\xbf {"data": [{"id": "item_1"}]}\r\n',
        b'{"data": [{"id": "item_\xff"}], "n": NaN}',
    ],
)
async def test_a_plain_answer_is_read_as_leniently_as_a_stream(body: bytes) -> None:
    backend = ResponsesBackend(client_of(lambda _: http.Response(200, content=body)))
    assert await backend.locate("conv_1") in {"item_1", "item_\ufffd"}
    await backend.close()


@pytest.mark.parametrize(
    "told",
    [
        [("response.output_item.done", {"item": message("hi")})],
        [("response.output_text.delta", {"item_id": "m", "delta": piece}) for piece in "hi"],
    ],
)
async def test_a_final_response_without_output_is_filled_from_the_stream(told: list[Any]) -> None:
    begun = ("response.created", {"response": {"id": "r1", "status": "in_progress"}})
    over = ("response.completed", {"response": {"id": "r1", "status": "completed", "output": []}})
    ended = (await responses_answered(lambda _: sse(begun, *told, over)))[-1]
    assert isinstance(ended, RunEnded)
    assert ended.replies == ("hi",)
    assert ended.usage is None


async def test_a_refusal_of_the_model_is_what_it_says() -> None:
    item = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "refusal", "refusal": "No."}],
    }
    over = (
        "response.completed",
        {"response": {"id": "r1", "status": "completed", "output": [item]}},
    )
    assert (await responses_answered(lambda _: sse(over)))[-1].replies == ("No.",)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"code": "conversation_locked"}, ConversationBusy),
        ({"code": "rate_limit_exceeded", "message": "try again in 20ms"}, RequestRefused),
        ({"type": "invalid_request_error"}, RequestRefused),
        ({"code": "server_error"}, OutcomeUnknown),
        ({}, OutcomeUnknown),
    ],
)
@pytest.mark.parametrize("is_nested", [False, True])
async def test_an_error_event_before_an_id_says_whether_anything_was_started(
    error: dict[str, str], expected: type[BackendError], is_nested: bool
) -> None:
    data = {"error": error} if is_nested else error
    with pytest.raises(expected) as caught:
        await responses_answered(lambda _: sse(("error", data)))
    assert type(caught.value) is expected


async def test_a_page_of_html_says_nothing_about_the_outcome() -> None:
    with pytest.raises(OutcomeUnknown):
        await responses_answered(
            lambda _: http.Response(200, text="<html>", headers={"content-type": "text/html"})
        )
    backend = ResponsesBackend(client_of(lambda _: http.Response(200, text="<html>")))
    with pytest.raises(OutcomeUnknown):
        await backend.locate("conv_1")
    await backend.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ConnectError", RequestRefused),
        ("ConnectTimeout", RequestRefused),
        ("PoolTimeout", RequestRefused),
        ("ProxyError", RequestRefused),
        ("UnsupportedProtocol", RequestRefused),
        ("ReadTimeout", OutcomeUnknown),
        ("WriteTimeout", OutcomeUnknown),
        ("ReadError", OutcomeUnknown),
        ("WriteError", OutcomeUnknown),
        ("RemoteProtocolError", OutcomeUnknown),
    ],
)
async def test_a_lost_connection_is_read_by_how_it_was_lost(
    name: str, expected: type[BackendError]
) -> None:
    def fail(sent: Any) -> Any:
        raise getattr(http, name)("lost", request=sent)

    with pytest.raises(expected) as caught:
        await responses_answered(fail)
    assert type(caught.value) is expected
    assert caught.value.counts == (expected is OutcomeUnknown)


async def test_the_outermost_cause_decides_how_a_connection_was_lost() -> None:
    def fail(sent: Any) -> Any:
        raise http.ReadError("lost", request=sent) from ConnectionRefusedError()

    with pytest.raises(OutcomeUnknown):
        await responses_answered(fail)


async def test_a_resumed_stream_without_output_at_its_end_is_not_taken_for_the_whole() -> None:
    """Text before the cursor is not in it."""
    shown = {
        "object": "response",
        "id": "r1",
        "status": "completed",
        "output": [message("Hello "), message("world")],
    }

    def answer(sent: Any) -> Any:
        if "stream" not in sent.url.params:
            return http.Response(200, json=shown)
        rest = ("response.output_item.done", {"item": message("world"), "sequence_number": 8})
        return sse(rest, ("response.completed", {"response": {**shown, "output": []}}))

    backend = ResponsesBackend(client_of(answer), model="m")
    events = [event async for event in backend.follow(request("hello"), "r1", 7)]
    await backend.close()
    assert events[0] == RunAccepted(run_id="r1")
    assert events[-1].replies == ("Hello ", "world")


class NeverEnding(http.AsyncByteStream):  # type: ignore[misc, name-defined]
    """A body that stays open after what it has to say, breaks, or ends."""

    def __init__(self, text: str, *, breaks: bool = False, ends: bool = False) -> None:
        self.text = text
        self.breaks = breaks
        self.ends = ends
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.text.encode()
        if self.breaks:
            raise http.ReadError("broken")
        if not self.ends:
            await asyncio.Event().wait()

    async def aclose(self) -> None:
        self.is_closed = True


@pytest.mark.parametrize("breaks", [True, False])
async def test_a_stream_that_has_sent_everything_is_not_read_to_its_end(breaks: bool) -> None:
    over = sse(
        (
            "response.completed",
            {"response": {"id": "r1", "status": "completed", "output": [message("hi")]}},
        )
    )
    body = NeverEnding(over.text, breaks=breaks)
    events = await responses_answered(lambda _: http.Response(200, headers=STREAMED, stream=body))
    assert events[-1].replies == ("hi",)
    assert body.is_closed


async def test_a_stream_that_is_given_up_is_closed() -> None:
    begun = sse(("response.created", {"response": {"id": "r1", "status": "in_progress"}}))
    body = NeverEnding(begun.text, breaks=False)
    backend = ResponsesBackend(
        client_of(lambda _: http.Response(200, headers=STREAMED, stream=body))
    )
    async with aclosing(backend.start(request("hello"))) as events:  # type: ignore[type-var]
        assert await anext(events) == RunAccepted(run_id="r1")
    assert body.is_closed
    await backend.close()


async def test_a_silent_assistants_server_is_asked_for_its_messages() -> None:
    """A server that streams runs but not messages."""
    listed = {
        "data": [
            {
                "id": "m1",
                "role": "assistant",
                "run_id": "run_1",
                "content": [{"type": "text", "text": {"value": "hi"}}],
            }
        ]
    }
    run = {"object": "thread.run", "id": "run_1", "status": "completed"}

    def answer(sent: Any) -> Any:
        if sent.method == "GET":
            return http.Response(200, json=listed)
        return sse(
            ("thread.run.created", {**run, "status": "queued"}), ("thread.run.completed", run)
        )

    backend = AssistantsBackend(client_of(answer), assistant_id="a")
    backend._takes_messages = True
    ended = (await started(backend))[-1]
    await backend.close()
    assert (ended.status, ended.replies, ended.whole) == ("completed", ("hi",), True)


@pytest.mark.parametrize(("since", "is_recognised"), [(1000, True), (1002, False), (None, False)])
async def test_messages_without_metadata_are_recognised_by_text_and_time(
    since: int | None, is_recognised: bool
) -> None:
    stored = {
        "id": "m1",
        "role": "user",
        "created_at": 1000,
        "metadata": {},
        "content": [{"type": "text", "text": {"value": "hello"}}],
    }
    client = client_of(lambda _: http.Response(200, json={"data": [stored], "has_more": False}))
    log = ThreadLog(
        ProviderChannel(client, request_timeout=5, stream_idle_timeout=5, closes_client=True)
    )
    asked = request("hello", "hello")
    missing = await log.missing(asked, since=since)
    assert missing == list(asked.items[1:] if is_recognised else asked.items)


def test_the_assistants_protocol_raises_no_warnings() -> None:
    """`filterwarnings = error` would not show it: the suite ignores this warning for direct calls."""
    code = (
        "import warnings; warnings.simplefilter('error'); import asyncio, openai\n"
        "from assistant_queue.backends.assistants.backend import AssistantsBackend\n"
        "from assistant_queue.errors import RequestRefused\n"
        "backend = AssistantsBackend(openai.AsyncOpenAI(api_key='k', base_url='http://127.0.0.1:9/v1', max_retries=0), assistant_id='a')\n"
        "try: asyncio.run(backend.open_conversation('t'))\n"
        "except RequestRefused: print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused"


# --- reading back ---------------------------------------------------------------------------------


OLD = [message("old", "user"), message("reply to old")]
NEW = [
    message("one", "user"),
    message("two", "user"),
    call("c1"),
    output("c1"),
    message("reply to new"),
]
ANCHOR = "msg_reply to old"


@pytest.mark.parametrize(
    ("is_reversed", "new"),
    [
        *[(True, new) for new in (NEW, [*NEW[:2], NEW[-1]], NEW[:2], NEW[:3])],
        # Not NEW[:2]: a conversation that begins and ends with a question does not show its
        # direction and is taken as asked for.
        *[(False, new) for new in (NEW, [*NEW[:2], NEW[-1]], NEW[:3])],
    ],
)
def test_the_tail_is_found_in_either_order(is_reversed: bool, new: list[Any]) -> None:
    listed = [*OLD, *new]
    tail = tail_of(list(reversed(listed)) if is_reversed else listed, ANCHOR, is_all=True)
    assert (list(tail.items), tail.is_exact) == (new, True)


def test_an_empty_tail_leaves_the_anchor_where_it_is() -> None:
    tail = tail_of(list(reversed(OLD)), ANCHOR, is_all=True)
    assert (list(tail.items), tail.anchor) == ([], ANCHOR)
    assert tail_of([], None, is_all=True).anchor is None


def became(
    items: list[Any],
    *texts: str,
    is_exact: bool = True,
    calls: tuple[ToolCall, ...] = (),
    run_id: str | None = None,
) -> Any:
    return what_became_of(Tail(items, None, is_exact=is_exact), request(*texts), run_id, calls)


def test_the_whole_batch_is_read_with_all_its_rounds() -> None:
    found = became([*NEW[:2], message("wait"), *NEW[2:]], "one", "two")
    assert (found.status, found.replies, found.whole, found.run_id) == (
        "completed",
        ("wait", "reply to new"),
        True,
        "",
    )


def test_outputs_are_read_with_the_round_after_them() -> None:
    sent = (ToolCall("c1", FunctionCall("f", "{}")),)
    found = became([*NEW[:2], message("wait"), *NEW[2:]], "one", "two", calls=sent, run_id="r1")
    assert (found.replies, found.whole, found.run_id) == (("reply to new",), False, "r1")
    assert isinstance(became([*NEW[:2], call("c1")], "one", "two", calls=sent), NotFound)


@pytest.mark.parametrize(
    "rest",
    [
        [],
        [message("half", status="in_progress")],
        [call("c1"), output("c1")],
        [call("c1"), output("c1"), message("next", "user")],
    ],
)
def test_stored_input_without_a_reply_decides_nothing(rest: list[Any]) -> None:
    assert isinstance(became([*NEW[:2], *rest], "one", "two"), Undecided)


def test_only_what_comes_before_the_next_question_is_ours() -> None:
    found = became(
        [message("one", "user"), message("mine"), message("more", "user"), message("theirs")], "one"
    )
    assert (found.replies, found.anchor) == (("mine",), "msg_theirs")


def test_an_incomplete_message_makes_an_incomplete_run() -> None:
    assert (
        became([message("one", "user"), message("Once", status="incomplete")], "one").status
        == "incomplete"
    )


def test_an_open_call_is_found_open_even_after_an_answered_one() -> None:
    found = became([message("one", "user"), call("c1"), output("c1"), call("c2")], "one")
    assert isinstance(found, ActionRequired)
    assert [one.id for one in found.calls] == ["c2"]


@pytest.mark.parametrize("texts", [("two", "one"), ("one",) * 3, ("one", "other"), ()])
def test_other_texts_are_not_ours(texts: tuple[str, ...]) -> None:
    assert isinstance(became(NEW, *texts), NotFound)


# --- in the words of each protocol ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "for_responses", "for_assistants"),
    [
        (
            {"type": "text", "text": "a"},
            {"type": "input_text", "text": "a"},
            {"type": "text", "text": "a"},
        ),
        (
            {"type": "input_text", "text": "a"},
            {"type": "input_text", "text": "a"},
            {"type": "text", "text": "a"},
        ),
        (
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
            {"type": "input_image", "image_url": "u", "detail": "low"},
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
        ),
        (
            {"type": "image_url", "image_url": "u"},
            {"type": "input_image", "image_url": "u"},
            {"type": "image_url", "image_url": {"url": "u"}},
        ),
        (
            {"type": "image_file", "image_file": {"file_id": "f"}},
            {"type": "input_image", "file_id": "f"},
            {"type": "image_file", "image_file": {"file_id": "f"}},
        ),
        (
            {"type": "input_image", "file_id": "f", "detail": "low"},
            {"type": "input_image", "file_id": "f", "detail": "low"},
            {"type": "image_file", "image_file": {"file_id": "f", "detail": "low"}},
        ),
        (
            {"type": "file", "file": {"file_id": "f"}},
            {"type": "input_file", "file_id": "f"},
            {"type": "file", "file": {"file_id": "f"}},
        ),
        ({"type": "new", "x": 1}, {"type": "new", "x": 1}, {"type": "new", "x": 1}),
    ],
)
def test_content_parts_are_sent_in_the_protocols_words(
    part: Any, for_responses: Any, for_assistants: Any
) -> None:
    assert content.responses_content([part]) == [for_responses]
    assert content.assistants_content([part]) == [for_assistants]
    assert content.same_content([for_responses], [part])
    assert content.same_content([for_assistants], [part])


def test_tools_are_sent_in_the_protocols_words() -> None:
    flat = {"type": "function", "name": "f", "parameters": {}}
    nested = {"type": "function", "function": {"name": "f", "parameters": {}}}
    search = {"type": "file_search"}
    assert [content.responses_tool(tool) for tool in (flat, nested, search)] == [flat, flat, search]
    assert [content.assistants_tool(tool) for tool in (flat, nested, search)] == [
        nested,
        nested,
        search,
    ]


def test_metadata_never_outgrows_the_provider() -> None:
    pairs = {f"k{number}": "v" for number in range(14)}
    items = [
        InputItem(content="a", message_ids=("m1",), metadata=pairs),
        InputItem(content="b", message_ids=("m2",), metadata={"more": "x"}),
    ]
    assert len(content.run_metadata(items, "b" * 600, {"own": "first"})) == 16
    assert len(content.run_metadata(items, "b" * 600)["aq_batch"]) == 512
    marked = content.message_metadata(items[0], "batch")
    assert len(marked) == 16
    assert marked["aq_message"] == "m1"


def test_the_mark_of_joined_messages_names_all_that_fit() -> None:
    assert content.message_mark(InputItem(content="a", message_ids=("m1", "m2"))) == "m1,m2"
    assert (
        content.message_mark(InputItem(content="a", message_ids=("m" * 300, "n" * 300)))
        == "m" * 300
    )


# --- clients --------------------------------------------------------------------------------------


def test_a_missing_key_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        build_client()


def test_a_sync_client_gets_an_async_twin() -> None:
    given = openai.OpenAI(
        api_key="k",
        base_url="http://x.test/v1",
        organization="o",
        timeout=7.0,
        max_retries=5,
        default_headers={"x-a": "b"},
        default_query={"q": 1},
    )
    twin = build_client(openai_client=given)
    assert isinstance(twin, openai.AsyncOpenAI)
    assert (
        twin.api_key,
        str(twin.base_url),
        twin.organization,
        twin.timeout,
        twin.max_retries,
    ) == ("k", "http://x.test/v1/", "o", 7.0, 5)
    assert twin.default_headers["x-a"] == "b"
    assert twin.default_query == {"q": 1}
    given.close()


def test_an_azure_client_gets_an_azure_twin() -> None:
    given = openai.AzureOpenAI(
        api_key="k", azure_endpoint="http://x.test", api_version="2026-01-01"
    )
    twin = build_client(openai_client=given)
    assert isinstance(twin, openai.AsyncAzureOpenAI)
    assert (str(twin.base_url), twin._api_version, twin.default_query) == (
        str(given.base_url),
        "2026-01-01",
        given.default_query,
    )
    given.close()


async def test_a_key_that_is_asked_for_is_asked_for_by_the_twin() -> None:
    given = openai.OpenAI(api_key=lambda: "fresh", base_url="http://x.test/v1")
    twin = build_client(openai_client=given)
    assert await twin._refresh_api_key() in {None, "fresh"}
    assert twin.api_key in {"fresh", ""}
    given.close()


def test_a_sync_client_with_its_own_connections_is_refused() -> None:
    own = http.Client()
    given = openai.OpenAI(api_key="k", http_client=own)
    with pytest.raises(ConfigurationError, match="AsyncOpenAI"):
        build_client(openai_client=given)
    own.close()
    with pytest.raises(ConfigurationError, match="not dict"):
        build_client(openai_client={})  # type: ignore[arg-type]


async def test_an_async_client_is_used_as_it_is_and_left_open() -> None:
    given = openai.AsyncOpenAI(api_key="k", base_url="http://x.test/v1")
    backend = create_backend(client_options={"openai_client": given}, model="m")
    assert isinstance(backend, ResponsesBackend)
    await backend.close()
    assert not given.is_closed()
    await given.close()


async def test_a_client_made_here_is_closed_with_its_backend() -> None:
    client = build_client(api_key="k", runs=600)
    backend = AssistantsBackend(client, assistant_id="a")
    pools = pools_of(client)
    await backend.close()
    assert client.is_closed()
    assert all(pool.is_closed for pool in pools)


def pools_of(client: openai.AsyncOpenAI) -> list[Any]:
    http_client: Any = client._client
    return [http_client, *http_client._others]


@pytest.mark.parametrize(("runs", "pools"), [(1, 1), (250, 1), (251, 2), (4000, 16)])
async def test_a_few_hundred_runs_share_a_pool_of_connections(runs: int, pools: int) -> None:
    client = build_client(api_key="k", runs=runs)
    assert len(pools_of(client)) == pools
    await client.close()


async def test_certificates_are_read_once_a_process_and_checked() -> None:
    """Reading them is most of what a client costs; a horse makes one for each wake-up."""
    clients = [build_client(api_key="k", runs=runs) for runs in (1, 251)]
    pools = [pool for client in clients for pool in pools_of(client)]
    contexts = {
        id(pool._transport._pool._ssl_context): pool._transport._pool._ssl_context for pool in pools
    }
    (context,) = contexts.values()
    assert (len(pools), context.verify_mode, context.check_hostname) == (3, ssl.CERT_REQUIRED, True)
    for client in clients:
        await client.close()


async def test_runs_are_spread_over_the_pools_and_none_waits_for_a_connection() -> None:
    """Held open together: beyond the library's own limit of a pool, runs would wait and be sent late."""
    started = asyncio.Event()
    most = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        await reader.readuntil(b"\r\n\r\n")
        most += 1
        if most == 1200:
            started.set()
        await asyncio.wait_for(started.wait(), 60)
        writer.write(
            b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 13\r\n\r\n{"id": "c_1"}'
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=2000)
    host, port = server.sockets[0].getsockname()
    client = build_client(api_key="k", base_url=f"http://{host}:{port}/v1", runs=600).with_options(
        max_retries=0, timeout=PATIENCE_S
    )
    made = await asyncio.gather(*(client.conversations.create() for _ in range(1200)))
    assert {one.id for one in made} == {"c_1"}
    await client.close()
    server.close()
    await server.wait_closed()


def test_one_backend_at_a_time() -> None:
    with pytest.raises(ConfigurationError):
        create_backend(client_options={"api_key": "k"}, assistant_id="a", model="m")


def test_the_package_does_not_import_openai_before_it_is_needed() -> None:
    code = "import sys, assistant_queue.backends, assistant_queue.backends.base; print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_producer_imports_no_provider_and_no_worker() -> None:
    code = (
        "import sys, assistant_queue; assistant_queue.AssistantMessageQueue(redis_url='redis://localhost:1/0', model='m');"
        "print([name for name in ('openai', 'rq', 'assistant_queue.worker', 'assistant_queue.core.flow', 'assistant_queue.backends.base')"
        " if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_404_that_names_no_thread_is_a_wrong_option() -> None:
    def answer(text: str) -> Callable[[Any], Any]:
        return lambda _: http.Response(404, json={"error": {"message": text}})

    with pytest.raises(RequestRefused) as caught:
        await responses_answered(answer("No assistant found with id 'asst_x'."))
    assert type(caught.value) is RequestRefused
    with pytest.raises(UnknownThread):
        await responses_answered(answer("Conversation with id 'conv_1' not found."))
