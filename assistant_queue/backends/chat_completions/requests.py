"""Build the request of the Chat Completions backend: its fields and its messages."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from assistant_queue.backends.chat_completions import history as chat_history
from assistant_queue.backends.chat_completions import message_forms
from assistant_queue.backends.chat_completions.history import Json
from assistant_queue.backends.chat_completions.rounds import sent_back
from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.content import (
    assistants_tool,
    chat_content,
    request_options,
    run_metadata,
)
from assistant_queue.backends.openai.foreign_calls import UNANSWERED
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.remedies import Remedy
from assistant_queue.backends.openai.streams import Call
from assistant_queue.core.runs import RunRequest
from assistant_queue.models import ToolCall


class ChatCalls:
    """Build the one request of this protocol; send none."""

    def __init__(
        self,
        channel: ProviderChannel,
        *,
        model: str,
        tools: Sequence[Mapping[str, Any]] | None,
        run_options: Mapping[str, Any] | None,
    ) -> None:
        self._channel = channel
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        if "max_output_tokens" in options:
            options["max_completion_tokens"] = options.pop("max_output_tokens")
        self._tools = tools
        self._fields: Json = {"model": model, **options}

    def body(self, request: RunRequest, messages: Sequence[Json], using: Container[Remedy]) -> Json:
        """Build the body of a completion over `messages`, in the form that this server takes."""
        is_streamed = remedies.UNSTREAMED not in using
        body: Json = {
            "tools": [assistants_tool(tool) for tool in self._tools] if self._tools else None,
            "stream_options": {"include_usage": True},
            **self._fields,
            "stream": is_streamed,
            "messages": messages,
            # The provider takes metadata only for completions that it stores; other servers do not
            # know the field.
            "metadata": run_metadata(request.items, request.batch.id, self._metadata)
            if self._fields.get("store")
            else None,
        }
        if not is_streamed or remedies.STREAM_OPTIONS in using:
            del body["stream_options"]
        for remedy, given, wanted in _BOUNDS:
            if remedy in using and given in body:
                body[wanted] = body.pop(given)
        return {name: value for name, value in body.items() if value is not None}

    def create(self, body: Json) -> Call:
        """Return the request for a body."""
        return self._channel.write("/chat/completions", body, is_bounded=True, **self._beside)


_BOUNDS = (
    (remedies.MAX_TOKENS, "max_completion_tokens", "max_tokens"),
    (remedies.MAX_COMPLETION_TOKENS, "max_tokens", "max_completion_tokens"),
)


def asked(request: RunRequest) -> list[Json]:
    """Convert the batch to messages, each with our id."""
    return [
        {
            "id": f"{request.batch.id}-{number}",
            "role": item.role,
            "content": chat_content(item.content),
        }
        for number, item in enumerate(request.items)
    ]


def added(request: RunRequest) -> list[Json]:
    """Convert the messages that go with the outputs of a round."""
    return [{"role": item.role, "content": chat_content(item.content)} for item in request.added]


def rounds_of(request: RunRequest) -> list[Json]:
    """Return the batch's rounds so far, as messages."""
    found: list[Json] = json.loads(request.transcript) if request.transcript else []
    return found


def written(
    request: RunRequest, earlier: Sequence[Json]
) -> tuple[RunRequest, Sequence[Json], list[Json]]:
    """Return a batch that no run answers, the history before it, and what was said after it.

    The rounds of a batch that was stopped, with an output for each call, stand before the partial
    reply at its end.
    """
    rounds = rounds_of(request)
    calls = rounds[-1].get("tool_calls") or () if rounds else ()
    rounds += [
        {
            "role": "tool",
            "tool_call_id": call["id"],
            "content": request.outputs.get(call["id"], UNANSWERED),
        }
        for call in calls
    ]
    rounds += added(request)
    *own, last = request.items or (None,)
    if not rounds or last is None or last.role != "assistant":
        return request, earlier, rounds
    said = {"role": "assistant", "content": chat_content(last.content)}
    return replace(request, items=tuple(own)), earlier, [*rounds, said]


def conversation(
    request: RunRequest, earlier: Sequence[Json], rounds: Sequence[Json], using: Container[Remedy]
) -> list[Json]:
    """Return all messages for the model: instructions, history, the batch and its rounds.

    In the form that this server takes.
    """
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    messages = [
        sent_back(message) for message in chat_history.sent([*earlier, *asked(request), *rounds])
    ]
    return message_forms.in_form([*system, *messages], using)


def with_arguments(call: ToolCall) -> Json:
    """Convert a call of a round that another backend made."""
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": call.function.arguments},
    }
