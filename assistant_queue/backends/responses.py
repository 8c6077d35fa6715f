"""Responses + Conversations: the backend a new user gets.

One request starts a batch: `responses.create(conversation=..., input=[...], stream=True, background=True)`. The items join the
conversation when the response completes, so after a failure the text is not there. A tool round is a response of its own.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.backends.conversation_items import output_item
from assistant_queue.backends.conversation_log import ConversationLog
from assistant_queue.backends.foreground import ForegroundWatch
from assistant_queue.backends.foreign_calls import UNANSWERED
from assistant_queue.backends.mending import Mender
from assistant_queue.backends.openai_clients import Channel
from assistant_queue.backends.openai_errors import watching
from assistant_queue.backends.refusals import refuses_background, refuses_option
from assistant_queue.backends.response_reader import ResponseReader, answer_of, is_open, output_of
from assistant_queue.backends.responses_calls import ResponsesCalls, user_items
from assistant_queue.backends.streams import CANCEL_S, EventStream, Json, ended, fetch, play
from assistant_queue.core.runs import (
    ActionRequired,
    Capabilities,
    Finding,
    FoundBy,
    RunEnded,
    RunEvent,
    RunRequest,
    RunStarted,
    Undecided,
)
from assistant_queue.errors import ConversationBusy, RequestRefused, RunVanished, StreamCut, UnknownThread
from assistant_queue.models import ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from assistant_queue.backends.responses_direct import ResponsesDirect


class ResponsesBackend:
    """Sends batches as responses on a conversation.

    1. starts a response in the background, streamed; in the foreground where the server does not take that
    2. resumes its stream after the last event seen, else polls it
    3. finds a batch again by its texts after the anchor
    4. mends a conversation that would refuse every request: calls that were left open, items without the ones they belong to

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
        closes_client: bool = True,
    ) -> None:
        """Set up, without a request.

        Args:
            client: The client.
            model: None where the prompt or the server names one.
            prompt: The id of a stored prompt, or `{"id", "version", "variables"}`.
            tools: Function schemas, flat or nested, and the provider's own tools.
            run_options: Further fields of the request, as they are.
            request_timeout: Seconds until the first event, and of every plain call.
            stream_idle_timeout: Seconds between two events.
            background: Whether responses run in the background. "auto": until the server refuses it.
            closes_client: Whether `close` closes the client.
        """
        options = dict(run_options or {})
        self._falls_back = background == "auto"
        self._in_background = bool(options.pop("background", background))
        self._channel = Channel(
            client, request_timeout=request_timeout, stream_idle_timeout=stream_idle_timeout, closes_client=closes_client
        )
        self._calls = ResponsesCalls(self._channel, model=model, prompt=prompt, tools=tools, run_options=options)
        self._log = ConversationLog(self._channel.reading, self._channel.writing)
        self._mender = Mender(self._calls, self._log)
        self.capabilities = Capabilities(found_by=FoundBy.ANCHOR, follows=True, cancels=self._in_background, streams=True)

    # --- conversations --------------------------------------------------------------------------------------------------

    async def open_conversation(self, thread_id: str) -> str:
        """A new conversation, with the thread's id in its metadata."""
        created = await fetch(self._calls.create_conversation(thread_id), thread=thread_id)
        return str(created["id"])

    async def drop_conversation(self, conversation_id: str) -> None:
        """Delete a conversation; one that is gone already is fine."""
        try:
            await fetch(self._calls.delete_conversation(conversation_id), thread=conversation_id)
        except UnknownThread:
            return

    async def locate(self, conversation_id: str) -> str | None:
        """The id of the conversation's last item, None if it has none."""
        try:
            return await self._log.last_id(conversation_id)
        except RequestRefused as refusal:
            if not refuses_option(refusal, "conversation_id"):
                raise
            raise UnknownThread(
                f"Invalid conversation id {conversation_id!r}: the provider expects ids of another form. "
                "An id of the caller's own that only looks like one wants thread_ids='mapped'.",
                status_code=refusal.status_code,
                provider_code=refusal.provider_code,
            ) from refusal.__cause__

    # --- runs -------------------------------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Send the batch, behind error outputs for the calls that an earlier one left open."""
        healing = [output_item(call_id, UNANSWERED) for call_id in request.open_calls]
        return self._send(request, [*healing, *user_items(request)])

    def submit(self, request: RunRequest, run_id: str, calls: Sequence[ToolCall], outputs: Mapping[str, str]) -> AsyncIterator[RunEvent]:
        """Send the outputs. The round after them is a response with an id of its own."""
        del run_id
        return self._send(request, [output_item(call.id, outputs[call.id]) for call in calls])

    async def _send(self, request: RunRequest, items: list[Json]) -> AsyncGenerator[RunEvent, None]:
        """Send, and again where a refusal says what to change. A refusal is proof that nothing was accepted, so this doubles nothing."""
        thread, mending = request.batch.thread_id, self._mender.begin(request)
        while True:
            call, reader = self._calls.create(request, items, in_background=self._in_background), ResponseReader(thread)
            try:
                async with aclosing(play(EventStream(call, limits=self._channel.limits, thread=thread), reader)) as events:
                    async for event in events:
                        if isinstance(event, RunEnded):
                            await self._mender.give_up_calls(request, event, reader.output)
                        yield event
            except RequestRefused as refusal:
                if self._in_background and self._falls_back and refuses_background(refusal):
                    self._leave_background()
                    continue
                mended = await mending.input_after(refusal, items)
                if mended is None:
                    raise
                items = mended
            else:
                return

    def _leave_background(self) -> None:
        """This server does not take it: every later response runs in the foreground, where it cannot be cancelled."""
        self._in_background = False
        self.capabilities = replace(self.capabilities, cancels=False)

    async def follow(self, request: RunRequest, run_id: str, cursor: int | None = None) -> AsyncGenerator[RunEvent, None]:
        """Watch a response: its stream after `cursor` (0: from the beginning), else by polling.

        Whatever goes wrong says nothing about the response, so it is a `StreamCut`; a 404, and a response in the foreground that no process
        works on any more, are a `RunVanished`.
        """
        thread, has_started = request.batch.thread_id, False
        if cursor is not None and self._in_background:
            reader = ResponseReader(thread, run_id=run_id)
            async with aclosing(self._resumed(request, reader, run_id, cursor)) as events:
                async for event in events:
                    if isinstance(event, RunEnded):
                        await self._mender.give_up_calls(request, event, reader.output)
                    if not has_started:
                        yield RunStarted(run_id=run_id)
                    has_started = True
                    yield event
                    if isinstance(event, (ActionRequired, RunEnded)):
                        return
        with watching(thread, run_id):
            response = await self._log.response(request, run_id)
        if not has_started:
            yield RunStarted(run_id=run_id)
        with watching(thread, run_id):
            response = await self._until_it_ends(request, run_id, response)
        outcome = answer_of(response)
        if isinstance(outcome, RunEnded):
            await self._mender.give_up_calls(request, outcome, output_of(response))
        yield outcome

    async def _until_it_ends(self, request: RunRequest, run_id: str, response: Json) -> Json:
        read = partial(self._log.response, request, run_id)
        is_in_background = response.get("background")
        if self._in_background if is_in_background is None else is_in_background:
            return await ended(response, read, is_open)
        watch = ForegroundWatch(
            read,
            cancel=self._calls.cancel(run_id),
            touch=self._calls.touch(request.conversation_id),
            idle_s=self._channel.limits.idle_s,
            thread=request.batch.thread_id,
            run_id=run_id,
        )
        return await watch.until_it_ends(response)

    async def _resumed(self, request: RunRequest, reader: ResponseReader, run_id: str, cursor: int) -> AsyncGenerator[RunEvent, None]:
        """The rest of a stream; nothing where the server cannot resume it. Cut again after some events: `StreamCut`."""
        thread = request.batch.thread_id
        stream = EventStream(self._calls.resume(run_id, cursor), limits=self._channel.limits, thread=thread, missing=RunVanished)
        has_begun = False
        try:
            async with aclosing(play(stream, reader)) as events:
                async for event in events:
                    has_begun = True
                    yield event
        except StreamCut:
            if has_begun:
                raise

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Cancel a background response and wait a little for its end. A foreground one cannot be cancelled: nothing happens."""
        if not run_id:
            return
        try:
            response = await fetch(self._calls.cancel(run_id), thread=request.batch.thread_id, missing=RunVanished)
            await ended(response, partial(self._log.response, request, run_id), is_open, within_s=CANCEL_S)
        except (RunVanished, RequestRefused):
            return

    # --- reading back -----------------------------------------------------------------------------------------------------

    async def find(self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()) -> Finding:
        """What became of a request: by its id where one is known and it was the last request, else by the conversation's items."""
        try:
            if run_id and not calls:
                try:
                    response = await self._log.response(request, run_id)
                except RunVanished:
                    pass
                else:
                    return RunStarted(run_id=run_id) if is_open(response) else answer_of(response)
            return await self._log.what_became_of(request, run_id, calls)
        except ConversationBusy:
            return Undecided()

    def direct(self) -> ResponsesDirect:
        """The calls beside the queue: threads, messages and runs one by one."""
        from assistant_queue.backends.responses_direct import ResponsesDirect

        return ResponsesDirect(self._channel, self._calls, in_background=self._in_background, falls_back=self._falls_back)

    async def close(self) -> None:
        """Close the client's connections, unless the client is somebody else's."""
        await self._channel.close()
