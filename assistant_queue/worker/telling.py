"""Tells those who listen what a run says, while it says it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from assistant_queue.core.runs import ActionRequired, RunEnded, TextDelta
from assistant_queue.core.told import Told
from assistant_queue.errors import AssistantQueueError
from assistant_queue.store import events
from assistant_queue.store.calls import Operation, Space
from assistant_queue.worker.lease import HeldLease
from assistant_queue.worker.outage import PASSES

_log = logging.getLogger(__name__)

PACE_S = 0.125
"""Seconds between two pieces of one run. Chosen: an eye sees no difference, and a fast model does not flood Redis."""

_AWAY_S = 1.0
"""Seconds until the next try while Redis is away. Chosen."""

Write = Callable[[Callable[[], Operation[Any]]], Awaitable[Any]]


class Teller:
    """One batch's voice towards those who listen.

    1. keeps what the run says; where nobody listens that is all
    2. tells the first piece of a run at once, then what has gathered every `PACE_S`, and the rest before anything else is told
    3. stores with each piece how much has been told, so that whoever takes the batch over goes on at the same character
    4. waits for no Redis that is away while the run goes on: its stream has to be read, and what was not told is told with the next piece
    5. publishes to a subscriber that comes during the run what it has said so far
    """

    def __init__(self, space: Space, held: HeldLease, write: Write, once: Write, probe: Callable[[str], Awaitable[None]]) -> None:
        """`write` carries an operation out, through a Redis that is away; `once` tries it a single time; `probe` is called around each."""
        self._space = space
        self._held = held
        self._write = write
        self._once = once
        self._probe = probe
        self._told = Told.load(held.lease.told)
        self._batch_id = held.lease.claimed.batch.id
        self._was_listened = held.listened
        self._next_at = 0.0
        self._unsent: Callable[[], Operation[Any]] | None = None  # taken from what was heard, and not told yet
        self._writing = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        held.on_listened = self._somebody_came

    def _somebody_came(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the batch is over for this worker
            self._loop.call_soon_threadsafe(self._tell_soon)

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = self._loop.create_task(self._tell_later())

    def cursor_of(self, run_id: str) -> int | None:
        """Where a run's stream goes on behind what was told by an earlier holder; 0: from its beginning, for those who listen now."""
        if self._told.run_id == run_id and not self._told.is_silent:
            return self._told.cursor
        return 0 if self._held.listened else None

    def begin(self, run_id: str, *, is_round: bool = False) -> None:
        """A run has started or is followed; `is_round`: it goes on with the outputs of a tool round."""
        if run_id != self._told.run_id:
            self._next_at = 0.0
            self._unsent = None
        self._told.begin(run_id, is_round=is_round)

    def hear(self, delta: TextDelta) -> bool:
        """A piece of its text; whether it is time to `tell`."""
        if not delta.text:
            return False
        self._told.hear(str(delta.part) if delta.item is None else delta.item, delta.text, delta.cursor)
        if not self._held.listened or self._timer is not None:
            return False
        if self._loop.time() >= self._next_at:
            return True
        self._tell_soon()
        return False

    async def settle(self, stop: ActionRequired | RunEnded) -> None:
        """The run has stopped: tell the rest of what it said, before anybody tells what comes of it."""
        is_well = isinstance(stop, ActionRequired) or stop.status in {"completed", "incomplete"}
        if is_well and stop.run_id == self._told.run_id:
            self._told.settle(stop.replies, whole=stop.whole)
        # A reply of which nothing was told comes whole with `reply_ready`.
        if self._held.listened and (self._told.has_begun or isinstance(stop, ActionRequired)):
            await self._tell(self._write)

    async def _tell_later(self) -> None:
        try:
            while self._held.listened and (self._told.has_news or self._unsent is not None):
                await asyncio.sleep(self._next_at - self._loop.time())
                await self.tell()
        except AssistantQueueError as error:  # the next write of the batch meets it, too, and decides
            _log.debug("a piece of text was not told yet: %s", error)
        finally:
            self._timer = None

    async def tell(self) -> None:
        """Tell what has gathered, if Redis takes it now."""
        try:
            await self._tell(self._once)
        except PASSES as error:
            self._next_at = self._loop.time() + _AWAY_S
            _log.debug("a piece of text was not told yet: %s", error)

    async def _tell(self, write: Write) -> None:
        async with self._writing:
            if self._unsent is not None:
                await self._send(write)
            if not self._was_listened:
                self._told.begin_again()
                self._was_listened = True
            if not self._told.has_news:
                return
            pieces, run_id = self._told.take(), self._told.run_id
            news = [events.text_delta(self._batch_id, run_id, piece.index, piece.offset, piece.text) for piece in pieces]
            told = self._told.dump()
            self._unsent = lambda: events.tell(self._space, self._held.lease, told, news)
            await self._send(write)

    async def _send(self, write: Write) -> None:
        if self._unsent is None:
            return
        self._next_at = self._loop.time() + PACE_S
        await self._probe("before Tell")
        self._held.listened = await write(self._unsent)
        self._unsent = None
        self._was_listened = self._held.listened
        await self._probe("after Tell")

    async def close(self) -> None:
        """Tell nothing more."""
        self._held.on_listened = None
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait({self._timer})
