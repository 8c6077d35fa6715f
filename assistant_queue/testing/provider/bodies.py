"""Define the fields that each endpoint takes. A field that is not in the table is refused.

Source: the provider's published API description.
"""

from __future__ import annotations

from collections.abc import Mapping

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

# Source: the provider's published API description.
CONTENT_LENGTH = 256_000
ITEMS_PER_CALL = 20
ADDITIONAL_MESSAGES = 32
_OUTPUT_TOKENS_LEAST = 16
_RUN_TOKENS_LEAST = 256
_TEMPERATURE_MOST = 2
_TOOLS_PER_RUN = 20

_optional_text = nullable(text())
_optional_flag = nullable(boolean)
_optional_metadata = nullable(metadata)
_temperature = nullable(number(0, _TEMPERATURE_MOST))
_share = nullable(number(0, 1))


def _open_object(**fields: Check) -> Check:
    """Check the named fields of an object and let others through."""
    known = record(fields, fields)

    def check(value: object, path: str) -> None:
        known(
            {name: value[name] for name in fields if name in value}
            if isinstance(value, dict)
            else value,
            path,
        )

    return check


_CONTENT_PARTS: Mapping[str, Check] = {
    "input_text": record(
        {"type": anything, "text": text(), "prompt_cache_breakpoint": anything}, ["text"]
    ),
    "output_text": record(
        {"type": anything, "text": text(), "annotations": anything, "logprobs": anything}, ["text"]
    ),
    "refusal": record({"type": anything, "refusal": text()}, ["refusal"]),
    "input_image": _open_object(type=anything),
    "input_file": _open_object(type=anything),
}

_MESSAGE_ITEM = record(
    {
        "type": anything,
        "id": text(),
        "role": choice("user", "assistant", "system", "developer"),
        "content": text_or(array(tagged(_CONTENT_PARTS))),
        "status": nullable(choice("in_progress", "completed", "incomplete")),
        "phase": anything,
    },
    ["role", "content"],
)
_CALL_ITEM = record(
    {
        "type": anything,
        "id": _optional_text,
        "call_id": text(),
        "name": text(),
        "arguments": text(),
        "status": anything,
        "namespace": anything,
        "caller": anything,
    },
    ["call_id", "name", "arguments"],
)
_OUTPUT_ITEM = record(
    {
        "type": anything,
        "id": _optional_text,
        "call_id": text(64),
        "output": text_or(array(tagged(_CONTENT_PARTS))),
        "status": anything,
        "caller": anything,
    },
    ["call_id", "output"],
)
# Kept as they come: what a client hands back of earlier answers.
_OTHER_ITEMS = (
    "reasoning",
    "item_reference",
    "file_search_call",
    "web_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "custom_tool_call",
    "custom_tool_call_output",
    "computer_call",
    "computer_call_output",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
)
_INPUT_ITEM = tagged(
    {
        "message": _MESSAGE_ITEM,
        "function_call": _CALL_ITEM,
        "function_call_output": _OUTPUT_ITEM,
        **dict.fromkeys(_OTHER_ITEMS, _open_object(type=anything)),
    },
    default="message",
)

_FUNCTION_TOOL = record(
    {
        "type": anything,
        "name": text(64),
        "description": _optional_text,
        "parameters": anything,
        "strict": _optional_flag,
        "output_schema": anything,
        "defer_loading": anything,
        "allowed_callers": anything,
    },
    ["name"],
)
_BUILT_IN_TOOLS = (
    "file_search",
    "web_search",
    "web_search_preview",
    "code_interpreter",
    "image_generation",
    "mcp",
    "custom",
    "computer",
    "shell",
    "local_shell",
    "apply_patch",
    "tool_search",
    "namespace",
)
_RESPONSE_TOOL = tagged(
    {"function": _FUNCTION_TOOL, **dict.fromkeys(_BUILT_IN_TOOLS, _open_object(type=anything))}
)

CREATE_RESPONSE = record(
    {
        "model": text(),
        "input": text_or(array(_INPUT_ITEM)),
        "conversation": nullable(text_or(record({"id": text()}, ["id"]))),
        "previous_response_id": _optional_text,
        "instructions": _optional_text,
        "tools": array(_RESPONSE_TOOL),
        "tool_choice": anything,
        "parallel_tool_calls": _optional_flag,
        "max_tool_calls": nullable(number(whole=True)),
        "max_output_tokens": nullable(number(_OUTPUT_TOKENS_LEAST, whole=True)),
        "metadata": _optional_metadata,
        "prompt": nullable(
            record({"id": text(), "version": _optional_text, "variables": anything}, ["id"])
        ),
        "stream": _optional_flag,
        "stream_options": nullable(record({"include_obfuscation": boolean})),
        "background": _optional_flag,
        "background_options": nullable(
            record({"completion_window": choice("soonest", "2h", "8h"), "continuation_id": text()})
        ),
        "store": _optional_flag,
        "temperature": _temperature,
        "top_p": _share,
        "truncation": nullable(choice("auto", "disabled")),
        "user": text(),
        "include": nullable(array(text())),
        "reasoning": anything,
        "text": anything,
        "service_tier": anything,
        "safety_identifier": nullable(text(SAFETY_IDENTIFIER_LENGTH)),
        "prompt_cache_key": anything,
        "prompt_cache_retention": anything,
        "prompt_cache_options": anything,
        "top_logprobs": nullable(number(0, 20, whole=True)),
        "context_management": anything,
        "moderation": anything,
    }
)
CREATE_CONVERSATION = record(
    {"metadata": _optional_metadata, "items": nullable(array(_INPUT_ITEM, ITEMS_PER_CALL))}
)
UPDATE_CONVERSATION = record({"metadata": metadata}, ["metadata"])
CREATE_ITEMS = record({"items": array(_INPUT_ITEM, ITEMS_PER_CALL)}, ["items"])

_MESSAGE_PARTS: Mapping[str, Check] = {
    "text": record({"type": anything, "text": text(CONTENT_LENGTH, blank=False)}, ["text"]),
    "image_url": _open_object(image_url=_open_object(url=text())),
    "image_file": _open_object(image_file=_open_object(file_id=text())),
}
CREATE_MESSAGE = record(
    {
        "role": choice("user", "assistant"),
        "content": text_or(array(tagged(_MESSAGE_PARTS)), CONTENT_LENGTH, blank=False),
        "attachments": nullable(
            array(record({"file_id": text(), "tools": anything}, ["file_id", "tools"]))
        ),
        "metadata": _optional_metadata,
    },
    ["role", "content"],
)
_ASSISTANT_FUNCTION = record(
    {
        "type": anything,
        "function": record(
            {
                "name": text(64),
                "description": text(),
                "parameters": anything,
                "strict": _optional_flag,
            },
            ["name"],
        ),
    },
    ["function"],
)
_ASSISTANT_TOOL = tagged(
    {
        "function": _ASSISTANT_FUNCTION,
        "code_interpreter": record({"type": anything}),
        "file_search": _open_object(type=anything),
    }
)
_SETTINGS: Mapping[str, Check] = {
    "model": _optional_text,
    "metadata": _optional_metadata,
    "temperature": _temperature,
    "top_p": _share,
    "response_format": anything,
    "reasoning_effort": anything,
}
_RUN_SETTINGS: Mapping[str, Check] = {
    **_SETTINGS,
    "assistant_id": text(),
    "instructions": nullable(text(CONTENT_LENGTH)),
    "tools": nullable(array(_ASSISTANT_TOOL, _TOOLS_PER_RUN)),
    "stream": _optional_flag,
    "max_prompt_tokens": nullable(number(_RUN_TOKENS_LEAST, whole=True)),
    "max_completion_tokens": nullable(number(_RUN_TOKENS_LEAST, whole=True)),
    "truncation_strategy": anything,
    "tool_choice": anything,
    "parallel_tool_calls": boolean,
}
CREATE_ASSISTANT = record(
    {
        **_SETTINGS,
        "model": text(),
        "name": nullable(text(256)),
        "description": nullable(text(512)),
        "instructions": nullable(text(CONTENT_LENGTH)),
        "tools": array(_ASSISTANT_TOOL, 128),
        "tool_resources": anything,
    },
    ["model"],
)
CREATE_THREAD = record(
    {"messages": array(CREATE_MESSAGE), "metadata": _optional_metadata, "tool_resources": anything}
)
UPDATE_THREAD = record({"metadata": _optional_metadata, "tool_resources": anything})
CREATE_RUN = record(
    {
        **_RUN_SETTINGS,
        "additional_instructions": nullable(text(CONTENT_LENGTH)),
        "additional_messages": nullable(array(CREATE_MESSAGE, ADDITIONAL_MESSAGES)),
    },
    ["assistant_id"],
)
CREATE_THREAD_AND_RUN = record(
    {**_RUN_SETTINGS, "thread": CREATE_THREAD, "tool_resources": anything}, ["assistant_id"]
)
SUBMIT_OUTPUTS = record(
    {
        "tool_outputs": array(
            record({"tool_call_id": text(), "output": text()}, ["tool_call_id", "output"])
        ),
        "stream": _optional_flag,
    },
    ["tool_outputs"],
)
UPDATE_METADATA = record({"metadata": _optional_metadata})
