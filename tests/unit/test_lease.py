"""The lease keeper: whose turn it is, and when its thread has to know."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from assistant_queue.clock import SystemClock
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.models import Batch
from assistant_queue.store.calls import Operation, Space
from assistant_queue.store.holding import Lease, Renewed
from assistant_queue.store.stores import SyncStore
from assistant_queue.worker.lease import HeldLease, LeaseKeeper
from tests.conftest import PATIENCE_S

LEASE_S = 3000.0
"""So long that nothing happens by itself."""


class Store:
    """Renews everything, and says what."""

    def __init__(self) -> None:
        self.renewed: queue.Queue[str] = queue.Queue()

    def run(self, operation: Operation[Any]) -> Renewed:
        call: Any = next(operation)
        operation.close()
        self.renewed.put(call.thread_id)
        return Renewed(until_ms=0, guard_id="guard", listened=False)

    def close(self) -> None:
        """There is no connection."""


class Bell(threading.Condition):
    """A condition that says when somebody waits on it, and how often it was rung."""

    def __init__(self) -> None:
        super().__init__()
        self.asleep = threading.Semaphore(0)
        self.rung = 0

    def wait(self, timeout: float | None = None) -> bool:
        self.asleep.release()  # the lock is held until it really sleeps
        return super().wait(timeout)

    def notify(self, n: int = 1) -> None:
        self.rung += 1
        super().notify(n)


class Keeper(LeaseKeeper):
    """One that can be watched."""

    def __init__(self) -> None:
        self.store = Store()
        super().__init__(Space("p", SystemClock()), cast("SyncStore", self.store), LEASE_S)
        self._changed: Bell = Bell()

    def keep(self, thread_id: str, *, due_in_s: float) -> HeldLease:
        """Hold a lease that has to be renewed then."""
        batch = Batch(id="b", thread_id=thread_id, messages=(), attempts=1)
        claimed = Claimed(batch=batch, phase=Phase.FROZEN, progress=Progress(), deaths=0, claimed_ms=0, conversation_id=None, anchor=None)
        lease = Lease(thread_id=thread_id, token="t", now_ms=0, until_ms=0, guard_id="g", claimed=claimed)
        return self.hold(lease, time.monotonic() + due_in_s - LEASE_S / 3, 10 * LEASE_S, lambda: None)

    def sleeps(self) -> None:
        assert self._changed.asleep.acquire(timeout=PATIENCE_S)

    @property
    def rung(self) -> int:
        return self._changed.rung


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    made.close()


def test_a_lease_that_is_due_is_renewed_while_the_thread_sleeps_for_a_later_one(keeper: Keeper) -> None:
    keeper.keep("later", due_in_s=900)
    keeper.sleeps()
    keeper.keep("now", due_in_s=0)
    assert keeper.store.renewed.get(timeout=PATIENCE_S) == "now"


def test_a_lease_that_is_due_later_does_not_wake_the_thread(keeper: Keeper) -> None:
    keeper.keep("first", due_in_s=500)
    keeper.sleeps()
    before = keeper.rung
    for number in range(10):
        keeper.keep(f"later {number}", due_in_s=600)
    assert keeper.rung == before


def test_after_a_lease_was_dropped_the_thread_is_woken_no_sooner_than_it_would_have_been(keeper: Keeper) -> None:
    held = keeper.keep("first", due_in_s=500)
    keeper.sleeps()
    before = keeper.rung
    for _ in range(10):
        keeper.drop(held)
        held = keeper.keep("next", due_in_s=600)
    assert keeper.rung == before
    keeper.keep("now", due_in_s=0)
    assert keeper.store.renewed.get(timeout=PATIENCE_S) == "now"


def test_leases_that_were_dropped_are_not_remembered(keeper: Keeper) -> None:
    for _ in range(50):
        keeper.drop(keeper.keep("t", due_in_s=600))
    assert len(keeper._queue) <= 1


def test_a_lease_that_was_dropped_is_not_renewed(keeper: Keeper) -> None:
    keeper.keep("later", due_in_s=900)
    keeper.sleeps()
    with keeper._changed:  # the thread cannot look until both have happened
        keeper.drop(keeper.keep("dropped", due_in_s=0))
    keeper.keep("now", due_in_s=0)
    assert keeper.store.renewed.get(timeout=PATIENCE_S) == "now"
