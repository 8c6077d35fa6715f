"""Answers of many servers in the Chat Completions backend: bodies, ends, calls and texts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.core.runs import ActionRequired, RunEnded
from assistant_queue.errors import OutcomeUnknown, RequestRefused, StreamCut
from assistant_queue.models import Usage
from tests.contract.chat_servers import (
    DONE,
    STREAM,
    USAGE,
    Heard,
    Server,
    answer,
    ask,
    chunk,
    event,
    heard,
    http,
    request,
    stream,
    text,
)
from tests.fast_time import fast_time

FOREVER = float("inf")
BROKEN = http.ReadError("broken")
WHOLE = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    ],
    "usage": USAGE,
}


def call(
    name: str | None = "look", arguments: Any = "{}", ident: str | None = "call_1", **more: Any
) -> dict[str, Any]:
    """A delta with one call."""
    function = {
        key: value
        for key, value in {"name": name, "arguments": arguments}.items()
        if value is not None
    }
    return {
        "tool_calls": [
            {
                "index": 0,
                **({} if ident is None else {"id": ident}),
                "type": "function",
                "function": function,
                **more,
            }
        ]
    }


def calls_of(found: Heard) -> list[tuple[str, str, str]]:
    assert isinstance(found.stop, ActionRequired), found.stop
    return [(one.id, one.function.name, one.function.arguments) for one in found.stop.calls]


def transcript_of(found: Heard) -> list[dict[str, Any]]:
    return json.loads(found.stop.transcript)


# --- the body decides what it is ------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        STREAM,
        "text/event-stream; charset=utf-8",
        "text/plain",
        "application/json",
        "application/octet-stream",
        None,
    ],
)
@pytest.mark.parametrize(
    "body",
    [
        b"".join(map(event, [*text("hel", "lo", finish="stop"), DONE])),
        b"".join(map(event, [*text("hel", "lo", finish="stop"), DONE])).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + b"".join(map(event, text("hel", "lo", finish="stop"))).rstrip(),
        json.dumps(WHOLE).encode(),
        b"\n\n  " + json.dumps(WHOLE, indent=2).encode() + b"\n",
        json.dumps(text("hel", "lo", finish="stop"), indent=1).encode(),
        b"\n".join(json.dumps(one).encode() for one in text("hel", "lo", finish="stop")),
    ],
)
async def test_the_body_decides_what_it_is_and_not_its_type(kind: str | None, body: bytes) -> None:
    backend = Server(lambda: answer(body, kind=kind)).backend()
    found = await heard(backend)
    assert (found.text, found.reply, found.stop.status) == ("hello", "hello", "completed")
    await backend.close()


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(WHOLE).encode(),
        json.dumps(WHOLE, indent=2).encode() + b"\n",
        json.dumps([WHOLE]).encode(),
    ],
)
async def test_a_json_answer_is_read_though_its_connection_stays_open(body: bytes) -> None:
    with fast_time():
        backend = Server(lambda: answer(body, FOREVER, kind="application/json")).backend()
        found = await heard(backend)
    assert (found.reply, found.stop.usage) == (
        "hello",
        Usage(input_tokens=3, output_tokens=2, total_tokens=5, rounds=1),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"<html><body>Welcome</body></html>",
        b'"hello"',
        b"42",
        b"null\n",
        b"true\n",
        b"[]",
        b"[1, 2]",
        b"{",
        b"",
        b"Bad Gateway",
    ],
)
@pytest.mark.parametrize("kind", [STREAM, "application/json", "text/html"])
@pytest.mark.parametrize("stays_open", [True, False])
async def test_what_is_no_answer_says_nothing_about_the_outcome(
    body: bytes, kind: str, stays_open: bool
) -> None:
    with fast_time():
        backend = Server(
            lambda: answer(body, *([FOREVER] if stays_open else []), kind=kind)
        ).backend(stream_idle_timeout=5)
        with pytest.raises(OutcomeUnknown) as caught:
            await heard(backend)
    assert "Welcome" not in str(caught.value)


# --- how long is waited ---------------------------------------------------------------------------


SIGNS = [
    b": ping\n\n",
    b"\n",
    b"unknown: field\n\n",
    b"event: ping\ndata: {}\n\n",
    event({"type": "ping"}),
    b"data: ping\n\n",
    event({"choices": []}),
]


@pytest.mark.parametrize("sign", SIGNS)
async def test_every_byte_is_a_sign_of_life_before_and_between_events(sign: bytes) -> None:
    waits = [sign, 8.0] * 6
    with fast_time():
        backend = Server(
            lambda: stream(*waits, *text("hel"), *waits, *text("lo", finish="stop"), DONE)
        ).backend(request_timeout=5, stream_idle_timeout=10)
        assert (await heard(backend)).reply == "hello"


async def test_the_first_byte_is_waited_for_as_long_as_an_answer_and_the_next_ones_as_long_as_a_stream() -> (
    None
):
    with fast_time():
        for pieces, is_alive in (
            ([3.0, b": ok\n\n", 8.0], True),
            ([8.0, b": ok\n\n"], False),
            ([b": ok\n\n", 12.0], False),
        ):
            backend = Server(
                lambda pieces=pieces: stream(*pieces, *text("hello", finish="stop"))
            ).backend(request_timeout=5, stream_idle_timeout=10)
            if is_alive:
                assert (await heard(backend)).reply == "hello"
            else:
                with pytest.raises(OutcomeUnknown, match="sent nothing"):
                    await heard(backend)


async def test_silence_after_some_text_is_a_cut_stream() -> None:
    with fast_time():
        backend = Server(lambda: stream(*text("hel"), FOREVER)).backend(stream_idle_timeout=10)
        with pytest.raises(StreamCut):
            await heard(backend)


# --- how an answer ends ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end",
    [
        [DONE],
        [],
        [chunk({}, "stop")],
        [chunk({}, "stop"), DONE],
        [chunk({}, "stop"), FOREVER],
        [chunk({}, "stop", usage=USAGE), FOREVER],
        [chunk({}, "stop"), {"choices": [], "usage": USAGE}, FOREVER],
        [chunk({}, "stop"), BROKEN],
        [b"data: [DONE]\n", FOREVER],
    ],
)
async def test_an_answer_ends_with_its_body_the_servers_word_or_a_silence_after_a_reason(
    end: list[Any],
) -> None:
    with fast_time():
        found = await ask(*text("hel", "lo"), *end)
    assert (found.reply, found.stop.status, found.stop.incomplete_reason) == (
        "hello",
        "completed",
        None,
    )


@pytest.mark.parametrize(
    ("events", "within_s"),
    [
        ([*text("hello"), chunk({}, "stop")], 3.5),
        ([*text("hello"), chunk({}, "stop", usage=USAGE)], 1.0),
        ([chunk({"content": "hello"}, "stop", usage=USAGE)], 6.5),
        ([chunk({"content": "hello"}, "stop"), {"choices": [], "usage": USAGE}], 1.0),
        ([WHOLE], 1.0),
    ],
)
async def test_signs_of_life_do_not_keep_an_answer_that_has_ended(
    events: list[Any], within_s: float
) -> None:
    with fast_time():
        started = asyncio.get_running_loop().time()
        found = await ask(*events, *[b": ping\n\n", 0.2] * 1000)
        assert asyncio.get_running_loop().time() - started < within_s
    assert (found.reply, found.stop.status) == ("hello", "completed")


@pytest.mark.parametrize(
    "end",
    [
        [BROKEN],
        [FOREVER],
        [b'data: {"choices": [{"del'],
        [b"<html>504</html>\n"],
        [b'data: {"choices": \n\n'],
    ],
)
async def test_an_answer_that_is_broken_off_is_no_whole_one(end: list[Any]) -> None:
    with fast_time(), pytest.raises(StreamCut):
        await ask(*text("hel", "lo"), *end)


async def test_a_body_that_ends_without_the_usage_that_it_announced_is_cut() -> None:
    announced = [dict(one, usage=None) for one in text("hel", "lo")]
    with pytest.raises(StreamCut):
        await ask(*announced)
    for end in ([DONE], [chunk({}, "stop")], [{"choices": [], "usage": USAGE}]):
        assert (await ask(*announced, *end)).reply == "hello"


async def test_a_server_that_says_when_it_has_ended_is_cut_off_when_it_does_not() -> None:
    whole = [*text("hel", "lo", finish="stop"), DONE]
    bare = text("hel", "lo")
    for begins in (whole, [*bare, DONE], text("hel", "lo", finish="stop")):
        server = Server(
            lambda begins=begins: stream(*begins),
            lambda: stream(*bare),
            lambda: stream(*bare),
            lambda: stream(*bare),
        )
        backend = server.backend()
        assert (await heard(backend)).reply == "hello"
        with pytest.raises(StreamCut):
            await heard(backend)
        assert (await heard(backend)).reply == (await heard(backend)).reply == "hello", (
            "it may be another server now"
        )
        await backend.close()


async def test_a_stream_that_ends_before_a_word_and_without_a_word_is_cut() -> None:
    with pytest.raises(StreamCut):
        await ask(chunk({"role": "assistant", "content": ""}))


GOOD = [
    "stop",
    "STOP",
    "end",
    "end_turn",
    "eos",
    "eos_token",
    "stop_sequence",
    "complete",
    "COMPLETED",
    "finished",
    "Stop ",
    {"type": "stop"},
]
BAD = [
    "length",
    "content_filter",
    "insufficient_system_resource",
    "abort",
    "SAFETY",
    "MAX_TOKENS",
    "model_length",
    "network_error",
    "other",
    "x" * 500,
    7,
]


@pytest.mark.parametrize("reason", GOOD)
async def test_reasons_known_for_a_good_end_make_a_whole_answer(reason: Any) -> None:
    found = await ask(*text("hello", finish=reason), DONE)
    assert (found.stop.status, found.stop.incomplete_reason, found.reply) == (
        "completed",
        None,
        "hello",
    )


@pytest.mark.parametrize("reason", BAD)
async def test_every_other_reason_makes_an_incomplete_one_with_its_word(reason: Any) -> None:
    found = await ask(*text("hello", finish=reason), DONE)
    assert (found.stop.status, found.stop.incomplete_reason, found.reply) == (
        "incomplete",
        str(reason).lower()[:64],
        "hello",
    )


@pytest.mark.parametrize(
    "none", ["null", "None", "", "FINISH_REASON_UNSPECIFIED", False, 0, {}, []]
)
async def test_a_word_for_no_reason_is_none(none: Any) -> None:
    with fast_time():
        found = await ask(
            chunk({"content": "hel"}, none),
            60.0,
            chunk({"content": "lo"}, none),
            chunk({}, "stop"),
            DONE,
        )
    assert (found.reply, found.stop.status) == ("hello", "completed")


@pytest.mark.parametrize("more", [{}, {"usage": USAGE}])
@pytest.mark.parametrize("end", [[DONE], [], [FOREVER]])
async def test_text_after_a_reason_is_text(more: dict[str, Any], end: list[Any]) -> None:
    words = [
        one
        for word in ("one ", "two ", "three")
        for one in (chunk({"content": word}, "stop", **more), 5.0)
    ]
    with fast_time():
        found = await ask(chunk({"role": "assistant", "content": ""}, "stop", **more), *words, *end)
    assert (found.reply, found.text, found.stop.status) == (
        "one two three",
        "one two three",
        "completed",
    )


async def test_a_cut_between_chunks_that_all_have_a_reason_is_a_cut() -> None:
    with pytest.raises(StreamCut):
        await ask(*(chunk({"content": word}, "stop") for word in ("one ", "two ")), BROKEN)


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (("stop", "length"), "length"),
        (("length", "stop"), None),
        (("length", None), "length"),
        (("stop", None), None),
    ],
)
async def test_the_last_reason_counts_as_long_as_text_comes_with_it(
    reasons: tuple[Any, Any], expected: str | None
) -> None:
    found = await ask(
        chunk({"content": "one "}, reasons[0]), chunk({"content": "two"}, reasons[1]), DONE
    )
    assert found.stop.incomplete_reason == expected


async def test_a_good_reason_that_comes_alone_does_not_take_a_bad_one_back() -> None:
    found = await ask(chunk({"content": "one"}, "length"), chunk({}, "stop"), DONE)
    assert found.stop.incomplete_reason == "length"


# --- errors inside an answer ----------------------------------------------------------------------


ERRORS: dict[str, bytes] = {
    "an object": event({"error": {"message": "boom", "code": "server_error"}}),
    "with an id": event(
        {
            "id": "x",
            "error": {"message": "boom"},
            "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
        }
    ),
    "in a choice": event({"choices": [{"index": 0, "error": {"message": "boom"}, "delta": {}}]}),
    "a text": event({"error": "boom"}),
    "a list": event({"error": [{"message": "boom"}]}),
    "in a list": event([{"error": {"message": "boom"}}]),
    "a flat object": event({"object": "error", "message": "boom", "code": 500}),
    "a bare object": event({"object": "error", "message": "boom"}),
    "typed": event({"type": "error", "error": {"type": "api_error", "message": "boom"}}),
    "named": b'event: error\ndata: {"message": "boom"}\n\n',
    "named, plain": b"event: error\ndata: boom\n\n",
    "a field": b'error: {"code": 500, "message": "boom"}\n\n',
    "between events": b'{"error": {"message": "boom"}}\n\n',
    "a code": event({"code": 500, "message": "boom"}),
    "detail": event({"detail": "boom"}),
    "errors": event({"errors": [{"message": "boom"}]}),
    "base_resp": event({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "boom"}}),
}


@pytest.mark.parametrize("end", [[DONE], [], [FOREVER], [chunk({}, "stop"), DONE]])
@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_after_some_text_is_a_failed_attempt(name: str, end: list[Any]) -> None:
    with fast_time():
        found = await ask(*text("half an ans"), ERRORS[name], *end)
    assert isinstance(found.stop, RunEnded)
    assert found.stop.status == "failed"
    assert found.stop.error is not None
    if name not in {"detail", "errors"}:
        assert "boom" in found.stop.error.message


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_in_place_of_an_answer_starts_nothing(name: str) -> None:
    with pytest.raises((OutcomeUnknown, RequestRefused)):
        await ask(ERRORS[name], DONE)


async def test_an_error_after_a_reason_is_a_failed_attempt_too() -> None:
    assert (
        await ask(*text("half an ans", finish="stop"), ERRORS["an object"])
    ).stop.status == "failed"


async def test_a_reason_that_says_error_is_a_failed_attempt() -> None:
    assert (await ask(*text("half an ans", finish="error"), DONE)).stop.status == "failed"


@pytest.mark.parametrize("none", [None, "", {}, [], False])
async def test_an_error_that_is_nothing_is_none(none: Any) -> None:
    assert (
        await ask(*(dict(one, error=none) for one in text("hello", finish="stop")), DONE)
    ).stop.status == "completed"


@pytest.mark.parametrize(
    "sign",
    [
        {"type": "ping", "message": "still here"},
        {"status": "queued", "message": "you are number 3"},
    ],
)
async def test_a_message_that_is_no_error_is_a_sign_of_life(sign: Any) -> None:
    assert (await ask(sign, *text("hello", finish="stop"), sign, DONE)).reply == "hello"


# --- empty answers --------------------------------------------------------------------------------


EMPTY: dict[str, list[Any]] = {
    "nothing": [chunk({"role": "assistant", "content": ""}), chunk({}, "stop"), DONE],
    "null": [chunk({"content": None}, "stop"), DONE],
    "blanks": [chunk({"content": "\n"}), chunk({"content": " "}, "stop"), DONE],
    "only reasoning": [chunk({"reasoning_content": "hm"}), chunk({}, "stop"), DONE],
    "only tagged reasoning": [*text("<think>", "hm", "</think>", "\n", finish="stop"), DONE],
    "reasoning without an end": [*text("<think>", "hm", finish="stop"), DONE],
    "no reason": [chunk({"role": "assistant"}), DONE],
    "no chunk": [DONE],
    "whole": [
        dict(
            WHOLE,
            choices=[
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": None},
                    "finish_reason": "stop",
                }
            ],
        )
    ],
}


@pytest.mark.parametrize("name", EMPTY)
async def test_an_empty_answer_is_asked_for_once_more(name: str) -> None:
    counted = {"choices": [], "usage": USAGE}
    server = Server(
        lambda: stream(counted, *EMPTY[name]),
        lambda: stream(*text("hel", "lo", finish="stop"), counted, DONE),
    )
    found = await heard(server.backend())
    assert (found.text, found.reply, found.stop.status) == ("hello", "hello", "completed")
    assert found.stop.usage == Usage(input_tokens=6, output_tokens=4, total_tokens=10, rounds=2)
    assert len(server.bodies) == 2
    assert server.bodies[0] == server.bodies[1]


@pytest.mark.parametrize("name", EMPTY)
async def test_an_answer_that_stays_empty_is_incomplete(name: str) -> None:
    server = Server(lambda: stream(*EMPTY[name]))
    found = await heard(server.backend())
    assert (found.text, found.stop.replies, found.stop.status, found.stop.incomplete_reason) == (
        "",
        (),
        "incomplete",
        "empty",
    )
    assert len(server.bodies) == 2


async def test_of_an_answer_that_is_asked_for_again_nothing_was_heard_with_its_reasoning_either() -> (
    None
):
    server = Server(
        lambda: stream(*EMPTY["blanks"]),
        lambda: stream(*text("\n", "hel", " ", "lo", finish="stop"), DONE),
    )
    found = await heard(server.backend(reasoning_tags="keep"))
    assert (found.text, found.reply) == ("\nhel lo", "\nhel lo")


async def test_an_answer_that_is_empty_for_a_reason_is_not_asked_for_again() -> None:
    server = Server(lambda: stream(chunk({"reasoning_content": "hm"}), chunk({}, "length"), DONE))
    found = await heard(server.backend())
    assert (found.stop.status, found.stop.incomplete_reason, len(server.bodies)) == (
        "incomplete",
        "length",
        1,
    )


async def test_trouble_with_the_second_request_does_not_look_as_if_nothing_had_been_sent() -> None:
    refusal = {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}
    server = Server(
        lambda: stream(*EMPTY["nothing"]),
        lambda: http.Response(429, json=refusal, headers={"retry-after": "7"}),
    )
    with pytest.raises(StreamCut) as caught:
        await heard(server.backend())
    assert (caught.value.counts, caught.value.retry_after_s) == (False, 7.0)


# --- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reason", ["tool_calls", "function_call", "tool_use", "TOOL_CALL", "stop", None]
)
@pytest.mark.parametrize("end", [[DONE], []])
async def test_calls_are_calls_whatever_the_reason_says(reason: str | None, end: list[Any]) -> None:
    found = await ask(chunk(call(arguments='{"a"')), chunk(call(None, ": 1}", None), reason), *end)
    assert calls_of(found) == [("call_1", "look", '{"a": 1}')]


@pytest.mark.parametrize("arguments", ["", None, "{}", {}])
async def test_a_function_without_parameters_is_called_with_an_empty_object(arguments: Any) -> None:
    found = await ask(chunk(call(arguments=arguments), "tool_calls"), DONE)
    assert calls_of(found) == [("call_1", "look", "{}")]
    assert transcript_of(found)[0]["tool_calls"][0]["function"]["name"] == "look"


@pytest.mark.parametrize("end", [[], [DONE]])
@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "tool_use", "TOOL_CALLS"])
@pytest.mark.parametrize("said", [[], text("I will look.")])
async def test_calls_that_are_announced_and_missing_are_a_failed_attempt(
    reason: str, said: list[Any], end: list[Any]
) -> None:
    found = await ask(chunk({"role": "assistant"}), *said, chunk({"tool_calls": []}, reason), *end)
    assert isinstance(found.stop, RunEnded)
    assert (found.stop.status, found.stop.error and found.stop.error.code) == (
        "failed",
        "missing_tool_calls",
    )


async def test_a_call_without_a_name_is_missing() -> None:
    found = await ask(chunk(call("", "{}"), "tool_calls"), DONE)
    assert found.stop.error.code == "missing_tool_calls"


async def test_a_custom_tool_is_named_as_the_reason_of_the_failure() -> None:
    custom = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "grep", "input": "x"}}
    assert (
        await ask(chunk({"tool_calls": [custom]}, "tool_calls"), DONE)
    ).stop.error.code == "unsupported_tool_call"


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MODEL_LENGTH"])
async def test_calls_that_were_cut_short_are_not_made(reason: str) -> None:
    for arguments in ('{"ci', "", "{"):
        found = await ask(
            *text("Let me"), chunk(call(arguments=arguments)), chunk({}, reason), DONE
        )
        assert (found.stop.status, found.stop.incomplete_reason, found.reply) == (
            "incomplete",
            reason.lower(),
            "Let me",
        )
    assert calls_of(
        await ask(chunk(call(arguments='{"city": "Rome"}')), chunk({}, reason), DONE)
    ) == [("call_1", "look", '{"city": "Rome"}')]


@pytest.mark.parametrize("reason", ["content_filter", "malformed_function_call", "abort"])
async def test_calls_of_an_answer_that_went_wrong_are_not_made(reason: str) -> None:
    found = await ask(chunk(call()), chunk({}, reason), DONE)
    assert (found.stop.status, found.stop.incomplete_reason) == ("incomplete", reason)


async def test_a_call_that_the_end_of_the_body_cuts_is_not_made() -> None:
    with pytest.raises(StreamCut):
        await ask(chunk(call(arguments='{"ci')))


async def test_the_old_form_of_a_call_is_a_call() -> None:
    found = await ask(
        chunk({"function_call": {"name": "look", "arguments": ""}}),
        chunk({"function_call": {"arguments": '{"a": 1}'}}, "function_call"),
        DONE,
    )
    ((ident, name, arguments),) = calls_of(found)
    assert (bool(ident), name, arguments) == (True, "look", '{"a": 1}')
    message = {
        "role": "assistant",
        "content": None,
        "function_call": {"name": "look", "arguments": "{}"},
    }
    found = await ask(
        dict(WHOLE, choices=[{"index": 0, "message": message, "finish_reason": "function_call"}])
    )
    assert [one[1:] for one in calls_of(found)] == [("look", "{}")]
    assert transcript_of(found)[0]["tool_calls"][0]["type"] == "function"


@pytest.mark.parametrize("halves", [("\\ud83d", "\\ude00"), ("\\ud83d", "x"), ("x", "\\ude00")])
async def test_arguments_and_names_have_whole_characters_only(halves: tuple[str, str]) -> None:
    begun = event(chunk(call("lo\u00f6k", '{"t": "FIRST', "call_1"))).replace(
        b"FIRST", halves[0].encode()
    )
    rest = event(chunk(call(None, 'SECOND"}', None), "tool_calls")).replace(
        b"SECOND", halves[1].encode()
    )
    ((_, name, arguments),) = calls_of(await ask(begun, rest, DONE))
    arguments.encode()
    expected = {
        ("\\ud83d", "\\ude00"): "😀",
        ("\\ud83d", "x"): "\ufffdx",
        ("x", "\\ude00"): "x\ufffd",
    }[halves]
    assert (name, json.loads(arguments)) == ("loök", {"t": expected})


# --- rounds go back -------------------------------------------------------------------------------


async def a_round(
    server: Server, **options: Any
) -> tuple[Heard, RunEnded, list[dict[str, Any]], list[dict[str, Any]]]:
    """A batch with one round, and a batch after it: the round, the end, and the messages of the second and of the third request."""
    backend = server.backend(**options)
    asked = request("look")
    first = await heard(backend, asked)
    calls = first.stop.calls
    outputs = {one.id: "found" for one in calls}
    events = [
        one
        async for one in backend.submit(
            replace(asked, transcript=first.stop.transcript), first.stop.run_id, calls, outputs
        )
    ]
    ended = events[-1]
    assert isinstance(ended, RunEnded), ended
    await heard(backend, request("and?", batch="b2", anchor=ended.anchor))
    await backend.close()
    return first, ended, server.bodies[1]["messages"], server.bodies[2]["messages"]


def said_server(*events: Any) -> Server:
    return Server(lambda: stream(*events, DONE), lambda: stream(*text("done", finish="stop"), DONE))


async def test_what_a_thinking_model_gave_beside_its_calls_goes_back_with_them_and_is_then_forgotten() -> (
    None
):
    signed = {"extra_content": {"google": {"thought_signature": "s"}}}
    server = said_server(
        chunk({"role": "assistant", "content": None, "reasoning_content": "I should "}),
        chunk(
            {
                "reasoning_content": "look.",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "I should look.", "index": 0}
                ],
            }
        ),
        chunk(call(arguments="", **signed)),
        chunk({}, "tool_calls"),
    )
    _, ended, second, third = await a_round(server)
    (message,) = [one for one in second if one["role"] == "assistant"]
    assert message == {
        "role": "assistant",
        "content": None,
        "reasoning_content": "I should look.",
        "reasoning_details": [{"type": "reasoning.text", "text": "I should look.", "index": 0}],
        "tool_calls": [
            {
                "id": "call_1",
                "type": "function",
                "function": {"name": "look", "arguments": "{}"},
                **signed,
            }
        ],
    }
    plain = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert [one for one in third if one["role"] == "assistant"] == [
        {"role": "assistant", "content": None, "tool_calls": [plain]},
        {"role": "assistant", "content": "done"},
    ]
    assert "reasoning" not in (ended.anchor or "")


async def test_reasoning_between_tags_goes_back_with_its_calls_and_is_then_forgotten() -> None:
    """Models that think between their calls do worse without it."""
    server = said_server(
        *text("<think>I should", " look.</think>", "Wait."), chunk(call(), "tool_calls")
    )
    first, _, second, third = await a_round(server)
    assert (first.text, first.reply) == ("Wait.", "Wait.")
    assert [one["content"] for one in second if one["role"] == "assistant"] == [
        "<think>I should look.</think>Wait."
    ]
    assert [one["content"] for one in third if one["role"] == "assistant"] == ["Wait.", "done"]


@pytest.mark.parametrize("arguments", ["", "{", "[]", "not json"])
async def test_what_goes_back_is_json_that_every_server_can_read(arguments: str) -> None:
    _, _, second, third = await a_round(
        said_server(chunk(call(arguments=arguments, ident="")), chunk({}, "tool_calls"))
    )
    for messages in (second, third):
        ((one,),) = [message["tool_calls"] for message in messages if message.get("tool_calls")]
        (output,) = [message for message in messages if message["role"] == "tool"]
        assert json.loads(one["function"]["arguments"]) == {}
        assert one["type"] == "function"
        assert one["id"]
        assert output["tool_call_id"] == one["id"]
        assert "index" not in one


# --- texts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "events",
    [
        [
            {"choices": [{"delta": {"content": "hello"}}]},
            {"choices": [{"delta": {}, "finish_reason": "stop"}]},
        ],
        [{"id": None, "choices": None, "usage": None}, *text("hello", finish="stop")],
        [
            chunk(None),
            {"id": "x", "choices": [{"index": 0, "delta": None}]},
            *text("hello", finish="stop"),
        ],
        [
            chunk(
                {
                    "role": None,
                    "content": "hello",
                    "tool_calls": None,
                    "function_call": None,
                    "refusal": None,
                    "audio": None,
                }
            ),
            chunk({}, "stop"),
        ],
        [
            {"id": 17, "choices": [{"index": "0", "delta": {"content": "hello"}}]},
            {"id": 18, "choices": [{"index": 0.0, "delta": {}, "finish_reason": "stop"}]},
        ],
        [{"choices": {"index": 0, "delta": {"content": "hello"}}}, chunk({}, "stop")],
        [{"choices": [None, {"index": 0, "delta": {"content": "hello"}}]}, chunk({}, "stop")],
        [
            {"choices": [{"index": 1, "delta": {"content": "other"}}]},
            *text("hello"),
            {"choices": [{"index": 1, "delta": {}, "finish_reason": "length"}]},
        ],
        [
            {"choices": [{"index": 1, "delta": {"content": "hel"}}]},
            {"choices": [{"index": 1, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
        ],
        [
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": "hello"},
                        "finish_reason": "stop",
                    }
                ]
            }
        ],
        [
            {"choices": [{"index": 0, "message": {"content": "hel"}}]},
            {"choices": [{"index": 0, "message": {"content": "lo"}, "finish_reason": "stop"}]},
        ],
        [
            *text("hel", "lo"),
            {
                "choices": [
                    {
                        "index": 0,
                        "delta": {},
                        "message": {"role": "assistant", "content": "hello"},
                        "finish_reason": "stop",
                    }
                ]
            },
        ],
        [
            *text("hel", "lo"),
            {"choices": [{"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}]},
        ],
        [
            {"choices": [{"index": 0, "text": "hel"}]},
            {"choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
        ],
        [chunk({"content": ["hel", "lo"]}, "stop")],
        [
            chunk(
                {
                    "content": [
                        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                        None,
                        7,
                        {"type": "text", "text": "hello"},
                    ]
                },
                "stop",
            )
        ],
        [
            chunk(
                {
                    "content": [
                        {"text": "hel"},
                        {"type": "output_text", "text": "lo"},
                        {"type": "image_url"},
                        {"type": ["x"], "text": "y"},
                    ]
                },
                "stop",
            )
        ],
        [chunk({"content": {"type": "text", "text": "hello"}}, "stop")],
        [chunk({"refusal": "hel"}), chunk({"refusal": "lo"}, "stop")],
        [chunk({"content": [{"type": "refusal", "refusal": "hello"}]}, "stop")],
    ],
)
async def test_a_text_is_read_in_every_form(events: list[Any]) -> None:
    found = await ask(*events, DONE)
    assert (found.reply, found.stop.status) == ("hello", "completed")
    assert found.text in {"hello", ""}


@pytest.mark.parametrize("ident", [None, "", 0, True, {}, []])
async def test_a_completion_without_a_name_gets_one(ident: Any) -> None:
    found = await ask(*(dict(one, id=ident) for one in text("hello", finish="stop")), DONE)
    assert found.started.run_id in {"b-1-0", "0"}


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (USAGE, (3, 2, 5)),
        ({"prompt_tokens": 3.0, "completion_tokens": "2", "total_tokens": 5.9}, (3, 2, 5)),
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2, 5)),
        ({"prompt_tokens": None, "completion_tokens": 2, "total_tokens": {}}, (0, 2, 2)),
        ({"prompt_tokens": -1, "completion_tokens": True, "total_tokens": 5}, (0, 0, 5)),
        (
            {"prompt_tokens": 3, "input_tokens": 0, "completion_tokens": 2, "output_tokens": 0},
            (3, 2, 5),
        ),
        ({"prompt_tokens": "n/a", "completion_tokens": "", "total_tokens": []}, None),
        ({"prompt_tokens": None, "completion_tokens": None, "total_tokens": None}, None),
        ({"prompt_tokens": 10**400, "completion_tokens": 1e300, "total_tokens": "nan"}, None),
        ({}, None),
        (None, None),
        ("many", None),
        ([3, 2], None),
        (7, None),
    ],
)
async def test_odd_counts_never_cost_a_reply(
    usage: Any, counted: tuple[int, int, int] | None
) -> None:
    found = await ask(*text("hello", finish="stop"), {"choices": [], "usage": usage}, DONE)
    assert found.reply == "hello"
    given = found.stop.usage
    assert (
        None if given is None else (given.input_tokens, given.output_tokens, given.total_tokens)
    ) == counted


@pytest.mark.parametrize(
    "end",
    [
        chunk({}, "stop", x_groq={"usage": USAGE}),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},
    ],
)
async def test_counts_are_found_in_other_places(end: Any) -> None:
    assert (await ask(*text("hello"), end, DONE)).stop.usage == Usage(
        input_tokens=3, output_tokens=2, total_tokens=5, rounds=1
    )


@pytest.mark.parametrize(
    ("bodies", "reply"),
    [
        (["hi \\ud83d", "\\ude00 there"], "hi 😀 there"),
        (["hi \\ud83d there"], "hi \ufffd there"),
        (["hi \\ud83d"], "hi \ufffd"),
        (["\\ude00 hi"], "\ufffd hi"),
    ],
)
@pytest.mark.parametrize("end", [[chunk({}, "stop"), DONE], [DONE], []])
async def test_a_text_has_whole_characters_only(
    bodies: list[str], reply: str, end: list[Any]
) -> None:
    words = [event(chunk({"content": "HERE"})).replace(b"HERE", one.encode()) for one in bodies]
    found = await ask(*words, *end)
    assert (found.text, found.reply) == (reply, reply)
    json.loads(found.stop.anchor)[-1]["content"].encode()


# --- reasoning ------------------------------------------------------------------------------------


THOUGHT = [
    *text("<thi", "nk>", "let me", " see</", "think>", "\n\n", "hel", "lo", finish="stop"),
    DONE,
]


async def test_reasoning_is_no_part_of_a_reply_a_delta_or_the_history() -> None:
    found = await ask(*THOUGHT)
    assert (found.text, found.reply) == ("hello", "hello")
    assert "see" not in found.stop.anchor


async def test_reasoning_stays_if_it_is_to_stay() -> None:
    found = await ask(*THOUGHT, reasoning_tags="keep")
    whole = "<think>let me see</think>\n\nhello"
    assert (found.text, found.reply, json.loads(found.stop.anchor)[-1]["content"]) == (
        whole,
        whole,
        whole,
    )


async def test_code_that_mentions_a_tag_stays() -> None:
    whole = "It looks so:\n```\n<think>hm</think>\n```"
    assert (await ask(*text(*whole, finish="stop"), DONE)).reply == whole


async def test_a_template_that_opens_the_block_is_known_after_its_first_answer() -> None:
    backend = Server(
        lambda: stream(
            *text("let me", " see\n", "</think>", "\n\n", "hel", "lo", finish="stop"), DONE
        )
    ).backend()
    first, second = await heard(backend), await heard(backend)
    assert first.reply == second.reply == second.text == "hello"
    assert "see" not in first.stop.anchor
    await backend.close()


async def test_an_answer_out_of_room_in_the_middle_of_its_reasoning_is_cut_short() -> None:
    found = await ask(*text("<think>", "let me", finish="length"), DONE)
    assert (found.reply, found.stop.incomplete_reason) == (None, "length")
