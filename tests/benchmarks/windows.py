"""`python -m tests.benchmarks.windows`: windows over recorded conversations, without a clock.

Bursts of `examples/conversations.jsonl` - messages of one thread with at most `BURST_S` between two
- pass through each kind of window: how many bursts it cuts, and how long it waits after the last
message of a burst. Once as recorded, once at another pace for each thread.
"""

from __future__ import annotations

import itertools
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from assistant_queue.core.window import ThreadPace, Window, adapted, due_at

BURST_S = 19.0
"""Chosen: in the recording, no pause is between 6 and 20 seconds."""
SPEEDS = (0.5, 1.0, 2.0, 3.0)
"""Factors of the pauses within the bursts of the threads, in turn, where each has another pace."""
RUN_S = 3.0
"""Seconds of each run. Chosen: a usual one."""
CONVERSATIONS = Path(__file__).parents[2] / "examples" / "conversations.jsonl"

WINDOWS: dict[str, Window] = {
    "fixed, 5 s": Window(delay_ms=5000),
    "fixed, 10 s": Window(delay_ms=10_000),
    "sliding, 3 s": Window(delay_ms=3000, kind="sliding", max_wait_ms=30_000),
    "sliding, 5 s": Window(delay_ms=5000, kind="sliding", max_wait_ms=30_000),
    "sliding, 10 s": Window(delay_ms=10_000, kind="sliding", max_wait_ms=30_000),
    "sliding, 15 s": Window(delay_ms=15_000, kind="sliding", max_wait_ms=30_000),
    "adaptive, from 5 s": Window(delay_ms=5000, kind="adaptive", max_wait_ms=30_000),
    "adaptive, from 10 s": Window(delay_ms=10_000, kind="adaptive", max_wait_ms=30_000),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Effects of a window on all bursts.

    Attributes:
        bursts: Their number.
        cut: Those that were answered in more than one run.
        waits_s: Seconds from the last message of each burst to the end of its window.
    """

    bursts: int
    cut: int
    waits_s: Sequence[float]

    def cells(self) -> str:
        """The figures as cells of a Markdown table."""
        mean = statistics.fmean(self.waits_s)
        return f"{100 * self.cut / self.bursts:.0f} % | {mean:.1f} s"


def threads(path: Path = CONVERSATIONS) -> list[list[int]]:
    """The times of the messages of each thread, in ms."""
    found: dict[str, list[int]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[row["thread"]].append(round(row["t"] * 1000))
    return list(found.values())


def at_own_speeds(all_threads: Sequence[Sequence[int]]) -> list[list[int]]:
    """The threads with the pauses of their bursts longer or shorter, and the others longer."""
    found: list[list[int]] = []
    for times, speed in zip(all_threads, itertools.cycle(SPEEDS)):
        moved = [times[0]]
        for before, at in itertools.pairwise(times):
            pause = at - before
            is_burst = pause <= BURST_S * 1000
            moved.append(moved[-1] + (round(pause * speed) if is_burst else 2 * pause))
        found.append(moved)
    return found


def bursts_of(times: Sequence[int]) -> Iterator[list[int]]:
    """The times of one thread, by bursts."""
    burst: list[int] = []
    for at in times:
        if burst and at - burst[-1] > BURST_S * 1000:
            yield burst
            burst = []
        burst.append(at)
    if burst:
        yield burst


def play(window: Window, all_threads: Sequence[Sequence[int]]) -> Figures:
    """Pass all threads through a window."""
    bursts = cut = 0
    waits: list[float] = []
    for times in all_threads:
        pace: ThreadPace | None = None
        due = first = count = 0
        answered = 0
        for burst in bursts_of(times):
            bursts += 1
            runs = 0
            for at in burst:
                if count and due <= at:  # its batch was claimed meanwhile
                    answered = max(due, answered) + round(RUN_S * 1000)
                    count = 0
                runs += not count
                first = first if count else at
                used = window
                if window.kind == "adaptive":
                    used, pace = adapted(
                        window, pace, now_ms=at, is_burst=count > 0 or at < answered
                    )
                due = due_at(
                    used,
                    now_ms=at,
                    first_ms=first,
                    count=count + 1,
                    previous_due_ms=due if count else None,
                )
                count += 1
            cut += runs > 1
            waits.append((due - burst[-1]) / 1000)
    return Figures(bursts=bursts, cut=cut, waits_s=waits)


def table() -> str:
    """The figures of all windows as a Markdown table."""
    recorded = threads()
    own = at_own_speeds(recorded)
    rows = [
        f"| {name} | {play(window, recorded).cells()} | {play(window, own).cells()} |"
        for name, window in WINDOWS.items()
    ]
    head = "| window | bursts cut | mean wait | cut, own speeds | mean wait, own speeds |"
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *rows])


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
