"""The stand-in's models read only so much, and its servers do about that what they are configured to, or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from assistant_queue.testing.provider import (
    Personality,
    StandInProvider,
    ToolCalls,
    Turn,
    say_in_order,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

LONG = "seven words of which each one counts"
LAST = {"type": "last_messages", "last_messages": 1}
COMPACTION = [{"type": "compaction"}]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(lambda turn: " ".join(turn.user_texts), latency=0) as provider:
        yield provider
    assert provider.model_errors == ()


@pytest.fixture
def client(provider: StandInProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(
        base_url=provider.base_url, api_key=provider.api_key, max_retries=0
    ) as client:
        yield client


class Talk:
    """A conversation or a thread, and one question after the other in it."""

    def __init__(self, client: openai.OpenAI, provider: StandInProvider, protocol: str) -> None:
        self._client = client
        self._assistant = provider.assistant_id
        self._protocol = protocol
        is_responses = protocol == "responses"
        self.id = (
            client.conversations.create().id if is_responses else client.beta.threads.create().id
        )

    def ask(self, text: str = LONG, **options: Any) -> Any:
        """Outcome of a response or run."""
        if self._protocol == "responses":
            return self._client.responses.create(
                model="m", conversation=self.id, input=text, **options
            )
        runs = self._client.beta.threads.runs
        said: Any = [{"role": "user", "content": text}]
        run = runs.create(
            self.id, assistant_id=self._assistant, additional_messages=said, **options
        )
        while run.status in {"queued", "in_progress"}:
            run = runs.retrieve(run.id, thread_id=self.id)
        return run

    def error(self, **options: Any) -> tuple[str | None, str]:
        """The code and the words of the refusal, or of the failed run."""
        try:
            ended = self.ask(**options)
        except openai.BadRequestError as refusal:
            body: Any = refusal.body
            return body["code"], body["message"]
        found = ended.error if self._protocol == "responses" else ended.last_error
        return found.code, found.message


@pytest.fixture(params=["responses", "assistants"])
def talk(client: openai.OpenAI, provider: StandInProvider, request: pytest.FixtureRequest) -> Talk:
    talk = Talk(client, provider, request.param)
    talk.ask()
    return talk


@pytest.mark.parametrize("told", ["refused", "failed"])
def test_a_conversation_that_is_too_long_is_refused_or_fails(
    provider: StandInProvider, talk: Talk, told: Any
) -> None:
    provider.personality = Personality(context_words=20, context_outcome=told)
    code, message = talk.error()
    assert (code, message) == (
        "context_length_exceeded",
        "This model's maximum context length is 20 tokens. However, your messages resulted in 21 tokens.",
    )
    assert [run.status for run in provider.runs] == (
        ["completed"] if told == "refused" else ["completed", "failed"]
    )
    provider.personality = Personality(context_words=21 if told == "refused" else 28)
    assert talk.ask(LONG if told == "refused" else "x").status == "completed", (
        "nothing else is wrong with it"
    )


def test_a_server_may_not_say_why(provider: StandInProvider, talk: Talk) -> None:
    provider.personality = Personality(context_words=20, context_outcome="unsaid")
    assert talk.error() == (None, "Bad request.")


@pytest.mark.parametrize(
    ("protocol", "flag", "asked"),
    [
        ("responses", "truncation", {"truncation": "auto"}),
        ("responses", "context_management", {"context_management": COMPACTION}),
        ("assistants", "truncation_strategy", {"truncation_strategy": LAST}),
    ],
)
def test_a_conversation_is_shortened_where_the_server_does_that(
    provider: StandInProvider,
    client: openai.OpenAI,
    protocol: str,
    flag: str,
    asked: dict[str, Any],
) -> None:
    talk = Talk(client, provider, protocol)
    talk.ask()
    provider.personality = Personality(context_words=20)
    assert talk.ask(**asked).status == "completed"
    assert talk.error(**{**asked, "text": LONG * 4})[0] == "context_length_exceeded", (
        "what is asked now is read in any case"
    )

    talk = Talk(client, provider, protocol)
    talk.ask()
    provider.personality = Personality(context_words=20, **{flag: "ignored"})
    assert talk.error(**asked)[0] == "context_length_exceeded"
    provider.personality = Personality(**{flag: "refused"})
    assert talk.error(**asked) == ("unknown_parameter", f"Unknown parameter: '{flag}'.")
    if flag == "truncation":
        assert talk.ask(truncation="disabled").status == "completed"


def test_what_was_compacted_is_not_read_any_more(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    talk = Talk(client, provider, "responses")
    talk.ask()
    provider.personality = Personality(context_words=20)
    talk.ask(context_management=COMPACTION)
    assert [item["type"] for item in provider.items(talk.id)] == ["message"] * 3 + [
        "compaction",
        "message",
    ]
    assert talk.ask("eight words and these fit without more ado").status == "completed"


def test_outputs_of_tools_count(provider: StandInProvider, client: openai.OpenAI) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {"of": "the day"})]), "fine")
    provider.personality = Personality(context_words=12)
    conversation = client.conversations.create()
    asked = client.responses.create(model="m", conversation=conversation.id, input="how is it")
    call: Any = asked.output[0]
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": LONG}
    with pytest.raises(openai.BadRequestError, match="resulted in 13 tokens"):
        client.responses.create(model="m", conversation=conversation.id, input=[output])


def test_a_run_that_outgrows_the_model_by_its_outputs_fails(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), "fine")
    provider.personality = Personality(context_words=9)
    runs = client.beta.threads.runs
    thread = client.beta.threads.create().id
    said: Any = [{"role": "user", "content": "how is it"}]
    run = runs.create_and_poll(
        thread_id=thread, assistant_id=provider.assistant_id, additional_messages=said
    )
    call = run.required_action.submit_tool_outputs.tool_calls[0]  # type: ignore[union-attr]
    run = runs.submit_tool_outputs_and_poll(
        run_id=run.id, thread_id=thread, tool_outputs=[{"tool_call_id": call.id, "output": LONG}]
    )
    assert (run.status, run.last_error.code) == ("failed", "context_length_exceeded")  # type: ignore[union-attr]


def test_a_chat_completion_that_is_too_long_can_fail_inside_a_200(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    provider.personality = Personality(context_words=3, context_outcome="failed")
    said: Any = [{"role": "user", "content": LONG}]
    with pytest.raises(openai.APIError, match="maximum context length is 3"):
        list(client.chat.completions.create(model="m", messages=said, stream=True))
    assert [run.error_code for run in provider.runs] == ["context_length_exceeded"]


def test_a_conversation_can_begin_with_what_was_said(
    provider: StandInProvider, client: openai.OpenAI
) -> None:
    said: Any = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    items: Any = [{"type": "message", **one} for one in said]
    conversation = client.conversations.create(items=items).id
    thread = client.beta.threads.create(messages=said).id
    for place in (conversation, thread):
        assert (provider.user_texts(place), provider.assistant_texts(place)) == (["hi"], ["hello"])
    seen: list[Turn] = []
    provider.model = lambda turn: seen.append(turn) or "fine"  # type: ignore[func-returns-value,return-value]
    client.responses.create(model="m", conversation=conversation, input="and now")
    more: Any = [{"role": "user", "content": "and now"}]
    client.beta.threads.runs.create_and_poll(
        thread_id=thread, assistant_id=provider.assistant_id, additional_messages=more
    )
    assert [turn.user_texts for turn in seen] == [("and now",)] * 2, "what has a reply was answered"
