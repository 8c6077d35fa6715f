"""Redaction of records by a user's function, before they are stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from assistant_queue.auditing import AuditMessage, AuditRecord, Erasure
from assistant_queue.user_code.error_text import log_raised

_log = logging.getLogger(__name__)

Redact = Callable[[AuditRecord], AuditRecord | None]


class Redaction:
    """Calls `redact` for each record; one for which it raises is stored without texts."""

    def __init__(self, redact: Redact | None) -> None:
        """None leaves all records as they are."""
        self._redact = redact
        self._has_reported = False

    def apply(self, entries: Sequence[AuditRecord | Erasure]) -> Sequence[AuditRecord | Erasure]:
        """Return the entries as they are to be stored."""
        redact = self._redact
        if redact is None:
            return entries
        found = (
            entry if isinstance(entry, Erasure) else self._one(redact, entry) for entry in entries
        )
        return [entry for entry in found if entry is not None]

    def _one(self, redact: Redact, record: AuditRecord) -> AuditRecord | None:
        try:
            found = redact(record)
            is_record = found is None or isinstance(found, AuditRecord)
            if not is_record:
                raise TypeError(f"redact returned {type(found).__name__}, not an AuditRecord")
        except Exception as error:  # noqa: BLE001 - the user's function
            self._report(record, error)
            return without_texts(record)
        if found is None:
            return None
        # What makes it one row, and by which it is erased, stays.
        return replace(
            found, queue=record.queue, batch_id=record.batch_id, thread_id=record.thread_id
        )

    def _report(self, record: AuditRecord, error: Exception) -> None:
        if self._has_reported:
            return
        self._has_reported = True
        log_raised(
            _log,
            "audit: redact failed for batch %s, which is stored without texts, as others will be",
            record.batch_id,
            error=error,
        )


def without_texts(record: AuditRecord) -> AuditRecord:
    """Return a record without what people and the model wrote."""
    messages = tuple(
        AuditMessage(
            message_id=one.message_id,
            text="",
            tenant=one.tenant,
            queued_at=one.queued_at,
            wants_reply=one.wants_reply,
            role=one.role,
        )
        for one in record.messages
    )
    error = None if record.error is None else replace(record.error, message="")
    return replace(record, messages=messages, reply=None, error=error)
