"""Batches that their claim marks as sent, through what may come after it."""

from __future__ import annotations

from store_model import HELD, THREADS, StoreMachine, Walk

from assistant_queue.core.thread_state import Phase

A, B = THREADS


def sending_tour(play: StoreMachine) -> None:
    """Walk to the moments at which a mark would be lost, or taken for that of another worker."""
    walk = Walk(play, A)

    def do(name: str, **fields: object) -> None:
        getattr(play, name)(**fields)
        play.look()

    def sent(take: int = 1000) -> None:
        do("a_worker_comes_when_the_thread_is_due", thread=A, take=take, sends=True)

    # Sent, accepted, over; the claim's copies arrive at each moment.
    walk.add()
    sent()
    play.copies_arrive("claim")
    do("save", pick=0, phase=Phase.RUNNING)
    play.copies_arrive("claim")
    walk.finish()
    play.copies_arrive("claim")
    # Its worker dies before it writes anything: the next one finds a batch that may have been sent,
    # whether it would send a new one at once or not.
    walk.add()
    sent()
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    do("save", pick=0, phase=Phase.SENDING)
    do("postpone", pick=0, state=HELD, wait_s=2.0)
    sent()
    walk.finish()
    # What did not fit is given back; then the batch is.
    do("several_come_at_once", thread=A, count=3)
    sent()
    do("trim", pick=0, keep=1)
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    walk.finish()
    sent(take=1)
    walk.finish()
    sent()
    walk.finish()
    # Others than messages of users, and a worker that does not send at once.
    walk.add()
    do("say", thread=A)
    sent()
    walk.finish()
    sent()
    walk.finish()
    walk.add()
    walk.due()
    walk.finish()
