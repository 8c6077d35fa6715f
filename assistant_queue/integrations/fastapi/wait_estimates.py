"""Estimates of how long a message waits, for its sender."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.errors import StoreError
from assistant_queue.models import Receipt
from assistant_queue.store.ops.waits import Runs, read_line, read_runs, seconds_until_run

RUNS_S = 5.0
"""Seconds for which the mean of the runs is kept. Chosen: it moves slowly, and is read from the
records of all workers."""


class WaitEstimates:
    """Estimates waits from the window, the line, the runs and pauses; one round trip for each."""

    def __init__(self, queue: AsyncAssistantMessageQueue) -> None:
        """Read nothing yet."""
        self._core = queue.core
        self._runs = Runs()
        self._read_at: float | None = None

    async def seconds_for(self, receipt: Receipt) -> float | None:
        """Return the seconds until a message's run starts; None while its thread is paused.

        Redis that does not answer leaves the window: the message is accepted already.
        """
        left_s = max(0.0, (receipt.due_at - datetime.now(UTC)).total_seconds())
        core = self._core
        with suppress(StoreError):
            line = await core.store.run(read_line(core.namespace, receipt.thread_id))
            if line.is_paused:
                return None
            now_s = core.clock.monotonic()
            if self._read_at is None or now_s - self._read_at >= RUNS_S:
                self._read_at = now_s
                self._runs = await core.store.run(read_runs(core.namespace))
            left_s = seconds_until_run(
                line, self._runs, window_s=left_s, is_behind_a_run=receipt.job_id is None
            )
        return round(left_s, 3)
