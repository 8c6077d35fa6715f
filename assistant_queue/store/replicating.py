"""Waiting for a replica, with `durability="replicated"`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.store.calls import Call, Operation, Space, plain

REPLICA_WAIT_S = 1.0
"""Seconds until a replica must have said that it has it. Chosen: a fifth of the grace's margin; one that is well needs thousandths."""
MARKER_TTL_MS = 60_000
"""How long the marker lives. Chosen: nobody reads it."""


def replicated(space: Space, calls: Sequence[Call]) -> Operation[tuple[list[Any], bool]]:
    """Send calls, and wait until a replica has what they wrote: their replies, and whether one said so in time.

    WAIT promises something about the writes of its own connection only, and a call that is repeated on a fresh connection because its
    reply was lost writes nothing. So a marker is written behind the calls, on the same connection. A replica gets everything in the
    order in which it was written: one that has the marker has whatever the calls found done, too. (The servers of today wait for all
    that came before the connection's last command, so that no test goes red without the marker; they do not promise it.)
    """
    marker = plain("SET", space.keys.replicated, "1", "PX", MARKER_TTL_MS)
    *replies, _, replicas = yield [*calls, marker, plain("WAIT", 1, to_ms(REPLICA_WAIT_S))]
    return replies, int(replicas) > 0
