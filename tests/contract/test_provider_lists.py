"""The stand-in lists, pages and loses work as careless servers do, and refuses what a strict one refuses of a conversation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from assistant_queue.testing.provider import Never, OutputItems, Personality, StandInProvider

TEXTS = [str(number) for number in range(8)]


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


@pytest.fixture
def conversation(client: openai.OpenAI) -> str:
    return client.conversations.create(
        items=[{"role": "user", "content": text} for text in TEXTS]
    ).id


def listed(client: openai.OpenAI, conversation: str, **query: Any) -> tuple[list[str], Any]:
    answer = client.conversations.items.with_raw_response.list(
        conversation, **query
    ).http_response.json()
    return [item["content"][0]["text"] for item in answer["data"]], answer.get("has_more")


@pytest.mark.parametrize(
    "case",
    [
        (Personality(), {"order": "asc"}, (TEXTS, False)),
        (Personality(list_order="newest"), {"order": "asc"}, (TEXTS[::-1], False)),
        (Personality(list_order="oldest"), {"order": "desc"}, (TEXTS, False)),
        (Personality(ignores_limit=True), {"order": "asc", "limit": 2}, (TEXTS, False)),
        (Personality(page_cap=3), {"order": "asc", "limit": 100}, (TEXTS[:3], True)),
        (
            Personality(page_cap=3, has_more="never"),
            {"order": "asc", "limit": 2},
            (TEXTS[:2], False),
        ),
        (Personality(has_more="always"), {"order": "asc"}, (TEXTS, True)),
        (Personality(has_more="missing"), {"order": "asc"}, (TEXTS, None)),
    ],
)
def test_a_list_is_cut_and_sorted_as_this_server_does(
    provider: StandInProvider,
    client: openai.OpenAI,
    conversation: str,
    case: tuple[Personality, dict[str, Any], Any],
) -> None:
    provider.personality, query, expected = case
    assert listed(client, conversation, **query) == expected


def test_a_list_may_begin_anew_with_every_page(
    provider: StandInProvider, client: openai.OpenAI, conversation: str
) -> None:
    third = provider.items(conversation)[2]["id"]
    assert listed(client, conversation, order="asc", after=third, limit=2) == (TEXTS[3:5], True)
    provider.personality = Personality(ignores_after=True)
    assert listed(client, conversation, order="asc", after=third, limit=2) == (TEXTS[:2], True)


@pytest.mark.parametrize(
    ("order", "kept"),
    [("by_id", (True, True)), ("shuffled", (True, False)), ("reshuffled", (False, False))],
)
def test_a_list_may_have_its_own_order(
    provider: StandInProvider,
    client: openai.OpenAI,
    conversation: str,
    order: Any,
    kept: tuple[bool, bool],
) -> None:
    """The same at the second request, and the other way round if that is asked for."""
    provider.personality = Personality(list_order=order)
    first, again, other = (
        listed(client, conversation, order=asked)[0] for asked in ("desc", "desc", "asc")
    )
    assert sorted(first) == TEXTS
    assert (first == again, first == other[::-1]) == kept


# --- foreground responses -------------------------------------------------------------------------


def begun(client: openai.OpenAI, conversation: str) -> Any:
    events = client.responses.create(model="m", conversation=conversation, input="hi", stream=True)
    return events, next(iter(events)).response.id


@pytest.mark.parametrize(
    ("foreground", "status"), [("continues", "in_progress"), ("stops", "stranded")]
)
def test_a_response_may_end_with_its_reader_and_not_say_so(
    provider: StandInProvider, client: openai.OpenAI, foreground: Any, status: str
) -> None:
    provider.personality = Personality(foreground=foreground)
    provider.model = lambda _: Never()
    conversation = provider.create_conversation()
    events, response_id = begun(client, conversation)
    provider.wait_for(lambda held: held.runs[0].status == "in_progress")
    events.close()
    provider.wait_for(lambda held: held.runs[0].status == status)
    assert client.responses.retrieve(response_id).status == "in_progress"
    other = {"model": "m", "conversation": conversation, "input": "more"}
    if foreground == "continues":
        with pytest.raises(openai.BadRequestError, match="operating on this conversation"):
            client.responses.create(**other)
    else:
        provider.model = lambda _: "done"
        assert client.responses.create(**other).output_text == "done"


def test_a_restart_leaves_what_was_open_as_it_was(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.model = lambda _: Never()
    events, response_id = begun(client, provider.create_conversation())
    provider.restart()
    with pytest.raises(Exception, match=r"(?i)connection|peer|incomplete|closed"):
        list(events)
    assert client.responses.retrieve(response_id).status == "in_progress"
    assert provider.runs[0].status == "stranded"


@pytest.mark.parametrize("status", [400, 404, 409])
def test_cancelling_a_response_in_the_foreground_is_refused_in_different_ways(
    provider: StandInProvider, client: openai.OpenAI, status: Any
) -> None:
    provider.personality = Personality(foreground_cancel=status)
    response = client.responses.create(model="m", input="hi")
    with pytest.raises(openai.APIStatusError) as caught:
        client.responses.cancel(response.id)
    assert caught.value.status_code == status


# --- what a conversation holds --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["custom_tool_call", "computer_call", "shell_call"])
def test_a_call_of_any_kind_wants_its_answer(
    provider: StandInProvider, client: openai.OpenAI, kind: str
) -> None:
    provider.model = lambda _: OutputItems([{"type": kind, "call_id": "call_1"}])
    conversation = provider.create_conversation()
    client.responses.create(model="m", conversation=conversation, input="hi")
    provider.model = lambda _: "done"
    with pytest.raises(
        openai.BadRequestError, match=f"No tool output found for {kind.replace('_', ' ')} call_1"
    ):
        client.responses.create(model="m", conversation=conversation, input="more")
    answer: Any = {"type": f"{kind}_output", "call_id": "call_1", "output": "x"}
    client.conversations.items.create(conversation, items=[answer])
    assert (
        client.responses.create(model="m", conversation=conversation, input="more").output_text
        == "done"
    )


def test_reasoning_wants_what_it_led_to(provider: StandInProvider, client: openai.OpenAI) -> None:
    conversation = provider.create_conversation()
    reasoning: Any = {"type": "reasoning", "id": "rs_1", "summary": []}
    client.conversations.items.create(conversation, items=[reasoning])
    with pytest.raises(openai.BadRequestError, match="without its required following item"):
        client.responses.create(model="m", conversation=conversation, input="hi")
    client.conversations.items.delete("rs_1", conversation_id=conversation)
    assert (
        client.responses.create(model="m", conversation=conversation, input="hi").status
        == "completed"
    )
