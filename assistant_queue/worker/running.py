"""A worker as a process: runs until a signal, the end of a burst, or a limit tells it to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NoReturn

from assistant_queue.abandoned import ABANDONED
from assistant_queue.models import QueueStatus
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Operation, Space, plain
from assistant_queue.store.producing import read_status
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.runtime import Runtime

LOOK_S = 0.25
"""Seconds between two looks whether it is time to stop. Chosen."""
RESTART = 75
"""The exit code of a worker that asks to be started again. Source: sysexits.h, EX_TEMPFAIL."""
BURST_LOOKS = 10
"""So many looks in a row see messages that are due and nobody takes: they are paused. Chosen: longer than a lost wake-up stays lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """When to stop, apart from signals.

    Attributes:
        shutdown_timeout_s: How long runs may finish; what is left is handed back where it stands.
        burst: Stop when nothing is due or running.
        max_idle_s: Stop when nothing has come for so long; None for never.
        echo_s: A second signal sooner than this is the first one's echo.
    """

    shutdown_timeout_s: float
    burst: bool = False
    max_idle_s: float | None = None
    echo_s: float = 0.0


def leave(code: int) -> NoReturn:
    """End the process at once: calls that never return must not keep it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def run_until_told(worker: AsyncioWorker, told: Told, on_ready: Callable[[], None] | None = None) -> None:
    """Run on this loop, the process's main one, until told to stop; then finish or hand back.

    Too many abandoned calls in the process are a reason, too: then `worker.has_to_restart`.

    Raises:
        StoreUnavailable: Redis did not answer at the start. Nothing was taken.
    """
    _obey_signals(worker, told)
    loop = asyncio.get_running_loop()

    def on_many_abandoned() -> None:
        loop.call_soon_threadsafe(worker.restart)

    ABANDONED.watch(on_many_abandoned)
    work = asyncio.create_task(worker.run(lambda: told.shutdown_timeout_s))
    ready = asyncio.create_task(worker.ready.wait())
    await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done() and on_ready is not None:
        on_ready()
    ready.cancel()
    looks = [asyncio.create_task(look) for look in _looks(worker, told)]
    try:
        await work
    finally:
        ABANDONED.unwatch(on_many_abandoned)
        for look in looks:
            look.cancel()


def _obey_signals(worker: AsyncioWorker, told: Told) -> None:
    """The first signal stops taking, the second hands everything back."""
    first: float | None = None

    def on_signal() -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            limit = f"{told.shutdown_timeout_s:g} s"
            # Not logged: RQ's command shows our log from warnings on, and this is none.
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            sys.stderr.write(f"{now} stopping: runs may finish within {limit}; a second signal hands them back at once\n")
            worker.stop()
        elif time.monotonic() - first >= told.echo_s:
            worker.hand_back()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def _looks(worker: AsyncioWorker, told: Told) -> list[Coroutine[Any, Any, None]]:
    looks = []
    if told.burst:
        looks.append(_stop_when_done(worker))
    if told.max_idle_s is not None:
        looks.append(_stop_when_idle(worker, told.max_idle_s))
    return looks


async def _stop_when_done(worker: AsyncioWorker) -> None:
    """What waits for its window, or is paused, is left for the next worker."""
    untaken = 0
    while untaken < BURST_LOOKS and not worker.is_suspended:
        busy, waiting = await _left(list(worker.runtimes.values()))
        if not busy and not waiting:
            break
        untaken = 0 if busy else untaken + 1
        await asyncio.sleep(LOOK_S)
    worker.stop()


async def _left(runtimes: list[Runtime]) -> tuple[int, int]:
    """Messages at work and wake-ups that nobody has taken yet; messages that are due."""
    busy = waiting = 0
    for runtime in runtimes:
        seen, wakeups_left = await runtime.store.run(_look(runtime.space))
        busy += seen.active_count + wakeups_left
        waiting += seen.waiting_count
    return busy, waiting


def _look(space: Space) -> Operation[tuple[QueueStatus, int]]:
    seen = yield from read_status(space)  # sweeps first
    return seen, int((yield plain("LLEN", wakeups.queue_key(space.prefix))))


async def _stop_when_idle(worker: AsyncioWorker, limit_s: float) -> None:
    taken, since = worker.taken, time.monotonic()
    while time.monotonic() - since < limit_s:
        await asyncio.sleep(LOOK_S)
        if worker.taken != taken or worker.running:
            taken, since = worker.taken, time.monotonic()
    worker.stop()
