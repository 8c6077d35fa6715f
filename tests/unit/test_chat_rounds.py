"""An assistant's message with calls: what of it goes back, and what is remembered."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.backends.chat_completions.rounds import (
    add_fields,
    remembered,
    sent_back,
    without_own_fields,
)
from assistant_queue.backends.reasoning_tags import ReasoningTags


def grown(*deltas: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for delta in deltas:
        add_fields(found, delta)
    return found


@pytest.mark.parametrize(
    ("deltas", "fields"),
    [
        (
            [
                {"reasoning_content": "I "},
                {"reasoning_content": "think"},
                {"reasoning_content": None},
            ],
            {"reasoning_content": "I think"},
        ),
        (
            [{"reasoning": "a", "reasoning_content": "a"}, {"reasoning": "b"}],
            {"reasoning": "ab", "reasoning_content": "a"},
        ),
        (
            [
                {
                    "role": "assistant",
                    "content": "x",
                    "refusal": None,
                    "annotations": [],
                    "audio": {},
                    "tool_calls": [],
                    "id": "m",
                }
            ],
            {},
        ),
        ([{"reasoning_content": ""}, {"thinking_blocks": []}], {}),
        (
            [
                {
                    "reasoning_details": [
                        {
                            "type": "reasoning.text",
                            "text": "I ",
                            "format": "f",
                            "index": 0,
                            "signature": None,
                        }
                    ]
                },
                {
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": "think", "format": "f", "index": 0}
                    ]
                },
                {"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "e", "index": 1}]},
                {"reasoning_details": [{"type": "reasoning.encrypted", "data": "f", "index": 1}]},
            ],
            {
                "reasoning_details": [
                    {
                        "type": "reasoning.text",
                        "text": "I think",
                        "format": "f",
                        "index": 0,
                        "signature": "s",
                    },
                    {"type": "reasoning.encrypted", "data": "e", "index": 1},
                    {"type": "reasoning.encrypted", "data": "f", "index": 1},
                ]
            },
        ),
        (
            [
                {"thinking_blocks": [{"type": "thinking", "thinking": "I ", "signature": ""}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "think", "signature": "s"}]},
                {"thinking_blocks": [{"type": "thinking", "thinking": "again"}]},
                {"thinking_blocks": [{"type": "redacted_thinking", "data": "d"}]},
            ],
            {
                "thinking_blocks": [
                    {"type": "thinking", "thinking": "I think", "signature": "s"},
                    {"type": "thinking", "thinking": "again"},
                    {"type": "redacted_thinking", "data": "d"},
                ]
            },
        ),
        (
            [
                {"provider_specific_fields": {"a": 1, "b": 2}},
                {"provider_specific_fields": {"b": 3, "c": None}},
            ],
            {"provider_specific_fields": {"a": 1, "b": 3}},
        ),
        ([{"more": ["a"]}, {"more": ["b"]}], {"more": ["a", "b"]}),
        ([{"more": "a"}, {"more": 7}], {"more": 7}),
    ],
)
def test_the_servers_own_fields_are_put_together_from_all_chunks(
    deltas: list[dict[str, Any]], fields: dict[str, Any]
) -> None:
    assert grown(*deltas) == fields


def test_adding_to_fields_changes_no_chunk() -> None:
    first = {"reasoning_details": [{"type": "reasoning.text", "text": "I ", "index": 0}]}
    grown(first, {"reasoning_details": [{"type": "reasoning.text", "text": "think", "index": 0}]})
    assert first["reasoning_details"][0]["text"] == "I "


CALL = {
    "id": "c1",
    "type": "function",
    "function": {"name": "look", "arguments": '{"a": 1}', "strict": True},
    "extra_content": {"signature": "s"},
}
ROUND = {
    "role": "assistant",
    "content": "<think>hm</think>Wait.",
    "tool_calls": [CALL],
    "reasoning_content": "I think",
    "run_id": "r",
}


@pytest.mark.parametrize(
    ("call", "sent"),
    [
        (
            {"id": "c1", "function": {"name": "look", "arguments": ""}},
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ),
        (
            {"id": "c1", "type": "", "function": {"name": "look", "arguments": "{}"}},
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ),
        (
            {"id": "c1", "index": 0, "function": {"name": "look", "arguments": None}},
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
        ),
        (CALL, CALL),
    ],
)
def test_a_call_goes_back_whole(call: dict[str, Any], sent: dict[str, Any]) -> None:
    """Also one that version 0.1 has stored."""
    message = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "x"}
    assert sent_back(message) == {**message, "tool_calls": [sent]}


def test_other_messages_go_back_as_they_are() -> None:
    for message in (
        {"role": "user", "content": "x"},
        {"role": "tool", "tool_call_id": "c1", "content": "y"},
        {"role": "assistant", "content": "z", "tool_calls": []},
    ):
        assert sent_back(message) is message


def test_a_round_is_remembered_without_its_reasoning() -> None:
    plain = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    assert remembered(ROUND, ReasoningTags()) == {
        "role": "assistant",
        "content": "Wait.",
        "tool_calls": [plain],
        "run_id": "r",
    }
    assert remembered(ROUND, None)["content"] == ROUND["content"]
    assert remembered({**ROUND, "content": "<think>hm</think>"}, ReasoningTags())["content"] is None
    assert (
        remembered(
            {"role": "assistant", "content": "The tag is </think>.", "run_id": "r"}, ReasoningTags()
        )["content"]
        == "The tag is </think>."
    )


def test_a_server_that_refuses_its_own_fields_gets_the_messages_without_them() -> None:
    question = {"role": "user", "content": "x"}
    sent = without_own_fields(
        [question, {name: value for name, value in ROUND.items() if name != "run_id"}]
    )
    assert sent[0] == question
    assert set(sent[1]) == {"role", "content", "tool_calls"}
    assert set(sent[1]["tool_calls"][0]) == {"id", "type", "function"}
