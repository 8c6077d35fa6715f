"""The strict stand-in speaks Chat Completions to the real client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_type_hints

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk, completion_create_params
from pydantic import BaseModel

from assistant_queue.testing.provider import (
    IncompleteReply,
    Personality,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    Turn,
    cut_stream,
    never_answer,
    reply_with,
    vanish,
)
from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.chat_bodies import CREATE_CHAT_COMPLETION
from tests.contract import openai_shapes

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {}},
        "strict": False,
    },
}
HI = {"role": "user", "content": "hi"}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as provider:
        yield provider
    assert provider.model_errors == ()


@pytest.fixture
def client(provider: StandInProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=provider.base_url, api_key=provider.api_key, max_retries=0
    ) as client:
        yield client


def whole(client: openai.OpenAI, *messages: Any, **asked: Any) -> Any:
    return client.chat.completions.create(model="m", messages=messages, **asked)


def stream(client: openai.OpenAI, *messages: Any, **asked: Any) -> list[Any]:
    with client.chat.completions.create(
        model="m", messages=messages, stream=True, **asked
    ) as chunks:
        return list(chunks)


def refused(client: openai.OpenAI, *messages: Any, **asked: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        whole(client, *messages, **asked)
    return caught.value


def holds_nothing_unknown(value: Any, where: str = "") -> None:
    """The client keeps fields that its types do not know: there must be none."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, f"{where}: {value.model_extra}"
        type(value).model_validate(value.model_dump())
        for name in type(value).model_fields:
            holds_nothing_unknown(getattr(value, name), f"{where}.{name}")
    elif isinstance(value, list):
        for one in value:
            holds_nothing_unknown(one, where)


def test_a_completion_repeats_all_unanswered_texts(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    said = [
        {"role": "system", "content": "Be kind."},
        HI,
        {"role": "assistant", "content": "hello"},
        HI,
        {"role": "user", "content": "again"},
    ]
    completion = whole(client, *said)
    assert completion.choices[0].message.content == "You said: hi | again"
    assert (completion.object, completion.choices[0].finish_reason) == ("chat.completion", "stop")
    assert (
        completion.usage.total_tokens
        == completion.usage.prompt_tokens + completion.usage.completion_tokens
    )
    (run,) = provider.runs
    assert (run.id, run.protocol, run.instructions, run.user_texts) == (
        completion.id,
        "chat_completions",
        "Be kind.",
        ("hi", "again"),
    )
    assert (run.status, run.conversation_id) == ("completed", None)


def test_a_stream_has_the_documented_chunks_in_order(client: openai.OpenAI) -> None:
    chunks = stream(client, HI, stream_options={"include_usage": True})
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == "You said: hi"
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1]] == [None] * (
        len(chunks) - 2
    ) + ["stop"]
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens > 0) == ([], True)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert all(chunk.choices for chunk in stream(client, HI)), (
        "without the option there is no chunk for the usage"
    )


def test_calls_come_in_pieces_and_are_answered_by_tool_messages(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    turns: list[Turn] = []

    def model(turn: Turn) -> Any:
        turns.append(turn)
        return (
            ToolCalls([("weather", {"city": "Rome"}), ("weather", {})], text="Wait.")
            if turn.round == 0
            else Reply("Sunny.")
        )

    provider.model = model
    chunks = stream(client, HI, tools=[TOOL])
    arguments = ["", ""]
    for chunk in chunks:
        for call in chunk.choices[0].delta.tool_calls or ():
            arguments[call.index] += call.function.arguments
    assert arguments == ['{"city": "Rome"}', "{}"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"

    message = whole(client, HI, tools=[TOOL]).choices[0].message
    assert (message.content, [call.function.name for call in message.tool_calls]) == (
        "Wait.",
        ["weather", "weather"],
    )
    outputs = [
        {"role": "tool", "tool_call_id": call.id, "content": f"{n} degrees"}
        for n, call in enumerate(message.tool_calls)
    ]
    assert (
        whole(client, HI, message.model_dump(exclude_none=True, exclude={"annotations"}), *outputs)
        .choices[0]
        .message.content
        == "Sunny."
    )
    assert (turns[-1].user_texts, turns[-1].round, turns[-1].tools) == (("hi",), 1, ())
    assert [(one.name, one.output) for one in turns[-1].tool_outputs] == [
        ("weather", "0 degrees"),
        ("weather", "1 degrees"),
    ]
    assert (provider.runs[-1].user_texts, len(provider.runs[-1].outputs)) == ((), 2)


CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    ],
}
OUTPUT = {"role": "tool", "tool_call_id": "c1", "content": "sunny"}


@pytest.mark.parametrize(
    ("messages", "words", "param"),
    [
        ([], "empty array", "messages"),
        (
            [HI, OUTPUT],
            "must be a response to a preceeding message with 'tool_calls'",
            "messages.[1].role",
        ),
        ([HI, CALL], "did not have response messages: c1", "messages.[1].role"),
        ([HI, CALL, HI], "did not have response messages: c1", "messages.[1].role"),
        ([HI, CALL, OUTPUT, OUTPUT], "must be a response", "messages.[3].role"),
        ([HI, CALL, HI, OUTPUT], "did not have response messages: c1", "messages.[1].role"),
        ([{"role": "nobody", "content": "x"}], "Invalid value: 'nobody'", "messages[0].role"),
        ([{"role": "user"}], "Missing required parameter", "messages[0].content"),
        ([{"role": "user", "content": None}], "Invalid type", "messages[0].content"),
        (
            [{"role": "user", "content": [{"type": "input_text", "text": "x"}]}],
            "Invalid value: 'input_text'",
            "messages[0].content[0].type",
        ),
        (
            [HI, {"role": "assistant", "content": None}],
            "expected a string, got null",
            "messages.[1].content",
        ),
        ([{**HI, "metadata": {}}], "Unknown parameter", "messages[0].metadata"),
    ],
)
def test_messages_that_do_not_belong_together_are_refused(
    client: openai.OpenAI, messages: list[Any], words: str, param: str
) -> None:
    problem = refused(client, *messages)
    assert problem.status_code == 400
    assert words in problem.message
    assert problem.param == param


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"stream_options": {"include_usage": True}}, "only allowed when 'stream' is enabled"),
        ({"metadata": {"a": "b"}}, "only allowed when 'store' is enabled"),
        ({"temperature": 3}, "above maximum"),
        (
            {"tools": [{"type": "function", "name": "flat"}]},
            "Missing required parameter: 'tools[0].function'",
        ),
        ({"extra_body": {"conversation": "conv_1"}}, "Unknown parameter: 'conversation'"),
    ],
)
def test_options_that_are_not_taken_are_refused(
    client: openai.OpenAI, asked: dict[str, Any], words: str
) -> None:
    assert words in refused(client, HI, **asked).message


def test_failures_come_as_statuses_or_inside_the_stream(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.model = lambda _: RunFailure("rate_limit_exceeded", "slow down")
    assert refused(client, HI).status_code == 429
    with pytest.raises(openai.APIError, match="slow down"):
        stream(client, HI)
    assert [run.status for run in provider.runs] == ["failed", "failed"]
    provider.model = lambda _: IncompleteReply(text="Once")
    assert whole(client, HI).choices[0].finish_reason == "length"


def test_faults_act_on_completions_too(provider: StandInProvider, client: openai.OpenAI) -> None:
    provider.fault("chat.*", cut_stream(after_events=2))
    with pytest.raises(Exception, match=r"(?i)clos|incomplete|peer|connection"):
        stream(client, HI)
    provider.fault("chat.completions.create", vanish())
    with pytest.raises(openai.APIConnectionError):
        whole(client, HI)
    provider.fault("*", never_answer(), protocol="chat_completions")
    with pytest.raises(openai.APITimeoutError):
        whole(client, HI, timeout=0.2)
    provider.fault("*", reply_with("scripted"))
    assert whole(client, HI).choices[0].message.content == "scripted"
    assert [run.status for run in provider.runs] == [
        "completed",
        "vanished",
        "completed",
        "completed",
    ]


def test_a_run_can_be_held(provider: StandInProvider, client: openai.OpenAI) -> None:
    with (
        provider.hold() as gate,
        client.chat.completions.create(model="m", messages=[HI], stream=True) as chunks,
    ):
        first = next(iter(chunks))
        assert gate.wait_reached() == (first.id,)
        assert provider.runs[0].is_active


@pytest.mark.parametrize(
    ("personality", "words"),
    [
        (Personality(stream_options="refused"), "stream_options"),
        (Personality(wants_turns=True), "roles must alternate"),
        (Personality(context_words=3), "maximum context length"),
    ],
)
def test_other_servers_refuse_more(
    provider: StandInProvider, client: openai.OpenAI, personality: Personality, words: str
) -> None:
    provider.personality = personality
    with pytest.raises(openai.BadRequestError, match=words):
        stream(
            client,
            HI,
            {"role": "user", "content": "two three four"},
            stream_options={"include_usage": True},
        )


# --- the shapes are the client's ------------------------------------------------------------------


def test_answers_hold_exactly_what_the_clients_types_know(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    for model in (
        lambda _: Reply("hi"),
        lambda _: ToolCalls([("weather", {})], text="x"),
        lambda _: IncompleteReply(),
    ):
        provider.model = model
        completion = whole(client, HI)
        assert isinstance(completion, ChatCompletion)
        holds_nothing_unknown(completion)
        for chunk in stream(client, HI, stream_options={"include_usage": True}):
            assert isinstance(chunk, ChatCompletionChunk)
            holds_nothing_unknown(chunk)


def test_every_field_that_the_client_can_send_is_known_and_no_other() -> None:
    known = get_type_hints(completion_create_params.CompletionCreateParamsStreaming)
    assert {"messages", "stream_options", "tools"} <= known.keys()
    assert {name for name in known if code_for(name) == "unknown_parameter"} == set()
    assert {code_for(name) for name in ("background", "conversation", "input", "instructions")} == {
        "unknown_parameter"
    }


def test_a_safety_identifier_may_have_128_characters(client: openai.OpenAI) -> None:
    assert whole(client, HI, safety_identifier="u" * 128).choices[0].message.content
    assert refused(client, HI, safety_identifier="u" * 129).code == "string_above_max_length"


def code_for(name: str) -> str | None:
    """Why a request with a field of this name, and no value, is refused."""
    try:
        CREATE_CHAT_COMPLETION({"messages": [HI], "model": "m", name: None}, "")
    except ApiProblem as problem:
        return problem.code
    return None


# --- and OpenAI's own, as its description has them ------------------------------------------------

EXTRACT: dict[str, Any] = json.loads(openai_shapes.EXTRACT.read_text())
SAYS = {
    "text": lambda _: Reply("hi"),
    "calls": lambda _: ToolCalls([("weather", {"city": "Rome"})], text="Wait."),
    "half": lambda _: IncompleteReply(),
    "nothing": lambda _: Reply(""),
}


def is_as_described(name: str, value: Any) -> None:
    assert list(openai_shapes.mismatches(EXTRACT["answers"][name], value, name)) == []


def raw(client: openai.OpenAI, **asked: Any) -> bytes:
    """The body as it went over the wire."""
    with client.chat.completions.with_streaming_response.create(
        model="m", messages=[HI], **asked
    ) as answer:
        return b"".join(answer.iter_bytes())


@pytest.mark.parametrize("says", SAYS)
@pytest.mark.parametrize(
    "options", [{}, {"stream_options": {"include_usage": True}}], ids=["plain", "counted"]
)
def test_answers_are_what_the_provider_describes(
    provider: StandInProvider, client: openai.OpenAI, says: str, options: dict[str, Any]
) -> None:
    provider.model = SAYS[says]
    is_as_described("CreateChatCompletionResponse", json.loads(raw(client)))
    *chunks, done, end = raw(client, stream=True, **options).split(b"\n\n")
    assert (done, end) == (b"data: [DONE]", b"")
    for chunk in chunks:
        assert chunk.startswith(b"data: {")
        is_as_described(
            "CreateChatCompletionStreamResponse", json.loads(chunk.removeprefix(b"data: "))
        )
    assert len(chunks) >= 2


def test_refusals_are_what_the_provider_describes(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    for asked in (
        {"temperature": 3},
        {"extra_body": {"conversation": "c"}},
        {"metadata": {"a": "b"}},
    ):
        is_as_described("ErrorResponse", refused(client, HI, **asked).response.json())
    provider.model = lambda _: RunFailure("rate_limit_exceeded", "slow down")
    is_as_described("ErrorResponse", refused(client, HI).response.json())
    is_as_described(
        "ErrorResponse",
        json.loads(raw(client, stream=True).split(b"\n\n")[1].removeprefix(b"data: ")),
    )


def test_requests_may_have_the_described_fields_and_no_other() -> None:
    described = EXTRACT["request"]
    assert {name for name in described["fields"] if code_for(name) == "unknown_parameter"} == set()
    for name in described["required"]:
        with pytest.raises(ApiProblem, match=f"Missing required parameter: '{name}'"):
            CREATE_CHAT_COMPLETION(
                {
                    one: held
                    for one, held in {"messages": [HI], "model": "m"}.items()
                    if one != name
                },
                "",
            )
    assert {
        code_for(name)
        for name in ("background", "conversation", "input", "instructions", "no_such_field")
    } == {"unknown_parameter"}


@pytest.mark.parametrize("role", EXTRACT["messages"])
def test_messages_may_have_the_described_fields_and_no_other(role: str) -> None:
    described = EXTRACT["messages"][role]
    whole = {"role": role, **dict.fromkeys(described["required"], "x")}
    for name in described["fields"]:
        assert code_of({**whole, name: None}) != "unknown_parameter", name
    for name in ROLES_FIELDS - {*described["fields"]}:
        assert code_of({**whole, name: "x"}) == "unknown_parameter", name
    for name in described["required"]:
        assert (
            code_of({one: held for one, held in whole.items() if one != name})
            == "missing_required_parameter"
        ), name


ROLES_FIELDS = {
    name for described in EXTRACT["messages"].values() for name in described["fields"]
} | {"id", "metadata"}


def code_of(message: dict[str, Any]) -> str | None:
    """Why a request with this message is refused."""
    try:
        CREATE_CHAT_COMPLETION({"messages": [message], "model": "m"}, "")
    except ApiProblem as problem:
        return problem.code
    return None
