"""The lease keeper: one thread per process that renews every lease this process holds."""

from __future__ import annotations

import heapq
import logging
import math
import threading
from collections.abc import Callable

from assistant_queue.clock import Clock
from assistant_queue.errors import StoreError, StoreUnavailable
from assistant_queue.store import holding
from assistant_queue.store.calls import Space
from assistant_queue.store.holding import Lease, Renewed
from assistant_queue.store.stores import SyncStore

_log = logging.getLogger(__name__)

_RETRY_S = 0.25
"""Seconds between two tries when Redis does not answer a renewal. Chosen."""


class HeldLease:
    """One lease, as its holder sees it.

    Attributes:
        lease: As it was claimed.
        guard_id: The wake-up that fires if it lapses; a renewal may have had to write another.
        listened: Somebody listens to the thread, as far as this process knows; each renewal and write says it again.
        on_listened: Called on the keeper's thread when a renewal says for the first time that somebody does.
    """

    def __init__(self, lease: Lease, ends: float, gives_up: float, on_lost: Callable[[], None], clock: Clock) -> None:
        self.lease = lease
        self.guard_id = lease.guard_id
        self.listened = lease.listened
        self.on_listened: Callable[[], None] | None = None
        self._ends = ends
        self._gives_up = gives_up
        self._on_lost = on_lost
        self._clock = clock
        self._lost = False

    def remaining_s(self) -> float:
        """Seconds left of the lease as this process knows it; 0 once it is lost."""
        return 0.0 if self._lost else max(0.0, self._ends - self._clock.monotonic())

    def extend(self, ends: float, renewed: Renewed) -> None:
        """A renewal was granted."""
        is_new = renewed.listened and not self.listened
        self._ends, self.guard_id, self.listened = ends, renewed.guard_id, renewed.listened
        if is_new and self.on_listened is not None:
            self.on_listened()

    def lose(self) -> None:
        """Another worker holds the thread now."""
        if not self._lost:
            self._lost = True
            self._on_lost()

    @property
    def is_lost(self) -> bool:
        """Known to be another worker's."""
        return self._lost

    def is_over(self) -> bool:
        """The batch's own deadline has passed: the lease is not renewed any more."""
        return self._clock.monotonic() >= self._gives_up


class LeaseKeeper:
    """Renews leases at a third of their length.

    1. runs on a thread of its own with a connection of its own: a blocked event loop must not let a thousand leases lapse
    2. renews until the batch's deadline and no longer
    3. tells the holder when a lease is lost
    """

    def __init__(self, space: Space, store: SyncStore, lease_s: float) -> None:
        self._space = space
        self._store = store
        self._lease_s = lease_s
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, HeldLease]] = []
        self._held: set[HeldLease] = set()
        self._number = 0
        self._sleeps_until = -math.inf  # when the thread looks again by itself; -inf while it is at work
        self._thread: threading.Thread | None = None
        self._closed = False

    def hold(self, lease: Lease, claimed_at: float, deadline_s: float, on_lost: Callable[[], None]) -> HeldLease:
        """Start renewing a lease.

        Args:
            lease: As it was claimed.
            claimed_at: The monotonic time just before the claim was sent: the lease ends no earlier than that plus its length.
            deadline_s: Seconds after which it is not renewed any more.
            on_lost: Called on the keeper's thread, at most once.
        """
        clock = self._space.clock
        held = HeldLease(lease, claimed_at + self._lease_s, clock.monotonic() + deadline_s, on_lost, clock)
        with self._changed:
            self._forget_dropped()
            self._held.add(held)
            at = claimed_at + self._lease_s / 3
            self._push(held, at)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="assistant-queue-leases", daemon=True)
                self._thread.start()
            if at < self._sleeps_until:  # else a thread would wake for every batch, just when its request is about to leave
                self._changed.notify()
        return held

    def drop(self, held: HeldLease) -> None:
        """Stop renewing; the holder has given the thread back, or leaves it to lapse."""
        with self._changed:
            self._held.discard(held)

    def close(self) -> None:
        """Stop the thread; what is still held lapses."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._store.close()

    def _push(self, held: HeldLease, at: float) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, held))

    def _forget_dropped(self) -> None:
        while self._queue and self._queue[0][2] not in self._held:
            heapq.heappop(self._queue)

    def _next(self) -> HeldLease | None:
        with self._changed:
            while not self._closed:
                self._forget_dropped()
                at = self._queue[0][0] if self._queue else math.inf
                wait_s = at - self._space.clock.monotonic()
                if wait_s <= 0:
                    return heapq.heappop(self._queue)[2]
                self._sleeps_until = at
                self._changed.wait(None if at == math.inf else wait_s)
                self._sleeps_until = -math.inf
            return None

    def _run(self) -> None:
        while (held := self._next()) is not None:
            if held.is_over():
                self.drop(held)
                continue
            asked_at = self._space.clock.monotonic()
            try:
                renewed = self.renew(held)
            except StoreUnavailable as error:
                _log.warning("lease on thread %r not renewed yet: %s", held.lease.thread_id, error)
                with self._changed:
                    self._push(held, asked_at + _RETRY_S)
                continue
            except StoreError:
                _log.exception("lease on thread %r cannot be renewed", held.lease.thread_id)
                renewed = False
            with self._changed:
                if not renewed:
                    self._held.discard(held)
                elif held in self._held:
                    self._push(held, asked_at + self._lease_s / 3)

    def renew(self, held: HeldLease) -> bool:
        """Renew one lease now, on the calling thread; False if it is lost.

        Raises:
            StoreUnavailable: Redis did not answer; the lease stands as it was.
        """
        asked_at = self._space.clock.monotonic()
        renewed = self._store.run(holding.renew(self._space, held.lease, self._lease_s))
        if renewed is None:
            if held in self._held:
                held.lose()
            return False
        held.extend(asked_at + self._lease_s, renewed)
        return True
