"""End of a thread's window: the rule of `store/lua/add.lua` in Python."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

WindowKind = Literal["fixed", "sliding", "adaptive"]

NEVER_MS = 253_370_764_800_000
"""9999-01-01: when a thread is due of which no waiting message wants a reply. Source:
lua/_quiet.lua."""
_LATEST_MS = 200_000_000_000_000
MAX_HOLD_MS = 60_000
"""Longest hold, and most that holds add to a window. Chosen: longer than platforms take to hand
over what was sent at once."""


def is_never(at_ms: int) -> bool:
    """Return whether a due time is none; version 0.1 may have moved `NEVER_MS` with the clock."""
    return at_ms >= _LATEST_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The window options of one add, in ms; adds of one thread may differ (`attachment_wait`).

    Attributes:
        delay_ms: How long a message waits for others.
        kind: `fixed` counts from the oldest waiting message; `sliding` starts again with each
            message; `adaptive` does so with a length that is learned (`adapted`).
        max_wait_ms: The longest that a sliding or adaptive window holds the oldest message.
        max_batch: A window with this many messages ends at once; 0 for no limit.
        max_chars: So does one with this many characters; 0 for no limit.
        hold_ms: After this message the window stays open for at least so long; 0 for no hold.
    """

    delay_ms: int
    kind: WindowKind = "fixed"
    max_wait_ms: int = 0
    max_batch: int = 0
    max_chars: int = 0
    hold_ms: int = 0

    @property
    def hold_most_ms(self) -> int:
        """Longest time that holds keep the oldest waiting message."""
        return max(self.delay_ms, self.max_wait_ms) + MAX_HOLD_MS

    def is_full(self, count: int, chars: int) -> bool:
        """Return whether so many messages, or characters, end the window."""
        return bool(
            (self.max_batch and count >= self.max_batch)
            or (self.max_chars and chars >= self.max_chars)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadPace:
    """The pace of a thread's messages, in ms.

    Attributes:
        gap_ms: Mean of the times between two messages of a burst; 0 if none is known.
        deviation_ms: Their mean deviation from it.
        seen_ms: When the last message arrived.
    """

    gap_ms: int
    deviation_ms: int
    seen_ms: int


def adapted(
    window: Window, pace: ThreadPace | None, *, now_ms: int, is_burst: bool
) -> tuple[Window, ThreadPace]:
    """Return the window of a message, and the pace with it: `lua/_pace.lua` in Python.

    Args:
        window: An adaptive one; its `delay_ms` counts until a pace is known.
        pace: As it was, None if no message of the thread is known.
        now_ms: The time of the add.
        is_burst: The message follows others that are not answered yet.
    """
    gap, deviation = (pace.gap_ms, pace.deviation_ms) if pace else (0, 0)
    ago = now_ms - pace.seen_ms if pace else -1
    if is_burst and 0 <= ago <= window.max_wait_ms:
        ago = max(ago, 1)
        if not gap:
            gap = ago
            deviation = ago // 2
        else:
            deviation = (3 * deviation + abs(ago - gap)) // 4
            gap = max((7 * gap + ago) // 8, 1)
    delay_ms = window.delay_ms
    if gap:
        delay_ms = max(min(gap + 4 * deviation, window.max_wait_ms), delay_ms // 10)
    return (
        replace(window, kind="sliding", delay_ms=delay_ms),
        ThreadPace(gap_ms=gap, deviation_ms=deviation, seen_ms=now_ms),
    )


def due_at(
    window: Window,
    *,
    now_ms: int,
    first_ms: int,
    count: int,
    previous_due_ms: int | None,
    wants_reply: bool = True,
    chars: int = 0,
) -> int:
    """Return the ms at which the thread is due after an add.

    A message that wants no reply moves no window; the first one that wants a reply opens it,
    whatever waited before.

    Args:
        window: The options of this add; of an adaptive one, as `adapted` returns it.
        now_ms: The time of the add.
        first_ms: When the oldest waiting message came (this one, if it opens the window).
        count: Waiting messages, this one included.
        previous_due_ms: When the thread was due before this add, None if nothing waited.
        wants_reply: Of the message.
        chars: Characters of the waiting messages, this one included.
    """
    if not wants_reply:
        return NEVER_MS if previous_due_ms is None else previous_due_ms
    if previous_due_ms is not None and is_never(previous_due_ms):
        previous_due_ms = None
    if previous_due_ms is not None and previous_due_ms <= now_ms:
        return previous_due_ms  # the window is over; a latecomer does not open it again
    if window.is_full(count, chars):
        return now_ms
    if window.kind != "fixed":
        return max(first_ms, min(now_ms + window.delay_ms, first_ms + window.max_wait_ms))
    due = first_ms + window.delay_ms
    if previous_due_ms is not None:
        due = min(due, previous_due_ms)  # one that waits for less can only end the window earlier
    return max(due, now_ms)


def kept_open(window: Window, due_ms: int, *, now_ms: int, first_ms: int) -> int:
    """Return the ms at which the thread is due after a message with a hold.

    A full window is not held, nor one that is over, unless a batch of the thread is not.

    Args:
        window: The options of this add.
        due_ms: When the thread is due without the hold.
        now_ms: The time of the add.
        first_ms: When the oldest waiting message came.
    """
    return max(due_ms, min(now_ms + window.hold_ms, first_ms + window.hold_most_ms))


def held_open(window: Window, *, now_ms: int, hold_ms: int, first_ms: int, due_ms: int) -> int:
    """Return the ms at which the thread is due after a typing notice.

    The rule of `store/lua/typing.lua` in Python.

    Only a sliding or adaptive window that is still open is held, never beyond `max_wait_ms` of the oldest
    message, and never made shorter.

    Args:
        window: The options of this queue.
        now_ms: The time.
        hold_ms: How long a typing notice counts.
        first_ms: When the oldest waiting message came.
        due_ms: When the thread is due so far.
    """
    if window.kind == "fixed" or due_ms <= now_ms:
        return due_ms
    return max(due_ms, min(now_ms + hold_ms, first_ms + window.max_wait_ms))
