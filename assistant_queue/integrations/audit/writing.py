"""Steps of a transaction of the audit."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, sqlite

from assistant_queue.auditing import AuditRecord
from assistant_queue.integrations.audit.rows import Row, batch_row, message_rows
from assistant_queue.integrations.audit.tables import Tables

_PAGE = 1000
"""Rows that one statement removes. Chosen: some milliseconds, and few enough ids for one statement
of any database."""


def insert_new(connection: sa.Connection, table: sa.Table, rows: Sequence[Row]) -> None:
    """Insert rows; those that are there already, by their primary key, stay as they are."""
    if connection.dialect.name == "postgresql":
        # One argument instead of some thirty a row: a third of a worker's time.
        connection.execute(_from_json(table), {"rows": _encode(rows)})
    elif connection.dialect.name == "sqlite":
        statement, values = _of_sqlite(table)
        connection.exec_driver_sql(statement, [values(row) for row in rows])
    else:
        connection.execute(insert_statement(connection.dialect.name, table), rows)


@cache
def _from_json(table: sa.Table) -> sa.TextClause:
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return sa.text(
        f'INSERT INTO "{table.name}" ({columns}) SELECT {columns} '  # noqa: S608 - our own names
        f'FROM json_populate_recordset(NULL::"{table.name}", CAST(:rows AS json)) '
        "ON CONFLICT DO NOTHING"
    )


@cache
def _of_sqlite(table: sa.Table) -> tuple[str, Callable[[Row], tuple[Any, ...]]]:
    """Return the statement for one row, and what makes a row its values: half of the time."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    marks = ", ".join("?" for _ in table.columns)
    dialect = sqlite.dialect()
    writers = [
        (column.name, column.type.dialect_impl(dialect).bind_processor(dialect))
        for column in table.columns
    ]

    def values(row: Row) -> tuple[Any, ...]:
        return tuple(
            row[name] if write is None or row[name] is None else write(row[name])
            for name, write in writers
        )

    statement = f'INSERT INTO "{table.name}" ({columns}) VALUES ({marks}) ON CONFLICT DO NOTHING'  # noqa: S608 - our own names
    return statement, values


def _plain(value: Any) -> str:
    """Return a time as text; nothing else is no value of JSON."""
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(type(value).__name__)


_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=_plain).encode


def insert_statement(dialect: str, table: sa.Table) -> Any:
    """Return the statement of any other database that does so."""
    if dialect in {"mysql", "mariadb"}:
        # INSERT IGNORE would pass over other errors, too.
        key = next(iter(table.primary_key.columns))
        return mysql.insert(table).on_duplicate_key_update({key.name: key})
    return table.insert()


def insert(connection: sa.Connection, tables: Tables, records: Sequence[AuditRecord]) -> None:
    """Store records; those that are there stay as they are."""
    if not records:
        return
    insert_new(connection, tables.batches, [batch_row(one) for one in records])
    messages = [row for one in records for row in message_rows(one)]
    if messages:
        insert_new(connection, tables.messages, messages)


def erase(connection: sa.Connection, tables: Tables, queue: str, thread_id: str) -> None:
    """Remove all records of a thread."""
    batches = tables.batches
    of_thread = (batches.c.queue == queue) & (batches.c.thread_id == thread_id)
    ids = connection.execute(sa.select(batches.c.batch_id).where(of_thread)).scalars().all()
    for start in range(0, len(ids), _PAGE):
        _delete(connection, tables, queue, ids[start : start + _PAGE])


def _delete(connection: sa.Connection, tables: Tables, queue: str, ids: Sequence[str]) -> None:
    for table in (tables.messages, tables.batches):
        of_ids = (table.c.queue == queue) & table.c.batch_id.in_(ids)
        connection.execute(table.delete().where(of_ids))


def note_losses(connection: sa.Connection, tables: Tables, queue: str, lost: int) -> None:
    """Add a row that says how many batches were lost since the last one."""
    writers = tables.writers
    of_queue = writers.c.queue == queue
    known = connection.execute(sa.select(writers.c.lost).where(of_queue)).scalar_one()
    if lost <= known:
        return
    row = {
        "queue": queue,
        "lost_before": known,
        "batches": lost - known,
        "noticed_at": datetime.now(UTC),
    }
    insert_new(connection, tables.losses, [row])
    connection.execute(writers.update().where(of_queue).values(lost=lost))


def remove_old(connection: sa.Connection, tables: Tables, retention_s: float) -> bool:
    """Remove some of what is too old; return whether that is all of it."""
    batches = tables.batches
    before = datetime.now(UTC) - timedelta(seconds=retention_s)
    found = connection.execute(
        sa.select(batches.c.queue, batches.c.batch_id)
        .where(batches.c.ended_at < before)
        .limit(_PAGE)
    ).all()
    for queue in {row[0] for row in found}:
        _delete(connection, tables, queue, [row[1] for row in found if row[0] == queue])
    return len(found) < _PAGE
