"""Define the fields of a chat completion, and the rules between its messages.

Source: the provider's published API description, and the wording of its errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.testing.provider.api_errors import (
    ApiProblem,
    calls_without_tool,
    only_with,
    tool_without_calls,
)
from assistant_queue.testing.provider.chat_refusals import check_taken
from assistant_queue.testing.provider.checks import (
    SAFETY_IDENTIFIER_LENGTH,
    Check,
    anything,
    array,
    boolean,
    choice,
    metadata,
    nullable,
    number,
    record,
    tagged,
    text,
    text_or,
)
from assistant_queue.testing.provider.context_limits import check_messages
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.state import Json

_MOST_TOOLS = 128
_MOST_STOPS = 4

_optional_text = nullable(text())
_optional_flag = nullable(boolean)

_TEXT_PART = record(
    {"type": anything, "text": text(), "prompt_cache_breakpoint": anything}, ["text"]
)
_USER_PARTS: Mapping[str, Check] = {
    "text": _TEXT_PART,
    "image_url": record(
        {
            "type": anything,
            "image_url": record({"url": text(), "detail": choice("auto", "low", "high")}, ["url"]),
            "prompt_cache_breakpoint": anything,
        },
        ["image_url"],
    ),
    "input_audio": record(
        {
            "type": anything,
            "input_audio": record(
                {"data": text(), "format": choice("wav", "mp3")}, ["data", "format"]
            ),
            "prompt_cache_breakpoint": anything,
        },
        ["input_audio"],
    ),
    "file": record(
        {
            "type": anything,
            "file": record({"filename": text(), "file_data": text(), "file_id": text()}),
            "prompt_cache_breakpoint": anything,
        },
        ["file"],
    ),
}
_TEXTS = text_or(array(tagged({"text": _TEXT_PART})))
_CALL = tagged(
    {
        "function": record(
            {
                "id": text(),
                "type": anything,
                "function": record({"name": text(), "arguments": text()}, ["name", "arguments"]),
            },
            ["id", "function"],
        ),
        "custom": record(
            {
                "id": text(),
                "type": anything,
                "custom": record({"name": text(), "input": text()}, ["name", "input"]),
            },
            ["id"],
        ),
    }
)
_MESSAGES: Mapping[str, Check] = {
    "developer": record({"role": anything, "content": _TEXTS, "name": text()}, ["content"]),
    "system": record({"role": anything, "content": _TEXTS, "name": text()}, ["content"]),
    "user": record(
        {"role": anything, "content": text_or(array(tagged(_USER_PARTS))), "name": text()},
        ["content"],
    ),
    "assistant": record(
        {
            "role": anything,
            "content": nullable(
                text_or(
                    array(
                        tagged(
                            {
                                "text": _TEXT_PART,
                                "refusal": record({"type": anything, "refusal": text()}),
                            }
                        )
                    )
                )
            ),
            "refusal": _optional_text,
            "name": text(),
            "audio": anything,
            "tool_calls": array(_CALL),
            "function_call": anything,
        }
    ),
    "tool": record(
        {"role": anything, "content": _TEXTS, "tool_call_id": text()}, ["content", "tool_call_id"]
    ),
    "function": record(
        {"role": anything, "content": _optional_text, "name": text()}, ["content", "name"]
    ),
}


def _message(value: Any, path: str) -> None:
    role = value.get("role") if isinstance(value, dict) else None
    choice(*_MESSAGES)(role, f"{path}.role")
    _MESSAGES[str(role)](value, path)


_TOOL = tagged(
    {
        "function": record(
            {
                "type": anything,
                "function": record(
                    {
                        "name": text(64),
                        "description": text(),
                        "parameters": anything,
                        "strict": _optional_flag,
                        "output_schema": anything,
                    },
                    ["name"],
                ),
            },
            ["function"],
        ),
        "custom": record({"type": anything, "custom": anything}, ["custom"]),
    }
)

CREATE_CHAT_COMPLETION = record(
    {
        "messages": array(_message),
        "model": text(),
        "stream": _optional_flag,
        "stream_options": nullable(
            record({"include_usage": boolean, "include_obfuscation": boolean})
        ),
        "tools": array(_TOOL, _MOST_TOOLS),
        "tool_choice": anything,
        "parallel_tool_calls": boolean,
        "functions": anything,
        "function_call": anything,
        "max_tokens": nullable(number(whole=True)),
        "max_completion_tokens": nullable(number(whole=True)),
        "temperature": nullable(number(0, 2)),
        "top_p": nullable(number(0, 1)),
        "top_logprobs": nullable(number(0, 20, whole=True)),
        "n": nullable(number(1, 128, whole=True)),
        "stop": nullable(text_or(array(text(), _MOST_STOPS))),
        "presence_penalty": nullable(number(-2, 2)),
        "frequency_penalty": nullable(number(-2, 2)),
        "logit_bias": anything,
        "logprobs": _optional_flag,
        "seed": nullable(number(whole=True)),
        "response_format": anything,
        "reasoning_effort": anything,
        "verbosity": anything,
        "modalities": anything,
        "audio": anything,
        "prediction": anything,
        "web_search_options": anything,
        "moderation": anything,
        "service_tier": anything,
        "store": _optional_flag,
        "metadata": nullable(metadata),
        "user": text(),
        "safety_identifier": nullable(text(SAFETY_IDENTIFIER_LENGTH)),
        "prompt_cache_key": anything,
        "prompt_cache_retention": anything,
        "prompt_cache_options": anything,
    },
    ["messages", "model"],
)


def check_request(asked: Json, server: Personality) -> None:
    """Refuse what the fields alone do not show.

    Raises:
        ApiProblem: In the provider's words.
    """
    if (
        asked.get("stream_options") is not None
        and server.stream_options == "takes"
        and not asked.get("stream")
    ):
        raise only_with("stream_options", "stream")
    if asked.get("metadata") and not asked.get("store"):
        raise only_with("metadata", "store")
    _check_messages(asked["messages"])
    check_taken(asked, server)
    check_messages(asked["messages"], server)


def _check_messages(messages: Sequence[Json]) -> None:
    if not messages:
        problem = (
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead."
        )
        raise ApiProblem(problem, code="empty_array", param="messages")
    owner = 0
    left = dict[str, None]()
    for place, message in enumerate(messages):
        if message["role"] == "tool":
            if message["tool_call_id"] not in left:
                raise tool_without_calls(place)
            del left[message["tool_call_id"]]
            continue
        if left:
            raise calls_without_tool(owner, list(left))
        if message["role"] == "assistant":
            owner = place
            left = dict.fromkeys(call["id"] for call in message.get("tool_calls") or ())
            if not left and not message.get("content") and not message.get("refusal"):
                raise ApiProblem(
                    "Invalid value for 'content': expected a string, got null.",
                    param=f"messages.[{place}].content",
                )
    if left:
        raise calls_without_tool(owner, list(left))
