"""A delivery's progress in memory, for tests of channels."""

from __future__ import annotations

from collections.abc import Callable


class DeliveryCrash(BaseException):
    """Death of the delivering process at a chosen point."""


class MemoryProgress:
    """Progress of one delivery, kept as the outbox keeps it: what was stored survives a crash.

    Attributes:
        parts_sent: Parts that the platform has.
        part_ids: Their ids.
        uncertain_part: A part that was begun and not confirmed.
        preview: Id of the message that shows half of the reply.
        at: Called with `sending` or `sent` and the part's index, after the fact is stored; raise
            `DeliveryCrash` in it to die there.
    """

    def __init__(self, at: Callable[[str, int], None] | None = None) -> None:
        """Begin a delivery."""
        self.parts_sent = 0
        self.part_ids: tuple[str | None, ...] = ()
        self.uncertain_part: int | None = None
        self.preview: str | None = None
        self.at = at

    async def sending(self, index: int, total: int) -> None:
        """Store that a part is about to be sent."""
        assert index == self.parts_sent < total, "parts are sent in order"
        self.uncertain_part = index
        if self.at is not None:
            self.at("sending", index)

    async def sent(self, index: int, total: int, part_id: str | None) -> None:
        """Store that the platform has a part."""
        assert index == self.parts_sent < total, "parts are sent in order"
        self.uncertain_part = None
        self.part_ids = (*self.part_ids, part_id)
        self.parts_sent += 1
        if self.at is not None:
            self.at("sent", index)

    def settle(self) -> None:
        """Note that a part that was begun was not sent: after `RetryLater` or `Undeliverable`."""
        self.uncertain_part = None
