"""`assistant-queue worker`: answers threads until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from assistant_queue.cli.options import app_option, backend_name, redis_name
from assistant_queue.cli.problems import OK, Misuse
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.models import QueueStatus
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Operation, Space, plain
from assistant_queue.store.producing import read_status
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.app import APP_VARIABLE, load_app
from assistant_queue.worker.backend import check_backend
from assistant_queue.worker.checking_in import check_in

if TYPE_CHECKING:
    from assistant_queue.worker.asyncio_worker import AsyncioWorker

BURST_LOOK_S = 0.25
"""Seconds between two looks whether a burst is over. Chosen."""
BURST_LOOKS = 10
"""So many looks in a row see messages that are due and nobody takes: they are paused. Chosen: longer than a lost wake-up stays lost."""
_CALLBACK_THREADS = "assistant-queue-callback"
_CALLBACK_PATIENCE_S = 1.0
"""How long a user's function that blocks may hold the process after its time. Chosen."""


@click.command(short_help="Answer threads until told to stop.")
@app_option
@click.option("--concurrency", type=click.IntRange(1, 100_000), help="Runs at once. Default: the app's, else 5.")
@click.option(
    "--shutdown-timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="How long runs may finish after a signal. [default: 30]"
)
@click.option("--burst", is_flag=True, help="Stop when nothing is due or running.")
@click.option("--fork", is_flag=True, help="RQ's forking worker instead: one run at a time, each in a process of its own.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True, help="Of the log on stderr."
)
def worker(*, app: str | None, concurrency: int | None, shutdown_timeout: float | None, burst: bool, fork: bool, log_level: str) -> None:
    """Answer threads: take what is due, run it at the provider, deliver the replies.

    Start as many as you like, on as many machines as you like: a thread has one run at a time across all of them. A line on stdout says
    when it is ready. On SIGTERM or Ctrl-C it takes no more and lets runs finish within --shutdown-timeout; what is still running
    then, or at a second signal, is handed back where it stands, and another worker follows the same run.

    \b
    assistant-queue worker --app myapp:queue --concurrency 200
    OPENAI_API_KEY=... ASSISTANT_QUEUE_MODEL=gpt-5 assistant-queue worker
    assistant-queue worker --app myapp:queue --fork

    With --fork a first signal waits for the run at hand, a second ends it: its thread goes on when the lease has lapsed.

    Exit codes: 0 stopped as asked, 2 the app, the key or the backend is missing or wrong, 3 Redis did not answer at the start.
    """  # noqa: D301
    if fork and (concurrency is not None or shutdown_timeout is not None):
        raise Misuse("--fork runs one batch at a time and waits for it: leave out --concurrency and --shutdown-timeout")
    config = load_app(app)
    check_backend(config)
    if concurrency is not None:
        config = config.model_copy(update={"concurrency": concurrency})
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("assistant_queue").setLevel(log_level.upper())
    if fork:
        _fork(config, app, burst, log_level.upper())
    else:
        asyncio.run(_run(config, burst, 30.0 if shutdown_timeout is None else shutdown_timeout))
        _leave()


def _say_ready(config: Config, how: str) -> None:
    click.echo(f"worker ready: queue {config.queue_prefix}, {how}, {redis_name(config)}, backend {backend_name(config)}")


# --- the asyncio worker -----------------------------------------------------------------------------------------------


async def _run(config: Config, burst: bool, shutdown_timeout_s: float) -> None:
    from assistant_queue.worker.asyncio_worker import AsyncioWorker

    worker = AsyncioWorker(config)
    _obey_signals(worker, shutdown_timeout_s)
    work = asyncio.create_task(worker.run(lambda: shutdown_timeout_s))
    ready = asyncio.create_task(worker.ready.wait())
    await asyncio.wait({work, ready}, return_when=asyncio.FIRST_COMPLETED)
    if ready.done():
        _say_ready(config, f"concurrency {config.concurrency}")
    ready.cancel()
    look = asyncio.create_task(_stop_when_idle(worker)) if burst else None
    try:
        await work
    finally:
        if look is not None:
            look.cancel()


def _obey_signals(worker: AsyncioWorker, shutdown_timeout_s: float) -> None:
    """The first signal stops taking, the second hands everything back."""
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            worker.hand_back()
            return
        click.echo(f"stopping: runs may finish within {shutdown_timeout_s:g} s; a second signal hands them back at once", err=True)
        worker.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, on_signal)


async def _stop_when_idle(worker: AsyncioWorker) -> None:
    """What waits for its window, or is paused, is left for the next worker."""
    untaken = 0
    while untaken < BURST_LOOKS:
        seen, wakeups_left = await worker.runtime.store.run(_look(worker.runtime.space))
        busy = seen.active_count or wakeups_left
        if not busy and not seen.waiting_count:
            break
        untaken = 0 if busy else untaken + 1
        await asyncio.sleep(BURST_LOOK_S)
    worker.stop()


def _look(space: Space) -> Operation[tuple[QueueStatus, int]]:
    """The counters, and the wake-ups that nobody has taken yet."""
    seen = yield from read_status(space)  # sweeps first
    return seen, int((yield plain("LLEN", wakeups.queue_key(space.prefix))))


def _leave() -> None:
    """End the process even if a function of the user's still blocks a thread: its batch has been handed back."""
    until = time.monotonic() + _CALLBACK_PATIENCE_S
    blocking = [thread for thread in threading.enumerate() if thread.name.startswith(_CALLBACK_THREADS)]
    for thread in blocking:
        thread.join(max(0.0, until - time.monotonic()))
    if any(thread.is_alive() for thread in blocking):
        click.echo("a callback is still running and is left behind", err=True)
        sys.stdout.flush()
        os._exit(OK)


# --- RQ's forking worker ------------------------------------------------------------------------------------------------


def _fork(config: Config, app: str | None, burst: bool, log_level: str) -> None:
    from assistant_queue.worker.rq_worker import Worker
    from assistant_queue.worker.runtime import worker_sync_client

    if app is not None:
        os.environ[APP_VARIABLE] = app  # where the worker and its horses look
    store = SyncStore(worker_sync_client(config))
    store.run(check_in(Space(config.queue_prefix, SystemClock()), config, quietly=True))  # the worker itself says it
    store.close()
    client = worker_sync_client(config)
    # RQ blocks on its queue for minutes and sets a time-out to go with it, unless there is one.
    client.connection_pool.connection_kwargs.pop("socket_timeout", None)
    forking = Worker([config.queue_prefix], connection=client)
    _say_ready(config, "forking")
    forking.work(burst=burst, logging_level=log_level)
