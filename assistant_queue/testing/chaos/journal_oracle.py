"""The judge of the journals: what the threads' journals have against what the producers sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from assistant_queue.accounting import BatchRecord
from assistant_queue.testing.chaos.oracle import Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The journal of one thread.

    Attributes:
        records: Its records.
        written: The ids of the batches in its entries, as they are stored.
        dated: Texts in the provider's conversation with the times that its notes give them.
    """

    records: Sequence[BatchRecord]
    written: Sequence[str]
    dated: Sequence[tuple[str, datetime]] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalVerdict:
    """The outcome.

    Attributes:
        batches: Records of all journals.
        dated: Messages in the provider's conversations of which the time is known.
        details: One line for each finding.
    """

    batches: int
    dated: int = 0
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether each batch left one entry, and each message is in the batch that answered it."""
        return not self.details


def judge_journals(
    journals: Mapping[str, Journal],
    sent: Sequence[Sent],
    failed: Collection[str],
    queued: Mapping[str, datetime] | None = None,
    *,
    cancelled: Collection[str] = (),
    removed: Collection[str] = (),
) -> JournalVerdict:
    """Compare.

    Args:
        journals: By thread, as they are when nothing is open any more.
        sent: The producers' log.
        failed: Ids of messages in the failed list, for whatever reason.
        queued: When the messages were queued, by their texts, as their records have it.
        cancelled: Ids of messages that were cancelled.
        removed: Ids of messages of which the removal was asked for: in no batch, as a rule.
    """
    details: list[str] = []
    for thread, journal in journals.items():
        details += _of_entries(thread, journal)
        details += _of_times(thread, journal, queued or {})
    for message in sent:
        details += _of_message(message, journals, failed, cancelled, removed)
    return JournalVerdict(
        batches=sum(len(journal.records) for journal in journals.values()),
        dated=sum(len(journal.dated) for journal in journals.values()),
        details=tuple(details),
    )


def _of_entries(thread: str, journal: Journal) -> Iterator[str]:
    for batch_id, count in Counter(journal.written).items():
        if count > 1:
            yield f"journal of {thread}: batch {batch_id} was written {count} times"
    for record in journal.records:
        if record.delivery.state == "pending":
            yield f"journal of {thread}: the delivery of batch {record.batch_id} is pending"


def _of_times(thread: str, journal: Journal, queued: Mapping[str, datetime]) -> Iterator[str]:
    for text, at in journal.dated:
        right = queued.get(text)
        if right is not None and not timedelta(0) <= right - at < timedelta(seconds=1):
            yield f"history of {thread}: {text!r} was queued at {right}, not at {at}"


def _of_message(
    message: Sent,
    journals: Mapping[str, Journal],
    failed: Collection[str],
    cancelled: Collection[str],
    removed: Collection[str],
) -> Iterator[str]:
    journal = journals.get(message.thread)
    records = () if journal is None else journal.records
    if message.message_id in failed or any(
        one.message_count > len(one.message_ids) for one in records
    ):
        return  # it was retried, or its id was left out of a large batch
    found = [one.outcome for one in records if message.message_id in one.message_ids]
    answered = sum(outcome in {"completed", "incomplete"} for outcome in found)
    said = found.count("said")
    is_right = answered == 1 and said == (message.kind == "tell") and "stopped" not in found
    if message.message_id in cancelled:
        is_right = found == ["stopped"] or (not found and message.message_id in removed)
    if not is_right and (message.is_sure or found):
        yield f"journal: {message.message_id!r} of {message.thread} is in {found}"
