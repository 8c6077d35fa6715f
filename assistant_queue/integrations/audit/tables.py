"""The tables of the audit, and their versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

VERSION = 2
"""The version of the tables below; stored in the table `..._schema`.

A writer of an older version names the columns that it knows: new ones may be NULL, so that it writes
to newer tables.
"""

QUEUE_CHARS = 255
THREAD_CHARS = 512
"""Characters of a thread id, and of a message id. Source: client/arguments.py."""
NAME_CHARS = 256

_LONG = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_JSON = sa.JSON(none_as_null=True)
_TIME = sa.DateTime(timezone=True).with_variant(mysql.DATETIME(fsp=3), "mysql", "mariadb")


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables of one prefix.

    Attributes:
        batches: One row for each batch that ended.
        messages: Their messages, in order.
        writers: For each queue the worker that writes, and how many batches were lost, ever.
        losses: When batches were lost, and how many.
        schema: The version of the tables, in one row.
    """

    metadata: sa.MetaData
    batches: sa.Table
    messages: sa.Table
    writers: sa.Table
    losses: sa.Table
    schema: sa.Table


def tables_of(prefix: str) -> Tables:
    """Return the tables with names that begin with the prefix."""
    metadata = sa.MetaData()

    def name(chars: int = NAME_CHARS) -> sa.String:
        return sa.String(chars)

    def counts(*names: str) -> list[sa.Column[int]]:
        return [sa.Column(one, sa.Integer) for one in names]

    def times(*names: str) -> list[sa.Column[object]]:
        return [sa.Column(one, _TIME) for one in names]

    batches = sa.Table(
        f"{prefix}batches",
        metadata,
        sa.Column("queue", name(QUEUE_CHARS), primary_key=True),
        sa.Column("batch_id", name(64), primary_key=True),
        sa.Column("thread_id", name(THREAD_CHARS), nullable=False),
        sa.Column("outcome", name(16), nullable=False),
        sa.Column("reason", name(64)),
        sa.Column("error_code", name(128)),
        sa.Column("error_message", _LONG),
        sa.Column("run_id", name()),
        sa.Column("model", name()),
        sa.Column("service_tier", name(64)),
        sa.Column("tenant", name()),
        sa.Column("reply", _LONG),
        sa.Column("fallback", sa.Boolean, nullable=False),
        sa.Column("truncated", sa.Boolean, nullable=False),
        *counts(
            "attempts",
            "input_tokens",
            "cached_input_tokens",
            "cache_write_tokens",
            "output_tokens",
            "reasoning_tokens",
            "total_tokens",
            "rounds",
        ),
        *times("queued_at", "due_at", "claimed_at", "sent_at", "first_token_at"),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.Column("tries", _JSON),
        sa.Column("tools", _JSON),
        sa.Column("answered_by", name()),
        sa.Index(f"{prefix}batches_thread", "queue", "thread_id"),
        sa.Index(f"{prefix}batches_ended", "ended_at"),
    )
    messages = sa.Table(
        f"{prefix}messages",
        metadata,
        sa.Column("queue", name(QUEUE_CHARS), primary_key=True),
        sa.Column("batch_id", name(64), primary_key=True),
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("message_id", name(THREAD_CHARS), nullable=False),
        sa.Column("role", name(16), nullable=False),
        sa.Column("author", _LONG),
        sa.Column("tenant", name()),
        sa.Column("text", _LONG, nullable=False),
        sa.Column("instructions", _LONG),
        sa.Column("metadata", _JSON),
        sa.Column("attachments", _JSON),
        sa.Column("wants_reply", sa.Boolean, nullable=False),
        sa.Column("queued_at", _TIME),
        sa.Column("answered_by", name()),
        sa.Index(f"{prefix}messages_id", "queue", "message_id"),
    )
    writers = sa.Table(
        f"{prefix}writers",
        metadata,
        sa.Column("queue", name(QUEUE_CHARS), primary_key=True),
        sa.Column("holder", name(64), nullable=False),
        sa.Column("lost", sa.BigInteger, nullable=False),
    )
    losses = sa.Table(
        f"{prefix}losses",
        metadata,
        sa.Column("queue", name(QUEUE_CHARS), primary_key=True),
        sa.Column("lost_before", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("batches", sa.BigInteger, nullable=False),
        sa.Column("noticed_at", _TIME, nullable=False),
    )
    schema = sa.Table(
        f"{prefix}schema",
        metadata,
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    )
    return Tables(metadata, batches, messages, writers, losses, schema)


def stored_version(connection: sa.Connection, tables: Tables) -> int:
    """Return the version of the tables in a database, 0 if there are none."""
    if not sa.inspect(connection).has_table(tables.schema.name):
        return 0
    return connection.execute(sa.select(sa.func.max(tables.schema.c.version))).scalar() or 0


def upgrade(connection: sa.Connection, tables: Tables) -> int:
    """Make the tables, or bring them to this version; return the version before.

    Raises nothing for tables of a newer version, which stay as they are.
    """
    before = stored_version(connection, tables)
    if before == 0:
        tables.metadata.create_all(connection)
        connection.execute(tables.schema.insert().values(version=VERSION))
        return before
    for version in range(before + 1, VERSION + 1):
        _STEPS[version](connection, tables)
        connection.execute(tables.schema.update().values(version=version))
    return before


def _to_2(connection: sa.Connection, tables: Tables) -> None:
    """Add the person that answered."""
    for table in (tables.batches, tables.messages):
        _add_column(connection, table, table.c.answered_by)


def _add_column(connection: sa.Connection, table: sa.Table, column: sa.Column[Any]) -> None:
    """Add a column, unless it is there: MySQL keeps it if a later step fails."""
    if column.name in {one["name"] for one in sa.inspect(connection).get_columns(table.name)}:
        return
    dialect = connection.dialect
    where = dialect.identifier_preparer.format_table(table)
    what = sa.schema.CreateColumn(column).compile(dialect=dialect)
    connection.exec_driver_sql(f"ALTER TABLE {where} ADD COLUMN {what}")


_STEPS: Mapping[int, Callable[[sa.Connection, Tables], None]] = {2: _to_2}
"""For each version the step that makes it of the one before."""
