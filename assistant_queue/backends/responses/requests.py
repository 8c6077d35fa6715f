"""Build the requests of the Responses backend."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.content import (
    MAX_VALUE,
    own_metadata,
    request_options,
    responses_content,
    responses_tool,
    run_metadata,
)
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.remedies import Remedy
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import Call, Json
from assistant_queue.core.runs import InputItem, RunRequest

_NO_ITEM = "msg_" + "0" * 32
"""Chosen: of the form that items' ids have; none has this one."""


_NUDGE = {"type": "message", "role": "user", "content": "..."}
"""The input of a request that has nothing to say, for servers that insist on some. Chosen: empty
texts are refused by the same servers."""


class ResponsesCalls:
    """Build every request that changes something at the provider; send none.

    The request that resumes a stream is built here, too.
    """

    def __init__(
        self,
        channel: ProviderChannel,
        *,
        model: str | None,
        prompt: str | Mapping[str, Any] | None,
        tools: Sequence[Mapping[str, Any]] | None,
        run_options: Mapping[str, Any] | None,
    ) -> None:
        self._channel = channel
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        self._tools = tools
        self._fields: Json = {
            "model": model,
            "prompt": {"id": prompt} if isinstance(prompt, str) else prompt,
            **options,
        }

    @property
    def _body(self) -> Json:
        """Set the fields that every response is created with.

        The tools are asked for each time: some may have been added since.
        """
        return {
            "tools": [responses_tool(tool) for tool in self._tools] if self._tools else None,
            **self._fields,
        }

    def create_conversation(self, thread_id: str) -> Call:
        """A new conversation that names our thread."""
        return self._channel.write(
            "/conversations", {"metadata": {"thread": thread_id[:MAX_VALUE]}}
        )

    def delete_conversation(self, conversation_id: str) -> Call:
        """The end of a conversation."""
        return self._channel.delete(path_of("conversations", conversation_id))

    def body(
        self,
        request: RunRequest,
        items: Sequence[Json],
        using: Container[Remedy],
        *,
        in_background: bool,
        is_streamed: bool = True,
    ) -> Json:
        """The request of a response over `items`, in the form that this server takes."""
        body = {
            **self._body,
            "conversation": request.conversation_id,
            "input": list(items) or ([_NUDGE] if remedies.INPUT in using else []),
            "instructions": request.instructions or self._body.get("instructions"),
            "metadata": run_metadata(request.items, request.batch.id, self._metadata),
            "background": True if in_background and remedies.FOREGROUND not in using else None,
            "stream": True if is_streamed and remedies.UNSTREAMED not in using else None,
        }
        if remedies.TRUNCATION in using:
            body["truncation"] = "auto"
        if remedies.COMPACTION in using:
            body.setdefault("context_management", [{"type": "compaction"}])
        return {name: value for name, value in body.items() if value is not None}

    def create(self, body: Json) -> Call:
        """The request, ready to be made."""
        return self._channel.write("/responses", body, is_bounded=True, **self._beside)

    def seed(self, thread_id: str, items: Sequence[Any]) -> Call:
        """A new conversation that begins with these items."""
        return self._channel.write(
            "/conversations",
            {"metadata": {"thread": thread_id[:MAX_VALUE]}, "items": list(items)},
        )

    def resume(self, run_id: str, cursor: int) -> Call:
        """The stream of a background response after an event."""
        return self._channel.read(
            path_of("responses", run_id),
            {"starting_after": cursor, "stream": True},
            is_bounded=True,
        )

    def cancel(self, run_id: str) -> Call:
        """The wish that a response ends."""
        return self._channel.write(path_of("responses", run_id, "cancel"))

    def delete_item(self, conversation_id: str, item_id: str) -> Call:
        """The end of an item of a conversation."""
        return self._channel.delete(path_of("conversations", conversation_id, "items", item_id))

    def touch(self, conversation_id: str) -> Call:
        """A change that changes nothing: the end of an item that does not exist.

        Refused as locked while the conversation is.
        """
        return self.delete_item(conversation_id, _NO_ITEM)

    # --- without a batch: the direct calls --------------------------------------------------------

    def create_alone(self, metadata: Mapping[str, str]) -> Call:
        """A new conversation of the caller's own."""
        return self._channel.write("/conversations", {"metadata": dict(metadata)})

    def add_items(self, conversation_id: str, items: Sequence[Any]) -> Call:
        """Items added to a conversation, without a response over them."""
        return self._channel.write(
            path_of("conversations", conversation_id, "items"), {"items": list(items)}
        )

    def body_alone(
        self,
        instructions: str | None,
        tools: Sequence[Mapping[str, Any]] | None,
        metadata: Mapping[str, str],
    ) -> Json:
        """The body of a response that no batch is in."""
        return {
            **self._body,
            "instructions": instructions or self._body.get("instructions"),
            "tools": self._body["tools"]
            if tools is None
            else [responses_tool(tool) for tool in tools],
            "metadata": own_metadata(metadata, self._metadata),
        }

    def run_alone(self, conversation_id: str, body: Json, *, in_background: bool = True) -> Call:
        """Create a response without a stream.

        The answer comes at once in the background, and at the response's end in the foreground.
        """
        wanted = {
            **body,
            "conversation": conversation_id,
            "background": True if in_background else None,
        }
        sent = {name: value for name, value in wanted.items() if value is not None}
        return self._channel.write("/responses", sent, is_bounded=not in_background, **self._beside)


def input_items(items: Sequence[InputItem]) -> list[Json]:
    """Messages as input."""
    return [
        {"type": "message", "role": item.role, "content": responses_content(item.content)}
        for item in items
    ]
