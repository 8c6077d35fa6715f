"""Batches that wait for their runs at the provider, through every event of a thread."""

from __future__ import annotations

from store_model import THREADS, StoreMachine, Walk

from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish

A, B = THREADS


def background_tour(play: StoreMachine) -> None:
    """Walk to the moments at which a run in the air would be lost, or looked at twice."""
    walk = _InTheAir(play, A)
    # Polled: still at work the first time.
    walk.to_work()
    play.copies_arrive("await_run")
    play.time_passes(seconds=3.0)
    play.a_stray_wake_up(thread=A, take=1000)
    walk.due()
    walk.park(wait_s=2.0)
    walk.due()
    # A webhook before the batch is parked is looked at once.
    play.a_webhook_comes(pick=0, is_first=True)
    walk.park()
    walk.woken()
    walk.park()
    walk.due()
    walk.finish()
    _webhooks(play, walk)
    _wishes(play, walk)


def _webhooks(play: StoreMachine, walk: _InTheAir) -> None:
    """A webhook wakes a batch once; messages come meanwhile."""
    walk.to_work()
    walk.add()
    play.a_webhook_comes(pick=0, is_first=True)
    play.look()
    play.copies_arrive("land")
    play.a_webhook_comes(pick=0, is_first=True)
    walk.woken()
    walk.park()  # the second webhook has been noted meanwhile
    walk.woken()
    walk.park()
    play.copies_arrive("land")
    walk.due()
    walk.finish()
    walk.due()
    walk.finish()


def _wishes(play: StoreMachine, walk: _InTheAir) -> None:
    """An interruption and a stop; a worker that has lost its lease parks nothing."""
    walk.to_work()
    walk.add(mid_run="interrupt")
    walk.woken()
    walk.park(seen=Wish.INTERRUPT)
    play.stop(thread=A)
    walk.woken()
    walk.park()  # it has not heard of the stop
    walk.woken()
    play.a_worker_is_late_and_another_takes_over(is_too_soon=False)
    play.await_run(pick=1, wait_s=7.0)
    play.look()


class _InTheAir(Walk):
    def to_work(self) -> None:
        """Have a batch parked for its run."""
        self.add()
        self.due()
        self._play.save(pick=0, phase=Phase.RUNNING)
        self.park()

    def park(self, *, wait_s: float = 7.0, seen: Wish | None = None) -> None:
        """Park the latest claim's batch."""
        self._play.await_run(pick=0, wait_s=wait_s, seen=seen)
        self._play.look()

    def woken(self) -> None:
        """Have a worker take the wake-up that there is now."""
        self._play.rq_hands_over_what_is_scheduled()
        self._play.a_worker_takes_a_wake_up(take=1000)
        self._play.look()
