"""Messages on their way into the queue: where they go, and how long they wait there."""

from __future__ import annotations

from dataclasses import dataclass

from assistant_queue.models import Message
from assistant_queue.row_types import MidRun


@dataclass(slots=True, kw_only=True)  # frozen ones take twice as long to make
class Addition:
    """One message to be added.

    Attributes:
        thread_id: Its thread.
        message: The message.
        delay_s: Seconds that it waits for others; None for the queue's own.
        hold_s: Seconds for which the window stays open for what belongs to it.
        flushes: It ends the window of its thread (the option `flush_when`).
        mid_run: As the option; None for that of the queue.
    """

    thread_id: str
    message: Message
    delay_s: float | None = None
    hold_s: float = 0.0
    flushes: bool = False
    mid_run: MidRun | None = None
