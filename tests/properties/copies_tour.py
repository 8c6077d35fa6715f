"""Copies of calls that arrive late, each at the moment at which it would do harm."""

from __future__ import annotations

from store_model import MOST_PENDING, NOW, RETRYING, THREADS, StoreMachine

from assistant_queue.core.thread_state import Phase

A, B = THREADS


def copies_tour(play: StoreMachine) -> None:  # noqa: PLR0915 - a walk
    """Walk to the moments at which a late copy of a call would do harm, and check after it."""

    def copies(*names: str) -> None:
        for name in names:
            play.copies_arrive(name)
        play.look()

    def add(thread: str, **kwargs: object) -> None:
        play.add(
            **{
                "thread": thread,
                "window": NOW,
                "after_run": "immediate",
                "limited": False,
                **kwargs,
            }
        )

    def due(thread: str) -> None:
        play.a_worker_comes_when_the_thread_is_due(thread=thread, take=1000)

    def give_back() -> None:
        play.postpone(pick=0, state=RETRYING, wait_s=0.0)

    # What the holder wrote first must not undo what it wrote since.
    add(A)
    due(A)
    play.save(pick=0, phase=Phase.SENDING)
    play.save(pick=0, phase=Phase.RUNNING)
    copies("progress", "claim", "renew")
    # The next holder counts anew.
    play.a_worker_is_late_and_another_takes_over(is_too_soon=False)
    play.save(pick=0, phase=Phase.SENDING)
    copies("progress", "claim")
    play.complete(pick=0)
    copies("progress")
    play.finish(pick=0)
    # A batch that is over, messages that wait, and the claim of that batch.
    add(A)
    copies("claim", "finish", "complete", "add")
    # Claims that continued a batch: of the holder that gave it back last, and of one before.
    due(A)
    give_back()
    due(A)
    give_back()
    copies("claim", "postpone")
    due(A)
    give_back()
    copies("claim")
    # The claim that froze the batch, when so many held it since that its token is forgotten.
    for _ in range(9):
        play.a_worker_comes_when_the_thread_is_due(thread=A, take=1000)
        play.postpone(pick=0, state=RETRYING, wait_s=0.0)
    copies("claim")
    due(A)
    play.finish(pick=0)
    # A refused claim; its job is over.
    play.rq_loses_everything()
    play.the_queue_is_paused_or_resumed(is_long=True)
    add(B)
    play.a_worker_takes_a_wake_up(take=1000)
    copies("pause_queue")
    play.the_queue_is_paused_or_resumed(is_long=True)
    copies("claim", "pause_queue")
    due(B)
    # A worker that continued the batch of another, and died; the thread was idle since.
    give_back()
    play.sweep()
    play.time_passes(seconds=1.6)
    play.sweep()
    play.a_worker_takes_a_wake_up(take=1000)
    play.rq_is_shown_what_runs()
    play.a_worker_is_late_and_another_takes_over(is_too_soon=False)
    play.finish(pick=0)
    add(B)
    copies("claim")
    # A batch that was put back.
    due(B)
    play.cancel(pick=0)
    play.edit(pick=0)
    play.bury(pick=0, pause=False)
    copies("bury")
    play.retry_failed(pick=0)
    copies("claim", "bury", "cancel", "edit", "return_failed")
    due(B)
    play.bury(pick=0, pause=False)
    play.discard_failed(pick=0)
    copies("return_failed", "discard_failed")
    # A message that was edited twice; what came back from a batch that was too large.
    play.several_come_at_once(thread=B, count=3)
    play.edit(pick=0)
    play.edit(pick=0)
    copies("edit")
    due(B)
    play.cancel(pick=0)
    play.trim(pick=0, keep=1)
    copies("trim", "cancel", "edit")
    play.finish(pick=0)
    # What found its thread full.
    play.several_come_at_once(thread=A, count=MOST_PENDING)
    add(A, limited=True)
    play.several_are_cancelled(thread=A, places={0, 1})
    copies("add", "cancel")
    # A pause that is over, and a resume.
    play.pause_or_resume(thread=A)
    play.pause_or_resume(thread=A)
    copies("pause")
    play.pause_or_resume(thread=A)
    copies("resume")
    play.the_queue_is_paused_or_resumed(is_long=True)
    copies("resume_queue")
    play.teardown()
