"""Start coroutines one by one, if many are ready at once."""

from __future__ import annotations

import asyncio


class StartPacer:
    """Starts at most one run per event-loop iteration.

    Ten thousand threads can fall due in the same second. If their runs started together, each step
    of each run would wait for one step of all others: a connection that is made in a millisecond
    would be read after its time-out. One by one, a run has nearly sent its request when the
    fiftieth after it starts; the rest wait without a lease, where no time limit runs. The loop sets
    the pace: iterations are slow when it is busy, and in an idle loop no run waits.
    """

    def __init__(self) -> None:
        self._next = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until the caller may start, in the order of calls."""
        async with self._next:
            await asyncio.sleep(0)
