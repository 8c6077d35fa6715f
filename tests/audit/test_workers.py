"""The audit of every kind of worker, under kills and outages."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue, BatchFailed, ThreadBusy
from assistant_queue.cli import main
from assistant_queue.integrations.audit import SqlAudit
from assistant_queue.store.ops.audit_spool import read_spool
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import RunFailure
from tests.audit.conftest import PostgresServer, rows_of
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import KINDS, Service, wait_until


@pytest.fixture
def audited(
    request: pytest.FixtureRequest,
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    audit: SqlAudit,
) -> Iterator[Service]:
    """Workers of one kind, with an audit."""
    kind = getattr(request, "param", "concurrent")
    log = request.getfixturevalue("tmp_path") / "workers.log"
    made = Service(kind, one_redis.url, prefix, provider, log)
    made.audit = audit.engine.url.render_as_string(hide_password=False)
    made.on_reply = True
    yield made
    made.stop()


def waiting(queue: AssistantMessageQueue) -> int:
    return queue.core.store.run(read_spool(queue.core.namespace)).waiting


def written(queue: AssistantMessageQueue) -> bool:
    return waiting(queue) == 0


def answered_ids(audit: SqlAudit) -> Counter[str]:
    """Return how often each message is in a batch that was answered."""
    ended = {row["batch_id"] for row in rows_of(audit, "batches") if row["outcome"] == "completed"}
    return Counter(
        row["message_id"] for row in rows_of(audit, "messages") if row["batch_id"] in ended
    )


@pytest.mark.parametrize(
    ("audited", "url"),
    list(zip(KINDS, itertools.cycle(["sqlite", "postgresql"]), strict=False)),
    indirect=True,
)
def test_every_kind_of_worker_writes(
    audited: Service, audit: SqlAudit, provider: StandInProvider
) -> None:
    queue = audited.start(max_attempts=1)
    replies = {}
    for number in range(3):
        thread = f"t{number}"
        receipt = queue.add_message_to_thread(thread, f"hello {number}")
        replies[receipt.message_id] = queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    provider.model = lambda _: RunFailure("server_error", "no such lamp")
    failing = queue.add_message_to_thread("t0", "fail")
    with pytest.raises(BatchFailed):
        queue.wait_for_reply(failing.message_id, PATIENCE_S)
    wait_until(lambda: written(queue), "the spool is empty")
    assert answered_ids(audit) == Counter(list(replies))
    found = {row["outcome"]: row for row in rows_of(audit, "batches")}
    assert found["completed"]["reply"] in replies.values()
    assert "no such lamp" in found["failed"]["error_message"]
    assert found["failed"]["reason"] == "attempts"


def test_what_was_forgotten_is_erased(audited: Service, audit: SqlAudit) -> None:
    queue = audited.start()
    for thread in ("ann", "ben"):
        receipt = queue.add_message_to_thread(thread, "my secret")
        queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    wait_until(lambda: written(queue), "the spool is empty")
    assert len(rows_of(audit, "batches")) == 2
    wait_until(lambda: _forgotten(queue, "ann"), "the thread is idle")
    wait_until(lambda: written(queue), "the wish is fulfilled")
    assert [row["thread_id"] for row in rows_of(audit, "batches")] == ["ben"]
    assert len(rows_of(audit, "messages")) == 1


def _forgotten(queue: AssistantMessageQueue, thread: str) -> bool:
    try:
        queue.forget_thread(thread)
    except ThreadBusy:  # its reply is being delivered
        return False
    return True


def test_what_was_said_is_there_with_its_role(audited: Service, audit: SqlAudit) -> None:
    queue = audited.start()
    receipt = queue.add_message_to_thread("t", "hello")
    queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    queue.say("t", "this is Eve", author="Eve")
    wait_until(lambda: len(rows_of(audit, "batches")) == 2, "both are there")
    said = {row["outcome"]: row["batch_id"] for row in rows_of(audit, "batches")}["said"]
    (row,) = [one for one in rows_of(audit, "messages") if one["batch_id"] == said]
    assert (row["role"], row["author"], row["text"]) == ("assistant", "Eve", "this is Eve")


def test_every_answered_message_is_there_once_after_kills(
    audited: Service, audit: SqlAudit
) -> None:
    queue = audited.start(workers=2, message_delay=0.0)
    dice = random.Random(7)
    ids = []
    for number in range(60):
        thread = f"t{dice.randrange(12)}"
        ids.append(queue.add_message_to_thread(thread, f"hello {number}").message_id)
        if number % 12 == 11:
            victim = audited.processes[dice.randrange(len(audited.processes))]
            if victim.poll() is None:
                os.killpg(victim.pid, signal.SIGKILL)
                victim.wait()
            audited.start_worker()
    for message_id in ids:
        queue.wait_for_reply(message_id, PATIENCE_S)
    wait_until(lambda: written(queue), "the spool is empty")
    assert answered_ids(audit) == Counter(ids)
    by_message = {row["message_id"]: row["batch_id"] for row in rows_of(audit, "messages")}
    replies = {row["batch_id"]: row["reply"] for row in rows_of(audit, "batches")}
    for message_id in ids:
        status = queue.get_message(message_id)
        assert status is not None
        assert by_message[message_id] == status.batch_id
        assert replies[status.batch_id or ""] == status.reply


def test_a_database_that_crashes_delays_no_answer_and_loses_nothing(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, postgres: PostgresServer
) -> None:
    sink = fresh(postgres)
    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0.0,
    }
    with AssistantMessageQueue(**options, audit=sink) as queue:
        queue.start_worker()
        ids = [answered(queue, "before")]
        wait_until(lambda: written(queue), "the spool is empty")
        postgres.kill()
        ids += [answered(queue, f"away {number}") for number in range(5)]
        assert waiting(queue) == 5
        postgres.start()
        wait_until(lambda: written(queue), "the spool is empty")
    again = SqlAudit(postgres.url)
    assert answered_ids(again) == Counter(ids)
    again.close()


def answered(queue: AssistantMessageQueue, thread: str) -> str:
    receipt = queue.add_message_to_thread(thread, "hello")
    queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    return receipt.message_id


def fresh(server: PostgresServer, **given: Any) -> SqlAudit:
    engine = sa.create_engine(server.url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
    sink = SqlAudit(server.url, **given)
    sink.upgrade()
    return sink


def test_a_full_spool_costs_records_and_is_said(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    url = f"sqlite:///{tmp_path / 'late.db'}"
    sink = SqlAudit(url, spool=2)
    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "backend": lambda batch: batch.messages[0].text,
        "message_delay": 0.0,
    }
    runner = CliRunner()
    where = ["--redis-url", one_redis.url, "--prefix", prefix]
    with AssistantMessageQueue(**options, audit=sink) as queue:
        queue.start_worker()
        for number in range(5):
            answered(queue, f"t{number}")
        wait_until(lambda: "assistant-queue audit upgrade" in caplog.text, "it is said what to do")
        assert "2 waiting, 3 lost" in runner.invoke(main, ["audit", "status", *where]).output
        made = runner.invoke(main, ["audit", "upgrade", "--url", url])
        assert (made.exit_code, made.output) == (0, "version 0 -> 2\n")
        wait_until(lambda: written(queue), "the spool is empty")
    assert len(rows_of(sink, "batches")) == 2
    assert [row["batches"] for row in rows_of(sink, "losses")] == [3]
    assert runner.invoke(main, ["audit", "upgrade", "--url", url]).output == "version 2\n"
    status = runner.invoke(main, ["audit", "status", "--json", *where])
    assert status.output.split() == ['{"waiting":', "0,", '"lost":', "3}"]
    sink.close()


def test_upgrade_knows_the_database_of_the_app(
    audited: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    audited.kind = "asyncio"
    audited.start()
    app = ["--app", "tests.integration.bot:queue"]
    assert CliRunner().invoke(main, ["audit", "upgrade", *app]).output == "version 2\n"
    assert CliRunner().invoke(main, ["audit", "status", *app]).output == "0 waiting, 0 lost\n"


def test_upgrade_needs_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)
    found = CliRunner().invoke(main, ["audit", "upgrade"])
    assert found.exit_code == 2
    assert "give --url" in found.stderr
    away = CliRunner().invoke(main, ["audit", "upgrade", "--url", "sqlite:////no/such/dir/x.db"])
    assert away.exit_code == 1
