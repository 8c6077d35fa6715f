"""Windows that end early or have a learned length, through every event of a thread."""

from __future__ import annotations

from typing import Any

from store_model import ADAPTIVE, LONG, NOW, RETRYING, SOON, THREADS, StoreMachine, Window

from assistant_queue.core.thread_state import Phase

A, B = THREADS


def window_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a window would end too early, too late or for the wrong one."""

    def add(window: Window, after_run: str = "immediate", **fields: Any) -> None:
        play.add(thread=A, window=window, after_run=after_run, limited=False, **fields)
        play.look()

    def flush() -> None:
        play.flush(thread=A)
        play.look()

    def due(take: int = 1000) -> None:
        play.a_worker_comes_when_the_thread_is_due(thread=A, take=take)
        play.look()

    def finish() -> None:
        play.finish(pick=0)
        play.look()

    # Nothing waits; an open window; one that is over; a late copy over the next window.
    flush()
    add(SOON)
    flush()
    flush()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    finish()
    add(SOON)
    play.copies_arrive("flush")
    # A message that wants no reply waits on.
    due()
    finish()
    add(SOON, wants_reply=False)
    flush()
    add(SOON)
    flush()
    due()
    # Behind a run, and behind a back-off.
    add(SOON, "window")
    flush()
    finish()
    play.a_worker_takes_a_wake_up(take=1000)
    play.look()
    add(SOON, "window")
    play.postpone(pick=0, state=RETRYING, wait_s=7.0)
    flush()
    due()
    finish()
    # A paused thread is due when it is resumed.
    due()
    finish()
    play.pause_or_resume(thread=A)
    add(SOON)
    flush()
    play.pause_or_resume(thread=A)
    due()
    finish()
    # Characters: of an open window, without those that were cancelled or edited away.
    add(LONG)
    add(LONG)
    play.several_are_cancelled(thread=A, places={0})
    play.look()
    add(LONG)
    play.a_waiting_one_is_edited(thread=A, place=0)
    play.look()
    add(LONG)
    due()
    add(LONG, "window")
    finish()
    due()
    finish()
    # A batch that leaves some: they are due, and the next window counts its own.
    play.several_come_at_once(thread=A, count=2)
    add(LONG)
    due(take=1)
    finish()
    due()
    finish()
    add(LONG)
    due()
    finish()
    # A batch that gives some back after it was stored.
    play.several_come_at_once(thread=A, count=3)
    due()
    play.save(pick=0, phase=Phase.FROZEN)
    play.look()
    play.trim(pick=0, keep=1)
    play.look()
    play.several_are_cancelled(thread=A, places={1})
    play.look()
    finish()
    due()
    finish()
    # A message that does not wait for the end of a batch: run, back-off, open window, idle thread.
    add(NOW, mid_run="reject")
    due()
    add(NOW, mid_run="reject")
    add(SOON, wants_reply=False, mid_run="reject")
    play.postpone(pick=0, state=RETRYING, wait_s=7.0)
    add(NOW, mid_run="reject")
    due()
    finish()
    play.copies_arrive("add")
    add(SOON, mid_run="reject")
    add(SOON, mid_run="reject")
    due()
    finish()
    # The pace of a thread: known after the second message, changed by each, kept while it is idle.
    for seconds in (0.4, 1.0, 0.4, 3.0):
        add(ADAPTIVE)
        play.time_passes(seconds=seconds)
    due()
    add(ADAPTIVE, "window")
    finish()
    due()
    finish()
    add(ADAPTIVE)
    add(ADAPTIVE, wants_reply=False)
    play.time_passes(seconds=0.4)
    add(ADAPTIVE)
    play.copies_arrive("add")
    due()
    finish()
    add(NOW)
    due()
    finish()
    play.teardown()
