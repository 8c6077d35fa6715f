"""Commands of many coroutines, gathered: those that wait at the same moment share one round trip."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from assistant_queue.store.lane import AsyncLane
from assistant_queue.store.sendable import REFUSED, fault

FLIGHTS = 2
"""Round trips on their way at once. Chosen: while one is read the next is written; more would leave less to gather."""
MOST = 250
"""Commands of one round trip. Chosen: keeps Redis busy for some ten milliseconds at most."""

_Waiting = tuple[tuple[Any, ...], "asyncio.Future[Any]"]


class Gathering:
    """Sends single commands for coroutines of one event loop.

    A round trip by redis-py's asyncio client costs ten times what the command does: a connection from the pool, timers, a turn of the loop
    for each. Under load a process' coroutines want to write at the same moment; here those of one moment go out as one pipeline.

    1. a command that finds nothing on its way leaves at the next turn of the loop, with all that were given until then
    2. one that finds `FLIGHTS` round trips on their way leaves with the next
    3. each gets its own reply or error; a lost connection is everybody's error, after redis-py has repeated the round trip as it is told to
    4. one whose caller was cancelled before it left is not sent
    5. one that cannot be packed fails alone: the others are sent without it

    Only for commands that can be repeated and that do not block.
    """

    def __init__(self, client: Any, *, keeps: bool = True) -> None:
        """`keeps`: the client has connections to spare, one for each flight."""
        self._lanes = [AsyncLane(client, keeps=keeps) for _ in range(FLIGHTS)]
        self._waiting: deque[_Waiting] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._on_their_way = 0

    def leave(self) -> None:
        """Have every lane connect anew before its next command: the server is the wrong one."""
        for lane in self._lanes:
            lane.leave()

    async def execute(self, *words: Any) -> Any:
        """As `client.execute_command`; the reply is as it comes from Redis, as that of a script is."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((words, future))
        if self._on_their_way < FLIGHTS:
            self._on_their_way += 1
            flight = loop.create_task(self._fly())
            self._flights.add(flight)
            flight.add_done_callback(self._flights.discard)
        return await future

    async def _fly(self) -> None:
        lane = self._lanes.pop()
        try:
            while self._waiting:
                wanted = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
                await _send([one for one in wanted if not one[1].done()], lane)
        finally:
            # In the same step as the last look at who waits: whoever comes after it starts a flight of its own.
            self._lanes.append(lane)
            self._on_their_way -= 1


async def _send(wanted: list[_Waiting], lane: AsyncLane) -> None:
    if not wanted:
        return
    try:
        if len(wanted) == 1:
            replies = [await lane.execute(*wanted[0][0])]
        else:
            replies = await lane.execute_all([words for words, _ in wanted])
    except asyncio.CancelledError:
        # The loop ends: nobody will carry these on.
        for _, future in wanted:
            future.cancel()
        raise
    except REFUSED as error:
        await _send(_refuse(wanted, error), lane)
        return
    except Exception as error:  # noqa: BLE001 - it belongs to the callers that wait
        replies = [error] * len(wanted)
    for (_, future), reply in zip(wanted, replies, strict=True):
        if future.done():
            continue
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)


def _refuse(wanted: list[_Waiting], error: Exception) -> list[_Waiting]:
    """Fail the commands that cannot be packed, and return the others: nothing of either has been sent."""
    faults = [fault(words) for words, _ in wanted]
    if not any(faults):
        faults = [error] * len(wanted)
    left: list[_Waiting] = []
    for one, found in zip(wanted, faults, strict=True):
        if found is None:
            left.append(one)
        elif not one[1].done():
            one[1].set_exception(found)
    return left
