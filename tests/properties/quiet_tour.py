"""Messages that want no reply, through every event of a thread."""

from __future__ import annotations

from store_model import MOST_PENDING, SOON, THREADS, StoreMachine, Walk

A, B = THREADS


def quiet_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a message that wants no reply would be answered or lost."""
    walk = Walk(play, A)

    def note(limited: bool = False) -> None:
        walk.add(SOON, wants_reply=False, limited=limited)

    # It opens no window, neither at first nor after a pause.
    note()
    play.a_status_is_read_after_a_second()
    play.a_stray_wake_up(thread=A, take=1000)
    play.pause_or_resume(thread=A)
    play.pause_or_resume(thread=A)
    play.look()
    # The window counts from the one that wants a reply, and ends with it.
    walk.add(SOON)
    note()
    play.several_are_cancelled(thread=A, places={1})
    play.look()
    play.copies_arrive("cancel")
    play.a_status_is_read_after_a_second()
    play.time_passes(seconds=3.0)
    play.rq_hands_over_what_is_scheduled()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    # Behind the cut of a batch, and behind its run.
    walk.add(SOON)
    note()
    walk.due(take=1)
    walk.finish()
    walk.add()
    note()
    walk.due()
    note()
    # Returned by a batch that was too large.
    play.trim(pick=0, keep=2)
    play.look()
    walk.finish()
    play.copies_arrive("add")
    # A full thread takes one more that wants a reply; a batch that failed returns as it was.
    for _ in range(MOST_PENDING):
        note(limited=True)
    walk.add(limited=True)
    walk.add()
    walk.due()
    play.bury(pick=0, pause=False)
    play.retry_failed(pick=0)
    walk.due(take=1)
    walk.finish()
    # The clock of Redis goes back over them.
    walk.due()
    walk.finish()
    note()
    play.pause_or_resume(thread=A)
    play.the_clock_of_redis_is_set_back(seconds=3600.0)
    play.pause_or_resume(thread=A)
    play.look()
    walk.add(SOON)
    play.a_status_is_read_after_a_second()
    # And over those behind a batch, which count as waiting while it runs.
    note()
    walk.due(take=1)
    play.the_clock_of_redis_is_set_back(seconds=3600.0)
    play.look()
    walk.finish()
    play.teardown()
