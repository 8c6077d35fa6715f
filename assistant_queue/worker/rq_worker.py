"""`assistant_queue.Worker`: RQ's forking worker, with a watchman in the parent, and jobs that are wake-ups and nothing else."""

from __future__ import annotations

import contextlib
import importlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import rq.job
import rq.worker
from redis import exceptions
from rq.intermediate_queue import IntermediateQueue
from rq.utils import now
from rq.worker import WorkerStatus

from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.store.calls import Space
from assistant_queue.store.refusals import hang_up_idle, leads_astray, translate
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.app import check_queue_names, load_app
from assistant_queue.worker.backend import check_backend, make_workers_backend
from assistant_queue.worker.checking_in import check_in
from assistant_queue.worker.outage import PASSES, Outage, pause_s
from assistant_queue.worker.parents import die_with_parent
from assistant_queue.worker.rq_wake_ups import PlainSerializer, WakeUpJob, WakeUpQueue
from assistant_queue.worker.taking import read_entry
from assistant_queue.worker.watchman import Watchman

_log = logging.getLogger(__name__)

AWAY_S = 1.0
"""Seconds until a Redis that refuses a job is asked for one again. Chosen."""
_MOST_LEFT = 1000
"""Entries of jobs that were taken and not begun which are looked at in one cleaning. Chosen: there are as many as workers, as a rule."""


class Worker(rq.worker.Worker):
    """RQ's forking worker for our queue.

    1. reads jobs with an unpickler for plain values, runs exactly our function, leaves foreign jobs in RQ's failed registry
    2. keeps a watchman (timer and sweeper) on a thread of the parent, so that recovery does not wait for RQ's own
    3. imports the app, our runtime and the provider's client before it forks, not in every horse
    4. has its horse die with it: a horse without its parent would hold its thread for as long as the run lasts
    5. waits for a Redis that is away or refuses, where RQ's own worker ends, and its horse's reply with it
    """

    job_class = WakeUpJob
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        kwargs["serializer"] = PlainSerializer
        kwargs["job_class"] = WakeUpJob
        self.watchmen: tuple[Watchman, ...] = ()
        self.on_ready: Callable[[], None] | None = None
        self._outage = Outage()
        super().__init__(queues, *args, **kwargs)
        self.queue_class = WakeUpQueue  # of which RQ's command made none
        for queue in self.queues:
            queue.job_class = WakeUpJob

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Start as RQ does, then the watchman.

        Raises:
            ConfigurationError: The app cannot be loaded, has no backend or key, or is for another queue. Nothing was taken.
        """
        config = load_app()
        check_backend(config)
        names = self.queue_names()
        check_queue_names(config, names)
        space = Space(config.queue_prefix, SystemClock())
        SyncStore(self.connection).run(check_in(space, config))
        _warm_up(config)
        super().bootstrap(*args, **kwargs)
        spaces = [Space(name, SystemClock()) for name in names]  # each watchman asks for its keys
        self.watchmen = tuple(Watchman(space, self.connection, self._outage) for space in spaces)
        for watchman in self.watchmen:
            watchman.start()
        if self.on_ready is not None:
            self.on_ready()

    def clean_registries(self) -> None:
        """As RQ does. What it stumbles over is left where it is: it must not end the worker, which needs none of RQ's registries."""
        for queue in self.queues:
            key = IntermediateQueue.get_intermediate_queue_key(queue.key)
            entries: Any = self.connection.lrange(key, 0, _MOST_LEFT)
            for entry in entries:
                if read_entry(key, entry) is None:
                    self.connection.lrem(key, 1, entry)
        try:
            super().clean_registries()  # type: ignore[no-untyped-call]  # RQ has no types for it
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - whatever was put there
            _log.warning("RQ's registries of %s cannot be cleaned: %s", ", ".join(self.queue_names()), type(error).__name__)
            self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ's own type says None

    def register_birth(self) -> None:
        """As RQ does, and with a state from the beginning: `rq info` shows a worker without one as `?`."""
        super().register_birth()  # type: ignore[no-untyped-call]  # RQ has no types for it
        self.set_state(WorkerStatus.STARTED)

    def teardown(self) -> None:
        """Stop the watchman, then as RQ does."""
        if not self.is_horse:
            for watchman in self.watchmen:
                watchman.stop()
        super().teardown()  # type: ignore[no-untyped-call]  # RQ has no types for it

    def fork_work_horse(self, job: rq.job.Job, queue: Any) -> None:
        """As RQ does, at a moment when the watchmen only wait: a thread's locks would stay locked in the child for ever."""
        with contextlib.ExitStack() as stack:
            for watchman in self.watchmen:
                stack.enter_context(watchman.quiet)
            super().fork_work_horse(job, queue)

    # --- while Redis is away ------------------------------------------------------------------------------------------------

    def dequeue_job_and_maintain_ttl(self, *args: Any, **kwargs: Any) -> Any:
        """As RQ does, again until Redis lets a job be taken."""
        while True:
            with self._going_on(pause=True):
                return super().dequeue_job_and_maintain_ttl(*args, **kwargs)

    def execute_job(self, *args: Any, **kwargs: Any) -> None:
        """As RQ does; a wake-up whose records Redis does not take is written again by the sweep."""
        with self._going_on():
            super().execute_job(*args, **kwargs)

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """As RQ does, as far as Redis takes it."""
        with self._going_on():
            super().heartbeat(*args, **kwargs)

    def maintain_heartbeats(self, *args: Any, **kwargs: Any) -> None:
        """As RQ does, as far as Redis takes it: the horse goes on, and holds its lease itself."""
        with self._going_on():
            super().maintain_heartbeats(*args, **kwargs)

    def run_maintenance_tasks(self) -> None:
        """As RQ does, as far as Redis takes it."""
        with self._going_on():
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]  # RQ has no types for it

    @contextlib.contextmanager
    def _going_on(self, *, pause: bool = False) -> Iterator[None]:
        """Leave the block, with a pause, where Redis is away or refuses."""
        try:
            yield
        except exceptions.RedisError as error:
            ours = translate(error, has_served=True)
            if self.is_horse or not isinstance(ours, PASSES):
                raise
            if leads_astray(error):
                hang_up_idle(self.connection)
            self._outage.failed("records", ours)
            if pause:
                time.sleep(pause_s(ours, AWAY_S))
        else:
            self._outage.passed("records")

    def main_work_horse(self, job: rq.job.Job, queue: Any) -> None:
        """As RQ does, in a process that does not outlive its parent."""
        die_with_parent()
        super().main_work_horse(job, queue)


def _warm_up(config: Config) -> None:
    """Import here what every horse would import anew before its first request: most of a wake-up's time (docs/performance.md)."""
    importlib.import_module("assistant_queue.worker.runtime")
    if config.backend is None:
        make_workers_backend(config)  # opens no connection; the client itself is dropped, the modules that it loads stay
