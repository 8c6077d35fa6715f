"""Routes for operators: counts, failed batches, pause, health."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Query, Request

from assistant_queue.client import arguments
from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.errors import BatchNotFound, MessageNotFound
from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.guarded_routes import caller_of, operation
from assistant_queue.integrations.fastapi.recorded_calls import recorded_call
from assistant_queue.integrations.fastapi.schemas import (
    Alive,
    BatchId,
    FailedPage,
    Handled,
    HealthAnswer,
    MessageId,
    ThreadId,
    ThreadsPage,
    TimelinePage,
)
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.models import (
    Explanation,
    FailureReason,
    QueueStatus,
    ThreadFilter,
    ThreadOrder,
)
from assistant_queue.store.ops.explaining import explain
from assistant_queue.store.ops.failures import read_failed
from assistant_queue.store.ops.health import read_readiness
from assistant_queue.store.ops.thread_pages import read_page

Limit = Annotated[int, Query(ge=1, le=1000)]
AfterThread = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=arguments.MAX_THREAD_ID,
        description="`next` of the page before.",
    ),
]
AfterBatch = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=arguments.MAX_MESSAGE_ID,
        description="`next` of the page before.",
    ),
]


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes for operators to a router."""
    queue = service.queue

    @router.get("/status", **operation(Action.READ_STATUS, name="read_status"))
    async def read_status() -> QueueStatus:
        """Count messages by state."""
        return await queue.get_queue_status()

    @router.get("/threads", **operation(Action.LIST_THREADS, name="list_threads"))
    async def list_threads(
        state: ThreadFilter | None = None,
        limit: Limit = 100,
        after: AfterThread = None,
        order: ThreadOrder = "oldest_due",
    ) -> ThreadsPage:
        """Threads that are not idle, by the time when each is next checked; or those in one state.

        `stuck`: overdue by more than 5 s. `parked`: with a batch that waits for an answer from
        outside, or a failed batch of unknown outcome. A page reads at most 1,000 threads, however
        few match: it may be short, or empty, with a `next`.
        """
        core = queue.core
        page = await core.store.run(read_page(core.namespace, state, limit, after, order))
        return ThreadsPage(threads=page.threads, next=page.next)

    @router.post("/pause", status_code=204, **operation(Action.PAUSE, name="pause"))
    async def pause(request: Request) -> None:
        """Take messages and answer none, in every thread."""
        async with recorded_call(queue, caller_of(request), "pause"):
            await queue.pause()

    @router.post("/resume", status_code=204, **operation(Action.RESUME, name="resume"))
    async def resume(request: Request) -> None:
        """Answer again."""
        async with recorded_call(queue, caller_of(request), "resume"):
            await queue.resume()

    @router.get("/health/live", **operation(Action.READ_HEALTH, name="live", counted=False))
    async def live() -> Alive:
        """Check that the process answers, without Redis.

        If it does not, restart it.
        """
        return Alive()

    @router.get("/health/ready", **operation(Action.READ_HEALTH, name="ready"))
    async def ready() -> HealthAnswer:
        """Check that messages can be taken: Redis answers.

        503 without Redis: send requests elsewhere. `degraded`: no worker answers them at present.
        """
        workers, paused = await queue.core.store.run(read_readiness(queue.core.namespace))
        counts = await queue.get_queue_status()
        return HealthAnswer(
            status="degraded" if paused or workers == 0 else "ready",
            workers=workers,
            is_paused=paused,
            waiting=counts.waiting_count,
            delayed=counts.delayed_count,
            active=counts.active_count,
            failed=counts.failed_count,
            delivering=counts.delivering_count,
            undelivered=counts.undelivered_count,
            streams=service.gate.total,
        )

    _add_routes_of_looking_back(router, service)
    _add_failed_routes(router, service)
    del read_status, list_threads, pause, resume, live, ready


def _add_routes_of_looking_back(router: APIRouter, service: Service) -> None:
    queue = service.queue

    @router.get(
        "/threads/{thread_id}/explain", **operation(Action.EXPLAIN, 404, name="explain_thread")
    )
    async def explain_thread(thread_id: ThreadId) -> Explanation:
        """Why a thread has no answer (yet), with the evidence, in the provider's own words."""
        core = queue.core
        return await core.store.run(explain(core.namespace, thread_id, is_thread=True))

    @router.get(
        "/threads/{thread_id}/messages/{message_id}/explain",
        **operation(Action.EXPLAIN, 404, name="explain_message"),
    )
    async def explain_message(thread_id: ThreadId, message_id: MessageId) -> Explanation:
        """Why a message has no answer (yet), with the evidence, in the provider's own words."""
        found = await queue.explain(message_id)
        if found.message_id is None or found.thread_id != thread_id:
            raise MessageNotFound(f"there is no message {message_id!r} in thread {thread_id!r}")
        return found

    @router.get(
        "/threads/{thread_id}/timeline",
        **operation(Action.READ_TIMELINE, 404, name="read_timeline"),
    )
    async def read_timeline(
        thread_id: ThreadId, limit: Limit = 50, before: AfterBatch = None
    ) -> TimelinePage:
        """The journal of a thread: its latest batches that ended, newest first, without texts."""
        found = await queue.get_timeline(thread_id, limit, before)
        return TimelinePage(batches=found, next=found[-1].batch_id if len(found) == limit else None)

    del explain_thread, explain_message, read_timeline


async def _thread_of(queue: AsyncAssistantMessageQueue, batch_id: str) -> str | None:
    """Return the thread of a failed batch, so that it can be forgotten with it."""
    core = queue.core
    with suppress(BatchNotFound):
        return (await core.store.run(read_failed(core.namespace, batch_id))).thread_id or None
    return None


def _add_failed_routes(router: APIRouter, service: Service) -> None:
    queue = service.queue

    @router.get("/failed", **operation(Action.READ_FAILED, 404, name="list_failed"))
    async def list_failed(
        limit: Limit = 100,
        after: AfterBatch = None,
    ) -> FailedPage:
        """Batches that need a person, oldest first, with the provider's own words."""
        found = await queue.list_failed(limit, after)
        return FailedPage(failed=found, next=found[-1].batch_id if len(found) == limit else None)

    @router.post("/failed/all/retry", **operation(Action.RETRY_FAILED, name="retry_failed_all"))
    async def retry_failed_all(
        request: Request, reason: FailureReason | None = None, thread_id: str | None = None
    ) -> Handled:
        """Retry all failed batches, or those with a reason or of a thread."""
        async with recorded_call(
            queue, caller_of(request), "retry_failed", thread_id, reasons=reason
        ) as outcome:
            outcome.count = count = await queue.retry_failed_all(reason, thread_id)
            outcome.done = count > 0
        return Handled(count=count)

    @router.delete("/failed", **operation(Action.DISCARD_FAILED, name="discard_failed_all"))
    async def discard_failed_all(
        request: Request, reason: FailureReason | None = None, thread_id: str | None = None
    ) -> Handled:
        """Discard all failed batches, or those with a reason or of a thread."""
        async with recorded_call(
            queue, caller_of(request), "discard_failed", thread_id, reasons=reason
        ) as outcome:
            outcome.count = count = await queue.discard_failed_all(reason, thread_id)
            outcome.done = count > 0
        return Handled(count=count)

    @router.post(
        "/failed/{batch_id}/retry",
        status_code=204,
        **operation(Action.RETRY_FAILED, 404, name="retry_failed"),
    )
    async def retry_failed(request: Request, batch_id: BatchId) -> None:
        """Put a failed batch back at its thread's head."""
        async with recorded_call(
            queue,
            caller_of(request),
            "retry_failed",
            await _thread_of(queue, batch_id),
            batch_id=batch_id,
        ) as outcome:
            await queue.retry_failed(batch_id)
            outcome.count = 1

    @router.delete(
        "/failed/{batch_id}",
        status_code=204,
        **operation(Action.DISCARD_FAILED, 404, name="discard_failed"),
    )
    async def discard_failed(request: Request, batch_id: BatchId) -> None:
        """Discard a failed batch."""
        async with recorded_call(
            queue,
            caller_of(request),
            "discard_failed",
            await _thread_of(queue, batch_id),
            batch_id=batch_id,
        ) as outcome:
            await queue.discard_failed(batch_id)
            outcome.count = 1

    del list_failed, retry_failed, discard_failed, retry_failed_all, discard_failed_all
