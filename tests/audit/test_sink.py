"""The sink on a real SQLite and a real PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from assistant_queue.accounting import AttemptInfo, ErrorInfo, Timeline, ToolCallRecord, Usage
from assistant_queue.auditing import AuditMessage, AuditRecord, Erasure
from assistant_queue.errors import AuditUnavailable, InvalidArgument, MissingExtra
from assistant_queue.integrations.audit import SqlAudit
from assistant_queue.integrations.audit.rows import batch_row
from assistant_queue.integrations.audit.tables import Tables, tables_of
from assistant_queue.integrations.audit.writing import insert_new, insert_statement
from tests.audit.conftest import PostgresServer, rows_of

NOW = datetime(2026, 11, 30, 12, 0, 0, 123000, tzinfo=UTC)


def record(batch_id: str = "b1", thread_id: str = "t", **fields: Any) -> AuditRecord:
    given: dict[str, Any] = {
        "queue": "q",
        "batch_id": batch_id,
        "thread_id": thread_id,
        "outcome": "completed",
        "messages": (AuditMessage(message_id=f"m-{batch_id}", text="My lamp is broken"),),
        "reply": "Which lamp?",
        "ended_at": NOW,
    }
    return AuditRecord(**{**given, **fields})


def write(sink: SqlAudit, *entries: AuditRecord | Erasure, lost: int = 0) -> bool:
    return sink.write("q", "w1", entries, lost)


@pytest.fixture
def taken(audit: SqlAudit) -> SqlAudit:
    audit.take_over("q", "w1")
    return audit


def ids(sink: SqlAudit) -> Sequence[str]:
    return [row["batch_id"] for row in rows_of(sink, "batches")]


def test_everything_is_stored_as_it_was(taken: SqlAudit) -> None:
    usage = Usage(
        input_tokens=7, output_tokens=5, total_tokens=12, rounds=2, model="m", service_tier="flex"
    )
    attempt = AttemptInfo(
        number=1,
        started_at=NOW,
        ended_at=NOW,
        worker="w",
        run_id="r",
        error=ErrorInfo(code="server_error", message="oops"),
    )
    settled: dict[str, Any] = {"verdict": "denied", "settled_by": "eve", "settled_at": NOW}
    tool = ToolCallRecord(name="find", call_id="c", started_at=NOW, duration_s=0.25, **settled)
    message = AuditMessage(
        message_id="m1",
        text="🙂 ä",
        author="Ann",
        tenant="acme",
        instructions="be kind",
        metadata={"k": "v"},
        attachments=[{"type": "input_image"}],
        queued_at=NOW,
        answered_by="mia",
    )
    timeline = Timeline(queued_at=NOW, claimed_at=NOW + timedelta(seconds=1), attempts=(attempt,))
    write(
        taken,
        record(
            messages=(message,),
            usage=usage,
            timeline=timeline,
            tools=(tool,),
            run_id="r",
            model="m",
            tenant="acme",
            attempts=1,
            answered_by="mia",
        ),
    )
    (batch,) = rows_of(taken, "batches")
    (row,) = rows_of(taken, "messages")
    assert (batch["input_tokens"], batch["rounds"], batch["service_tier"]) == (7, 2, "flex")
    (call,) = batch["tools"]
    assert (call["name"], call["verdict"], call["settled_by"]) == ("find", "denied", "eve")
    assert datetime.fromisoformat(call["settled_at"]) == NOW
    assert (batch["answered_by"], row["answered_by"]) == ("mia", "mia")
    assert batch["tries"][0]["error"] == "server_error"
    assert _utc(batch["ended_at"]) == NOW
    assert _utc(batch["claimed_at"]) == NOW + timedelta(seconds=1)
    assert (row["text"], row["author"], row["metadata"]) == ("🙂 ä", "Ann", {"k": "v"})
    assert row["attachments"] == [{"type": "input_image"}]


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def test_a_batch_that_is_written_again_stays_one_row(taken: SqlAudit) -> None:
    assert write(taken, record(), record("b2"))
    assert write(taken, record(reply="another"), record("b3"))
    assert ids(taken) == ["b1", "b2", "b3"]
    assert rows_of(taken, "batches")[0]["reply"] == "Which lamp?"
    assert len(rows_of(taken, "messages")) == 3


def test_only_the_writer_of_a_queue_writes(taken: SqlAudit) -> None:
    taken.take_over("other", "w2")
    assert taken.write("other", "w2", [record(queue="other")], 0)
    taken.take_over("q", "w2")
    assert not write(taken, record())
    assert taken.write("q", "w2", [record("b2")], 0)
    assert ids(taken) == ["b2", "b1"] or ids(taken) == ["b1", "b2"]


def test_a_thread_is_erased_in_order(taken: SqlAudit) -> None:
    write(taken, record("b1"), record("b2", "other"))
    write(taken, record("b3"), Erasure("t"), record("b4"))
    assert sorted(ids(taken)) == ["b2", "b4"]
    assert {row["batch_id"] for row in rows_of(taken, "messages")} == {"b2", "b4"}


def test_what_no_database_takes_is_replaced(taken: SqlAudit) -> None:
    text = "a\0b\ud83d"
    message = AuditMessage(message_id="m", text=text, author=text, metadata={text: text})
    assert write(taken, record(messages=(message,), reply=text, run_id=text, thread_id="x\0"))
    assert rows_of(taken, "batches")[0]["reply"] == "a�b?"
    assert rows_of(taken, "messages")[0]["metadata"] == {"a�b?": "a�b?"}


def test_one_that_the_database_refuses_does_not_hold_up_the_others(
    taken: SqlAudit, caplog: pytest.LogCaptureFixture
) -> None:
    bad = record("b2", attempts=2**70)
    assert write(taken, record("b1"), bad, record("b3"))
    assert ids(taken) == ["b1", "b3"]
    assert "left out" in caplog.text
    assert "My lamp" not in caplog.text


def test_losses_are_rows(taken: SqlAudit) -> None:
    write(taken, record(), lost=0)
    write(taken, lost=3)
    write(taken, lost=3)
    write(taken, lost=5)
    assert [row["batches"] for row in rows_of(taken, "losses")] == [3, 2]


def test_what_is_too_old_is_removed(url: str) -> None:
    sink = SqlAudit(url, retention=60)
    sink.upgrade()
    sink.take_over("q", "w1")
    now = datetime.now(UTC)
    write(sink, record("old", ended_at=now - timedelta(seconds=61)), record("new", ended_at=now))
    assert ids(sink) == ["new"]
    assert len(rows_of(sink, "messages")) == 1
    sink.close()


def test_a_record_is_stored_as_the_users_function_leaves_it(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def redact(one: AuditRecord) -> Any:
        if one.batch_id == "none":
            return None
        if one.batch_id == "raises":
            raise ValueError("My lamp")
        if one.batch_id == "wrong":
            return "a text"
        return replace(one, reply="[cut]", batch_id="b7", thread_id="another")

    sink = SqlAudit(url, redact=redact)
    sink.upgrade()
    sink.take_over("q", "w1")
    write(sink, *(record(one) for one in ("b1", "none", "raises", "wrong")))
    found = {row["batch_id"]: (row["thread_id"], row["reply"]) for row in rows_of(sink, "batches")}
    assert found == {"b1": ("t", "[cut]"), "raises": ("t", None), "wrong": ("t", None)}
    texts = {row["batch_id"]: row["text"] for row in rows_of(sink, "messages")}
    assert texts == {"b1": "My lamp is broken", "raises": "", "wrong": ""}
    assert caplog.text.count("redact failed") == 1
    sink.close()


def test_without_tables_it_says_what_to_do(url: str) -> None:
    sink = SqlAudit(url)
    with pytest.raises(AuditUnavailable, match="assistant-queue audit upgrade"):
        sink.take_over("q", "w1")
    assert sink.version() == 0
    assert (sink.upgrade(), sink.upgrade(), sink.version()) == (0, 2, 2)
    sink.take_over("q", "w1")
    sink.close()


def first_version(sink: SqlAudit) -> Tables:
    """Return the tables as version 1 had them."""
    old = sa.MetaData()
    for table in sink.tables.metadata.tables.values():
        columns = [one._copy() for one in table.columns if one.name != "answered_by"]
        sa.Table(table.name, old, *columns)
    named = old.tables
    kinds = ("batches", "messages", "writers", "losses", "schema")
    return Tables(old, *(named[f"assistant_queue_{kind}"] for kind in kinds))


def test_tables_of_the_first_version_get_new_columns_and_take_older_writers(url: str) -> None:
    sink = SqlAudit(url)
    older = first_version(sink)
    with sink.engine.begin() as connection:
        older.metadata.create_all(connection)
        connection.execute(older.schema.insert().values(version=1))

    def write_as_before(batch_id: str) -> None:
        known = {one.name for one in older.batches.columns}
        row = {name: one for name, one in batch_row(record(batch_id)).items() if name in known}
        with sink.engine.begin() as connection:
            insert_new(connection, older.batches, [row])

    write_as_before("b1")
    with pytest.raises(AuditUnavailable, match="assistant-queue audit upgrade"):
        sink.take_over("q", "w1")
    assert (sink.version(), sink.upgrade(), sink.upgrade(), sink.version()) == (1, 1, 2, 2)
    with sink.engine.begin() as connection:  # as MySQL leaves it if the last step failed
        connection.execute(sink.tables.schema.update().values(version=1))
    assert (sink.upgrade(), sink.version()) == (1, 2)
    sink.take_over("q", "w1")
    write(sink, record("b2", answered_by="eve"))
    write_as_before("b3")
    found = {row["batch_id"]: row["answered_by"] for row in rows_of(sink, "batches")}
    assert found == {"b1": None, "b2": "eve", "b3": None}
    with sink.engine.begin() as connection:
        connection.execute(sink.tables.schema.update().values(version=3))
    assert (sink.upgrade(), sink.version()) == (3, 3), "a newer version stays"
    sink.take_over("q", "w2")
    sink.close()


def test_a_database_that_is_away_is_no_error_of_another_kind(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sink = SqlAudit(postgres.url.replace(str(postgres.port), "9"))
    with pytest.raises(AuditUnavailable) as raised:
        sink.take_over("q", "w1")
    assert raised.value.retryable
    assert "a-secret" not in f"{raised.value!r} {sink!r} {caplog.text}"
    sink.close()


def test_the_text_of_a_failing_statement_is_in_no_error(taken: SqlAudit) -> None:
    with taken.engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE assistant_queue_messages"))
    with pytest.raises(AuditUnavailable) as raised:
        write(taken, record())
    assert "lamp" not in str(raised.value)
    assert not ids(taken), "nothing of the transaction is there"


@pytest.mark.parametrize(
    "given",
    [
        {"url": "no address"},
        {"url": 5},
        {"url": "sqlite+aiosqlite:///x.db"},
        {"retention": 0},
        {"retention": "soon"},
        {"retention": float("nan")},
        {"max_chars": 0},
        {"max_chars": 1.5},
        {"spool": True},
        {"spool": 0},
        {"table_prefix": "a; DROP"},
        {"table_prefix": 7},
        {"redact": "x"},
        {"engine_options": {"no_such": 1}},
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    usual: dict[str, Any] = {"url": f"sqlite:///{tmp_path}/a.db"}
    with pytest.raises((InvalidArgument, MissingExtra), match=r"Invalid|not installed"):
        SqlAudit(**(usual | given))


def test_a_driver_that_is_missing_is_named() -> None:
    with pytest.raises(MissingExtra, match="cx_Oracle"):
        SqlAudit("oracle+cx_oracle://audit@db/audit")


def test_mysql_leaves_a_row_alone_that_is_there() -> None:
    tables = tables_of("assistant_queue_")

    statement = insert_statement("mysql", tables.batches)
    said = str(statement.compile(dialect=mysql.dialect()))
    assert "ON DUPLICATE KEY UPDATE queue = assistant_queue_batches.queue" in said
    made = sa.schema.CreateTable(tables.batches).compile(dialect=mysql.dialect())
    assert "LONGTEXT" in str(made)
    assert "DATETIME(3)" in str(made)
