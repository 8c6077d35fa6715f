"""Process settings of the service: open files for its connections."""

from __future__ import annotations

import sys
from contextlib import suppress

RESERVED = 100
"""Open files beside connections: Redis, logs, modules. Chosen: with room to spare."""


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
