"""Abandoned calls of `on_reply`: announced to the other processes while they are running."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from assistant_queue.errors import StoreError
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import delivery_marks
from assistant_queue.store.ops.leases import renewal_s
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.user_code.running_calls import RunningCall
from assistant_queue.worker.outage import PASSES, Outage, pause_s

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
"""Seconds between two tries when Redis does not answer. Chosen: the mark outlives several."""


class OpenDeliveries:
    """One queue's abandoned deliveries in this process.

    1. knows the batches that are in such a call
    2. keeps their marks in Redis alive (`store/ops/delivery_marks.py`), on a thread that outlives
       the worker as long as a call does
    3. stores the end: a call that returned was the delivery, one that raised has to be repeated
    """

    def __init__(
        self,
        namespace: Namespace,
        open_store: Callable[[], SyncStore],
        *,
        lease_s: float,
        result_ttl_s: float,
        outage: Outage | None = None,
    ) -> None:
        """Connect when the first call is abandoned, with `open_store`; `outage` is the worker's."""
        self._namespace = namespace
        self._open_store = open_store
        self._lease_s = lease_s
        self._result_ttl_s = result_ttl_s
        self._outage = outage or Outage()
        self._changed = threading.Condition()
        self._running: dict[str, RunningCall] = {}
        self._thread: threading.Thread | None = None

    def __contains__(self, batch_id: object) -> bool:
        """Return whether a call for this batch is running in this process."""
        running = self._running.get(str(batch_id))
        return running is not None and running.is_running

    def keep(self, batch_id: str, running: RunningCall) -> None:
        """Announce a call until it ends."""
        with self._changed:
            self._running[batch_id] = running
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="assistant-queue-deliveries", daemon=True
                )
                self._thread.start()
            self._changed.notify()
        running.when_settled(lambda _: self._wake())

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        store = self._open_store()
        try:
            while True:
                wait_s = self._sign_all(store)
                with self._changed:
                    if not self._running:
                        self._thread = None
                        return
                    if wait_s is not None or all(
                        running.is_running for running in self._running.values()
                    ):
                        self._changed.wait(renewal_s(self._lease_s) if wait_s is None else wait_s)
        finally:
            store.close()

    def _sign_all(self, store: SyncStore) -> float | None:
        """Write each call's state; return the seconds until the next try if Redis refuses."""
        try:
            for batch_id, running in dict(self._running).items():
                self._sign(store, batch_id, running)
        except PASSES as error:
            self._outage.failed("deliveries", error)
            return pause_s(error, min(_RETRY_S, renewal_s(self._lease_s)))
        except StoreError as error:
            _log.warning("an abandoned delivery could not be announced: %s; trying again", error)
            return renewal_s(self._lease_s)
        self._outage.passed("deliveries")
        return None

    def _sign(self, store: SyncStore, batch_id: str, running: RunningCall) -> None:
        outcome = running.outcome
        if running.is_running:
            store.run(delivery_marks.keep_open(self._namespace, batch_id, self._lease_s))
            return
        if outcome is not None and outcome.error is None:
            write = partial(delivery_marks.settle, self._namespace, batch_id, self._result_ttl_s)
        else:
            write = partial(delivery_marks.clear, self._namespace, batch_id)
        store.run(write())
        end = "has returned" if outcome is not None and outcome.error is None else "has failed"
        _log.warning("batch %s: its delivery, which was abandoned, %s", batch_id, end)
        with self._changed:
            if self._running.get(batch_id) is running:
                del self._running[batch_id]
