"""The search of the audit's tables: ids, authors, texts, replies and the persons that said them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from assistant_queue.auditing import AuditHit
from assistant_queue.integrations.audit.tables import Tables

_MOST_S = 5
"""Seconds after which PostgreSQL ends a search. Chosen: longer than a list is waited for."""


def find_rows(
    connection: sa.Connection, tables: Tables, queue: str, needle: str, limit: int
) -> list[AuditHit]:
    """Return what matches, exact ids first, then the newest batches first."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {1000 * _MOST_S}")
    found = _by_id(connection, tables, queue, needle, limit)
    return found or _by_text(connection, tables, queue, needle, limit)


def _by_id(
    connection: sa.Connection, tables: Tables, queue: str, needle: str, limit: int
) -> list[AuditHit]:
    batches = tables.batches
    messages = tables.messages
    of_batch = (
        sa.select(batches.c.thread_id, batches.c.batch_id, batches.c.run_id, batches.c.ended_at)
        .where(batches.c.queue == queue)
        .order_by(batches.c.ended_at.desc())
        .limit(limit)
    )
    hits: list[AuditHit] = []
    for kind, column in (
        ("batch", batches.c.batch_id),
        ("run", batches.c.run_id),
        ("thread", batches.c.thread_id),
    ):
        hits += [
            AuditHit(
                kind=kind,  # type: ignore[arg-type]  # one of the three above
                thread_id=row.thread_id,
                batch_id=row.batch_id,
                run_id=row.run_id or None,
                ended_at=_aware(row.ended_at),
            )
            for row in connection.execute(of_batch.where(column == needle))
        ]
    of_message = _joined(tables, queue).where(messages.c.message_id == needle).limit(limit)
    hits += [_of_message(one, "message") for one in connection.execute(of_message)]
    return hits[:limit]


def _by_text(
    connection: sa.Connection, tables: Tables, queue: str, needle: str, limit: int
) -> list[AuditHit]:
    batches = tables.batches
    messages = tables.messages
    said = _joined(tables, queue).where(
        messages.c.text.icontains(needle, autoescape=True)
        | messages.c.author.icontains(needle, autoescape=True)
    )
    hits = []
    for row in connection.execute(said.order_by(batches.c.ended_at.desc()).limit(limit)):
        is_author = needle.casefold() in (row.author or "").casefold()
        hits.append(_of_message(row, "author" if is_author else "text"))
    replies = (
        sa.select(
            batches.c.thread_id,
            batches.c.batch_id,
            batches.c.run_id,
            batches.c.ended_at,
            batches.c.reply,
        )
        .where(
            batches.c.queue == queue,
            batches.c.reply.icontains(needle, autoescape=True)
            | batches.c.answered_by.icontains(needle, autoescape=True),
        )
        .order_by(batches.c.ended_at.desc())
        .limit(limit)
    )
    hits += [
        AuditHit(
            kind="reply",
            thread_id=row.thread_id,
            batch_id=row.batch_id,
            run_id=row.run_id or None,
            ended_at=_aware(row.ended_at),
            text=row.reply,
        )
        for row in connection.execute(replies)
    ]
    return sorted(hits, key=lambda one: one.ended_at, reverse=True)[:limit]


def _joined(tables: Tables, queue: str) -> sa.Select[Any]:
    batches = tables.batches
    messages = tables.messages
    on = (messages.c.queue == batches.c.queue) & (messages.c.batch_id == batches.c.batch_id)
    return (
        sa.select(
            messages.c.message_id,
            messages.c.author,
            messages.c.text,
            batches.c.thread_id,
            batches.c.batch_id,
            batches.c.run_id,
            batches.c.ended_at,
        )
        .join(batches, on)
        .where(batches.c.queue == queue)
    )


def _of_message(row: sa.Row[Any], kind: str) -> AuditHit:
    return AuditHit(
        kind=kind,  # type: ignore[arg-type]  # the callers pass words of it
        thread_id=row.thread_id,
        batch_id=row.batch_id,
        run_id=row.run_id or None,
        ended_at=_aware(row.ended_at),
        message_id=row.message_id,
        author=row.author,
        text=row.text,
    )


def _aware(value: datetime) -> datetime:
    """Return a time with its zone: SQLite and MySQL store none."""
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value
