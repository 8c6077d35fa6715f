"""Processes that end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""Source: prctl(2)."""


def die_with_parent(parent: int | None = None) -> None:
    """Have the kernel kill this process when its parent dies.

    Linux only; elsewhere the lease's end is the bound.

    Args:
        parent: The parent's process id before the fork. A parent that has died since is not
            missed: this process ends at once.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
