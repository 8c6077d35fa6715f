"""`assistant_queue.Worker`: RQ's forking worker, with a scheduler, and no jobs but wake-ups."""

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

from assistant_queue.backends.factory import make_worker_backend
from assistant_queue.clock import SystemClock
from assistant_queue.config import Config
from assistant_queue.store import rq_registry
from assistant_queue.store.calls import Namespace
from assistant_queue.store.transport.refusals import hang_up_idle, leads_astray, translate
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.app_loader import check_queue_names, load_app
from assistant_queue.worker.fetcher import read_entry
from assistant_queue.worker.outage import PASSES, Outage, pause_s
from assistant_queue.worker.parent_process import die_with_parent
from assistant_queue.worker.rq_wake_ups import PlainSerializer, WakeUpJob, WakeUpQueue
from assistant_queue.worker.scheduler import Scheduler
from assistant_queue.worker.startup_checks import check_in, check_options

_log = logging.getLogger(__name__)

AWAY_S = 1.0
"""Seconds until a Redis that refuses a job is asked for one again. Chosen: an outage of a moment
is over by then."""


class Worker(rq.worker.Worker):
    """RQ's forking worker for our queue.

    1. reads jobs with an unpickler for plain values, runs exactly one function, leaves foreign jobs
       in RQ's failed registry
    2. runs a scheduler (timer and sweeper) on a thread of the parent, so that recovery does not
       wait for RQ's own
    3. imports the app, the runtime and the provider's client before it forks, not in every horse
    4. has its horse die with it: a horse without its parent would hold its thread for as long as
       the run lasts
    5. waits for a Redis that is away or refuses; RQ's own worker ends then, and its horse's reply
       is lost
    """

    job_class = WakeUpJob
    log_result_lifespan = False

    def __init__(self, queues: Any, *args: Any, **kwargs: Any) -> None:
        kwargs["serializer"] = PlainSerializer
        kwargs["job_class"] = WakeUpJob
        self.schedulers: tuple[Scheduler, ...] = ()
        self.on_ready: Callable[[], None] | None = None
        self._outage = Outage()
        super().__init__(queues, *args, **kwargs)
        self.queue_class = WakeUpQueue  # of which RQ's command made none
        for queue in self.queues:
            queue.job_class = WakeUpJob

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        """Start as RQ does, then the schedulers.

        Raises:
            ConfigurationError: The app cannot be loaded, has no backend or key, or is for another
                queue. Nothing was taken.
        """
        config = load_app()
        check_options(config)
        names = self.queue_names()
        check_queue_names(config, names)
        namespace = Namespace(config.queue_prefix, SystemClock())
        SyncStore(self.connection).run(check_in(namespace, config))
        _warm_up(config)
        super().bootstrap(*args, **kwargs)
        namespaces = [Namespace(name, SystemClock()) for name in names]
        self.schedulers = tuple(
            Scheduler(namespace, self.connection, self._outage) for namespace in namespaces
        )
        for scheduler in self.schedulers:
            scheduler.start()
        if self.on_ready is not None:
            self.on_ready()

    def clean_registries(self) -> None:
        """Clean RQ's registries as RQ does; log a failure.

        It must not end the worker, which needs none of RQ's registries.
        """
        for queue in self.queues:
            key = IntermediateQueue.get_intermediate_queue_key(queue.key)
            for entry in rq_registry.read_intermediate(self.connection, key):
                if read_entry(key, entry) is None:
                    rq_registry.remove_intermediate(self.connection, key, entry)
        try:
            super().clean_registries()  # type: ignore[no-untyped-call]  # RQ has no types for it
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            raise
        except Exception as error:  # noqa: BLE001 - a foreign entry may raise anything
            _log.warning(
                "RQ's registries of %s cannot be cleaned: %s",
                ", ".join(self.queue_names()),
                type(error).__name__,
            )
            self.last_cleaned_at = now()  # type: ignore[assignment]  # RQ's own type says None

    def register_birth(self) -> None:
        """Register with a state, at once: `rq info` shows a worker without one as `?`."""
        super().register_birth()  # type: ignore[no-untyped-call]  # RQ has no types for it
        rq_registry.write_abandoned(self.connection, self.key, 0)
        self.set_state(WorkerStatus.STARTED)

    def teardown(self) -> None:
        """Stop the schedulers, then as RQ does."""
        if not self.is_horse:
            for scheduler in self.schedulers:
                scheduler.stop()
        super().teardown()  # type: ignore[no-untyped-call]  # RQ has no types for it

    def fork_work_horse(self, job: rq.job.Job, queue: Any) -> None:
        """Fork as RQ does, while the schedulers only wait.

        A lock held by one of their threads would stay locked in the child for ever.
        """
        with contextlib.ExitStack() as stack:
            for scheduler in self.schedulers:
                stack.enter_context(scheduler.quiet)
            super().fork_work_horse(job, queue)

    # --- while Redis is away ----------------------------------------------------------------------

    def dequeue_job_and_maintain_ttl(self, *args: Any, **kwargs: Any) -> Any:
        """Take a job as RQ does; retry until Redis allows it."""
        while True:
            with self._tolerate_outage(pause=True):
                return super().dequeue_job_and_maintain_ttl(*args, **kwargs)

    def execute_job(self, *args: Any, **kwargs: Any) -> None:
        """Execute as RQ does; if Redis refuses the records, the sweep repeats the wake-up."""
        with self._tolerate_outage():
            super().execute_job(*args, **kwargs)

    def heartbeat(self, *args: Any, **kwargs: Any) -> None:
        """Do as RQ does, if Redis accepts it."""
        with self._tolerate_outage():
            super().heartbeat(*args, **kwargs)

    def maintain_heartbeats(self, *args: Any, **kwargs: Any) -> None:
        """Write heartbeats as RQ does, if Redis accepts them: the horse holds its lease itself."""
        with self._tolerate_outage():
            super().maintain_heartbeats(*args, **kwargs)

    def run_maintenance_tasks(self) -> None:
        """Do as RQ does, if Redis accepts it."""
        with self._tolerate_outage():
            super().run_maintenance_tasks()  # type: ignore[no-untyped-call]  # RQ has no types

    @contextlib.contextmanager
    def _tolerate_outage(self, *, pause: bool = False) -> Iterator[None]:
        """Leave the block, with a pause, if Redis is away or refuses."""
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
        """Do as RQ does, in a process that ends with its parent."""
        die_with_parent()
        super().main_work_horse(job, queue)


def _warm_up(config: Config) -> None:
    """Import the modules that every horse would import again before its first request.

    They are most of a wake-up's time (docs/performance.md).
    """
    importlib.import_module("assistant_queue.worker.runtime")
    if config.backend is None:
        # It opens no connection; the client is dropped, the modules that it loads stay.
        make_worker_backend(config)
