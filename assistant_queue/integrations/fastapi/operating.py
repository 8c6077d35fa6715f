"""Routes of those who run the service: what has failed, how much waits, pause, health."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from assistant_queue import arguments
from assistant_queue.errors import NotPermitted
from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.routing import operation
from assistant_queue.integrations.fastapi.schemas import Alive, BatchId, FailedPage, Health
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.models import QueueStatus
from assistant_queue.store.calls import Operation, plain
from assistant_queue.store.health import read_workers


def add_routes(router: APIRouter, service: Service) -> None:
    """Give a router the routes of those who run it."""
    queue = service.queue

    @router.get("/status", **operation(Action.READ_STATUS, name="read_status"))
    async def read_status() -> QueueStatus:
        """How many messages are where."""
        return await queue.get_queue_status()

    @router.get("/failed", **operation(Action.READ_FAILED, 404, name="list_failed"))
    async def list_failed(
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        after: Annotated[
            str | None, Query(min_length=1, max_length=arguments.MAX_MESSAGE_ID, description="`next` of the page before.")
        ] = None,
    ) -> FailedPage:
        """Batches that need a person, oldest first, with the provider's own words."""
        found = await queue.list_failed(limit, after)
        return FailedPage(failed=found, next=found[-1].batch_id if len(found) == limit else None)

    @router.post("/failed/{batch_id}/retry", status_code=204, **operation(Action.RETRY_FAILED, 404, name="retry_failed"))
    async def retry_failed(batch_id: BatchId) -> None:
        """Put a failed batch back at its thread's head."""
        await queue.retry_failed(batch_id)

    @router.delete("/failed/{batch_id}", status_code=204, **operation(Action.DISCARD_FAILED, 404, name="discard_failed"))
    async def discard_failed(batch_id: BatchId) -> None:
        """Give a failed batch up."""
        await queue.discard_failed(batch_id)

    @router.post("/pause", status_code=204, **operation(Action.PAUSE, name="pause"))
    async def pause() -> None:
        """Take messages and answer none, in every thread."""
        await queue.pause()

    @router.post("/resume", status_code=204, **operation(Action.RESUME, name="resume"))
    async def resume() -> None:
        """Answer again."""
        await queue.resume()

    @router.get("/health/live", **operation(Action.READ_HEALTH, name="live", counted=False))
    async def live() -> Alive:
        """The process answers; nothing else is looked at, Redis neither. If it does not, start it anew."""
        return Alive()

    @router.get("/health/ready", **operation(Action.READ_HEALTH, name="ready"))
    async def ready() -> Health:
        """Messages can be taken: Redis answers. Without it 503: send requests elsewhere. `degraded`: nobody answers them now."""
        workers, paused = await queue._store.run(_look(service))  # noqa: SLF001 - the queue's own Redis
        counts = await queue.get_queue_status()
        return Health(
            status="degraded" if paused or workers == 0 else "ready",
            workers=workers,
            is_paused=paused,
            waiting=counts.waiting_count,
            delayed=counts.delayed_count,
            active=counts.active_count,
            failed=counts.failed_count,
            streams=service.gate.total,
        )

    del read_status, list_failed, retry_failed, discard_failed, pause, resume, live, ready


def _look(service: Service) -> Operation[tuple[int | None, bool]]:
    """Worker processes that listen for work, and whether the queue is paused."""
    space = service.queue._door.space  # noqa: SLF001 - the queue's own keys
    paused = bool((yield plain("EXISTS", space.keys.paused)))
    try:
        found = yield from read_workers(space)
    except NotPermitted:
        return None, paused
    return max(found.watched, found.registered), paused
