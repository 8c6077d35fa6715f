"""Build the requests of the Assistants backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue.backends.openai.content import (
    MAX_VALUE,
    assistants_content,
    assistants_tool,
    message_metadata,
    own_metadata,
    request_options,
    run_metadata,
)
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import Call, Json
from assistant_queue.core.runs import InputItem, RunRequest
from assistant_queue.models import ToolCall


class AssistantsCalls:
    """Build every request that changes something at the provider; send none."""

    def __init__(
        self,
        channel: ProviderChannel,
        *,
        assistant_id: str,
        tools: Sequence[Mapping[str, Any]] | None,
        run_options: Mapping[str, Any] | None,
        streams: bool = True,
    ) -> None:
        self._channel = channel
        self._stream = {"stream": True} if streams else {}
        self.assistant_id = assistant_id
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        if "max_output_tokens" in options:
            options.setdefault("max_completion_tokens", options.pop("max_output_tokens"))
        self._tools = tools
        self._options = options

    @property
    def _body(self) -> Json:
        """Fields that every run is created with.

        The tools are read each time: some may have been added since.
        """
        return {
            **self._options,
            "tools": [assistants_tool(tool) for tool in self._tools] if self._tools else None,
        }

    def create_thread(self, thread_id: str) -> Call:
        """Create a thread that names ours."""
        return self._channel.write("/threads", {"metadata": {"thread": thread_id[:MAX_VALUE]}})

    def seed(self, thread_id: str, messages: Sequence[Any]) -> Call:
        """Create a thread that begins with these messages."""
        return self._channel.write(
            "/threads",
            {"metadata": {"thread": thread_id[:MAX_VALUE]}, "messages": list(messages)},
        )

    def delete_thread(self, conversation_id: str) -> Call:
        """Delete a thread."""
        return self._channel.delete(path_of("threads", conversation_id))

    def post(self, request: RunRequest, item: InputItem) -> Call:
        """Add one message without a run."""
        return self._channel.write(
            path_of("threads", request.conversation_id, "messages"), _message(item, request)
        )

    def find_assistant(self) -> Call:
        """Retrieve the assistant that runs are created with."""
        return self._channel.read(path_of("assistants", self.assistant_id))

    def _instructions_of(self, request: RunRequest) -> str | None:
        own = request.instructions or self._body.get("additional_instructions")
        return "\n\n".join(text for text in (own, request.carried) if text) or None

    def create_run(
        self, request: RunRequest, *, with_messages: bool, reads: int | None = None
    ) -> Call:
        """Create a run, with the batch's messages or over those of the thread.

        `reads` limits it to that many of the thread's last messages.
        """
        body = {
            **self._body,
            "additional_messages": [_message(item, request) for item in request.items]
            if with_messages
            else None,
            "additional_instructions": self._instructions_of(request),
            "metadata": run_metadata(request.items, request.batch.id, self._metadata),
            **(
                {}
                if reads is None
                else {"truncation_strategy": {"type": "last_messages", "last_messages": reads}}
            ),
        }
        sent = {name: value for name, value in body.items() if value is not None}
        return self._channel.write(
            path_of("threads", request.conversation_id, "runs"),
            {"assistant_id": self.assistant_id, **self._stream, **sent},
            is_bounded=True,
            **self._beside,
        )

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> Call:
        """Submit all outputs of a round; the answer is the run, or its stream."""
        rows = [{"tool_call_id": call.id, "output": outputs[call.id]} for call in calls]
        return self._channel.write(
            path_of("threads", request.conversation_id, "runs", run_id, "submit_tool_outputs"),
            {"tool_outputs": rows, **self._stream},
            is_bounded=True,
            **self._beside,
        )

    def cancel(self, request: RunRequest, run_id: str) -> Call:
        """Cancel a run."""
        return self.cancel_alone(request.conversation_id, run_id)

    # --- without a batch: the direct calls --------------------------------------------------------

    def create_alone(self, metadata: Mapping[str, str]) -> Call:
        """Create a thread for a direct call."""
        return self._channel.write("/threads", {"metadata": dict(metadata)})

    def post_alone(self, conversation_id: str, content: str | list[Json]) -> Call:
        """Add a message for a direct call."""
        return self._channel.write(
            path_of("threads", conversation_id, "messages"), {"role": "user", "content": content}
        )

    def run_alone(
        self,
        conversation_id: str,
        instructions: str | None,
        tools: Sequence[Mapping[str, Any]] | None,
        metadata: Mapping[str, str],
    ) -> Call:
        """Create a run over the thread's messages; the answer is the run as it begins."""
        body = {
            **self._body,
            "tools": self._body["tools"]
            if tools is None
            else [assistants_tool(tool) for tool in tools],
            "additional_instructions": instructions or self._body.get("additional_instructions"),
            "metadata": own_metadata(metadata, self._metadata),
        }
        sent = {name: value for name, value in body.items() if value is not None}
        return self._channel.write(
            path_of("threads", conversation_id, "runs"),
            {"assistant_id": self.assistant_id, **sent},
            **self._beside,
        )

    def submit_alone(self, conversation_id: str, run_id: str, outputs: Mapping[str, str]) -> Call:
        """Submit all outputs of a round; the answer is the run as it continues."""
        rows = [{"tool_call_id": call_id, "output": output} for call_id, output in outputs.items()]
        return self._channel.write(
            path_of("threads", conversation_id, "runs", run_id, "submit_tool_outputs"),
            {"tool_outputs": rows},
            **self._beside,
        )

    def cancel_alone(self, conversation_id: str, run_id: str) -> Call:
        """Cancel a run."""
        return self._channel.write(path_of("threads", conversation_id, "runs", run_id, "cancel"))


def _message(item: InputItem, request: RunRequest) -> Json:
    content = assistants_content(item.content)
    return {
        "role": item.role,
        "content": content,
        "metadata": message_metadata(item, request.batch.id),
    }
