"""The request of the Chat Completions backend, ready to be made: which fields it has, and which messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from assistant_queue.backends import chat_history
from assistant_queue.backends.chat_history import Json
from assistant_queue.backends.chat_rounds import sent_back
from assistant_queue.backends.content import assistants_tool, chat_content, request_options, run_metadata
from assistant_queue.backends.openai_clients import Channel
from assistant_queue.backends.streams import Call
from assistant_queue.core.runs import RunRequest


class ChatCalls:
    """Builds the one request of this protocol; sends none."""

    def __init__(
        self, channel: Channel, *, model: str, tools: Sequence[Mapping[str, Any]] | None, run_options: Mapping[str, Any] | None
    ) -> None:
        self._completions = channel.writing.chat.completions.with_streaming_response
        self._timeout = channel.stream_timeout
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        if "max_output_tokens" in options:
            options["max_completion_tokens"] = options.pop("max_output_tokens")
        self._tools = tools
        self._fields: Json = {"model": model, **options}

    def create(self, request: RunRequest, messages: Sequence[Json], *, asks_usage: bool) -> Call:
        """A streamed completion over `messages`."""
        body: Json = {
            "tools": [assistants_tool(tool) for tool in self._tools] if self._tools else None,
            **({"stream_options": {"include_usage": True}} if asks_usage else {}),
            **self._fields,
            "messages": messages,
            # The provider takes metadata of what it stores only; other servers do not know the field at all.
            "metadata": run_metadata(request.items, request.batch.id, self._metadata) if self._fields.get("store") else None,
        }
        # As `extra_body`, so that the client neither checks nor rebuilds it: options it does not know pass through.
        wanted = {name: value for name, value in body.items() if value is not None}
        return partial(
            self._completions.create, model="", messages=[], extra_body=wanted, stream=True, timeout=self._timeout, **self._beside
        )


def asked(request: RunRequest) -> list[Json]:
    """The batch as messages, each with an id of ours."""
    return [
        {"id": f"{request.batch.id}-{number}", "role": "user", "content": chat_content(item.content)}
        for number, item in enumerate(request.items)
    ]


def rounds_of(request: RunRequest) -> list[Json]:
    """The batch's rounds so far, as messages."""
    found: list[Json] = json.loads(request.transcript) if request.transcript else []
    return found


def conversation(request: RunRequest, earlier: Sequence[Json], rounds: Sequence[Json], *, joins: bool) -> list[Json]:
    """Everything the model is given: the instructions, the history, the batch, its rounds."""
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    messages = [sent_back(message) for message in chat_history.sent([*earlier, *asked(request), *rounds])]
    return [*system, *(joined(messages) if joins else messages)]


def joined(messages: Sequence[Json]) -> list[Json]:
    """Neighbours of one role as one message, for models whose template wants the roles to take turns; tool rounds stay as they are."""
    found: list[Json] = []
    for message in messages:
        last = found[-1] if found else None
        is_plain = message["role"] != "tool" and not message.get("tool_calls")
        if last is not None and is_plain and last["role"] == message["role"] and not last.get("tool_calls"):
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
