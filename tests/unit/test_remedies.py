"""Another form of a request that was refused: tried at once, remembered once it helped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue.backends.chat_completions import message_forms
from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.call_ids import is_short, shortened
from assistant_queue.backends.openai.remedies import Remedy, remedies_of
from assistant_queue.backends.openai.trouble_reader import read_trouble
from assistant_queue.trouble import Kind

SERVER = "http://a.server/v1/"


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    remedies.forget(SERVER)
    yield
    remedies.forget(SERVER)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


SYSTEM = {"role": "system", "content": "Be short."}
ASKED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ],
}
TOLD = {"role": "tool", "tool_call_id": "call_1", "content": "ok"}
ODD = {
    **ASKED,
    "reasoning_content": "hm",
    "tool_calls": [{**ASKED["tool_calls"][0], "extra_content": {"x": 1}}],
}

REFUSALS: dict[str, tuple[Remedy, dict[str, Any], Any]] = {
    "a stream": (
        remedies.UNSTREAMED,
        {"stream": True},
        {"message": "Streaming is not supported for this model.", "param": "stream"},
    ),
    "a stream, by the words alone": (
        remedies.UNSTREAMED,
        {"stream": True},
        {"message": "this account is not allowed to stream"},
    ),
    "a stream in the background": (
        remedies.UNSTREAMED,
        {"stream": True, "background": True},
        {"detail": "This server does not support 'stream' and 'background' together."},
    ),
    "the background": (
        remedies.FOREGROUND,
        {"stream": True, "background": True},
        {"message": "Unknown parameter: 'background'.", "param": "background"},
    ),
    "stream_options": (
        remedies.STREAM_OPTIONS,
        {"stream": True, "stream_options": {}},
        {"detail": "extra field: stream_options"},
    ),
    "a system role": (
        remedies.NO_SYSTEM,
        {"messages": [SYSTEM, user("hi")]},
        {"message": "Only user and assistant roles are supported!"},
    ),
    "a system value": (
        remedies.NO_SYSTEM,
        {"messages": [SYSTEM, user("hi")]},
        {"message": "'messages[0].role' does not support 'system' with this model."},
    ),
    "neighbours": (
        remedies.TURNS,
        {"messages": [user("a"), user("b")]},
        {"message": "Conversation roles must alternate user/assistant"},
    ),
    "a question after a tool": (
        remedies.AFTER_TOOLS,
        {"messages": [user("a"), ASKED, TOLD, user("b")]},
        {"message": "Unexpected role 'user' after role 'tool'"},
    ),
    "turns after a tool": (
        remedies.AFTER_TOOLS,
        {"messages": [user("a"), ASKED, TOLD, user("b")]},
        {"message": "After the optional system message, conversation roles must alternate"},
    ),
    "null as content": (
        remedies.EMPTY_CONTENT,
        {"messages": [user("a"), ASKED]},
        {"message": "messages.1.content: Input should be a valid string"},
    ),
    "ids": (
        remedies.CALL_IDS,
        {"messages": [user("a"), ASKED]},
        {"message": "Tool call id was call_1 but must be a-z, A-Z, 0-9, with a length of 9."},
    ),
    "ids that are too long": (
        remedies.CALL_IDS,
        {"messages": [ASKED]},
        {"message": "Invalid 'messages[0].tool_calls[0].id': string too long."},
    ),
    "fields of messages": (
        remedies.PLAIN_MESSAGES,
        {"messages": [ODD]},
        {"message": "property 'messages.0.reasoning_content' is unsupported"},
    ),
    "max_completion_tokens": (
        remedies.MAX_TOKENS,
        {"max_completion_tokens": 9},
        {"message": "Unrecognized request argument supplied: max_completion_tokens"},
    ),
    "max_tokens": (
        remedies.MAX_COMPLETION_TOKENS,
        {"max_tokens": 9},
        {
            "message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            "param": "max_tokens",
        },
    ),
    "no input": (
        remedies.INPUT,
        {"input": []},
        {"message": "Missing required parameter: 'input'.", "param": "input"},
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_is_met_by_its_remedy_and_no_other(case: str) -> None:
    wanted, body, error = REFUSALS[case]
    trouble = read_trouble(
        {"error": {"type": "invalid_request_error", **error}} if "detail" not in error else error,
        status=400,
    )
    assert trouble.kind is Kind.UNSUPPORTED
    every = tuple(dict.fromkeys((*remedies.CHAT, *remedies.RESPONSES)))
    known = remedies_of(SERVER, "m")
    trial = known.trial(every)
    assert trial.helps(trouble, body)
    assert [remedy for remedy in every if remedy in trial] == [wanted]
    assert not trial.helps(trouble, body) or wanted is remedies.UNSTREAMED, (
        "the same words a second time are no news"
    )


def test_a_remedy_is_remembered_once_the_server_has_taken_it_and_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    known = remedies_of(SERVER, "m")
    trial = known.trial(remedies.CHAT)
    trouble = read_trouble({"error": {"message": "System role not supported"}}, status=400)
    assert trial.helps(trouble, {"messages": [SYSTEM]})
    assert remedies.NO_SYSTEM not in known.trial(remedies.CHAT), "tried, not proven"
    trial.succeeded()
    trial.succeeded()
    assert remedies.NO_SYSTEM in remedies_of(SERVER, "m").trial(remedies.CHAT)
    assert remedies.NO_SYSTEM not in remedies_of(SERVER, "another").trial(remedies.CHAT)
    assert [record.message for record in caplog.records] == [
        f"model 'm' at {SERVER}: {remedies.NO_SYSTEM.effect}"
    ]


def test_nothing_helps_against_what_the_request_does_not_have() -> None:
    trial = remedies_of(SERVER, "m").trial(remedies.CHAT)
    assert not trial.helps(
        read_trouble({"message": "System role not supported"}, status=400),
        {"messages": [user("hi")]},
    )
    assert not trial.helps(
        read_trouble({"message": "System role not supported"}, status=401), {"messages": [SYSTEM]}
    )
    assert not trial.helps(None, {"messages": [SYSTEM]})


def test_the_forms() -> None:
    plain = [SYSTEM, user("a"), ODD, TOLD, user("b"), user("c")]
    assert message_forms.in_form(plain, ()) == plain
    assert message_forms.in_form(plain, {remedies.NO_SYSTEM})[0] == user("Be short.\n\na")
    assert message_forms.in_form(
        [SYSTEM, user([{"type": "text", "text": "a"}])], {remedies.NO_SYSTEM}
    ) == [user([{"type": "text", "text": "Be short."}, {"type": "text", "text": "a"}])]
    assert message_forms.in_form([SYSTEM], {remedies.NO_SYSTEM}) == [user("Be short.")]
    roles = [
        message["role"]
        for message in message_forms.in_form(plain, {remedies.AFTER_TOOLS, remedies.TURNS})
    ]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert message_forms.in_form(plain, {remedies.EMPTY_CONTENT})[2]["content"] == ""
    assert message_forms.in_form(plain, {remedies.PLAIN_MESSAGES})[2] == ASKED
    sent = message_forms.in_form(plain, {remedies.CALL_IDS})
    assert is_short(sent[3]["tool_call_id"])
    assert sent[3]["tool_call_id"] == sent[2]["tool_calls"][0]["id"]


def test_short_ids_are_the_same_for_the_same_id_and_differ_for_others() -> None:
    ids = [shortened(f"call_{number}") for number in range(1000)]
    assert all(map(is_short, ids))
    assert len(set(ids)) == 1000
    assert shortened(ids[0]) == ids[0] == shortened("call_0")
