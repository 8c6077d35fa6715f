"""Windows that end early or have a learned length, through every event of a thread."""

from __future__ import annotations

from store_model import (
    ADAPTIVE,
    HELD_FULL,
    HELD_LONG,
    HELD_OPEN,
    LONG,
    NOW,
    RETRYING,
    SOON,
    THREADS,
    StoreMachine,
    Walk,
)

from assistant_queue.core.thread_state import Phase

A, B = THREADS


def window_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a window would end too early, too late or for the wrong one."""
    walk = Walk(play, A)

    def flush() -> None:
        play.flush(thread=A)
        play.look()

    # Nothing waits; an open window; one that is over; a late copy over the next window.
    flush()
    walk.add(SOON)
    flush()
    flush()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    walk.finish()
    walk.add(SOON)
    play.copies_arrive("flush")
    # A message that wants no reply waits on.
    walk.due()
    walk.finish()
    walk.add(SOON, wants_reply=False)
    flush()
    walk.add(SOON)
    flush()
    walk.due()
    # Behind a run, and behind a back-off.
    walk.add(SOON, "window")
    flush()
    walk.finish()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    walk.add(SOON, "window")
    play.postpone(pick=0, state=RETRYING, wait_s=7.0)
    flush()
    walk.due()
    walk.finish()
    # A paused thread is due when it is resumed.
    walk.due()
    walk.finish()
    play.pause_or_resume(thread=A)
    walk.add(SOON)
    flush()
    play.pause_or_resume(thread=A)
    walk.due()
    walk.finish()
    # Characters: of an open window, without those that were cancelled or edited away.
    walk.add(LONG)
    walk.add(LONG)
    play.several_are_cancelled(thread=A, places={0})
    play.look()
    walk.add(LONG)
    play.a_waiting_one_is_edited(thread=A, place=0)
    play.look()
    walk.add(LONG)
    walk.due()
    walk.add(LONG, "window")
    walk.finish()
    walk.due()
    walk.finish()
    # A batch that leaves some: they are due, and the next window counts its own.
    play.several_come_at_once(thread=A, count=2)
    walk.add(LONG)
    walk.due(take=1)
    walk.finish()
    walk.due()
    walk.finish()
    walk.add(LONG)
    walk.due()
    walk.finish()
    # A batch that gives some back after it was stored.
    play.several_come_at_once(thread=A, count=3)
    walk.due()
    play.save(pick=0, phase=Phase.FROZEN)
    play.look()
    play.trim(pick=0, keep=1)
    play.look()
    play.several_are_cancelled(thread=A, places={1})
    play.look()
    walk.finish()
    walk.due()
    walk.finish()
    # A message that does not wait for the end of a batch: run, back-off, open window, idle thread.
    walk.add(NOW, mid_run="reject")
    walk.due()
    walk.add(NOW, mid_run="reject")
    walk.add(SOON, wants_reply=False, mid_run="reject")
    play.postpone(pick=0, state=RETRYING, wait_s=7.0)
    walk.add(NOW, mid_run="reject")
    walk.due()
    walk.finish()
    play.copies_arrive("add")
    walk.add(SOON, mid_run="reject")
    walk.add(SOON, mid_run="reject")
    walk.due()
    walk.finish()
    # The pace of a thread: known after the second message, changed by each, kept while it is idle.
    for seconds in (0.4, 1.0, 0.4, 3.0):
        walk.add(ADAPTIVE)
        play.time_passes(seconds=seconds)
    walk.due()
    walk.add(ADAPTIVE, "window")
    walk.finish()
    walk.due()
    walk.finish()
    walk.add(ADAPTIVE)
    walk.add(ADAPTIVE, wants_reply=False)
    play.time_passes(seconds=0.4)
    walk.add(ADAPTIVE)
    play.copies_arrive("add")
    walk.due()
    walk.finish()
    walk.add(NOW)
    walk.due()
    walk.finish()
    # Holds: of an open window, of one that is full or over, behind a run, of a quiet message.
    walk.add(SOON)
    play.time_passes(seconds=2.9)
    walk.add(HELD_OPEN)
    play.copies_arrive("add")
    play.time_passes(seconds=1.0)
    walk.add(HELD_OPEN)
    play.time_passes(seconds=1.0)
    walk.add(HELD_OPEN, wants_reply=False)
    walk.due()
    walk.finish()
    walk.add(HELD_OPEN)
    walk.due()
    walk.add(NOW)
    walk.add(HELD_OPEN)
    play.time_passes(seconds=3.0)
    walk.add(HELD_OPEN)
    walk.finish()
    walk.due()
    walk.finish()
    walk.add(SOON)
    play.time_passes(seconds=3.0)
    walk.add(HELD_OPEN)
    walk.due()
    walk.finish()
    for _ in range(2):
        walk.add(HELD_FULL)
    walk.due()
    walk.finish()
    # However many holds, the window ends.
    walk.add(HELD_LONG)
    for _ in range(4):
        play.time_passes(seconds=20.0)
        walk.add(HELD_LONG)
    walk.due()
    walk.finish()
    play.teardown()
