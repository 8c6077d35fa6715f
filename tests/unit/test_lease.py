"""The lease keeper: the order of renewals, and when its thread is woken."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from assistant_queue.clock import Clock, SystemClock
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.errors import NotPermitted, StoreError, StoreUnavailable
from assistant_queue.models import Batch
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops.leases import Lease, Renewed
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.worker.lease import RENEWALS, HeldLease, LeaseKeeper
from tests.conftest import PATIENCE_S

LEASE_S = 3000.0
"""So long that nothing happens by itself."""


class Store:
    """Renews everything, and says what; or does as a test tells it."""

    def __init__(self) -> None:
        self.trips: queue.Queue[list[str]] = queue.Queue()
        self.answers: Callable[[str], Any] = lambda _: ["held", 0, "guard", "", ""]
        self.refusal: Exception | None = None
        self.on_trip: Callable[[], None] = lambda: None

    def run(self, operation: Operation[Any]) -> Any:
        step: Any = next(operation)
        calls = step if isinstance(step, list) else [step]
        self.on_trip()
        self.trips.put([call.thread_id for call in calls])
        if self.refusal is not None:
            operation.close()
            raise self.refusal
        answers = [self.answers(call.thread_id) for call in calls]
        try:
            operation.send(answers if isinstance(step, list) else answers[0])
        except StopIteration as stop:
            return stop.value
        raise AssertionError("one round trip is all")

    def trip(self) -> list[str]:
        return self.trips.get(timeout=PATIENCE_S)

    def close(self) -> None:
        """There is no connection."""


class Bell(threading.Condition):
    """A condition that records its waits and its notifications."""

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

    def __init__(self, clock: Clock | None = None) -> None:
        self.store = Store()
        self.lost: list[str] = []
        super().__init__(
            Namespace("p", clock or SystemClock()), cast("SyncStore", self.store), LEASE_S
        )
        self._changed: Bell = Bell()

    def keep(
        self, thread_id: str, *, due_in_s: float, deadline_s: float = 10 * LEASE_S
    ) -> HeldLease:
        """Hold a lease that has to be renewed then."""
        batch = Batch(id="b", thread_id=thread_id, messages=(), attempts=1)
        claimed = Claimed(
            batch=batch,
            phase=Phase.FROZEN,
            progress=Progress(),
            deaths=0,
            claimed_ms=0,
            conversation_id=None,
            anchor=None,
        )
        lease = Lease(
            thread_id=thread_id, token="t", now_ms=0, until_ms=0, guard_id="g", claimed=claimed
        )
        claimed_at = self._namespace.clock.monotonic() + due_in_s - LEASE_S / 3
        return self.hold(lease, claimed_at, deadline_s, lambda: self.lost.append(thread_id))

    def sleeps(self) -> None:
        assert self._changed.asleep.acquire(timeout=PATIENCE_S)

    def close_and_wait(self) -> None:
        self.close()
        assert self._thread is None or not self._thread.is_alive()

    @property
    def rung(self) -> int:
        return self._changed.rung


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    made = Keeper()
    yield made
    made.close()


def test_a_lease_that_is_due_is_renewed_while_the_thread_sleeps_for_a_later_one(
    keeper: Keeper,
) -> None:
    keeper.keep("later", due_in_s=900)
    keeper.sleeps()
    keeper.keep("now", due_in_s=0)
    assert keeper.store.trip() == ["now"]


def test_a_lease_that_is_due_later_does_not_wake_the_thread(keeper: Keeper) -> None:
    keeper.keep("first", due_in_s=500)
    keeper.sleeps()
    before = keeper.rung
    for number in range(10):
        keeper.keep(f"later {number}", due_in_s=600)
    assert keeper.rung == before


def test_after_a_lease_was_dropped_the_thread_is_woken_no_sooner_than_it_would_have_been(
    keeper: Keeper,
) -> None:
    held = keeper.keep("first", due_in_s=500)
    keeper.sleeps()
    before = keeper.rung
    for _ in range(10):
        keeper.drop(held)
        held = keeper.keep("next", due_in_s=600)
    assert keeper.rung == before
    keeper.keep("now", due_in_s=0)
    assert keeper.store.trip() == ["now"]


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
    assert keeper.store.trip() == ["now"]


# --- many at once ---------------------------------------------------------------------------------


def hold_back(keeper: Keeper) -> Any:
    """Let the thread look when all leases are there: it sleeps until one that is due later."""
    keeper.keep("later", due_in_s=LEASE_S)
    keeper.sleeps()
    return keeper._changed


def test_all_that_are_due_share_round_trips_of_a_bounded_size(keeper: Keeper) -> None:
    names = [f"t{number}" for number in range(2 * RENEWALS + 1)]
    with hold_back(keeper):
        for name in names:
            keeper.keep(name, due_in_s=-1)
    trips = [keeper.store.trip() for _ in range(3)]
    assert [len(trip) for trip in trips] == [RENEWALS, RENEWALS, 1]
    assert sorted(name for trip in trips for name in trip) == sorted(names)


def test_those_that_are_due_soon_share_the_round_trip_of_the_one_that_is_due(
    keeper: Keeper,
) -> None:
    with hold_back(keeper):
        keeper.keep("now", due_in_s=0)
        keeper.keep("soon", due_in_s=LEASE_S / 13)
        keeper.keep("not soon", due_in_s=LEASE_S / 11)
    assert keeper.store.trip() == ["now", "soon"]


def test_one_that_is_lost_or_broken_costs_no_other(
    keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"lost": ["lost"], "broken": StoreError("its key is RQ's")}
    keeper.store.answers = lambda name: said.get(name, ["held", 0, "new guard", "1", ""])
    with hold_back(keeper):
        held = [keeper.keep(name, due_in_s=-1) for name in ("first", "lost", "broken", "last")]
    assert keeper.store.trip() == ["first", "lost", "broken", "last"]
    keeper.sleeps()
    assert keeper.lost == ["lost"]
    assert [one.is_lost for one in held] == [False, True, False, False]
    assert [one.guard_id for one in held] == ["new guard", "g", "g", "new guard"]
    assert [
        record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR
    ] == ["lease on thread 'broken' cannot be renewed: its key is RQ's"]
    keeper.store.answers = lambda _: ["held", 0, "guard", "", ""]
    with keeper._changed:  # the two that are left are all that is renewed again
        keeper._queue = [(0.0, number, one) for number, (_, _, one) in enumerate(keeper._queue)]
        keeper._changed.notify()
    assert sorted(keeper.store.trip()) == ["first", "last", "later"]


@pytest.mark.parametrize(
    ("refusal", "after_s"),
    [(StoreUnavailable("away"), 0.25), (NotPermitted("a password is being rotated"), 5.0)],
)
def test_a_redis_that_is_away_is_asked_again_and_no_lease_is_given_up(
    refusal: Exception, after_s: float
) -> None:
    clock = FakeClock()
    keeper = Keeper(clock)
    keeper.store.refusal = refusal
    held = keeper.keep("t", due_in_s=0)
    assert keeper.store.trip() == ["t"]
    keeper.sleeps()
    ((again_at, _, _),) = keeper._queue
    assert again_at - clock.monotonic() == pytest.approx(after_s)
    clock.advance(10 * after_s)
    keeper.store.refusal = None
    keeper.close_and_wait()
    assert not held.is_lost
    assert keeper.lost == []


def test_a_keeper_that_stumbles_continues(keeper: Keeper, caplog: pytest.LogCaptureFixture) -> None:
    keeper.store.refusal = RuntimeError("a bug")
    keeper.keep("t", due_in_s=0)
    keeper.store.trip()
    keeper.sleeps()
    keeper.store.refusal = None
    assert keeper.store.trip() == ["t"]
    assert any(
        record.getMessage().startswith("the lease keeper failed") for record in caplog.records
    )


def test_a_batch_whose_deadline_has_passed_is_renewed_no_more(keeper: Keeper) -> None:
    with hold_back(keeper):
        keeper.keep("over", due_in_s=0, deadline_s=-1)
        keeper.keep("now", due_in_s=0)
    assert keeper.store.trip() == ["now"]


def test_how_much_of_a_lease_a_round_takes_is_reported() -> None:
    clock = FakeClock()
    keeper = Keeper(clock)
    shares: queue.Queue[float] = queue.Queue()
    keeper.on_renewed = shares.put
    keeper.store.on_trip = lambda: clock.advance(LEASE_S / 4)  # the way there and back
    keeper.keep("t", due_in_s=-LEASE_S / 8)  # it was due a while ago
    assert shares.get(timeout=PATIENCE_S) == pytest.approx(1 / 8 + 1 / 4, abs=0.01)
    keeper.close_and_wait()


def test_a_batch_outlives_its_lease_until_it_is_lost_or_dropped() -> None:
    clock = FakeClock()
    keeper = Keeper(clock)
    keeper.store.refusal = StoreUnavailable("away")
    held = keeper.keep("t", due_in_s=1)
    assert not keeper.outlives_its_lease("t")
    clock.advance(LEASE_S)
    assert keeper.outlives_its_lease("t")
    assert not keeper.outlives_its_lease("another")
    keeper.drop(held)
    assert not keeper.outlives_its_lease("t")
    held = keeper.keep("t", due_in_s=-LEASE_S)
    assert keeper.outlives_its_lease("t")
    held.lose()
    assert not keeper.outlives_its_lease("t")
    keeper.close_and_wait()


def test_a_renewal_that_crosses_the_end_of_its_batch_says_nothing_of_another_worker(
    keeper: Keeper,
) -> None:
    keeper.store.answers = lambda _: ["lost"]
    with hold_back(keeper):
        ending = keeper.keep("ending", due_in_s=-1)
        ending.is_ending = True
        keeper.keep("lost", due_in_s=-1)
    assert sorted(keeper.store.trip()) == ["ending", "lost"]
    keeper.sleeps()
    assert keeper.lost == ["lost"]
    assert not ending.is_lost


def test_a_renewal_that_was_sent_before_a_wish_was_obeyed_does_not_repeat_it() -> None:
    clock = FakeClock()
    keeper = Keeper(clock)
    held = keeper.keep("t", due_in_s=1000)
    wishes: list[Wish | None] = []
    held.on_wish = lambda: wishes.append(held.wish)
    asked_at = clock.monotonic()
    held.extend(asked_at, LEASE_S, Renewed(0, "guard", wish=Wish.INTERRUPT))
    clock.advance(1)
    held.wish_obeyed(None)
    held.extend(asked_at, LEASE_S, Renewed(0, "guard", wish=Wish.INTERRUPT))
    assert (held.wish, wishes) == (None, [Wish.INTERRUPT])
    held.extend(asked_at, LEASE_S, Renewed(0, "guard", wish=Wish.STOP))
    assert held.wish is Wish.STOP
    held.wish_obeyed(None)
    held.extend(clock.monotonic(), LEASE_S, Renewed(0, "guard", wish=Wish.INTERRUPT))
    assert held.wish is Wish.INTERRUPT
    keeper.close_and_wait()
