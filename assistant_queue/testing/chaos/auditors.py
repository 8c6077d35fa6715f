"""The audit of a run of the chaos runner: its database, and the rows for the judge."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

from assistant_queue import AssistantMessageQueue
from assistant_queue.store.ops.audit_spool import read_spool
from assistant_queue.testing.chaos.audit_oracle import AuditRow, AuditVerdict, judge_audit
from assistant_queue.testing.chaos.producers import Producers
from assistant_queue.testing.chaos.steering_hearing import fates_of

_PATIENCE_S = 60.0
_TICK_S = 0.1


def address_of(given: str, directory: Path) -> str:
    """Return the database's address; of `sqlite` that of a file of this run. Makes its tables."""
    from assistant_queue.integrations.audit import SqlAudit

    url = f"sqlite:///{directory.absolute() / 'audit.db'}" if given == "sqlite" else given
    sink = SqlAudit(url)
    sink.upgrade()
    sink.close()
    return url


def hear_audit(
    queue: AssistantMessageQueue, producers: Producers, url: str, failed: Collection[str]
) -> AuditVerdict:
    """Wait until the spool is empty, and judge."""
    import sqlalchemy as sa

    from assistant_queue.integrations.audit import SqlAudit

    until = time.monotonic() + _PATIENCE_S
    while True:
        spool = queue.core.store.run(read_spool(queue.core.namespace))
        if not spool.waiting or time.monotonic() > until:
            break
        time.sleep(_TICK_S)
    sink = SqlAudit(url)
    messages = sink.tables.messages.c
    batches = sink.tables.batches.c
    of_batch = (messages.queue == batches.queue) & (messages.batch_id == batches.batch_id)
    wanted = sa.select(messages.message_id, batches.thread_id, messages.text, batches.outcome)
    with sink.engine.connect() as connection:
        rows = [AuditRow(*row) for row in connection.execute(wanted.where(of_batch))]
    sink.close()
    sent = producers.sent
    # Only a message that a stop or a removal was asked for can have been cancelled.
    fates = (
        fates_of(queue, [message.message_id for message in sent])
        if producers.halts or producers.revisions
        else {}
    )
    return judge_audit(
        rows,
        sent,
        failed,
        lost=spool.lost,
        left=spool.waiting,
        cancelled={one for one, fate in fates.items() if fate.status == "cancelled"},
        new_texts={one.message_id: one.text for one in producers.revisions if one.text is not None},
    )
