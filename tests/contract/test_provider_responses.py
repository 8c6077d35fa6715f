"""The strict stand-in speaks Responses + Conversations to the real client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from assistant_queue.testing.provider import (
    IncompleteReply,
    Never,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    Turn,
    say_in_order,
)

TOOL = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {}},
    "strict": False,
}


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


def said(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def stream(client: openai.OpenAI, **asked: Any) -> list[Any]:
    with client.responses.create(model="m", stream=True, **asked) as events:
        return list(events)


def refused(call: Any, *args: Any, **asked: Any) -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        call(*args, **asked)
    return caught.value


def test_a_response_joins_its_conversation_with_input_and_output(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    conversation = client.conversations.create(metadata={"who": "me"})
    response = client.responses.create(
        model="m", conversation=conversation.id, input=[said("hi"), said("one question")]
    )
    assert response.output_text == "You said: hi | one question"
    assert response.status == "completed"
    assert response.conversation is not None
    assert response.conversation.id == conversation.id
    items = client.conversations.items.list(conversation.id, order="asc").data
    assert [item.role for item in items] == ["user", "user", "assistant"]
    assert provider.user_texts(conversation.id) == ["hi", "one question"]
    assert provider.assistant_texts(conversation.id) == ["You said: hi | one question"]


def test_a_stream_has_the_documented_events_in_order(client: openai.OpenAI) -> None:
    events = stream(client, input="hi")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == events[-1].response.output_text == "You said: hi"


def test_a_background_stream_can_be_resumed_after_any_event(client: openai.OpenAI) -> None:
    events = stream(client, input="hi", background=True)
    assert [event.type for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    ident = events[0].response.id
    for after in (0, 4, len(events) - 2):
        with client.responses.retrieve(ident, stream=True, starting_after=after) as rest:
            assert [event.type for event in rest] == [event.type for event in events[after + 1 :]]


def test_a_foreground_stream_cannot_be_resumed(client: openai.OpenAI) -> None:
    ident = stream(client, input="hi")[0].response.id
    assert refused(client.responses.retrieve, ident, stream=True).status_code == 400


def test_a_background_response_is_polled(provider: StandInProvider, client: openai.OpenAI) -> None:
    with provider.hold() as gate:
        response = client.responses.create(model="m", input="hi", background=True)
        assert response.status == "queued"
        assert gate.wait_reached() == (response.id,)
    provider.wait_for(runs_ended=1)
    assert client.responses.retrieve(response.id).output_text == "You said: hi"


def test_a_busy_conversation_refuses_every_second_writer(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    conversation = client.conversations.create().id
    with provider.hold() as gate:
        client.responses.create(
            model="m", conversation=conversation, input="first", background=True
        )
        gate.wait_reached()
        for error in (
            refused(client.responses.create, model="m", conversation=conversation, input="second"),
            refused(client.conversations.items.create, conversation, items=[said("second")]),
        ):
            assert (error.status_code, error.code) == (400, "conversation_locked")
            assert "Please retry in a few seconds." in str(error)
    provider.wait_for(runs_ended=1)
    assert provider.user_texts(conversation) == ["first"]
    assert [refusal.code for refusal in provider.refusals] == ["conversation_locked"] * 2
    assert provider.overlaps == ()


def test_nothing_is_stored_while_a_response_works_or_after_it_failed(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    conversation = client.conversations.create().id
    provider.model = say_in_order(RunFailure("server_error", "broken"), Reply("fine"))
    with provider.hold("completing", times=1) as gate:
        response = client.responses.create(
            model="m", conversation=conversation, input="hi", background=True
        )
        gate.wait_reached()
        assert client.conversations.items.list(conversation).data == []
    provider.wait_for(runs_ended=1)
    failed = client.responses.retrieve(response.id)
    assert (failed.status, failed.error and failed.error.code) == ("failed", "server_error")
    assert provider.items(conversation) == []
    client.responses.create(model="m", conversation=conversation, input="hi")
    assert provider.user_texts(conversation) == ["hi"]
    assert [run.status for run in provider.runs_of(conversation)] == ["failed", "completed"]


def test_an_incomplete_response_is_stored(provider: StandInProvider, client: openai.OpenAI) -> None:
    conversation = client.conversations.create().id
    provider.model = lambda _turn: IncompleteReply(text="Once")
    response = client.responses.create(model="m", conversation=conversation, input="tell")
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert provider.user_texts(conversation) == ["tell"]
    assert provider.assistant_texts(conversation) == ["Once"]


def test_a_failure_can_come_as_an_event(provider: StandInProvider, client: openai.OpenAI) -> None:
    provider.model = say_in_order(
        RunFailure("server_error", "a"), RunFailure("server_error", "b", as_error_event=True)
    )
    assert stream(client, input="x")[-1].type == "response.failed"
    assert stream(client, input="x")[-1].type == "error"


def test_only_a_background_response_can_be_cancelled_and_twice_is_once(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    conversation = client.conversations.create().id
    plain = client.responses.create(model="m", input="hi")
    assert refused(client.responses.cancel, plain.id).status_code == 400
    provider.model = lambda _turn: Never()
    response = client.responses.create(
        model="m", conversation=conversation, input="hi", background=True
    )
    assert client.responses.cancel(response.id).status == "cancelled"
    assert client.responses.cancel(response.id).status == "cancelled"
    assert provider.items(conversation) == []
    provider.model = lambda _turn: Reply("free again")
    assert (
        client.responses.create(model="m", conversation=conversation, input="hi").output_text
        == "free again"
    )


def test_a_round_of_calls_is_a_completed_response_answered_by_the_next(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    seen: list[Turn] = []

    def model(turn: Turn) -> ToolCalls | Reply:
        seen.append(turn)
        if turn.round < 2:
            return ToolCalls(
                [("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})], text="Let me look."
            )
        return Reply("Sunny")

    provider.model = model
    conversation = client.conversations.create().id
    response = client.responses.create(
        model="m", conversation=conversation, input="Weather?", tools=[TOOL]
    )
    for _ in range(2):
        calls = [item for item in response.output if item.type == "function_call"]
        assert [call.name for call in calls] == ["weather", "weather"]
        outputs = [
            {"type": "function_call_output", "call_id": call.call_id, "output": call.arguments}
            for call in calls
        ]
        response = client.responses.create(
            model="m", conversation=conversation, input=outputs, tools=[TOOL]
        )
    assert response.output_text == "Sunny"
    assert [turn.round for turn in seen] == [0, 1, 2]
    assert {turn.user_texts for turn in seen} == {("Weather?",)}
    assert [len(turn.tool_outputs) for turn in seen] == [0, 2, 4]
    assert seen[-1].tool_outputs[0].output == '{"city": "Rome"}'
    assert [(run.user_texts, len(run.outputs)) for run in provider.runs] == [
        (("Weather?",), 0),
        ((), 2),
        ((), 2),
    ]


def test_an_unanswered_call_poisons_the_conversation_until_it_is_answered(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {}), ("weather", {})]), Reply("done"))
    conversation = client.conversations.create().id
    response = client.responses.create(
        model="m", conversation=conversation, input="Weather?", tools=[TOOL]
    )
    first, second = (item.call_id for item in response.output if item.type == "function_call")
    error = refused(client.responses.create, model="m", conversation=conversation, input="hello?")
    assert f"No tool output found for function call {first}." in str(error)
    answer = {"type": "function_call_output", "call_id": first, "output": "warm"}
    error = refused(client.responses.create, model="m", conversation=conversation, input=[answer])
    assert f"No tool output found for function call {second}." in str(error)
    both = [answer, {**answer, "call_id": second}]
    assert (
        client.responses.create(model="m", conversation=conversation, input=both).output_text
        == "done"
    )


def test_an_output_without_its_call_is_refused(client: openai.OpenAI) -> None:
    answer = {"type": "function_call_output", "call_id": "call_lost", "output": "warm"}
    error = refused(client.responses.create, model="m", input=[answer])
    assert "No tool call found for function call output with call_id call_lost." in str(error)


def test_previous_response_id_carries_the_context(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("done"))
    first = client.responses.create(model="m", input="Weather?", tools=[TOOL])
    answer = {"type": "function_call_output", "call_id": first.output[0].call_id, "output": "warm"}
    assert (
        client.responses.create(
            model="m", previous_response_id=first.id, input=[answer]
        ).output_text
        == "done"
    )
    error = refused(client.responses.create, model="m", previous_response_id="resp_none", input="x")
    assert error.code == "previous_response_not_found"


def test_conversation_and_previous_response_exclude_each_other(client: openai.OpenAI) -> None:
    conversation = client.conversations.create().id
    previous = client.responses.create(model="m", input="hi").id
    error = refused(
        client.responses.create,
        model="m",
        input="x",
        conversation=conversation,
        previous_response_id=previous,
    )
    assert (error.status_code, error.code) == (400, "mutually_exclusive_parameters")


def test_unknown_ids_are_not_found(client: openai.OpenAI) -> None:
    error = refused(client.responses.create, model="m", conversation="conv_x", input="hi")
    assert error.status_code == 404
    assert "Conversation with id 'conv_x' not found." in str(error)
    assert refused(client.conversations.retrieve, "conv_x").status_code == 404
    assert refused(client.responses.retrieve, "resp_x").status_code == 404
    assert refused(client.get, "/nowhere", cast_to=object).status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"input": "x"}, "missing_required_parameter", "model"),
        ({"model": "m"}, "missing_required_parameter", "input"),
        ({"model": "m", "input": "x", "temprature": 1}, "unknown_parameter", "temprature"),
        ({"model": "m", "input": 7}, "invalid_type", "input"),
        (
            {"model": "m", "input": [{"role": "user", "content": "x", "metadata": {}}]},
            "unknown_parameter",
            "input[0].metadata",
        ),
        (
            {"model": "m", "input": [{"role": "robot", "content": "x"}]},
            "invalid_value",
            "input[0].role",
        ),
        (
            {"model": "m", "input": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
            "invalid_value",
            "input[0].content[0].type",
        ),
        (
            {"model": "m", "input": "x", "max_output_tokens": 1},
            "integer_below_min_value",
            "max_output_tokens",
        ),
        (
            {
                "model": "m",
                "input": "x",
                "tools": [{"type": "function", "function": {"name": "f"}}],
            },
            "missing_required_parameter",
            "tools[0].name",
        ),
        (
            {"model": "m", "input": "x", "metadata": {str(n): "" for n in range(17)}},
            "object_above_max_properties",
            "metadata",
        ),
        (
            {"model": "m", "input": "x", "metadata": {"k": "v" * 513}},
            "string_above_max_length",
            "metadata.k",
        ),
        (
            {"model": "m", "input": "x", "metadata": {"k" * 65: "v"}},
            "string_above_max_length",
            "metadata keys",
        ),
        (
            {"model": "m", "input": "x", "safety_identifier": "u" * 129},
            "string_above_max_length",
            "safety_identifier",
        ),
    ],
)
def test_a_wrong_body_is_refused_in_the_providers_words(
    client: openai.OpenAI, body: dict[str, Any], code: str, param: str
) -> None:
    error = refused(client.post, "/responses", cast_to=object, body=body)
    assert (error.status_code, error.type, error.code, error.param) == (
        400,
        "invalid_request_error",
        code,
        param,
    )


def test_a_safety_identifier_may_have_128_characters(client: openai.OpenAI) -> None:
    assert (
        client.responses.create(model="m", input="x", safety_identifier="u" * 128).status
        == "completed"
    )


def test_a_lenient_provider_lets_unknown_fields_pass() -> None:
    with (
        StandInProvider(latency=0, strict=False) as provider,
        openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key) as client,
    ):
        assert (
            client.responses.create(model="m", input="x", extra_body={"mood": "good"}).status
            == "completed"
        )


def test_items_are_paged_in_either_order(client: openai.OpenAI) -> None:
    conversation = client.conversations.create(items=[said(str(number)) for number in range(20)]).id
    client.conversations.items.create(
        conversation, items=[said(str(number)) for number in range(20, 25)]
    )
    oldest_first = [
        item.content[0].text
        for item in client.conversations.items.list(conversation, order="asc", limit=7)
    ]
    assert oldest_first == [str(number) for number in range(25)]
    page = client.conversations.items.list(conversation)
    assert [item.content[0].text for item in page.data] == [
        str(number) for number in range(24, 4, -1)
    ]
    anchor = page.data[3].id
    newer = client.conversations.items.list(conversation, order="asc", after=anchor).data
    assert [item.content[0].text for item in newer] == ["22", "23", "24"]
    assert (
        refused(client.conversations.items.list, conversation, limit=101).code
        == "integer_above_max_value"
    )
    many = [said("x")] * 21
    assert (
        refused(client.conversations.items.create, conversation, items=many).code
        == "array_above_max_length"
    )
    assert refused(client.conversations.create, items=many).code == "array_above_max_length"


def test_items_and_conversations_can_be_taken_away(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    conversation = client.conversations.create(items=[said("a"), said("b")])
    first = client.conversations.items.list(conversation.id, order="asc").data[0]
    assert (
        client.conversations.items.retrieve(first.id, conversation_id=conversation.id).id
        == first.id
    )
    client.conversations.items.delete(first.id, conversation_id=conversation.id)
    assert provider.user_texts(conversation.id) == ["b"]
    assert client.conversations.update(conversation.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert client.conversations.delete(conversation.id).deleted
    assert refused(client.conversations.retrieve, conversation.id).status_code == 404


def test_a_prompt_stands_for_model_and_instructions(client: openai.OpenAI) -> None:
    response = client.responses.create(
        prompt={"id": "pmpt_1", "variables": {"name": "Ann"}}, input="hi"
    )
    assert response.status == "completed"
    client.responses.delete(response.id)
    assert refused(client.responses.retrieve, response.id).status_code == 404


def test_a_reply_may_be_several_messages_or_none(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.model = say_in_order(Reply("one", "two"), Reply())
    assert [
        item.content[0].text for item in client.responses.create(model="m", input="x").output
    ] == ["one", "two"]
    assert client.responses.create(model="m", input="x").output == []


def test_another_key_is_refused(provider: StandInProvider) -> None:
    with openai.OpenAI(base_url=provider.base_url, api_key="sk-other", max_retries=0) as stranger:
        error = refused(stranger.conversations.create)
    assert isinstance(error, openai.AuthenticationError)
    assert error.code == "invalid_api_key"


def test_a_script_that_raises_is_a_failed_response_and_remembered() -> None:
    def model(_turn: Turn) -> Reply:
        raise ZeroDivisionError

    with (
        StandInProvider(model, latency=0) as provider,
        openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key) as client,
    ):
        assert client.responses.create(model="m", input="x").status == "failed"
        assert [type(error) for error in provider.model_errors] == [ZeroDivisionError]


async def test_the_async_client_is_served_too(provider: StandInProvider) -> None:
    async with openai.AsyncOpenAI(
        base_url=provider.base_url, api_key=provider.api_key, max_retries=0
    ) as client:
        conversation = await client.conversations.create()
        events = await client.responses.create(
            model="m", conversation=conversation.id, input="hi", stream=True
        )
        assert [event.type async for event in events][-1] == "response.completed"
    assert provider.user_texts(conversation.id) == ["hi"]
