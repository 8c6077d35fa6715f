"""Replies of `say`, through every event of a thread."""

from __future__ import annotations

from store_model import RETRYING, SOON, THREADS, StoreMachine, Walk

A, B = THREADS


def said_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a reply of `say` would be answered, overtaken or lost."""
    walk = Walk(play, A, after_run="window")

    def say() -> None:
        play.say(thread=A)
        play.look()

    # Alone, twice in a row, and by the wake-up that it wrote.
    say()
    say()
    play.copies_arrive("say")
    play.rq_hands_over_what_is_scheduled()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    walk.finish()
    walk.due()
    walk.finish()
    # After messages that want no reply, which get a place in its batch; the next ones wait.
    walk.add(wants_reply=False)
    walk.add(wants_reply=False)
    say()
    walk.add(wants_reply=False)
    walk.due()
    walk.finish()
    play.a_stray_wake_up(thread=A, take=1000)
    play.look()
    # In a window, which it neither ends nor opens; then the batch ends before it.
    walk.add(SOON)
    say()
    walk.add(wants_reply=False)
    walk.add(SOON)
    play.a_stray_wake_up(thread=A, take=1000)
    play.look()
    walk.due()
    say()
    play.copies_arrive("claim")
    walk.finish()
    walk.due()
    walk.finish()
    walk.due(take=1)
    # A message before it is cancelled; it cannot be itself.
    walk.finish()
    walk.due()
    walk.finish()
    walk.add(SOON)
    say()
    play.several_are_cancelled(thread=A, places={0})
    play.look()
    play.several_are_cancelled(thread=A, places={0})
    play.edit(pick=0)
    play.look()
    walk.due()
    # Failed, and put back before what has come since; behind a back-off.
    play.bury(pick=0, pause=False)
    walk.add()
    play.retry_failed(pick=0)
    play.look()
    walk.due()
    say()
    walk.finish()
    walk.due()
    play.postpone(pick=0, state=RETRYING, wait_s=2.0)
    play.look()
    walk.due()
    walk.finish()
    walk.due()
    walk.finish()
    # Given back by a batch that was too large.
    walk.add(wants_reply=False)
    say()
    walk.due()
    play.trim(pick=0, keep=1)
    walk.add()
    walk.finish()
    walk.due()
    walk.finish()
    walk.due()
    walk.finish()
    # A wake-up is lost, the thread is paused, and the clock of Redis goes back.
    say()
    play.rq_loses_everything()
    play.time_passes(seconds=3.0)
    play.sweep()
    play.a_worker_takes_a_wake_up(take=1000)
    walk.finish()
    play.pause_or_resume(thread=A)
    say()
    play.the_clock_of_redis_is_set_back(seconds=3600.0)
    play.look()
    play.pause_or_resume(thread=A)
    play.look()
    walk.due()
    walk.finish()
    say()
    play.teardown()
