"""How a response comes about: accepted, worked on, and then, only if it ends well, joined to its conversation.

Whoever listens does not matter: a response goes on when its client has gone, finishes, appends to the conversation and keeps
the conversation locked meanwhile, in the foreground as in the background.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.actions import Action, AppendLate, ReplyWith
from assistant_queue.testing.provider.context import Exchange, read_exchange
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.log import RunRecord
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    Never,
    Outcome,
    Reply,
    RunFailure,
    ToolCalls,
    Turn,
    as_reply,
)
from assistant_queue.testing.provider.sse import Tape, frame
from assistant_queue.testing.provider.state import Conversation, Json, World, count_words, is_user_text, text_of

FINAL = frozenset({"completed", "failed", "cancelled", "incomplete"})
_DEFAULT_MODEL = "stand-in-model"


@dataclass(eq=False)
class Response:
    """A response: what was asked, and how far it is. `tape` is there only if it was asked for as a stream."""

    id: str
    asked: Json
    conversation: Conversation | None
    previous: Response | None
    items: list[Json]
    is_background: bool
    tape: Tape | None
    actions: tuple[Action, ...] = ()
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "in_progress"
    output: list[Json] = field(default_factory=list)
    error: Json | None = None
    incomplete: Json | None = None
    usage: Json | None = None
    completed_at: int | None = None
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    sequence: int = 0

    @property
    def model(self) -> str:
        """The model's name; a prompt brings its own."""
        return self.asked.get("model") or _DEFAULT_MODEL

    def context(self) -> list[Json]:
        """Every item the model sees, oldest first."""
        if self.conversation is not None:
            return self.conversation.items + self.items
        return chain(self.previous) + self.items


def chain(response: Response | None) -> list[Json]:
    """The items of a response and of all before it, oldest first."""
    links: list[list[Json]] = []
    while response is not None:
        links.append(response.items + response.output)
        response = response.previous
    return [item for link in reversed(links) for item in link]


class ResponsesEngine:
    """Moves responses through their life.

    1. `accept` takes a checked request on, locks its conversation and starts the work.
    2. The work asks the model, writes the stream and ends the response.
    3. `end` is the only way out: it stores what is to be stored, unlocks and tells everybody.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def accept(self, response: Response, *, request: int) -> None:
        """Start work on a response that has passed all checks."""
        world = self._world
        response.status = "queued" if response.is_background else "in_progress"
        world.responses[response.id] = response
        if response.conversation is not None:
            world.enter(response.conversation, response.id)
        exchange = read_exchange(response.context())
        world.log.start_run(_record(response, exchange, request))
        self._emit_response(response, "response.created")
        response.task = world.spawn(self._work(response, exchange))

    def end(self, response: Response, status: str, *, log_as: str | None = None) -> None:
        """Bring a response to a final status. Nothing happens if it has one.

        Args:
            response: Which.
            status: The final status.
            log_as: The status the log shows, if another.
        """
        if response.ended.is_set():
            return
        response.status = status
        response.completed_at = int(time.time()) if status == "completed" else None
        is_kept = status in {"completed", "incomplete"}
        if is_kept and not self._world.personality.omits_usage:
            response.usage = wire.usage_json(
                count_words([text_of(item) for item in response.items]),
                count_words([text_of(item) for item in response.output]),
            )
        self._leave(response, is_kept=is_kept)
        self._world.log.change_run(response.id, status=log_as or status, error_code=(response.error or {}).get("code"))
        if status != "cancelled":
            self._emit_response(response, f"response.{status}")
        if response.tape is not None:
            response.tape.close()
        response.ended.set()

    def stop(self, response: Response, status: str, *, log_as: str | None = None) -> None:
        """End a response from outside, whatever it is doing."""
        if response.task is not None:
            response.task.cancel()
        self.end(response, status, log_as=log_as)

    def abort(self, response: Response) -> None:
        """The server stops working because its client has gone: failed, nothing stored."""
        response.error = {"code": "server_error", "message": "The client disconnected."}
        self.stop(response, "failed")

    def vanish(self, response: Response) -> None:
        """Forget a response; its streams are cut."""
        if response.tape is not None:
            response.tape.close(broken=True)
        self.stop(response, "failed", log_as="vanished")
        self._world.responses.pop(response.id, None)

    def _leave(self, response: Response, *, is_kept: bool) -> None:
        conversation = response.conversation
        if conversation is None:
            return
        conversation.active.pop(response.id, None)
        if not is_kept:
            return
        late = find(AppendLate, response.actions)
        if late is None:
            self._append(response, conversation)
        else:
            self._world.spawn(self._append_late(response, conversation, late.seconds))

    def _append(self, response: Response, conversation: Conversation) -> None:
        joined = response.items + response.output
        conversation.items.extend(joined)
        self._world.record_appended(conversation.id, response.id, joined)

    async def _append_late(self, response: Response, conversation: Conversation, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._world.gates.pass_through("appending", lambda: self._world.log.run(response.id))
        self._append(response, conversation)

    async def _work(self, response: Response, exchange: Exchange) -> None:
        world = self._world
        if response.status == "queued":
            self._emit_response(response, "response.queued")
        await world.gates.pass_through("accepted", lambda: world.log.run(response.id))
        response.status = "in_progress"
        world.log.change_run(response.id, status="in_progress")
        self._emit_response(response, "response.in_progress")
        scripted = find(ReplyWith, response.actions)
        outcome = world.ask_model(_turn(response, exchange)) if scripted is None else scripted.outcome
        status = await self._perform(response, outcome)
        await world.gates.pass_through("completing", lambda: world.log.run(response.id))
        self.end(response, status)

    async def _perform(self, response: Response, outcome: Outcome) -> str:
        """Do what the model decided; the final status."""
        if isinstance(outcome, Never):
            await asyncio.get_running_loop().create_future()
        if isinstance(outcome, ToolCalls):
            return await self._call_tools(response, outcome)
        if isinstance(outcome, IncompleteReply):
            await self._speak(response, outcome.text, 1, self._delay(outcome.delay), "incomplete")
            response.incomplete = {"reason": outcome.reason or "max_output_tokens"}
            return "incomplete"
        if isinstance(outcome, RunFailure):
            await pause(self._delay(outcome.delay))
            response.error = {"code": outcome.code, "message": outcome.message}
            if outcome.as_error_event:
                self._emit_error_and_close(response, outcome)
            return "failed"
        return await self._reply(response, as_reply(outcome))

    async def _reply(self, response: Response, outcome: Reply) -> str:
        pause = self._delay(outcome.delay) / max(1, len(outcome.texts))
        for text in outcome.texts:
            await self._speak(response, text, outcome.chunks, pause, "completed")
        return "completed"

    async def _call_tools(self, response: Response, outcome: ToolCalls) -> str:
        await pause(self._delay(outcome.delay))
        if outcome.text is not None:
            await self._speak(response, outcome.text, 1, 0.0, "completed")
        for name, arguments in outcome.calls:
            self._call_tool(response, name, arguments)
        return "completed"

    async def _speak(self, response: Response, text: str, chunks: int, delay: float, status: str) -> None:
        """Write one message, spreading `delay` over its deltas."""
        item_id, index = new_id("msg"), len(response.output)
        place = {"item_id": item_id, "output_index": index, "content_index": 0}
        if response.tape is not None:
            begun = wire.output_message(item_id, None, "in_progress")
            self._emit(response, "response.output_item.added", output_index=index, item=begun)
            self._emit(response, "response.content_part.added", **place, part=wire.output_text(""))
            pieces = cut_in_pieces(text, chunks)
            for piece in pieces:
                await pause(delay / len(pieces))
                self._emit(response, "response.output_text.delta", **place, delta=piece, logprobs=[])
        else:
            await pause(delay)
        item = wire.output_message(item_id, text, status)
        response.output.append(item)
        self._emit(response, "response.output_text.done", **place, text=text, logprobs=[])
        self._emit(response, "response.content_part.done", **place, part=wire.output_text(text))
        self._emit(response, "response.output_item.done", output_index=index, item=item)

    def _call_tool(self, response: Response, name: str, arguments: str) -> None:
        item_id, call_id, index = new_id("fc"), new_id("call"), len(response.output)
        place = {"item_id": item_id, "output_index": index}
        begun = wire.function_call(item_id, call_id, name, "", "in_progress")
        self._emit(response, "response.output_item.added", output_index=index, item=begun)
        self._emit(response, "response.function_call_arguments.delta", **place, delta=arguments)
        self._emit(response, "response.function_call_arguments.done", **place, name=name, arguments=arguments)
        item = wire.function_call(item_id, call_id, name, arguments, "completed")
        response.output.append(item)
        self._emit(response, "response.output_item.done", output_index=index, item=item)

    def _emit_error_and_close(self, response: Response, failure: RunFailure) -> None:
        self._emit(response, "error", code=failure.code, message=failure.message, param=None)
        if response.tape is not None:
            response.tape.close()

    def _emit_response(self, response: Response, event: str) -> None:
        if response.tape is not None:
            self._emit(response, event, response=self.shown(response))

    def _emit(self, response: Response, event: str, /, **held: Any) -> None:
        tape = response.tape
        if tape is None or tape.is_closed:
            return
        tape.put(frame(event, {"type": event, "sequence_number": len(tape.frames), **held}))

    def shown(self, response: Response) -> Json:
        """A response as this server shows it."""
        return wire.response_json(response, names_conversation=not self._world.personality.omits_conversation)

    def _delay(self, delay: float | None) -> float:
        return self._world.latency if delay is None else delay


def cut_in_pieces(text: str, chunks: int) -> Sequence[str]:
    """The text as about `chunks` deltas, at least one."""
    size = max(1, -(-len(text) // max(1, chunks)))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


async def pause(seconds: float) -> None:
    """Sleep, unless there is nothing to wait for."""
    if seconds > 0:
        await asyncio.sleep(seconds)


def tool_names(tools: Sequence[Json] | None) -> tuple[str, ...]:
    """The names of the functions among the tools, in either protocol's shape."""
    return tuple(
        tool["name"] if "name" in tool else tool["function"]["name"]
        for tool in tools or ()
        if tool.get("type") == "function"
    )


def _turn(response: Response, exchange: Exchange) -> Turn:
    return Turn(
        protocol="responses",
        conversation_id=None if response.conversation is None else response.conversation.id,
        run_id=response.id,
        user_texts=exchange.user_texts,
        instructions=response.asked.get("instructions"),
        tools=tool_names(response.asked.get("tools")),
        tool_outputs=exchange.outputs,
        round=exchange.round,
        metadata=response.asked.get("metadata") or {},
    )


def _record(response: Response, exchange: Exchange, request: int) -> RunRecord:
    given = {item["call_id"] for item in response.items if item.get("type") == "function_call_output"}
    return RunRecord(
        id=response.id,
        protocol="responses",
        conversation_id=None if response.conversation is None else response.conversation.id,
        request=request,
        user_texts=tuple(text_of(item) for item in response.items if is_user_text(item)),
        metadata=response.asked.get("metadata") or {},
        instructions=response.asked.get("instructions"),
        tools=tool_names(response.asked.get("tools")),
        stream=response.tape is not None,
        background=response.is_background,
        status=response.status,
        started_at=time.time(),
        outputs=tuple(output for output in exchange.outputs if output.call_id in given),
    )
