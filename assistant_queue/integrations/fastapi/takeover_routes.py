"""Routes of a person that answers a thread instead of the model."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, Strict

from assistant_queue.errors import InvalidArgument
from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.guarded_routes import caller_of, operation
from assistant_queue.integrations.fastapi.recorded_calls import recorded_call
from assistant_queue.integrations.fastapi.schemas import Author, ThreadId
from assistant_queue.integrations.fastapi.service import Service


class Takeover(BaseModel):
    """The person that takes a thread over."""

    model_config = ConfigDict(extra="forbid")

    by: Author | None = Field(
        None, description="The person. Ignored if `authorize` names the caller."
    )
    instead_of: Author | None = Field(
        None, description="The person that answers it, to take it over from exactly that one."
    )
    stop: Annotated[bool, Strict()] = Field(
        True, description="Stop the answer that is under way. False: it ends first."
    )


class TakeoverDone(BaseModel):
    """The result of a takeover."""

    taken_over: bool = Field(description="False: that person answered it already.")
    by: str = Field(description="The person that answers the thread now.")


class HandBackDone(BaseModel):
    """The result of handing a thread back."""

    handed_back: bool = Field(description="False: no person answered it.")


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of takeovers to a router."""
    queue = service.queue

    @router.post(
        "/threads/{thread_id}/take-over",
        **operation(Action.TAKE_OVER, 404, 409, 413, name="take_over_thread"),
    )
    async def take_over_thread(
        request: Request, thread_id: ThreadId, body: Takeover
    ) -> TakeoverDone:
        """Have a person answer the thread instead of the model.

        What that person says with `/say` answers the messages before it.
        """
        by = caller_of(request).name or body.by
        if by is None:
            raise InvalidArgument("by is missing: it is not known which person takes over")
        caller = caller_of(request)
        async with recorded_call(queue, caller, "take_over", thread_id, person=by) as outcome:
            done = await queue.take_over(thread_id, by, instead_of=body.instead_of, stop=body.stop)
            outcome.done = done
        return TakeoverDone(taken_over=done, by=by)

    @router.post(
        "/threads/{thread_id}/hand-back",
        **operation(Action.HAND_BACK, 404, name="hand_back_thread"),
    )
    async def hand_back_thread(request: Request, thread_id: ThreadId) -> HandBackDone:
        """Have the model answer the thread again."""
        async with recorded_call(queue, caller_of(request), "hand_back", thread_id) as outcome:
            outcome.done = done = await queue.hand_back(thread_id)
        return HandBackDone(handed_back=done)

    del take_over_thread, hand_back_thread
