"""Room for runs in the background: how many the queue's polls can keep an eye on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant_queue.core.flow.background import room_wait_s
from assistant_queue.store.ops import runs_at_work

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_KNOWN_FOR_S = 0.2
"""Chosen: a worker that starts hundreds of runs a second asks five times in it, and starts too many
by what it starts in a fifth of a second."""


class BackgroundRoom:
    """Says whether another run may be started; asks Redis at most five times a second."""

    def __init__(self, runtime: Runtime) -> None:
        """Ask nothing yet."""
        self._runtime = runtime
        self._wait_s = 0.0
        self._asked_at: float | None = None

    async def wait_s(self) -> float:
        """Return the seconds to wait before a run is started, 0 if there is room for one."""
        runtime = self._runtime
        now = runtime.clock.monotonic()
        if self._asked_at is None or not 0 <= now - self._asked_at < _KNOWN_FOR_S:
            at_work = await runtime.store.run(runs_at_work.in_the_air(runtime.namespace))
            self._wait_s = room_wait_s(
                at_work.runs, runtime.config.poll_rate, webhooks_come=at_work.webhooks_come
            )
            self._asked_at = now
        return self._wait_s
