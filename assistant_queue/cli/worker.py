"""`assistant-queue worker`: answer threads until a signal."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import click

from assistant_queue import logs
from assistant_queue.cli.exit_errors import OK, Misuse, problem_of
from assistant_queue.cli.processes import Processes
from assistant_queue.cli.shared_options import (
    Number,
    app_option,
    backend_name,
    env_file_option,
    log_format_option,
    redis_name,
)
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.user_code.call_threads import THREAD_NAME
from assistant_queue.worker.app_loader import APP_VARIABLE, load_app
from assistant_queue.worker.event_loop import run
from assistant_queue.worker.process import RESTART, StopSignals, leave, run_until_stopped
from assistant_queue.worker.small_server import Page, PageAnswer, listen, serving
from assistant_queue.worker.startup_checks import check_in, check_options

_CALLBACK_PATIENCE_S = 1.0
"""Seconds for which a user's function that blocks may delay the end of the process. Chosen: it had
the shutdown time-out before."""

HEALTH = "health checks"
METRICS = "metrics"
"""Purposes of a port."""
_PORTS = {HEALTH: "--health-port", METRICS: "--metrics-port"}


@click.command(short_help="PageAnswer threads until a signal.")
@env_file_option()
@app_option
@click.option(
    "--concurrency",
    type=click.IntRange(1, 100_000),
    help="Runs at once. Default: the app's, else 5.",
)
@click.option(
    "--shutdown-timeout",
    type=Number(min=0),
    metavar="SECONDS",
    help="Seconds for runs to finish after a signal. [default: 30]",
)
@click.option("--burst", is_flag=True, help="Stop when nothing is due or running.")
@click.option(
    "--processes",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="The number of worker processes.",
)
@click.option(
    "--prefix",
    "prefixes",
    multiple=True,
    metavar="NAME",
    help="A queue to serve, instead of the app's own; may be repeated.",
)
@click.option(
    "--fork",
    is_flag=True,
    help="Use RQ's forking worker instead: one run at a time, each in its own process.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The level of the log on stderr.",
)
@log_format_option
@click.option(
    "--health-port",
    type=click.IntRange(1, 65535),
    help="Answer health checks over HTTP: /live and /ready.",
)
@click.option(
    "--health-host",
    default="127.0.0.1",
    show_default=True,
    help="The address for --health-port.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    help="Serve Prometheus' /metrics of the queue; may be the same as --health-port.",
)
@click.option(
    "--metrics-host",
    default="127.0.0.1",
    show_default=True,
    help="The address for --metrics-port.",
)
def worker(
    *,
    app: str | None,
    concurrency: int | None,
    shutdown_timeout: float | None,
    burst: bool,
    processes: int,
    prefixes: tuple[str, ...],
    fork: bool,
    log_level: str,
    log_format: str,
    health_port: int | None,
    health_host: str,
    metrics_port: int | None,
    metrics_host: str,
) -> None:
    """PageAnswer threads: claim due messages, run them at the provider, deliver the replies.

    Start any number of workers, on any number of machines: a thread has one run at a time across
    all of them. A worker prints a line on stdout when it is ready, and `rq info` shows it. On
    SIGTERM or Ctrl-C it claims no more and lets runs finish within --shutdown-timeout; runs that
    are unfinished then, or at a second signal, are handed back, and another worker follows them.

    \b
    assistant-queue worker --app myapp:queue --concurrency 200
    assistant-queue worker --app myapp:queue --concurrency 1000 --processes 4
    OPENAI_API_KEY=... ASSISTANT_QUEUE_MODEL=gpt-5 assistant-queue worker
    assistant-queue worker --app myapp:queue --prefix shop --prefix support
    assistant-queue worker --app myapp:queue --fork

    One process uses one core and holds thousands of runs; --processes is for more cores.
    --concurrency applies to each process. With --fork a first signal waits for the current run, a
    second one ends it: its thread continues when the lease has lapsed.

    The metrics are the queue's, from Redis: one worker that serves them is enough. Several
    --processes serve them on the same port.

    A process in which a hundred calls of your functions hang lets its runs finish and restarts.

    Exit codes: 0 stopped by a signal, 2 the app, the key or the backend is missing or wrong,
    3 Redis did not answer at the start.
    """  # noqa: D301
    if fork and (
        concurrency is not None or shutdown_timeout is not None or processes > 1 or prefixes
    ):
        raise Misuse(
            "--fork runs one batch of the app's queue at a time: "
            "leave out --concurrency, --shutdown-timeout, --processes and --prefix"
        )
    if health_port is not None and (fork or processes > 1):
        raise Misuse("--health-port is of one process: leave out --fork and --processes")
    if metrics_port is not None and fork:
        raise Misuse(
            "--metrics-port needs an event loop: leave out --fork, or let another worker or "
            "assistant-queue serve have the metrics"
        )
    stop_signals = StopSignals(
        shutdown_timeout_s=30.0 if shutdown_timeout is None else shutdown_timeout, burst=burst
    )
    command = _Command(
        app,
        concurrency,
        prefixes,
        stop_signals,
        log_level.upper(),
        log_format,
        _listeners(
            {
                HEALTH: None if health_port is None else (health_host, health_port),
                METRICS: None if metrics_port is None else (metrics_host, metrics_port),
            }
        ),
    )
    if fork:
        _fork(command)
    elif processes == 1:
        command.work()
    else:
        sys.exit(Processes(processes, command.work_as_child).run())


@dataclass(frozen=True, slots=True)
class _Listener:
    """Sockets at one address, and the purposes that it has."""

    purposes: frozenset[str]
    sockets: Sequence[socket.socket]


def _listeners(places: Mapping[str, tuple[str, int] | None]) -> list[_Listener]:
    """Listen at each address once, in this process and those that it forks.

    Raises:
        ConfigurationError: An address cannot be bound, or the extra for metrics is missing.
            Nothing was started.
    """
    by_place: dict[tuple[str, int], list[str]] = {}
    for purpose, place in places.items():
        if place is not None:
            by_place.setdefault(place, []).append(purpose)
    if places[METRICS] is not None:
        import assistant_queue.integrations.prometheus  # noqa: F401 - raises without its extra
    return [
        _Listener(
            frozenset(purposes),
            listen(
                *place,
                purpose=" and ".join(purposes),
                option=" and ".join(_PORTS[purpose] for purpose in purposes),
            ),
        )
        for place, purposes in by_place.items()
    ]


@dataclass(frozen=True, slots=True)
class _Command:
    """The command's options. The app is loaded later, in the process that runs the worker."""

    app: str | None
    concurrency: int | None
    prefixes: tuple[str, ...]
    stop_signals: StopSignals
    log_level: str
    log_format: str
    listeners: Sequence[_Listener]

    def load(self) -> Config:
        """Load and check the app's options, and configure the log."""
        wakeups.rq_prefix()  # raises in one line what RQ raises in a traceback when it is imported
        config = load_app(self.app)
        check_options(config)
        if self.concurrency is not None:
            config = config.model_copy(update={"concurrency": self.concurrency})
        logs.configure(self.log_level, self.log_format)
        # RQ's registrations and heartbeats are of no interest here.
        logging.getLogger("rq.worker").setLevel(logging.WARNING)
        return config

    def work(self, on_ready: Callable[[], None] | None = None) -> int:
        """Work in this process until a signal; return the exit code.

        `on_ready` is the parent's, if there is one.
        """
        config = self.load()
        prefixes = self.prefixes or (config.queue_prefix,)

        def ready() -> None:
            how = f"concurrency {config.concurrency}"
            _say_ready(
                config,
                ", ".join(prefixes),
                how if on_ready is None else f"{how}, process {os.getpid()}",
            )
            if on_ready is not None:
                on_ready()

        if run(_run(config, prefixes, self.stop_signals, ready, self.listeners)):
            return RESTART if on_ready is not None else _restart()
        _leave()
        return OK

    def work_as_child(self, on_ready: Callable[[], None]) -> int:
        """`work` in a child of `Processes`; return the exit code."""
        try:
            return self.work(on_ready)
        except AssistantQueueError as error:
            problem = problem_of(error)
            problem.show()
            return problem.exit_code


def _say_ready(config: Config, queues: str, how: str) -> None:
    click.echo(
        f"worker ready: queue {queues}, {how}, {redis_name(config)}, backend {backend_name(config)}"
    )


# --- the concurrent worker ------------------------------------------------------------------------


async def _run(
    config: Config,
    prefixes: tuple[str, ...],
    stop_signals: StopSignals,
    on_ready: Callable[[], None],
    listeners: Sequence[_Listener],
) -> bool:
    """Work until a signal; return True if the process has to restart."""
    from assistant_queue.worker.asyncio_worker import AsyncioWorker
    from assistant_queue.worker.health_server import health_pages
    from assistant_queue.worker.rq_concurrent_worker import RqBooks

    worker = AsyncioWorker(config, prefixes=prefixes, records=RqBooks(config, prefixes))
    async with AsyncExitStack() as stack:
        for listener in listeners:
            pages = health_pages(worker) if HEALTH in listener.purposes else {}
            if METRICS in listener.purposes:
                pages |= await stack.enter_async_context(_metrics_pages(config, prefixes))
            await stack.enter_async_context(serving(pages, listener.sockets))
        await run_until_stopped(worker, stop_signals, on_ready)
    return worker.has_to_restart


@asynccontextmanager
async def _metrics_pages(
    config: Config, prefixes: tuple[str, ...]
) -> AsyncIterator[dict[str, Page]]:
    """Return the page of the queues' metrics, read on separate connections until the end."""
    from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
    from assistant_queue.client.queue_core import open_async_core
    from assistant_queue.integrations.prometheus.scraping import PATH, Scrapes

    queues = [
        AsyncAssistantMessageQueue(
            open_async_core(config.model_copy(update={"queue_prefix": prefix}))
        )
        for prefix in prefixes
    ]
    scrapes = Scrapes(queues)

    async def page(headers: Mapping[str, str]) -> PageAnswer:
        content_type, text = await scrapes.answer(headers.get("accept", ""))
        return PageAnswer(200, content_type, text)

    try:
        yield {PATH: page}
    finally:
        for queue in queues:
            await queue.close()


def _restart() -> NoReturn:
    """Execute the same command again, under the same process id: ends abandoned calls."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the same command


def _leave() -> None:
    """End the process even if a user's function blocks a thread: its batch was handed back."""
    until = time.monotonic() + _CALLBACK_PATIENCE_S
    blocking = [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    for thread in blocking:
        thread.join(max(0.0, until - time.monotonic()))
    if ABANDONED.count or any(thread.is_alive() for thread in blocking):
        click.echo("a callback is still running; the process ends without it", err=True)
        leave(OK)


# --- RQ's forking worker --------------------------------------------------------------------------


def _fork(command: _Command) -> None:
    config = command.load()
    from assistant_queue.worker.rq_forking_worker import Worker
    from assistant_queue.worker.runtime import worker_sync_client

    if command.app is not None:
        os.environ[APP_VARIABLE] = command.app  # read by the worker and its horses
    store = SyncStore(worker_sync_client(config))
    namespace = Namespace(config.queue_prefix, SystemClock())
    store.run(check_in(namespace, config, quietly=True))  # the worker logs it itself
    store.close()
    client = worker_sync_client(config)
    # RQ blocks on its queue for minutes and sets a time-out to go with it, unless there is one.
    client.connection_pool.connection_kwargs.pop("socket_timeout", None)
    forking = Worker([config.queue_prefix], connection=client)
    forking.on_ready = lambda: _say_ready(config, config.queue_prefix, "forking")
    forking.work(burst=command.stop_signals.burst, logging_level=command.log_level)
