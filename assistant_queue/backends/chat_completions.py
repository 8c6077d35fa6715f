"""Chat Completions: the protocol that every compatible server speaks (vLLM, Ollama, LiteLLM ...), with the history kept by the queue.

One request starts a batch: `chat.completions.create(messages=[...], stream=True)` with the whole conversation in it. A tool round is
another such request. The server keeps nothing, so the batch's rounds are stored with the batch (`transcript`), and what is remembered of
it joins the thread's history in the step that stores its result.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.backends import chat_history, remedies
from assistant_queue.backends.chat_calls import ChatCalls, asked, conversation, rounds_of
from assistant_queue.backends.chat_history import Json, Memory
from assistant_queue.backends.chat_reader import ChatReader, Completion, tool_call, with_ids
from assistant_queue.backends.chat_rounds import remembered
from assistant_queue.backends.model_check import find_model
from assistant_queue.backends.openai_clients import Channel
from assistant_queue.backends.openai_errors import of_trouble
from assistant_queue.backends.overflow import OnOverflow
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.backends.refusals import has_too_much_context, may_have_too_much_context
from assistant_queue.backends.remedies import Remedies, remedies_of
from assistant_queue.backends.streams import EventStream, Limits
from assistant_queue.core.runs import (
    EMPTY,
    ActionRequired,
    Capabilities,
    Finding,
    FoundBy,
    NotFound,
    RunEnded,
    RunEvent,
    RunRequest,
    RunStarted,
)
from assistant_queue.errors import BackendError, ConfigurationError, RequestRefused, RunVanished
from assistant_queue.models import ToolCall
from assistant_queue.trouble import Fate

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from assistant_queue.backends.chat_direct import ChatDirect

LOST_CONNECTIONS = 1
"""How often a request is repeated at once where its connection is lost before any answer. Chosen: a server may close a
kept connection at the moment when it is used again, and nothing is doubled there; a server that dies of the request dies once more."""


class ChatCompletionsBackend:
    """Sends batches as chat completions, with the thread's history before them.

    1. streams a completion; closing the stream is how it is given up
    2. hands a round's calls out together with all that was said in the batch, and goes on from there when the outputs come
    3. remembers the batch: question, tool rounds and reply, as far as `Memory` has room
    4. leaves out, joins or shortens what this server refuses, and sends again: a refusal is proof that nothing was done
    5. asks once more for an answer that ended well and says nothing, or where the connection is lost before one has begun

    It keeps three things between calls: the remedies that this server and model need (`remedies.py`), whether the server says when an
    answer has ended, and whether the model's reasoning begins without a tag.
    """

    name = "chat_completions"
    capabilities = Capabilities(found_by=FoundBy.NOT_AT_ALL, streams=True, conversations=False, stateless=True)

    def __init__(
        self,
        client: AsyncOpenAI,
        *,
        model: str,
        tools: Sequence[Mapping[str, Any]] | None = None,
        run_options: Mapping[str, Any] | None = None,
        history: int | None = None,
        history_tokens: int | None = None,
        count_tokens: Callable[[str], int] | None = None,
        reasoning_tags: Literal["strip", "keep"] = "strip",
        request_timeout: float = 30.0,
        stream_idle_timeout: float = 120.0,
        on_context_overflow: OnOverflow = "truncate",
        closes_client: bool = True,
    ) -> None:
        """Set up, without a request.

        Args:
            client: The client.
            model: As the server calls it.
            tools: Function schemas, flat or nested.
            run_options: Further fields of the request, as they are.
            history: Most messages of earlier batches that are remembered, tool rounds included; 0 for none. None takes 50, or 1,000 where
                `history_tokens` is the bound.
            history_tokens: Most tokens of them.
            count_tokens: Counts the tokens of a text; None estimates them.
            reasoning_tags: Whether reasoning between tags at the beginning of an answer is left out of it, or stays.
            request_timeout: Seconds until the first byte of an answer.
            stream_idle_timeout: Seconds between two pieces of it.
            on_context_overflow: What follows when a conversation outgrows the model: the history is halved until it fits, or (`fail`) the
                batch goes to the failed list.
            closes_client: Whether `close` closes the client.

        Raises:
            ConfigurationError: `history` or `history_tokens` is out of its bounds.
        """
        if history is not None and not 0 <= history <= chat_history.MAX_MESSAGES:
            raise ConfigurationError(f"history must be a number of messages from 0 to {chat_history.MAX_MESSAGES:,}, not {history!r}")
        if history_tokens is not None and history_tokens < 1:
            raise ConfigurationError(f"history_tokens must be a number from 1 on, not {history_tokens!r}; history=0 remembers nothing")
        usual = chat_history.USUAL_MESSAGES if history_tokens is None else chat_history.MAX_MESSAGES
        self._memory = Memory(messages=usual if history is None else history, tokens=history_tokens, count=count_tokens)
        self._channel = Channel(
            client, request_timeout=request_timeout, stream_idle_timeout=stream_idle_timeout, closes_client=closes_client
        )
        self._calls = ChatCalls(self._channel, model=model, tools=tools, run_options=run_options)
        self._model = model
        self._shortens = on_context_overflow != "fail"
        self._remedies = remedies_of(str(client.base_url), model)
        self._names_ends = False
        self._tags = ReasoningTags() if reasoning_tags == "strip" else None

    # --- conversations: there are none ----------------------------------------------------------------------------------

    async def open_conversation(self, thread_id: str) -> str:
        """There are none; the thread's own id."""
        return thread_id

    async def drop_conversation(self, conversation_id: str) -> None:
        """Nothing to delete."""

    async def locate(self, conversation_id: str) -> str | None:  # noqa: ARG002 - the contract's
        """Nothing the provider could tell."""
        return None

    # --- runs -----------------------------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Send the batch behind the history."""
        return self._send(request, [])

    def submit(self, request: RunRequest, run_id: str, calls: Sequence[ToolCall], outputs: Mapping[str, str]) -> AsyncIterator[RunEvent]:
        """Send the batch, its rounds so far and the outputs. The round after them is a completion with an id of its own."""
        given = [{"role": "tool", "tool_call_id": call.id, "content": outputs[call.id]} for call in calls]
        said: list[Json] = rounds_of(request)
        if not said:  # a round that this backend did not ask for has no transcript: it can be told all the same
            said = [{"role": "assistant", "content": None, "tool_calls": [_written(call) for call in calls], "run_id": run_id}]
        return self._send(request, [*said, *given])

    async def _send(self, request: RunRequest, rounds: list[Json]) -> AsyncGenerator[RunEvent, None]:
        """Send, and again if a refusal says what to change. A refusal is proof that nothing was accepted, so this doubles nothing."""
        earlier = chat_history.load(request.anchor)
        trial, has_started = self._remedies.trial(remedies.CHAT), False
        while True:
            body = self._calls.body(request, conversation(request, earlier, rounds, trial), trial)
            unnamed = f"{request.batch.id}-{request.batch.attempts}-{len(rounds)}"
            reader = ChatReader(request.batch.thread_id, unnamed=unnamed, tags=self._tags)
            try:
                async with aclosing(self._read(request, body, reader)) as events:
                    async for event in events:
                        if isinstance(event, RunStarted) and has_started:
                            continue  # of the same request in another form
                        has_started = True
                        yield event
                refusal = _refusal_in(reader.completion)
            except RequestRefused as error:
                refusal = error
            if refusal is None:
                trial.succeeded()
                yield self._outcome(request, earlier, rounds, reader.completion)
                return
            if not trial.helps(refusal.trouble, body):
                if not earlier or not self._shortens or not (has_too_much_context(refusal) or may_have_too_much_context(refusal)):
                    raise refusal
                earlier = chat_history.newer_half(earlier)

    async def _read(self, request: RunRequest, body: Json, reader: ChatReader) -> AsyncGenerator[RunEvent, None]:
        """The events of one completion until all of it is known; of two where the first is empty."""
        async with aclosing(self._read_once(request, body, reader)) as events:
            async for event in events:
                yield event
        if reader.completion.is_empty:
            reader.begin_again()
            async with aclosing(self._read_once(request, body, reader)) as events:
                async for event in events:
                    yield event

    async def _read_once(self, request: RunRequest, body: Json, reader: ChatReader) -> AsyncGenerator[RunEvent, None]:
        # Without a stream there is no sign of life before the end.
        limits = self._channel.limits if body["stream"] else Limits(first_s=request.deadline_s, idle_s=request.deadline_s)
        stream = EventStream(
            self._calls.create(body), limits=limits, thread=request.batch.thread_id, missing=RequestRefused, repeats=LOST_CONNECTIONS
        )
        stream.run_id = reader.run_id  # the second time, a refusal must not look as if nothing had been started
        try:
            async with aclosing(stream.events()) as chunks:
                async for chunk in chunks:
                    for event in reader.read(chunk):
                        yield event
                    stream.run_id, stream.is_over, stream.patience_s = reader.run_id, reader.is_over, reader.patience_s
                    del chunk  # as in `EventStream.events`
        except BackendError:
            if not reader.is_at_end:
                raise
        for event in reader.start() if stream.is_done else []:
            yield event
        is_whole = reader.close(is_done=stream.is_done)
        if reader.has_reason or stream.is_done:
            self._names_ends = True
        elif self._names_ends:
            # This server says when it has ended, and now it did not: a proxy has cut the answer off. Should it have become another server,
            # the next such answer is taken as it is.
            is_whole = self._names_ends = False
        if not is_whole or reader.run_id is None:
            raise stream.ended_early()

    def _outcome(self, request: RunRequest, earlier: Sequence[Json], rounds: Sequence[Json], read: Completion) -> ActionRequired | RunEnded:
        replies = (read.text,) if read.text else ()
        if read.failure is not None:
            return read.failure.ended(read.run_id, "failed", replies=replies, usage=read.usage)
        if read.calls and read.reason is None:
            taken = {call["id"] for message in rounds for call in message.get("tool_calls") or ()}
            calls = with_ids(read.calls, taken)
            message = {**read.fields, "role": "assistant", "content": read.raw or None, "tool_calls": list(calls), "run_id": read.run_id}
            return ActionRequired(
                run_id=read.run_id,
                calls=tuple(tool_call(call) for call in calls),
                replies=replies,
                usage=read.usage,
                transcript=chat_history.dump([*rounds, message]),
            )
        last = [{"role": "assistant", "content": read.text, "run_id": read.run_id}] if read.text else []
        reason = EMPTY if read.is_empty else read.reason
        return RunEnded(
            run_id=read.run_id,
            status="completed" if reason is None else "incomplete",
            replies=replies,
            usage=read.usage,
            incomplete_reason=reason,
            anchor=self._remember(request, earlier, [*rounds, *last]),
        )

    def _remember(self, request: RunRequest, earlier: Sequence[Json], said: Sequence[Json]) -> str | None:
        """The thread's history after this batch; None where nothing is remembered."""
        begun = asked(request)
        kept_of = (remembered(message, self._tags) for message in said)
        numbered = [{"id": f"{request.batch.id}-{number}", **message} for number, message in enumerate(kept_of, len(begun))]
        kept = self._memory.keep([*earlier, *begun, *numbered])
        return chat_history.dump(kept) if kept else None

    def follow(self, request: RunRequest, run_id: str, cursor: int | None = None) -> AsyncIterator[RunEvent]:  # noqa: ARG002 - the contract's
        """Not possible: a completion ends with the connection it was asked for on."""
        return _gone(f"the completion {run_id} for thread {request.batch.thread_id!r} cannot be watched again")

    async def find(self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()) -> Finding:  # noqa: ARG002 - the contract's
        """Return `NotFound`: the server keeps nothing, so the request can be repeated."""
        return NotFound(anchor=request.anchor)

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Nothing more to do: a completion is given up with its stream."""

    async def find_model(self) -> str | None:
        """Ask the server for the model, as `model_check.find_model` says."""
        return await find_model(self._channel, self._model)

    @property
    def remedies(self) -> Remedies:
        """What this server and model need."""
        return self._remedies

    def direct(self) -> ChatDirect:
        """The calls beside the queue: what is remembered can be read."""
        from assistant_queue.backends.chat_direct import ChatDirect

        return ChatDirect()

    async def close(self) -> None:
        """Close the client's connections, unless the caller owns the client."""
        await self._channel.close()


def _refusal_in(read: Completion) -> RequestRefused | None:
    """A failure of a completion that has said nothing, as what it is: a refusal that came inside a 200."""
    if read.failure is None or read.text or read.calls or read.failure.trouble.kind.fate is not Fate.REMEDY:
        return None
    refusal = of_trouble(read.failure.trouble, thread=read.run_id, missing=RequestRefused)
    return refusal if isinstance(refusal, RequestRefused) else None


def _written(call: ToolCall) -> Json:
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": call.function.arguments}}


async def _gone(message: str) -> AsyncIterator[RunEvent]:
    """A stream that cannot be had."""
    events: tuple[RunEvent, ...] = ()
    for event in events:
        yield event
    raise RunVanished(message)
