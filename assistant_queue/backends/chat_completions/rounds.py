"""Store, send back and remember the assistant's messages with calls. Pure.

A thinking model needs its reasoning back with the calls that it led to, under the server's own
field names, until the batch is answered; the history afterwards holds texts and calls only. So a
round keeps all of the server's fields, and the history none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistant_queue.backends.chat_completions.history import Json
from assistant_queue.backends.openai.call_arguments import for_server
from assistant_queue.backends.reasoning_tags import ReasoningTags

_KNOWN = frozenset(
    {
        "role",
        "content",
        "tool_calls",
        "tool_call_id",
        "function_call",
        "refusal",
        "name",
        "annotations",
        "audio",
    }
)
"""Fields of a message that the API names; the queue writes these itself."""

_OURS = frozenset({"id", "run_id"})
_REMEMBERED = frozenset({"id", "run_id", "role", "content", "tool_calls", "tool_call_id", "name"})
_CONTINUED = frozenset({"text", "thinking", "summary"})
"""Fields of a detail that come in pieces; the others come whole."""


# --- the server's own fields, out of many chunks --------------------------------------------------


def add_fields(found: Json, piece: Mapping[str, Any]) -> None:
    """Merge a delta's fields that only its server knows into those of earlier deltas.

    Texts and lists of details grow.
    """
    for name, value in piece.items():
        if name not in _KNOWN and name not in _OURS and value not in (None, "", []):
            found[name] = _grown(found.get(name), value)


def has_reasoning(fields: Mapping[str, Any]) -> bool:
    """Return whether a server sends its model's reasoning in a separate field."""
    return any(value and ("reason" in name or "think" in name) for name, value in fields.items())


def _grown(before: Any, value: Any) -> Any:
    if isinstance(before, str) and isinstance(value, str):
        return before + value
    if isinstance(before, list) and isinstance(value, list):
        return _grown_list(before, value)
    if isinstance(value, list):
        return _grown_list([], value)
    if isinstance(before, Mapping) and isinstance(value, Mapping):
        return {
            **before,
            **{name: one for name, one in value.items() if one is not None and one != ""},
        }
    return value


def _grown_list(before: Sequence[Any], added: Iterable[Any]) -> list[Any]:
    found = list(before)
    for one in added:
        place = _continued_by(found, one)
        if place is None:
            found.append(one)
            continue
        detail = dict(found[place])
        for name, value in one.items():
            if name in _CONTINUED and isinstance(value, str) and isinstance(detail.get(name), str):
                detail[name] += value
            elif value is not None and value != "":
                detail[name] = value
        found[place] = detail
    return found


def _continued_by(details: Sequence[Any], piece: Any) -> int | None:
    """Return the place of the detail that a piece continues, None if it begins one.

    A detail of its kind, under its index, or the last one unless that is signed.
    """
    if not isinstance(piece, Mapping):
        return None
    for place in reversed(range(len(details))):
        one = details[place]
        if (
            not isinstance(one, Mapping)
            or one.get("type") != piece.get("type")
            or one.get("index") != piece.get("index")
        ):
            continue
        is_text = any(
            isinstance(detail.get(name), str) for detail in (one, piece) for name in _CONTINUED
        )
        is_open = piece.get("index") is not None or (
            place == len(details) - 1 and not one.get("signature")
        )
        return place if is_text and is_open else None
    return None


# --- sent back, and remembered --------------------------------------------------------------------


def sent_back(message: Json) -> Json:
    """Return a message in the form that every server takes.

    Calls are whole and have a type, and their arguments are an object.
    """
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_sent_call(call) for call in calls]}


def _sent_call(call: Mapping[str, Any]) -> Json:
    function = call.get("function") or {}
    written = {
        **function,
        "name": str(function.get("name") or ""),
        "arguments": for_server(function.get("arguments")),
    }
    return {
        **{name: value for name, value in call.items() if name != "index"},
        "type": call.get("type") or "function",
        "function": written,
    }


def remembered(message: Json, tags: ReasoningTags | None) -> Json:
    """Return a message as the thread's history keeps it, without its server's own fields.

    A round loses the reasoning in its text, too.

    A reply has none left.
    """
    kept = {name: value for name, value in message.items() if name in _REMEMBERED}
    calls, content = kept.get("tool_calls"), kept.get("content")
    if not calls:
        return kept
    if tags is not None and isinstance(content, str):
        kept["content"] = tags.without(content, is_separate=has_reasoning(message)) or None
    return {**kept, "tool_calls": [_plain_call(call) for call in calls]}


def _plain_call(call: Mapping[str, Any]) -> Json:
    function = _sent_call(call)["function"]
    return {
        "id": call.get("id"),
        "type": "function",
        "function": {"name": function["name"], "arguments": function["arguments"]},
    }


def without_own_fields(messages: Iterable[Json]) -> list[Json]:
    """Return messages for a server that refuses its own fields.

    Only the API's fields are kept.
    """
    return [remembered(message, None) for message in messages]
