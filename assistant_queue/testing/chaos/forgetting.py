"""Messages that a Redis without its last second may have lost or have had answered twice: the judge counts them apart.

Only what was accepted, claimed, sent or stored within a moment that Redis forgot is one of them. All others are judged as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.provider import RunRecord

STORE_S = 1.0
"""How long after the end of a run its results may still be on their way into Redis. Chosen."""
LEAVE_S = 3.0
"""How long after it was written that a request leaves, its run may begin. Chosen: the stand-in's slowest answer, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was written between the two, seconds since the epoch, may be gone."""

    since: float
    until: float


def excused(
    sent: Sequence[Sent], runs: Iterable[RunRecord], texts_of: Mapping[str, Sequence[str]], moments: Sequence[Forgotten]
) -> frozenset[str]:
    """The texts of the messages that were in the air at such a moment.

    Args:
        sent: The producers' log.
        runs: The provider's log.
        texts_of: Run id -> the texts it was about, where the provider's log does not say; else those of the log.
        moments: When Redis forgot.
    """
    found = {message.text for message in sent if any(one.since <= message.accepted_at <= one.until for one in moments)}
    for run in runs:
        over = (run.ended_at or float("inf")) + STORE_S
        if any(run.started_at <= one.until + LEAVE_S and over >= one.since for one in moments):
            found.update(texts_of.get(run.id, run.user_texts))
    return frozenset(found)
