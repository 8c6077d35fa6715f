"""The estimate of a message's wait: its window, the run before it, and the line."""

from __future__ import annotations

import pytest

from assistant_queue.store.ops.waits import Runs, WaitingLine, seconds_until_run


@pytest.mark.parametrize(
    ("line", "runs", "window_s", "is_behind_a_run", "expected"),
    [
        ((0, 0.01), (0, 0), 5.0, False, 5.0),  # nothing but its window
        ((0, 0.01), (8, 2), 5.0, False, 5.0),  # its own run comes on top
        ((0, 0.01), (8, 2), 5.0, True, 8.0),  # both pass at the same time
        ((0, 0.01), (3, 2), 5.0, True, 5.0),
        ((10, 0.01), (8, 2), 5.0, False, 45.0),  # ten runs of 8 s in two places
        ((10, 0.01), (0, 0), 0.0, False, 0.1),  # no run has ended yet: the workers' pace
        ((10, 0.5), (8, 100), 0.0, False, 5.0),  # the slower one counts
        ((0, 0.01), (0, 0), -3.0, False, 0.0),
    ],
)
def test_a_wait_is_the_window_or_the_run_before_it_and_then_the_line(
    line: tuple[int, float],
    runs: tuple[float, int],
    window_s: float,
    is_behind_a_run: bool,
    expected: float,
) -> None:
    length, pace_s = line
    mean_s, running = runs
    assert seconds_until_run(
        WaitingLine(is_paused=False, length=length, pace_s=pace_s),
        Runs(mean_s=mean_s, running=running),
        window_s=window_s,
        is_behind_a_run=is_behind_a_run,
    ) == pytest.approx(expected)
