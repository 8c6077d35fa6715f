"""The direct calls on the Assistants protocol: its plain endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from assistant_queue.backends import run_reader
from assistant_queue.backends.assistants_calls import AssistantsCalls
from assistant_queue.backends.content import Json, assistants_content
from assistant_queue.backends.direct import Page, Place, RunOptions, check_outputs, id_of, run_info, thread_info
from assistant_queue.backends.message_reader import message_of
from assistant_queue.backends.openai_clients import Channel, streamed
from assistant_queue.backends.streams import fetch
from assistant_queue.errors import RunVanished
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage


class AssistantsDirect:
    """Calls of the caller's own on threads, messages and runs."""

    def __init__(self, channel: Channel, calls: AssistantsCalls) -> None:
        threads = channel.reading.beta.threads
        self._threads, self._messages, self._runs = streamed(threads), streamed(threads.messages), streamed(threads.runs)
        self._calls = calls

    async def create_thread(self, metadata: Mapping[str, str]) -> str:
        """A new thread."""
        return id_of(await fetch(self._calls.create_alone(metadata), thread="(new)"), "(new)")

    async def get_thread(self, place: Place) -> ThreadInfo:
        """A thread."""
        return thread_info(await fetch(partial(self._threads.retrieve, place.conversation_id), thread=place.thread_id), place)

    async def create_message(self, place: Place, content: Content) -> str:
        """One user message; refused while a run is active."""
        call = self._calls.post_alone(place.conversation_id, assistants_content(content))
        return id_of(await fetch(call, thread=place.thread_id), place.thread_id)

    async def list_messages(self, place: Place, page: Page) -> list[ThreadMessage]:
        """A page, as the provider cuts it."""
        cursors = {name: value for name, value in (("after", page.after), ("before", page.before)) if value is not None}
        call = partial(self._messages.list, place.conversation_id, limit=page.limit, order=page.order, **cursors)
        return [message_of(message) for message in (await fetch(call, thread=place.thread_id)).get("data") or ()]

    async def create_run(self, place: Place, options: RunOptions) -> RunInfo:
        """A run over what the thread holds; the answer comes at once."""
        call = self._calls.run_alone(place.conversation_id, options.instructions, options.tools, options.metadata)
        return _shown(await fetch(call, thread=place.thread_id), place)

    async def get_run(self, place: Place, run_id: str) -> RunInfo:
        """A run."""
        return _shown(await self._run(place, run_id), place)

    async def cancel_run(self, place: Place, run_id: str) -> RunInfo:
        """Cancel a run; one that has ended is refused by the provider."""
        call = self._calls.cancel_alone(place.conversation_id, run_id)
        return _shown(await fetch(call, thread=place.thread_id, missing=RunVanished), place)

    async def submit_tool_outputs(self, place: Place, run_id: str, outputs: Mapping[str, str], within_s: float) -> RunInfo:
        """The outputs; the same run goes on."""
        del within_s
        check_outputs(_shown(await self._run(place, run_id), place), outputs)
        call = self._calls.submit_alone(place.conversation_id, run_id, outputs)
        return _shown(await fetch(call, thread=place.thread_id, missing=RunVanished), place)

    async def _run(self, place: Place, run_id: str) -> Json:
        call = partial(self._runs.retrieve, run_id, thread_id=place.conversation_id)
        return await fetch(call, thread=place.thread_id, missing=RunVanished)


def _shown(run: Mapping[str, Any], place: Place) -> RunInfo:
    shown = dict(run)
    return run_info(shown, None if run_reader.is_open(shown) else run_reader.outcome_of(shown), place)
