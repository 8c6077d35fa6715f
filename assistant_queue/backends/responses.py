"""Responses + Conversations: the backend a new user gets.

One request starts a batch: `responses.create(conversation=..., input=[...], stream=True, background=True)`. The items join the
conversation when the response completes, so after a failure the text is not there. A tool round is a response of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.backends.content import MAX_VALUE, request_options, responses_content, responses_tool, run_metadata
from assistant_queue.backends.conversation_items import UNANSWERED, Tail, is_oldest_first, open_calls_of, output_item, tail_of, what_became_of
from assistant_queue.backends.openai_errors import cut, refuses_background, unanswered_call
from assistant_queue.backends.openai_clients import Channel
from assistant_queue.backends.response_reader import ResponseReader, is_open, outcome_of
from assistant_queue.backends.streams import EventStream, Json, fetch, pauses, play
from assistant_queue.core.runs import Capabilities, Finding, FoundBy, RunEvent, RunRequest, RunStarted, Undecided
from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PAGE = 100
"""Source: the provider's published API description: lists take a limit of 1 to 100."""

_MOST_PAGES = 50
"""Of a conversation that is read back. Chosen: far beyond what a model can be shown."""

_CANCEL_S = 10.0
"""How long a cancelled response may take to end. Chosen."""


class ResponsesBackend:
    """Sends batches as responses on a conversation.

    1. starts a response in the background, streamed; in the foreground where the server does not take that
    2. resumes its stream after the last event seen, else polls it
    3. finds a batch again by its texts after the anchor
    4. answers calls that somebody left open, where the conversation would refuse every request otherwise

    It keeps one thing between calls: whether this server takes `background`.
    """

    name = "responses"

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str | None = None,
        prompt: str | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        run_options: Mapping[str, Any] | None = None,
        request_timeout: float = 30.0,
        stream_idle_timeout: float = 120.0,
        background: bool | Literal["auto"] = "auto",
    ) -> None:
        """Set up, without a request.

        Args:
            client: Closed by `close`.
            model: None where the prompt or the server names one.
            prompt: The id of a stored prompt, or `{"id", "version", "variables"}`.
            tools: Function schemas, flat or nested, and the provider's own tools.
            run_options: Further fields of the request, as they are.
            request_timeout: Seconds until the first event, and of every plain call.
            stream_idle_timeout: Seconds between two events.
            background: Whether responses run in the background. "auto": until the server refuses it.
        """
        self._channel = Channel(client, request_timeout=request_timeout, stream_idle_timeout=stream_idle_timeout)
        self._create = self._channel.writing.responses.with_streaming_response.create
        self._responses = self._channel.reading.responses.with_streaming_response
        self._items = self._channel.reading.conversations.items.with_streaming_response
        options, self._beside = request_options(run_options)
        self._metadata = options.pop("metadata", None)
        self._falls_back = background == "auto"
        self._in_background = bool(options.pop("background", background))
        self._body: Json = {
            "model": model,
            "prompt": {"id": prompt} if isinstance(prompt, str) else prompt,
            "tools": [responses_tool(tool) for tool in tools] if tools else None,
            **options,
        }
        self.capabilities = Capabilities(found_by=FoundBy.ANCHOR, follows=True, cancels=self._in_background, streams=True)

    # --- conversations --------------------------------------------------------------------------------------------------

    async def open_conversation(self, thread_id: str) -> str:
        """A new conversation, with the thread's id in its metadata."""
        create = self._channel.writing.conversations.with_streaming_response.create
        created = await fetch(partial(create, metadata={"thread": thread_id[:MAX_VALUE]}), thread=thread_id)
        return str(created["id"])

    async def drop_conversation(self, conversation_id: str) -> None:
        """Delete a conversation; one that is gone already is fine."""
        delete = self._channel.writing.conversations.with_streaming_response.delete
        try:
            await fetch(partial(delete, conversation_id), thread=conversation_id)
        except UnknownThread:
            return

    async def locate(self, conversation_id: str) -> str | None:
        """The id of the conversation's last item, None if it has none."""
        page = await fetch(partial(self._items.list, conversation_id, limit=1, order="desc"), thread=conversation_id)
        data = page.get("data") or []
        return str(data[0]["id"]) if data else None

    # --- runs -------------------------------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Send the batch, behind error outputs for the calls that an earlier one left open."""
        asked = [{"type": "message", "role": "user", "content": responses_content(item.content)} for item in request.items]
        return self._send(request, [*(output_item(call_id, UNANSWERED) for call_id in request.open_calls), *asked])

    def submit(
        self, request: RunRequest, run_id: str, calls: Sequence[ToolCall], outputs: Mapping[str, str]
    ) -> AsyncIterator[RunEvent]:
        """Send the outputs. The round after them is a response with an id of its own."""
        del run_id
        return self._send(request, [output_item(call.id, outputs[call.id]) for call in calls])

    async def _send(self, request: RunRequest, items: list[Json]) -> AsyncGenerator[RunEvent, None]:
        """Send, and again where a refusal says what to change. A refusal is proof that nothing was accepted, so this doubles nothing."""
        has_healed = False
        while True:
            in_background = self._in_background
            try:
                async with aclosing(self._attempt(request, items, in_background=in_background)) as events:
                    async for event in events:
                        yield event
            except RequestRefused as refusal:
                open_call = unanswered_call(refusal)
                if in_background and self._falls_back and refuses_background(refusal):
                    self._in_background = False
                elif open_call is not None and not has_healed:
                    items = [*await self._synthetic_outputs(request, open_call, items), *items]
                    has_healed = True
                else:
                    raise
            else:
                return

    async def _attempt(self, request: RunRequest, items: list[Json], *, in_background: bool) -> AsyncGenerator[RunEvent, None]:
        body = {
            **self._body,
            "conversation": request.conversation_id,
            "input": items,
            "instructions": request.instructions or self._body.get("instructions"),
            "metadata": run_metadata(request.items, request.batch.id, self._metadata),
            "background": True if in_background else None,
            "stream": True,
        }
        sent = {name: value for name, value in body.items() if value is not None}
        # As `extra_body`, so that the client neither checks nor rebuilds it: options it does not know yet pass through.
        call = partial(self._create, extra_body=sent, stream=True, timeout=self._channel.stream_timeout, **self._beside)
        thread = request.batch.thread_id
        async with aclosing(play(EventStream(call, limits=self._channel.limits, thread=thread), ResponseReader(thread))) as events:
            async for event in events:
                yield event

    async def _synthetic_outputs(self, request: RunRequest, named: str, items: Sequence[Json]) -> list[Json]:
        """Error outputs for every open call of a poisoned conversation, except those that this request answers."""
        listed, _ = await self._list(request, until=None)
        ordered = list(reversed(listed))
        found = [str(item.get("call_id")) for item in open_calls_of(ordered)]
        answered = {item.get("call_id") for item in items}
        return [output_item(call_id, UNANSWERED) for call_id in dict.fromkeys([*found, named]) if call_id not in answered]

    async def follow(self, request: RunRequest, run_id: str, cursor: int | None = None) -> AsyncGenerator[RunEvent, None]:
        """Watch a response: its stream after `cursor` (0: from the beginning), else by polling.

        Whatever goes wrong says nothing about the response, so it is a `StreamCut`; only a 404 is not.
        """
        reader = ResponseReader(request.batch.thread_id, run_id=run_id)
        has_started = False
        if cursor is not None and self._in_background:
            async with aclosing(self._resumed(request, reader, run_id, cursor)) as events:
                async for event in events:
                    if not has_started:
                        yield RunStarted(run_id=run_id)
                    has_started = True
                    yield event
        if reader.outcome is not None:
            return
        for pause in pauses():
            response = await self._retrieved(request, run_id)
            if not has_started:
                yield RunStarted(run_id=run_id)
            has_started = True
            if not is_open(response):
                yield outcome_of(response)
                return
            await asyncio.sleep(pause)

    async def _resumed(self, request: RunRequest, reader: ResponseReader, run_id: str, cursor: int) -> AsyncGenerator[RunEvent, None]:
        """The rest of a stream; nothing where the server cannot resume it. Cut again after some events: `StreamCut`."""
        retrieve = partial(self._responses.retrieve, run_id, stream=True, starting_after=cursor, timeout=self._channel.stream_timeout)
        stream = EventStream(retrieve, limits=self._channel.limits, thread=request.batch.thread_id, missing=RunVanished)
        has_begun = False
        try:
            async with aclosing(play(stream, reader)) as events:
                async for event in events:
                    has_begun = True
                    yield event
        except StreamCut:
            if has_begun:
                raise

    async def _retrieved(self, request: RunRequest, run_id: str) -> Json:
        thread = request.batch.thread_id
        try:
            return await fetch(partial(self._responses.retrieve, run_id), thread=thread, missing=RunVanished)
        except (RequestRefused, OutcomeUnknown) as error:
            raise cut(error, thread=thread, run_id=run_id) from error.__cause__

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Cancel a background response and wait a little for its end. A foreground one cannot be cancelled: nothing happens."""
        if not run_id:
            return
        cancel = self._channel.writing.responses.with_streaming_response.cancel
        try:
            response = await fetch(partial(cancel, run_id), thread=request.batch.thread_id, missing=RunVanished)
            waited = 0.0
            for pause in pauses():
                if not is_open(response) or waited > _CANCEL_S:
                    return
                await asyncio.sleep(pause)
                waited += pause
                response = await self._retrieved(request, run_id)
        except (RunVanished, RequestRefused):
            return

    # --- reading back -----------------------------------------------------------------------------------------------------

    async def find(self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()) -> Finding:
        """What became of a request: by its id where one is known and it was the last request, else by the conversation's items."""
        try:
            if run_id and not calls:
                try:
                    response = await self._retrieved(request, run_id)
                except RunVanished:
                    pass
                else:
                    return RunStarted(run_id=run_id) if is_open(response) else outcome_of(response)
            return what_became_of(await self._tail(request), request, run_id, calls)
        except ConversationBusy:
            return Undecided()

    async def _tail(self, request: RunRequest) -> Tail:
        listed, is_all = await self._list(request, until=request.anchor)
        return tail_of(listed, request.anchor, is_all=is_all, empty_before=request.anchor is None)

    async def _list(self, request: RunRequest, *, until: str | None) -> tuple[list[Json], bool]:
        """Items from the newest backwards to `until`, or all; and whether they are all.

        Newest first is also what servers give that ignore `order`, and it reads only what is new.
        """
        listed: dict[str, Json] = {}
        for _ in range(_MOST_PAGES):
            options: Json = {"after": next(reversed(listed))} if listed else {}
            list_page = partial(self._items.list, request.conversation_id, limit=_PAGE, order="desc", **options)
            page = await fetch(list_page, thread=request.batch.thread_id)
            fresh = {str(item["id"]): item for item in page.get("data") or [] if item.get("id") not in listed}
            listed.update(fresh)
            is_all = not page.get("has_more") or not fresh
            if is_all or (until in listed and not is_oldest_first(list(listed.values()), is_all=False)):
                return list(listed.values()), is_all
        return list(listed.values()), False

    async def close(self) -> None:
        """Close the client's connections."""
        await self._channel.close()


__all__ = ["BackendError", "ResponsesBackend"]
