"""The function that RQ imports. Its dotted path is a wire format and never moves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from assistant_queue.config import Config

_log = logging.getLogger(__name__)

SWEEP_LIMIT = 10
"""Overdue threads that each job looks at, before and after its own: beside stock workers there may
be no other sweeper. Chosen: a few milliseconds of a job."""


def wake(thread_id: str, *, origin: str | None = None) -> None:
    """Handle one thread: a wake-up.

    Args:
        thread_id: The thread to look at.
        origin: The queue's prefix, given by our own worker; None under a stock worker: RQ's current
            job has it.

    Raises:
        ConfigurationError: The app cannot be loaded, or lacks a backend or a key. Nothing was
            claimed; the thread is woken again.
    """
    from rq import get_current_job

    from assistant_queue.worker.event_loop import run

    job = get_current_job()
    job_origin, job_id = (job.origin, job.id) if job is not None else (None, "")
    run(_wake(thread_id, origin or job_origin, job_id, stock=origin is None))


def _drain_audit(config: Config) -> None:
    """Write the audit: the process ends with its job."""
    from assistant_queue.clock import SystemClock
    from assistant_queue.store.ops.namespaces import namespace_of
    from assistant_queue.worker.audit_drain import AuditDrain
    from assistant_queue.worker.runtime import worker_sync_client

    namespace = namespace_of(config, SystemClock())
    client = worker_sync_client(config)
    AuditDrain(namespace, config.audit, client).pass_once()
    client.close()


async def _wake(thread_id: str, origin: str | None, job_id: str, *, stock: bool) -> None:
    from assistant_queue.store.rq_jobs import RqJob
    from assistant_queue.worker.app_loader import load_app
    from assistant_queue.worker.runtime import Runtime

    config = load_app()
    if origin is not None and origin != config.queue_prefix:
        config = config.model_copy(update={"queue_prefix": origin})
    runtime = Runtime(config)
    try:
        if stock:
            await runtime.check_in(quietly=True)  # our own worker has checked before it forked
        # Without its own thread, which is overdue if the horse took a second to start.
        await runtime.sweep(SWEEP_LIMIT, leave=thread_id)
        await runtime.handle(thread_id, RqJob(job_id))
        await runtime.sweep(SWEEP_LIMIT)
        await runtime.wake_deliveries(SWEEP_LIMIT)
    finally:
        # Nothing calls them after this process.
        await runtime.hook_calls.drain(config.callback_limit)
        await runtime.close()
        if config.audit is not None:
            _drain_audit(config)
