"""Fields of hashes that wait for long, as `lua/_compact.lua` stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from assistant_queue.core.packed_text import MARK

_MOST_PIECES = 8
_BATCH_CHARS = 12

PROGRESS = ("progress", *(f"p{number}" for number in range(1, _MOST_PIECES)))
"""Fields with the progress of a thread's batch."""

ASK = ("ask", *(f"a{number}" for number in range(1, _MOST_PIECES)))
"""Fields of a call's record with what is asked."""


def joined(pieces: Sequence[str]) -> str:
    """Return the text of these fields; pieces beside one that is not packed are left over."""
    first, *others = pieces
    return first + "".join(others) if first.startswith(MARK) else first


def progress_in(fields: Mapping[str, str]) -> str:
    """Return the text of a batch's progress from fields with their names."""
    return joined([fields[name] for name in PROGRESS])


def is_of(batch_id: str, stored: str) -> bool:
    """Return whether a call's record names this batch: by its whole id, or by its end."""
    return bool(stored) and stored in {batch_id, batch_id[-_BATCH_CHARS:]}
