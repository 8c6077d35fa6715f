"""The requests of the Assistants backend, ready to be made: which fields they have, under which names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from assistant_queue.backends.content import (
    MAX_VALUE,
    assistants_content,
    assistants_tool,
    message_metadata,
    request_options,
    run_metadata,
)
from assistant_queue.backends.openai_clients import Channel, streamed
from assistant_queue.backends.streams import Call, Json
from assistant_queue.core.runs import InputItem, RunRequest
from assistant_queue.models import ToolCall


class AssistantsCalls:
    """Builds every request that changes something at the provider; sends none."""

    def __init__(
        self,
        channel: Channel,
        *,
        assistant_id: str,
        tools: Sequence[Mapping[str, Any]] | None,
        run_options: Mapping[str, Any] | None,
    ) -> None:
        threads = channel.writing.beta.threads
        self._threads, self._messages, self._runs = streamed(threads), streamed(threads.messages), streamed(threads.runs)
        self._assistant_id = assistant_id
        self._timeout = channel.stream_timeout
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        if "max_output_tokens" in options:
            options.setdefault("max_completion_tokens", options.pop("max_output_tokens"))
        self._body: Json = {**options, "tools": [assistants_tool(tool) for tool in tools] if tools else None}

    def create_thread(self, thread_id: str) -> Call:
        """A new thread that names ours."""
        return partial(self._threads.create, metadata={"thread": thread_id[:MAX_VALUE]})

    def delete_thread(self, conversation_id: str) -> Call:
        """The end of a thread."""
        return partial(self._threads.delete, conversation_id)

    def post(self, request: RunRequest, item: InputItem) -> Call:
        """One message on its own."""
        return partial(self._messages.create, request.conversation_id, **_message(item, request))

    def create_run(self, request: RunRequest, *, with_messages: bool) -> Call:
        """A streamed run, with the batch's messages or over what the thread holds already."""
        body = {
            **self._body,
            "additional_messages": [_message(item, request) for item in request.items] if with_messages else None,
            "additional_instructions": request.instructions or self._body.get("additional_instructions"),
            "metadata": run_metadata(request.items, request.batch.id, self._metadata),
        }
        return partial(
            self._runs.create,
            request.conversation_id,
            assistant_id=self._assistant_id,
            # As `extra_body`, so that the client neither checks nor rebuilds it: options it does not know pass through.
            extra_body={name: value for name, value in body.items() if value is not None},
            stream=True,
            timeout=self._timeout,
            **self._beside,
        )

    def submit(self, request: RunRequest, run_id: str, calls: Sequence[ToolCall], outputs: Mapping[str, str]) -> Call:
        """All outputs of a round; the answer is the stream of what the run does next."""
        return partial(
            self._runs.submit_tool_outputs,
            run_id,
            thread_id=request.conversation_id,
            tool_outputs=[{"tool_call_id": call.id, "output": outputs[call.id]} for call in calls],
            stream=True,
            timeout=self._timeout,
            **self._beside,
        )

    def cancel(self, request: RunRequest, run_id: str) -> Call:
        """The wish that a run ends."""
        return partial(self._runs.cancel, run_id, thread_id=request.conversation_id)


def _message(item: InputItem, request: RunRequest) -> Json:
    content = assistants_content(item.content)
    return {"role": "user", "content": content, "metadata": message_metadata(item, request.batch.id)}
