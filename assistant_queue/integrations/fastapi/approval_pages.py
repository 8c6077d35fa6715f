"""Pages of tool calls that wait for an answer, and the check that a call is one of a thread."""

from __future__ import annotations

from pydantic import BaseModel, Field

from assistant_queue.approvals import Approval
from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.errors import ApprovalNotFound
from assistant_queue.store.ops.settling import thread_of


class ApprovalsPage(BaseModel):
    """Tool calls that wait for an answer, oldest first."""

    approvals: list[Approval]
    next: str | None = Field(
        description="What to say as `after` for the next page; null at the end."
    )


async def read_calls(
    queue: AsyncAssistantMessageQueue, limit: int, after: str | None
) -> ApprovalsPage:
    """Return a page of the calls of all threads."""
    found = await queue.list_approvals(limit, after)
    return ApprovalsPage(approvals=found, next=found[-1].call_id if len(found) == limit else None)


async def check_call(queue: AsyncAssistantMessageQueue, thread_id: str, call_id: str) -> None:
    """Check that a call is one of the thread, for which the client was authorized.

    Raises:
        ApprovalNotFound: It is not.
    """
    core = queue.core
    if await core.store.run(thread_of(core.namespace, call_id)) != thread_id:
        raise ApprovalNotFound(f"there is no open call {call_id!r} in thread {thread_id!r}")
