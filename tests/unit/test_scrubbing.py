"""Secrets in words that are not this package's own."""

from __future__ import annotations

import logging

import pytest

from assistant_queue.user_code.error_text import log_raised, said, tracebacks
from assistant_queue.user_code.scrubbing import scrubbed, without_secrets

TOKEN = "123456789:AAF-abcDEFghiJKLmnoPQRstuVWXyz12345"
"""The form of a Telegram bot's token."""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (
            f"GET https://api.telegram.org/bot{TOKEN}/sendMessage?chat_id=1",
            "GET https://api.telegram.org/[key]/sendMessage?chat_id=1",
        ),
        (f"wrong token {TOKEN}", "wrong token [key]"),
        ("slack said no to xoxb-123456789-abcdef", "slack said no to [key]"),
        (
            "https://user:p@ss@host/db and redis://:word@h:1/0",
            "https://[key]@host/db and redis://[key]@h:1/0",
        ),
        ("https://t0ken@host/x", "https://[key]@host/x"),
        (
            "/z?token=abcdef1&a=b&X-Amz-Signature=deadbeef&key=hunter22",
            "/z?token=[key]&a=b&X-Amz-Signature=[key]&key=[key]",
        ),
        ("/z?a=1&client_secret=hunter22#end", "/z?a=1&client_secret=[key]#end"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic [key]"),
        (
            "{'Authorization': 'Bearer abc123', 'X-Api-Key': 'canary123'}",
            "{'Authorization': 'Bearer [key]', 'X-Api-Key': '[key]'}",
        ),
        (
            "access_token=abcdef; db_password: 'hunter22'",
            "access_token=[key]; db_password: '[key]'",
        ),
        ("AKIAIOSFODNN7EXAMPLE, ghp_0123456789abcdef", "[key], [key]"),
    ],
)
def test_secrets_are_hidden(words: str, shown: str) -> None:
    assert scrubbed(words) == shown


@pytest.mark.parametrize(
    "words",
    [
        "max_tokens=100 is too large",
        "KeyError: 'name'",
        "invalid token: abc",
        "f() missing 1 required positional argument: 'password'",
        "at 12:30 on 10:20:30, status code=500",
        "http://host/path?a=1, mail ann@example.com",
        "signature mismatch",
    ],
)
def test_plain_words_stay(words: str) -> None:
    assert scrubbed(words) == words


def test_a_traceback_keeps_its_lines() -> None:
    assert without_secrets("one\n  two token=abcdef\nthree") == "one\n  two token=[key]\nthree"


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_exception_is_said_by_type_and_words() -> None:
    assert said(ValueError(f"bot{TOKEN} is\nwrong")) == "ValueError: [key] is wrong"
    assert said(SystemExit()) == "SystemExit"
    assert said(Odd()) == "Odd"


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    try:
        raise ValueError(f"bot{TOKEN}")
    except ValueError as error:
        log_raised(logging.getLogger("assistant_queue"), "thread %r raised", "t", error=error)
    return [(record.levelname, record.getMessage()) for record in caplog.records]


def test_a_traceback_is_logged_only_where_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    assert logged(caplog) == [("ERROR", "thread 't' raised: ValueError: [key]")]
    caplog.clear()
    caplog.set_level(logging.DEBUG, "assistant_queue")
    _, (level, text) = logged(caplog)
    assert level == "DEBUG"
    assert text.startswith("Traceback (most recent call last)")
    assert TOKEN not in text
    caplog.clear()
    caplog.set_level(logging.INFO, "assistant_queue")
    token = tracebacks.set(True)
    try:
        assert [level for level, _ in logged(caplog)] == ["ERROR", "ERROR"]
    finally:
        tracebacks.reset(token)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("/z?client_secret=hunter22", "/z?client_secret=[key]"),
        ("password: p&ssword; password", "[key]: [key]; [key]"),
        ("see p&ssword, p&sswordp&ssword", "see [key], [key]"),
        ("redis://me:p&ssword@host/0 secret", "redis://[key]@host/0 [key]"),
        ("sk-secret-0123456", "[key]"),
        ("", ""),
    ],
)
def test_a_known_secret_uncovers_no_other_one(words: str, shown: str) -> None:
    assert without_secrets(words, "secret", "password", "p&ssword", "p&ss") == shown
