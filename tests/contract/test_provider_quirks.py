"""Each flag of a personality does to an answer, or refuses of a request, exactly what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from assistant_queue.testing.provider import (
    NAMED,
    IncompleteReply,
    Never,
    Personality,
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    refuse,
    reply_with,
    trouble,
)
from assistant_queue.testing.provider.error_flags import SHAPES
from tests.conftest import PATIENCE_S

HI = {"role": "user", "content": "hi"}
CALLS = ToolCalls([("weather", {"city": "Rome"}), ("now", {})])
LINE = "\n"


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as running:
        yield running
    assert running.model_errors == ()


Post = Callable[..., httpx.Response]


@pytest.fixture
def post(provider: StandInProvider) -> Iterator[Post]:
    """Sends a request: to Chat Completions unless a path is given."""
    with httpx.Client(
        base_url=provider.base_url,
        headers={"authorization": f"Bearer {provider.api_key}"},
        timeout=PATIENCE_S,
    ) as client:

        def send(*messages: Any, path: str = "/chat/completions", **fields: Any) -> httpx.Response:
            asked = {"model": "m", **fields}
            return client.post(
                path,
                json={**asked, "messages": [*messages] or [HI]}
                if path == "/chat/completions"
                else asked,
            )

        yield send


def chunks(answer: httpx.Response) -> list[Any]:
    """The events of a stream, however their lines end."""
    text = answer.content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    data = [
        line.removeprefix("data:").strip() for line in text.split("\n") if line.startswith("data:")
    ]
    return [json.loads(one) for one in data if one not in {"", "[DONE]"}]


def deltas(answer: httpx.Response) -> list[Any]:
    return [choice["delta"] for chunk in chunks(answer) for choice in chunk["choices"]]


def calls_in(answer: httpx.Response) -> list[Any]:
    return [call for delta in deltas(answer) for call in delta.get("tool_calls", ())]


def stream(
    provider: StandInProvider, post: Post, says: Any = "hello", **flags: Any
) -> httpx.Response:
    provider.personality = Personality(**flags)
    provider.model = lambda _: says
    return post(stream=True, stream_options={"include_usage": True})


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"call_index": "zero"}, [0, 0, 0, 0, 0, 0]),
        ({"call_index": "absent"}, [None] * 6),
        ({"call_pieces": "whole"}, [0, 1]),
        ({"call_pieces": "twice"}, [0, 0, 1, 1]),
        ({"call_pieces": "repeated"}, [0, 0, 0, 0, 1, 1, 1, 1]),
        ({"call_pieces": "never"}, []),
        ({}, [0, 0, 0, 1, 1, 1]),
    ],
)
def test_pieces_of_calls_have_the_indexes_they_are_to_have(
    provider: StandInProvider, post: Post, flags: dict[str, Any], expected: list[Any]
) -> None:
    answer = stream(provider, post, CALLS, **flags)
    assert [call.get("index") for call in calls_in(answer)] == expected
    assert chunks(answer)[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_last_piece_repeats_all_arguments(provider: StandInProvider, post: Post) -> None:
    pieces = calls_in(
        stream(provider, post, ToolCalls([("weather", {"city": "Rome"})]), call_pieces="repeated")
    )
    whole = '{"city": "Rome"}'
    assert "".join(piece["function"]["arguments"] for piece in pieces[:-1]) == whole
    assert pieces[-1]["function"]["arguments"] == whole


@pytest.mark.parametrize(("later", "blank"), [("blank", ""), ("null", None)])
def test_later_pieces_are_blank(
    provider: StandInProvider, post: Post, later: Any, blank: Any
) -> None:
    first, second, _ = calls_in(
        stream(provider, post, ToolCalls([("now", {"a": 1})]), later_pieces=later)
    )
    assert first["id"].startswith("call_")
    assert (second["id"], second["type"], second["function"]["name"]) == (blank, blank, blank)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("object", [{"city": "Rome"}, {}]),
        ("empty", ['{"city": "Rome"}', ""]),
        ("null", ['{"city": "Rome"}', None]),
    ],
)
def test_arguments_are_sent_in_every_form(
    provider: StandInProvider, post: Post, told: Any, expected: list[Any]
) -> None:
    pieces = calls_in(stream(provider, post, CALLS, call_arguments=told, call_pieces="whole"))
    assert [piece["function"]["arguments"] for piece in pieces] == expected
    message = post().json()["choices"][0]["message"]
    assert [call["function"]["arguments"] for call in message["tool_calls"]] == expected


@pytest.mark.parametrize(
    ("form", "is_it"),
    [
        ("nine", lambda ident: len(ident) == 9 and ident.isalnum()),
        ("absent", lambda ident: ident is None),
    ],
)
def test_ids_of_calls_have_the_form_that_is_wanted(
    provider: StandInProvider, post: Post, form: Any, is_it: Callable[[Any], bool]
) -> None:
    pieces = calls_in(stream(provider, post, CALLS, call_ids=form, call_pieces="whole"))
    assert all(is_it(piece.get("id")) for piece in pieces)


def test_the_old_field_has_one_call_without_an_id(provider: StandInProvider, post: Post) -> None:
    answer = stream(provider, post, CALLS, legacy_calls=True)
    told = [delta["function_call"] for delta in deltas(answer) if "function_call" in delta]
    assert told[0]["name"] == "weather"
    assert "".join(piece["arguments"] for piece in told) == '{"city": "Rome"}'
    assert calls_in(answer) == []
    whole = post().json()["choices"][0]
    assert (whole["message"]["function_call"]["name"], whole["finish_reason"]) == (
        "weather",
        "function_call",
    )


# --- the end --------------------------------------------------------------------------------------


def reasons(answer: httpx.Response) -> list[Any]:
    return [
        choice.get("finish_reason", "absent")
        for chunk in chunks(answer)
        for choice in chunk["choices"]
    ]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("last", [None, None, None, "stop"]),
        ("every", [None, "stop", "stop"]),
        ("early", [None, None, "stop", None]),
        ("absent", ["absent"] * 3),
        ("null_text", ["null", "null", "null", "stop"]),
    ],
)
def test_the_reason_is_where_it_is_to_be(
    provider: StandInProvider, post: Post, finish: Any, expected: list[Any]
) -> None:
    answer = stream(provider, post, finish=finish)
    assert reasons(answer) == expected
    assert "".join(delta.get("content") or "" for delta in deltas(answer)) == "hello"
    assert answer.content.endswith(b"data: [DONE]\n\n")


def test_good_and_bad_reasons_have_other_words(provider: StandInProvider, post: Post) -> None:
    assert reasons(stream(provider, post, ends_text_with="eos_token"))[-1] == "eos_token"
    assert reasons(stream(provider, post, CALLS, ends_calls_with="stop"))[-1] == "stop"
    assert (
        reasons(stream(provider, post, IncompleteReply("insufficient_system_resource")))[-1]
        == "insufficient_system_resource"
    )


def test_the_end_can_be_left_out(provider: StandInProvider, post: Post) -> None:
    assert b"[DONE]" not in stream(provider, post, omits_done=True).content
    for finish in ("last", "every", "absent"):
        answer = stream(
            provider,
            post,
            omits_done=True,
            omits_last_blank_line=True,
            finish=finish,
            omits_usage=True,
        )
        assert answer.content.endswith(b"}\n")
        assert not answer.content.endswith(b"\n\n")
        assert "".join(delta.get("content") or "" for delta in deltas(answer)) == "hello"
    with pytest.raises(httpx.RemoteProtocolError):
        stream(provider, post, cuts_at_the_end=True)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("own", [False] * 4 + [True]),
        ("with_choice", [False] * 4 + [True]),
        ("last", [False] * 3 + [True]),
        ("in_choice", [False] * 4),
        ("every", [True] * 4),
    ],
)
def test_usage_is_where_it_is_to_be(
    provider: StandInProvider, post: Post, place: Any, expected: list[bool]
) -> None:
    told = chunks(stream(provider, post, usage_place=place))
    assert [bool(chunk.get("usage")) for chunk in told] == expected
    assert bool(told[-1]["choices"]) == (place != "own")
    assert ("usage" in told[-1]["choices"][0] if told[-1]["choices"] else False) == (
        place == "in_choice"
    )


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("texts", ["1", "1", "2"]),
        ("floats", [1.0, 1.0, 2.0]),
        ("nulls", [None] * 3),
        ("words", ["n/a"] * 3),
    ],
)
def test_usage_has_odd_values(
    provider: StandInProvider, post: Post, values: Any, expected: list[Any]
) -> None:
    assert (
        list(chunks(stream(provider, post, usage_values=values))[-1]["usage"].values()) == expected
    )


# --- text -----------------------------------------------------------------------------------------


def test_content_comes_in_parts_and_strings(provider: StandInProvider, post: Post) -> None:
    pieces = [
        delta.get("content")
        for delta in deltas(stream(provider, post, Reply("hello", chunks=1), content="parts"))
    ]
    assert pieces[1] == [{"type": "text", "text": "hello"}]
    assert post().json()["choices"][0]["message"]["content"] == [{"type": "text", "text": "hello"}]
    pieces = [
        delta.get("content")
        for delta in deltas(stream(provider, post, Reply("hello", chunks=1), content="strings"))
    ]
    assert pieces[1] == ["he", "llo"]


@pytest.mark.parametrize(
    "thinks", ["reasoning_content", "reasoning", "reasoning_details", "tags", "parts"]
)
def test_thoughts_are_sent_before_the_answer(
    provider: StandInProvider, post: Post, thinks: Any
) -> None:
    told = deltas(stream(provider, post, thinks=thinks))
    texts = [delta.get("content") for delta in told if isinstance(delta.get("content"), str)]
    if thinks == "tags":
        assert "".join(texts).startswith("<think>\n")
        assert "".join(texts).endswith("</think>\n\nhello")
    elif thinks == "parts":
        assert told[1]["content"][0]["type"] == "thinking"
    else:
        assert told[1][thinks]
        assert post().json()["choices"][0]["message"][thinks]
        assert "".join(texts) == "hello"


def test_a_character_is_split_into_two_escapes(provider: StandInProvider, post: Post) -> None:
    answer = stream(provider, post, Reply("a😀b", chunks=1), splits_surrogates=True)
    assert [delta["content"] for delta in deltas(answer)[1:3]] == ["a\ud83d", "\ude00b"]
    assert rb"\ud83d" in answer.content


def test_half_a_character_is_said_as_the_model_says_it(
    provider: StandInProvider, post: Post
) -> None:
    assert rb"hi \ud83d there" in stream(provider, post, Reply("hi \ud83d there", chunks=1)).content
    assert post().json()["choices"][0]["message"]["content"] == "hi \ud83d there"


def test_answers_are_left_out(provider: StandInProvider, post: Post) -> None:
    def said(**flags: Any) -> list[Any]:
        provider.personality = Personality(**flags)
        provider.model = lambda _: "hello"
        return [
            post({"role": "user", "content": text}).json()["choices"][0]["message"]["content"]
            for text in ("a", "a", "b")
        ]

    assert said(empty_answers="once") == [None, "hello", None]
    assert said(empty_answers="always") == [None, None, None]
    assert said() == ["hello"] * 3


@pytest.mark.parametrize(
    ("form", "is_it"),
    [
        ("number", lambda ident: isinstance(ident, int)),
        ("null", lambda ident: ident is None),
        ("absent", lambda ident: ident == "absent"),
    ],
)
def test_completions_have_other_ids(
    provider: StandInProvider, post: Post, form: Any, is_it: Callable[[Any], bool]
) -> None:
    assert all(
        is_it(chunk.get("id", "absent"))
        for chunk in chunks(stream(provider, post, completion_ids=form))
    )
    assert is_it(post().json().get("id", "absent"))


def test_ids_change_and_indexes_are_text(provider: StandInProvider, post: Post) -> None:
    told = chunks(stream(provider, post, completion_ids="changing", choice_index="text"))
    assert len({chunk["id"] for chunk in told}) == len(told)
    assert {choice["index"] for chunk in told for choice in chunk["choices"]} == {"0"}
    told = chunks(stream(provider, post, choice_index="absent"))
    assert not any("index" in choice for chunk in told for choice in chunk["choices"])


def test_streams_open_in_other_ways(provider: StandInProvider, post: Post) -> None:
    first = chunks(stream(provider, post, opens_with="filter_results"))[0]
    assert (first["choices"], first["id"], "prompt_filter_results" in first) == ([], "", True)
    assert deltas(stream(provider, post, opens_with="null"))[0] == {
        "role": "assistant",
        "content": None,
    }


# --- bytes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", None])
def test_the_content_type_is_another_or_none(
    provider: StandInProvider, post: Post, content_type: str | None
) -> None:
    answer = stream(provider, post, content_type=content_type)
    assert answer.headers.get("content-type") == content_type
    assert chunks(answer)


@pytest.mark.parametrize(
    ("line_end", "expected"), [("lf", b"\n\n"), ("crlf", b"\r\n\r\n"), ("cr", b"\r\r")]
)
def test_lines_end_otherwise(
    provider: StandInProvider, post: Post, line_end: Any, expected: bytes
) -> None:
    answer = stream(provider, post, Reply("a\nb"), line_end=line_end, bom=True)
    assert answer.content.startswith(b"\xef\xbb\xbfdata: {")
    assert answer.content.count(expected) == len(chunks(answer)) + 1
    assert "".join(delta.get("content") or "" for delta in deltas(answer)) == "a\nb"


@pytest.mark.parametrize(
    ("sign", "expected"),
    [
        ("comment", b": keep-alive\n\n"),
        ("ping", b'data: {"type":"ping"}\n\n'),
        ("data", b"data:\n\n"),
    ],
)
def test_signs_of_life_come_before_events_and_in_silence(
    provider: StandInProvider, post: Post, sign: Any, expected: bytes
) -> None:
    assert stream(provider, post, keep_alive=sign).content.startswith(expected)
    provider.personality = Personality(keep_alive=sign, keep_alive_s=0.01)
    provider.model = lambda _: Never()
    seen = b""
    with httpx.stream(
        "POST",
        f"{provider.base_url}/chat/completions",
        headers={"authorization": f"Bearer {provider.api_key}"},
        json={"model": "m", "messages": [HI], "stream": True},
        timeout=PATIENCE_S,
    ) as answer:
        for piece in answer.iter_bytes():
            seen += piece
            if seen.count(expected) > 3:
                break
    assert seen.count(b"chat.completion.chunk") == 1


def test_responses_have_no_event_lines_where_the_server_has_none(
    provider: StandInProvider, post: Post
) -> None:
    named = post(path="/responses", input="hi", stream=True).text
    assert "event: response.created\n" in named
    provider.personality = Personality(names_events=False, line_end="crlf", keep_alive="comment")
    plain = post(path="/responses", input="hi", stream=True)
    assert b"event:" not in plain.content
    assert plain.content.startswith(b": keep-alive\r\n\r\ndata: {")
    assert chunks(plain)[0]["type"] == "response.created"


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_an_error_says_it(provider: StandInProvider, post: Post, shape: Any) -> None:
    provider.personality = Personality(error_body=shape)
    provider.fault("*", refuse(418, "teapot", "I am a teapot"))
    answer = post()
    assert answer.status_code == 418
    if shape == "empty":
        assert (answer.content, "content-type" in answer.headers) == (b"", False)
        return
    assert "I am a teapot" in answer.text
    kind = answer.headers["content-type"]
    assert kind == {"html": "text/html", "text": "text/plain; charset=utf-8"}.get(
        shape, "application/json"
    )
    told = {
        "openai": lambda body: body["error"]["code"] == "teapot",
        "detail": lambda body: body == {"detail": "I am a teapot"},
        "errors": lambda body: body["errors"][0]["message"],
        "flat": lambda body: (body["object"], body["message"]) == ("error", "I am a teapot"),
        "list": lambda body: body[0]["error"]["message"],
        "error_text": lambda body: body == {"code": "teapot", "error": "I am a teapot"},
        "message": lambda body: body == {"message": "I am a teapot"},
        "code_message": lambda body: (
            body == {"code": "teapot", "message": "I am a teapot", "data": None}
        ),
        "typed": lambda body: body["type"] == "error",
        "metadata": lambda body: (
            json.loads(body["error"]["metadata"]["raw"])["error"]["code"] == "teapot"
        ),
        "json_text": lambda body: body == "I am a teapot",
    }
    if shape in told:
        assert told[shape](answer.json())


@pytest.mark.parametrize(
    ("codes", "expected"),
    [("word", "teapot"), ("status", 418), ("status_text", "418"), ("null", None)],
)
def test_codes_are_words_numbers_or_nothing(
    provider: StandInProvider, post: Post, codes: Any, expected: Any
) -> None:
    provider.personality = Personality(error_codes=codes)
    provider.fault("*", refuse(418, "teapot", "I am a teapot"))
    assert post().json()["error"]["code"] == expected


def test_a_page_can_be_the_body_of_a_fault(provider: StandInProvider, post: Post) -> None:
    provider.fault(
        "*",
        refuse(502, body=b"<html><title>502 Bad Gateway</title></html>", content_type="text/html"),
    )
    answer = post()
    assert (answer.status_code, answer.headers["content-type"], answer.text[:6]) == (
        502,
        "text/html",
        "<html>",
    )


def test_errors_of_a_stream_come_inside_a_200(provider: StandInProvider, post: Post) -> None:
    provider.personality = Personality(
        errors_in_stream=True, error_event="error", error_codes="status"
    )
    provider.fault("*", refuse(429, "rate_limit_exceeded", "Slow down", retry_after=3), times=None)
    streamed = post(stream=True)
    assert (streamed.status_code, streamed.text.partition(LINE)[0]) == (200, "event: error")
    assert chunks(streamed)[0]["error"]["code"] == 429
    assert post().status_code == 429
    event = chunks(post(path="/responses", input="hi", stream=True))[0]
    assert (event["type"], event["code"], event["message"]) == ("error", 429, "Slow down")
    assert [refusal.status for refusal in provider.refusals] == [429] * 3


def test_an_error_comes_after_some_text(provider: StandInProvider, post: Post) -> None:
    provider.personality = Personality(words="kimi")
    provider.fault("*", reply_with(RunFailure(kind="overloaded", text="half an")), times=None)
    *_, last = told = chunks(post(stream=True))
    assert told[1]["choices"][0]["delta"]["content"] == "half an"
    assert last["error"]["type"] == "engine_overloaded_error"
    provider.personality = Personality(words="kimi", masks_failures=True, error_codes="status_text")
    assert chunks(post(stream=True))[-1]["error"]["code"] == "500"
    types = [event["type"] for event in chunks(post(path="/responses", input="hi", stream=True))]
    assert types[-2:] == ["response.output_text.delta", "response.failed"]


def test_trouble_is_reported_in_the_servers_own_words(
    provider: StandInProvider, post: Post
) -> None:
    provider.personality = "azure"
    provider.fault("*", trouble("rate_limited", retry_after=2.5))
    answer = post()
    assert (
        answer.status_code,
        answer.headers["retry-after"],
        answer.headers["retry-after-ms"],
    ) == (429, "2.5", "2500")
    assert "retry after 2.5 seconds" in answer.json()["error"]["message"]
    provider.personality = "anthropic_compat"
    provider.fault("*", trouble("overloaded"))
    assert (post().status_code, provider.refusals[-1].scripted) == (529, True)
    provider.personality = "lmstudio"
    provider.fault("*", trouble("overflow"))
    assert post(stream=True).text.startswith(
        'event: error\ndata: {"error":{"message":"Trying to keep the first 8193 tokens'
    )


def test_trouble_that_a_server_cannot_report_is_a_response_that_fails(
    provider: StandInProvider, post: Post
) -> None:
    provider.personality = "ogx"
    provider.fault("responses.create", trouble("rate_limited"))
    answer = post(path="/responses", input="hi")
    assert (answer.status_code, answer.json()["status"], answer.json()["error"]["code"]) == (
        200,
        "failed",
        "server_error",
    )


# --- refusals -------------------------------------------------------------------------------------

CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    ],
}
OUTPUT = {"role": "tool", "tool_call_id": "call_1", "content": "noon"}
SYSTEM = {"role": "system", "content": "Be kind."}
EMPTY_CALL = {
    **CALL,
    "tool_calls": [{**CALL["tool_calls"][0], "function": {"name": "now", "arguments": ""}}],
}  # type: ignore[index]


@pytest.mark.parametrize(
    ("flags", "messages", "fields", "words"),
    [
        ({"streams": "refused"}, [HI], {"stream": True}, "must be verified"),
        (
            {"stream_options": "refused"},
            [HI],
            {"stream": True, "stream_options": {"include_usage": True}},
            "stream_options",
        ),
        ({"system_role": "refused"}, [SYSTEM, HI], {}, "System role not supported"),
        ({"system_role": "refused_by_value"}, [SYSTEM, HI], {}, "does not support 'system'"),
        (
            {"system_role": "refused_as_developer"},
            [SYSTEM, HI],
            {},
            "Developer instruction is not enabled",
        ),
        ({"null_content": "refused"}, [HI, CALL, OUTPUT], {}, "expected a string, got null"),
        ({"null_content": "refused", "words": "ollama"}, [HI, CALL, OUTPUT], {}, "<nil>"),
        (
            {"empty_content": "refused"},
            [HI, {**CALL, "content": ""}, OUTPUT],
            {},
            "must be non-empty",
        ),
        ({"unreadable_arguments": "refused"}, [HI, EMPTY_CALL, OUTPUT], {}, "Expecting value"),
        ({"call_id_form": "nine"}, [HI, CALL, OUTPUT], {}, "with a length of 9"),
        ({"wants_turns": True}, [HI, HI], {}, "must alternate"),
        (
            {"after_tool": "assistant"},
            [HI, CALL, OUTPUT, HI],
            {},
            "Unexpected role 'user' after role 'tool'",
        ),
        (
            {"last_role": "user_or_tool"},
            [HI, {"role": "assistant", "content": "x"}],
            {},
            "Expected last role User or Tool",
        ),
        (
            {"reply_limit": "max_tokens"},
            [HI],
            {"max_completion_tokens": 5},
            "max_completion_tokens",
        ),
        (
            {"reply_limit": "max_completion_tokens"},
            [HI],
            {"max_tokens": 5},
            "Use 'max_completion_tokens' instead",
        ),
        ({"wants_reasoning": True}, [HI, CALL, OUTPUT], {}, "Missing `reasoning_content`"),
        ({"models": ("other",)}, [HI], {}, "`m` does not exist"),
        ({"moderates": "hi"}, [HI], {}, "flagged"),
        ({"context_words": 2}, [HI, HI, HI], {}, "maximum context length is 2 tokens"),
        (
            {"unknown_fields": "forbidden"},
            [{**HI, "mood": 1}],
            {},
            "Extra inputs are not permitted",
        ),
        (
            {"unknown_fields": "unsupported"},
            [{**HI, "mood": 1}],
            {},
            "property 'mood' is unsupported",
        ),
        (
            {"unknown_fields": "unsupported", "unknown_options": ("seed",)},
            [HI],
            {"seed": 1},
            "property 'seed' is unsupported",
        ),
    ],
    ids=lambda value: (
        ", ".join(f"{name}={held}" for name, held in value.items())
        if isinstance(value, dict)
        else ""
    ),
)
def test_each_flag_refuses_what_it_says_and_the_strict_server_takes_it(  # noqa: PLR0917 - a row of the table
    provider: StandInProvider,
    post: Post,
    flags: dict[str, Any],
    messages: list[Any],
    fields: dict[str, Any],
    words: str,
) -> None:
    provider.personality = Personality(**flags)
    answer = post(*messages, **fields)
    assert answer.status_code in {400, 404, 422}
    assert words in answer.text
    assert provider.runs == ()
    provider.personality = Personality(unknown_fields="ignored")
    assert post(*messages, **fields).status_code == 200


def test_ids_of_calls_must_begin_as_the_server_wants_it(
    provider: StandInProvider, post: Post
) -> None:
    provider.personality = Personality(call_id_form="call_")
    other = {**CALL, "tool_calls": [{**CALL["tool_calls"][0], "id": "abc123def"}]}  # type: ignore[index]
    answer = post(HI, other, {**OUTPUT, "tool_call_id": "abc123def"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (
        400,
        "messages[1].tool_calls[0].id",
    )
    assert post(HI, CALL, OUTPUT).status_code == 200


def test_unknown_fields_are_ignored_however_deep_they_are(
    provider: StandInProvider, post: Post
) -> None:
    provider.personality = Personality(unknown_fields="ignored")
    deep = {
        **CALL,
        "reasoning_content": "x",
        "tool_calls": [{**CALL["tool_calls"][0], "extra": {"a": 1}}],
    }  # type: ignore[index]
    assert post(HI, deep, OUTPUT, mood="good").status_code == 200
    assert post(HI, deep, OUTPUT, mood="good", temperature=9).status_code == 400, (
        "what is known is checked all the same"
    )


def test_a_place_is_named_where_fields_are_forbidden(provider: StandInProvider, post: Post) -> None:
    provider.personality = "mistral"
    body = post(HI, {"role": "assistant", "content": "x", "reasoning_content": "y"}, HI).json()
    (place,) = body["message"]["detail"]
    assert (body["object"], place["type"], place["loc"]) == (
        "error",
        "extra_forbidden",
        ["body", "messages", 1, "reasoning_content"],
    )


@pytest.mark.parametrize(
    ("flags", "fields", "words"),
    [
        ({"streams": "refused"}, {"stream": True}, "must be verified"),
        ({"background": "refused"}, {"background": True}, "Background mode is not supported"),
        ({"stream_in_background": "refused"}, {"background": True, "stream": True}, "together"),
        ({"input": "required"}, {"input": []}, "Missing required parameter: 'input'"),
        ({"models": ("other",)}, {}, "does not exist"),
        ({"moderates": "hi"}, {}, "flagged"),
        ({"context_words": 0}, {}, "maximum context length"),
        ({"truncation": "refused"}, {"truncation": "auto"}, "truncation"),
        (
            {"context_words": 0, "truncation": "ignored"},
            {"truncation": "auto"},
            "maximum context length",
        ),
    ],
    ids=lambda value: (
        ", ".join(f"{name}={held}" for name, held in value.items())
        if isinstance(value, dict)
        else ""
    ),
)
def test_each_flag_refuses_a_response(
    provider: StandInProvider, post: Post, flags: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    asked = {"conversation": provider.create_conversation(), "input": "hi", **fields}
    provider.personality = Personality(**flags)
    answer = post(path="/responses", **asked)
    assert (answer.status_code in {400, 404}, words in answer.text) == (True, True)
    provider.personality = Personality()
    assert post(path="/responses", **asked).status_code == 200


def test_a_conversation_that_is_too_long_is_cut_where_the_server_does_that(
    provider: StandInProvider, post: Post
) -> None:
    conversation = provider.create_conversation()
    for _ in range(3):
        post(path="/responses", conversation=conversation, input="one two three")
    provider.personality = Personality(context_words=6)
    assert (
        post(path="/responses", conversation=conversation, input="four").json()["error"]["code"]
        == "context_length_exceeded"
    )
    assert (
        post(
            path="/responses", conversation=conversation, input="four", truncation="auto"
        ).status_code
        == 200
    )
    provider.personality = Personality(context_words=6, truncation="always")
    assert post(path="/responses", conversation=conversation, input="four").status_code == 200
    provider.personality = "ogx"
    assert provider.personality.truncation == "always"


def test_open_calls_are_healed_by_outputs_alone_where_the_server_wants_that(
    provider: StandInProvider, post: Post
) -> None:
    provider.personality = "ogx"
    conversation = provider.create_conversation()
    provider.model = lambda turn: ToolCalls([("now", {})]) if turn.round == 0 else Reply("noon")
    call = post(path="/responses", conversation=conversation, input="time?").json()["output"][0]
    output = {"type": "function_call_output", "call_id": call["call_id"], "output": "noon"}
    text = {"role": "user", "content": "well?"}
    for items in ([text], [output, text], [text, output]):
        failed = post(path="/responses", conversation=conversation, input=items).json()
        assert (failed["status"], call["call_id"] in failed["error"]["message"]) == ("failed", True)
    assert (
        post(path="/responses", conversation=conversation, input=[output]).json()["status"]
        == "completed"
    )
    assert (
        post(path="/responses", conversation=conversation, input=[text]).json()["status"]
        == "completed"
    )
    unknown = post(
        path="/responses",
        conversation=conversation,
        input=[{**output, "call_id": "call_9"}],
        stream=True,
    )
    assert (unknown.status_code, chunks(unknown)[0]["code"]) == (200, "400")


def test_a_server_has_only_the_protocols_that_it_speaks(
    provider: StandInProvider, post: Post
) -> None:
    for name, expected in (
        ("ollama", (404, "404 page not found")),
        ("vllm", (404, '{"detail":"Not Found"}')),
        ("llama_cpp", (404, "File Not Found")),
    ):
        provider.personality = name
        answer = post(path="/conversations")
        assert (answer.status_code, expected[1] in answer.text) == (expected[0], True)
        assert post().status_code == 200


def test_a_model_is_known_or_not_on_every_path(provider: StandInProvider) -> None:
    def ask(model: str) -> httpx.Response:
        return httpx.get(
            f"{provider.base_url}/models/{model}",
            headers={"authorization": f"Bearer {provider.api_key}"},
        )

    assert ask("any").json()["id"] == "any"
    provider.personality = Personality(models=("llama",), words="ollama", speaks=("responses",))
    assert ask("llama").status_code == 200
    assert (ask("gemma").status_code, "try pulling it first" in ask("gemma").text) == (404, True)


def test_a_separate_process_can_be_another_server() -> None:
    command = [sys.executable, "-m", "assistant_queue.testing.provider", "--personality", "ollama"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        where = json.loads(process.stdout.readline())
        answer = httpx.post(f"{where['base_url']}/conversations", json={})
        process.terminate()
    assert (answer.status_code, answer.text) == (404, "404 page not found")
    assert process.returncode == 0


def test_any_key_is_taken_where_none_is_checked(provider: StandInProvider) -> None:
    for keys, status in (("any", 200), ("checked", 401)):
        provider.personality = Personality(keys=keys)
        answer = httpx.post(
            f"{provider.base_url}/chat/completions",
            json={"model": "m", "messages": [HI]},
            headers={"authorization": "Bearer x"},
        )
        assert answer.status_code == status


def test_every_named_server_answers_whole_and_in_a_stream(
    provider: StandInProvider, post: Post
) -> None:
    for name, named in NAMED.items():
        provider.personality = name
        if "chat_completions" not in named.personality.speaks:
            continue
        assert post().status_code == 200
        if named.personality.streams == "takes":
            assert post(stream=True).status_code == 200
