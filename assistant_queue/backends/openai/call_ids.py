"""Convert ids of tool calls to the forms that servers insist on. Pure.

Source: the chat templates of Mistral's models take nine letters and digits, and nothing else; some
    gateways want OpenAI's prefix.
"""

from __future__ import annotations

import hashlib
import re
import string

_CHARS = string.ascii_letters + string.digits
_LENGTH = 9
PREFIX = "call_"
"""Prefix of OpenAI's own ids."""

_SHORT = re.compile(rf"[A-Za-z0-9]{{{_LENGTH}}}")


def is_short(ident: str) -> bool:
    """Return whether an id has the form already."""
    return _SHORT.fullmatch(ident) is not None


def shortened(ident: str) -> str:
    """Return the id in that form.

    The result depends on the id alone, so that a call and its output still name each other.
    """
    if is_short(ident):
        return ident
    number = int.from_bytes(hashlib.sha256(ident.encode()).digest(), "big")
    return "".join(_CHARS[number // len(_CHARS) ** place % len(_CHARS)] for place in range(_LENGTH))


def prefixed(ident: str) -> str:
    """Return the id with OpenAI's prefix."""
    return ident if ident.startswith(PREFIX) else f"{PREFIX}{ident}"
