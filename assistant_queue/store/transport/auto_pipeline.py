"""Automatic pipelining: commands of coroutines that wait at the same moment share a round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from assistant_queue.store.sendable import REFUSED, fault
from assistant_queue.store.transport.pinned import AsyncPinnedConnection

FLIGHTS = 2
"""Concurrent round trips. Chosen: while one is read the next is written; more would leave fewer
commands for each."""
MOST = 250
"""Commands of one round trip. Chosen: keeps Redis busy for some ten milliseconds at most."""

SHARED = 16
"""Commands that are worth two round trips. Chosen: one costs as much as the work on two or three
commands."""

_Waiting = tuple[tuple[Any, ...], "asyncio.Future[Any]", str]
"""A command, its reply, and the id of its thread."""


class AutoPipeline:
    """Send single commands for coroutines of one event loop.

    A round trip by redis-py's asyncio client costs ten times as much as the command: a connection
    from the pool, timers, an iteration of the loop for each. Under load many coroutines write at
    the same moment; their commands are sent as one pipeline.

    1. a command that finds no round trip in progress is sent at the loop's next iteration, with all
       commands that were issued until then; many are sent in two round trips, so that Redis works
       on the second while the callers of the first continue
    2. a command that finds `FLIGHTS` round trips in progress is sent with the next
    3. each gets its own reply or error; a lost connection is the error of all, after redis-py has
       repeated the round trip as configured
    4. a command is dropped if its caller was cancelled before it was sent
    5. a command that cannot be packed fails alone: the others are sent without it
    6. up to `MOST` commands for one thread that were issued at the same moment are executed in that
       order

    Only for commands that can be repeated and that do not block.
    """

    def __init__(self, client: Any, *, keeps: bool = True) -> None:
        """`keeps`: the client can spare connections, one for each concurrent round trip."""
        self._pinned = [AsyncPinnedConnection(client, keeps=keeps) for _ in range(FLIGHTS)]
        self._waiting: deque[_Waiting] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._on_their_way = 0

    def reconnect(self) -> None:
        """Reopen every pinned connection before its next command: the server is the wrong one."""
        for pinned in self._pinned:
            pinned.reconnect()

    async def execute(self, *words: Any, thread_id: str = "") -> Any:
        """Send a command as `client.execute_command` does; the reply is Redis' own, unparsed."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((words, future, thread_id))
        if self._on_their_way < FLIGHTS:
            self._on_their_way += 1
            flight = loop.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await future

    async def _fly(self) -> None:
        pinned = self._pinned.pop()
        try:
            while self._waiting:
                await _send([one for one in self._taken() if not one[1].done()], pinned)
        finally:
            # In the same step as the last check of the waiting commands: a later one starts its own
            # flight.
            self._pinned.append(pinned)
            self._on_their_way -= 1

    def _taken(self) -> list[_Waiting]:
        """Remove the commands of the next round trip from the waiting ones, and return them."""
        waiting = self._waiting
        count = len(waiting)
        if not self._pinned or count < SHARED:
            return [waiting.popleft() for _ in range(min(MOST, count))]
        # The other half is for the flight that was started with this one.
        taken = [waiting.popleft() for _ in range(min(MOST, (count + 1) // 2))]
        threads = {thread_id for _, _, thread_id in taken}
        left: deque[_Waiting] = deque()
        for one in waiting:
            (taken if one[2] in threads and len(taken) < MOST else left).append(one)
        self._waiting = left
        return taken


async def _send(wanted: list[_Waiting], pinned: AsyncPinnedConnection) -> None:
    if not wanted:
        return
    try:
        if len(wanted) == 1:
            replies = [await pinned.execute(*wanted[0][0])]
        else:
            replies = await pinned.execute_all([words for words, _, _ in wanted])
    except asyncio.CancelledError:
        # The loop ends: no task will finish these commands.
        for _, future, _ in wanted:
            future.cancel()
        raise
    except REFUSED as error:
        await _send(_refuse(wanted, error), pinned)
        return
    except Exception as error:  # noqa: BLE001 - it belongs to the callers that wait
        replies = [error] * len(wanted)
    for (_, future, _), reply in zip(wanted, replies, strict=True):
        if future.done():
            continue
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)


def _refuse(wanted: list[_Waiting], error: Exception) -> list[_Waiting]:
    """Fail the commands that cannot be packed, and return the others: none of them was sent."""
    faults = [fault(words) for words, _, _ in wanted]
    if not any(faults):
        faults = [error] * len(wanted)
    left: list[_Waiting] = []
    for one, found in zip(wanted, faults, strict=True):
        if found is None:
            left.append(one)
        elif not one[1].done():
            one[1].set_exception(found)
    return left
