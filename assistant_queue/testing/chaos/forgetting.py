"""Messages that a Redis without its last second may lose or have answered twice.

The judge counts them separately. Only messages that were accepted, claimed, sent or stored within
a moment that Redis lost are among them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.provider import RunRecord

STORE_S = 1.0
"""Seconds after the end of a run in which its results may be in transit to Redis. Chosen: a busy
machine stores them within one."""
LEAVE_S = 3.0
"""Seconds from storing a batch before its request to the beginning of its run. Chosen: the stand-in's
slowest answer, on a busy machine."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A moment, in seconds since the epoch, with writes that Redis may have lost."""

    since: float
    until: float


def excused(
    sent: Sequence[Sent],
    runs: Iterable[RunRecord],
    texts_of: Mapping[str, Sequence[str]],
    moments: Sequence[Forgotten],
) -> frozenset[str]:
    """Return the texts of messages that were in progress at such a moment.

    Args:
        sent: The producers' log.
        runs: The provider's log.
        texts_of: Run id -> its texts, for runs without them in the provider's log.
        moments: Moments that Redis lost.
    """
    found = {
        message.text
        for message in sent
        if any(one.since <= message.accepted_at <= one.until for one in moments)
    }
    for run in runs:
        over = (run.ended_at or float("inf")) + STORE_S
        if any(run.started_at <= one.until + LEAVE_S and over >= one.since for one in moments):
            found.update(texts_of.get(run.id, run.user_texts))
    return frozenset(found)
