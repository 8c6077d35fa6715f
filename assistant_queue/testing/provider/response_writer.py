"""Write the model's output as output items and as the events of a stream."""

from __future__ import annotations

from functools import partial
from typing import Any

from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.pacing import forever, pause, say
from assistant_queue.testing.provider.response import Response
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    Never,
    Outcome,
    OutputItems,
    Reply,
    RunFailure,
    ToolCalls,
    as_reply,
)
from assistant_queue.testing.provider.sse import frame
from assistant_queue.testing.provider.state import Json, World
from assistant_queue.testing.provider.troubles import code_and_message


class ResponseWriter:
    """Carries out what the model script decided, in the order of events of the provider."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def perform(self, response: Response, outcome: Outcome) -> str:
        """Do what the model decided.

        Returns:
            The final status the response is to have; it has not ended yet.
        """
        if isinstance(outcome, Never):
            await forever()
        if response.is_compacted:
            self._put(response, wire.compaction(new_id("cmp")))
        if isinstance(outcome, ToolCalls):
            await self._call_tools(response, outcome)
            return "completed"
        if isinstance(outcome, OutputItems):
            await self._make(response, outcome)
            return "completed"
        if isinstance(outcome, IncompleteReply):
            await self._speak(response, outcome.text, 1, self._delay(outcome.delay), "incomplete")
            response.incomplete = {"reason": outcome.reason or "max_output_tokens"}
            return "incomplete"
        if isinstance(outcome, RunFailure):
            await self._fail(response, outcome)
            return "failed"
        await self._reply(response, as_reply(outcome))
        return "completed"

    def emit_response(self, response: Response, event: str) -> None:
        """Put an event on the tape that shows the whole response."""
        if response.tape is not None:
            self._emit(response, event, response=self.shown(response))

    def shown(self, response: Response) -> Json:
        """A response as this server shows it."""
        return wire.response_json(
            response, names_conversation=not self._world.personality.omits_conversation
        )

    async def _reply(self, response: Response, outcome: Reply) -> None:
        delay = self._delay(outcome.delay) / max(1, len(outcome.texts))
        for text in outcome.texts:
            await self._speak(response, text, outcome.chunks, delay, "completed")

    async def _make(self, response: Response, outcome: OutputItems) -> None:
        await pause(self._delay(outcome.delay))
        for given in outcome.items:
            item = {"id": new_id("item"), **given}
            index = len(response.output)
            self._emit(response, "response.output_item.added", output_index=index, item=item)
            response.output.append(item)
            self._emit(response, "response.output_item.done", output_index=index, item=item)

    async def _call_tools(self, response: Response, outcome: ToolCalls) -> None:
        await pause(self._delay(outcome.delay))
        if outcome.text is not None:
            await self._speak(response, outcome.text, 1, 0.0, "completed")
        for name, arguments in outcome.calls:
            self._call_tool(response, name, arguments)

    async def _fail(self, response: Response, failure: RunFailure) -> None:
        await pause(self._delay(failure.delay))
        if failure.text is not None:
            place = self._begin_message(response)
            self._emit(
                response, "response.output_text.delta", **place, delta=failure.text, logprobs=[]
            )
        code, message = code_and_message(failure, self._world.personality)
        response.error = {"code": code, "message": message}
        if failure.as_error_event and response.tape is not None:
            self._emit(response, "error", code=code, message=message, param=None)
            response.tape.close()

    async def _speak(
        self, response: Response, text: str, chunks: int, delay: float, status: str
    ) -> None:
        """Write one message, spreading `delay` over its deltas."""
        place = self._begin_message(response)
        item_id = str(place["item_id"])
        index = place["output_index"]
        gates = self._world.gates
        record = partial(self._world.log.run, response.id)
        pieces = say(
            text,
            1 if response.tape is None else chunks,
            delay,
            lambda: gates.pass_through("speaking", record),
        )
        async for piece in pieces:
            self._emit(response, "response.output_text.delta", **place, delta=piece, logprobs=[])
        item = wire.output_message(item_id, text, status)
        response.output.append(item)
        self._emit(response, "response.output_text.done", **place, text=text, logprobs=[])
        self._emit(response, "response.content_part.done", **place, part=wire.output_text(text))
        self._emit(response, "response.output_item.done", output_index=index, item=item)

    def _begin_message(self, response: Response) -> Json:
        item_id = new_id("msg")
        index = len(response.output)
        place = {"item_id": item_id, "output_index": index, "content_index": 0}
        begun = wire.output_message(item_id, None, "in_progress")
        self._emit(response, "response.output_item.added", output_index=index, item=begun)
        self._emit(response, "response.content_part.added", **place, part=wire.output_text(""))
        return place

    def _call_tool(self, response: Response, name: str, arguments: str) -> None:
        item_id = new_id("fc")
        call_id = new_id("call")
        index = len(response.output)
        place = {"item_id": item_id, "output_index": index}
        begun = wire.function_call(item_id, call_id, name, "", "in_progress")
        self._emit(response, "response.output_item.added", output_index=index, item=begun)
        self._emit(response, "response.function_call_arguments.delta", **place, delta=arguments)
        self._emit(
            response,
            "response.function_call_arguments.done",
            **place,
            name=name,
            arguments=arguments,
        )
        item = wire.function_call(item_id, call_id, name, arguments, "completed")
        response.output.append(item)
        self._emit(response, "response.output_item.done", output_index=index, item=item)

    def _put(self, response: Response, item: Json) -> None:
        """An item that comes all at once."""
        index = len(response.output)
        response.output.append(item)
        self._emit(response, "response.output_item.added", output_index=index, item=item)
        self._emit(response, "response.output_item.done", output_index=index, item=item)

    def _emit(self, response: Response, event: str, /, **held: Any) -> None:
        tape = response.tape
        if tape is not None and not tape.is_closed:
            tape.put(frame(event, {"type": event, "sequence_number": len(tape.frames), **held}))

    def _delay(self, delay: float | None) -> float:
        return self._world.latency if delay is None else delay
