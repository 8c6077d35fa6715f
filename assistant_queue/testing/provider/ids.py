"""Ids in the provider's form: a prefix, an underscore and enough random letters and digits."""

from __future__ import annotations

import secrets

_RANDOM_BYTES = 16


def new_id(prefix: str) -> str:
    """A fresh id such as `conv_3f...`: the prefix and 32 hexadecimal digits.

    Args:
        prefix: `conv`, `resp`, `msg`, `fc`, `call`, `thread`, `run`, `asst`, `step`.
    """
    return f"{prefix}_{secrets.token_hex(_RANDOM_BYTES)}"
