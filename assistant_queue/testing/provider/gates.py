"""Pause runs at named points, so that a race in a test becomes an order of events."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Literal, Self

from assistant_queue.testing.provider.log import RunRecord

Point = Literal["accepted", "speaking", "completing", "appending"]


class Gate:
    """Runs that match pause here until `release()`.

    1. `wait_reached()` blocks until so many runs have arrived.
    2. `release()` lets all of them continue, and every later one pass.
    3. Used as a context manager it is released at the end of the block.
    """

    def __init__(
        self,
        point: Point,
        conversation_id: str | None,
        when: Callable[[RunRecord], bool] | None,
        times: int | None,
    ) -> None:
        self._point = point
        self._conversation_id = conversation_id
        self._when = when
        self._left = times
        self._changed = threading.Condition()
        self._reached: list[str] = []
        self._open = False
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def reached(self) -> tuple[str, ...]:
        """The ids of the runs that have arrived here, in order."""
        with self._changed:
            return tuple(self._reached)

    def wait_reached(self, count: int = 1, timeout: float = 30.0) -> tuple[str, ...]:
        """Block until `count` runs have arrived; their ids.

        Raises:
            TimeoutError: Fewer had arrived after `timeout` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._reached) >= count, timeout):
                raise TimeoutError(
                    f"{len(self._reached)} of {count} runs reached the gate within {timeout} s"
                )
            return tuple(self._reached)

    def release(self) -> None:
        """Resume the held runs and hold no others. A second call changes nothing."""
        with self._changed:
            self._open = True
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            # A stopped provider has closed its loop and cancelled the runs: no run is left to be
            # released.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_finish, future)

    async def hold(self, point: Point, run: RunRecord) -> None:
        """Wait here if this gate is for this run at this point; called on the server's loop."""
        future = self._arrive(point, run)
        if future is not None:
            await future

    def _arrive(self, point: Point, run: RunRecord) -> asyncio.Future[None] | None:
        with self._changed:
            if self._open or self._left == 0 or not self._is_for(point, run):
                return None
            if self._left is not None:
                self._left -= 1
            loop = asyncio.get_running_loop()
            future = loop.create_future()
            self._waiting.append((loop, future))
            self._reached.append(run.id)
            self._changed.notify_all()
            return future

    def _is_for(self, point: Point, run: RunRecord) -> bool:
        if point != self._point or self._conversation_id not in {None, run.conversation_id}:
            return False
        return self._when is None or self._when(run)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Gates:
    """All gates of a provider."""

    def __init__(self) -> None:
        self._gates: list[Gate] = []

    def add(self, gate: Gate) -> Gate:
        """Put up a gate."""
        self._gates.append(gate)
        return gate

    async def pass_through(self, point: Point, run: Callable[[], RunRecord]) -> None:
        """Wait at every gate that is for this run; costs nothing while there is none."""
        for gate in tuple(self._gates):
            await gate.hold(point, run())
