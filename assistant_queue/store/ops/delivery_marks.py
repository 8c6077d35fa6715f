"""Marks of abandoned `on_reply` calls that still run: no other process calls again meanwhile.

The process of the call renews the mark like a lease; it expires with that process. Plain commands
may be sent twice. Only the renewal is a script: its late copy must not overwrite that the call has
returned.
"""

from __future__ import annotations

from assistant_queue.config import to_ms
from assistant_queue.store.calls import Namespace, Operation, each, plain, text

OPEN = "open"
DONE = "done"


def announce(namespace: Namespace, batch_id: str, lease_s: float) -> Operation[None]:
    """Mark the call as open, unless it was marked, or has returned, meanwhile."""
    yield plain("SET", namespace.keys.delivery(batch_id), OPEN, "PX", to_ms(lease_s), "NX")


def keep_open(namespace: Namespace, batch_id: str, lease_s: float) -> Operation[None]:
    """Renew the mark of a running call; a late copy does not overwrite that it has returned."""
    yield namespace.call(
        "keep_delivery",
        keys={"delivery": namespace.keys.delivery(batch_id)},
        lease_ms=to_ms(lease_s),
    )


def settle(namespace: Namespace, batch_id: str, result_ttl_s: float) -> Operation[None]:
    """Mark the call as returned: the reply is delivered."""
    yield plain("SET", namespace.keys.delivery(batch_id), DONE, "PX", to_ms(result_ttl_s))


def clear(namespace: Namespace, batch_id: str) -> Operation[None]:
    """Remove the mark: the call raised, or the delivery is recorded."""
    yield plain("DEL", namespace.keys.delivery(batch_id))


def look(namespace: Namespace, batch_id: str) -> Operation[str | None]:
    """Return the mark of an earlier call; None if there is none, or its process is gone."""
    (found,) = yield from each([plain("GET", namespace.keys.delivery(batch_id))])
    said = "" if found is None else text(found)
    return said if said in {OPEN, DONE} else None
