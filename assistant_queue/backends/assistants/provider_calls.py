"""Implement the direct calls on the Assistants protocol, by its plain endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assistant_queue.backends.assistants import parser
from assistant_queue.backends.assistants.requests import AssistantsCalls
from assistant_queue.backends.openai.content import Json, assistants_content, objects_in
from assistant_queue.backends.openai.message_reader import message_of, noted_by_mark
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import fetch
from assistant_queue.backends.provider_calls import (
    Page,
    Place,
    RunOptions,
    check_outputs,
    id_of,
    run_info,
    thread_info,
)
from assistant_queue.errors import RunVanished
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage


class AssistantsDirect:
    """Direct calls on threads, messages and runs."""

    def __init__(self, channel: ProviderChannel, calls: AssistantsCalls) -> None:
        self._channel = channel
        self._calls = calls

    async def create_thread(self, metadata: Mapping[str, str]) -> str:
        """Create a thread."""
        return id_of(await fetch(self._calls.create_alone(metadata), thread="(new)"), "(new)")

    async def get_thread(self, place: Place) -> ThreadInfo:
        """Retrieve a thread."""
        return thread_info(
            await fetch(
                self._channel.read(path_of("threads", place.conversation_id)),
                thread=place.thread_id,
            ),
            place,
        )

    async def create_message(self, place: Place, content: Content) -> str:
        """Add one user message; refused while a run is active."""
        call = self._calls.post_alone(place.conversation_id, assistants_content(content))
        return id_of(await fetch(call, thread=place.thread_id), place.thread_id)

    async def list_messages(self, place: Place, page: Page) -> list[ThreadMessage]:
        """Return a page, as the provider cuts it."""
        cursors = {
            name: value
            for name, value in (("after", page.after), ("before", page.before))
            if value is not None
        }
        call = self._channel.read(
            path_of("threads", place.conversation_id, "messages"),
            {"limit": page.limit, "order": page.order, **cursors},
        )
        return [
            noted_by_mark(message_of(message), place.notes)
            for message in objects_in((await fetch(call, thread=place.thread_id)).get("data"))
        ]

    async def create_run(self, place: Place, options: RunOptions) -> RunInfo:
        """Create a run over the thread's messages; the answer comes at once."""
        call = self._calls.run_alone(
            place.conversation_id, options.instructions, options.tools, options.metadata
        )
        return _shown(await fetch(call, thread=place.thread_id), place)

    async def get_run(self, place: Place, run_id: str) -> RunInfo:
        """Retrieve a run."""
        return _shown(await self._run(place, run_id), place)

    async def cancel_run(self, place: Place, run_id: str) -> RunInfo:
        """Cancel a run; one that has ended is refused by the provider."""
        call = self._calls.cancel_alone(place.conversation_id, run_id)
        return _shown(await fetch(call, thread=place.thread_id, missing=RunVanished), place)

    async def submit_tool_outputs(
        self, place: Place, run_id: str, outputs: Mapping[str, str], within_s: float
    ) -> RunInfo:
        """Submit the outputs; the same run continues."""
        del within_s
        check_outputs(_shown(await self._run(place, run_id), place), outputs)
        call = self._calls.submit_alone(place.conversation_id, run_id, outputs)
        return _shown(await fetch(call, thread=place.thread_id, missing=RunVanished), place)

    async def _run(self, place: Place, run_id: str) -> Json:
        call = self._channel.read(path_of("threads", place.conversation_id, "runs", run_id))
        return await fetch(call, thread=place.thread_id, missing=RunVanished)


def _shown(run: Mapping[str, Any], place: Place) -> RunInfo:
    shown = dict(run)
    return run_info(shown, None if parser.is_open(shown) else parser.outcome_of(shown), place)
