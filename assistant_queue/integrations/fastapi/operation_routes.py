"""Routes of the operations page: everything it shows, and the one route of what it changes."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.concurrency import run_in_threadpool

from assistant_queue.client import arguments
from assistant_queue.errors import (
    ConfigurationError,
    NotAllowed,
    NotAuthenticated,
    StoreError,
)
from assistant_queue.integrations.fastapi.access import Action, ask
from assistant_queue.integrations.fastapi.approval_pages import ApprovalsPage, read_calls
from assistant_queue.integrations.fastapi.guarded_routes import caller_of, operation
from assistant_queue.integrations.fastapi.history_schemas import History
from assistant_queue.integrations.fastapi.operation_calls import operate
from assistant_queue.integrations.fastapi.operation_schemas import (
    AuditFound,
    CurrentBatch,
    NewOperation,
    OperationsPage,
    Operator,
    Overview,
    SeenFailed,
    SeenThreads,
    Spans,
    ThreadView,
    WaitingMessage,
)
from assistant_queue.integrations.fastapi.recorded_calls import operator_name
from assistant_queue.integrations.fastapi.schemas import ThreadId
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.thread_routes import read_page
from assistant_queue.metrics import Metrics
from assistant_queue.models import FailureReason, Message
from assistant_queue.store.ops import metric_history, operation_log
from assistant_queue.store.ops.browsing import browse_failed, browse_threads, count_failed
from assistant_queue.store.ops.event_log import ALL_THREADS, listen
from assistant_queue.store.ops.explaining import explain
from assistant_queue.store.ops.searching import Searched, search
from assistant_queue.store.ops.thread_views import read_open_messages

Limit = Annotated[int, Query(ge=1, le=200)]
State = Literal["pending", "active", "retrying", "held", "parked", "paused", "taken_over", "stuck"]
Reasons = Annotated[list[FailureReason] | None, Query(max_length=20)]
AnyId = Annotated[str | None, Query(min_length=1, max_length=arguments.MAX_MESSAGE_ID)]
Needle = Annotated[str, Query(min_length=1, max_length=200, pattern=r"\S")]
_STEPS = 60
"""Spans of a chart. Chosen: as many as a phone shows apart."""
_HITS = 50
_CHUNK = 500
"""Newest failed batches among which those of a thread are looked for. Chosen: one round trip."""
_TEXT = 2000
"""Characters of a message's text. Chosen: a screen full."""
_SAMPLE_S = 60.0
"""Seconds between two samples, and two looks at the feed, by one process. Source: SAMPLE_MS."""


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of the operations page to a router."""
    _add_overview(router, service)
    _add_threads(router, service)
    _add_failed(router, service)
    _add_search(router, service)
    _add_operations(router, service)


def _add_overview(router: APIRouter, service: Service) -> None:
    queue = service.queue
    keeper = _Keeper(service)

    @router.get("/ops/overview", **operation(Action.OPERATE_READ, name="read_overview"))
    async def read_overview(request: Request) -> Overview:
        """Everything of the first view: counts, workers, the longest overdue."""
        metrics = await queue.get_metrics()
        await keeper.keep(metrics)
        caller = caller_of(request)
        return Overview(
            at=metrics.at,
            queue=queue.config.queue_prefix,
            operator=Operator(
                name=operator_name(caller), may_change=await _may_change(service, request)
            ),
            status=metrics.status,
            thread_count=metrics.thread_count,
            oldest_due_s=metrics.oldest_due_s,
            workers=list(metrics.workers),
            sees_workers=metrics.sees_workers,
            messages=dict(metrics.messages),
            runs_saved=metrics.runs_saved,
            has_audit=hasattr(queue.config.audit, "search"),
        )

    @router.get("/ops/history", **operation(Action.OPERATE_READ, name="read_spans"))
    async def read_spans(minutes: Annotated[int, Query(ge=5, le=1440)] = 60) -> Spans:
        """The kept history of the metrics, in at most 60 spans, up to now."""
        metrics = await queue.get_metrics()
        await keeper.keep(metrics)
        found = await queue.core.store.run(
            metric_history.read_spans(
                queue.core.namespace,
                metrics,
                now_ms=round(metrics.at.timestamp() * 1000),
                minutes=minutes,
                steps=min(minutes, _STEPS),
            )
        )
        return Spans(spans=found)

    del read_overview, read_spans


class _Keeper:
    """Keeps what the page needs while it is open: samples of the metrics, and the feed."""

    def __init__(self, service: Service) -> None:
        self._core = service.queue.core
        self._at_s = float("-inf")

    async def keep(self, metrics: Metrics) -> None:
        """Take a sample, and have events kept, at most once a minute."""
        if time.monotonic() < self._at_s + _SAMPLE_S:
            return
        self._at_s = time.monotonic()
        store = self._core.store
        with suppress(StoreError, ConfigurationError):  # a user that may only read, or no events
            await store.run(metric_history.keep(self._core.namespace, metrics))
            await store.run(listen(self._core.namespace, ALL_THREADS))


async def _may_change(service: Service, request: Request) -> bool:
    try:
        await ask(service.authorize, request, Action.OPERATE_CHANGE, None)
    except (NotAllowed, NotAuthenticated):
        return False
    return True


def _add_threads(router: APIRouter, service: Service) -> None:
    queue = service.queue
    core = queue.core

    @router.get("/ops/threads", **operation(Action.OPERATE_READ, name="browse_threads"))
    async def list_threads_seen(
        state: State | None = None,
        limit: Limit = 50,
        after: Annotated[int, Query(ge=0, le=100_000_000)] = 0,
    ) -> SeenThreads:
        """Threads that are not idle, longest due first, or those in one state.

        A page reads at most 1,000 threads, however few match.
        """
        seen = await core.store.run(browse_threads(core.namespace, state, limit, after))
        return SeenThreads(
            threads=list(seen.threads), next=seen.next, read=seen.read, total=seen.total
        )

    @router.get(
        "/ops/threads/{thread_id}", **operation(Action.OPERATE_READ, 404, name="read_thread_view")
    )
    async def read_thread_view(thread_id: ThreadId) -> ThreadView:
        """Everything that is known of a thread, but for its conversation at the provider."""
        status = await queue.get_thread_status(thread_id)
        why = await core.store.run(explain(core.namespace, thread_id, is_thread=True))
        opened = await core.store.run(read_open_messages(core.namespace, thread_id))
        seen = await core.store.run(
            browse_failed(core.namespace, (), thread_id, 20, None, budget=_CHUNK)
        )
        current = opened.current
        return ThreadView(
            status=status,
            explanation=why,
            sentence=str(why),
            current=None
            if status.batch_id is None or current is None
            else CurrentBatch(
                batch_id=status.batch_id,
                run_id=status.run_id,
                attempts=status.attempts,
                timeline=current.timeline,
            ),
            waiting=[
                *(_waiting(one, is_in_batch=True) for one in opened.frozen),
                *(_waiting(one, is_in_batch=False) for one in opened.pending),
            ],
            batches=await queue.get_timeline(thread_id, 50),
            failed=list(seen.failed),
            approvals=await queue.list_approvals(100, thread_id=thread_id),
            operations=await core.store.run(operation_log.read(core.namespace, 20, thread_id)),
        )

    @router.get("/ops/approvals", **operation(Action.OPERATE_READ, name="browse_approvals"))
    async def list_approvals_seen(limit: Limit = 50, after: AnyId = None) -> ApprovalsPage:
        """Tool calls of all threads that wait for an answer, oldest first."""
        return await read_calls(queue, limit, after)

    @router.get(
        "/ops/threads/{thread_id}/messages",
        **operation(Action.OPERATE_READ, 404, 409, 501, 502, name="read_conversation"),
    )
    async def read_conversation(
        thread_id: ThreadId, limit: Annotated[int, Query(ge=1, le=100)] = 30
    ) -> History:
        """The newest messages of the provider's conversation, newest first."""
        return await read_page(service, thread_id, limit=limit, order="desc")

    del list_threads_seen, read_thread_view, list_approvals_seen, read_conversation


def _waiting(message: Message, *, is_in_batch: bool) -> WaitingMessage:
    return WaitingMessage(
        message_id=message.id,
        author=message.author,
        text=message.text[:_TEXT],
        queued_at=message.queued_at,
        is_in_batch=is_in_batch,
        is_said=message.role == "assistant",
    )


def _add_failed(router: APIRouter, service: Service) -> None:
    core = service.queue.core

    @router.get("/ops/failed", **operation(Action.OPERATE_READ, 404, name="browse_failed"))
    async def list_failed_seen(
        reason: Reasons = None, thread_id: AnyId = None, limit: Limit = 50, after: AnyId = None
    ) -> SeenFailed:
        """Failed batches, newest first, with these reasons and of this thread.

        A page reads at most 1,000 batches, however few match.
        """
        seen = await core.store.run(
            browse_failed(core.namespace, reason or (), thread_id, limit, after)
        )
        counts = None
        if after is None:
            counts = await core.store.run(count_failed(core.namespace))
        return SeenFailed(failed=list(seen.failed), next=seen.next, read=seen.read, counts=counts)

    del list_failed_seen


def _add_search(router: APIRouter, service: Service) -> None:
    queue = service.queue

    @router.get("/ops/search", **operation(Action.OPERATE_READ, name="search_queue"))
    async def search_queue(q: Needle) -> Searched:
        """Ids of messages, threads and batches; runs, authors and texts of what is recent."""
        core = queue.core
        return await core.store.run(search(core.namespace, q.strip(), _HITS))

    @router.get("/ops/search/audit", **operation(Action.OPERATE_READ, 503, name="search_audit"))
    async def search_audit(q: Needle) -> AuditFound:
        """Ids, authors, texts and replies of every batch that the audit has; none without one."""
        find = getattr(queue.config.audit, "search", None)
        if find is None:
            return AuditFound(hits=[])
        hits = await run_in_threadpool(find, queue.config.queue_prefix, q.strip(), _HITS)
        return AuditFound(hits=hits)

    del search_queue, search_audit


def _add_operations(router: APIRouter, service: Service) -> None:
    queue = service.queue

    @router.get("/ops/operations", **operation(Action.OPERATE_READ, name="list_operations"))
    async def list_operations(limit: Limit = 50, thread_id: AnyId = None) -> OperationsPage:
        """Operations of operators, newest first: the latest 1,000 are kept."""
        core = queue.core
        found = await core.store.run(operation_log.read(core.namespace, limit, thread_id))
        return OperationsPage(operations=found)

    @router.post(
        "/ops/operations",
        **operation(Action.OPERATE_CHANGE, 404, 409, 413, name="operate", thread_in_body=True),
    )
    async def operate_now(request: Request, body: NewOperation) -> operation_log.OperationRecord:
        """Perform an operation; it is recorded with its author and its time."""
        return await operate(queue, caller_of(request), body)

    del list_operations, operate_now
