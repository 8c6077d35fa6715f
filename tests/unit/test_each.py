"""Cases of one test fail by name, and none hides another."""

from __future__ import annotations

import pytest

from tests.each import each


def test_every_case_is_tried_and_each_that_fails_is_named() -> None:
    tried = []

    @each("number", range(5))
    def test_numbers(number: int) -> None:
        tried.append(number)
        assert number % 2, "even"

    with pytest.raises(ExceptionGroup, match="3 of 5 cases: 0, 2, 4") as caught:
        test_numbers()
    assert tried == [0, 1, 2, 3, 4]
    assert [error.__notes__ for error in caught.value.exceptions] == [
        ["number: 0"],
        ["number: 2"],
        ["number: 4"],
    ]
    assert test_numbers.__name__ == "test_numbers"


def test_cases_that_all_pass_pass() -> None:
    each("word", ["a", "b"])(lambda word: None)()


def test_a_test_without_cases_is_an_error() -> None:
    with pytest.raises(AssertionError, match="shows nothing"):
        each("word", [])
