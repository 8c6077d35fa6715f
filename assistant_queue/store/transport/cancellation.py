"""Connections that lose no cancellation.

redis-py sends each command through `asyncio.wait_for`. Before Python 3.12 that function returns as
if nothing had happened when its task is cancelled in the loop iteration in which the command is
sent: the task continues to wait for the reply, and the caller of `cancel` waits for the task.
Source: CPython issue 86296.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any

IS_NEEDED = sys.version_info < (3, 12)


class _RaisesLostCancellation:
    """Mixin for redis-py's asyncio connections: raise a cancellation that sending has lost."""

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        """Send as redis-py does; raise CancelledError if the task was cancelled meanwhile."""
        task = asyncio.current_task()
        before = task.cancelling() if task is not None else 0
        await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        if task is not None and task.cancelling() > before:
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise asyncio.CancelledError


@functools.cache
def cancellable(kind: type[Any]) -> type[Any]:
    """Return a subclass of an asyncio connection's class, of the same name, that can be cancelled.

    The class itself where Python has no such fault, and for fakeredis, which has no socket.
    """
    if not IS_NEEDED or kind.__name__.startswith("Fake"):
        return kind
    if issubclass(kind, _RaisesLostCancellation):
        return kind
    return type(kind.__name__, (_RaisesLostCancellation, kind), {})
