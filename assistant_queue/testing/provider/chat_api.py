"""Chat completions: the endpoint, and how a completion comes about. Nothing is kept when it is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from assistant_queue.testing.provider.actions import Action, ReplyWith, Vanish
from assistant_queue.testing.provider.chat_bodies import CREATE_CHAT_COMPLETION, check_request
from assistant_queue.testing.provider.chat_wire import DONE, Told, data, new_completion_id, usage_json
from assistant_queue.testing.provider.context import Exchange
from assistant_queue.testing.provider.context_limits import failure_of, overlong_messages
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.log import RunRecord
from assistant_queue.testing.provider.pacing import cut_in_pieces, forever, pause, say
from assistant_queue.testing.provider.problems import ApiProblem
from assistant_queue.testing.provider.routing import Answer, Call, ConnectionDropped, Operation
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    Never,
    Outcome,
    OutputGiven,
    RunFailure,
    ToolCalls,
    Turn,
    as_reply,
)
from assistant_queue.testing.provider.sse import StreamAnswer, Tape
from assistant_queue.testing.provider.state import Json, World, count_words, is_user_text, text_of, tool_names

_PIECES_OF_ARGUMENTS = 2


@dataclass(eq=False)
class Completion:
    """One completion: what was asked, and how far it is. `tape` is there only if it is streamed."""

    asked: Json
    told: Told
    tape: Tape | None
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
        said = [text_of(message) for message in self.messages if message["role"] in {"system", "developer"}]
        return "\n\n".join(said) or None

    def turn(self, exchange: Exchange) -> Turn:
        """What the model script is shown."""
        return Turn(
            protocol="chat_completions",
            conversation_id=None,
            run_id=self.told.id,
            user_texts=exchange.user_texts,
            instructions=self.instructions,
            tools=tool_names(self.asked.get("tools")),
            tool_outputs=exchange.outputs,
            round=exchange.round,
            metadata=self.asked.get("metadata") or {},
            messages=tuple(self.messages),
        )

    def record(self, exchange: Exchange, request: int) -> RunRecord:
        """What the log keeps of its acceptance; only what this request brought, not what came before."""
        latest = _latest_outputs(self.messages)
        return RunRecord(
            id=self.told.id,
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

    Who listens does not matter: a completion goes on when its client has gone, and then leaves nothing.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def operations(self) -> list[Operation]:
        """The endpoint."""
        return [Operation("chat.completions.create", "POST", "/chat/completions", "chat_completions", self.create)]

    async def create(self, call: Call) -> Answer:
        """A stream, or the finished completion."""
        asked = call.checked(CREATE_CHAT_COMPLETION)
        check_request(asked, self._world)
        is_streamed = bool(asked.get("stream")) and not self._world.personality.ignores_stream
        counts = bool((asked.get("stream_options") or {}).get("include_usage"))
        told = Told(id=new_completion_id(), model=asked["model"], counts=counts and not self._world.personality.omits_usage)
        completion = Completion(asked, told, Tape() if is_streamed else None, call.actions)
        self._accept(completion, call.request.number)
        if find(Vanish, call.actions) is not None:
            self._stop(completion, "vanished")
        if completion.tape is not None:
            return StreamAnswer(completion.tape, 0, lambda: self._stop(completion, "failed"))
        await completion.ended.wait()
        if completion.status == "vanished":
            raise ConnectionDropped
        if completion.failure is not None:
            raise _problem(completion.failure)
        return told.whole()

    def _accept(self, completion: Completion, request: int) -> None:
        exchange = _read_exchange(completion.messages)
        self._world.log.start_run(completion.record(exchange, request))
        _emit(completion, completion.told.chunk({"role": "assistant", "content": "", "refusal": None}))
        completion.task = self._world.spawn(self._work(completion, exchange))

    async def _work(self, completion: Completion, exchange: Exchange) -> None:
        world, told = self._world, completion.told
        await world.gates.pass_through("accepted", lambda: world.log.run(told.id))
        scripted = find(ReplyWith, completion.actions)
        overlong = overlong_messages(completion.messages, world.personality)
        if overlong is not None:
            outcome: Outcome = failure_of(overlong)
        else:
            outcome = world.ask_model(completion.turn(exchange)) if scripted is None else scripted.outcome
        status = await self._perform(completion, outcome)
        await world.gates.pass_through("completing", lambda: world.log.run(told.id))
        if status != "failed":
            self._say_how_it_ended(completion)
        self._end(completion, status)

    async def _perform(self, completion: Completion, outcome: Outcome) -> str:
        """Do what the model decided; the status it leads to."""
        told = completion.told
        if isinstance(outcome, Never):
            await forever()
        if isinstance(outcome, RunFailure):
            await pause(self._delay(outcome.delay))
            completion.failure = outcome
            if completion.tape is not None:
                completion.tape.put(data({"error": _problem(outcome).as_error()}))
            return "failed"
        if isinstance(outcome, ToolCalls):
            await pause(self._delay(outcome.delay))
            if outcome.text is not None:
                await self._speak(completion, outcome.text, 1, 0.0)
            self._call_tools(completion, outcome)
            told.finish = self._world.personality.ends_calls_with
            return "completed"
        if isinstance(outcome, IncompleteReply):
            await self._speak(completion, outcome.text, 1, self._delay(outcome.delay))
            told.finish = outcome.reason or "length"
            return "incomplete"
        reply = as_reply(outcome)
        await self._speak(completion, "\n\n".join(reply.texts), reply.chunks, self._delay(reply.delay))
        told.finish = "stop"
        return "completed"

    async def _speak(self, completion: Completion, text: str, chunks: int, delay: float) -> None:
        """Say one text, spreading `delay` over its deltas."""
        gates, record = self._world.gates, lambda: self._world.log.run(completion.told.id)
        async for piece in say(text, chunks, delay, lambda: gates.pass_through("speaking", record)):
            if piece:
                _emit(completion, completion.told.chunk({"content": piece}))
        completion.told.text = text or None

    def _call_tools(self, completion: Completion, outcome: ToolCalls) -> None:
        for index, (name, arguments) in enumerate(outcome.calls):
            ident = {"unique": new_id("call"), "numbered": f"call_{index}", "empty": ""}[self._world.personality.call_ids]
            begun = {"index": index, "id": ident, "type": "function", "function": {"name": name, "arguments": ""}}
            _emit(completion, completion.told.chunk({"tool_calls": [begun]}))
            for piece in cut_in_pieces(arguments, _PIECES_OF_ARGUMENTS):
                told = {"index": index, "function": {"arguments": piece}}
                _emit(completion, completion.told.chunk({"tool_calls": [told]}))
            whole = {"id": ident, "type": "function", "function": {"name": name, "arguments": arguments}}
            completion.told.calls.append(whole)

    def _say_how_it_ended(self, completion: Completion) -> None:
        told = completion.told
        _emit(completion, told.chunk({}, told.finish))
        if not self._world.personality.omits_usage:
            made = [told.text or "", *(call["function"]["arguments"] for call in told.calls)]
            told.usage = usage_json(count_words([text_of(message) for message in completion.messages]), count_words(made))
        if told.counts:
            _emit(completion, told.last_chunk())
        if completion.tape is not None:
            completion.tape.put(DONE)

    def _end(self, completion: Completion, status: str) -> None:
        if completion.ended.is_set():
            return
        completion.status = status
        failed_as = None if completion.failure is None else completion.failure.code
        self._world.log.change_run(completion.told.id, status=status, error_code=failed_as)
        if completion.tape is not None:
            completion.tape.close(broken=status == "vanished")
        completion.ended.set()

    def _stop(self, completion: Completion, status: str) -> None:
        """End it from outside, whatever it is doing."""
        if completion.task is not None:
            completion.task.cancel()
        self._end(completion, status)

    def _delay(self, delay: float | None) -> float:
        return self._world.latency if delay is None else delay


def _emit(completion: Completion, chunk: Json) -> None:
    if completion.tape is not None and not completion.tape.is_closed:
        completion.tape.put(data(chunk))


def _problem(failure: RunFailure) -> ApiProblem:
    status = {"rate_limit_exceeded": 429, "insufficient_quota": 429, "invalid_prompt": 400}.get(failure.code, 500)
    kind = "invalid_request_error" if status == 400 else "server_error"  # noqa: PLR2004
    return ApiProblem(failure.message, status=status, code=failure.code, error_type=kind)


def _read_exchange(messages: Sequence[Json]) -> Exchange:
    """What nobody has answered yet at the end of these messages."""
    start = 0
    for place, message in enumerate(messages):
        if message["role"] == "assistant" and not message.get("tool_calls"):
            start = place + 1
    turn = messages[start:]
    names = {call["id"]: call.get("function", {}).get("name", "") for message in turn for call in message.get("tool_calls") or ()}
    outputs = [OutputGiven(one["tool_call_id"], names.get(one["tool_call_id"], ""), text_of(one)) for one in turn if one["role"] == "tool"]
    rounds = sum(bool(message.get("tool_calls")) for message in turn)
    return Exchange(tuple(text_of(message) for message in turn if is_user_text(message)), tuple(outputs), rounds)


def _latest_outputs(messages: Sequence[Json]) -> set[str]:
    """The calls that this request answers: the tool messages at its end."""
    found: set[str] = set()
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        found.add(message["tool_call_id"])
    return found
