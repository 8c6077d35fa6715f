"""Routes of tool calls that wait for an answer from outside."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from assistant_queue.client.approval_calls import MAX_BY, MAX_CALL_ID, MAX_REASON
from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.approval_pages import (
    ApprovalsPage,
    check_call,
    read_calls,
)
from assistant_queue.integrations.fastapi.guarded_routes import caller_of, operation
from assistant_queue.integrations.fastapi.recorded_calls import recorded_call
from assistant_queue.integrations.fastapi.schemas import ThreadId
from assistant_queue.integrations.fastapi.service import Service

CallId = Annotated[
    str, Path(min_length=1, max_length=MAX_CALL_ID, description="`call_id` of an approval.")
]
Limit = Annotated[int, Query(ge=1, le=1000)]
AfterCall = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=MAX_CALL_ID,
        description="`next` of the page before.",
    ),
]


class Answering(BaseModel):
    """Fields of every answer."""

    by: str | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_BY,
        description="A name for the journal; of a client that `authorize` names, that name counts.",
    )


class Approve(Answering):
    """Approval of a call."""

    arguments: dict[str, Any] | None = Field(
        default=None, description="Instead of those that the model chose."
    )


class Deny(Answering):
    """Denial of a call."""

    reason: str | None = Field(
        default=None, min_length=1, max_length=MAX_REASON, description="A text for the model."
    )


class CallAnswer(Answering):
    """Output of a call that is answered later."""

    output: Any = Field(description="As a tool returns it: a text, or any JSON.")


class Settled(BaseModel):
    """The result of an approval, a denial or an answer."""

    settled: bool = Field(
        description="False: the call was settled before; the first answer counts."
    )


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes to a router."""
    queue = service.queue

    @router.get("/approvals", **operation(Action.LIST_APPROVALS, name="list_approvals"))
    async def list_approvals(limit: Limit = 100, after: AfterCall = None) -> ApprovalsPage:
        """Tool calls of all threads that wait for an answer."""
        return await read_calls(queue, limit, after)

    @router.get(
        "/threads/{thread_id}/approvals",
        **operation(Action.READ_APPROVALS, 404, name="read_approvals"),
    )
    async def read_approvals(thread_id: ThreadId) -> ApprovalsPage:
        """Tool calls of a thread that wait for an answer."""
        return ApprovalsPage(
            approvals=await queue.list_approvals(1000, thread_id=thread_id), next=None
        )

    @router.post(
        "/threads/{thread_id}/approvals/{call_id}/approve",
        **operation(Action.APPROVE, 404, 413, name="approve_call"),
    )
    async def approve_call(
        thread_id: ThreadId, call_id: CallId, request: Request, body: Approve | None = None
    ) -> Settled:
        """Approve a call: its function is called once."""
        await check_call(queue, thread_id, call_id)
        by = _name_of(request, body)
        changed = body.arguments if body else None
        async with recorded_call(
            queue, caller_of(request), "approve_call", thread_id, call_id=call_id, person=by
        ) as outcome:
            outcome.done = done = await queue.approve(call_id, by=by, arguments=changed)
        return Settled(settled=done)

    @router.post(
        "/threads/{thread_id}/approvals/{call_id}/deny",
        **operation(Action.DENY, 404, 413, name="deny_call"),
    )
    async def deny_call(
        thread_id: ThreadId, call_id: CallId, request: Request, body: Deny | None = None
    ) -> Settled:
        """Deny a call: the model reads that, with the reason."""
        await check_call(queue, thread_id, call_id)
        by = _name_of(request, body)
        reason = body.reason if body else None
        async with recorded_call(
            queue, caller_of(request), "deny_call", thread_id, call_id=call_id, person=by
        ) as outcome:
            outcome.done = done = await queue.deny(call_id, by=by, reason=reason)
        return Settled(settled=done)

    @router.post(
        "/threads/{thread_id}/approvals/{call_id}/answer",
        **operation(Action.ANSWER_CALL, 404, 413, name="answer_call"),
    )
    async def answer_call(
        thread_id: ThreadId, call_id: CallId, request: Request, body: CallAnswer
    ) -> Settled:
        """Give the output of a call that is answered later."""
        await check_call(queue, thread_id, call_id)
        by = _name_of(request, body)
        async with recorded_call(
            queue, caller_of(request), "answer_call", thread_id, call_id=call_id, person=by
        ) as outcome:
            outcome.done = done = await queue.answer_tool(call_id, body.output, by=by)
        return Settled(settled=done)

    del list_approvals, read_approvals, approve_call, deny_call, answer_call


def _name_of(request: Request, body: Answering | None) -> str | None:
    """Return the name of the client, whatever it says; its own if it has none."""
    caller = caller_of(request)
    name = caller.name or caller.id or (body.by if body else None)
    return name[:MAX_BY] if name else None
