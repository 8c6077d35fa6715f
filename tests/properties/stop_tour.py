"""Stops, interruptions and steering, through every event of a thread."""

from __future__ import annotations

from store_model import HELD, LONG, NOW, RETRYING, SOON, THREADS, StoreMachine, Walk

from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish

A, B = THREADS


def stop_tour(play: StoreMachine) -> None:  # noqa: C901, PLR0915 - a walk
    """Walk to the moments at which a stop would be lost, kept, or meant for another batch."""
    walk = Walk(play, A)

    def do(name: str, **fields: object) -> None:
        getattr(play, name)(**fields)
        play.look()

    def stop() -> None:
        do("stop", thread=A)

    def taken() -> None:
        """A worker takes the thread by its wake-up."""
        known = len(play.leases)
        do("a_worker_takes_a_wake_up", take=1000)
        assert len(play.leases) == known + 1, "no worker was woken"

    def pause() -> None:
        do("pause_or_resume", thread=A)

    def copies(*names: str) -> None:
        for name in names:
            play.copies_arrive(name)
        play.look()

    # Nothing to stop: an idle thread, a window, a batch that is only written, stored results.
    stop()
    walk.add(SOON)
    stop()
    walk.due()
    do("complete", pick=0)
    stop()
    walk.finish()
    walk.add(wants_reply=False)
    do("say", thread=A)
    walk.due()
    stop()
    walk.finish()
    # A running batch with messages behind it; the end that has not seen the stop, and the copies.
    walk.add()
    walk.due()
    do("save", pick=0, phase=Phase.RUNNING)
    stop()
    do("renew", pick=0)
    do("save", pick=0, phase=Phase.RUNNING)
    do("finish", pick=0)
    do("bury", pick=0, pause=False)
    walk.add()
    do("stopped", pick=0)
    do("stopped", pick=0)
    for pick in (0, 1):
        do("an_explanation_agrees", pick=pick)
    do("a_status_is_read_after_a_second")
    do("retry_what_is_not_in_the_list", pick=0)
    walk.due()
    copies("stop", "stopped")
    walk.finish()
    copies("stop", "stopped", "finish", "bury")
    # The thread is idle after it; a batch that ends although it was to be stopped.
    walk.add()
    walk.due()
    stop()
    do("stopped", pick=0)
    for end, fields in (("finish", {}), ("bury", {"pause": False})):
        walk.add()
        walk.due()
        stop()
        do(end, pick=0, seen=True, **fields)
        walk.add()
        walk.due()
        walk.finish()
    # A back-off and a grace, left with and without knowing; the other batch of the thread is not
    # meant; wake-ups are lost.
    for state in (RETRYING, HELD):
        walk.add()
        walk.due()
        do("postpone", pick=0, state=state, wait_s=7.0)
        walk.add()
        stop()
        do("a_status_is_read_after_a_second")
        walk.due()
        do("postpone", pick=0, state=state, wait_s=7.0)
        walk.due()
        do("postpone", pick=0, state=state, wait_s=7.0, seen=True)
        do("a_stray_wake_up", thread=A, take=1000)
        play.rq_loses_everything()
        do("time_passes", seconds=10.0)
        do("sweep")
        taken()
        do("stopped", pick=0)
        copies("postpone", "claim", "stop")
        walk.due()
        walk.finish()
    # A pause before and after the stop, of a batch that waits and of one that a dead worker had.
    for pauses_first in (True, False):
        walk.add()
        walk.due()
        do("postpone", pick=0, state=RETRYING, wait_s=7.0)
        for act in (pause, stop) if pauses_first else (stop, pause):
            act()
        play.rq_loses_everything()
        do("time_passes", seconds=3.0)
        do("sweep")
        taken()
        walk.add()
        do("postpone", pick=0, state=HELD, wait_s=2.0, seen=True)
        do("the_clock_of_redis_is_set_back", seconds=60.0)
        do("time_passes", seconds=3.0)
        do("sweep")
        taken()
        do("stopped", pick=0)
        pause()
        walk.due()
        walk.finish()
    walk.add()
    walk.due()
    pause()
    play.time_passes(seconds=12.0)
    do("sweep")
    play.rq_loses_everything()
    stop()
    taken()
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    do("finish", pick=0)
    do("stopped", pick=1)
    do("stopped", pick=0)
    pause()
    # A paused queue.
    walk.add()
    walk.due()
    do("postpone", pick=0, state=RETRYING, wait_s=7.0)
    do("the_queue_is_paused_or_resumed", is_long=True)
    stop()
    taken()
    do("postpone", pick=0, state=HELD, wait_s=7.0, seen=True)
    for _ in range(2):  # the grace, and one that a dead worker left
        play.rq_loses_everything()
        do("time_passes", seconds=3.0)
        do("sweep")
        do("time_passes", seconds=12.0)
        do("sweep")
        taken()
    stop()
    do("postpone", pick=0, state=HELD, wait_s=2.0, seen=True)
    play.rq_loses_everything()
    do("time_passes", seconds=3.0)
    do("sweep")
    taken()
    do("the_clock_of_redis_is_set_back", seconds=3600.0)
    do("a_status_is_read_after_a_second")
    do("stopped", pick=0)
    walk.add()
    do("stop", thread=A)
    do("sweep")
    do("the_queue_is_paused_or_resumed", is_long=True)
    walk.due()
    walk.finish()
    # A wish for a batch that is over, which version 0.1 left.
    walk.add()
    do("a_wish_for_an_earlier_batch_is_left", thread=A)
    walk.due()
    do("renew", pick=0)
    do("postpone", pick=0, state=RETRYING, wait_s=2.0)
    pause()
    do("a_stray_wake_up", thread=A, take=1000)
    pause()
    walk.due()
    walk.finish()
    # A stop before results are stored: it means nothing after.
    walk.add()
    walk.due()
    stop()
    do("complete", pick=0)
    do("renew", pick=0)
    do("postpone", pick=0, state=RETRYING, wait_s=2.0)
    pause()
    do("a_stray_wake_up", thread=A, take=1000)
    pause()
    walk.due()
    walk.finish()
    play.teardown()


def join_tour(play: StoreMachine) -> None:  # noqa: C901, PLR0912, PLR0915 - a walk
    """Walk to the moments at which a message that joins would be lost, doubled or out of order."""
    walk = Walk(play, A)

    def do(name: str, **fields: object) -> None:
        getattr(play, name)(**fields)
        play.look()

    def interrupt(**fields: object) -> None:
        walk.add(mid_run="interrupt", **fields)

    def join(most: int = 1000, **fields: object) -> None:
        do("join", pick=0, most=most, **fields)

    def copies(*names: str) -> None:
        for name in names:
            play.copies_arrive(name)
        play.look()

    # No batch, a quiet message, stored results: no wish. The stronger wish counts.
    interrupt()
    walk.due()
    interrupt(wants_reply=False)
    do("complete", pick=0)
    interrupt()
    walk.finish()
    walk.due()
    for how in ("steer", "interrupt", "steer"):
        walk.add(mid_run=how)
        do("renew", pick=0)
    join(phase=Phase.SENDING)
    copies("join", "add")
    walk.add(mid_run="steer")
    copies("join")
    join(event="message_steered")
    join(event="message_steered")
    do("save", pick=0, phase=Phase.RUNNING)
    copies("join", "progress")
    do("cancel", pick=0)
    do("edit", pick=0)
    walk.finish()
    copies("join", "finish")
    # A message that waits is promoted: not without a batch, nor one that is in it, or was said.
    walk.add()
    do("promote", pick=0, wish=Wish.INTERRUPT)
    walk.due()
    do("promote", pick=0, wish=Wish.INTERRUPT)
    walk.add()
    do("say", thread=A)
    do("promote", pick=0, wish=Wish.STEER)
    for wish in (Wish.STEER, Wish.INTERRUPT, Wish.STEER):
        do("promote", pick=1, wish=wish)
    join()
    copies("promote")
    walk.add()
    do("promote", pick=0, wish=Wish.STEER)
    do("refuse", pick=0)
    walk.finish()
    copies("promote")
    for _ in range(2):
        walk.due()
        copies("promote")
        walk.finish()
    walk.add()
    walk.due()
    walk.add()
    do("complete", pick=0)
    do("promote", pick=0, wish=Wish.STEER)
    walk.finish()
    walk.due()
    walk.finish()
    # Messages of the batch are edited and removed, more of them meanwhile, and by a late worker; the
    # removal of the last one is a stop; what ends before is as it was.
    for end in ("finish", "bury", "stopped"):
        for _ in range(3):
            walk.add()
        do("revise", pick=0, removes=False)
        walk.due()
        do("save", pick=0, phase=Phase.RUNNING)
        do("revise", pick=0, removes=False)
        do("revise", pick=1, removes=True)
        do("make_revisions", pick=0)
        copies("revise", "revised")
        do("revise", pick=0, removes=False)
        do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
        do("make_revisions", pick=1)
        do("make_revisions", pick=0)
        join()
        do("revise", pick=2, removes=True)
        do("make_revisions", pick=0)
        do("make_revisions", pick=0)
        do("add_again", pick=0, same=True)
        do("save", pick=0, phase=Phase.RUNNING)
        copies("revise", "revised", "join")
        do("revise", pick=0, removes=False)
        if end == "stopped":
            do("postpone", pick=0, state=RETRYING, wait_s=7.0)
            do("revise", pick=0, removes=True)
            walk.due()
        do(end, pick=0, **({"pause": False} if end == "bury" else {}))
        copies("revise", "revised")
    # What is given back is edited and removed in the list; a rest of the batch has its own revisions,
    # and a copy comes after others have joined.
    for removes in ({0}, {0, 1}, {1}):
        for _ in range(4):
            walk.add()
        walk.due()
        for pick in (0, 1):
            do("revise", pick=pick, removes=False)
            do("revise", pick=pick, removes=pick in removes)
        if 1 in removes:
            do("revise", pick=2, removes=False)
        walk.add(wants_reply=False)
        do("trim", pick=0, keep=2)
        copies("trim", "revise")
        do("add_again", pick=2, same=True)
        if 0 not in removes:
            do("a_waiting_one_is_edited", thread=A, place=0)
        do("make_revisions", pick=0)
        join()
        copies("trim", "join", "revised")
        walk.finish()
    # Characters: what is beyond them is the next batch, also if one of those that wait is short.
    for most_chars, most in ((12, 1000), (15, 1000), (24, 2), (2, 1000)):
        walk.add()
        walk.due()
        for _ in range(3):
            interrupt()
        do("several_are_cancelled", thread=A, places={1})
        join(most, most_chars=most_chars)
        copies("join")
        do("a_waiting_one_is_edited", thread=A, place=0)
        walk.finish()
        walk.due()
        walk.finish()
    # A limit; what is left is the next batch, and keeps its places.
    walk.add()
    walk.due()
    for _ in range(3):
        interrupt()
    join(most=2)
    do("a_waiting_one_is_edited", thread=A, place=0)
    do("several_are_cancelled", thread=A, places={1})
    walk.finish()
    walk.due()
    walk.finish()
    # Cancelled in front, in the middle and at the end, with and without a place in the batch.
    for most in (1, 2, 3, 1000):
        for places in ({0}, {1}, {2}, {0, 1}, {0, 2}):
            walk.add()
            walk.due()
            for _ in range(3):
                interrupt()
            do("several_are_cancelled", thread=A, places=places)
            join(most=most)
            do("a_waiting_one_is_edited", thread=A, place=0)
            do("several_are_cancelled", thread=A, places={0})
            join()
            walk.finish()
    # Messages that want no reply use up nothing, and are due never if they are left alone.
    walk.add(wants_reply=False)
    walk.add()
    walk.due()
    walk.add(wants_reply=False)
    interrupt()
    interrupt()
    walk.add(wants_reply=False)
    join(most=2)
    join(most=3)
    walk.finish()
    do("a_stray_wake_up", thread=A, take=1000)
    walk.add()
    walk.due()
    # A reply of `say` in between, with a cancelled place before it.
    walk.add()
    do("say", thread=A)
    interrupt()
    join()
    join()
    walk.finish()
    walk.due()
    walk.finish()
    walk.due()
    walk.add()
    do("say", thread=A)
    interrupt()
    do("several_are_cancelled", thread=A, places={0})
    join()
    do("a_waiting_one_is_edited", thread=A, place=1)
    do("several_are_cancelled", thread=A, places={1})
    walk.finish()
    walk.due()
    walk.finish()
    # Characters and a window behind the run, with a rest and without.
    walk.add()
    walk.due()
    for _ in range(2):
        walk.add(LONG, "window", mid_run="interrupt")
    join(most=2)
    walk.add(LONG, "window")
    join()
    walk.add(LONG, "window", mid_run="interrupt")
    do("several_are_cancelled", thread=A, places={0})
    walk.finish()
    # A takeover with a wish, after a join, and by the late one; a stop that is left by a join.
    walk.add()
    walk.due()
    interrupt()
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    do("join", pick=1)
    do("refuse", pick=1)
    join()
    do("a_worker_is_late_and_another_takes_over", is_too_soon=False)
    walk.add(NOW, mid_run="steer")
    do("stop", thread=A)
    interrupt()
    join(phase=Phase.RUNNING)
    walk.add()
    do("stopped", pick=0)
    copies("join", "stopped", "refuse")
    walk.due()
    walk.finish()
    # An interruption waits out a back-off; what joined fails with its batch, and is put back; the
    # tail that does not fit is given back.
    walk.add()
    walk.due()
    do("postpone", pick=0, state=RETRYING, wait_s=7.0)
    interrupt()
    do("a_stray_wake_up", thread=A, take=1000)
    walk.due()
    join()
    do("bury", pick=0, pause=False)
    walk.add()
    do("retry_failed", pick=0)
    walk.due()
    interrupt()
    interrupt()
    join()
    do("trim", pick=0, keep=2)
    do("several_are_cancelled", thread=A, places={1})
    copies("trim", "join", "add")
    walk.finish()
    walk.due()
    # Refused; a stop, a message that steers and no wish are not.
    interrupt()
    do("refuse", pick=0)
    copies("refuse")
    interrupt()
    copies("refuse")
    do("stop", thread=A)
    do("refuse", pick=0)
    do("stopped", pick=0)
    copies("refuse")
    walk.due()
    walk.add(mid_run="steer")
    do("refuse", pick=0)
    walk.finish()
    walk.due()
    walk.finish()
    play.teardown()
