"""Run responses: accept, work, and join them to their conversation if they end well.

A response continues after its client has disconnected, finishes, appends to the conversation and
keeps the conversation locked meanwhile, in the foreground as in the background.
"""

from __future__ import annotations

import asyncio
import time

from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.actions import AppendLate, ReplyWith
from assistant_queue.testing.provider.app_context import Exchange, read_exchange
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.response import Response
from assistant_queue.testing.provider.response_writer import ResponseWriter
from assistant_queue.testing.provider.script import tokens_of
from assistant_queue.testing.provider.state import Conversation, Json, World, count_words, text_of


class ResponsesEngine:
    """Moves responses through their life.

    1. `accept` takes a checked request on, locks its conversation and starts the work.
    2. The work asks the model, writes the stream and ends the response.
    3. `stop`, `abort` and `vanish` end it from outside; `strand` leaves it open for ever.
    4. `end` is the only way out: it stores what is to be stored, unlocks and notifies every
       subscriber.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._writer = ResponseWriter(world)

    def accept(self, response: Response, *, request: int) -> None:
        """Start work on a response that has passed all checks."""
        world = self._world
        response.status = "queued" if response.is_background else "in_progress"
        world.responses[response.id] = response
        exchange = read_exchange(response.context())
        world.log.start_run(response.record(exchange, request))
        if response.conversation is not None:
            world.enter(response.conversation, response.id)
        self._writer.emit_response(response, "response.created")
        response.task = world.spawn(self._work(response, exchange))

    def shown(self, response: Response) -> Json:
        """A response as this server shows it."""
        return self._writer.shown(response)

    def end(self, response: Response, status: str, *, log_as: str | None = None) -> None:
        """Bring a response to a final status. Nothing happens if it has one.

        Args:
            response: Which.
            status: The final status.
            log_as: The status the log shows, if another.
        """
        if response.ended.is_set():
            return
        response.is_stranded = False
        response.status = status
        response.completed_at = int(time.time()) if status == "completed" else None
        is_kept = status in {"completed", "incomplete"}
        if is_kept and not self._world.personality.omits_usage:
            response.usage = _usage(response)
        self._leave(response, is_kept=is_kept)
        error_code = (response.error or {}).get("code")
        self._world.log.change_run(response.id, status=log_as or status, error_code=error_code)
        # The provider has no event for a cancelled response: its stream just ends.
        if status != "cancelled":
            self._writer.emit_response(response, f"response.{status}")
        if response.tape is not None:
            response.tape.close()
        response.ended.set()
        if response.is_background:
            self._report(response, log_as or status)

    def _report(self, response: Response, status: str) -> None:
        """Send webhooks of a background response, and forget it after a while."""
        if status == "vanished":
            return
        for endpoint in self._world.endpoints:
            endpoint.ended(response.id, status)
        asyncio.get_running_loop().call_later(
            self._world.background_kept_for, self._world.responses.pop, response.id, None
        )

    def stop(self, response: Response, status: str, *, log_as: str | None = None) -> None:
        """End a response from outside, whatever it is doing."""
        if response.task is not None:
            response.task.cancel()
        self.end(response, status, log_as=log_as)

    def abort(self, response: Response) -> None:
        """The server stops working because its client has gone: failed, nothing stored."""
        if not response.ended.is_set():
            response.error = {"code": "server_error", "message": "The client disconnected."}
            self.stop(response, "failed")

    def vanish(self, response: Response) -> None:
        """Forget a response; its streams are cut."""
        if response.tape is not None:
            response.tape.close(broken=True)
        self.stop(response, "failed", log_as="vanished")
        self._world.responses.pop(response.id, None)

    def strand(self, response: Response) -> None:
        """Abandon a response: no process works on it any more, and no field says so.

        It keeps its status for ever, and locks nothing.
        """
        if response.ended.is_set() or response.is_stranded:
            return
        if response.task is not None:
            response.task.cancel()
        response.is_stranded = True
        if response.conversation is not None:
            response.conversation.active.pop(response.id, None)
        self._world.log.change_run(response.id, status="stranded")
        if response.tape is not None:
            response.tape.close(broken=True)

    async def _work(self, response: Response, exchange: Exchange) -> None:
        world = self._world
        if response.status == "queued":
            self._writer.emit_response(response, "response.queued")
            if response.ended.is_set():
                return  # a fault that ends the work at this event
        await world.gates.pass_through("accepted", lambda: world.log.run(response.id))
        response.status = "in_progress"
        world.log.change_run(response.id, status="in_progress")
        self._writer.emit_response(response, "response.in_progress")
        scripted = find(ReplyWith, response.actions)
        outcome = response.failure or (
            world.ask_model(response.turn(exchange)) if scripted is None else scripted.outcome
        )
        response.tokens = tokens_of(outcome)
        status = await self._writer.perform(response, outcome)
        await world.gates.pass_through("completing", lambda: world.log.run(response.id))
        self.end(response, status)

    def _leave(self, response: Response, *, is_kept: bool) -> None:
        """Unlock the conversation and, in the same step, leave the items in it."""
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

    async def _append_late(
        self, response: Response, conversation: Conversation, seconds: float
    ) -> None:
        await asyncio.sleep(seconds)
        await self._world.gates.pass_through("appending", lambda: self._world.log.run(response.id))
        self._append(response, conversation)


def _usage(response: Response) -> Json:
    given = count_words([text_of(item) for item in response.items])
    made = count_words([text_of(item) for item in response.output])
    return wire.usage_json(given, made, response.tokens)
