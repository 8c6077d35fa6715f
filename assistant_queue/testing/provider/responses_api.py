"""The endpoints under /responses."""

from __future__ import annotations

from collections.abc import Callable

from assistant_queue.testing.provider import bodies
from assistant_queue.testing.provider import responses_wire as wire
from assistant_queue.testing.provider.actions import IgnoreCancel, Vanish
from assistant_queue.testing.provider.api_errors import (
    BAD_REQUEST,
    NOT_FOUND,
    ApiProblem,
    cannot_cancel,
    conversation_locked,
    response_side_not_found,
)
from assistant_queue.testing.provider.checks import missing
from assistant_queue.testing.provider.context_limits import check_response, check_shortening
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.paging import page, whole
from assistant_queue.testing.provider.response import Response
from assistant_queue.testing.provider.responses_engine import ResponsesEngine
from assistant_queue.testing.provider.responses_refusals import (
    check_open_calls,
    check_response_taken,
)
from assistant_queue.testing.provider.routing import Answer, ApiCall, ConnectionDropped, Operation
from assistant_queue.testing.provider.sse import StreamAnswer, Tape
from assistant_queue.testing.provider.state import Conversation, Json, World
from assistant_queue.testing.provider.stream_style import styled


class ResponsesApi:
    """Creates, shows, resumes, cancels and deletes responses."""

    def __init__(self, world: World, engine: ResponsesEngine) -> None:
        self._world = world
        self._engine = engine

    def operations(self) -> list[Operation]:
        """The endpoints of this class."""
        one = "/responses/{response_id}"
        return [
            Operation("responses.create", "POST", "/responses", "responses", self.create),
            Operation("responses.retrieve", "GET", one, "responses", self.retrieve),
            Operation("responses.delete", "DELETE", one, "responses", self.delete),
            Operation("responses.cancel", "POST", f"{one}/cancel", "responses", self.cancel),
            Operation(
                "responses.input_items", "GET", f"{one}/input_items", "responses", self.input_items
            ),
        ]

    async def create(self, call: ApiCall) -> Answer:
        """Take a response on: a stream, the queued response, or the finished one."""
        asked = call.checked(bodies.CREATE_RESPONSE)
        response = self._checked_response(asked, call)
        self._engine.accept(response, request=call.request.number)
        at_once = self._engine.shown(response)
        if find(Vanish, call.actions) is not None:
            self._engine.vanish(response)
        if response.tape is not None:
            content_type = call.server.content_type
            left = self._left(response)
            return StreamAnswer(
                response.tape, 0, lambda: self._engine.abort(response), content_type, left
            )
        if response.is_background and self._world.personality.background == "runs":
            return at_once
        await response.ended.wait()
        if response.id not in self._world.responses:
            raise ConnectionDropped
        return self._engine.shown(response)

    async def retrieve(self, call: ApiCall) -> Answer:
        """A response as it is, or its stream from an event on."""
        response = self._find(call)
        if call.request.query.get("stream") != "true" or not call.server.resumes_streams:
            return self._engine.shown(response)
        if response.tape is None or not response.is_background:
            message = (
                "This response cannot be streamed because it was not created with background=true "
                "and stream=true."
            )
            raise ApiProblem(message, param="stream")
        after = whole(call.request.query, "starting_after", -1)
        return StreamAnswer(
            response.tape, after + 1, lambda: self._engine.abort(response), call.server.content_type
        )

    async def cancel(self, call: ApiCall) -> Answer:
        """Cancel a response in the background, on some servers any.

        One that has ended stays as it is.
        """
        response = self._find(call)
        refused = self._world.personality.foreground_cancel
        if not response.is_background and refused != "accepted":
            raise (
                response_side_not_found("Response", response.id)
                if refused == NOT_FOUND
                else cannot_cancel(response.id, refused)
            )
        if find(IgnoreCancel, call.actions) is None:
            self._engine.stop(response, "cancelled")
        return self._engine.shown(response)

    async def delete(self, call: ApiCall) -> Answer:
        """Forget a response; what it left in a conversation stays."""
        response = self._find(call)
        del self._world.responses[response.id]
        return {"id": response.id, "object": "response", "deleted": True}

    async def input_items(self, call: ApiCall) -> Answer:
        """The items a response was given."""
        return page(self._find(call).items, call.request.query, self._world.personality)

    def _left(self, response: Response) -> Callable[[], None] | None:
        """Handle the loss of a response's client: usually nothing happens."""
        is_tied = self._world.personality.foreground == "stops" and not response.is_background
        return (lambda: self._engine.strand(response)) if is_tied else None

    def _find(self, call: ApiCall) -> Response:
        ident = call.param("response_id")
        response = self._world.responses.get(ident)
        if response is None:
            raise response_side_not_found("Response", ident)
        return response

    def _checked_response(self, asked: Json, call: ApiCall) -> Response:
        """The response that is asked for, if everything about it is right."""
        self._check_request(asked)
        conversation = self._conversation(asked)
        previous = self._previous(asked)
        response = Response(
            id=new_id("resp"),
            asked=asked,
            conversation=conversation,
            previous=previous,
            items=wire.input_items(asked.get("input") or []),
            is_background=bool(asked.get("background")),
            tape=Tape(styled(call.server)) if asked.get("stream") else None,
            actions=call.actions,
        )
        check_open_calls(response, call.server)
        check_response(response, call.server)
        return response

    def _check_request(self, asked: Json) -> None:
        check_shortening(asked, self._world.personality)
        if not asked.get("model") and not asked.get("prompt"):
            raise missing("model")
        check_response_taken(asked, self._world.personality)
        sources = ("input", "conversation", "previous_response_id", "prompt")
        if not any(asked.get(name) for name in sources):
            message = (
                "One of \"input\" or \"previous_response_id\" or 'prompt' or 'conversation_id' "
                "must be provided."
            )
            raise ApiProblem(message, code="missing_required_parameter", param="input")
        window = (asked.get("background_options") or {}).get("completion_window", "soonest")
        if window != "soonest" and (not asked.get("background") or asked.get("stream")):
            message = (
                f"The completion window '{window}' requires 'background' to be true and 'stream' "
                "to be false or omitted."
            )
            raise ApiProblem(message, param="background_options.completion_window")
        if asked.get("conversation") and asked.get("previous_response_id"):
            message = (
                "Mutually exclusive parameters: 'conversation' and 'previous_response_id'. "
                "Ensure you are only providing one of: 'conversation' or 'previous_response_id'."
            )
            raise ApiProblem(message, code="mutually_exclusive_parameters", param="conversation")

    def _conversation(self, asked: Json) -> Conversation | None:
        named = asked.get("conversation")
        if not named:
            return None
        ident = named if isinstance(named, str) else named["id"]
        conversation = self._world.conversations.get(ident)
        if conversation is None:
            raise response_side_not_found("Conversation", ident)
        check_unlocked(self._world, conversation)
        return conversation

    def _previous(self, asked: Json) -> Response | None:
        ident = asked.get("previous_response_id")
        if not ident:
            return None
        previous = self._world.responses.get(ident)
        if previous is None:
            raise ApiProblem(
                f"Previous response with id '{ident}' not found.",
                status=BAD_REQUEST,
                code="previous_response_not_found",
                param="previous_response_id",
            )
        return previous


def check_unlocked(world: World, conversation: Conversation) -> None:
    """Refuse a second writer.

    Raises:
        ApiProblem: A response is working on the conversation, and this server minds.
    """
    lock = world.personality.lock
    if conversation.active and lock != "none":
        raise conversation_locked(as_conflict=lock == "conflict")
