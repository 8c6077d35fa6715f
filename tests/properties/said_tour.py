"""Replies of `say`, through every event of a thread."""

from __future__ import annotations

from store_model import NOW, RETRYING, SOON, THREADS, StoreMachine, Window

A, B = THREADS


def said_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a reply of `say` would be answered, overtaken or lost."""

    def add(window: Window = NOW, wants_reply: bool = True) -> None:
        play.add(
            thread=A, window=window, after_run="window", limited=False, wants_reply=wants_reply
        )
        play.look()

    def say() -> None:
        play.say(thread=A)
        play.look()

    def due(take: int = 1000) -> None:
        play.a_worker_comes_when_the_thread_is_due(thread=A, take=take)
        play.look()

    def finish() -> None:
        play.finish(pick=0)
        play.look()

    # Alone, twice in a row, and by the wake-up that it wrote.
    say()
    say()
    play.copies_arrive("say")
    play.rq_hands_over_what_is_scheduled()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    finish()
    due()
    finish()
    # After messages that want no reply, which get a place in its batch; the next ones wait.
    add(wants_reply=False)
    add(wants_reply=False)
    say()
    add(wants_reply=False)
    due()
    finish()
    play.a_stray_wake_up(thread=A, take=1000)
    play.look()
    # In a window, which it neither ends nor opens; then the batch ends before it.
    add(SOON)
    say()
    add(wants_reply=False)
    add(SOON)
    play.a_stray_wake_up(thread=A, take=1000)
    play.look()
    due()
    say()
    play.copies_arrive("claim")
    finish()
    due()
    finish()
    due(take=1)
    # A message before it is cancelled; it cannot be itself.
    finish()
    due()
    finish()
    add(SOON)
    say()
    play.several_are_cancelled(thread=A, places={0})
    play.look()
    play.several_are_cancelled(thread=A, places={0})
    play.edit(pick=0)
    play.look()
    due()
    # Failed, and put back before what has come since; behind a back-off.
    play.bury(pick=0, pause=False)
    add()
    play.retry_failed(pick=0)
    play.look()
    due()
    say()
    finish()
    due()
    play.postpone(pick=0, state=RETRYING, wait_s=2.0)
    play.look()
    due()
    finish()
    due()
    finish()
    # Given back by a batch that was too large.
    add(wants_reply=False)
    say()
    due()
    play.trim(pick=0, keep=1)
    add()
    finish()
    due()
    finish()
    due()
    finish()
    # A wake-up is lost, the thread is paused, and the clock of Redis goes back.
    say()
    play.rq_loses_everything()
    play.time_passes(seconds=3.0)
    play.sweep()
    play.a_worker_takes_a_wake_up(take=1000)
    finish()
    play.pause_or_resume(thread=A)
    say()
    play.the_clock_of_redis_is_set_back(seconds=3600.0)
    play.look()
    play.pause_or_resume(thread=A)
    play.look()
    due()
    finish()
    say()
    play.teardown()
