"""Process settings of the service: open files for its connections, short garbage collections."""

from __future__ import annotations

import gc
import sys
from contextlib import suppress

RESERVED = 100
"""Open files beside connections: Redis, logs, modules. Chosen: with room to spare."""
THRESHOLD = (10_000, 20, 50)
"""Objects before a collection, and collections before one of an older generation. Chosen: a
thousand streams are opened in between."""


def make_room(connections: int) -> int:
    """Raise the limit of open files as far as allowed; return how many connections it holds."""
    if sys.platform == "win32":  # no such limit
        return connections
    import resource

    wanted = connections + RESERVED
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(ValueError, OSError):  # a system that enforces another limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(RESERVED, soft - RESERVED) if soft < wanted else connections


def keep_pauses_short() -> None:
    """Exclude the objects that exist after startup from garbage collection.

    A full collection of them takes fifty milliseconds or more, during which nothing is answered.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLD)
