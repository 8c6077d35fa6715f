"""One suite for the three OpenAI backends: the strict stand-in over HTTP, by both senders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import openai
import pytest

from assistant_queue.backends.assistants.backend import AssistantsBackend
from assistant_queue.backends.base import (
    ActionRequired,
    Backend,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
    TextChunk,
    Undecided,
)
from assistant_queue.backends.chat_completions.backend import ChatCompletionsBackend
from assistant_queue.backends.openai.aiohttp_sender import AiohttpSender
from assistant_queue.backends.openai.sending import FailedAnswer
from assistant_queue.backends.responses.backend import ResponsesBackend
from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import Batch, Content, ErrorInfo, Message, ToolCall, Usage
from assistant_queue.testing.provider import (
    IncompleteReply,
    Never,
    Personality,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    append_late,
    cut_stream,
    drop_connection,
    expire_now,
    never_answer,
    refuse,
    reply_with,
    say_in_order,
    work_then_refuse,
)
from tests.conftest import PATIENCE_S

THREAD = "thread-of-the-caller"
RESPONSES = "responses"
ASSISTANTS = "assistants"
CHAT = "chat_completions"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "Tells the weather",
            "parameters": {"type": "object"},
        },
    }
]

ACCEPTED_AND_LOST = {
    "time-out": never_answer(accept=True),
    "lost connection": drop_connection(accept=True),
    "server error": work_then_refuse(500),
    "cut before an id": cut_stream(after_bytes=20),
}
NOT_ACCEPTED_AND_LOST = {
    "time-out": never_answer(accept=False),
    "lost connection": drop_connection(accept=False),
    "server error": refuse(503),
}


def patience(how: str) -> float:
    """Return a `request_timeout` in seconds: a short one only where the time-out is the subject.

    It bounds the first batch of a test, too, and that one connects on a loaded machine.
    """
    return 3.0 if how == "time-out" else PATIENCE_S


def tries(kind: str, how: str) -> int:
    """Times that a request is sent: twice if nothing is stored and its connection is lost."""
    return 2 if (kind, how) == (CHAT, "lost connection") else 1


SENDER = ContextVar("SENDER", default="aiohttp")


@pytest.fixture(autouse=True, params=["aiohttp", "library"])
def sender(request: pytest.FixtureRequest) -> Iterator[str]:
    """Send every request of a test over aiohttp, then over the client library."""
    token = SENDER.set(request.param)
    yield request.param
    SENDER.reset(token)


@dataclass
class Rig:
    """A backend, the provider it talks to, and a conversation there."""

    kind: str
    provider: StandInProvider
    backend: Backend
    conversation: str

    @property
    def create(self) -> str:
        return {
            RESPONSES: "responses.create",
            ASSISTANTS: "runs.create",
            CHAT: "chat.completions.create",
        }[self.kind]

    @property
    def submit(self) -> str:
        return "runs.submit_tool_outputs" if self.kind == ASSISTANTS else self.create

    @property
    def retrieve(self) -> str:
        return "responses.retrieve" if self.kind == RESPONSES else "runs.retrieve"

    def request(
        self, *contents: Content, batch: str = "batch-1", anchor: str | None = None, **fields: Any
    ) -> RunRequest:
        messages = tuple(
            Message(id=f"{batch}-{place}", content=content)
            for place, content in enumerate(contents)
        )
        items = tuple(
            InputItem(
                content=message.content, message_ids=(message.id,), metadata={"from": "a test"}
            )
            for message in messages
        )
        held = fields.pop("attempts", 1)
        return RunRequest(
            batch=Batch(
                id=batch,
                thread_id=THREAD,
                messages=messages or (Message(id="held", content="held"),),
                attempts=held,
            ),
            conversation_id=self.conversation,
            anchor=anchor,
            items=items,
            **fields,
        )

    async def start(self, *contents: Content, **fields: Any) -> list[RunEvent]:
        return await events_of(self.backend.start(self.request(*contents, **fields)))

    async def warm_up(self) -> str | None:
        """A first batch, after which nothing about the server is unproven."""
        *_, last = await self.start("warm-up", batch="warm-up")
        assert isinstance(last, RunEnded)
        return last.anchor

    def user_texts(self) -> list[str]:
        """All texts of the provider: those it stores, or those of the last request."""
        if self.kind != CHAT:
            return self.provider.user_texts(self.conversation)
        return [
            message["content"]
            for message in self.provider.requests[-1].body["messages"]
            if message["role"] == "user"
        ]

    def ops(self) -> list[str]:
        return [request.op for request in self.provider.requests]


async def events_of(stream: AsyncIterator[RunEvent]) -> list[RunEvent]:
    return [event async for event in stream]


async def until_lost(stream: AsyncIterator[RunEvent]) -> tuple[list[RunEvent], BackendError]:
    """The events up to an error, and the error."""
    seen = []
    try:
        async for event in stream:
            seen.append(event)
    except BackendError as error:
        return seen, error
    pytest.fail(f"no error after {seen}")


def backend_of(
    kind: str, provider: StandInProvider, *, http_client: Any = None, **options: Any
) -> Backend:
    client: Any = AiohttpSender(api_key=provider.api_key, base_url=provider.base_url)
    if SENDER.get() == "library" or http_client is not None:
        # Two retries, the library's default: the backends must not use them.
        client = openai.AsyncOpenAI(
            api_key=provider.api_key, base_url=provider.base_url, http_client=http_client
        )
    given = {
        "tools": TOOLS,
        "request_timeout": PATIENCE_S,
        "stream_idle_timeout": PATIENCE_S,
        **options,
    }
    if kind == ASSISTANTS:
        return AssistantsBackend(client, assistant_id=provider.assistant_id, **given)
    if kind == CHAT:
        return ChatCompletionsBackend(client, model="some-model", **given)
    return ResponsesBackend(client, model="some-model", **given)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
        assert not running.model_errors


@pytest.fixture(params=[RESPONSES, ASSISTANTS, CHAT])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


keeps = pytest.mark.parametrize("kind", [RESPONSES, ASSISTANTS])
"""For what only a provider can do that keeps the conversation; test_chat_backend.py has what holds
where it keeps nothing."""


@pytest.fixture
async def rig(kind: str, provider: StandInProvider) -> AsyncIterator[Rig]:
    async with made(kind, provider) as running:
        yield running


class made:  # noqa: N801 - reads as a function
    """A rig with its own backend options."""

    def __init__(self, kind: str, provider: StandInProvider, **options: Any) -> None:
        conversation = (
            provider.create_conversation() if kind == RESPONSES else provider.create_thread()
        )
        self.rig = Rig(kind, provider, backend_of(kind, provider, **options), conversation)

    async def __aenter__(self) -> Rig:
        return self.rig

    async def __aexit__(self, *_: object) -> None:
        await self.rig.backend.close()


# --- a run ----------------------------------------------------------------------------------------


async def test_a_batch_is_one_run_with_its_messages_in_order(rig: Rig) -> None:
    started, *deltas, ended = await rig.start("one", "two", "three")

    assert isinstance(started, RunAccepted)
    assert (
        "".join(delta.text for delta in deltas if isinstance(delta, TextChunk))
        == "You said: one | two | three"
    )
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.replies, ended.error) == (
        "completed",
        ("You said: one | two | three",),
        None,
    )
    assert ended.run_id == started.run_id
    assert isinstance(ended.usage, Usage)
    assert rig.user_texts() == ["one", "two", "three"]
    assert len(rig.provider.runs) == 1


async def test_what_is_said_is_there_before_the_last_of_it(rig: Rig) -> None:
    rig.provider.model = lambda _turn: Reply("one two three", chunks=4)
    said = asyncio.Event()
    heard = []

    async def listen() -> None:
        async for event in rig.backend.start(rig.request("hello")):
            heard.append(event)
            if (
                "".join(event.text for event in heard if isinstance(event, TextChunk))
                == "one two thre"
            ):
                said.set()

    with rig.provider.hold("speaking") as gate:
        listening = asyncio.create_task(listen())
        await asyncio.wait_for(said.wait(), PATIENCE_S)
        assert len(gate.reached) == 1
        assert not isinstance(heard[-1], RunEnded)
    await listening
    assert isinstance(heard[-1], RunEnded)
    assert heard[-1].replies == ("one two three",)


async def test_a_batch_costs_one_request(rig: Rig) -> None:
    anchor = await rig.warm_up()
    before = len(rig.provider.requests)

    await rig.start("one", "two", anchor=anchor)

    assert rig.ops()[before:] == [rig.create]


async def test_the_first_batch_of_an_assistants_backend_is_read_back_once(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await rig.start("one")
        assert rig.ops() == ["runs.create", "messages.list"]


async def test_instructions_options_and_tools_reach_the_provider(
    kind: str, provider: StandInProvider
) -> None:
    seen: list[Any] = []
    provider.model = lambda turn: seen.append(turn) or Reply("ok")
    options = {
        "temperature": 0.5,
        "max_output_tokens": 512,
        "metadata": {"app": "x"},
        **({"store": True} if kind == CHAT else {}),
    }
    async with made(kind, provider, run_options=options) as rig:
        await rig.start("hello", instructions="Be brief.")

    assert seen[0].instructions == "Be brief."
    assert seen[0].tools == ("weather",)
    assert dict(seen[0].metadata) == {"app": "x", "from": "a test", "aq_batch": "batch-1"}
    body = provider.calls(rig.create)[0].body
    assert body["temperature"] == 0.5
    assert body["max_output_tokens" if kind == RESPONSES else "max_completion_tokens"] == 512


async def test_messages_of_a_thread_carry_the_callers_pairs_and_our_marks(
    provider: StandInProvider,
) -> None:
    async with made(ASSISTANTS, provider) as rig:
        await rig.start("hello")
        stored = provider.items(rig.conversation)[0]
    assert stored["metadata"] == {
        "from": "a test",
        "aq_message": "batch-1-0",
        "aq_batch": "batch-1",
    }


@pytest.mark.parametrize(
    "parts",
    [
        [
            {"type": "text", "text": "look"},
            {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        ],
        [
            {"type": "input_text", "text": "look"},
            {"type": "input_image", "image_url": "https://example.org/a.png"},
        ],
        [
            {"type": "text", "text": "look"},
            {"type": "image_file", "image_file": {"file_id": "file-1"}},
        ],
    ],
)
@keeps
async def test_content_parts_of_either_protocol_are_taken_and_recognised(
    rig: Rig, parts: Content
) -> None:
    request = rig.request(parts)
    await events_of(rig.backend.start(request))

    assert rig.provider.user_texts(rig.conversation) == ["look"]
    assert isinstance(await rig.backend.find(request), RunEnded)


@keeps
async def test_every_message_of_the_assistant_is_a_reply(rig: Rig) -> None:
    rig.provider.model = lambda _: Reply("first", "second")
    *events, ended = await rig.start("hello")

    assert isinstance(ended, RunEnded)
    assert ended.replies == ("first", "second")
    texts = ["", ""]
    for event in events:
        if isinstance(event, TextChunk):
            texts[event.part] += event.text
    assert texts == ["first", "second"]


@keeps
async def test_a_run_that_says_nothing_is_incomplete(rig: Rig) -> None:
    rig.provider.model = lambda _: Reply()
    request = rig.request("hello")
    *_, ended = await events_of(rig.backend.start(request))
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.incomplete_reason, ended.replies) == ("incomplete", "empty", ())
    followed = (await events_of(rig.backend.follow(request, ended.run_id)))[-1]
    assert isinstance(followed, RunEnded)
    assert (followed.status, followed.incomplete_reason) == ("incomplete", "empty")


# --- tools ----------------------------------------------------------------------------------------


def two_rounds() -> Any:
    return say_in_order(
        ToolCalls(
            [("weather", {"city": "Rome"}), ("weather", {"city": "Oslo"})], text="Let me look."
        ),
        ToolCalls([("weather", {"city": "Lima"})]),
        Reply("Sunny."),
    )


async def test_rounds_of_tool_calls_lead_to_the_reply(rig: Rig) -> None:
    rig.provider.model = two_rounds()
    request = rig.request("weather?")

    first = (await events_of(rig.backend.start(request)))[-1]
    assert isinstance(first, ActionRequired)
    assert [call.function.name for call in first.calls] == ["weather", "weather"]
    assert [call.function.arguments for call in first.calls] == [
        '{"city": "Rome"}',
        '{"city": "Oslo"}',
    ]
    assert first.replies == ("Let me look.",)

    started, *_, second = await events_of(
        rig.backend.submit(request, first.run_id, first.calls, outputs_for(first))
    )
    assert isinstance(second, ActionRequired)
    assert started == RunAccepted(run_id=second.run_id)
    assert (second.run_id == first.run_id) == (rig.kind == ASSISTANTS)

    last = (
        await events_of(
            rig.backend.submit(request, second.run_id, second.calls, outputs_for(second))
        )
    )[-1]
    assert isinstance(last, RunEnded)
    assert (last.status, last.replies, last.whole) == ("completed", ("Sunny.",), False)
    assert len([op for op in rig.ops() if op != "messages.list"]) == 3


def outputs_for(event: ActionRequired) -> dict[str, str]:
    return {call.id: f"output of {call.id}" for call in event.calls}


async def asked_for_tools(rig: Rig, request: RunRequest) -> ActionRequired:
    event = (await events_of(rig.backend.start(request)))[-1]
    assert isinstance(event, ActionRequired)
    return event


@pytest.mark.parametrize("how", ACCEPTED_AND_LOST)
@keeps
async def test_outputs_that_were_accepted_and_lost_are_found(
    kind: str, provider: StandInProvider, how: str
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})], text="Wait."), Reply("Sunny."))
    async with made(kind, provider, request_timeout=patience(how)) as rig:
        request = rig.request("weather?")
        asked = await asked_for_tools(rig, request)
        provider.fault(rig.submit, ACCEPTED_AND_LOST[how])

        with pytest.raises(OutcomeUnknown):
            await events_of(
                rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked))
            )
        await asyncio.to_thread(provider.wait_for, runs_ended=len(provider.runs))

        found = await rig.backend.find(request, asked.run_id, asked.calls)
        if isinstance(found, RunAccepted):
            found = (await events_of(rig.backend.follow(request, found.run_id)))[-1]
        assert isinstance(found, RunEnded)
        assert found.status == "completed"
        assert found.replies == (("Wait.", "Sunny.") if found.whole else ("Sunny.",))


@pytest.mark.parametrize("how", NOT_ACCEPTED_AND_LOST)
async def test_outputs_that_were_never_accepted_are_not_found_and_can_be_sent_again(
    kind: str, provider: StandInProvider, how: str
) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("Sunny."))
    async with made(kind, provider, request_timeout=patience(how)) as rig:
        request = rig.request("weather?")
        asked = await asked_for_tools(rig, request)
        provider.fault(rig.submit, NOT_ACCEPTED_AND_LOST[how], times=tries(kind, how))
        with pytest.raises(OutcomeUnknown):
            await events_of(
                rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked))
            )

        assert isinstance(await rig.backend.find(request, asked.run_id, asked.calls), NotFound)

        last = (
            await events_of(
                rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked))
            )
        )[-1]
        assert isinstance(last, RunEnded)
        assert last.replies == ("Sunny.",)


async def test_outputs_sent_twice_to_a_run_are_not_an_error(provider: StandInProvider) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("Sunny."))
    async with made(ASSISTANTS, provider) as rig:
        request = rig.request("weather?")
        asked = await asked_for_tools(rig, request)
        for _ in range(2):
            last = (
                await events_of(
                    rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked))
                )
            )[-1]
            assert isinstance(last, RunEnded)
            assert last.replies == ("Sunny.",)


@keeps
async def test_a_call_made_by_a_lost_batch_is_found_open(rig: Rig) -> None:
    rig.provider.model = lambda _: ToolCalls([("weather", {})], text="Wait.")
    request = rig.request("weather?")
    asked = await asked_for_tools(rig, request)

    found = await rig.backend.find(request)

    assert isinstance(found, ActionRequired)
    assert (found.calls, found.replies, found.whole) == (asked.calls, ("Wait.",), True)


# --- runs that do not end well --------------------------------------------------------------------


@pytest.mark.parametrize("as_error_event", [False, True])
async def test_a_failed_run_is_an_event(rig: Rig, as_error_event: bool) -> None:
    rig.provider.model = lambda _: RunFailure(
        "server_error", "It broke.", as_error_event=as_error_event
    )
    started, *_, ended = await rig.start("hello")
    assert isinstance(started, RunAccepted)
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.error, ended.counts) == (
        "failed",
        ErrorInfo(code="server_error", message="It broke."),
        True,
    )


async def test_a_rate_limit_inside_a_run_does_not_count(rig: Rig) -> None:
    rig.provider.model = lambda _: RunFailure(
        "rate_limit_exceeded", "Rate limit reached. Please try again in 1.5s. Visit ..."
    )
    ended = (await rig.start("hello"))[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.counts, ended.retry_after_s) == ("failed", False, 1.5)


async def test_an_incomplete_run_keeps_what_it_said(rig: Rig) -> None:
    rig.provider.model = lambda _: IncompleteReply(text="Once upon")
    ended = (await rig.start("hello"))[-1]
    assert isinstance(ended, RunEnded)
    reason = {RESPONSES: "max_output_tokens", ASSISTANTS: "max_completion_tokens", CHAT: "length"}[
        rig.kind
    ]
    assert (ended.status, ended.incomplete_reason, ended.replies) == (
        "incomplete",
        reason,
        ("Once upon",),
    )


async def test_an_expired_run_says_so(provider: StandInProvider) -> None:
    async with made(ASSISTANTS, provider) as rig:
        provider.fault("runs.create", expire_now())
        ended = (await rig.start("hello"))[-1]
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.error.code) == ("expired", "run_expired")


async def test_the_text_of_a_failed_run_is_held_where_the_capabilities_say_so(rig: Rig) -> None:
    rig.provider.model = lambda _: RunFailure()
    await rig.start("hello")
    holds = rig.provider.user_texts(rig.conversation) == ["hello"]
    assert holds == rig.backend.capabilities.keeps_failed_text


async def test_a_run_over_held_text_sends_no_message(provider: StandInProvider) -> None:
    provider.model = say_in_order(RunFailure(), Reply("Here."))
    async with made(ASSISTANTS, provider) as rig:
        await rig.start("hello")
        ended = (await rig.start(attempts=2))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Here.",)
        assert provider.user_texts(rig.conversation) == ["hello"]
        assert rig.ops()[-1] == "runs.create"


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["openai", "detail", "errors"])
@pytest.mark.parametrize(
    ("status", "expected", "counts"),
    [
        (400, RequestRefused, True),
        (401, RequestRefused, True),
        (403, RequestRefused, True),
        (404, UnknownThread, True),
        (408, OutcomeUnknown, True),
        (409, OutcomeUnknown, True),
        (422, RequestRefused, True),
        (429, RequestRefused, False),
        (500, OutcomeUnknown, True),
        (503, OutcomeUnknown, False),
    ],
)
async def test_every_status_has_its_error(
    rig: Rig, shape: Any, status: int, expected: type[BackendError], counts: bool
) -> None:
    if rig.kind == CHAT and expected is UnknownThread:
        expected = RequestRefused
        counts = False  # it knows no threads: the address is wrong
    rig.provider.personality = Personality(error_body=shape)
    rig.provider.fault(rig.create, refuse(status))

    with pytest.raises(expected) as caught:
        await rig.start("hello")

    assert type(caught.value) is expected
    assert (caught.value.status_code, caught.value.counts) == (status, counts)
    assert isinstance(caught.value.__cause__, openai.APIStatusError | FailedAnswer)
    sent = [op for op in rig.ops() if op.endswith(".create")]
    assert sent == [rig.create], "the client must not retry a call that creates something"


@pytest.mark.parametrize(
    ("status", "code", "expected", "counts"),
    [
        (400, "conversation_locked", ConversationBusy, False),
        (409, "conversation_locked", ConversationBusy, False),
        (429, "rate_limit_exceeded", RequestRefused, False),
        (429, "insufficient_quota", RequestRefused, True),
        (404, "model_not_found", RequestRefused, True),
        (404, None, UnknownThread, True),
    ],
)
async def test_the_providers_code_decides_where_the_status_does_not(
    rig: Rig, status: int, code: str | None, expected: type[BackendError], counts: bool
) -> None:
    if rig.kind == CHAT and expected is UnknownThread:
        expected = RequestRefused
        counts = False
    rig.provider.fault(rig.create, refuse(status, code))
    with pytest.raises(expected) as caught:
        await rig.start("hello")
    assert type(caught.value) is expected
    assert (caught.value.provider_code, caught.value.counts) == (code, counts)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
        ({}, None),
    ],
)
async def test_retry_after_is_understood_in_all_its_forms(
    rig: Rig, headers: dict[str, str], seconds: float | None
) -> None:
    rig.provider.fault(rig.create, refuse(429, "rate_limit_exceeded", headers=headers))
    with pytest.raises(RequestRefused) as caught:
        await rig.start("hello")
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("lock", ["refuse", "conflict"])
@keeps
async def test_a_conversation_in_use_is_busy(rig: Rig, lock: Any) -> None:
    await rig.warm_up()
    rig.provider.personality = Personality(lock=lock)
    with rig.provider.hold("accepted") as gate:
        async with aclosing(rig.backend.start(rig.request("first", batch="b1"))) as first:
            assert isinstance(await anext(first), RunAccepted)
            await asyncio.to_thread(gate.wait_reached)
            with pytest.raises(ConversationBusy) as caught:
                await rig.start("second", batch="b2")
            assert not caught.value.counts
            gate.release()
            await events_of(first)
    assert rig.provider.user_texts(rig.conversation)[1:] == ["first"]


@keeps
async def test_an_unknown_thread_is_named(rig: Rig) -> None:
    rig.conversation = "conv_" + "0" * 32 if rig.kind == RESPONSES else "thread_nobody_knows"
    with pytest.raises(UnknownThread, match=THREAD):
        await rig.start("hello")
    with pytest.raises(UnknownThread):
        await rig.backend.find(rig.request("hello"))


async def test_a_refused_connection_proves_that_nothing_was_sent(rig: Rig) -> None:
    rig.provider.stop()
    with pytest.raises(RequestRefused) as caught:
        await rig.start("hello")
    assert (caught.value.status_code, caught.value.counts) == (None, False)


async def test_errors_quote_the_providers_words_without_the_key(rig: Rig) -> None:
    key = rig.provider.api_key
    rig.provider.fault(
        rig.create,
        refuse(400, "invalid_value", f"Invalid value 'blue', key {key}, or sk-{'9' * 20}"),
        times=None,
    )
    with pytest.raises(RequestRefused, match="invalid_value") as caught:
        await rig.start("hello")
    assert "Invalid value 'blue', key [key], or [key]" in str(caught.value)
    assert key not in str(caught.value)


# --- the answer was lost --------------------------------------------------------------------------


@pytest.mark.parametrize("how", ACCEPTED_AND_LOST)
@keeps
async def test_a_batch_that_was_accepted_and_lost_is_found(
    kind: str, provider: StandInProvider, how: str
) -> None:
    async with made(kind, provider, request_timeout=patience(how)) as rig:
        anchor = await rig.warm_up()
        provider.fault(rig.create, ACCEPTED_AND_LOST[how])
        request = rig.request("one", "two", anchor=anchor)

        with pytest.raises(OutcomeUnknown):
            await events_of(rig.backend.start(request))
        await asyncio.to_thread(provider.wait_for, runs_ended=2)

        found = await rig.backend.find(request)
        assert isinstance(found, RunEnded)
        assert (found.status, found.replies) == ("completed", ("You said: one | two",))
        assert found.run_id == ("" if kind == RESPONSES else provider.runs[-1].id)
        assert found.anchor == (
            provider.items(rig.conversation)[-1]["id"] if kind == RESPONSES else None
        )


@pytest.mark.parametrize("how", NOT_ACCEPTED_AND_LOST)
async def test_a_batch_that_was_never_accepted_is_not_found(
    kind: str, provider: StandInProvider, how: str
) -> None:
    async with made(kind, provider, request_timeout=patience(how)) as rig:
        anchor = await rig.warm_up()
        provider.fault(rig.create, NOT_ACCEPTED_AND_LOST[how], times=tries(kind, how))
        request = rig.request("one", "two", anchor=anchor)
        with pytest.raises(OutcomeUnknown):
            await events_of(rig.backend.start(request))
        assert await rig.backend.find(request) == NotFound(anchor=anchor)


async def test_a_silent_stream_before_an_id_leaves_the_outcome_unknown(
    kind: str, provider: StandInProvider
) -> None:
    async with made(kind, provider, request_timeout=PATIENCE_S) as rig:
        provider.fault(rig.create, cut_stream(after_events=0))
        with pytest.raises(OutcomeUnknown):
            await rig.start("hello")


@keeps
async def test_another_writers_items_are_not_ours_and_move_the_anchor(rig: Rig) -> None:
    anchor = await rig.warm_up()
    ended = (await rig.start("of somebody else", batch="other", anchor=anchor))[-1]
    assert isinstance(ended, RunEnded)
    assert await rig.backend.find(rig.request("ours", anchor=anchor)) == NotFound(
        anchor=ended.anchor
    )


async def test_the_same_text_before_the_anchor_is_not_ours(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        ended = (await rig.start("hello", batch="old"))[-1]
        assert isinstance(ended, RunEnded)
        assert await rig.backend.find(rig.request("hello", anchor=ended.anchor)) == NotFound(
            anchor=ended.anchor
        )


async def test_our_items_are_found_behind_another_writers(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await rig.warm_up()
        await rig.start("of somebody else", batch="other", anchor=anchor)
        await rig.start("ours", anchor=anchor)
        found = await rig.backend.find(rig.request("ours", anchor=anchor))
        assert isinstance(found, RunEnded)
        assert found.replies == ("You said: ours",)


async def test_with_a_deleted_anchor_only_the_last_question_counts(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        await rig.start("hello", batch="old")
        await rig.start("ours")
        assert isinstance(await rig.backend.find(rig.request("ours", anchor="msg_gone")), RunEnded)
        assert isinstance(await rig.backend.find(rig.request("hello", anchor="msg_gone")), NotFound)


async def test_a_long_conversation_is_read_back_only_as_far_as_needed(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await rig.warm_up()
        request = rig.request(*[f"text {number}" for number in range(150)], anchor=anchor)
        await events_of(rig.backend.start(request))
        assert isinstance(await rig.backend.find(request), RunEnded)
        before = len(rig.ops())  # the server's order is known from now on
        assert isinstance(await rig.backend.find(request), RunEnded)
        assert rig.ops()[before:] == ["items.list"] * 2


async def test_items_that_join_late_are_not_there_yet(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await rig.warm_up()
        provider.fault(rig.create, append_late(0.05), cut_stream(after_bytes=20))
        request = rig.request("late", anchor=anchor)
        with provider.hold("appending") as gate:
            with pytest.raises(OutcomeUnknown):
                await events_of(rig.backend.start(request))
            await asyncio.to_thread(gate.wait_reached)
            assert isinstance(await rig.backend.find(request), NotFound)
        await asyncio.to_thread(
            provider.wait_for, lambda held: "late" in held.user_texts(rig.conversation)
        )
        found = await rig.backend.find(request)
        assert isinstance(found, RunEnded | Undecided)


async def test_messages_without_a_run_are_held_text(provider: StandInProvider) -> None:
    async with made(ASSISTANTS, provider) as rig:
        provider.personality = Personality(ignores_additional_messages=True)
        await rig.warm_up()
        provider.fault("runs.create", refuse(503))
        request = rig.request("one", "two")
        with pytest.raises(OutcomeUnknown):
            await events_of(rig.backend.start(request))
        assert await rig.backend.find(request) == NotFound(holds_text=True)


@pytest.mark.parametrize("is_asked_first", [True, False])
async def test_half_of_the_messages_is_completed_without_doubling(
    provider: StandInProvider, is_asked_first: bool
) -> None:
    provider.personality = Personality(ignores_additional_messages=True)
    async with made(ASSISTANTS, provider) as rig:
        await rig.warm_up()
        provider.fault("messages.create", refuse(429), nth=2)
        with pytest.raises(RequestRefused):
            await rig.start("one", "two", "three")
    async with made(ASSISTANTS, provider) as other:
        # Another process, which knows nothing about this server.
        other.conversation = rig.conversation
        request = other.request("one", "two", "three", attempts=2)
        if is_asked_first:
            assert await other.backend.find(request) == NotFound()
        ended = (await events_of(other.backend.start(request)))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("You said: one | two | three",)
        assert provider.user_texts(rig.conversation) == ["warm-up", "one", "two", "three"]


# --- a known run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("events", [1, 2, 5, 6])
@keeps
async def test_a_cut_stream_is_followed_to_the_reply(rig: Rig, events: int) -> None:
    anchor = await rig.warm_up()
    rig.provider.fault(rig.create, cut_stream(after_events=events))
    request = rig.request("hello", anchor=anchor)

    seen, error = await until_lost(rig.backend.start(request))
    assert isinstance(error, StreamCut)
    assert isinstance(seen[0], RunAccepted)

    cursor = next((event.cursor for event in reversed(seen) if isinstance(event, TextChunk)), None)
    started, *deltas, ended = await events_of(rig.backend.follow(request, seen[0].run_id, cursor))
    assert started == seen[0]
    assert isinstance(ended, RunEnded)
    assert (ended.status, ended.replies, ended.run_id) == (
        "completed",
        ("You said: hello",),
        seen[0].run_id,
    )
    if rig.kind == RESPONSES and cursor is not None:
        texts = [event.text for event in [*seen, *deltas] if isinstance(event, TextChunk)]
        assert "".join(texts) == "You said: hello"


async def test_a_response_can_be_resumed_from_its_beginning(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        request = rig.request("hello")
        started, *_ = await events_of(rig.backend.start(request))
        assert isinstance(started, RunAccepted)
        events = await events_of(rig.backend.follow(request, started.run_id, 0))
        assert (
            "".join(event.text for event in events if isinstance(event, TextChunk))
            == "You said: hello"
        )


@keeps
async def test_following_a_run_that_waits_for_tools_finds_its_calls(rig: Rig) -> None:
    rig.provider.model = lambda _: ToolCalls([("weather", {})], text="Wait.")
    request = rig.request("weather?")
    asked = await asked_for_tools(rig, request)
    started, followed = await events_of(rig.backend.follow(request, asked.run_id))
    assert started == RunAccepted(run_id=asked.run_id)
    assert isinstance(followed, ActionRequired)
    assert (followed.calls, followed.replies) == (asked.calls, ("Wait.",))


async def test_a_followed_run_of_several_rounds_reports_its_whole_reply(
    provider: StandInProvider,
) -> None:
    provider.model = say_in_order(
        ToolCalls([("weather", {})], text="Wait."), Reply("Sunny.", "And warm.")
    )
    async with made(ASSISTANTS, provider) as rig:
        request = rig.request("weather?")
        asked = await asked_for_tools(rig, request)
        await events_of(rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked)))
        ended = (await events_of(rig.backend.follow(request, asked.run_id)))[-1]
        assert isinstance(ended, RunEnded)
        assert (ended.whole, ended.replies) == (True, ("Wait.", "Sunny.", "And warm."))


async def test_silence_in_the_middle_of_a_run_is_a_cut_stream(
    kind: str, provider: StandInProvider
) -> None:
    provider.model = lambda _: Never()
    async with made(kind, provider, stream_idle_timeout=0.2) as rig:
        seen, error = await until_lost(rig.backend.start(rig.request("hello")))
        assert isinstance(error, StreamCut)
        assert isinstance(seen[0], RunAccepted)


@keeps
async def test_a_running_run_is_found_by_its_id(rig: Rig) -> None:
    rig.provider.model = lambda _: Never()
    request = rig.request("hello")
    async with aclosing(rig.backend.start(request)) as events:
        started = await anext(events)
        assert isinstance(started, RunAccepted)
        assert await rig.backend.find(request, started.run_id) == started


@keeps
async def test_a_forgotten_run_has_vanished(rig: Rig) -> None:
    request = rig.request("hello")
    started, *_ = await events_of(rig.backend.start(request))
    assert isinstance(started, RunAccepted)
    rig.provider.vanish(started.run_id)
    with pytest.raises(RunVanished):
        await events_of(rig.backend.follow(request, started.run_id))
    with pytest.raises(RunVanished):
        await events_of(rig.backend.follow(request, started.run_id, 1))


@pytest.mark.parametrize("status", [403, 422])
@keeps
async def test_trouble_while_following_says_nothing_about_the_run(rig: Rig, status: int) -> None:
    request = rig.request("hello")
    started, *_ = await events_of(rig.backend.start(request))
    assert isinstance(started, RunAccepted)
    rig.provider.fault(rig.retrieve, refuse(status), times=None)
    with pytest.raises(StreamCut) as caught:
        await events_of(rig.backend.follow(request, started.run_id, 1))
    assert caught.value.status_code == status


@keeps
async def test_a_cancelled_run_ends(rig: Rig) -> None:
    rig.provider.model = lambda _: Never()
    request = rig.request("hello")
    async with aclosing(rig.backend.start(request)) as events:
        started = await anext(events)
        assert isinstance(started, RunAccepted)
        await rig.backend.cancel(request, started.run_id)
    # Not from the stream: that of a cancelled response just ends.
    ended = (await events_of(rig.backend.follow(request, started.run_id, 1)))[-1]
    assert isinstance(ended, RunEnded)
    assert ended.status == "cancelled"
    assert rig.provider.runs[-1].status == "cancelled"


async def test_cancelling_what_has_ended_or_is_unknown_is_fine(rig: Rig) -> None:
    request = rig.request("hello")
    started, *_ = await events_of(rig.backend.start(request))
    assert isinstance(started, RunAccepted)
    await rig.backend.cancel(request, started.run_id)
    await rig.backend.cancel(request, "resp_unknown")
    await rig.backend.cancel(request, "")


async def test_cancelled_tasks_give_their_connections_back(
    kind: str, provider: StandInProvider
) -> None:
    limits = type(openai.DEFAULT_CONNECTION_LIMITS)(max_connections=2)
    http_client = openai.DefaultAsyncHttpxClient(limits=limits)
    async with made(kind, provider, http_client=http_client) as rig:
        await rig.warm_up()
        provider.model = say_in_order(Never(), Never(), Reply("Here."))
        for number in range(2):
            rig.conversation = await rig.backend.open_conversation(f"cancelled {number}")
            await watch_and_cancel(rig)

        # The client has two connections in all: the next request could not leave.
        rig.conversation = await rig.backend.open_conversation("another")
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Here.",)


async def watch_and_cancel(rig: Rig) -> None:
    seen = asyncio.Event()

    async def watch() -> None:
        async with aclosing(rig.backend.start(rig.request("hello", batch="cancelled"))) as events:
            async for _ in events:
                seen.set()

    task = asyncio.create_task(watch())
    await asyncio.wait_for(seen.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connections_are_used_again(kind: str, provider: StandInProvider) -> None:
    async with made(kind, provider) as rig:
        opened = 0
        real = asyncio.get_running_loop().create_connection

        async def counting(*args: Any, **kwargs: Any) -> Any:
            nonlocal opened
            opened += 1
            return await real(*args, **kwargs)

        asyncio.get_running_loop().create_connection = counting  # type: ignore[method-assign]
        for number in range(5):
            await rig.start("hello", batch=f"b{number}")
        assert opened <= (1 if kind == RESPONSES else 2), (
            "the check of the first batch runs beside its stream"
        )


# --- conversations --------------------------------------------------------------------------------


async def test_a_conversation_is_opened_located_and_dropped(rig: Rig) -> None:
    opened = await rig.backend.open_conversation("x" * 600)
    assert await rig.backend.locate(opened) is None
    await rig.backend.drop_conversation(opened)
    await rig.backend.drop_conversation(opened)
    with pytest.raises(LookupError):
        rig.provider.items(opened)


async def test_the_anchor_is_the_last_item(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        anchor = await rig.warm_up()
        assert (
            anchor
            == provider.items(rig.conversation)[-1]["id"]
            == await rig.backend.locate(rig.conversation)
        )
        with pytest.raises(UnknownThread):
            await rig.backend.locate("conv_" + "0" * 32)


async def test_a_poisoned_conversation_is_healed_by_the_next_batch(
    provider: StandInProvider,
) -> None:
    provider.model = say_in_order(
        ToolCalls([("weather", {}), ("weather", {})]), Reply("Hello again.")
    )
    async with made(RESPONSES, provider) as rig:
        await asked_for_tools(rig, rig.request("weather?", batch="lost"))
        ended = (await rig.start("hello"))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Hello again.",)
        assert rig.ops() == [
            "responses.create",
            "responses.create",
            "items.list",
            "responses.create",
        ]


async def test_known_open_calls_are_answered_in_the_same_request(provider: StandInProvider) -> None:
    provider.model = say_in_order(ToolCalls([("weather", {})]), Reply("Hello again."))
    async with made(RESPONSES, provider) as rig:
        asked = await asked_for_tools(rig, rig.request("weather?", batch="lost"))
        calls = tuple(call.id for call in asked.calls)
        request = rig.request("hello", open_calls=calls, anchor=asked.anchor)
        ended = (await events_of(rig.backend.start(request)))[-1]
        assert isinstance(ended, RunEnded)
        assert rig.ops() == ["responses.create"] * 2
        found = await rig.backend.find(request)
        assert isinstance(found, RunEnded)
        assert found.replies == ("Hello again.",)


async def test_open_calls_that_were_never_stored_are_left_out(provider: StandInProvider) -> None:
    async with made(RESPONSES, provider) as rig:
        ended = (await rig.start("hello", open_calls=("call_a", "call_b")))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("You said: hello",)


# --- servers that are not OpenAI's ----------------------------------------------------------------


PERSONALITIES = {
    "no lock": Personality(lock="none"),
    "ignores order": Personality(ignores_order=True),
    "ignores the run filter and order": Personality(ignores_run_id_filter=True, ignores_order=True),
    "no usage, no conversation": Personality(omits_usage=True, omits_conversation=True),
    "no expiry": Personality(expires_at="zero"),
    "background refused": Personality(background="refused"),
    "background refused, no codes": Personality(background="refused", error_body="detail"),
    "background completes at once": Personality(background="completes_at_once"),
    "drops messages": Personality(ignores_additional_messages=True),
}


@pytest.mark.parametrize("name", PERSONALITIES)
@keeps
async def test_every_server_gets_the_messages_and_gives_the_reply(rig: Rig, name: str) -> None:
    rig.provider.personality = PERSONALITIES[name]
    rig.provider.model = lambda turn: Reply("first", "You said: " + " | ".join(turn.user_texts))
    anchor = None
    for batch in ("b1", "b2"):
        request = rig.request(f"one {batch}", "two", batch=batch, anchor=anchor)
        started, *_, ended = await events_of(rig.backend.start(request))
        assert isinstance(started, RunAccepted)
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("first", f"You said: one {batch} | two")

        found = await rig.backend.find(request)
        assert isinstance(found, RunEnded)
        assert found.replies == ended.replies
        followed = (await events_of(rig.backend.follow(request, started.run_id)))[-1]
        assert isinstance(followed, RunEnded)
        assert followed.replies == ended.replies
        anchor = ended.anchor
    assert rig.provider.user_texts(rig.conversation) == ["one b1", "two", "one b2", "two"]


async def test_background_is_tried_once_for_each_process(provider: StandInProvider) -> None:
    provider.personality = Personality(background="refused")
    async with made(RESPONSES, provider) as rig:
        assert rig.backend.capabilities.cancels
        await rig.warm_up()
        assert not rig.backend.capabilities.cancels
        before = len(provider.requests)
        await rig.start("hello")
        assert len(provider.requests) == before + 1


async def test_background_that_was_asked_for_is_not_given_up(provider: StandInProvider) -> None:
    provider.personality = Personality(background="refused")
    async with made(RESPONSES, provider, background=True) as rig:
        with pytest.raises(RequestRefused):
            await rig.start("hello")


async def test_a_foreground_response_is_watched_and_followed_all_the_same(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider, background=False) as rig:
        provider.fault("responses.create", cut_stream(after_events=5))
        request = rig.request("hello")
        seen, error = await until_lost(rig.backend.start(request))
        assert isinstance(error, StreamCut)
        assert all(event.cursor is None for event in seen if isinstance(event, TextChunk))
        assert isinstance(seen[0], RunAccepted)
        ended = (await events_of(rig.backend.follow(request, seen[0].run_id, None)))[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("You said: hello",)


async def test_messages_are_posted_one_by_one_where_runs_do_not_take_them(
    provider: StandInProvider,
) -> None:
    provider.personality = Personality(ignores_additional_messages=True)
    async with made(ASSISTANTS, provider) as rig:
        await rig.warm_up()
        # The first run, over a thread without the text, was stopped, and its answer belongs to no batch
        # reply.
        assert provider.user_texts(rig.conversation) == ["warm-up"]
        before = len(provider.requests)
        await rig.start("one", "two")
        assert rig.ops()[before:] == ["messages.create", "messages.create", "runs.create"]


async def test_messages_that_were_posted_before_a_run_was_refused_are_not_posted_again(
    provider: StandInProvider,
) -> None:
    provider.personality = Personality(ignores_additional_messages=True)
    async with made(ASSISTANTS, provider) as rig:
        await rig.warm_up()
        provider.fault("runs.create", refuse(429))
        with pytest.raises(RequestRefused):
            await rig.start("one", "two")
        # A refusal for a passing reason is no attempt.
        *_, ended = await rig.start("one", "two", again=True)
        assert isinstance(ended, RunEnded)
        assert rig.user_texts() == ["warm-up", "one", "two"]


async def test_only_one_batch_at_a_time_tries_out_a_server(provider: StandInProvider) -> None:
    provider.personality = Personality(ignores_additional_messages=True)
    async with made(ASSISTANTS, provider) as rig:
        streams = []
        for number in range(5):
            rig.conversation = provider.create_thread()
            streams.append(rig.backend.start(rig.request("hello", batch=f"b{number}")))
        ended = [events[-1] for events in await asyncio.gather(*map(events_of, streams))]
        assert all(
            isinstance(event, RunEnded) and event.replies == ("You said: hello",) for event in ended
        )
        with_messages = [
            call
            for call in provider.calls("runs.create")
            if call.body and "additional_messages" in call.body
        ]
        assert len(with_messages) == 1


async def test_a_run_that_never_saw_its_messages_is_not_taken_for_the_batch(
    provider: StandInProvider,
) -> None:
    provider.personality = Personality(ignores_additional_messages=True)
    provider.model = say_in_order(Never(), Reply("Here."))
    async with made(ASSISTANTS, provider) as rig:
        # A worker died between the run's creation and the check.
        provider.fault("messages.list", refuse(403))
        request = rig.request("hello")
        with pytest.raises(OutcomeUnknown):
            await events_of(rig.backend.start(request))
        assert await rig.backend.find(request) == NotFound()
        assert provider.runs[0].status == "cancelled"
        ended = (
            await events_of(
                rig.backend.start(replace(request, batch=replace(request.batch, attempts=2)))
            )
        )[-1]
        assert isinstance(ended, RunEnded)
        assert ended.replies == ("Here.",)
        assert [op for op in rig.ops() if op.endswith(".create")] == [
            "runs.create",
            "messages.create",
            "runs.create",
        ]
        assert provider.user_texts(rig.conversation) == ["hello"]


async def test_the_latest_attempt_is_the_one_that_is_found(provider: StandInProvider) -> None:
    provider.model = say_in_order(RunFailure(), Reply("Here."))
    async with made(ASSISTANTS, provider) as rig:
        await rig.start("hello")
        request = rig.request(attempts=2)
        provider.fault("runs.create", work_then_refuse(500))
        with suppress(OutcomeUnknown):
            await events_of(rig.backend.start(request))
        await asyncio.to_thread(provider.wait_for, runs_ended=2)
        found = await rig.backend.find(request)
        assert isinstance(found, RunEnded)
        assert (found.status, found.run_id) == ("completed", provider.runs[-1].id)


async def test_an_attempt_before_messages_joined_is_not_taken_for_the_one_after_it(
    provider: StandInProvider,
) -> None:
    provider.model = say_in_order(RunFailure(), Reply("Here."))
    async with made(ASSISTANTS, provider) as rig:
        await rig.start("hello")  # its run failed, and was marked with the batch
        request = rig.request("now", attempts=2)
        new = replace(request.items[0], message_ids=("joined",))
        joined = replace(request, items=(new,), joined=True)
        assert await rig.backend.find(joined) == NotFound()
        await events_of(rig.backend.start(replace(joined, again=True)))
        found = await rig.backend.find(joined)
        assert isinstance(found, RunEnded)
        assert (found.status, found.run_id) == ("completed", provider.runs[-1].id)
        assert provider.user_texts(rig.conversation) == ["hello", "now"]


async def test_a_call_of_another_scripted_outcome_is_passed_through(rig: Rig) -> None:
    rig.provider.fault(rig.create, reply_with(ToolCalls([("unknown", "{broken json")])))
    asked = (await rig.start("hello"))[-1]
    assert isinstance(asked, ActionRequired)
    assert isinstance(asked.calls[0], ToolCall)
    assert asked.calls[0].function.arguments == "{broken json"


@keeps
async def test_a_run_that_vanished_is_looked_for_by_what_it_left(rig: Rig) -> None:
    anchor = await rig.warm_up()
    request = rig.request("hello", anchor=anchor)
    started, *_ = await events_of(rig.backend.start(request))
    assert isinstance(started, RunAccepted)
    rig.provider.vanish(started.run_id)

    found = await rig.backend.find(request, started.run_id)

    if rig.kind == RESPONSES:
        assert isinstance(found, RunEnded)
        assert (found.run_id, found.replies) == (started.run_id, ("You said: hello",))
    else:
        assert found == NotFound(holds_text=True)


async def test_outputs_for_a_run_that_vanished_cannot_be_found(provider: StandInProvider) -> None:
    provider.model = lambda _: ToolCalls([("weather", {})])
    async with made(ASSISTANTS, provider) as rig:
        request = rig.request("weather?")
        asked = await asked_for_tools(rig, request)
        provider.vanish(asked.run_id)
        with pytest.raises(RunVanished):
            await events_of(
                rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked))
            )
        with pytest.raises(RunVanished):
            await rig.backend.find(request, asked.run_id, asked.calls)


async def test_refused_outputs_are_refused(rig: Rig) -> None:
    rig.provider.model = lambda _: ToolCalls([("weather", {})])
    request = rig.request("weather?")
    asked = await asked_for_tools(rig, request)
    rig.provider.fault(rig.submit, refuse(422))
    with pytest.raises(RequestRefused) as caught:
        await events_of(rig.backend.submit(request, asked.run_id, asked.calls, outputs_for(asked)))
    assert caught.value.status_code == 422


async def test_a_locked_conversation_that_cannot_even_be_read_is_undecided(
    provider: StandInProvider,
) -> None:
    async with made(RESPONSES, provider) as rig:
        provider.fault("items.list", refuse(400, "conversation_locked"))
        assert await rig.backend.find(rig.request("hello")) == Undecided()
