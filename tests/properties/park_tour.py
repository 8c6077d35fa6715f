"""Batches that park, and calls that are settled from outside, through every event of a thread."""

from __future__ import annotations

from store_model import HELD, RETRYING, THREADS, StoreMachine, Walk

from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish

A, B = THREADS


def park_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a verdict would be lost, or obeyed twice, or too late."""
    walk = Walk(play, A)

    def do(name: str, **fields: object) -> None:
        getattr(play, name)(**fields)
        play.look()

    def copies(*names: str) -> None:
        for name in names:
            play.copies_arrive(name)
        play.look()

    def running() -> None:
        walk.add()
        walk.due()
        do("save", pick=0, phase=Phase.RUNNING)

    # Two calls, settled in any order, while it is parked and while a worker has it.
    running()
    do("park", pick=0, count=2, wait_s=7.0)
    do("park", pick=0, count=2, wait_s=7.0)
    do("an_explanation_agrees", pick=0)
    do("settle", pick=0)
    do("settle", pick=0)
    walk.due()
    do("settle", pick=1)
    do("park", pick=0, count=2, wait_s=7.0)
    walk.due()
    copies("park", "settle", "claim")
    do("close", pick=0)
    do("settle", pick=0)
    copies("close", "settle")
    walk.finish()
    copies("park", "settle", "close")
    # Nothing to settle but its run; the deadline, a lost wake-up, a pause.
    running()
    do("park", pick=0, count=0, wait_s=2.0)
    do("an_explanation_agrees", pick=0)
    play.rq_loses_everything()
    do("time_passes", seconds=10.0)
    do("sweep")
    do("a_worker_takes_a_wake_up", take=1000)
    do("park", pick=0, count=1, wait_s=7.0)
    do("pause_or_resume", thread=A)
    do("settle", pick=0)
    do("pause_or_resume", thread=A)
    walk.due()
    do("postpone", pick=0, state=RETRYING, wait_s=2.0)
    walk.due()
    do("park", pick=0, count=2, wait_s=7.0)
    walk.due()
    do("postpone", pick=0, state=HELD, wait_s=2.0)
    do("settle", pick=0)
    walk.due()
    walk.finish()
    do("settle", pick=0)
    # A wish that the worker knows, or does not; one that comes while it is parked.
    for wish in (Wish.INTERRUPT, Wish.STOP):
        running()
        if wish is Wish.STOP:
            do("stop", thread=A)
        else:
            walk.add(mid_run="interrupt")
        do("park", pick=0, count=1, wait_s=7.0)
        walk.due()
        do("park", pick=0, count=1, wait_s=7.0, seen=wish)
        do("time_passes", seconds=10.0)
        walk.due()
        do("stopped" if wish is Wish.STOP else "finish", pick=0)
    running()
    do("park", pick=0, count=1, wait_s=7.0)
    walk.add(mid_run="steer")
    walk.add(mid_run="interrupt")
    walk.due()
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    do("park", pick=1, count=1, wait_s=2.0)
    do("close", pick=1)
    do("close", pick=0)
    walk.finish()
    walk.due()
    walk.finish()
    play.teardown()
