"""Wishes for a batch that a worker has: another process wants it to end, or to change.

A wish is stored with the thread and names the batch, so that a worker that takes over finds it. The
holder of the lease is notified; between two steps of the flow, and within a long one, it is thrown
into the flow as `Wished`.
"""

from __future__ import annotations

from enum import StrEnum

from assistant_queue.errors import AssistantQueueError


class Wish(StrEnum):
    """Kinds of wishes; the values are stored (`store/lua/_wish.lua`)."""

    STOP = "stop"
    """The batch ends for good; nothing of it is sent any more."""
    INTERRUPT = "interrupt"
    """Its run is cancelled; it is answered together with the messages that wait."""
    STEER = "steer"
    """The messages that wait join it with the outputs of its next tool round."""


class Wished(AssistantQueueError):
    """The batch is wanted to end, or to change; thrown into the flow instead of an answer."""

    def __init__(self, wish: Wish, *, unsent: bool = False) -> None:
        """`unsent`: the request of the step, which starts work, did not leave."""
        super().__init__(f"another process asked for {wish.value!r}")
        self.wish = wish
        self.unsent = unsent


def wish_in(stored: str) -> Wish | None:
    """Return a wish as a script returned it; None for none, or one of a newer version."""
    return Wish(stored) if stored in _KNOWN else None


_KNOWN = frozenset(wish.value for wish in Wish)
