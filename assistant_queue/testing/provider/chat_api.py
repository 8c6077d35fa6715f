"""Chat completions: the endpoint, and how a completion comes about.

Nothing is kept when it is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from assistant_queue.testing.provider.actions import Action, ReplyWith, Vanish
from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.app_context import Exchange
from assistant_queue.testing.provider.chat_bodies import CREATE_CHAT_COMPLETION, check_request
from assistant_queue.testing.provider.chat_voice import Voice
from assistant_queue.testing.provider.chat_wire import StreamedText, new_completion_id
from assistant_queue.testing.provider.context_limits import failure_of, overlong_messages
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.log import RunRecord
from assistant_queue.testing.provider.pacing import forever, pause, say
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.responses_wire import service_tier
from assistant_queue.testing.provider.routing import Answer, ApiCall, ConnectionDropped, Operation
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    Never,
    Outcome,
    OutputGiven,
    RunFailure,
    ToolCalls,
    Turn,
    as_reply,
    tokens_of,
)
from assistant_queue.testing.provider.sse import StreamAnswer, Tape
from assistant_queue.testing.provider.state import (
    Json,
    World,
    count_words,
    is_user_text,
    text_of,
    tool_names,
)
from assistant_queue.testing.provider.stream_style import styled
from assistant_queue.testing.provider.troubles import trouble_of
from assistant_queue.testing.provider.wordings import Facts


@dataclass(eq=False)
class CompletionRun:
    """One completion: what was asked, and how far it is. `tape` is there only if it is streamed."""

    asked: Json
    streamed: StreamedText
    tape: Tape | None
    voice: Voice
    actions: tuple[Action, ...]
    failure: RunFailure | None = None
    status: str = "in_progress"
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def messages(self) -> list[Json]:
        """Everything the model is given."""
        found: list[Json] = self.asked["messages"]
        return found

    @property
    def instructions(self) -> str | None:
        """The system's words."""
        said = [
            text_of(message)
            for message in self.messages
            if message["role"] in {"system", "developer"}
        ]
        return "\n\n".join(said) or None

    def turn(self, exchange: Exchange) -> Turn:
        """Return the turn for the model script."""
        return Turn(
            protocol="chat_completions",
            conversation_id=None,
            run_id=self.streamed.id,
            user_texts=exchange.user_texts,
            instructions=self.instructions,
            tools=tool_names(self.asked.get("tools")),
            tool_outputs=exchange.outputs,
            round=exchange.round,
            metadata=self.asked.get("metadata") or {},
            messages=tuple(self.messages),
        )

    def record(self, exchange: Exchange, request: int) -> RunRecord:
        """Return the log's record of its acceptance.

        It holds only the messages of this request, not earlier ones.
        """
        latest = _latest_outputs(self.messages)
        return RunRecord(
            id=self.streamed.id,
            protocol="chat_completions",
            conversation_id=None,
            request=request,
            user_texts=() if latest else exchange.user_texts,
            metadata=self.asked.get("metadata") or {},
            instructions=self.instructions,
            tools=tool_names(self.asked.get("tools")),
            stream=bool(self.asked.get("stream")),
            status=self.status,
            started_at=time.time(),
            outputs=tuple(output for output in exchange.outputs if output.call_id in latest),
        )


class ChatApi:
    """Takes a request on, asks the model, and answers whole or in chunks.

    A completion continues after its client has disconnected, and then leaves nothing.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> list[Operation]:
        """The endpoint."""
        return [
            Operation(
                "chat.completions.create",
                "POST",
                "/chat/completions",
                "chat_completions",
                self.create,
            )
        ]

    async def create(self, call: ApiCall) -> Answer:
        """A stream, or the finished completion."""
        asked = call.checked(CREATE_CHAT_COMPLETION)
        server = call.server
        check_request(asked, server)
        is_streamed = bool(asked.get("stream")) and not server.ignores_stream
        counts = (
            bool((asked.get("stream_options") or {}).get("include_usage"))
            and not server.omits_usage
        )
        streamed = StreamedText(
            id=new_completion_id(),
            model=asked["model"],
            counts=counts,
            server=server,
            service_tier=service_tier(asked),
        )
        tape = Tape(styled(server)) if is_streamed else None
        voice = Voice(
            streamed, tape, count_words([text_of(message) for message in asked["messages"]])
        )
        completion = CompletionRun(asked, streamed, tape, voice, call.actions)
        self._accept(completion, call.request.number)
        if find(Vanish, call.actions) is not None:
            self._stop(completion, "vanished")
        if completion.tape is not None:
            return StreamAnswer(
                completion.tape, 0, lambda: self._stop(completion, "failed"), server.content_type
            )
        await completion.ended.wait()
        if completion.status == "vanished":
            raise ConnectionDropped
        if completion.failure is not None:
            raise _problem(completion.failure, completion)
        return streamed.whole()

    def _accept(self, completion: CompletionRun, request: int) -> None:
        exchange = _read_exchange(completion.messages)
        self._world.log.start_run(completion.record(exchange, request))
        completion.voice.begin()
        completion.task = self._world.spawn(self._work(completion, exchange))
        if completion.streamed.server.keep_alive != "no":
            self._world.spawn(completion.voice.keep_alive())

    async def _work(self, completion: CompletionRun, exchange: Exchange) -> None:
        world = self._world
        streamed = completion.streamed
        await world.gates.pass_through("accepted", lambda: world.log.run(streamed.id))
        scripted = find(ReplyWith, completion.actions)
        overlong = overlong_messages(completion.messages, world.personality)
        if overlong is not None:
            outcome: Outcome = failure_of(overlong)
        else:
            outcome = (
                world.ask_model(completion.turn(exchange)) if scripted is None else scripted.outcome
            )
        streamed.tokens = tokens_of(outcome)
        streamed.finish, status = _ending(outcome, streamed.server)
        await self._perform(completion, outcome)
        await world.gates.pass_through("completing", lambda: world.log.run(streamed.id))
        if status != "failed":
            completion.voice.end()
        self._end(completion, status)

    async def _perform(self, completion: CompletionRun, outcome: Outcome) -> None:
        """Do what the model decided."""
        voice = completion.voice
        if isinstance(outcome, Never):
            await forever()
        if isinstance(outcome, RunFailure):
            await pause(self._delay(outcome.delay))
            if outcome.text is not None:
                await self._speak(completion, outcome.text, 1, 0.0)
            completion.failure = outcome
            voice.fail(_problem(outcome, completion))
        elif isinstance(outcome, ToolCalls):
            await pause(self._delay(outcome.delay))
            if outcome.text is not None:
                await self._speak(completion, outcome.text, 1, 0.0)
            voice.call(outcome)
        elif isinstance(outcome, IncompleteReply):
            await self._speak(completion, outcome.text, 1, self._delay(outcome.delay))
        else:
            reply = as_reply(outcome)
            await self._speak(
                completion, "\n\n".join(reply.texts), reply.chunks, self._delay(reply.delay)
            )

    async def _speak(self, completion: CompletionRun, text: str, chunks: int, delay: float) -> None:
        """Say one text, spreading `delay` over its deltas."""
        gates = self._world.gates
        record = partial(self._world.log.run, completion.streamed.id)
        async for piece in say(text, chunks, delay, lambda: gates.pass_through("speaking", record)):
            completion.voice.say(piece)

    def _end(self, completion: CompletionRun, status: str) -> None:
        if completion.ended.is_set():
            return
        completion.status = status
        failed_as = None if completion.failure is None else completion.failure.code
        self._world.log.change_run(completion.streamed.id, status=status, error_code=failed_as)
        if completion.tape is not None:
            completion.tape.close(
                broken=status == "vanished" or completion.streamed.server.cuts_at_the_end
            )
        completion.ended.set()

    def _stop(self, completion: CompletionRun, status: str) -> None:
        """End it from outside, whatever it is doing."""
        if completion.task is not None:
            completion.task.cancel()
        self._end(completion, status)

    def _delay(self, delay: float | None) -> float:
        return self._world.latency if delay is None else delay


def _ending(outcome: Outcome, server: Personality) -> tuple[str | None, str]:
    """The `finish_reason` and the status that an outcome leads to."""
    if isinstance(outcome, RunFailure | Never):
        return None, "failed"
    if isinstance(outcome, ToolCalls):
        return "function_call" if server.legacy_calls else server.ends_calls_with, "completed"
    if isinstance(outcome, IncompleteReply):
        return outcome.reason or "length", "incomplete"
    return server.ends_text_with, "completed"


def _problem(failure: RunFailure, completion: CompletionRun) -> ApiProblem:
    server = completion.streamed.server
    if failure.kind is not None:
        problem = trouble_of(server, failure.kind, Facts(model=completion.streamed.model))
        return _masked(problem.message) if server.masks_failures else problem
    if server.masks_failures:
        return _masked(failure.message)
    status = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "invalid_prompt": 400}.get(
        failure.code, 500
    )
    kind = "invalid_request_error" if status == 400 else "server_error"  # noqa: PLR2004
    return ApiProblem(failure.message, status=status, code=failure.code, error_type=kind)


def _masked(message: str) -> ApiProblem:
    return ApiProblem(
        f"litellm.APIConnectionError: APIConnectionError: OpenAIException - {message}",
        status=500,
        error_type=None,
    )


def _read_exchange(messages: Sequence[Json]) -> Exchange:
    """The unanswered messages at the end of these."""
    start = 0
    for place, message in enumerate(messages):
        if message["role"] == "assistant" and not message.get("tool_calls"):
            start = place + 1
    turn = messages[start:]
    names = {
        call["id"]: call.get("function", {}).get("name", "")
        for message in turn
        for call in message.get("tool_calls") or ()
    }
    outputs = [
        OutputGiven(one["tool_call_id"], names.get(one["tool_call_id"], ""), text_of(one))
        for one in turn
        if one["role"] == "tool"
    ]
    rounds = sum(bool(message.get("tool_calls")) for message in turn)
    return Exchange(
        tuple(text_of(message) for message in turn if is_user_text(message)), tuple(outputs), rounds
    )


def _latest_outputs(messages: Sequence[Json]) -> set[str]:
    """The calls that this request answers: the tool messages at its end."""
    found: set[str] = set()
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        found.add(message["tool_call_id"])
    return found
