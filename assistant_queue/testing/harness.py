"""A worker without waiting: takes wake-ups one by one and moves a fake clock from one due time to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from assistant_queue.config import Config
from assistant_queue.models import Batch
from assistant_queue.store import wakeups
from assistant_queue.store.calls import text
from assistant_queue.store.rq_jobs import NOT_OURS_TO_RECORD, RqJob
from assistant_queue.store.sweeping import Swept, sweep
from assistant_queue.testing.clock import FakeClock
from assistant_queue.worker.runtime import Runtime
from assistant_queue.worker.taking import read_wake_up

MAX_ROUNDS = 10_000
"""Wake-ups and time steps after which a queue that never becomes idle is given up. Chosen."""


class Crash(BaseException):
    """The worker dies here: nothing after this point happens, and its leases stay until they lapse."""


class Stuck(AssertionError):
    """The queue does not become idle."""


class InstantWorker:
    """Works a queue until it is idle, in milliseconds: windows, back-offs and leases pass on the fake clock.

    Runs the worker's own code (runtime, driver, flow, scripts) on a real or fake Redis; only the waiting is not real.
    """

    def __init__(self, config: Config, clock: FakeClock, *, probe: Callable[[str, Batch], Any] | None = None, rq_name: str = "") -> None:
        """Connects to nothing yet.

        Args:
            config: The queue's options.
            clock: Moved as far as needed.
            probe: Called around each step of a batch; what it raises ends the work there.
            rq_name: Keep RQ's records of the jobs under this name, as the concurrent worker does; '' to leave them out.
        """
        self.config = config
        self.clock = clock
        self._probe = probe
        self._rq_name = rq_name

    def run_until_idle(self) -> int:
        """Handle everything that waits, however long it would have to wait; the number of wake-ups handled.

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
                swept: Swept = await runtime.store.run(sweep(runtime.space))
                job_id = await runtime.store.client.lpop(wakeups.queue_key(self.config.queue_prefix))
                if job_id is not None:
                    job = RqJob(text(job_id), self._rq_name)
                    data = await runtime.store.client.hget(wakeups.job_key(job.id), "data")
                    thread_id = await runtime.store.run(read_wake_up(self.config.queue_prefix, job, data))
                    if thread_id is not None:
                        await runtime.handle(thread_id, job if job.worker else NOT_OURS_TO_RECORD)
                        handled += 1
                elif swept.next_due_in_ms is not None:
                    self.clock.advance(swept.next_due_in_ms / 1000)
                elif swept.overdue == 0:
                    return handled
            raise Stuck(f"the queue {self.config.queue_prefix!r} is not idle after {MAX_ROUNDS:,} rounds")
        finally:
            await runtime.close()
