"""Checks of the words of a command: Redis accepts text that UTF-8 can encode, and numbers.

UTF-8 cannot encode half of a surrogate pair. Models cut emoji in two, and JSON lets each half
through as an escape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import exceptions

REFUSED = (UnicodeEncodeError, exceptions.DataError)
"""Errors that redis-py raises while it packs a command: neither it nor those packed with it were
sent."""


def is_text(value: str) -> bool:
    """Return whether UTF-8 can encode a text; it cannot if the text was read from other bytes."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def encodable(value: str) -> str:
    """Return a text that UTF-8 can encode.

    Two surrogates that form a pair are joined, each other one becomes U+FFFD.
    """
    return (
        value
        if is_text(value)
        else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    )


def fault(words: Sequence[Any]) -> Exception | None:
    """Return the error that redis-py raises when it packs this command; None for no error."""
    for word in words:
        if isinstance(word, str):
            try:
                word.encode()
            except UnicodeEncodeError as error:
                return error
        elif isinstance(word, bool) or not isinstance(
            word, bytes | bytearray | memoryview | int | float
        ):
            return exceptions.DataError(
                f"Invalid {type(word).__name__} in a command: expected text, bytes or a number"
            )
    return None
