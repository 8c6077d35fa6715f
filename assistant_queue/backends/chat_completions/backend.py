"""Answer batches by Chat Completions, with the history kept by the queue.

Every compatible server speaks this protocol (vLLM, Ollama, LiteLLM ...).

One request starts a batch: `chat.completions.create(messages=[...], stream=True)` with the whole
conversation in it. A tool round is another such request. The server keeps nothing, so the batch's
rounds are stored with the batch (`transcript`), and its messages join the thread's history in the
step that stores its result.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Literal

from assistant_queue.backends.chat_completions import history as chat_history
from assistant_queue.backends.chat_completions import token_counting
from assistant_queue.backends.chat_completions.history import Json, Memory
from assistant_queue.backends.chat_completions.parser import (
    ChatReader,
    Completion,
    tool_call,
    with_ids,
)
from assistant_queue.backends.chat_completions.requests import (
    ChatCalls,
    added,
    asked,
    conversation,
    rounds_of,
    with_arguments,
    written,
)
from assistant_queue.backends.chat_completions.rounds import remembered
from assistant_queue.backends.no_conversations import NoConversations, failing, remembering
from assistant_queue.backends.openai import remedies
from assistant_queue.backends.openai.error_mapping import of_trouble
from assistant_queue.backends.openai.model_check import find_model
from assistant_queue.backends.openai.overflow import OnOverflow
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.refused_fields import (
    has_too_much_context,
    may_have_too_much_context,
)
from assistant_queue.backends.openai.remedies import Remedies, remedies_of
from assistant_queue.backends.openai.streams import EventStream, Limits
from assistant_queue.backends.reasoning_tags import ReasoningTags
from assistant_queue.core.runs import (
    EMPTY,
    ActionRequired,
    Capabilities,
    Finding,
    FoundBy,
    NotFound,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
)
from assistant_queue.errors import BackendError, ConfigurationError, RequestRefused, RunVanished
from assistant_queue.models import ToolCall
from assistant_queue.trouble import Fate

if TYPE_CHECKING:
    from openai import AsyncOpenAI

    from assistant_queue.backends.chat_completions.provider_calls import ChatDirect
    from assistant_queue.backends.openai.sending import Sender

LOST_CONNECTIONS = 1
"""Most times to repeat a request at once if its connection is lost before any answer. Chosen: a
server may close a kept connection just as it is reused, and nothing is doubled then; a server
that crashes on the request crashes once more."""


class ChatCompletionsBackend(NoConversations):
    """Send batches as chat completions, after the thread's history.

    1. streams a completion; closing the stream cancels it
    2. returns a round's calls with the batch's messages so far, and continues from them when the
       outputs come
    3. remembers the batch: question, tool rounds and reply, up to the bounds of `Memory`
    4. leaves out, joins or shortens fields and messages that this server refuses, and sends again:
       a refusal is proof that nothing was done
    5. asks once more if an answer ended well without text, or if the connection is lost before an
       answer has begun

    It keeps three facts between calls: the remedies that this server and model need
    (`remedies.py`), whether the server marks the end of an answer, and whether the model's
    reasoning begins without a tag.
    """

    name = "chat_completions"
    capabilities = Capabilities(
        found_by=FoundBy.NOT_AT_ALL,
        conversations=False,
        stateless=True,
        writes=True,
        steers=True,
    )

    def __init__(
        self,
        client: AsyncOpenAI | Sender,
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
            model: Its name on the server.
            tools: Function schemas, flat or nested.
            run_options: Further fields of the request, as they are.
            history: Most messages of earlier batches that are remembered, tool rounds included; 0
                for none. None takes 50, or 1,000 if `history_tokens` is the bound.
            history_tokens: Most tokens of them.
            count_tokens: Counts the tokens of a text; None estimates them.
            reasoning_tags: Whether reasoning between tags at the beginning of an answer is left out
                of it, or stays.
            request_timeout: Seconds until the first byte of an answer.
            stream_idle_timeout: Seconds between two pieces of it.
            on_context_overflow: Reaction to a conversation that outgrew the model: the history is
                halved until it fits, or (`fail`) the batch goes to the failed list.
            closes_client: Whether `close` closes the client.

        Raises:
            ConfigurationError: `history` or `history_tokens` is out of its bounds.
        """
        if history is not None and not 0 <= history <= chat_history.MAX_MESSAGES:
            raise ConfigurationError(
                "history must be a number of messages from 0 to "
                f"{chat_history.MAX_MESSAGES:,}, not {history!r}"
            )
        if history_tokens is not None and history_tokens < 1:
            raise ConfigurationError(
                f"history_tokens must be a number from 1 on, not {history_tokens!r}; "
                "history=0 remembers nothing"
            )
        usual = chat_history.USUAL_MESSAGES if history_tokens is None else chat_history.MAX_MESSAGES
        self._memory = Memory(
            messages=usual if history is None else history,
            tokens=history_tokens,
            count=count_tokens,
        )
        self._channel = ProviderChannel(
            client,
            request_timeout=request_timeout,
            stream_idle_timeout=stream_idle_timeout,
            closes_client=closes_client,
        )
        self._calls = ChatCalls(self._channel, model=model, tools=tools, run_options=run_options)
        self._model = model
        self._shortens = on_context_overflow != "fail"
        self._remedies = remedies_of(self._channel.base_url, model)
        self._names_ends = False
        self._tags = ReasoningTags() if reasoning_tags == "strip" else None

    # --- runs -------------------------------------------------------------------------------------

    def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        """Send the batch after the history."""
        if request.writes:
            earlier = chat_history.load(request.anchor)
            return remembering(lambda: self._remember(*written(request, earlier)))
        return self._send(request, [])

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> AsyncIterator[RunEvent]:
        """Send the batch, its rounds so far and the outputs.

        The round after them is a completion with its own id.
        """
        given = [
            {"role": "tool", "tool_call_id": call.id, "content": outputs[call.id]} for call in calls
        ]
        rounds: list[Json] = rounds_of(request)
        # A round of another backend has no transcript: its calls are enough.
        if not rounds:
            rounds = [
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [with_arguments(call) for call in calls],
                    "run_id": run_id,
                }
            ]
        return self._send(request, [*rounds, *given, *added(request)])

    async def _send(
        self, request: RunRequest, rounds: list[Json]
    ) -> AsyncGenerator[RunEvent, None]:
        """Send, and again if a refusal says what to change.

        A refusal is proof that nothing was accepted, so this doubles nothing.
        """
        earlier = chat_history.load(request.anchor)
        trial = self._remedies.trial(remedies.CHAT)
        has_started = False
        while True:
            body = self._calls.body(request, conversation(request, earlier, rounds, trial), trial)
            unnamed = f"{request.batch.id}-{request.batch.attempts}-{len(rounds)}"
            reader = ChatReader(request.batch.thread_id, unnamed=unnamed, tags=self._tags)
            try:
                async with aclosing(self._read(request, body, reader)) as events:
                    async for event in events:
                        if isinstance(event, RunAccepted) and has_started:
                            continue  # of the same request in another form
                        has_started = True
                        yield event
                refusal = _refusal_in(reader.completion)
            except RequestRefused as error:
                refusal = error
            if refusal is None:
                trial.succeeded()
                yield await self._outcome(request, earlier, rounds, reader.completion)
                return
            if not trial.helps(refusal.trouble, body):
                if (
                    not earlier
                    or not self._shortens
                    or not (has_too_much_context(refusal) or may_have_too_much_context(refusal))
                ):
                    raise refusal
                earlier = chat_history.newer_half(earlier)

    async def _read(
        self, request: RunRequest, body: Json, reader: ChatReader
    ) -> AsyncGenerator[RunEvent, None]:
        """Yield the events of one completion, and of a second one if the first is empty."""
        async with aclosing(self._read_once(request, body, reader)) as events:
            async for event in events:
                yield event
        if reader.completion.is_empty:
            reader.begin_again()
            async with aclosing(self._read_once(request, body, reader)) as events:
                async for event in events:
                    yield event

    async def _read_once(
        self, request: RunRequest, body: Json, reader: ChatReader
    ) -> AsyncGenerator[RunEvent, None]:
        # Without a stream there is no sign of life before the end.
        limits = (
            self._channel.limits
            if body["stream"]
            else Limits(first_s=request.deadline_s, idle_s=request.deadline_s)
        )
        stream = EventStream(
            self._calls.create(body),
            limits=limits,
            thread=request.batch.thread_id,
            missing=RequestRefused,
            repeats=LOST_CONNECTIONS,
        )
        # The second time, a refusal must not look as if nothing had been started.
        stream.run_id = reader.run_id
        try:
            async with aclosing(stream.bursts()) as bursts:
                async for burst in bursts:
                    while burst:
                        for event in reader.read(burst.pop(0)):
                            yield event
                        stream.run_id = reader.run_id
                        stream.is_over = reader.is_over
                        stream.patience_s = reader.patience_s
        except BackendError:
            if not reader.is_at_end:
                raise
        for event in reader.start() if stream.is_done else []:
            yield event
        is_whole = reader.close(is_done=stream.is_done)
        if reader.has_reason or stream.is_done:
            self._names_ends = True
        elif self._names_ends:
            # This server has marked the ends of answers before, so a proxy cut this one off. If
            # another server was started in its place, the next such answer is accepted.
            is_whole = self._names_ends = False
        if not is_whole or reader.run_id is None:
            raise stream.ended_early()

    async def _outcome(
        self, request: RunRequest, earlier: Sequence[Json], rounds: Sequence[Json], read: Completion
    ) -> ActionRequired | RunEnded:
        replies = (read.text,) if read.text else ()
        if read.failure is not None:
            return read.failure.ended(read.run_id, "failed", replies=replies, usage=read.usage)
        if read.calls and read.reason is None:
            taken = {call["id"] for message in rounds for call in message.get("tool_calls") or ()}
            calls = with_ids(read.calls, taken)
            message = {
                **read.fields,
                "role": "assistant",
                "content": read.raw or None,
                "tool_calls": list(calls),
                "run_id": read.run_id,
            }
            return ActionRequired(
                run_id=read.run_id,
                calls=tuple(tool_call(call) for call in calls),
                replies=replies,
                usage=read.usage,
                transcript=chat_history.dump([*rounds, message]),
            )
        last = (
            [{"role": "assistant", "content": read.text, "run_id": read.run_id}]
            if read.text
            else []
        )
        reason = EMPTY if read.is_empty else read.reason
        return RunEnded(
            run_id=read.run_id,
            status="completed" if reason is None else "incomplete",
            replies=replies,
            usage=read.usage,
            incomplete_reason=reason,
            model=read.model,
            anchor=await self._remember(request, earlier, [*rounds, *last]),
        )

    async def _remember(
        self, request: RunRequest, earlier: Sequence[Json], said: Sequence[Json]
    ) -> str | None:
        """Return the thread's history after this batch; None if nothing is remembered."""
        begun = asked(request)
        kept_of = (remembered(message, self._tags) for message in said)
        numbered = [
            {"id": f"{request.batch.id}-{number}", **message}
            for number, message in enumerate(kept_of, len(begun))
        ]
        kept = await token_counting.keep(self._memory, [*earlier, *begun, *numbered])
        return chat_history.dump(kept) if kept else None

    def follow(
        self, request: RunRequest, run_id: str, cursor: int | None = None
    ) -> AsyncIterator[RunEvent]:
        """Raise `RunVanished`: a completion ends with its connection."""
        return failing(
            RunVanished(
                f"the completion {run_id} for thread {request.batch.thread_id!r} cannot be watched "
                "again"
            )
        )

    async def find(
        self, request: RunRequest, run_id: str | None = None, calls: Sequence[ToolCall] = ()
    ) -> Finding:
        """Return `NotFound`: the server keeps nothing, so the request can be repeated."""
        return NotFound(anchor=request.anchor)

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Do nothing: closing the stream cancels a completion."""

    async def find_model(self) -> str | None:
        """Ask the server for the model, as `model_check.find_model` says."""
        return await find_model(self._channel, self._model)

    @property
    def remedies(self) -> Remedies:
        """Remedies that this server and model need."""
        return self._remedies

    def direct(self) -> ChatDirect:
        """Return the direct calls: the history can be read."""
        from assistant_queue.backends.chat_completions.provider_calls import ChatDirect

        return ChatDirect()

    async def close(self) -> None:
        """Close the client's connections, unless the caller owns the client."""
        await self._channel.close()


def _refusal_in(read: Completion) -> RequestRefused | None:
    """Return the failure of a completion without text as a refusal.

    It is a refusal that came inside a 200.
    """
    if (
        read.failure is None
        or read.text
        or read.calls
        or read.failure.trouble.kind.fate is not Fate.REMEDY
    ):
        return None
    refusal = of_trouble(read.failure.trouble, thread=read.run_id, missing=RequestRefused)
    return refusal if isinstance(refusal, RequestRefused) else None
