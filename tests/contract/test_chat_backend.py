"""The Chat Completions backend: the queue's history, the stored rounds, and its servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.backends.base import (
    ActionRequired,
    Backend,
    NotFound,
    RunAccepted,
    RunEnded,
    TextChunk,
)
from assistant_queue.errors import (
    ConfigurationError,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    StreamCut,
)
from assistant_queue.models import Content, FunctionCall, ToolCall
from assistant_queue.testing.provider import (
    IncompleteReply,
    Never,
    Personality,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    cut_stream,
    drop_connection,
    refuse,
    reply_with,
    say_in_order,
)
from tests.contract.test_backends import CHAT, Rig, backend_of, events_of, outputs_for, until_lost


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
        assert not running.model_errors


class chat:  # noqa: N801 - reads as a function
    """A rig that speaks Chat Completions, with its own backend options."""

    def __init__(self, provider: StandInProvider, **options: Any) -> None:
        self.rig = Rig(CHAT, provider, backend_of(CHAT, provider, **options), "")

    async def __aenter__(self) -> Rig:
        return self.rig

    async def __aexit__(self, *_: object) -> None:
        await self.rig.backend.close()


async def end_of(stream: Any) -> RunEnded:
    ended = (await events_of(stream))[-1]
    assert isinstance(ended, RunEnded), ended
    return ended


async def asked(stream: Any) -> ActionRequired:
    event = (await events_of(stream))[-1]
    assert isinstance(event, ActionRequired), event
    return event


def sent_messages(rig: Rig, place: int = -1) -> list[tuple[str, Any]]:
    """The messages of a request, by role and content."""
    return [
        (message["role"], message.get("content"))
        for message in rig.provider.calls(rig.create)[place].body["messages"]
    ]


async def talk(rig: Rig, *questions: str) -> RunEnded:
    """One batch after the other; the last one's end."""
    ended = RunEnded(run_id="", status="")
    for number, question in enumerate(questions):
        ended = await end_of(
            rig.backend.start(rig.request(question, batch=f"b{number}", anchor=ended.anchor))
        )
    return ended


# --- the history ----------------------------------------------------------------------------------


async def test_a_batch_comes_behind_what_was_said_before_and_the_instructions_before_all(
    provider: StandInProvider,
) -> None:
    async with chat(provider) as rig:
        first = await end_of(rig.backend.start(rig.request("one", "two", instructions="Be kind.")))
        await end_of(
            rig.backend.start(
                rig.request("three", batch="b2", anchor=first.anchor, instructions="Be brief.")
            )
        )
        assert sent_messages(rig) == [
            ("system", "Be brief."),
            ("user", "one"),
            ("user", "two"),
            ("assistant", "You said: one | two"),
            ("user", "three"),
        ]


async def test_without_history_nothing_is_remembered(provider: StandInProvider) -> None:
    async with chat(provider, history=0) as rig:
        assert (await talk(rig, "one")).anchor is None
        await talk(rig, "two")
        assert sent_messages(rig) == [("user", "two")]


async def test_the_history_is_bounded_by_messages_and_begins_with_a_question(
    provider: StandInProvider,
) -> None:
    async with chat(provider, history=3) as rig:
        await talk(rig, "one", "two", "three")
        assert sent_messages(rig) == [
            ("user", "two"),
            ("assistant", "You said: two"),
            ("user", "three"),
        ]


async def test_the_history_is_bounded_by_tokens_as_the_user_counts_them(
    provider: StandInProvider,
) -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return 10

    async with chat(
        provider, history_tokens=28, count_tokens=count
    ) as rig:  # a message is 10 and 4 for its form
        await talk(rig, "one", "two", "three")
        assert sent_messages(rig) == [
            ("user", "two"),
            ("assistant", "You said: two"),
            ("user", "three"),
        ]
    assert "You said: two" in counted


async def test_a_rounds_pair_is_remembered_whole_or_not_at_all(provider: StandInProvider) -> None:
    provider.model = say_in_order(
        ToolCalls([("weather", {}), ("weather", {})]), Reply("Sunny."), Reply("Bye.")
    )
    for history, remembered in (
        (5, ["user", "assistant", "tool", "tool", "assistant"]),
        (4, ["user", "assistant"]),
        (1, []),
    ):
        provider.model = say_in_order(
            ToolCalls([("weather", {}), ("weather", {})]), Reply("Sunny."), Reply("Bye.")
        )
        async with chat(provider, history=history) as rig:
            request = rig.request("weather?")
            round_ = await asked(rig.backend.start(request))
            sent = replace(request, transcript=round_.transcript)
            ended = await end_of(
                rig.backend.submit(sent, round_.run_id, round_.calls, outputs_for(round_))
            )
            await end_of(rig.backend.start(rig.request("thanks", batch="b2", anchor=ended.anchor)))
            assert [role for role, _ in sent_messages(rig)] == [*remembered, "user"]


async def test_what_another_backend_left_is_no_obstacle(provider: StandInProvider) -> None:
    async with chat(provider) as rig:
        for anchor, before in (
            ("msg_0123", []),
            ('[["user","hi"],["assistant","hello"]]', [("user", "hi"), ("assistant", "hello")]),
        ):
            await end_of(rig.backend.start(rig.request("one", anchor=anchor)))
            assert sent_messages(rig) == [*before, ("user", "one")]


async def test_what_was_cut_short_is_remembered_and_what_failed_is_not(
    provider: StandInProvider,
) -> None:
    provider.model = say_in_order(
        IncompleteReply(text="Once upon"), IncompleteReply("content_filter", text="I"), RunFailure()
    )
    async with chat(provider) as rig:
        first = await end_of(rig.backend.start(rig.request("tell")))
        assert (first.status, first.incomplete_reason) == ("incomplete", "length")
        second = await end_of(
            rig.backend.start(rig.request("go on", batch="b2", anchor=first.anchor))
        )
        assert (second.status, second.incomplete_reason) == ("incomplete", "content_filter")
        assert sent_messages(rig) == [
            ("user", "tell"),
            ("assistant", "Once upon"),
            ("user", "go on"),
        ]
        failed = await end_of(
            rig.backend.start(rig.request("and?", batch="b3", anchor=second.anchor))
        )
        assert (failed.status, failed.error.code, failed.anchor) == ("failed", "server_error", None)


@pytest.mark.parametrize("bounds", [{"history": -1}, {"history": 1001}, {"history_tokens": 0}])
async def test_bounds_that_make_no_sense_are_refused(
    provider: StandInProvider, bounds: dict[str, int]
) -> None:
    with pytest.raises(ConfigurationError, match="history"):
        backend_of(CHAT, provider, **bounds)


# --- rounds ---------------------------------------------------------------------------------------


async def test_every_round_is_sent_in_the_next_request_even_by_another_process(
    provider: StandInProvider,
) -> None:
    provider.model = say_in_order(
        ToolCalls([("weather", {"city": "Rome"})], text="Let me look."),
        ToolCalls([("weather", {})]),
        Reply("Sunny."),
    )
    async with chat(provider) as rig, chat(provider) as other, chat(provider) as third:
        request = rig.request("weather?")
        first = await asked(rig.backend.start(request))
        assert first.replies == ("Let me look.",)
        second = await asked(
            other.backend.submit(
                replace(request, transcript=first.transcript),
                first.run_id,
                first.calls,
                outputs_for(first),
            )
        )
        assert second.run_id != first.run_id
        again = replace(request, transcript=second.transcript)
        for _ in range(2):  # a retry tells the same
            ended = await end_of(
                third.backend.submit(again, second.run_id, second.calls, outputs_for(second))
            )
            assert ended.replies == ("Sunny.",)
            assert [role for role, _ in sent_messages(rig)] == [
                "user",
                "assistant",
                "tool",
                "assistant",
                "tool",
            ]
        calls = [
            call
            for message in provider.requests[-1].body["messages"]
            for call in message.get("tool_calls", ())
        ]
        assert [call["function"] for call in calls] == [
            {"name": "weather", "arguments": '{"city": "Rome"}'},
            {"name": "weather", "arguments": "{}"},
        ]


async def test_calls_without_an_id_get_one(provider: StandInProvider) -> None:
    for ids in ("numbered", "empty"):
        provider.personality = Personality(call_ids=ids, ends_calls_with="stop")
        provider.model = say_in_order(
            ToolCalls([("weather", {}), ("weather", {})]),
            ToolCalls([("weather", {})]),
            Reply("Sunny."),
        )
        async with chat(provider) as rig:
            request = rig.request("weather?")
            first = await asked(rig.backend.start(request))
            second = await asked(
                rig.backend.submit(
                    replace(request, transcript=first.transcript),
                    first.run_id,
                    first.calls,
                    outputs_for(first),
                )
            )
            found = [call.id for call in (*first.calls, *second.calls)]
            assert all(found)
            assert len(set(found)) == 3
            again = replace(request, transcript=second.transcript)
            assert (
                await end_of(
                    rig.backend.submit(again, second.run_id, second.calls, outputs_for(second))
                )
            ).replies == ("Sunny.",)


async def test_calls_of_a_reply_that_was_cut_short_are_not_made(provider: StandInProvider) -> None:
    from assistant_queue.backends.chat_completions.parser import ChatReader
    from assistant_queue.backends.openai.wire_events import WireEvent

    reader = ChatReader("t", unnamed="x")
    call = {
        "index": 0,
        "id": "c1",
        "function": {"name": "weather", "arguments": '{"ci'},
        "extra_content": {"signature": "s"},
    }
    for delta, reason in (({"tool_calls": [call]}, None), ({}, "length")):
        reader.read(
            WireEvent(
                "",
                {
                    "id": "chatcmpl-1",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
                },
            )
        )
    assert (reader.completion.reason, reader.completion.calls[0]["extra_content"]) == (
        "length",
        {"signature": "s"},
    )

    async with chat(provider) as rig:
        request = rig.request("hi")
        ended = await rig.backend._outcome(request, [], [], reader.completion)  # type: ignore[attr-defined]
    assert isinstance(ended, RunEnded)
    assert ended.status == "incomplete"


def test_arguments_that_a_server_gives_as_an_object_are_json() -> None:
    from assistant_queue.backends.chat_completions.parser import ChatReader, tool_call
    from assistant_queue.backends.openai.wire_events import WireEvent

    reader = ChatReader("t", unnamed="x")
    call = {"index": 0, "id": "c1", "function": {"name": "weather", "arguments": {"city": "Köln"}}}
    reader.read(
        WireEvent(
            "",
            {
                "id": "chatcmpl-1",
                "choices": [
                    {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "tool_calls"}
                ],
            },
        )
    )
    assert tool_call(reader.completion.calls[0]).function.arguments == '{"city": "Köln"}'


async def test_outputs_for_calls_without_a_transcript_are_sent_with_their_calls(
    provider: StandInProvider,
) -> None:
    async with chat(provider) as rig:
        call = ToolCall("call_1", FunctionCall("weather", "{}"))
        await end_of(
            rig.backend.submit(rig.request("weather?"), "run", [call], {"call_1": "sunny"})
        )
        assert sent_messages(rig) == [("user", "weather?"), ("assistant", None), ("tool", "sunny")]


# --- what is sent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "sent"),
    [
        (
            [
                {"type": "input_text", "text": "look"},
                {"type": "input_image", "image_url": "https://example.org/a.png", "detail": "low"},
            ],
            [
                {"type": "text", "text": "look"},
                {
                    "type": "image_url",
                    "image_url": {"url": "https://example.org/a.png", "detail": "low"},
                },
            ],
        ),
        (
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
            [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}],
        ),
        (
            [{"type": "input_file", "file_id": "file-1"}],
            [{"type": "file", "file": {"file_id": "file-1"}}],
        ),
    ],
)
async def test_content_parts_of_any_protocol_are_taken_and_remembered(
    provider: StandInProvider, parts: Content, sent: Any
) -> None:
    async with chat(provider) as rig:
        first = await end_of(rig.backend.start(rig.request(parts)))
        await end_of(rig.backend.start(rig.request("and now?", batch="b2", anchor=first.anchor)))
        assert sent_messages(rig)[0] == ("user", sent)


async def test_only_what_every_server_knows_is_sent_unasked(provider: StandInProvider) -> None:
    async with chat(provider) as rig:
        await talk(rig, "hi")
        assert set(provider.requests[-1].body) == {
            "model",
            "messages",
            "stream",
            "stream_options",
            "tools",
        }
    async with chat(
        provider, run_options={"max_tokens": 5, "stream_options": None, "seed": 7}, tools=None
    ) as rig:
        ended = await talk(rig, "hi")
        assert ended.usage is None
        assert set(provider.requests[-1].body) == {
            "model",
            "messages",
            "stream",
            "max_tokens",
            "seed",
        }


async def test_the_batch_is_marked_where_completions_are_stored(provider: StandInProvider) -> None:
    async with chat(provider, run_options={"store": True}) as rig:
        await talk(rig, "hi")
    assert provider.requests[-1].body["metadata"] == {"from": "a test", "aq_batch": "b0"}


# --- streams --------------------------------------------------------------------------------------


async def test_a_cut_stream_says_whether_anything_was_heard(provider: StandInProvider) -> None:
    async with chat(provider) as rig:
        for cut, times, expected in (
            (cut_stream(after_events=2), 1, StreamCut),
            (cut_stream(after_bytes=20), 1, OutcomeUnknown),
            (drop_connection(), 2, OutcomeUnknown),  # the first time it is sent again
        ):
            provider.fault(rig.create, cut, times=times)
            _, error = await until_lost(rig.backend.start(rig.request("hello")))
            assert type(error) is expected


async def test_an_answer_is_whole_when_the_model_has_ended_whatever_comes_after(
    provider: StandInProvider,
) -> None:
    async with chat(provider) as rig:  # role, two deltas, the end; the usage is cut off
        provider.fault(rig.create, cut_stream(after_events=4))
        ended = await talk(rig, "hello")
    assert (ended.status, ended.replies, ended.usage) == ("completed", ("You said: hello",), None)


async def test_a_lost_completion_cannot_be_looked_up_and_doubles_nothing(
    provider: StandInProvider,
) -> None:
    async with chat(provider) as rig:
        request = rig.request("hello", anchor="[]")
        assert await rig.backend.find(request, "chatcmpl-1") == NotFound(anchor="[]")
        assert await rig.backend.locate("") is None
        with pytest.raises(RunVanished):
            await events_of(rig.backend.follow(request, "chatcmpl-1"))
        await rig.backend.cancel(request, "chatcmpl-1")
        assert provider.requests == ()


async def test_a_stream_that_is_given_up_gives_its_connection_back(
    provider: StandInProvider,
) -> None:
    provider.model = lambda _: Never()
    async with chat(provider) as rig:
        async with aclosing(rig.backend.start(rig.request("hello"))) as events:
            assert isinstance(await anext(events), RunAccepted)
        provider.model = lambda _: Reply("ok")
        assert (await talk(rig, "again")).replies == ("ok",)


# --- servers --------------------------------------------------------------------------------------


SERVERS = {
    "knows no stream_options": Personality(stream_options="refused"),
    "knows no stream_options, no codes": Personality(stream_options="refused", error_body="detail"),
    "wants the roles to take turns": Personality(wants_turns=True),
    "ignores stream": Personality(ignores_stream=True),
    "counts nothing": Personality(omits_usage=True),
    "numbers its calls, and stops with them": Personality(
        call_ids="numbered", ends_calls_with="stop"
    ),
    "reads little": Personality(context_words=12),
}


@pytest.mark.parametrize("name", SERVERS)
async def test_every_server_gets_the_messages_and_gives_the_reply(
    provider: StandInProvider, name: str
) -> None:
    provider.personality = SERVERS[name]
    async with chat(provider) as rig:
        anchor = None
        for batch in ("b1", "b2", "b3"):
            request = rig.request(f"one {batch}", "two", batch=batch, anchor=anchor)
            started, *deltas, ended = await events_of(rig.backend.start(request))
            assert isinstance(started, RunAccepted)
            assert isinstance(ended, RunEnded)
            assert ended.run_id == started.run_id
            assert "one" in ended.replies[0]
            assert (
                "".join(delta.text for delta in deltas if isinstance(delta, TextChunk))
                == ended.replies[0]
            )
            assert (ended.usage is None) == (
                name == "counts nothing" or name.startswith("knows no")
            )
            anchor = ended.anchor


async def test_what_a_server_refused_is_not_tried_on_it_again(provider: StandInProvider) -> None:
    provider.personality = Personality(stream_options="refused", wants_turns=True)
    async with chat(provider) as rig:
        first = await end_of(rig.backend.start(rig.request("one", "two")))
        assert len(provider.refusals) == 2
        await end_of(rig.backend.start(rig.request("three", batch="b2", anchor=first.anchor)))
        assert len(provider.refusals) == 2
        assert sent_messages(rig) == [
            ("user", "one\n\ntwo"),
            ("assistant", "You said: one\n\ntwo"),
            ("user", "three"),
        ]
    remembered = [message["content"] for message in json.loads(first.anchor or "")]
    assert remembered == ["one", "two", "You said: one\n\ntwo"], "the history stays as it was said"


async def test_a_conversation_that_outgrows_the_model_forgets_its_older_half(
    provider: StandInProvider,
) -> None:
    async with chat(provider) as rig:
        long = await talk(rig, "one", "two", "three", "four")
        provider.personality = Personality(context_words=12)
        ended = await end_of(rig.backend.start(rig.request("five", batch="b9", anchor=long.anchor)))
        assert ended.replies == ("You said: five",)
        assert sent_messages(rig)[0] == ("user", "three")
        assert json.loads(ended.anchor or "")[0]["content"] == "three"
        with pytest.raises(RequestRefused, match="context_length_exceeded"):
            await end_of(rig.backend.start(rig.request("word " * 20)))


async def test_an_error_before_the_first_chunk_starts_nothing_and_one_after_it_fails_the_run(
    provider: StandInProvider,
) -> None:
    async with chat(provider) as rig:
        provider.fault(rig.create, refuse(429, "rate_limit_exceeded", retry_after=3))
        with pytest.raises(RequestRefused) as caught:
            await talk(rig, "hello")
        assert (caught.value.counts, caught.value.retry_after_s) == (False, 3.0)
        provider.fault(
            rig.create, reply_with(RunFailure("rate_limit_exceeded", "Please try again in 1.5s."))
        )
        ended = await talk(rig, "hello")
        assert (ended.status, ended.counts, ended.retry_after_s) == ("failed", False, 1.5)


async def test_batches_share_a_backend(provider: StandInProvider) -> None:
    async with chat(provider) as rig:
        backend: Backend = rig.backend
        ends = await asyncio.gather(
            *(end_of(backend.start(rig.request(f"q{n}", batch=f"b{n}"))) for n in range(20))
        )
    assert [end.replies for end in ends] == [(f"You said: q{n}",) for n in range(20)]
