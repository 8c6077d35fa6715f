"""Calls of `on_reply` that were given up and go on: remembered here, and announced to the other processes for as long as they last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial

from assistant_queue.errors import StoreError
from assistant_queue.store import deliveries
from assistant_queue.store.calls import Space
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.outage import PASSES, Outage, pause_s
from assistant_queue.worker.user_code import Running

_log = logging.getLogger(__name__)

_RETRY_S = 0.5
"""Seconds between two tries when Redis does not answer. Chosen."""


class OpenDeliveries:
    """One queue's abandoned deliveries in this process.

    1. knows which batches are in such a call
    2. keeps their marks in Redis alive (`store/deliveries.py`), on a thread that outlives the worker as long as a call does
    3. notes the end: one that returned was the delivery, one that raised has to be repeated
    """

    def __init__(
        self, space: Space, open_store: Callable[[], SyncStore], *, lease_s: float, result_ttl_s: float, outage: Outage | None = None
    ) -> None:
        """Connects when the first call is given up, with `open_store`; `outage` is the worker's."""
        self._space = space
        self._open_store = open_store
        self._lease_s = lease_s
        self._result_ttl_s = result_ttl_s
        self._outage = outage or Outage()
        self._changed = threading.Condition()
        self._running: dict[str, Running] = {}
        self._thread: threading.Thread | None = None

    def __contains__(self, batch_id: object) -> bool:
        """Whether this process is in a call for this batch."""
        running = self._running.get(str(batch_id))
        return running is not None and running.goes_on

    def keep(self, batch_id: str, running: Running) -> None:
        """Remember a call, and announce it from now on."""
        with self._changed:
            self._running[batch_id] = running
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="assistant-queue-deliveries", daemon=True)
                self._thread.start()
            self._changed.notify()
        running.when_ended(lambda _: self._wake())

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
                    if wait_s is not None or all(running.goes_on for running in self._running.values()):
                        self._changed.wait(self._lease_s / 3 if wait_s is None else wait_s)
        finally:
            store.close()

    def _sign_all(self, store: SyncStore) -> float | None:
        """Write what is so; seconds until the next try if that was not possible."""
        try:
            for batch_id, running in dict(self._running).items():
                self._sign(store, batch_id, running)
        except PASSES as error:
            self._outage.failed("deliveries", error)
            return pause_s(error, min(_RETRY_S, self._lease_s / 3))
        except StoreError as error:
            _log.warning("an abandoned delivery could not be announced: %s; trying again", error)
            return self._lease_s / 3
        self._outage.passed("deliveries")
        return None

    def _sign(self, store: SyncStore, batch_id: str, running: Running) -> None:
        outcome = running.outcome
        if running.goes_on:
            store.run(deliveries.keep_open(self._space, batch_id, self._lease_s))
            return
        if outcome is not None and outcome.error is None:
            write = partial(deliveries.settle, self._space, batch_id, self._result_ttl_s)
        else:
            write = partial(deliveries.clear, self._space, batch_id)
        store.run(write())
        end = "has returned" if outcome is not None and outcome.error is None else "has failed"
        _log.warning("batch %s: its delivery, which was abandoned, %s", batch_id, end)
        with self._changed:
            if self._running.get(batch_id) is running:
                del self._running[batch_id]
