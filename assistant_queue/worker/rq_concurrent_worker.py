"""`assistant_queue.ConcurrentWorker`: thousands of runs in one process.

It runs under `rq worker` or the `assistant-queue` command.

The one module that knows the records of RQ's workers in Redis, beside those of the jobs
(`store/lua/keep_job.lua`). What it uses of RQ is named in
`tests/integration/test_concurrent_worker.py`, which says what broke when RQ changes.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

import rq.worker
from redis import exceptions
from rq import worker_registration
from rq.command import parse_payload
from rq.logutils import setup_loghandlers
from rq.suspension import is_suspended
from rq.worker import WorkerStatus

from assistant_queue.config import Config
from assistant_queue.errors import ConfigurationError
from assistant_queue.store import rq_registry
from assistant_queue.store.transport.refusals import hang_up_idle, hang_up_pubsub, leads_astray
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.worker.app_loader import check_queue_names, load_app
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.event_loop import run
from assistant_queue.worker.process import RESTART, StopSignals, leave, run_until_stopped
from assistant_queue.worker.runtime import worker_sync_client
from assistant_queue.worker.startup_checks import check_options

_log = logging.getLogger(__name__)

HEARTBEAT_S = 15.0
"""Seconds between two heartbeats. Chosen: RQ gives a worker up after 480."""
SUBSCRIBE_S = 1.0
"""Seconds in which Redis must confirm that the worker listens to RQ's commands; then it starts
without that. Chosen: commands in the first second are rare."""
SHUTDOWN_TIMEOUT_VARIABLE = "ASSISTANT_QUEUE_SHUTDOWN_TIMEOUT"
"""Seconds in which runs may finish after a first signal; `rq worker` has no option for it."""
DEFAULT_SHUTDOWN_TIMEOUT_S = 30.0
ECHO_S = 1.0
"""RQ's worker pool and the terminal each send a signal; RQ's own workers take the second as an
echo. Source: rq, request_force_stop."""


class ConcurrentWorker(rq.worker.Worker):
    """One asyncio loop instead of a process for each job.

    1. `work` takes wake-ups from the app's queue, or from all queues it is given, up to the app's
       `concurrency` at once
    2. registers, beats and dies as RQ's workers do; `rq info` shows it, `rq suspend` and RQ's
       shutdown command work
    3. runs no job but this package's wake-ups, forks nothing, and needs no scheduler of RQ's: it
       has its own timer
    """

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        self._on_shutdown: Callable[[], None] = _ignore
        self._beaten = 0.0
        self._abandoned = 0
        self._stopped_taking = False
        super().__init__(queues, *args, **kwargs)

    # --- what `rq worker` calls -------------------------------------------------------------------

    def work(self, *args: Any, **kwargs: Any) -> bool:
        """Work until a reason to stop; return whether any wake-up was taken.

        Takes what RQ's own `work` takes. `burst`: stop when nothing is due or running. `max_jobs`:
        stop after so many wake-ups. `max_idle_time`: stop when nothing has come for so many
        seconds. A scheduler is not needed, and a dequeue strategy neither: the timer wakes threads
        on time, and several queues are served in turn.

        Too many abandoned calls end the process, after its runs, with the exit code `RESTART`.

        Raises:
            ConfigurationError: The app cannot be loaded, or has no backend or key. Nothing was
                taken.
            StoreUnavailable: Redis did not answer at the start. Nothing was taken.
        """
        asked = inspect.signature(super().work).bind(*args, **kwargs)
        asked.apply_defaults()
        options = asked.arguments
        for name in ("rq.worker", "assistant_queue"):
            setup_loghandlers(
                options["logging_level"], options["date_format"], options["log_format"], name=name
            )
        config = load_app()
        check_options(config)
        check_queue_names(config, self.queue_names())
        stops = StopSignals(
            shutdown_timeout_s=_shutdown_timeout_s(),
            burst=options["burst"],
            max_idle_s=options["max_idle_time"],
            echo_s=ECHO_S,
        )
        worker = run(self._work(config, stops, options["max_jobs"]))
        if worker.has_to_restart:
            leave(RESTART)
        return worker.taken > 0

    async def _work(
        self, config: Config, stops: StopSignals, max_jobs: int | None
    ) -> AsyncioWorker:
        worker = AsyncioWorker(
            config, prefixes=self.queue_names(), records=self, max_wake_ups=max_jobs
        )

        def ready() -> None:
            self.log.info(
                "*** Listening on %s: %d runs at once",
                ", ".join(self.queue_names()),
                config.concurrency,
            )

        await run_until_stopped(worker, stops, ready)
        return worker

    def handle_payload(self, message: Any) -> None:
        """Stop on RQ's shutdown command; the others concern a work horse, and there is none."""
        command = parse_payload(message).get("command")
        if command == "shutdown":
            self._on_shutdown()
        else:
            _log.warning(
                "RQ's command %r has no effect on this worker: assistant-queue pause stops a "
                "thread, cancel_run its run",
                command,
            )

    # --- its records in RQ's registry (worker/asyncio_worker.py, RqWorkerRecords) -----------------

    def born(self, on_shutdown: Callable[[], None]) -> None:
        """Register, and listen to RQ's commands."""
        self._on_shutdown = on_shutdown
        for queue in self.queues:
            worker_registration.clean_worker_registry(queue)
        self.subscribe()  # type: ignore[no-untyped-call]  # RQ has no types for these four
        try:
            # Before it is visible: else a command could come too early.
            self._wait_subscribed()
            self.register_birth()  # type: ignore[no-untyped-call]
            rq_registry.write_abandoned(self.connection, self.key, 0)
            self.set_state(WorkerStatus.IDLE)
        except BaseException:
            self._stop_listening()
            raise
        self._beaten = time.monotonic()

    def _wait_subscribed(self) -> None:
        until = time.monotonic() + SUBSCRIBE_S
        while time.monotonic() < until:
            if rq_registry.is_subscribed(self.connection, self.pubsub_channel_name):
                return
            time.sleep(0.005)

    def beat(self) -> bool:
        """Renew its records and delete those of dead workers; return whether RQ's are suspended."""
        try:
            return self._beat()
        except exceptions.ResponseError as error:
            if leads_astray(error):
                hang_up_idle(self.connection)
                hang_up_pubsub(self.pubsub)
            raise

    def _beat(self) -> bool:
        suspended = bool(is_suspended(self.connection))
        if suspended and self._stopped_taking:
            # At the second beat: at the first the event loop may still be taking a wake-up.
            self.set_state(WorkerStatus.SUSPENDED)
        elif not suspended and self.get_state() == WorkerStatus.SUSPENDED:
            busy = rq_registry.has_running(self.connection, self.name)
            self.set_state(WorkerStatus.BUSY if busy else WorkerStatus.IDLE)
        abandoned = ABANDONED.count
        if abandoned != self._abandoned:
            rq_registry.write_abandoned(self.connection, self.key, abandoned)
            self._abandoned = abandoned
        if time.monotonic() - self._beaten >= HEARTBEAT_S:
            self.heartbeat()
            self._beaten = time.monotonic()
            rq_registry.keep_running(self.connection, self.name, self.worker_ttl + 60)
            for queue in self.queues:
                rq_registry.clear_expired(self.connection, queue.name)
        self._stopped_taking = suspended
        return suspended

    def died(self) -> None:
        """Unregister, and listen no more."""
        try:
            self.register_death()  # type: ignore[no-untyped-call]
            self.unsubscribe()  # type: ignore[no-untyped-call]
        except BaseException:
            self._stop_listening()
            raise

    def _stop_listening(self) -> None:
        """End RQ's thread without its Redis, for which it would look for ever."""
        self.pubsub_thread.stop()  # type: ignore[attr-defined]
        hang_up_pubsub(self.pubsub)


class RqBooks:
    """The RQ records of a worker that was not started by RQ's command."""

    def __init__(self, config: Config, prefixes: Sequence[str]) -> None:
        """Connect to nothing yet."""
        self._config = config
        self._prefixes = list(prefixes)
        self._worker: ConcurrentWorker | None = None
        self._client: Any = None

    @property
    def name(self) -> str:
        """The worker's name; '' while it is not registered."""
        return self._worker.name if self._worker is not None else ""

    def born(self, on_shutdown: Callable[[], None]) -> None:
        """Register, and listen to RQ's commands."""
        self._client = worker_sync_client(self._config)
        # RQ's own preparation names the connection, and warns if that is not allowed.
        worker = ConcurrentWorker(self._prefixes, connection=self._client, prepare_for_work=False)
        worker.hostname = socket.gethostname()
        worker.pid = os.getpid()
        with contextlib.suppress(exceptions.ResponseError):
            worker.ip_address = rq_registry.address_of(self._client)
        worker.born(on_shutdown)
        self._worker = worker

    def beat(self) -> bool:
        """Renew the records; return whether RQ's workers are suspended."""
        return self._worker.beat() if self._worker is not None else False

    def died(self) -> None:
        """Unregister, and give the connections back."""
        try:
            if self._worker is not None:
                self._worker.died()
        finally:
            self._client.close()


def _shutdown_timeout_s() -> float:
    said = os.environ.get(SHUTDOWN_TIMEOUT_VARIABLE)
    if said is None:
        return DEFAULT_SHUTDOWN_TIMEOUT_S
    try:
        seconds = float(said)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise ConfigurationError(
            f"{SHUTDOWN_TIMEOUT_VARIABLE} is {said!r}; give seconds, 0 or more; nothing was taken"
        )
    return seconds


def _ignore() -> None:
    """Do nothing: no worker is running yet."""
