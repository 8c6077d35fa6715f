"""Responses + Conversations: the backend a new user gets.

One request starts a batch: `responses.create(conversation=..., input=[...], stream=True,
background=True)`. The items join the conversation when the response completes, so after a failure
the text is not there. A tool round is a separate response.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.addresses import opened
from assistant_queue.backends.openai.content import objects_in
from assistant_queue.backends.openai.conversation_renewal import (
    MAX_ITEMS,
    copied,
    later_half,
    split_at_batch,
    split_by_ids,
)
from assistant_queue.backends.openai.empty_answers import once_more_if_empty
from assistant_queue.backends.openai.error_mapping import watching
from assistant_queue.backends.openai.foreign_calls import UNANSWERED
from assistant_queue.backends.openai.model_check import find_model
from assistant_queue.backends.openai.overflow import (
    OnOverflow,
    Result,
    TooLong,
    has_way_left,
    is_too_long,
    ways_of_responses,
    worth_shortening,
)
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.refused_fields import names
from assistant_queue.backends.openai.remedies import Remedies, Trial, remedies_of
from assistant_queue.backends.openai.seeding import seeded
from assistant_queue.backends.openai.streams import (
    CANCEL_FIRST_S,
    CANCEL_S,
    EventStream,
    Json,
    Limits,
    ended,
    fetch,
    play,
)
from assistant_queue.backends.responses.conversation_items import output_item
from assistant_queue.backends.responses.conversation_log import ConversationLog
from assistant_queue.backends.responses.foreground import ForegroundWatch
from assistant_queue.backends.responses.parser import ResponseReader, answer_of, is_open, output_of
from assistant_queue.backends.responses.repair import Repairer
from assistant_queue.backends.responses.requests import ResponsesCalls, input_items
from assistant_queue.core.runs import (
    WRITTEN,
    ActionRequired,
    Capabilities,
    Finding,
    FoundBy,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
    Undecided,
)
from assistant_queue.errors import (
    ConversationBusy,
    RequestRefused,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from assistant_queue.backends.openai.sending import Sender
    from assistant_queue.backends.responses.provider_calls import ResponsesDirect

_log = logging.getLogger(__name__)


class ResponsesBackend:
    """Send batches as responses on a conversation.

    1. starts a response in the background, streamed; in the foreground if the server refuses that
    2. resumes its stream after the last event seen, else polls it
    3. finds a batch again by its texts after the anchor
    4. repairs a conversation that would refuse every request: calls that were left open, items
       without the ones they belong to
    5. shortens, or begins anew, a conversation that outgrew the model

    It keeps one thing between calls: the remedies that this server and model need (`remedies.py`).
    """

    name = "responses"

    def __init__(
        self,
        client: AsyncOpenAI | Sender,
        *,
        model: str | None = None,
        prompt: str | Mapping[str, Any] | None = None,
        tools: Sequence[Mapping[str, Any]] | None = None,
        run_options: Mapping[str, Any] | None = None,
        request_timeout: float = 30.0,
        stream_idle_timeout: float = 120.0,
        background: bool | Literal["auto"] = "auto",
        on_context_overflow: OnOverflow = "truncate",
        parks: bool = False,
        closes_client: bool = True,
    ) -> None:
        """Set up, without a request.

        Args:
            client: The client.
            model: None if the prompt or the server names one.
            prompt: The id of a stored prompt, or `{"id", "version", "variables"}`.
            tools: Function schemas, flat or nested, and the provider's own tools.
            run_options: Further fields of the request, as they are.
            request_timeout: Seconds until the first event, and of every plain call.
            stream_idle_timeout: Seconds between two events.
            background: Whether responses run in the background. "auto": until the server refuses
                it.
            on_context_overflow: Reaction to a conversation that outgrew the model. `truncate`: the
                server leaves out the oldest items, else the thread continues in a new conversation
                that begins with its last turns; `compact`: the server compacts it first; `fail`:
                the batch goes to the failed list.
            parks: Runs are started to be looked at later: in the background, without a stream.
            closes_client: Whether `close` closes the client.
        """
        options = dict(run_options or {})
        background = True if parks else background
        self._streams = not parks
        self._falls_back = background == "auto"
        self._wants_background = bool(options.pop("background", background))
        self._usable = (
            remedies.RESPONSES
            if self._falls_back
            else tuple(one for one in remedies.RESPONSES if one is not remedies.FOREGROUND)
        )
        self._model = model
        self._shortening = ways_of_responses(on_context_overflow, options)
        self._channel = ProviderChannel(
            client,
            request_timeout=request_timeout,
            stream_idle_timeout=stream_idle_timeout,
            closes_client=closes_client,
        )
        self._remedies = remedies_of(self._channel.base_url, str(model or prompt))
        self._calls = ResponsesCalls(
            self._channel, model=model, prompt=prompt, tools=tools, run_options=options
        )
        self._log = ConversationLog(self._channel)
        self._repairer = Repairer(self._calls, self._log)
        self.capabilities = Capabilities(
            found_by=FoundBy.ANCHOR,
            follows=True,
            cancels=self._in_background,
            renews=on_context_overflow != "fail",
            writes=True,
            steers=True,
            background=True,
        )

    # --- conversations ----------------------------------------------------------------------------

    async def open_conversation(self, thread_id: str) -> str:
        """A new conversation, with the thread's id in its metadata."""
        return await opened(
            self._calls.create_conversation(thread_id), thread=thread_id, path="/conversations"
        )

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
            if not names(refusal, "conversation_id"):
                raise
            raise UnknownThread(
                f"Invalid conversation id {conversation_id!r}: the provider expects ids of another "
                "form. For ids of your own that only look like the provider's, set "
                "thread_ids='mapped'.",
                status_code=refusal.status_code,
                provider_code=refusal.provider_code,
            ) from refusal.__cause__

    # --- runs -------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Send the batch, after error outputs for the calls that an earlier one left open."""
        outputs = request.outputs
        healing = [
            output_item(call_id, outputs.get(call_id, UNANSWERED)) for call_id in request.open_calls
        ]
        items = [*healing, *input_items(request.items)]
        if request.writes:
            return self._write(request, items)
        return once_more_if_empty(self._send(request, items), partial(self._send, request, []))

    async def _write(
        self, request: RunRequest, items: Sequence[Json]
    ) -> AsyncGenerator[RunEvent, None]:
        """Add the items to the conversation, without a response over them."""
        added = await fetch(
            self._calls.add_items(request.conversation_id, items), thread=request.batch.thread_id
        )
        accepted, ended = WRITTEN
        yield accepted
        ids = [str(item["id"]) for item in objects_in(added.get("data")) if item.get("id")]
        is_whole = len(ids) == len(items)
        yield replace(
            ended,
            anchor=ids[-1] if is_whole else None,
            shown=tuple(ids[-len(request.items) :]) if is_whole else (),
        )

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncIterator[RunEvent]:
        """Send the outputs. The round after them is a response with its own id."""
        del run_id
        answers = [output_item(call.id, outputs[call.id]) for call in calls]
        answers += input_items(request.added)
        return once_more_if_empty(self._send(request, answers), partial(self._send, request, []))

    async def _send(self, request: RunRequest, items: list[Json]) -> AsyncGenerator[RunEvent, None]:
        """Send, and again if a refusal says what to change.

        A refusal is proof that nothing was accepted, so this doubles nothing.
        """
        trial = self._remedies.trial(self._usable, self._shortening)
        for _ in range(0 if request.renewed else request.shortened):
            trial.shorten()
        repair = self._repairer.begin(request)
        too_long = TooLong(request, trial)
        while True:
            body = self._calls.body(
                request,
                items,
                trial,
                in_background=self._wants_background,
                is_streamed=self._streams,
            )
            try:
                async with aclosing(self._read(request, body)) as events:
                    async for event in events:
                        self._accepted(trial)
                        if isinstance(event, ActionRequired | RunEnded) and not is_too_long(event):
                            trial.fitted()
                        yield self._shown(event, request)
            except RequestRefused as refusal:
                if not trial.helps(refusal.trouble, body):
                    repaired = await repair.input_after(refusal, items)
                    if repaired is None:
                        too_long.look(refusal)
                    items = items if repaired is None else repaired
            else:
                return

    async def _read(self, request: RunRequest, body: Json) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of one response, from its stream or from the whole answer.

        In the background and without a stream, the response is polled until its end.
        """
        thread = request.batch.thread_id
        is_streamed = bool(body.get("stream"))
        # Without a stream a foreground response gives no sign of life before its end.
        patient = Limits(first_s=request.deadline_s, idle_s=request.deadline_s)
        limits = self._channel.limits if is_streamed or body.get("background") else patient
        reader = ResponseReader(thread)
        try:
            async with aclosing(
                play(EventStream(self._calls.create(body), limits=limits, thread=thread), reader)
            ) as events:
                async for event in events:
                    if isinstance(event, RunEnded):
                        await self._repairer.give_up_calls(request, event, reader.output)
                    yield event
        except StreamCut:
            if is_streamed or reader.run_id is None:
                raise
            run_id = reader.run_id
            with watching(thread, run_id):
                response = await self._log.response(request, run_id)
                response = await self._until_it_ends(request, run_id, response)
            outcome = answer_of(response)
            if isinstance(outcome, RunEnded):
                await self._repairer.give_up_calls(request, outcome, output_of(response))
            yield outcome

    def _accepted(self, trial: Trial) -> None:
        """Remember what the server accepted the request with."""
        trial.succeeded()
        if self.capabilities.cancels and not self._in_background:
            self.capabilities = replace(self.capabilities, cancels=False)

    @property
    def _in_background(self) -> bool:
        """Return whether responses run in the background.

        As configured, unless this server refuses it.
        """
        return self._wants_background and remedies.FOREGROUND not in self._remedies

    # --- conversations that outgrew the model -----------------------------------------------------

    def _shown(self, result: Result, request: RunRequest) -> Result:
        """Return the event or finding; a run that failed for its length may be worth another."""
        return worth_shortening(
            result, can_shorten=has_way_left(request, self._remedies, self._shortening)
        )

    async def renew_conversation(
        self, request: RunRequest, calls: Sequence[ToolCall] = ()
    ) -> tuple[str, str | None] | None:
        """Create a conversation that begins with the later half of the one before.

        Of the earlier items only texts are carried over; the batch's own items follow.
        """
        thread = request.batch.thread_id
        items, is_ordered = await self._log.in_order(request)
        earlier, own = (split_at_batch if is_ordered else split_by_ids)(items, request, calls)
        if not earlier:
            return None
        if not is_ordered:
            _log.warning(
                "thread %r: its provider lists items in an arbitrary order; "
                "the thread continues without its earlier messages",
                thread,
            )
        seed = self._calls.seed(thread, later_half(earlier) if is_ordered else [])
        created = await seeded(
            seed, self._calls.create_conversation(thread), thread=thread, path="/conversations"
        )
        anchor = await self._log.last_id(created)
        carried = copied(own)
        for first in range(0, len(carried), MAX_ITEMS):
            await fetch(
                self._calls.add_items(created, carried[first : first + MAX_ITEMS]), thread=thread
            )
        return created, anchor

    async def follow(
        self, request: RunRequest, run_id: str, cursor: int | None = None
    ) -> AsyncGenerator[RunEvent, None]:
        """Watch a response: its stream after `cursor` (0: from the beginning), else by polling.

        Whatever goes wrong says nothing about the response, so it is a `StreamCut`; a 404, and a
        response in the foreground that no process works on any more, are a `RunVanished`.
        """
        if request.writes:
            for written in WRITTEN:
                yield written
            return
        thread = request.batch.thread_id
        has_started = False
        if cursor is not None and self._in_background and remedies.UNSTREAMED not in self._remedies:
            reader = ResponseReader(thread, run_id=run_id)
            async with aclosing(self._resumed(request, reader, run_id, cursor)) as events:
                async for event in events:
                    if isinstance(event, RunEnded):
                        await self._repairer.give_up_calls(request, event, reader.output)
                    if not has_started:
                        yield RunAccepted(run_id=run_id)
                    has_started = True
                    yield self._shown(event, request)
                    if isinstance(event, (ActionRequired, RunEnded)):
                        return
        with watching(thread, run_id):
            response = await self._log.response(request, run_id)
        if not has_started:
            yield RunAccepted(run_id=run_id)
        with watching(thread, run_id):
            response = await self._until_it_ends(request, run_id, response)
        outcome = answer_of(response)
        if isinstance(outcome, RunEnded):
            await self._repairer.give_up_calls(request, outcome, output_of(response))
        yield self._shown(outcome, request)

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

    async def _resumed(
        self, request: RunRequest, reader: ResponseReader, run_id: str, cursor: int
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield the rest of a stream; nothing if the server cannot resume it.

        Cut again after some events: `StreamCut`.
        """
        thread = request.batch.thread_id
        stream = EventStream(
            self._calls.resume(run_id, cursor),
            limits=self._channel.limits,
            thread=thread,
            missing=RunVanished,
        )
        has_begun = False
        try:
            async with aclosing(play(stream, reader)) as events:
                async for event in events:
                    has_begun = True
                    yield event
        except StreamCut:
            if has_begun:
                raise

    async def check_run(
        self, request: RunRequest, run_id: str
    ) -> RunAccepted | ActionRequired | RunEnded:
        """Look at a response once."""
        response = await self._log.response(request, run_id)
        if is_open(response):
            return RunAccepted(run_id=run_id)
        outcome = answer_of(response)
        if isinstance(outcome, RunEnded):
            await self._repairer.give_up_calls(request, outcome, output_of(response))
        return self._shown(outcome, request)

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Cancel a background response and wait a little for its end.

        A foreground one cannot be cancelled: nothing happens.
        """
        if not run_id:
            return
        try:
            response = await fetch(
                self._calls.cancel(run_id), thread=request.batch.thread_id, missing=RunVanished
            )
            await ended(
                response,
                partial(self._log.response, request, run_id),
                is_open,
                within_s=CANCEL_S,
                first_s=CANCEL_FIRST_S,
            )
        except (RunVanished, RequestRefused):
            return

    # --- reading back -----------------------------------------------------------------------------

    async def find(
        self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        """Determine the outcome of a request.

        By its id if one is known and it was the last request, else by the conversation's items.
        """
        try:
            if run_id and not calls:
                try:
                    response = await self._log.response(request, run_id)
                except RunVanished:
                    pass
                else:
                    return (
                        RunAccepted(run_id=run_id)
                        if is_open(response)
                        else self._shown(answer_of(response), request)
                    )
            return await self._log.what_became_of(request, run_id, calls)
        except ConversationBusy:
            return Undecided()

    async def find_model(self) -> str | None:
        """Ask the server for the model, as `model_check.find_model` says."""
        return await find_model(self._channel, self._model)

    @property
    def remedies(self) -> Remedies:
        """Remedies that this server and model need."""
        return self._remedies

    def direct(self) -> ResponsesDirect:
        """Return the direct calls: threads, messages and runs one by one."""
        from assistant_queue.backends.responses.provider_calls import ResponsesDirect

        return ResponsesDirect(
            self._channel,
            self._calls,
            self._remedies,
            in_background=self._wants_background,
            falls_back=self._falls_back,
        )

    async def close(self) -> None:
        """Close the client's connections, unless the caller owns the client."""
        await self._channel.close()
