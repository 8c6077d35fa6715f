"""Answer batches by the Assistants protocol.

One request starts a batch: `runs.create(additional_messages=[...], stream=True)` appends the
messages and starts the run in one step. The messages stay in the thread even if the run fails, and
carry our marks in their metadata.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.backends.assistants import parser
from assistant_queue.backends.assistants.parser import RunReader
from assistant_queue.backends.assistants.requests import AssistantsCalls
from assistant_queue.backends.assistants.thread_log import ThreadLog
from assistant_queue.backends.assistants.thread_runs import ThreadRuns
from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.addresses import opened
from assistant_queue.backends.openai.conversation_renewal import later_half
from assistant_queue.backends.openai.empty_answers import once_more_if_empty
from assistant_queue.backends.openai.error_mapping import watching
from assistant_queue.backends.openai.foreign_calls import judged
from assistant_queue.backends.openai.item_lists import EndUnknown
from assistant_queue.backends.openai.overflow import (
    LEAST,
    Noted,
    OnOverflow,
    Result,
    last_messages,
    refuses_to_shorten,
    worth_shortening,
)
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.refused_fields import refuses_outputs
from assistant_queue.backends.openai.remedies import Remedy
from assistant_queue.backends.openai.seeding import seeded
from assistant_queue.backends.openai.sending import ASSISTANTS_HEADERS
from assistant_queue.backends.openai.streams import Call, EventStream, Json, fetch, play
from assistant_queue.core.runs import (
    WRITTEN,
    ActionRequired,
    CannotAsk,
    Capabilities,
    Finding,
    FoundBy,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
)
from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    UnknownThread,
)
from assistant_queue.models import ToolCall

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from assistant_queue.backends.assistants.provider_calls import AssistantsDirect
    from assistant_queue.backends.openai.sending import Sender

_MAX_MESSAGES = 32
"""Source: openai-php/client#269: additional_messages takes no more."""

_MAX_CHARS = 256_000
"""Source: the provider's published API description."""

_MOST_NOTED = 10_000
"""Threads remembered to have outgrown the model. Chosen: a megabyte or two; a forgotten one costs a
failed run."""


class AssistantsBackend:
    """Send batches as runs on a thread.

    1. appends the messages and starts the run in one streamed request
    2. checks, once, that this server takes messages this way; else it posts them one by one before
       each run
    3. watches a known run by polling: its stream cannot be resumed
    4. finds a batch again by the marks in the metadata of runs and messages
    5. shortens a thread that outgrew the model, or continues in a new one

    It keeps three facts between calls: whether this server takes messages with a run, whether it
    takes `truncation_strategy`, and which threads have outgrown the model.
    """

    name = "assistants"

    def __init__(
        self,
        client: AsyncOpenAI | Sender,
        *,
        assistant_id: str,
        tools: Sequence[Mapping[str, Any]] | None = None,
        run_options: Mapping[str, Any] | None = None,
        request_timeout: float = 30.0,
        stream_idle_timeout: float = 120.0,
        on_context_overflow: OnOverflow = "truncate",
        parks: bool = False,
        closes_client: bool = True,
    ) -> None:
        """Set up, without a request.

        Args:
            client: The client.
            assistant_id: The assistant every run is made with.
            tools: Function schemas, flat or nested, and the provider's own tools; they replace the
                assistant's. None keeps those.
            run_options: Further fields of a run, as they are; `max_output_tokens` is sent under
                this protocol's name.
            request_timeout: Seconds until the first event, and of every plain call.
            stream_idle_timeout: Seconds between two events.
            on_context_overflow: Reaction to a thread that outgrew the model: only its last messages
                are read, else it continues in a new one that begins with them; or (`fail`) the
                batch goes to the failed list.
            parks: Runs are started to be looked at later, without a stream.
            closes_client: Whether `close` closes the client.
        """
        self._channel = ProviderChannel(
            client,
            request_timeout=request_timeout,
            stream_idle_timeout=stream_idle_timeout,
            closes_client=closes_client,
            headers=ASSISTANTS_HEADERS,
        )
        self._calls = AssistantsCalls(
            self._channel,
            assistant_id=assistant_id,
            tools=tools,
            run_options=run_options,
            streams=not parks,
        )
        self._log = ThreadLog(self._channel)
        self._runs = ThreadRuns(self._calls, self._log, patience_s=request_timeout)
        renews = on_context_overflow != "fail"
        self._shortens = renews and remedies.LAST_MESSAGES.applies(run_options or {})
        self._long = Noted(_MOST_NOTED)
        self.capabilities = Capabilities(
            found_by=FoundBy.METADATA,
            follows=True,
            cancels=True,
            keeps_failed_text=True,
            renews=renews,
            inline_files=False,  # links to pictures alone; data URLs and documents are refused
            max_items=_MAX_MESSAGES,
            max_item_chars=_MAX_CHARS,
            writes=True,
            background=True,
        )
        self._takes_messages: bool | None = None
        self._proof = asyncio.Lock()

    # --- conversations ----------------------------------------------------------------------------

    async def open_conversation(self, thread_id: str) -> str:
        """Create a thread, with the queue's thread id in its metadata."""
        return await opened(self._calls.create_thread(thread_id), thread=thread_id, path="/threads")

    async def drop_conversation(self, conversation_id: str) -> None:
        """Delete a thread; one that is gone already is fine."""
        try:
            await fetch(self._calls.delete_thread(conversation_id), thread=conversation_id)
        except UnknownThread:
            return

    async def locate(self, conversation_id: str) -> str | None:
        """Return None without a request: batches are found by their marks."""
        del conversation_id
        return None

    # --- runs -------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        """Send the batch as one run; without messages if the thread holds them already.

        A run that keeps the thread locked and that no caller will answer is stopped.
        """
        if request.writes:
            return self._start_on_free_thread(request)
        return once_more_if_empty(
            self._start_on_free_thread(request), partial(self._run_over_thread, request)
        )

    def _run_over_thread(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        """Start one run over the thread's messages."""
        return self._create(request, RunReader(request.batch.thread_id), with_messages=False)

    async def _start_on_free_thread(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        has_freed = False
        while True:
            try:
                async with aclosing(self._started(request)) as events:
                    async for event in events:
                        yield event
            except ConversationBusy:
                if has_freed or not await self._runs.have_freed(request):
                    raise
                has_freed = True
            else:
                return

    def _started(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        """Return the events of a run, on the shortest way: each generator costs every event."""
        if request.items and self._takes_messages and not request.writes:
            reader = RunReader(request.batch.thread_id)
            return self._create(request, reader, with_messages=True)
        return self._start(request)

    async def _start(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        is_repeated = request.again or request.batch.attempts > 1
        if request.writes:
            await self._post(request, is_repeated=is_repeated)
            for written in WRITTEN:
                yield written
            return
        if request.items and self._takes_messages is None and is_repeated:
            # An earlier attempt may have posted some of them one by one, from another process.
            missing = await self._missing(request)
            self._takes_messages = None if len(missing) == len(request.items) else False
        if request.items and self._takes_messages is not False:
            has_started = False
            async with aclosing(self._start_with_messages(request)) as events:
                async for event in events:
                    has_started = True
                    yield event
            if has_started:
                return
        await self._post(request, is_repeated=is_repeated)
        async with aclosing(self._run_over_thread(request)) as events:
            async for event in events:
                yield event

    async def _post(self, request: RunRequest, *, is_repeated: bool) -> None:
        """Post the items one by one; only an earlier attempt can have posted some of them."""
        for item in await self._missing(request) if is_repeated else request.items:
            await fetch(self._calls.post(request, item), thread=request.batch.thread_id)

    async def _create(
        self, request: RunRequest, reader: RunReader, *, with_messages: bool
    ) -> AsyncGenerator[RunEvent, None]:
        """Start one run, over as much of the thread as the server lets it read.

        A refusal is proof that nothing was accepted.
        """
        level = self._level(request)
        while True:
            call = self._calls.create_run(
                request, with_messages=with_messages, reads=last_messages(request, level)
            )
            try:
                async with aclosing(self._watch(request, call, reader)) as events:
                    async for event in events:
                        if level > self._level(request):
                            self._long.add(request.conversation_id)
                        yield event
            except RequestRefused as refusal:
                if level and refuses_to_shorten(refusal):
                    self._shortens = False
                    level = 0
                    continue
                # The history is not in the request: a refusal concerns the length only if it says
                # so.
                if not refusal.outgrown or not self._can_shorten(request) or level == LEAST:
                    raise
                level += 1
            else:
                return

    async def _start_with_messages(self, request: RunRequest) -> AsyncGenerator[RunEvent, None]:
        """Send messages and run in one request; yield nothing if the server drops the messages."""
        reader = RunReader(request.batch.thread_id)
        async with AsyncExitStack() as proving:
            if self._takes_messages is None:
                # One batch tries it, the others wait: each try holds two connections, and may cost
                # a run that answers nothing.
                await proving.enter_async_context(self._proof)
            if self._takes_messages is False:
                return
            async with aclosing(self._create(request, reader, with_messages=True)) as events:
                async for event in events:
                    if isinstance(event, RunAccepted) and self._takes_messages is None:
                        self._takes_messages = await self._has_taken(
                            request, reader.run, event.run_id
                        )
                        if not self._takes_messages:
                            return
                    await proving.aclose()
                    yield event

    async def _has_taken(self, request: RunRequest, run: Json, run_id: str) -> bool:
        """Return whether the messages of the first batch are in the thread.

        If not, the run is stopped: it answers something else.
        """
        since = run.get("created_at")
        try:
            if len(await self._missing(request, since=since)) < len(request.items):
                return True
            await self.cancel(request, run_id)
            # Asked again when the run is over: a server may be slow to show them.
            return len(await self._missing(request, since=since)) < len(request.items)
        except RequestRefused as error:
            thread = request.batch.thread_id
            raise OutcomeUnknown(
                f"Run {run_id!r} of thread {thread!r} was accepted, its messages could not be read "
                f"back: {error}"
            ) from error

    async def _missing(self, request: RunRequest, since: int | None = None) -> list[InputItem]:
        """Return the items that have to be posted.

        If that cannot be determined, nothing is posted, and the batch has to be looked up.
        """
        try:
            return await self._log.missing(request, since=since)
        except EndUnknown as error:
            thread = request.batch.thread_id
            raise OutcomeUnknown(
                f"The messages of thread {thread!r} could not be read back to their end; nothing "
                "more was sent."
            ) from error

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncGenerator[RunEvent, None]:
        """Send the outputs; the same run continues.

        A run that does not wait for any has them already, or is over: it is watched.
        """
        return once_more_if_empty(
            self._submit(request, run_id, calls, outputs), partial(self._run_over_thread, request)
        )

    async def _submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncGenerator[RunEvent, None]:
        reader = RunReader(request.batch.thread_id)
        try:
            call = self._calls.submit(request, run_id, calls, outputs)
            async with aclosing(self._watch(request, call, reader, missing=RunVanished)) as events:
                async for event in events:
                    yield event
        except RequestRefused as refusal:
            if not refuses_outputs(refusal):
                raise
        else:
            return
        async with aclosing(self.follow(request, run_id)) as events:
            async for event in events:
                yield event

    async def _watch(
        self,
        request: RunRequest,
        call: Call,
        reader: RunReader,
        missing: type[BackendError] = UnknownThread,
    ) -> AsyncGenerator[RunEvent, None]:
        stream = EventStream(
            call, limits=self._channel.limits, thread=request.batch.thread_id, missing=missing
        )
        async with aclosing(play(stream, reader)) as events:
            async for event in events:
                if (
                    isinstance(event, RunEnded)
                    and parser.has_ended_well(reader.run)
                    and not event.replies
                ):
                    # Not every server streams messages: a run without text is read before it is
                    # believed.
                    with watching(request.batch.thread_id, event.run_id):
                        replies = await self._log.replies(request, event.run_id)
                    yield judged(replace(event, replies=replies, whole=bool(replies)), ())
                else:
                    yield self._shown(event, request)

    def _shown(self, result: Result, request: RunRequest) -> Result:
        """Return the event or finding; a run that failed for its length may be worth another."""
        if isinstance(result, RunEnded) and result.error is None and self._level(request):
            self._long.add(request.conversation_id)
        return worth_shortening(
            result, can_shorten=self._can_shorten(request) and self._level(request) < LEAST
        )

    def _can_shorten(self, request: RunRequest) -> bool:
        return self._shortens and not request.renewed

    def _level(self, request: RunRequest) -> int:
        """Return the level of shortening of the batch's next run, from 0 for none to `LEAST`."""
        return (
            min(LEAST, request.shortened + (request.conversation_id in self._long))
            if self._can_shorten(request)
            else 0
        )

    async def follow(
        self, request: RunRequest, run_id: str, cursor: int | None = None
    ) -> AsyncGenerator[RunEvent, None]:
        """Watch a run by polling.

        Whatever goes wrong says nothing about the run, so it is a `StreamCut`; only a 404 is not.
        """
        del cursor
        if request.writes:
            for written in WRITTEN:
                yield written
            return
        with watching(request.batch.thread_id, run_id):
            run = await self._log.run(request, run_id)
        yield RunAccepted(run_id=run_id)
        with watching(request.batch.thread_id, run_id):
            run = await self._runs.until_it_stops(request, run_id, run)
            outcome = await self._runs.outcome(request, run)
        yield self._shown(outcome, request)

    async def check_run(
        self, request: RunRequest, run_id: str
    ) -> RunAccepted | ActionRequired | RunEnded:
        """Look at a run once."""
        run = await self._log.run(request, run_id)
        if parser.is_open(run):
            return RunAccepted(run_id=run_id)
        return self._shown(await self._runs.outcome(request, run), request)

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Cancel a run and wait a little for its end; one that has ended is fine."""
        await self._runs.cancel(request, run_id)

    async def renew_conversation(
        self, request: RunRequest, calls: Sequence[ToolCall] = ()
    ) -> tuple[str, str | None] | None:
        """Create a thread that begins with the later half of the messages before the batch.

        Only texts are carried over.
        """
        del calls  # a run that waits for outputs cannot be moved
        thread = request.batch.thread_id
        earlier = await self._log.earlier(request)
        if not earlier:
            return None
        kept = [{"role": one["role"], "content": one["content"]} for one in later_half(earlier)]
        created = await seeded(
            self._calls.seed(thread, kept),
            self._calls.create_thread(thread),
            thread=thread,
            path="/threads",
        )
        return created, None

    # --- reading back -----------------------------------------------------------------------------

    async def find(
        self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        """Determine the outcome of a request.

        By the run if one is known, else by the marks on runs, then on messages.
        """
        if run_id:
            try:
                run = await self._log.run(request, run_id)
            except RunVanished:
                if calls:
                    raise
            else:
                return await self._finding(request, run, calls)
        try:
            if request.writes:
                return await self._found_written(request)
            return await self._found_by_marks(request)
        except EndUnknown:
            reason = (
                "the provider's lists of the thread's runs and messages do not show whether the "
                "batch is among them"
            )
            return CannotAsk(reason=reason)

    async def _found_written(self, request: RunRequest) -> Finding:
        missing = await self._log.missing(request)
        if not missing:
            return WRITTEN[1]
        if await self._log.has_unmarked(request, missing):
            return CannotAsk(
                reason="the thread holds messages with the batch's texts and without metadata:"
                " whether they are the batch's cannot be determined"
            )
        return NotFound()

    async def _found_by_marks(self, request: RunRequest) -> Finding:
        newest = await self._log.newest_run(request)
        is_over_these = self._takes_messages and not request.joined
        if newest is not None and (is_over_these or not request.items):
            return await self._finding(request, newest)
        missing = await self._log.missing(request)
        if request.joined and missing:
            return NotFound()  # the run is an earlier one's
        if newest is not None and len(missing) < len(request.items):
            return await self._finding(request, newest)
        if newest is not None:
            # A run over a thread without our messages: this server drops them. It must not block
            # the next run.
            await self.cancel(request, str(newest["id"]))
        if newest is not None or 0 < len(missing) < len(request.items):
            self._takes_messages = False
        return NotFound(holds_text=not missing)

    async def _finding(
        self, request: RunRequest, run: Json, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        if parser.is_open(run):
            return RunAccepted(run_id=str(run["id"]))
        sent = {call.id for call in calls}
        waits_for = {call.id for call in parser.calls_of(run)}
        if parser.is_waiting(run) and sent & waits_for:
            return NotFound()
        return self._shown(await self._runs.outcome(request, run), request)

    async def find_model(self) -> str | None:
        """Ask the server for the assistant.

        Returns:
            A description of the assistant.

        Raises:
            BackendError: It does not know the assistant, refuses the key, or did not answer.
        """
        await fetch(self._calls.find_assistant(), thread="(doctor)", missing=RequestRefused)
        return f"assistant {self._calls.assistant_id!r}"

    @property
    def remedies(self) -> Iterable[Remedy]:
        """Return none: the backend remembers by thread how to shorten it."""
        return ()

    def direct(self) -> AssistantsDirect:
        """Return the direct calls: threads, messages and runs one by one."""
        from assistant_queue.backends.assistants.provider_calls import AssistantsDirect

        return AssistantsDirect(self._channel, self._calls)

    async def close(self) -> None:
        """Close the client's connections, unless the caller owns the client."""
        await self._channel.close()
