"""The function that RQ imports. Its dotted path is a wire format and never moves."""

from __future__ import annotations

import logging

_log = logging.getLogger(__name__)

SWEEP_LIMIT = 10
"""Overdue threads that each job looks at, before and after its own: under the stock worker nobody else does. Chosen."""


def wake(thread_id: str, *, origin: str | None = None) -> None:
    """Handle one thread: a wake-up.

    Args:
        thread_id: The thread to look at.
        origin: The queue's prefix, as our own worker says; None under a stock worker, where RQ's current job tells.

    Raises:
        ConfigurationError: The app cannot be loaded, or lacks a backend or a key. Nothing was claimed; the thread is woken again.
    """
    from rq import get_current_job

    from assistant_queue.worker.loop import run

    job = get_current_job()
    job_origin, job_id = (job.origin, job.id) if job is not None else (None, "")
    run(_wake(thread_id, origin or job_origin, job_id, stock=origin is None))


async def _wake(thread_id: str, origin: str | None, job_id: str, *, stock: bool) -> None:
    from assistant_queue.store.rq_jobs import RqJob
    from assistant_queue.worker.app import load_app
    from assistant_queue.worker.runtime import Runtime

    config = load_app()
    if origin is not None and origin != config.queue_prefix:
        config = config.model_copy(update={"queue_prefix": origin})
    runtime = Runtime(config)
    try:
        if stock:
            await runtime.check_in(quietly=True)  # our own worker has asked before it forked
        await runtime.sweep(SWEEP_LIMIT, leave=thread_id)  # a horse that took a second to start is overdue itself
        await runtime.handle(thread_id, RqJob(job_id))
        await runtime.sweep(SWEEP_LIMIT)
    finally:
        await runtime.close()
