"""Threads that a person answers, through every event of a thread."""

from __future__ import annotations

from store_model import RETRYING, SOON, THREADS, StoreMachine, Walk

from assistant_queue.core.wishes import Wish

A, B = THREADS


def takeover_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which the model would answer, or a person's words be lost."""
    walk = Walk(play, A, after_run="window")

    def take_over(*, by: str = "Jo", instead: bool = False, stops: bool = True) -> None:
        play.take_over(thread=A, by=by, instead=instead, stops=stops)
        play.look()

    def hand_back() -> None:
        play.hand_back(thread=A)
        play.look()

    def say() -> None:
        play.say(thread=A)
        play.look()

    def nothing_is_taken() -> None:
        play.time_passes(seconds=3.0)
        play.sweep()
        play.a_worker_takes_a_wake_up(take=1000)
        play.a_stray_wake_up(thread=A, take=1000)
        play.look()

    def words_are_taken() -> None:
        """By the wake-up that was written with them."""
        play.rq_hands_over_what_is_scheduled()
        play.a_worker_takes_a_wake_up(take=1)
        play.look()
        assert play.threads[A].token is not None, "no worker was woken"

    # An idle thread; messages wait, words answer them; the next ones wait again.
    take_over()
    take_over()
    take_over(by="Ann")
    take_over(by="Ann", instead=True)
    play.resume_what_is_not_paused(thread=A)
    play.look()
    walk.add(SOON)
    walk.add(wants_reply=False)
    nothing_is_taken()
    for message in list(play.messages):
        play.explain(message)
    say()
    walk.add(SOON)
    words_are_taken()
    play.copies_arrive("claim")
    walk.finish()
    nothing_is_taken()
    # Two answers, one batch each; a message between them is edited, another one cancelled.
    say()
    walk.add(SOON)
    walk.add(SOON)
    say()
    play.edit(pick=1)
    play.several_are_cancelled(thread=A, places={2})
    play.look()
    words_are_taken()
    walk.finish()
    words_are_taken()
    # It crashes, is too large, waits for another attempt, fails, and returns.
    walk.add(SOON)
    play.a_worker_is_late_and_another_takes_over(is_too_soon=False)
    play.look()
    play.postpone(pick=0, state=RETRYING, wait_s=2.0)
    play.look()
    walk.due()
    play.bury(pick=0, pause=False)
    play.look()
    nothing_is_taken()
    play.retry_failed(pick=0)
    play.look()
    words_are_taken()
    walk.finish()
    say()
    play.time_passes(seconds=3.0)
    words_are_taken()
    play.trim(pick=0, keep=1)
    play.look()
    walk.finish()
    words_are_taken()
    walk.finish()
    # Handed back before it is written; then the model.
    walk.add(SOON)
    say()
    walk.add(SOON)
    hand_back()
    walk.due()
    walk.finish()
    play.time_passes(seconds=3.0)
    walk.due()
    # A run is stopped, or ends first; nothing joins it.
    take_over()
    walk.add()
    play.join(pick=0, most=1000, event="run_interrupted")
    play.look()
    play.stopped(pick=0)
    play.look()
    nothing_is_taken()
    hand_back()
    walk.due()
    take_over(stops=False)
    walk.add(mid_run=Wish.INTERRUPT)
    play.promote(pick=0, wish=Wish.STEER)
    play.look()
    play.postpone(pick=0, state=RETRYING, wait_s=2.0)
    play.look()
    walk.due()
    walk.finish()
    nothing_is_taken()
    # A wake-up in vain does not keep the words from being written at once.
    hand_back()
    walk.due()
    walk.finish()
    walk.add()
    take_over()
    for _ in range(9):
        play.a_worker_takes_a_wake_up(take=1)
    play.time_passes(seconds=0.001)
    say()
    words_are_taken()
    walk.finish()
    # With a pause, before it and after it; the clock of Redis goes back meanwhile.
    play.pause_or_resume(thread=A)
    play.look()
    hand_back()
    nothing_is_taken()
    take_over()
    say()
    words_are_taken()
    walk.finish()
    walk.add(SOON)
    play.pause_or_resume(thread=A)
    play.look()
    nothing_is_taken()
    play.the_clock_of_redis_is_set_back(seconds=3600.0)
    play.look()
    hand_back()
    walk.due()
    walk.finish()
    # A batch that was paused in its back-off ends; one that failed takes no place of what was said.
    for _ in range(3):
        walk.add()
    walk.due()
    play.postpone(pick=0, state=RETRYING, wait_s=2.0)
    play.pause_or_resume(thread=A)
    play.look()
    take_over(stops=False)
    walk.due()
    say()
    walk.add(SOON)
    play.bury(pick=0, pause=False)
    play.look()
    words_are_taken()
    walk.finish()
    hand_back()
    play.pause_or_resume(thread=A)
    play.look()
    play.retry_failed(pick=0)
    play.look()
    walk.due()
    walk.finish()
    for script in ("take_over", "hand_back", "say", "pause", "resume"):
        play.copies_arrive(script)
    take_over()
    play.copies_arrive("hand_back")
    play.teardown()
