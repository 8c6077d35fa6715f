"""Spacing of what one process sends to one chat."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

_ALL = ""
"""In place of an address: all chats of a platform."""

_MOST = 10_000
"""Chats of which the last time is remembered. Chosen: a chat that was forgotten has been silent for
longer than any interval, unless more chats than this are written to within it."""


class Pacer:
    """Delays calls, so that two calls for one address are at least an interval apart."""

    def __init__(self) -> None:
        """Remember nothing yet."""
        self._free_at: OrderedDict[str, float] = OrderedDict()

    @property
    def is_free(self) -> bool:
        """Whether no call is delayed by those for any address."""
        return self._free_at.get(_ALL, 0.0) <= asyncio.get_running_loop().time()

    async def wait_in_all(self, interval_s: float) -> None:
        """Wait for a turn among the calls for all addresses."""
        await self.wait(_ALL, interval_s)

    async def wait(self, address: str, interval_s: float) -> None:
        """Wait for this address' turn."""
        if interval_s <= 0:
            return
        now = asyncio.get_running_loop().time()
        at = max(now, self._free_at.pop(address, now))
        self._free_at[address] = at + interval_s
        while len(self._free_at) > _MOST:
            self._free_at.popitem(last=False)
        if at > now:
            await asyncio.sleep(at - now)
