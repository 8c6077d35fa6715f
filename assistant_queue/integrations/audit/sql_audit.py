"""The sink of the audit in an SQL database: PostgreSQL, SQLite or MySQL, over SQLAlchemy."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from assistant_queue.auditing import AuditHit, AuditRecord, Erasure
from assistant_queue.errors import AuditUnavailable, InvalidArgument, MissingExtra
from assistant_queue.integrations.audit.redaction import Redact, Redaction
from assistant_queue.user_code.scrubbing import remember

try:
    import sqlalchemy as sa
    from sqlalchemy import exc

    from assistant_queue.integrations.audit import row_search, writing
    from assistant_queue.integrations.audit.tables import (
        VERSION,
        stored_version,
        tables_of,
        upgrade,
    )
except ImportError as error:
    raise MissingExtra(
        "The audit needs SQLAlchemy: pip install 'assistant-queue[audit]'"
    ) from error

_log = logging.getLogger(__name__)

_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
_TIDY_S = 3600.0
"""Seconds between two looks for rows that are too old. Chosen: retention is in days."""
_MOST_SPOOL = 1_000_000
_MOST_CHARS = 10_000_000
_REFUSED = (exc.DataError, exc.IntegrityError, ValueError, TypeError, OverflowError)
"""Errors of one record: a value that the database, or its driver, does not take."""


class SqlAudit:
    """Keeps every batch that ended in an SQL database, once.

    1. workers write, one at a time for each queue, some hundred batches in one transaction
    2. a batch that is written again stays one row
    3. while the database is away batches wait in Redis; what finds no room there is counted
    """

    def __init__(
        self,
        url: str,
        *,
        redact: Redact | None = None,
        retention: float | None = None,
        max_chars: int = 100_000,
        spool: int = 10_000,
        table_prefix: str = "assistant_queue_",
        engine_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Describe a database; nothing is connected.

        Args:
            url: Its address, as SQLAlchemy reads it: `postgresql+psycopg://user:password@host/name`,
                `sqlite:///audit.db`, `mysql+pymysql://...`.
            redact: Function that returns a record as it is to be stored, or None for not at all; it
                is called in the worker, on the thread of the audit. If it raises, the record is
                stored without texts.
            retention: Seconds after which a batch is removed; None to keep all.
            max_chars: Characters of each text that are kept.
            spool: Batches that wait in Redis while the database is away.
            table_prefix: Beginning of the tables' names.
            engine_options: Further arguments of SQLAlchemy's `create_engine`.

        Raises:
            InvalidArgument: An argument cannot be used.
            MissingExtra: SQLAlchemy, or the driver that the address names, is not installed.
        """
        _check_number(retention, "retention", 1, 1e9, unit="seconds")
        _check_number(max_chars, "max_chars", 1, _MOST_CHARS, unit="characters", whole=True)
        _check_number(spool, "spool", 1, _MOST_SPOOL, unit="batches", whole=True)
        if redact is not None and not callable(redact):
            raise InvalidArgument(f"Invalid redact {redact!r}: expected a function of a record")
        if not isinstance(table_prefix, str) or not _PREFIX.match(table_prefix):
            raise InvalidArgument(
                f"Invalid table_prefix {table_prefix!r}: expected up to 31 small letters, digits "
                "and _, the first a letter"
            )
        self.spool = spool
        self.max_chars = max_chars
        self._redaction = Redaction(redact)
        self._retention = retention
        self.tables = tables_of(table_prefix)
        self._options = dict(engine_options or {})
        self._url = _read_url(url)
        self._engine = self._new_engine()
        self._pid = os.getpid()
        self._tidy_at = 0.0

    def __repr__(self) -> str:
        return f"SqlAudit({self._url.render_as_string(hide_password=True)!r})"

    # --- tables -----------------------------------------------------------------------------------

    def upgrade(self) -> int:
        """Make the tables, or bring them to this version; return the version before, 0 for none.

        Raises:
            AuditUnavailable: The database does not answer, or refuses.
        """
        with self._reaching(), self.engine.begin() as connection:
            return upgrade(connection, self.tables)

    def version(self) -> int:
        """Return the version of the tables, 0 if there are none.

        Raises:
            AuditUnavailable: The database does not answer.
        """
        with self._reaching(), self.engine.connect() as connection:
            return stored_version(connection, self.tables)

    def search(self, queue: str, needle: str, limit: int) -> list[AuditHit]:
        """Return messages and replies with an id, an author or a text, the newest first.

        It blocks, and reads all rows of a queue where no id matches; PostgreSQL ends it after some
        seconds.

        Raises:
            AuditUnavailable: The database does not answer, or took too long.
        """
        with self._reaching(), self.engine.connect() as connection:
            if stored_version(connection, self.tables) == 0:
                return []
            return row_search.find_rows(connection, self.tables, queue, needle, limit)

    # --- the contract with the worker -------------------------------------------------------------

    def take_over(self, queue: str, holder: str) -> None:
        """Make `holder` the only writer of a queue, from its next transaction on."""
        with self._reaching():
            self._check_version()
            with self.engine.begin() as connection:
                writers = self.tables.writers
                row = {"queue": queue, "holder": holder, "lost": 0}
                writing.insert_new(connection, writers, [row])
                connection.execute(
                    writers.update().where(writers.c.queue == queue).values(holder=holder)
                )

    def write(
        self, queue: str, holder: str, entries: Sequence[AuditRecord | Erasure], lost: int
    ) -> bool:
        """Store records and erase threads, in order; False if another holder has taken over."""
        ready = self._redaction.apply(entries)
        with self._reaching():
            try:
                is_written = self._write(queue, holder, ready, lost)
            except _REFUSED:
                is_written = self._write_one_by_one(queue, holder, ready, lost)
            if is_written and self._retention is not None and time.monotonic() >= self._tidy_at:
                self._tidy(self._retention)
        return is_written

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    # --- writing ----------------------------------------------------------------------------------

    def _write(
        self, queue: str, holder: str, entries: Sequence[AuditRecord | Erasure], lost: int
    ) -> bool:
        with self.engine.begin() as connection:
            # 1. worker A reads entries and hangs   2. worker B takes over, writes them, and erases
            # one of their threads                  3. A writes: it is no holder, and changes nothing
            writers = self.tables.writers
            is_ours = (writers.c.queue == queue) & (writers.c.holder == holder)
            if (
                connection.execute(writers.update().where(is_ours).values(holder=holder)).rowcount
                != 1
            ):
                return False
            records: list[AuditRecord] = []
            for entry in entries:
                if isinstance(entry, AuditRecord):
                    records.append(entry)
                    continue
                writing.insert(connection, self.tables, records)
                records = []
                writing.erase(connection, self.tables, queue, entry.thread_id)
            writing.insert(connection, self.tables, records)
            writing.note_losses(connection, self.tables, queue, lost)
        return True

    def _write_one_by_one(
        self, queue: str, holder: str, entries: Sequence[AuditRecord | Erasure], lost: int
    ) -> bool:
        for entry in entries:
            try:
                if not self._write(queue, holder, [entry], lost):
                    return False
            except _REFUSED as error:
                _log.error(
                    "audit: the database refuses a record of thread %r, which is left out (%s)",
                    entry.thread_id,
                    type(error).__name__,
                )
        return True

    def _tidy(self, retention_s: float) -> None:
        with self.engine.begin() as connection:
            is_all = writing.remove_old(connection, self.tables, retention_s)
        if is_all:
            self._tidy_at = time.monotonic() + _TIDY_S

    # --- the database -----------------------------------------------------------------------------

    @property
    def engine(self) -> sa.Engine:
        """The engine of this process."""
        if self._pid != os.getpid():
            # The parent's connections are not this process' own.
            self._engine.dispose(close=False)
            self._engine = self._new_engine()
            self._pid = os.getpid()
        return self._engine

    def _new_engine(self) -> sa.Engine:
        try:
            engine = sa.create_engine(
                self._url,
                **{"hide_parameters": True, "pool_pre_ping": True, "pool_size": 1, **self._options},
            )
        except ModuleNotFoundError as error:
            raise MissingExtra(
                f"The driver {error.name!r} of the audit's database is not installed; the extra "
                "audit brings psycopg: pip install 'assistant-queue[audit]'"
            ) from error
        except (exc.ArgumentError, TypeError) as error:
            raise InvalidArgument(
                f"Invalid url or engine_options of SqlAudit: {type(error).__name__}"
            ) from None
        if engine.dialect.is_async:
            raise InvalidArgument(
                f"Invalid url {self!r}: expected a blocking driver, such as postgresql+psycopg"
            )
        return engine

    def _check_version(self) -> None:
        with self.engine.connect() as connection:
            found = stored_version(connection, self.tables)
        if found < VERSION:
            raise AuditUnavailable(
                "The audit's database has no tables of this version: run "
                "`assistant-queue audit upgrade`"
            )

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        """Translate errors of the database; their words may quote a message, and are left out."""
        try:
            yield
        except AuditUnavailable:
            raise
        except (exc.SQLAlchemyError, OSError) as error:
            cause = getattr(error, "orig", None) or error
            raise AuditUnavailable(
                f"The audit's database failed ({type(cause).__name__}); what is to be written "
                "waits in Redis"
            ) from None


def _read_url(url: object) -> sa.URL:
    if isinstance(url, sa.URL):
        found = url
    else:
        try:
            found = sa.make_url(str(url))
        except exc.ArgumentError:
            raise InvalidArgument(
                "Invalid url of SqlAudit: expected dialect+driver://user:password@host/database"
            ) from None
    if found.password:
        remember(str(found.password))
    return found


def _check_number(
    value: object, what: str, least: float, most: float, *, unit: str, whole: bool = False
) -> None:
    if value is None and not whole:
        return
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise InvalidArgument(
            f"Invalid {what} {value!r}: expected {unit}, a number from {least:,.0f} to {most:,.0f}"
        )
