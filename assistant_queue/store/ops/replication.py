"""Waiting for a replica, with `durability="replicated"`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.store.calls import Call, Namespace, Operation, plain

REPLICA_WAIT_S = 1.0
"""Seconds within which a replica must confirm. Chosen: a fifth of the grace's margin; a healthy
replica needs milliseconds."""
MARKER_TTL_MS = 60_000
"""Lifetime of the marker. Chosen: no code reads it, so any short time does."""


def replicated(namespace: Namespace, calls: Sequence[Call]) -> Operation[tuple[list[Any], bool]]:
    """Send calls, and wait until a replica has their writes.

    WAIT covers only the writes of the connection that sends it, and a call that is repeated on a fresh
    connection because its reply was lost writes nothing. So a marker is written after the calls, on
    the same connection. A replica receives all writes in order: one that has the marker has the
    earlier writes of a repeated call, too. (Today's servers wait for all writes before the
    connection's last command, so that no test fails without the marker; they do not promise it.)

    Returns:
        The replies, and whether a replica confirmed in time.
    """
    marker = plain("SET", namespace.keys.replicated, "1", "PX", MARKER_TTL_MS)
    *replies, _, replicas = yield [*calls, marker, plain("WAIT", 1, to_ms(REPLICA_WAIT_S))]
    return replies, int(replicas) > 0
