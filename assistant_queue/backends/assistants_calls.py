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
    own_metadata,
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
        self._assistants = streamed(channel.reading.beta.assistants)
        self._threads, self._messages, self._runs = streamed(threads), streamed(threads.messages), streamed(threads.runs)
        self.assistant_id = assistant_id
        self._timeout = channel.stream_timeout
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        if "max_output_tokens" in options:
            options.setdefault("max_completion_tokens", options.pop("max_output_tokens"))
        self._tools = tools
        self._options = options

    @property
    def _body(self) -> Json:
        """What every run is sent with. The tools are asked for each time: some may have been added since."""
        return {**self._options, "tools": [assistants_tool(tool) for tool in self._tools] if self._tools else None}

    def create_thread(self, thread_id: str) -> Call:
        """A new thread that names ours."""
        return partial(self._threads.create, metadata={"thread": thread_id[:MAX_VALUE]})

    def seed(self, thread_id: str, messages: Sequence[Any]) -> Call:
        """A new thread that begins with these messages."""
        return partial(self._threads.create, metadata={"thread": thread_id[:MAX_VALUE]}, messages=messages)

    def delete_thread(self, conversation_id: str) -> Call:
        """The end of a thread."""
        return partial(self._threads.delete, conversation_id)

    def post(self, request: RunRequest, item: InputItem) -> Call:
        """One message on its own."""
        return partial(self._messages.create, request.conversation_id, **_message(item, request))

    def find_assistant(self) -> Call:
        """The assistant that runs are made with."""
        return partial(self._assistants.retrieve, self.assistant_id)

    def create_run(self, request: RunRequest, *, with_messages: bool, reads: int | None = None) -> Call:
        """A streamed run, with the batch's messages or over what the thread holds already; `reads`: only so many of its last messages."""
        body = {
            **self._body,
            "additional_messages": [_message(item, request) for item in request.items] if with_messages else None,
            "additional_instructions": request.instructions or self._body.get("additional_instructions"),
            "metadata": run_metadata(request.items, request.batch.id, self._metadata),
            **({} if reads is None else {"truncation_strategy": {"type": "last_messages", "last_messages": reads}}),
        }
        return partial(
            self._runs.create,
            request.conversation_id,
            assistant_id=self.assistant_id,
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

    # --- without a batch: the direct calls --------------------------------------------------------------------------------

    def create_alone(self, metadata: Mapping[str, str]) -> Call:
        """A new thread of the caller's own."""
        return partial(self._threads.create, metadata=dict(metadata))

    def post_alone(self, conversation_id: str, content: str | list[Json]) -> Call:
        """A message of the caller's own."""
        return partial(self._messages.create, conversation_id, role="user", content=content)

    def run_alone(
        self,
        conversation_id: str,
        instructions: str | None,
        tools: Sequence[Mapping[str, Any]] | None,
        metadata: Mapping[str, str],
    ) -> Call:
        """A run over what the thread holds; its answer is the run as it begins."""
        body = {
            **self._body,
            "tools": self._body["tools"] if tools is None else [assistants_tool(tool) for tool in tools],
            "additional_instructions": instructions or self._body.get("additional_instructions"),
            "metadata": own_metadata(metadata, self._metadata),
        }
        sent = {name: value for name, value in body.items() if value is not None}
        return partial(self._runs.create, conversation_id, assistant_id=self.assistant_id, extra_body=sent, **self._beside)

    def submit_alone(self, conversation_id: str, run_id: str, outputs: Mapping[str, str]) -> Call:
        """All outputs of a round; the answer is the run as it goes on."""
        rows = [{"tool_call_id": call_id, "output": output} for call_id, output in outputs.items()]
        return partial(self._runs.submit_tool_outputs, run_id, thread_id=conversation_id, tool_outputs=rows, **self._beside)

    def cancel_alone(self, conversation_id: str, run_id: str) -> Call:
        """The wish that a run ends."""
        return partial(self._runs.cancel, run_id, thread_id=conversation_id)


def _message(item: InputItem, request: RunRequest) -> Json:
    content = assistants_content(item.content)
    return {"role": "user", "content": content, "metadata": message_metadata(item, request.batch.id)}
