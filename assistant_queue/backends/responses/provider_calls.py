"""The direct calls on Responses + Conversations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import anyio

from assistant_queue.backends.openai.content import Json, objects_in, responses_content
from assistant_queue.backends.openai.items import is_kind
from assistant_queue.backends.openai.message_reader import message_of, noted
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.remedies import FOREGROUND, Remedies
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
from assistant_queue.backends.responses.conversation_items import output_item
from assistant_queue.backends.responses.message_pages import PageRead, seen
from assistant_queue.backends.responses.parser import is_open, outcome_of
from assistant_queue.backends.responses.requests import ResponsesCalls
from assistant_queue.core.history_notes import Note
from assistant_queue.errors import OutcomeUnknown, RequestRefused, RunVanished
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage

_PAGE = 100
"""Source: the provider's published API description: lists take a limit of 1 to 100."""

_MOST_PAGES = 50
"""Of a conversation in which messages are looked for among other items. Chosen: beyond what a model
can be shown."""


class ResponsesDirect:
    """Direct calls on conversations and responses.

    1. a run is a response without input, over the conversation's items, in the background if the
       server takes that
    2. messages are the items of that kind; the API has no `before`, so that page is read from the
       other end
    3. outputs go out with the tools and instructions of the response they belong to

    It keeps one thing between calls: the remedies that this server and model need.
    """

    def __init__(
        self,
        channel: ProviderChannel,
        calls: ResponsesCalls,
        known: Remedies,
        *,
        in_background: bool,
        falls_back: bool,
    ) -> None:
        self._calls = calls
        self._known = known
        self._in_background = in_background
        self._falls_back = falls_back
        self._channel = channel

    async def create_thread(self, metadata: Mapping[str, str]) -> str:
        """A new conversation."""
        return id_of(await fetch(self._calls.create_alone(metadata), thread="(new)"), "(new)")

    async def get_thread(self, place: Place) -> ThreadInfo:
        """A conversation."""
        return thread_info(
            await fetch(
                self._channel.read(path_of("conversations", place.conversation_id)),
                thread=place.thread_id,
            ),
            place,
        )

    async def create_message(self, place: Place, content: Content) -> str:
        """One user item."""
        item = {"type": "message", "role": "user", "content": responses_content(content)}
        added = await fetch(
            self._calls.add_items(place.conversation_id, [item]), thread=place.thread_id
        )
        return id_of(next(iter(objects_in(added.get("data"))), {}), place.thread_id)

    # --- messages ---------------------------------------------------------------------------------

    async def list_messages(self, place: Place, page: Page) -> list[ThreadMessage]:
        """Items of type message; the others between them are passed over."""
        if page.before is None or page.after is not None:
            return await self._noted(place, await self._read(place, page))
        # What stands right before an item is what comes right after it from the other end.
        other_end = replace(
            page, order="desc" if page.order == "asc" else "asc", after=page.before, before=None
        )
        return list(reversed(await self._noted(place, await self._read(place, other_end))))

    async def _read(self, place: Place, page: Page) -> PageRead:
        read = PageRead(is_newest_first=page.order == "desc", starts_at_end=page.after is None)
        after = page.after
        for _ in range(_MOST_PAGES):
            items, has_more = await self._items(place, order=page.order, after=after)
            read.items += items
            read.ends = not has_more
            for item in items:
                if page.before is not None and item.get("id") == page.before:
                    return read
                if is_kind(item, "message"):
                    read.found.append(item)
                if len(read.found) == page.limit:
                    return read
            if not has_more or not items or items[-1].get("id") == after:
                return read
            after = str(items[-1].get("id"))
        return read

    async def _items(
        self, place: Place, *, order: str, after: str | None
    ) -> tuple[list[Json], bool]:
        """Return a page of items, and whether there are more."""
        cursor: Json = {} if after is None else {"after": after}
        call = self._channel.read(
            path_of("conversations", place.conversation_id, "items"),
            {"limit": _PAGE, "order": order, **cursor},
        )
        answer = await fetch(call, thread=place.thread_id)
        return objects_in(answer.get("data")), bool(answer.get("has_more"))

    async def _noted(self, place: Place, read: PageRead) -> list[ThreadMessage]:
        """Return the messages with what the journal notes of them.

        A page may begin between a question and its answer: the items beside it are read, too.
        """
        messages = [message_of(item) for item in read.found]
        if not place.notes:
            return messages
        items = read.oldest_first()
        begins = read.has_beginning()
        ends = read.has_end()
        if read.lacks_newer():
            newer, has_more = await self._items(place, order="asc", after=str(items[-1].get("id")))
            items += newer
            ends = not has_more
        if read.lacks_older():
            older, has_more = await self._items(place, order="desc", after=str(items[0].get("id")))
            items = [*reversed(older), *items]
            begins = not has_more
        notes = place.notes.of_items([seen(item) for item in items], begins=begins, ends=ends)
        return [noted(message, notes.get(message.id, Note())) for message in messages]

    # --- runs -------------------------------------------------------------------------------------

    async def create_run(self, place: Place, options: RunOptions) -> RunInfo:
        """Create a response over the conversation's items.

        The provider takes a request without input if it names a conversation.
        """
        body = self._calls.body_alone(options.instructions, options.tools, options.metadata)
        return await self._send(place, body, options.within_s)

    async def get_run(self, place: Place, run_id: str) -> RunInfo:
        """A response."""
        return _shown(await self._response(place, run_id), place)

    async def cancel_run(self, place: Place, run_id: str) -> RunInfo:
        """Cancel a background response; one that has ended stays as it is.

        One in the foreground is refused by the provider.
        """
        return _shown(
            await fetch(self._calls.cancel(run_id), thread=place.thread_id, missing=RunVanished),
            place,
        )

    async def submit_tool_outputs(
        self, place: Place, run_id: str, outputs: Mapping[str, str], within_s: float
    ) -> RunInfo:
        """Send the outputs as a separate response."""
        asked = await self._response(place, run_id)
        check_outputs(_shown(asked, place), outputs)
        instructions = asked.get("instructions")
        body = self._calls.body_alone(
            instructions if isinstance(instructions, str) else None,
            asked.get("tools") or None,
            asked.get("metadata") or {},
        )
        body["input"] = [output_item(call_id, output) for call_id, output in outputs.items()]
        return await self._send(place, body, within_s)

    async def _response(self, place: Place, run_id: str) -> Json:
        return await fetch(
            self._channel.read(path_of("responses", run_id)),
            thread=place.thread_id,
            missing=RunVanished,
        )

    async def _send(self, place: Place, body: Json, within_s: float) -> RunInfo:
        """In the background, else in the foreground.

        A refusal is proof that nothing was accepted, so this doubles nothing.
        """
        if self._in_background and FOREGROUND not in self._known:
            try:
                return _shown(
                    await fetch(
                        self._calls.run_alone(place.conversation_id, body), thread=place.thread_id
                    ),
                    place,
                )
            except RequestRefused as refusal:
                trouble = refusal.trouble
                if not (
                    self._falls_back
                    and trouble is not None
                    and FOREGROUND.suits(trouble.text, trouble.param)
                ):
                    raise
                self._known.keep(FOREGROUND)
        return _shown(await self._in_foreground(place, body, within_s), place)

    async def _in_foreground(self, place: Place, body: Json, within_s: float) -> Json:
        try:
            with anyio.fail_after(within_s):
                return await fetch(
                    self._calls.run_alone(place.conversation_id, body, in_background=False),
                    thread=place.thread_id,
                )
        except TimeoutError as error:
            raise OutcomeUnknown(
                f"The run on thread {place.thread_id!r} did not end within {within_s:g} s."
            ) from error


def _shown(response: Mapping[str, Any], place: Place) -> RunInfo:
    shown = dict(response)
    return run_info(shown, None if is_open(shown) else outcome_of(shown), place)
