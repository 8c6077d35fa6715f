"""The mark of a call of `on_reply` that was given up while it goes on: no process calls again while another is in it.

The process that is in the call keeps the mark alive, as it would a lease; it lapses with that process. Plain commands may be
sent twice. Only keeping it alive is a script: a late copy must not take back that the call has returned.
"""

from __future__ import annotations

from assistant_queue.config import to_ms
from assistant_queue.store.calls import Operation, Space, each, plain, text

OPEN, DONE = "open", "done"


def announce(space: Space, batch_id: str, lease_s: float) -> Operation[None]:
    """Mark the call as open, unless it has been marked, or has returned, meanwhile."""
    yield plain("SET", space.keys.delivery(batch_id), OPEN, "PX", to_ms(lease_s), "NX")


def keep_open(space: Space, batch_id: str, lease_s: float) -> Operation[None]:
    """The call goes on. A late copy of this does not take back that it has returned."""
    yield space.call("keep_delivery", keys={"delivery": space.keys.delivery(batch_id)}, lease_ms=to_ms(lease_s))


def settle(space: Space, batch_id: str, result_ttl_s: float) -> Operation[None]:
    """The call has returned: that was the delivery."""
    yield plain("SET", space.keys.delivery(batch_id), DONE, "PX", to_ms(result_ttl_s))


def clear(space: Space, batch_id: str) -> Operation[None]:
    """The call has raised, or the delivery has been noted: nothing more is to be known of it."""
    yield plain("DEL", space.keys.delivery(batch_id))


def look(space: Space, batch_id: str) -> Operation[str | None]:
    """Return what is known of an earlier call; None if there is none, or its process is gone."""
    (found,) = yield from each([plain("GET", space.keys.delivery(batch_id))])
    said = "" if found is None else text(found)
    return said if said in {OPEN, DONE} else None
