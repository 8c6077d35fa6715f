"""Who begins next: coroutines that all want to start at once."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets one coroutine begin at each turn of the event loop.

    Ten thousand threads can fall due in the same second. Were their runs begun together, each step of each would stand behind one step of
    all others: a connection that is made in a millisecond would be looked at after its time-out. One by one, a run has nearly sent its
    request when the fiftieth after it begins; the rest wait where nothing counts their time, without a lease. The pace is the loop's own: a
    loop that is busy turns slowly, and nobody waits in an idle one.
    """

    def __init__(self) -> None:
        self._next = asyncio.Lock()

    async def wait(self) -> None:
        """Wait for one's turn, first come first served."""
        async with self._next:
            await asyncio.sleep(0)
