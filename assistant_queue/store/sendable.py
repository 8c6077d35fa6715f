"""Which words can be sent to Redis: text that has bytes, and numbers.

Half of a surrogate pair has no bytes in UTF-8. Models cut emoji in two, and JSON lets each half through as a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis import exceptions

REFUSED = (UnicodeEncodeError, exceptions.DataError)
"""What redis-py raises while it packs a command: nothing of it, or of those packed with it, has been sent."""


def is_text(value: str) -> bool:
    """Tell whether a text has bytes; one that was read from Redis, where it was no UTF-8, has none of its own."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def mended(value: str) -> str:
    """Return a text that has bytes: two halves that belong together are joined, each other one becomes U+FFFD."""
    return value if is_text(value) else value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def fault(words: Sequence[Any]) -> Exception | None:
    """Return why this command cannot be packed, as redis-py would say it; None if it can be."""
    for word in words:
        if isinstance(word, str):
            try:
                word.encode()
            except UnicodeEncodeError as error:
                return error
        elif isinstance(word, bool) or not isinstance(word, bytes | bytearray | memoryview | int | float):
            return exceptions.DataError(f"{type(word).__name__} is no text and no number")
    return None
