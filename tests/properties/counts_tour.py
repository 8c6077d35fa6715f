"""Steps that are counted, and their repetitions: at each, a wrong count would show."""

from __future__ import annotations

from collections.abc import Callable

from store_model import HELD, NOW, RETRYING, THREADS, StoreMachine

A, B = THREADS


def counts_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk past each count, by a holder, by one that lost its lease, and by a repeated call."""

    def do(act: Callable[..., None], **said: object) -> None:
        act(**said)
        play.look()

    def again(name: str) -> None:
        """Deliver a copy of the last call of a script."""
        call = [one for one in play.rig.sent if one.script is not None and one.script.name == name]
        play.rig.again(call[-1])
        play.look()

    def add(thread: str) -> None:
        do(play.add, thread=thread, window=NOW, after_run="immediate", limited=False)
        again("add")

    def due(thread: str) -> None:
        do(play.a_worker_comes_when_the_thread_is_due, thread=thread, take=1000)
        again("claim")

    # An attempt fails, the next one's worker dies, the third one's batch ends well; the dead worker
    # tries everything.
    add(A)
    do(play.add_again, pick=0, same=True)
    again("add")
    do(play.add_again, pick=0, same=True)
    due(A)
    do(play.postpone, pick=0, state=RETRYING, wait_s=2.0)
    do(play.postpone, pick=0, state=RETRYING, wait_s=2.0)  # repeated
    due(A)
    do(play.a_worker_is_late_and_another_takes_over, is_too_soon=False)
    do(play.postpone, pick=1, state=HELD, wait_s=2.0)
    do(play.finish, pick=1)
    do(play.bury, pick=1, pause=False)
    do(play.finish, pick=0)
    do(play.finish, pick=0)  # repeated
    # A batch fails, is retried, fails again, and is discarded.
    add(B)
    add(B)
    due(B)
    play.rig.clock.advance(0.005)  # a bound, which belongs to its bucket
    do(play.bury, pick=0, pause=False)
    do(play.bury, pick=0, pause=False)  # repeated
    shown = play.rig.metrics().durations["run"].counts
    assert shown[0] == 1, f"a run of 5 ms is in another bucket: {shown}"
    do(play.retry_failed, pick=0)
    due(B)
    do(play.bury, pick=0, pause=False)
    do(play.discard_failed, pick=0)
    again("discard_failed")
    # A message is cancelled; results that version 0.1 stored are not counted; what is said is
    # written with a batch.
    add(A)
    do(play.cancel, pick=0)
    again("cancel")
    add(A)
    due(A)
    do(play.complete, pick=0)
    do(play.finish, pick=0)
    do(play.say, thread=A)
    again("say")
    due(A)
    do(play.finish, pick=0)
    play.the_metrics_agree()
    play.teardown()
