"""The request of the Chat Completions backend, ready to be made: which fields it has, and which messages."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from functools import partial
from typing import Any

from assistant_queue.backends import chat_forms, chat_history, remedies
from assistant_queue.backends.chat_history import Json
from assistant_queue.backends.chat_rounds import sent_back
from assistant_queue.backends.content import assistants_tool, chat_content, request_options, run_metadata
from assistant_queue.backends.openai_clients import Channel
from assistant_queue.backends.remedies import Remedy
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

    def body(self, request: RunRequest, messages: Sequence[Json], using: Container[Remedy]) -> Json:
        """The request of a completion over `messages`, in the form that this server takes."""
        is_streamed = remedies.UNSTREAMED not in using
        body: Json = {
            "tools": [assistants_tool(tool) for tool in self._tools] if self._tools else None,
            "stream_options": {"include_usage": True},
            **self._fields,
            "stream": is_streamed,
            "messages": messages,
            # The provider takes metadata of what it stores only; other servers do not know the field at all.
            "metadata": run_metadata(request.items, request.batch.id, self._metadata) if self._fields.get("store") else None,
        }
        if not is_streamed or remedies.STREAM_OPTIONS in using:
            del body["stream_options"]
        for remedy, given, wanted in _BOUNDS:
            if remedy in using and given in body:
                body[wanted] = body.pop(given)
        return {name: value for name, value in body.items() if value is not None}

    def create(self, body: Json) -> Call:
        """The request, ready to be made."""
        # As `extra_body`, so that the client neither checks nor rebuilds it: options it does not know pass through.
        return partial(
            self._completions.create, model="", messages=[], extra_body=body, stream=body["stream"], timeout=self._timeout, **self._beside
        )


_BOUNDS = (
    (remedies.MAX_TOKENS, "max_completion_tokens", "max_tokens"),
    (remedies.MAX_COMPLETION_TOKENS, "max_tokens", "max_completion_tokens"),
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


def conversation(request: RunRequest, earlier: Sequence[Json], rounds: Sequence[Json], using: Container[Remedy]) -> list[Json]:
    """Everything the model is given: the instructions, the history, the batch, its rounds; in the form that this server takes."""
    system = [{"role": "system", "content": request.instructions}] if request.instructions else []
    messages = [sent_back(message) for message in chat_history.sent([*earlier, *asked(request), *rounds])]
    return chat_forms.in_form([*system, *messages], using)
