"""The judge of the audit: the rows of its database against what the producers sent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from assistant_queue.testing.chaos.oracle import Sent

_ENDED_WELL = frozenset({"completed", "incomplete", "said"})


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of a message, with the outcome of its batch."""

    message_id: str
    thread: str
    text: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditVerdict:
    """The outcome.

    Attributes:
        rows: Rows of messages.
        once: Messages that are in one batch that ended well; cancelled ones that are in none.
        details: One line for each finding.
    """

    rows: int
    once: int
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether each message is in the batch that answered it, and in no other that answered."""
        return not self.details


def judge_audit(
    rows: Sequence[AuditRow],
    sent: Sequence[Sent],
    failed: Collection[str],
    *,
    lost: int,
    left: int,
    cancelled: Collection[str] = frozenset(),
    new_texts: Mapping[str, str] = MappingProxyType({}),
) -> AuditVerdict:
    """Compare.

    Args:
        rows: The rows of messages.
        sent: The producers' log.
        failed: Ids of messages in the failed list, for whatever reason.
        lost: Batches for which the spool had no room.
        left: Entries that are still in the spool.
        cancelled: Ids of messages that the queue has as cancelled: by a stop, or by their removal.
        new_texts: By message id, for those that were edited, or may have been.
    """
    known = {message.message_id: message for message in sent}
    # The id of a reply of `say` that Redis did not acknowledge is not known; its text is unique.
    unsure = {
        (one.thread, one.text): one.message_id
        for one in sent
        if one.kind == "tell" and not one.is_sure
    }
    found: defaultdict[str, list[AuditRow]] = defaultdict(list)
    for row in rows:
        is_known = row.message_id in known
        message_id = None if is_known else unsure.get((row.thread, row.text))
        found[message_id or row.message_id].append(row)
    details = [f"audit: {what}" for what in _of_spool(lost, left)]
    details += [f"audit: {one!r} was never sent" for one in sorted(found.keys() - known.keys())]
    once = 0
    for message in sent:
        if message.message_id in failed:
            continue  # it may have been answered before, in a batch of which the end was not known
        mine = found[message.message_id]
        ended = [row.outcome for row in mine if row.outcome in _ENDED_WELL]
        wanted = 0 if message.message_id in cancelled else 1
        once += len(ended) == wanted
        if len(ended) != wanted and (message.is_sure or mine):
            details.append(f"audit: {message.message_id!r} of {message.thread} is in {ended}")
        texts = {message.text, new_texts.get(message.message_id, message.text)}
        if any(row.thread != message.thread or row.text not in texts for row in mine):
            details.append(f"audit: {message.message_id!r} has another text or thread")
    return AuditVerdict(rows=len(rows), once=once, details=tuple(details))


def _of_spool(lost: int, left: int) -> Iterator[str]:
    if lost:
        yield f"{lost} batches were lost"
    if left:
        yield f"{left} entries were never written"
