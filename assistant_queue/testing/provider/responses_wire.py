"""JSON of the Responses side: items, responses, and the events of their streams.

Source: the provider's published API description.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.script import Tokens
from assistant_queue.testing.provider.state import Conversation, Json

if TYPE_CHECKING:
    from assistant_queue.testing.provider.response import Response


def conversation_json(conversation: Conversation) -> Json:
    """A conversation."""
    return {
        "id": conversation.id,
        "object": "conversation",
        "created_at": conversation.created_at,
        "metadata": dict(conversation.metadata),
    }


def input_items(given: str | Sequence[Mapping[str, Any]]) -> list[Json]:
    """The input of a request as the items that may join the conversation, each with an id."""
    if isinstance(given, str):
        return [_message({"role": "user", "content": given})]
    return [_input_item(item) for item in given]


def _input_item(item: Mapping[str, Any]) -> Json:
    kind = item.get("type", "message")
    if kind == "message":
        return _message(item)
    prefix = {"function_call": "fc", "function_call_output": "fco"}.get(kind, "item")
    return {"id": item.get("id") or new_id(prefix), "status": "completed", **_without_none(item)}


def _message(item: Mapping[str, Any]) -> Json:
    content = item["content"]
    if isinstance(content, str):
        content = [
            output_text(content)
            if item["role"] == "assistant"
            else {"type": "input_text", "text": content}
        ]
    return {
        "id": item.get("id") or new_id("msg"),
        "type": "message",
        "status": "completed",
        "role": item["role"],
        "content": [dict(part) for part in content],
    }


def _without_none(item: Mapping[str, Any]) -> Json:
    return {name: held for name, held in item.items() if held is not None}


def output_text(text: str) -> Json:
    """The text part of something the model said."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def output_message(item_id: str, text: str | None, status: str) -> Json:
    """A message of the model; `text` None is one that has just begun."""
    content = [] if text is None else [output_text(text)]
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": content,
    }


def function_call(item_id: str, call_id: str, name: str, arguments: str, status: str) -> Json:
    """A call the model makes."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def compaction(item_id: str) -> Json:
    """Return the item that replaces all earlier ones."""
    return {"id": item_id, "type": "compaction", "encrypted_content": "all that was said"}


def usage_json(words_read: int, words_written: int, tokens: Tokens) -> Json:
    """Return the usage of a response."""
    given = words_read + tokens.cached + tokens.cache_write
    made = words_written + tokens.reasoning
    return {
        "input_tokens": given,
        "input_tokens_details": {
            "cached_tokens": tokens.cached,
            "cache_write_tokens": tokens.cache_write,
        },
        "output_tokens": made,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": given + made,
    }


def service_tier(asked: Json) -> str:
    """Return the tier that serves a request; no project here has another default."""
    tier = asked.get("service_tier") or "auto"
    return {"auto": "default", "fast": "priority"}.get(tier, tier)


def response_json(response: Response, *, names_conversation: bool = True) -> Json:
    """A response as it stands now."""
    asked = response.asked
    shown: Json = {
        "id": response.id,
        "object": "response",
        "created_at": response.created_at,
        "status": response.status,
        "background": response.is_background,
        "completed_at": response.completed_at,
        "error": response.error,
        "incomplete_details": response.incomplete,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "model": response.model,
        "output": response.output,
        "parallel_tool_calls": asked.get("parallel_tool_calls", True),
        "previous_response_id": asked.get("previous_response_id"),
        "prompt": asked.get("prompt"),
        "reasoning": asked.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": service_tier(asked),
        "store": asked.get("store", True),
        "temperature": asked.get("temperature", 1.0),
        "text": asked.get("text") or {"format": {"type": "text"}},
        "tool_choice": asked.get("tool_choice") or "auto",
        "tools": asked.get("tools") or [],
        "top_p": asked.get("top_p", 1.0),
        "truncation": asked.get("truncation") or "disabled",
        "usage": response.usage,
        "metadata": asked.get("metadata") or {},
    }
    if names_conversation:
        held = response.conversation
        shown["conversation"] = None if held is None else {"id": held.id}
    return shown
