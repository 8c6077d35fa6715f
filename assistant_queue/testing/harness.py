"""A worker that does not wait: it advances a fake clock from one due time to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from assistant_queue.config import Config
from assistant_queue.models import Batch
from assistant_queue.store import wakeups
from assistant_queue.store.calls import text
from assistant_queue.store.ops.reply_outbox import find_due
from assistant_queue.store.ops.sweeping import Swept, sweep
from assistant_queue.store.rq_jobs import NO_JOB, RqJob
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.worker.fetcher import read_wake_up
from assistant_queue.worker.runtime import Runtime

MAX_ROUNDS = 10_000
"""Wake-ups and time steps after which `Stuck` is raised. Chosen: far more than any test needs."""


class Crash(BaseException):
    """Simulates the death of the worker: its leases stay until they lapse."""


class Stuck(AssertionError):
    """The queue does not become idle."""


class InstantWorker:
    """Processes a queue until it is idle, in milliseconds; time passes on the fake clock only.

    Runs the worker's own code (runtime, driver, flow, scripts) on a real or fake Redis; only the
    waiting is not real.
    """

    def __init__(
        self,
        config: Config,
        clock: FakeClock,
        *,
        probe: Callable[[str, Batch], Any] | None = None,
        rq_name: str = "",
    ) -> None:
        """Connect nothing yet.

        Args:
            config: The queue's options.
            clock: Moved as far as needed.
            probe: Called around each step of a batch; what it raises ends the work there.
            rq_name: Keep RQ's records of the jobs under this name, as the concurrent worker does;
                '' to leave them out.
        """
        self.config = config
        self.clock = clock
        self._probe = probe
        self._rq_name = rq_name

    def run_until_idle(self) -> int:
        """Handle all pending work, whenever it is due; return the number of wake-ups.

        In a coroutine, await `arun_until_idle` instead.

        Raises:
            Stuck: It does not end.
        """
        return asyncio.run(self.arun_until_idle())

    async def arun_until_idle(self) -> int:
        """`run_until_idle` on this event loop."""
        runtime = Runtime(self.config, clock=self.clock)
        if self._probe is not None:
            runtime.watch_steps(self._probe)
        handled = 0
        try:
            for _ in range(MAX_ROUNDS):
                swept: Swept = await runtime.store.run(sweep(runtime.namespace))
                job_id = await runtime.store.client.lpop(
                    wakeups.queue_key(self.config.queue_prefix)
                )
                if job_id is not None:
                    job = RqJob(text(job_id), self._rq_name)
                    data = await runtime.store.client.hget(wakeups.job_key(job.id), "data")
                    thread_id = await runtime.store.run(
                        read_wake_up(self.config.queue_prefix, job, data)
                    )
                    if thread_id is not None:
                        await runtime.handle(thread_id, job if job.worker else NO_JOB)
                        handled += 1
                    continue
                replies = await runtime.store.run(find_due(runtime.namespace))
                for due in replies.due:
                    await runtime.deliver_due(due.thread_id)
                question_in_s = await runtime.questions.ask_due()
                waits = [
                    wait_s
                    for wait_s in (
                        _seconds(swept.next_due_in_ms),
                        replies.next_due_in_s,
                        question_in_s,
                    )
                    if wait_s is not None
                ]
                if replies.due or swept.overdue:
                    continue
                if not waits:
                    return handled
                self.clock.advance(min(waits))
            raise Stuck(
                f"the queue {self.config.queue_prefix!r} is not idle after {MAX_ROUNDS:,} rounds"
            )
        finally:
            await runtime.hook_calls.drain(self.config.callback_limit)
            await runtime.close()


def _seconds(ms: float | None) -> float | None:
    return None if ms is None else ms / 1000
