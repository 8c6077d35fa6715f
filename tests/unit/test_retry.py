"""Delays before a retry."""

from __future__ import annotations

import pytest

from assistant_queue.core.retry import MAX_DELAY_S, Backoff


@pytest.mark.parametrize(("attempt", "wait"), [(0, 5), (1, 5), (2, 10), (3, 20), (4, 40)])
def test_an_exponential_back_off_doubles(attempt: int, wait: float) -> None:
    assert Backoff(delay_s=5).wait_s(attempt) == wait


@pytest.mark.parametrize("attempt", [1, 2, 50])
def test_a_fixed_back_off_stays(attempt: int) -> None:
    assert Backoff(type="fixed", delay_s=7).wait_s(attempt) == 7


@pytest.mark.parametrize("attempt", [20, 1000, 10**9])
def test_no_back_off_is_longer_than_its_limit(attempt: int) -> None:
    assert Backoff(delay_s=5).wait_s(attempt) == MAX_DELAY_S


@pytest.mark.parametrize("asked", [0.5, 90.0, 2 * MAX_DELAY_S])
def test_what_the_provider_asked_for_is_obeyed(asked: float) -> None:
    assert Backoff(delay_s=5).wait_s(3, asked) == asked


def test_a_wait_is_never_negative() -> None:
    assert Backoff().wait_s(1, -4.0) == 0
