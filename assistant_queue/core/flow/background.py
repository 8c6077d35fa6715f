"""Runs in the background: their batches are parked, without a worker, while the provider works.

    send ─► accepted ─► park ··· a webhook, or a poll ···► look ─┬─► in progress ─► park
                                                                 └─► calls, or the end

A run that is looked at too late is found in its conversation, as after a crash.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.failure_table import NoRoom, WorksInBackground
from assistant_queue.core.flow.asking import ask
from assistant_queue.core.flow.context import ENDED_WELL, BatchContext, Event, Flow
from assistant_queue.core.runs import ActionRequired, Finding, RunAccepted, RunEnded
from assistant_queue.errors import RunExpired, RunVanished

FIRST_LOOK_S = 1.0
"""Seconds until a run is polled first. Chosen: a run of seconds is noticed at once, and one that
takes long is polled once more than it needs."""

LONGEST_LOOK_S = 300.0
"""Most seconds between two polls of a run. Source: a provider keeps a run in the background for
about ten minutes; half of that leaves time for a worker that is late."""

_SHARE = 0.1
"""The part of a run's age after which it is polled again. Chosen: its end is noticed when it has
taken a tenth longer, at most."""

_LEAST_ROOM_S = 5.0
_MOST_ROOM_S = 60.0
"""Seconds for which a batch waits for room. Chosen: ten thousand that wait cost 170 claims a second
at most."""


def admit() -> Generator[steps.Step, Any, None]:
    """Ask whether another run can be started.

    Raises:
        NoRoom: So many are at work that they could not be polled in time.
    """
    wait_s: float = yield steps.AskForRoom()
    if wait_s:
        raise NoRoom(wait_s)


def look(ctx: BatchContext, run_id: str) -> Generator[steps.Step, Any, Event]:
    """Look at a run that was started by an earlier claim; return its calls or its end.

    Raises:
        WorksInBackground: It is in progress.
        RunExpired: So it is, and its time is over.
        RunVanished: The provider does not know it, and the conversation does not hold its answer.
    """
    try:
        seen = yield from ask(steps.CheckRun(request=ctx.sent, run_id=run_id))
    except RunVanished:
        seen = yield from _read_back(ctx, run_id)
        if seen is None:
            raise
    if isinstance(seen, RunAccepted):
        if ctx.progress.deadline_ms <= ctx.now_ms():
            raise RunExpired(
                f"run {run_id!r} of thread {ctx.batch.thread_id!r} has not ended within "
                f"{ctx.rules.run_timeout_s:g} s"
            )
        raise WorksInBackground
    if isinstance(seen, ActionRequired):
        ctx.unanswered = tuple(call.id for call in seen.calls)
        ctx.new_deadline()  # the functions get the time that a run gets
    event: Event = seen
    return event


def _read_back(ctx: BatchContext, run_id: str) -> Generator[steps.Step, Any, Event | None]:
    """Return what the conversation holds of a run that the provider keeps no more."""
    finding: Finding = yield from ask(steps.Find(request=ctx.sent, run_id=run_id, calls=()))
    if isinstance(finding, ActionRequired):
        return finding
    if isinstance(finding, RunEnded) and finding.status in ENDED_WELL:
        return finding
    return None


def await_run(ctx: BatchContext) -> Flow:
    """Give the thread back until its run has ended, or is to be polled."""
    progress = ctx.progress
    now = ctx.now_ms()
    if ctx.log.was_sent:
        ctx.log.end(now)
    else:
        ctx.log.drop()
    age_s = (now - progress.sent_ms) / 1000 if progress.sent_ms else 0.0
    run_id = progress.run_id or ""
    yield steps.AwaitRun(
        run_id=run_id,
        wait_s=min(max(FIRST_LOOK_S, age_s * _SHARE), LONGEST_LOOK_S),
        most_s=max(0.0, (progress.deadline_ms - now) / 1000),
        phase=ctx.phase,
        progress=progress,
    )
    return steps.AtWork(run_id=run_id)


def await_room(ctx: BatchContext, wait_s: float) -> Flow:
    """Give the thread back until another run may be started; no attempt was made."""
    ctx.log.drop()
    yield steps.AwaitRun(
        run_id="", wait_s=wait_s, most_s=wait_s, phase=ctx.phase, progress=ctx.progress
    )
    return steps.AtWork(run_id="")


def room_wait_s(at_work: int, poll_rate: float, *, webhooks_come: bool) -> float:
    """Return the seconds to wait before another run is started, 0 if there is room for one.

    With `at_work` runs, each is polled every `at_work / poll_rate` seconds: too late after
    `LONGEST_LOOK_S`, unless webhooks come.
    """
    excess_s = at_work / poll_rate - LONGEST_LOOK_S
    if excess_s < 0 or webhooks_come:
        return 0.0
    return min(max(excess_s, _LEAST_ROOM_S), _MOST_ROOM_S)
