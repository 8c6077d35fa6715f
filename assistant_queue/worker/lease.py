"""The lease keeper: one thread per process that renews every lease this process holds."""

from __future__ import annotations

import heapq
import logging
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from assistant_queue.clock import Clock
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import NotPermitted, StoreError
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import leases as lease_ops
from assistant_queue.store.ops.leases import Lease, Renewed, renewal_s
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.outage import PASSES, Outage, pause_s

_log = logging.getLogger(__name__)

RENEWALS = 200
"""Renewals of one round trip. Chosen: some ten milliseconds of Redis' time; no other
command waits longer than that."""
EARLY_SHARE = 1 / 12
"""The share of a lease by which a renewal may be early, to share another's round trip. Chosen: none
is renewed before a quarter of its lease."""
_RETRY_S = 0.25
"""Seconds between two tries when Redis does not answer a renewal. Chosen: one more try fits into the
rest of the shortest lease."""


AnyLease = TypeVar("AnyLease", Lease, DeliveryLease)


class HeldLease(Generic[AnyLease]):
    """One lease, of a thread or of a delivery, as its holder knows it.

    Attributes:
        lease: As it was claimed.
        guard_id: The wake-up that fires if it lapses; a renewal may have had to write another.
        listened: The thread has subscribers, as far as this process knows; each renewal and write
            updates it.
        is_ending: The write that gives it back is under way: its answer counts, not that of a
            renewal that finds the lease gone.
        on_listened: Called on the keeper's thread when a renewal finds the first subscriber.
        wish: What another process wants of the batch, as far as this process knows.
        on_wish: Called when there is one, on any thread.
    """

    def __init__(
        self,
        lease: AnyLease,
        ends: float,
        gives_up: float,
        on_lost: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.lease: AnyLease = lease
        self.guard_id = lease.guard_id
        self.listened = isinstance(lease, Lease) and lease.has_subscribers
        self.is_ending = False
        self.on_listened: Callable[[], None] | None = None
        self.wish: Wish | None = lease.claimed.wish if isinstance(lease, Lease) else None
        self.on_wish: Callable[[], None] | None = None
        self._ends = ends
        self._gives_up = gives_up
        self._on_lost = on_lost
        self._clock = clock
        self._obeyed_at = -math.inf
        self._lost = False

    def remaining_s(self) -> float:
        """Seconds left of the lease as this process knows it; 0 once it is lost."""
        return 0.0 if self._lost else max(0.0, self._ends - self._clock.monotonic())

    def extend(self, asked_at: float, lease_s: float, renewed: Renewed) -> None:
        """Record a renewal that was granted; it was sent at `asked_at`."""
        is_new = renewed.has_subscribers and not self.listened
        self._ends = asked_at + lease_s
        self.guard_id = renewed.guard_id
        self.listened = renewed.has_subscribers
        if renewed.wish is Wish.STOP or asked_at >= self._obeyed_at:
            self.note_wish(renewed.wish)
        if is_new and self.on_listened is not None:
            self.on_listened()

    def wish_obeyed(self, left: Wish | None) -> None:
        """Record that a wish was obeyed in a write, and which one is left.

        A renewal that was sent before may still return the one that was obeyed.
        """
        self.wish = left
        self._obeyed_at = self._clock.monotonic()

    def note_wish(self, wish: Wish | None) -> None:
        """Record a wish that a script returned; None changes nothing."""
        if wish is None or wish is self.wish:
            return
        self.wish = wish
        if self.on_wish is not None:
            self.on_wish()

    def lose(self) -> None:
        """Record that another worker holds the thread now."""
        if not self._lost:
            self._lost = True
            self._on_lost()

    @property
    def is_lost(self) -> bool:
        """Known to be another worker's."""
        return self._lost

    def is_over(self) -> bool:
        """Return whether the batch's deadline has passed: the lease is not renewed any more."""
        return self._clock.monotonic() >= self._gives_up


class LeaseKeeper:
    """Renews leases at a third of their length.

    1. runs on its own thread with its own connection: a blocked event loop must not let a thousand
       leases lapse
    2. renews all that are due, or nearly, in one round trip for each `RENEWALS` of them; one that
       is lost or corrupt costs no other
    3. renews until the batch's deadline and no longer, through a Redis that is away or refuses
    4. notifies the holder when a lease is lost, and the worker of the share of a lease that its
       renewals take
    """

    def __init__(
        self, namespace: Namespace, store: SyncStore, lease_s: float, outage: Outage | None = None
    ) -> None:
        """`outage` is the worker's."""
        self.on_renewed: Callable[[float], None] | None = None
        """Called on the keeper's thread after each round trip, with the share of a lease that has
        passed since a renewal was due."""
        self._namespace = namespace
        self._store = store
        self._lease_s = lease_s
        self._outage = outage or Outage()
        self._changed = threading.Condition()
        self._queue: list[tuple[float, int, HeldLease[Any]]] = []
        self._held: set[HeldLease[Any]] = set()
        self._latest: dict[str, HeldLease[Any]] = {}  # of those of threads, by thread
        self._number = 0
        # The time at which the thread wakes by itself; -inf while it is at work.
        self._sleeps_until = -math.inf
        self._thread: threading.Thread | None = None
        self._closed = False

    def hold(
        self, lease: AnyLease, claimed_at: float, deadline_s: float, on_lost: Callable[[], None]
    ) -> HeldLease[AnyLease]:
        """Start renewing a lease.

        Args:
            lease: As it was claimed.
            claimed_at: The monotonic time just before the claim was sent: the lease ends no earlier
                than that plus its length.
            deadline_s: Seconds after which it is not renewed any more.
            on_lost: Called on the keeper's thread, at most once.
        """
        clock = self._namespace.clock
        held = HeldLease(
            lease, claimed_at + self._lease_s, clock.monotonic() + deadline_s, on_lost, clock
        )
        with self._changed:
            self._forget_dropped()
            self._held.add(held)
            if isinstance(lease, Lease):
                self._latest[lease.thread_id] = held
            at = claimed_at + renewal_s(self._lease_s)
            self._push(held, at)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="assistant-queue-leases", daemon=True
                )
                self._thread.start()
            # Else the thread would wake for every batch, just when its request is about to leave.
            if at < self._sleeps_until:
                self._changed.notify()
        return held

    def drop(self, held: HeldLease[Any]) -> None:
        """Stop renewing: the holder has given the thread back, or lets its lease lapse."""
        with self._changed:
            self._discard(held)
            if not self._held:
                self._outage.passed("renewals")  # there is nothing to renew

    def outlives_its_lease(self, thread_id: str) -> bool:
        """Return whether this process works on the thread though its lease has lapsed.

        Redis was away, or refused, and no other worker is known to hold the thread: the batch's
        progress is in memory, and is written as soon as Redis accepts it.
        """
        held = self._latest.get(thread_id)
        return held is not None and not held.is_lost and held.remaining_s() <= 0

    def close(self) -> None:
        """Stop the thread; leases that are still held lapse."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self._store.close()

    def _discard(self, held: HeldLease[Any]) -> None:
        self._held.discard(held)
        if self._latest.get(held.lease.thread_id) is held:
            del self._latest[held.lease.thread_id]

    def _push(self, held: HeldLease[Any], at: float) -> None:
        self._number += 1
        heapq.heappush(self._queue, (at, self._number, held))

    def _forget_dropped(self) -> None:
        while self._queue and self._queue[0][2] not in self._held:
            heapq.heappop(self._queue)

    def _due(self) -> list[tuple[float, HeldLease[Any]]] | None:
        """Wait until a lease is due; return it and those due soon; None if the keeper is closed."""
        with self._changed:
            while not self._closed:
                self._forget_dropped()
                at = self._queue[0][0] if self._queue else math.inf
                now = self._namespace.clock.monotonic()
                if at <= now:
                    return self._popped(now + self._lease_s * EARLY_SHARE)
                self._sleeps_until = at
                self._changed.wait(None if at == math.inf else at - now)
                self._sleeps_until = -math.inf
            return None

    def _popped(self, until: float) -> list[tuple[float, HeldLease[Any]]]:
        due = []
        while self._queue and self._queue[0][0] <= until:
            at, _, held = heapq.heappop(self._queue)
            if held.is_over():
                self._discard(held)
            elif held in self._held:
                due.append((at, held))
        return due

    def _run(self) -> None:
        while (due := self._due()) is not None:
            for start in range(0, len(due), RENEWALS):
                self._renew(due[start : start + RENEWALS])

    def _renew(self, due: list[tuple[float, HeldLease[Any]]]) -> None:
        clock = self._namespace.clock
        asked_at = clock.monotonic()
        again_at = asked_at + renewal_s(self._lease_s)
        try:
            self.renew([held for _, held in due])
        except PASSES as error:
            self._outage.failed("renewals", error)
            again_at = asked_at + pause_s(error, _RETRY_S)
        except Exception:  # noqa: BLE001 - without the keeper every lease lapses
            _log.exception("the lease keeper failed; it continues")
            again_at = asked_at + _RETRY_S
        else:
            self._outage.passed("renewals")
            if self.on_renewed is not None:
                self.on_renewed((clock.monotonic() - min(asked_at, due[0][0])) / self._lease_s)
        with self._changed:
            for _, held in due:
                if held in self._held:
                    self._push(held, again_at)

    def renew_held(self, store: SyncStore, thread_id: str | None = None) -> None:
        """Renew the lease of a thread now, if this process holds it, or all leases of threads.

        Raises:
            StoreUnavailable, NotPermitted: As `renew`.
        """
        with self._changed:
            found = (
                list(self._latest.values()) if thread_id is None else [self._latest.get(thread_id)]
            )
        held = [one for one in found if one is not None]
        for start in range(0, len(held), RENEWALS):
            self.renew(held[start : start + RENEWALS], store)

    def renew(self, leases: Sequence[HeldLease[Any]], store: SyncStore | None = None) -> None:
        """Renew leases now, on the calling thread; notify the holders of those that are lost.

        `store` is the calling thread's own; None on the keeper's thread.

        Raises:
            StoreUnavailable: Redis did not answer, or refuses for now; the leases are unchanged.
            NotPermitted: Redis does not let the worker in; likewise.
        """
        asked_at = self._namespace.clock.monotonic()
        answers = (store or self._store).run(
            lease_ops.renew_all(self._namespace, [held.lease for held in leases], self._lease_s)
        )
        for answer in answers:
            if isinstance(answer, NotPermitted):
                raise answer
        for held, answer in zip(leases, answers, strict=True):
            if isinstance(answer, Renewed):
                held.extend(asked_at, self._lease_s, answer)
                continue
            with self._changed:
                was_held = held in self._held
                self._discard(held)
            if isinstance(answer, StoreError):
                _log.error("lease on thread %r cannot be renewed: %s", held.lease.thread_id, answer)
            elif was_held and not held.is_ending:
                held.lose()
