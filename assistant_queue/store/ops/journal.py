"""Operations on a thread's journal: what became of its latest batches.

The scripts that end a batch, or settle a delivery, write it (`lua/_journal.lua`).
"""

from __future__ import annotations

from assistant_queue.accounting import BatchRecord
from assistant_queue.config import Config, to_ms
from assistant_queue.core.batch_records import load_records
from assistant_queue.core.history_notes import NO_NOTES, HistoryNotes, load_notes
from assistant_queue.errors import BatchNotFound, NotPermitted
from assistant_queue.store.calls import JournalRules, Namespace, Operation, each, plain, texts


def journal_rules(config: Config) -> JournalRules:
    """Return the retention of journals that the options ask for."""
    return JournalRules(most=config.journal, ttl_ms=to_ms(config.journal_ttl))


def read_entries(namespace: Namespace, thread_id: str) -> Operation[list[str]]:
    """Return the entries of a journal as they are stored; of a key of another type, none."""
    (found,) = yield from each([plain("LRANGE", namespace.keys.journal(thread_id), 0, -1)])
    return texts(found or [])


def read_notes(namespace: Namespace, thread_id: str) -> Operation[HistoryNotes]:
    """Return a journal's notes of the history; none for a user that may not read journals."""
    try:
        return load_notes((yield from read_entries(namespace, thread_id)))
    except NotPermitted:
        return NO_NOTES


def read_timeline(
    namespace: Namespace, thread_id: str, limit: int, before: str | None
) -> Operation[list[BatchRecord]]:
    """Return the latest batches of a thread, newest first; those before `before`, if it is given.

    A key of another type has none.

    Raises:
        BatchNotFound: `before` is not in the journal, or not any more.
    """
    records = load_records(thread_id, (yield from read_entries(namespace, thread_id)))
    if before is None:
        return records[:limit]
    for place, record in enumerate(records, 1):
        if record.batch_id == before:
            return records[place : place + limit]
    raise BatchNotFound(
        f"Batch {before!r} is not in the journal of thread {thread_id!r}: it has not ended, is of "
        "another thread, or is older than journal and journal_ttl keep"
    )
