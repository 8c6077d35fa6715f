"""Convert messages to the forms that servers require. Pure.

Each form is a remedy against a refusal.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any

from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.call_ids import prefixed, shortened
from assistant_queue.backends.openai.remedies import Remedy

Json = dict[str, Any]

_BRIDGE = "..."
"""Text between a tool's output and the next question, and before a conversation's first reply.
Chosen: it says nothing, and is not empty, which the same templates refuse, too."""


def in_form(messages: Sequence[Json], using: Container[Remedy]) -> list[Json]:
    """Return the messages as a server takes them with these remedies."""
    found = list(messages)
    if remedies.NO_SYSTEM in using:
        found = without_system(found)
    if remedies.AFTER_TOOLS in using:
        found = bridged(found)
    if remedies.TURNS in using:
        found = joined(found)
    if remedies.PLAIN_MESSAGES in using:
        found = [_plain(message) for message in found]
    for remedy, form in ((remedies.CALL_IDS, shortened), (remedies.PREFIXED_IDS, prefixed)):
        if remedy in using:
            found = [_with_ids(message, form) for message in found]
    if remedies.EMPTY_CONTENT in using:
        found = [
            {**message, "content": ""} if message.get("content", "") is None else message
            for message in found
        ]
    return found


def without_system(messages: Sequence[Json]) -> list[Json]:
    """Merge the system messages into the first user message."""
    system = [message["content"] for message in messages if message["role"] == "system"]
    found = [message for message in messages if message["role"] != "system"]
    first = next((place for place, message in enumerate(found) if message["role"] == "user"), None)
    if not system:
        return found
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *found]
    content = found[first]["content"]
    for text in reversed(system):
        content = _together(text, content)
    found[first] = {**found[first], "content": content}
    return found


def bridged(messages: Sequence[Json]) -> list[Json]:
    """Insert an assistant message between a tool's output and a question."""
    found: list[Json] = []
    for message in messages:
        if message["role"] == "user" and found and found[-1]["role"] == "tool":
            found.append({"role": "assistant", "content": _BRIDGE})
        found.append(message)
    return found


def _plain(message: Json) -> Json:
    plain = {name: value for name, value in message.items() if name in remedies.MESSAGE_FIELDS}
    if message.get("tool_calls"):
        plain["tool_calls"] = [
            {name: value for name, value in call.items() if name in remedies.CALL_FIELDS}
            for call in message["tool_calls"]
        ]
    return plain


def _with_ids(message: Json, form: Callable[[str], str]) -> Json:
    if message.get("tool_calls"):
        return {
            **message,
            "tool_calls": [{**call, "id": form(str(call["id"]))} for call in message["tool_calls"]],
        }
    if "tool_call_id" in message:
        return {**message, "tool_call_id": form(str(message["tool_call_id"]))}
    return message


def joined(messages: Sequence[Json]) -> list[Json]:
    """Merge neighbouring messages of one role; tool rounds stay as they are.

    For models with a template that requires the roles to alternate, a user's first.
    """
    found: list[Json] = []
    for message in messages:
        last = found[-1] if found else None
        if message["role"] == "assistant" and (last is None or last["role"] == "system"):
            last = {"role": "user", "content": _BRIDGE}
            found.append(last)
        is_plain = message["role"] != "tool" and not message.get("tool_calls")
        if (
            last is not None
            and is_plain
            and last["role"] == message["role"]
            and not last.get("tool_calls")
        ):
            found[-1] = {**last, "content": _together(last["content"], message["content"])}
        else:
            found.append(message)
    return found


def _together(first: str | list[Json], second: str | list[Json]) -> str | list[Json]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    parts: list[Json] = []
    for content in (first, second):
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts
