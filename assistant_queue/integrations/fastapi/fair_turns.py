"""Fair turns: one piece of clients' work per event-loop iteration, the lightest client's first.

Requests that wait for the same answer of Redis become ready in the same iteration. Without turns,
twenty requests of one client would run there before the next request of another.

A request waits before it begins, not between its steps: one that waited in the middle would keep a
connection to Redis that a lighter client waits for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from functools import partial
from itertools import count

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

IS_GONE = "assistant_queue_is_gone"
"""Name in a connection's state of the function that returns whether the client has disconnected."""
DECAY = 20.0
"""Pieces of a client that are forgotten in a second. Chosen: two requests of some ten each."""
MOST = 200.0
"""Pieces that are remembered of a client. Chosen: ten seconds after a flood it is as light as any."""
LIGHT = 30.0
"""Recent pieces up to which a client is light. Chosen: a new connection and two requests."""
REQUEST = 10.0
"""Pieces as which a new connection or a request counts. Chosen: its time, in slices that are read."""
AT_ONCE = 2
"""Requests of heavy clients that are under way at once. Chosen: one works while the other waits for
Redis."""
LONGEST_S = 0.02
"""Seconds after which a request counts as no longer under way, answered or not. Chosen:
longer than Redis takes; a slow `authorize` must not hold up others."""
HOLD_S = 0.006
"""Seconds in which no heavy client's piece runs while a light client's request is under way; then
one does. Chosen: a request takes about as long, and heavy clients keep a hundred and fifty pieces a
second."""
KEPT = 2000
"""Clients that are remembered with their pieces; the least recently seen one is dropped. Chosen: some hundred
kilobytes."""


class FairTurns:
    """Decides which client's piece of work runs in an iteration of the event loop.

    1. `run` runs one piece per iteration, first that of the client that had the fewest recent ones
    2. `enter` lets a request begin in a turn; of heavy clients, `AT_ONCE` are under way at once
    3. while a light client's request is under way, the pieces of heavy clients wait a moment
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        """`now` returns seconds, by default of the event loop; for tests."""
        self._given_now = now
        # Recent pieces, as `pieces + DECAY * time`: that does not change while they decay.
        self._levels: dict[str, float] = {}
        self._numbers = count()
        self._line: list[tuple[float, int, Callable[[], None]]] = []
        self._is_taken = False
        self._heavy_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._heavy_line: list[tuple[float, int, asyncio.Future[bool], Callable[[], bool]]] = []
        self._light = 0
        self._heavy = 0

    def run(self, client: str, piece: Callable[[], None]) -> None:
        """Call `piece` in the client's turn: at once if no other ran in this iteration."""
        heapq.heappush(self._line, (self.charge(client, 1), next(self._numbers), piece))
        self._next_turn()

    def charge(self, client: str, pieces: float) -> float:
        """Count work of a client; return its level before."""
        floor = self._floor()
        level = max(self._levels.pop(client, floor), floor)
        self._levels[client] = min(level + pieces, floor + MOST)
        if len(self._levels) > KEPT:
            del self._levels[next(iter(self._levels))]
        return level

    async def enter(self, client: str, is_gone: Callable[[], bool]) -> Callable[[], None] | None:
        """Wait until a request may begin; return a function to call when it is answered.

        Returns None if the client was found to be gone.
        """
        level = self.charge(client, REQUEST)
        if self._is_light(level):
            self._light += 1
            leave = self._leave_light
        else:
            leave = self._leave_heavy
            if not await self._slot(level, is_gone):
                return None
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.run(client, partial(_resolve, turn, True))
        try:
            await turn
        except asyncio.CancelledError:
            leave()
            raise
        return _Once(leave)

    async def _slot(self, level: float, is_gone: Callable[[], bool]) -> bool:
        """Wait until a heavy client's request may begin; return False if the client is gone."""
        slot: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._heavy_line, (level, next(self._numbers), slot, is_gone))
        self._admit()
        try:
            return await slot
        except asyncio.CancelledError:
            if not slot.cancelled() and slot.result():
                self._leave_heavy()
            raise

    def _admit(self) -> None:
        while self._heavy_line and self._heavy < AT_ONCE:
            _, _, slot, is_gone = heapq.heappop(self._heavy_line)
            is_wanted = not (slot.done() or is_gone())
            self._heavy += is_wanted
            _resolve(slot, is_wanted)

    def _leave_heavy(self) -> None:
        self._heavy -= 1
        self._admit()

    def _leave_light(self) -> None:
        self._light -= 1
        asyncio.get_running_loop().call_soon(self._next_turn)

    def _floor(self) -> float:
        return (self._given_now or asyncio.get_running_loop().time)() * DECAY

    def _is_light(self, level: float) -> bool:
        return level - self._floor() <= LIGHT

    def _next_turn(self) -> None:
        """Run the first piece in line, unless one ran in this iteration or it is held."""
        if self._is_taken or not self._line:
            return
        if not self._is_light(self._line[0][0]):
            now = self._floor() / DECAY
            held_s = self._heavy_at + HOLD_S - now
            if self._light and held_s > 0:
                if self._timer is None:
                    loop = asyncio.get_running_loop()
                    self._timer = loop.call_later(held_s, self._end_hold)
                return
            self._heavy_at = now
        _, _, piece = heapq.heappop(self._line)
        self._is_taken = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        piece()

    def _end_turn(self) -> None:
        self._is_taken = False
        self._next_turn()

    def _end_hold(self) -> None:
        self._timer = None
        self._next_turn()


class _Once:
    """Calls a function once: when it is called, or after `LONGEST_S`."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._timer = asyncio.get_running_loop().call_later(LONGEST_S, self)
        self._is_done = False

    def __call__(self) -> None:
        if not self._is_done:
            self._is_done = True
            self._timer.cancel()
            self._leave()


def _resolve(future: asyncio.Future[bool], value: bool) -> None:
    if not future.done():  # else it was cancelled
        future.set_result(value)


class TakingTurns:
    """Begin the requests and sockets of an app in turns, by the address that limits count."""

    def __init__(
        self, app: ASGIApp, turns: FairTurns, client_of: Callable[[HTTPConnection], str]
    ) -> None:
        self._app = app
        self._turns = turns
        self._client_of = client_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the app in the client's turn, unless the client has gone by then."""
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        is_gone = scope.get("state", {}).get(IS_GONE, lambda: False)
        leave = await self._turns.enter(self._client_of(HTTPConnection(scope)), is_gone)
        if leave is None:
            return

        async def answer(message: Message) -> None:
            leave()
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            leave()
