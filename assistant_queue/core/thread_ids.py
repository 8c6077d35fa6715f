"""Thread ids that are the provider's own, and those that are mapped to a conversation."""

from __future__ import annotations

import re
from typing import Literal

ThreadIds = Literal["auto", "provider", "mapped"]

_PROVIDERS_OWN = re.compile(r"(thread|conv)_[A-Za-z0-9]{16,}")


def providers_id(thread_id: str, mode: ThreadIds) -> str | None:
    """Return a thread id that is the provider's own; None if the thread is mapped.

    A mapped thread's conversation is created at its first use.
    """
    if mode == "provider" or (mode == "auto" and _PROVIDERS_OWN.fullmatch(thread_id)):
        return thread_id
    return None
