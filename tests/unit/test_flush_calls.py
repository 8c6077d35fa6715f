"""The option `flush_when`."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from assistant_queue.models import Message
from assistant_queue.user_code.flush_calls import is_flushed, is_flushed_async


def flushed(rule: Any, text: str, limit_s: float = 5.0) -> bool:
    return is_flushed(rule, Message(id="m", content=text), "t", limit_s)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("STOP", True),
        ("please stop!", True),
        ("stopping", False),
        ("nonstop", False),
        ("send\n  it", True),
        ("¡ya está!", True),
        ("nothing", False),
    ],
)
def test_a_word_or_phrase_is_found_whole_and_in_any_case(text: str, expected: bool) -> None:
    assert flushed(["stop", "Send it", "ya está"], text) is expected


def test_a_sign_is_a_word_too() -> None:
    assert flushed(["?"], "where is it?")
    assert flushed(["C++"], "in c++")


async def test_a_function_decides() -> None:
    def rule(message: Message) -> bool:
        return message.text.endswith("?")

    assert flushed(rule, "is it?")
    assert not flushed(rule, "it is")
    assert await is_flushed_async(rule, Message(id="m", content="is it?"), "t", 5.0)


def raises(_message: Message) -> bool:
    raise KeyError("secret words")


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (raises, "raised KeyError"),
        (lambda _message: "yes", "returned str instead of True or False"),
    ],
    ids=["raises", "returns a text"],
)
async def test_a_function_that_cannot_say_so_lets_the_message_wait(
    rule: Any, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert not flushed(rule, "hi")
        assert not await is_flushed_async(rule, Message(id="m", content="hi"), "t", 5.0)
    assert [said in record.getMessage() for record in caplog.records] == [True, True]
    assert "secret words" not in caplog.text


def test_a_function_that_hangs_is_abandoned(caplog: pytest.LogCaptureFixture) -> None:
    released = threading.Event()
    with caplog.at_level(logging.WARNING):
        assert not flushed(lambda _message: released.wait(60), "hi", limit_s=0.01)
    released.set()
    assert "did not return in time" in caplog.text
