"""What a process of the service sets up for itself: room for its connections, and short pauses of the garbage collector."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress

RESERVED = 100
"""Open files beside connections: Redis, logs, modules. Chosen."""
THRESHOLD = (10_000, 20, 50)
"""Objects before a collection, and collections before one of an older generation. Chosen: a thousand streams are opened in between."""


def make_room(connections: int) -> int:
    """Raise the limit of open files, as far as the process may, and return how many connections it holds."""
    if sys.platform == "win32":  # no such limit
        return connections
    import resource

    wanted = connections + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(ValueError, OSError):  # a system with another limit of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(RESERVED, soft - RESERVED) if soft < wanted else connections


def keep_pauses_short() -> None:
    """Have the garbage collector leave alone what is there for good, after everything was imported and started.

    A full collection of it takes fifty milliseconds or more, in which nothing is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLD)
