"""End of a window."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core.window import (
    MAX_HOLD_MS,
    NEVER_MS,
    ThreadPace,
    Window,
    adapted,
    due_at,
    is_never,
    kept_open,
)
from tests.benchmarks import windows

ROOT = Path(__file__).parents[2]

FIXED = Window(delay_ms=1000)
SLIDING = Window(delay_ms=1000, kind="sliding", max_wait_ms=2500)


def test_a_fixed_window_counts_from_the_oldest_message() -> None:
    assert due_at(FIXED, now_ms=5000, first_ms=5000, count=1, previous_due_ms=None) == 6000
    assert due_at(FIXED, now_ms=5900, first_ms=5000, count=2, previous_due_ms=6000) == 6000


def test_a_sliding_window_starts_again_with_each_message() -> None:
    assert due_at(SLIDING, now_ms=5900, first_ms=5000, count=2, previous_due_ms=6000) == 6900


def test_a_sliding_window_holds_the_oldest_message_no_longer_than_max_wait() -> None:
    assert due_at(SLIDING, now_ms=7400, first_ms=5000, count=5, previous_due_ms=7450) == 7500


@pytest.mark.parametrize("window", [FIXED, SLIDING])
def test_a_message_that_wants_no_reply_moves_no_window(window: Window) -> None:
    alone = due_at(
        window, now_ms=5000, first_ms=5000, count=1, previous_due_ms=None, wants_reply=False
    )
    assert alone == NEVER_MS
    assert is_never(alone)
    joined = due_at(
        window, now_ms=5900, first_ms=5000, count=2, previous_due_ms=6000, wants_reply=False
    )
    assert joined == 6000
    assert due_at(window, now_ms=9000, first_ms=9000, count=2, previous_due_ms=NEVER_MS) == 10_000


@pytest.mark.parametrize("previous", [4000, 5000])
def test_a_latecomer_does_not_open_a_window_again_that_is_over(previous: int) -> None:
    for window in (FIXED, SLIDING):
        assert (
            due_at(window, now_ms=5000, first_ms=3000, count=2, previous_due_ms=previous)
            == previous
        )


def test_a_full_batch_ends_the_window_at_once() -> None:
    window = Window(delay_ms=1000, max_batch=3)
    assert due_at(window, now_ms=5500, first_ms=5000, count=2, previous_due_ms=6000) == 6000
    assert due_at(window, now_ms=5500, first_ms=5000, count=3, previous_due_ms=6000) == 5500


def test_as_many_characters_end_the_window_at_once() -> None:
    window = Window(delay_ms=1000, max_chars=10)
    given = {"now_ms": 5500, "first_ms": 5000, "count": 2, "previous_due_ms": 6000}
    assert due_at(window, **given, chars=9) == 6000
    assert due_at(window, **given, chars=10) == 5500


def test_a_hold_keeps_a_window_open_and_never_makes_it_shorter() -> None:
    window = Window(delay_ms=1000, hold_ms=2000)
    assert kept_open(window, 6000, now_ms=5900, first_ms=5000) == 7900
    assert kept_open(window, 9000, now_ms=5900, first_ms=5000) == 9000


def test_holds_end() -> None:
    window = Window(delay_ms=1000, kind="sliding", max_wait_ms=4000, hold_ms=2000)
    latest = 5000 + 4000 + MAX_HOLD_MS
    assert kept_open(window, 9000, now_ms=latest - 500, first_ms=5000) == latest


ADAPTIVE = Window(delay_ms=10_000, kind="adaptive", max_wait_ms=30_000)


def test_an_adaptive_window_has_the_given_length_until_a_pace_is_known() -> None:
    window, pace = adapted(ADAPTIVE, None, now_ms=5000, is_burst=False)
    assert (window.kind, window.delay_ms) == ("sliding", 10_000)
    assert pace == ThreadPace(gap_ms=0, deviation_ms=0, seen_ms=5000)


def test_a_pace_is_estimated_as_tcp_estimates_its_time_out() -> None:
    pace: ThreadPace | None = None
    lengths = []
    for at in (1000, 3000, 5000, 9000):
        window, pace = adapted(ADAPTIVE, pace, now_ms=at, is_burst=at > 1000)
        lengths.append(window.delay_ms)
    # 2000 + 4 x 1000; 2000 + 4 x 750; 2250 + 4 x 1062
    assert lengths == [10_000, 6000, 5000, 6498]


@pytest.mark.parametrize(
    ("ago_ms", "is_burst"), [(30_001, True), (2000, False), (-5000, True)], ids=str
)
def test_what_belongs_to_no_burst_teaches_nothing(ago_ms: int, is_burst: bool) -> None:
    before = ThreadPace(gap_ms=2000, deviation_ms=500, seen_ms=100_000)
    window, after = adapted(ADAPTIVE, before, now_ms=100_000 + ago_ms, is_burst=is_burst)
    assert (after.gap_ms, after.deviation_ms) == (2000, 500)
    assert after.seen_ms == 100_000 + ago_ms
    assert window.delay_ms == 4000


def test_an_adaptive_window_is_bounded_on_both_sides() -> None:
    slow = ThreadPace(gap_ms=29_000, deviation_ms=9000, seen_ms=0)
    quick = ThreadPace(gap_ms=3, deviation_ms=1, seen_ms=0)
    assert adapted(ADAPTIVE, slow, now_ms=90_000, is_burst=False)[0].delay_ms == 30_000
    assert adapted(ADAPTIVE, quick, now_ms=90_000, is_burst=False)[0].delay_ms == 1000


def test_no_delay_means_at_once() -> None:
    assert (
        due_at(Window(delay_ms=0), now_ms=5000, first_ms=5000, count=1, previous_due_ms=None)
        == 5000
    )


@given(
    delay=st.integers(0, 10_000),
    extra=st.integers(0, 10_000),
    kind=st.sampled_from(["fixed", "sliding"]),
    gaps=st.lists(st.integers(0, 4000), min_size=1, max_size=10),
    most=st.integers(0, 5),
)
def test_no_message_waits_longer_than_its_window_allows(
    delay: int, extra: int, kind: str, gaps: list[int], most: int
) -> None:
    window = Window(delay_ms=delay, kind=kind, max_wait_ms=delay + extra, max_batch=most)  # type: ignore[arg-type]
    now = first = 1_000_000
    due: int | None = None
    for count, gap in enumerate(gaps, 1):
        now += gap if count > 1 else 0
        before = due
        due = due_at(window, now_ms=now, first_ms=first, count=count, previous_due_ms=before)
        assert first <= due <= first + (delay if kind == "fixed" else delay + extra)
        assert due >= min(now, first + delay) or before == due
        if before is not None and before <= now:
            assert due == before
        elif most and count >= most:
            assert due == now


def test_the_figures_of_the_documents_are_those_of_the_rule() -> None:
    assert windows.table() in (ROOT / "docs" / "windows.md").read_text(encoding="utf-8")


def test_an_adaptive_window_cuts_fewer_bursts_than_a_sliding_one_that_waits_as_long() -> None:
    own = windows.at_own_speeds(windows.threads())
    adaptive = windows.play(windows.WINDOWS["adaptive, from 10 s"], own)
    sliding = windows.play(windows.WINDOWS["sliding, 10 s"], own)
    assert statistics.fmean(adaptive.waits_s) <= statistics.fmean(sliding.waits_s)
    assert adaptive.cut < sliding.cut * 0.6
