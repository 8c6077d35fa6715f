"""`assistant_queue.Worker`: RQ's forking worker, with a watchman in the parent, and jobs that are wake-ups and nothing else."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable
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
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.app import check_queue_names, load_app
from assistant_queue.worker.backend import check_backend, make_workers_backend
from assistant_queue.worker.checking_in import check_in
from assistant_queue.worker.parents import die_with_parent
from assistant_queue.worker.rq_wake_ups import PlainSerializer, WakeUpJob, WakeUpQueue
from assistant_queue.worker.taking import read_entry
from assistant_queue.worker.watchman import Watchman

_log = logging.getLogger(__name__)

_MOST_LEFT = 1000
"""Entries of jobs that were taken and not begun which are looked at in one cleaning. Chosen: there are as many as workers, as a rule."""


class Worker(rq.worker.Worker):
    """RQ's forking worker for our queue.

    1. reads jobs with an unpickler for plain values, runs exactly our function, leaves foreign jobs in RQ's failed registry
    2. keeps a watchman (timer and sweeper) on a thread of the parent, so that recovery does not wait for RQ's own
    3. imports the app, our runtime and the provider's client before it forks, not in every horse
    4. has its horse die with it: a horse without its parent would hold its thread for as long as the run lasts
    """

    job_class = WakeUpJob
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        kwargs["serializer"] = PlainSerializer
        kwargs["job_class"] = WakeUpJob
        self.watchmen: tuple[Watchman, ...] = ()
        self.on_ready: Callable[[], None] | None = None
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
        self.watchmen = tuple(Watchman(Space(name, SystemClock()), self.connection) for name in names)  # each asks for its keys
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

    def main_work_horse(self, job: rq.job.Job, queue: Any) -> None:
        """As RQ does, in a process that does not outlive its parent."""
        die_with_parent()
        super().main_work_horse(job, queue)


def _warm_up(config: Config) -> None:
    """Import here what every horse would import anew before its first request: most of a wake-up's time (docs/performance.md)."""
    importlib.import_module("assistant_queue.worker.runtime")
    if config.backend is None:
        make_workers_backend(config)  # opens no connection; the client itself is dropped, the modules that it loads stay
