"""The parts of an estimate of a message's wait: pauses, the line, and the time that runs take."""

from __future__ import annotations

from assistant_queue.errors import NotPermitted
from assistant_queue.store import wakeups
from assistant_queue.store.calls import Namespace, Operation, each, plain, text, texts
from assistant_queue.values import valueclass

_WORKED = ("total_working_time", "successful_job_count", "failed_job_count")
_MOST_WORKERS = 200
"""Records of workers that are read. Chosen: enough for a mean, and a millisecond of Redis' time."""


@valueclass(frozen=True, slots=True, kw_only=True)
class WaitingLine:
    """The line between a due thread and its run.

    Attributes:
        is_paused: The queue or the thread is paused.
        length: Due threads that no worker has taken.
        pace_s: Seconds from one taking to the next, as workers measured them.
    """

    is_paused: bool
    length: int
    pace_s: float


@valueclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The runs of a queue's workers.

    Attributes:
        mean_s: Seconds that one takes; 0 if none has ended.
        running: Runs that workers have at present, as RQ's records show.
    """

    mean_s: float = 0.0
    running: int = 0


def read_line(namespace: Namespace, thread_id: str) -> Operation[WaitingLine]:
    """Read the line in front of a thread, in one round trip."""
    keys = namespace.keys
    queue_paused, thread_paused, length, pace = yield from each(
        [
            plain("EXISTS", keys.paused),
            plain("HGET", keys.thread(thread_id), "paused"),  # or taken over
            plain("LLEN", wakeups.queue_key(namespace.prefix)),
            plain("HGET", keys.counters, "pace"),
        ]
    )
    micros = "" if pace is None else text(pace)
    return WaitingLine(
        is_paused=bool(queue_paused) or bool(thread_paused),
        length=int(length or 0),
        pace_s=int(micros) / 1e6 if micros.isdecimal() else 0.0,
    )


def read_runs(namespace: Namespace) -> Operation[Runs]:
    """Read how long runs take, from RQ's records; nothing if this user of Redis may not."""
    try:
        names, running = yield from each(
            [
                plain("SMEMBERS", wakeups.workers_key(namespace.prefix)),
                plain("ZCARD", wakeups.started_key(namespace.prefix)),
            ]
        )
        rows = yield from each(
            [plain("HMGET", name, *_WORKED) for name in list(names or ())[:_MOST_WORKERS]]
        )
    except NotPermitted:
        return Runs()
    worked_s = ended = 0.0
    for row in rows:
        numbers = [_number(word) for word in texts(row or [])]
        if len(numbers) == len(_WORKED):
            worked_s += numbers[0]
            ended += numbers[1] + numbers[2]
    return Runs(mean_s=worked_s / ended if ended else 0.0, running=int(running or 0))


def _number(word: str) -> float:
    return float(word) if word.replace(".", "", 1).isdecimal() else 0.0


def seconds_until_run(
    line: WaitingLine, runs: Runs, *, window_s: float, is_behind_a_run: bool
) -> float:
    """Return the seconds until a message's run starts, as far as they can be known.

    Its window and the run of its thread that it waits for pass at the same time; the line comes
    after them.
    """
    ahead_s = max(0.0, window_s, runs.mean_s if is_behind_a_run else 0.0)
    if not line.length:
        return ahead_s
    each_s = max(line.pace_s, runs.mean_s / runs.running if runs.running else 0.0)
    return ahead_s + line.length * each_s
