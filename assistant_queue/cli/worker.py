"""`assistant-queue worker`: answers threads until it is told to stop."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

import click

from assistant_queue.abandoned import ABANDONED
from assistant_queue.call_threads import THREAD_NAME
from assistant_queue.cli.options import Number, app_option, backend_name, redis_name
from assistant_queue.cli.problems import OK, Misuse, problem_of
from assistant_queue.cli.processes import Processes
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Space
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.app import APP_VARIABLE, load_app
from assistant_queue.worker.backend import check_backend
from assistant_queue.worker.checking_in import check_in
from assistant_queue.worker.loop import run
from assistant_queue.worker.running import RESTART, Told, leave, run_until_told

_CALLBACK_PATIENCE_S = 1.0
"""How long a user's function that blocks may hold the process after its time. Chosen."""


@click.command(short_help="Answer threads until told to stop.")
@app_option
@click.option("--concurrency", type=click.IntRange(1, 100_000), help="Runs at once. Default: the app's, else 5.")
@click.option("--shutdown-timeout", type=Number(min=0), metavar="SECONDS", help="How long runs may finish after a signal. [default: 30]")
@click.option("--burst", is_flag=True, help="Stop when nothing is due or running.")
@click.option(
    "--processes", type=click.IntRange(1, 1000), default=1, show_default=True, help="So many workers, each with a loop of its own."
)
@click.option("--prefix", "prefixes", multiple=True, metavar="NAME", help="A queue to serve, instead of the app's own; may be repeated.")
@click.option("--fork", is_flag=True, help="RQ's forking worker instead: one run at a time, each in a process of its own.")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True, help="Of the log on stderr."
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
) -> None:
    """Answer threads: take what is due, run it at the provider, deliver the replies.

    Start as many as you like, on as many machines as you like: a thread has one run at a time across all of them. A line on stdout says
    when it is ready; `rq info` shows it. On SIGTERM or Ctrl-C it takes no more and lets runs finish within --shutdown-timeout; what is
    still running then, or at a second signal, is handed back where it stands, and another worker follows the same run.

    \b
    assistant-queue worker --app myapp:queue --concurrency 200
    assistant-queue worker --app myapp:queue --concurrency 1000 --processes 4
    OPENAI_API_KEY=... ASSISTANT_QUEUE_MODEL=gpt-5 assistant-queue worker
    assistant-queue worker --app myapp:queue --prefix shop --prefix support
    assistant-queue worker --app myapp:queue --fork

    One process uses one core and holds thousands of runs; --processes is for more cores. --concurrency counts for each process.
    With --fork a first signal waits for the run at hand, a second ends it: its thread goes on when the lease has lapsed.

    A process in which a hundred calls of your functions hang lets its runs finish and starts again.

    Exit codes: 0 stopped as asked, 2 the app, the key or the backend is missing or wrong, 3 Redis did not answer at the start.
    """  # noqa: D301
    if fork and (concurrency is not None or shutdown_timeout is not None or processes > 1 or prefixes):
        raise Misuse(
            "--fork runs one batch of the app's queue at a time and waits for it: "
            "leave out --concurrency, --shutdown-timeout, --processes and --prefix"
        )
    told = Told(shutdown_timeout_s=30.0 if shutdown_timeout is None else shutdown_timeout, burst=burst)
    command = _Command(app, concurrency, prefixes, told, log_level.upper())
    if fork:
        _fork(command)
    elif processes == 1:
        command.work()
    else:
        sys.exit(Processes(processes, command.work_as_child).run())


@dataclass(frozen=True, slots=True)
class _Command:
    """What the command was asked for; nothing is loaded before it is clear in which process it runs."""

    app: str | None
    concurrency: int | None
    prefixes: tuple[str, ...]
    told: Told
    log_level: str

    def load(self) -> Config:
        """The app's options, checked; and the log."""
        wakeups.rq_prefix()  # says in a line what RQ says in a traceback when it is imported
        config = load_app(self.app)
        check_backend(config)
        if self.concurrency is not None:
            config = config.model_copy(update={"concurrency": self.concurrency})
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        logging.getLogger("assistant_queue").setLevel(self.log_level)
        logging.getLogger("rq.worker").setLevel(logging.WARNING)  # who registers, beats and listens is of no interest here
        return config

    def work(self, on_ready: Callable[[], None] | None = None) -> int:
        """Work in this process until told to stop; the exit code. `on_ready` is the parent's, where there is one."""
        config = self.load()
        prefixes = self.prefixes or (config.queue_prefix,)

        def ready() -> None:
            how = f"concurrency {config.concurrency}"
            _say_ready(config, ", ".join(prefixes), how if on_ready is None else f"{how}, process {os.getpid()}")
            if on_ready is not None:
                on_ready()

        if run(_run(config, prefixes, self.told, ready)):
            return RESTART if on_ready is not None else _start_again()
        _leave()
        return OK

    def work_as_child(self, on_ready: Callable[[], None]) -> int:
        """`work` in a child of `Processes`; the exit code."""
        try:
            return self.work(on_ready)
        except AssistantQueueError as error:
            problem = problem_of(error)
            problem.show()
            return problem.exit_code


def _say_ready(config: Config, queues: str, how: str) -> None:
    click.echo(f"worker ready: queue {queues}, {how}, {redis_name(config)}, backend {backend_name(config)}")


# --- the concurrent worker ----------------------------------------------------------------------------------------------


async def _run(config: Config, prefixes: tuple[str, ...], told: Told, on_ready: Callable[[], None]) -> bool:
    """Work; whether the process has to start again."""
    from assistant_queue.worker.asyncio_worker import AsyncioWorker
    from assistant_queue.worker.rq_concurrent import RqBooks

    worker = AsyncioWorker(config, prefixes=prefixes, records=RqBooks(config, prefixes))
    await run_until_told(worker, told, on_ready)
    return worker.has_to_restart


def _start_again() -> NoReturn:
    """Become a new process of the same command, under the same id: abandoned calls end here, and no supervisor is needed for it."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the command that runs already


def _leave() -> None:
    """End the process even if a function of the user's still blocks a thread: its batch has been handed back."""
    until = time.monotonic() + _CALLBACK_PATIENCE_S
    blocking = [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
    for thread in blocking:
        thread.join(max(0.0, until - time.monotonic()))
    if ABANDONED.count or any(thread.is_alive() for thread in blocking):
        click.echo("a callback is still running and is left behind", err=True)
        leave(OK)


# --- RQ's forking worker ------------------------------------------------------------------------------------------------


def _fork(command: _Command) -> None:
    config = command.load()
    from assistant_queue.worker.rq_worker import Worker
    from assistant_queue.worker.runtime import worker_sync_client

    if command.app is not None:
        os.environ[APP_VARIABLE] = command.app  # where the worker and its horses look
    store = SyncStore(worker_sync_client(config))
    store.run(check_in(Space(config.queue_prefix, SystemClock()), config, quietly=True))  # the worker itself says it
    store.close()
    client = worker_sync_client(config)
    # RQ blocks on its queue for minutes and sets a time-out to go with it, unless there is one.
    client.connection_pool.connection_kwargs.pop("socket_timeout", None)
    forking = Worker([config.queue_prefix], connection=client)
    forking.on_ready = lambda: _say_ready(config, config.queue_prefix, "forking")
    forking.work(burst=command.told.burst, logging_level=command.log_level)
