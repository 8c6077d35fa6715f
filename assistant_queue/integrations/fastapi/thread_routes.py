"""Routes of threads: create, read, list messages, pause, forget."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Query, Request, Response

from assistant_queue.client import arguments
from assistant_queue.core.thread_ids import providers_id
from assistant_queue.errors import ConfigurationError, NotSupported, UnknownThread
from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.guarded_routes import address_of, caller_of, operation
from assistant_queue.integrations.fastapi.history_schemas import History, item_of
from assistant_queue.integrations.fastapi.recorded_calls import recorded_call
from assistant_queue.integrations.fastapi.schemas import (
    Created,
    NewThread,
    ThreadId,
    message_of,
)
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.steering_schemas import Flushed, StopAsked
from assistant_queue.models import ThreadMessage, ThreadStatus
from assistant_queue.store.ops.present_names import clear_present

Cursor = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=arguments.MAX_MESSAGE_ID,
        description="The id of a message of the page before.",
    ),
]
_PROVIDER = (404, 409, 501, 502)


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of threads to a router."""
    queue = service.queue

    @router.post("/threads", status_code=201, **operation(
        Action.CREATE_THREAD, 409, 413, 501, 502, name="create_thread",
        responses={201: {"model": Created, "headers": {"Location": {"schema": {"type": "string"}}}}},
    ))  # fmt: skip
    async def create_thread(request: Request, response: Response, body: NewThread) -> Created:
        """Create a thread at the provider.

        Your own ids do not need it: a conversation is created for them at first use.
        """
        thread_id = await queue.create_thread(body.metadata)
        response.headers["Location"] = f"{address_of(request)}/{quote(thread_id, safe='')}"
        return Created(thread_id=thread_id)

    @router.get("/threads/{thread_id}", **operation(Action.READ_THREAD, 404, name="read_thread"))
    async def read_thread(thread_id: ThreadId) -> ThreadStatus:
        """Return a thread's status; one that was never used is idle."""
        return await queue.get_thread_status(thread_id)

    @router.delete(
        "/threads/{thread_id}",
        status_code=204,
        **operation(Action.FORGET_THREAD, 404, 409, name="forget_thread"),
    )
    async def forget_thread(request: Request, thread_id: ThreadId) -> None:
        """Delete the queue's data of a thread, including waiting and failed messages.

        The provider's thread stays. The record of operations does not name it.
        """
        async with recorded_call(queue, caller_of(request), "forget_thread"):
            await queue.forget_thread(thread_id)
        await queue.core.store.run(clear_present(queue.core.namespace, thread_id))

    @router.get(
        "/threads/{thread_id}/messages",
        **operation(Action.READ_HISTORY, *_PROVIDER, name="read_history"),
    )
    async def read_history(
        thread_id: ThreadId,
        limit: Annotated[int, Query(ge=1, le=100)] = 20,
        order: Annotated[
            Literal["asc", "desc"], Query(description="Oldest first, or newest first.")
        ] = "desc",
        after: Cursor = None,
        before: Cursor = None,
    ) -> History:
        """List a thread's messages in pages, and the pending ones."""
        return await read_page(
            service, thread_id, limit=limit, order=order, after=after, before=before
        )

    @router.post(
        "/threads/{thread_id}/pause",
        status_code=204,
        **operation(Action.PAUSE, 404, name="pause_thread"),
    )
    async def pause_thread(request: Request, thread_id: ThreadId) -> None:
        """Take messages and answer none, in one thread."""
        async with recorded_call(queue, caller_of(request), "pause", thread_id):
            await queue.pause(thread_id)

    @router.post(
        "/threads/{thread_id}/resume",
        status_code=204,
        **operation(Action.RESUME, 404, name="resume_thread"),
    )
    async def resume_thread(request: Request, thread_id: ThreadId) -> None:
        """Answer again, in one thread."""
        async with recorded_call(queue, caller_of(request), "resume", thread_id):
            await queue.resume(thread_id)

    @router.post("/threads/{thread_id}/flush", **operation(Action.FLUSH, 404, name="flush_thread"))
    async def flush_thread(request: Request, thread_id: ThreadId) -> Flushed:
        """Answer what waits now, without its window."""
        async with recorded_call(queue, caller_of(request), "flush", thread_id) as outcome:
            outcome.done = done = await queue.flush(thread_id)
        return Flushed(flushed=done)

    @router.post("/threads/{thread_id}/stop", **operation(Action.STOP, 404, name="stop_thread"))
    async def stop_thread(thread_id: ThreadId) -> StopAsked:
        """End the running answer for good."""
        return StopAsked(stopped=await queue.stop(thread_id))

    del create_thread, read_thread, forget_thread, read_history
    del pause_thread, resume_thread, flush_thread, stop_thread


async def read_page(
    service: Service,
    thread_id: str,
    *,
    limit: int,
    order: Literal["asc", "desc"],
    after: str | None = None,
    before: str | None = None,
) -> History:
    """Return a page of the provider's conversation, and the messages that are not over."""
    pending = [message_of(one) for one in await service.queue.get_jobs_by_thread_id(thread_id)]
    found, is_kept = await _said(
        service, thread_id, limit=limit, order=order, after=after, before=before
    )
    more = found[-1].id if len(found) == limit else None
    return History(
        messages=[item_of(one) for one in found], next=more, pending=pending, is_kept=is_kept
    )


async def _said(
    service: Service,
    thread_id: str,
    *,
    limit: int,
    order: Literal["asc", "desc"],
    after: str | None,
    before: str | None,
) -> tuple[list[ThreadMessage], bool]:
    """Return the provider's page, and whether the provider keeps a history."""
    try:
        return await service.queue.list_messages(thread_id, limit, order, after, before), True
    except UnknownThread:
        if after or before or providers_id(thread_id, service.queue.config.thread_ids) is not None:
            raise
        return [], True  # its conversation is created with its first run
    except (NotSupported, ConfigurationError):
        return [], False
