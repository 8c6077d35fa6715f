"""A worker as a process: it runs until a signal, the end of a burst, or a limit."""

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

from assistant_queue.garbage import keep_pauses_short
from assistant_queue.models import QueueStatus
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops.reply_outbox import find_due
from assistant_queue.store.ops.statuses import read_status
from assistant_queue.store.rq_jobs import count_jobs
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.runtime import Runtime

LOOK_S = 0.25
"""Seconds between two checks whether it is time to stop. Chosen: a burst ends without a noticeable
wait."""
RESTART = 75
"""The exit code of a worker that asks to be started again. Source: sysexits.h, EX_TEMPFAIL."""
BURST_LOOKS = 10
"""Checks in a row that find due messages which no worker takes: they are paused. Chosen: longer
than a lost wake-up stays lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSignals:
    """Reasons to stop, apart from signals.

    Attributes:
        shutdown_timeout_s: Seconds in which runs may finish; the rest is handed back.
        burst: Stop when nothing is due or running.
        max_idle_s: Stop when nothing has come for so many seconds; None for never.
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


async def run_until_stopped(
    worker: AsyncioWorker, stops: StopSignals, on_ready: Callable[[], None] | None = None
) -> None:
    """Run on this loop, the process's main one, until a signal or limit; then finish or hand back.

    Too many abandoned calls in the process are a reason, too: then `worker.has_to_restart`.

    Raises:
        StoreUnavailable: Redis did not answer at the start. Nothing was taken.
    """
    _obey_signals(worker, stops)
    loop = asyncio.get_running_loop()

    def on_many_abandoned() -> None:
        loop.call_soon_threadsafe(worker.restart)

    ABANDONED.watch(on_many_abandoned)
    work = asyncio.create_task(worker.run(lambda: stops.shutdown_timeout_s))
    ready = asyncio.create_task(worker.ready.wait())
    await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
    keep_pauses_short()
    if ready.done() and on_ready is not None:
        on_ready()
    ready.cancel()
    looks = [asyncio.create_task(look) for look in _looks(worker, stops)]
    try:
        await work
    finally:
        ABANDONED.unwatch(on_many_abandoned)
        for look in looks:
            look.cancel()


def _obey_signals(worker: AsyncioWorker, stops: StopSignals) -> None:
    """Stop taking at the first signal, hand everything back at the second."""
    first: float | None = None

    def on_signal() -> None:
        nonlocal first
        if first is None:
            first = time.monotonic()
            limit = f"{stops.shutdown_timeout_s:g} s"
            # Not logged: RQ's command shows this package's log from warnings on, and this is none.
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            sys.stderr.write(
                f"{now} stopping: runs may finish within {limit}; "
                "a second signal hands them back at once\n"
            )
            worker.stop()
        elif time.monotonic() - first >= stops.echo_s:
            worker.hand_back()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


def _looks(worker: AsyncioWorker, stops: StopSignals) -> list[Coroutine[Any, Any, None]]:
    looks = []
    if stops.burst:
        looks.append(_stop_when_done(worker))
    if stops.max_idle_s is not None:
        looks.append(_stop_when_idle(worker, stops.max_idle_s))
    return looks


async def _stop_when_done(worker: AsyncioWorker) -> None:
    """Stop when nothing is due; messages in their window, or paused, wait for the next worker."""
    untaken = 0
    while untaken < BURST_LOOKS and not worker.is_suspended:
        busy, waiting = await _left(list(worker.runtimes.values()))
        busy += worker.deliveries.running + worker.questions.running
        if not busy and not waiting:
            break
        untaken = 0 if busy else untaken + 1
        await asyncio.sleep(LOOK_S)
    worker.stop()


async def _left(runtimes: list[Runtime]) -> tuple[int, int]:
    """Return the messages and deliveries at work or not taken yet, and messages that are due."""
    busy = waiting = 0
    for runtime in runtimes:
        seen, wakeups_left = await runtime.store.run(_look(runtime.namespace))
        busy += seen.active_count + wakeups_left
        if runtime.delivers:
            due = await runtime.store.run(find_due(runtime.namespace, limit=1))
            busy += len(due.due)
        busy += await runtime.questions.count_due()
        waiting += seen.waiting_count
    return busy, waiting


def _look(namespace: Namespace) -> Operation[tuple[QueueStatus, int]]:
    seen = yield from read_status(namespace)  # sweeps first
    return seen, (yield from count_jobs(namespace.prefix))


async def _stop_when_idle(worker: AsyncioWorker, limit_s: float) -> None:
    taken = worker.taken
    since = time.monotonic()
    while time.monotonic() - since < limit_s:
        await asyncio.sleep(LOOK_S)
        if worker.taken != taken or worker.running:
            taken = worker.taken
            since = time.monotonic()
    worker.stop()
