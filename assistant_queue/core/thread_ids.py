"""Whose id a thread id is."""

from __future__ import annotations

import re
from typing import Literal

ThreadIds = Literal["auto", "provider", "mapped"]

_PROVIDERS_OWN = re.compile(r"(thread|conv)_[A-Za-z0-9]{16,}")


def providers_id(thread_id: str, mode: ThreadIds) -> str | None:
    """The provider's id that a thread id is itself; None if the thread is mapped to a conversation created at first use."""
    if mode == "provider" or (mode == "auto" and _PROVIDERS_OWN.fullmatch(thread_id)):
        return thread_id
    return None
