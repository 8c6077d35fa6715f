"""Other ways to Redis than an open port: users with few rights, TLS, and Sentinel."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import redis
from click.testing import CliRunner

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    MessageCancelled,
    Receipt,
    StoreError,
)
from assistant_queue.cli import main
from assistant_queue.client.operation_records import recorded
from assistant_queue.clock import SystemClock
from assistant_queue.errors import NotPermitted
from assistant_queue.integrations.audit import SqlAudit
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import delivery_marks, operation_log
from assistant_queue.store.ops.browsing import browse_threads, count_failed
from assistant_queue.store.ops.health import read_abandoned
from assistant_queue.store.ops.searching import search
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Personality, refuse
from tests.conftest import PATIENCE_S, SERVERS, RedisServer, free_port
from tests.integration.conftest import Service, wait_until

ROOT = Path(__file__).parent.parent.parent
PRODUCTION = ROOT / "docs" / "production.md"
ACL_FILE = ROOT / "docs" / "redis-users.acl"
TOOL = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing
        assert standing.model_errors == ()


# --- users ----------------------------------------------------------------------------------------


class Users:
    """A Redis that lets in the users of the shipped file."""

    def __init__(self, program: str, directory: Path) -> None:
        copy = directory / "users.acl"
        shutil.copy(ACL_FILE, copy)
        # The server looks for pubsub rights as Redis 7 does by default.
        self.server = RedisServer(
            program, directory, "--aclfile", str(copy), "--acl-pubsub-default", "resetchannels"
        )
        self.server.start()

    def url(self, user: str) -> str:
        return f"redis://{user}:change-me-{user}@127.0.0.1:{self.server.port}/0"

    def denied(self) -> list[tuple[str, str, str]]:
        """Return user, reason, object of each refusal, except for the connection's small talk."""
        with redis.Redis.from_url(self.url("admin")) as admin:
            rows: Any = admin.acl_log()
        found = [
            tuple(str(_text(row[name])) for name in ("username", "reason", "object"))
            for row in rows
        ]
        return [one for one in found if not one[2].startswith("client")]  # type: ignore[misc]


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


@pytest.fixture(params=sorted(SERVERS))
def users(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Users]:
    made = Users(SERVERS[request.param], tmp_path)
    yield made
    made.server.stop()


def check_journal_and_forget(queue: AssistantMessageQueue) -> None:
    """A producer reads the entries that it and the worker have written."""
    journal = queue.get_timeline("t")
    assert {one.outcome for one in journal} == {"completed", "failed", "said"}
    assert "delivered" in {one.delivery.state for one in journal}
    queue.forget_thread("t")


@pytest.mark.parametrize("kind", ["asyncio", "forking", "stock"])
def test_the_shipped_users_may_do_their_work_and_are_refused_nothing_they_try(
    users: Users, kind: str, provider: StandInProvider, tmp_path: Path
) -> None:
    """A batch, a dead letter that is retried, cancel, edit, pause, a move, replies that are late or undelivered, a reply of `say`, forget: by a producer and a worker of one kind each."""
    service = Service(kind, users.url("admin"), "assistant", provider, tmp_path / "worker.log")
    service.url = users.url("worker")
    service.on_reply = True
    try:
        service.start(redis_url=users.url("worker"), max_attempts=1)
        with AssistantMessageQueue(
            **{**service.options, "redis_url": users.url("producer")}
        ) as queue:
            queue.open_events("t")
            feed = queue.feed(timeout=0.5)
            queue.typing("t", "Ann")
            assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
            told = [event.type for event in queue.events("t", after="0", timeout=0.5)]
            assert told[0] == "typing"
            assert "reply_ready" in told
            provider.fault("responses.create", refuse(401))
            receipt = queue.add_message_to_thread("t", "again")
            (failed,) = wait_until(queue.list_failed, "it fails")
            assert queue.get_message(receipt.message_id).status == "failed"
            queue.retry_failed(failed.batch_id)
            assert queue.wait_for_reply(receipt.message_id, 30) == "You said: again"
            queue.pause("t")
            rows = queue.add_messages(
                {"thread_id": "t", "message": text} for text in ("one", "two")
            )
            assert queue.edit_message(rows[0].message_id, "uno")
            assert queue.cancel(rows[1].message_id)
            assert len(queue.get_jobs_by_thread_id("t")) == 1
            queue.resume("t")
            assert queue.wait_for_reply(rows[0].message_id, 30) == "You said: uno"
            provider.personality = Personality(context_words=12, truncation="refused")
            assert queue.ask("t", "goodbye", timeout=PATIENCE_S) == "You said: goodbye"
            assert len(provider.calls("conversations.create")) > 1, "the thread has moved"
            deliver(queue)
            said = answer_as_a_person(queue)
            assert queue.wait_for_reply(said.message_id, PATIENCE_S) == "Jo here."
            wait_until(
                lambda: queue.get_message(said.message_id).delivery == "delivered", "it is shown"
            )
            wait_until(lambda: queue.get_thread_status("t").state == "idle", "the thread is idle")
            assert "reply_delivered" in {event.type for event in feed}
            check_journal_and_forget(queue)
            assert list(queue.feed(after="0", timeout=0)) == []
            status = queue.get_queue_status()
            assert (status.completed_count, status.delivering_count) == (9, 0)
        with redis.Redis.from_url(users.url("worker")) as client:
            store = SyncStore(client)
            namespace = Namespace("assistant", SystemClock())
            for operation in (
                delivery_marks.announce(namespace, "b", 30),
                delivery_marks.settle(namespace, "b", 30),
                delivery_marks.look(namespace, "b"),
            ):
                store.run(operation)
            store.run(delivery_marks.clear(namespace, "b"))
            assert store.run(read_abandoned(namespace)) == 0
        assert users.denied() == []
    finally:
        service.stop()


def answer_as_a_person(queue: AssistantMessageQueue) -> Receipt:
    """Take the thread over, answer a message, and hand it back; return what was said."""
    queue.take_over("t", "Jo")
    human = queue.add_message_to_thread("t", "Is there a human?")
    said = queue.say("t", "Jo here.")
    assert queue.wait_for_reply(human.message_id, PATIENCE_S) == "Jo here."
    assert queue.hand_back("t")
    return said


def deliver(queue: AssistantMessageQueue) -> None:
    """A reply that the platform wants later, one that is delivered by hand, and one that is discarded."""

    def delivery_of(text: str) -> str:
        receipt = queue.add_message_to_thread("t", text)
        queue.wait_for_reply(receipt.message_id, PATIENCE_S)
        ends = {"delivered", "undelivered"}
        return wait_until(
            lambda: (found := queue.get_message(receipt.message_id).delivery) in ends and found,
            "its delivery ends",
        )

    assert delivery_of("[later]") == "delivered"
    assert delivery_of("[nowhere]") == "undelivered"
    (failed,) = queue.list_failed()
    assert failed.reason == "undelivered"
    queue.retry_failed(failed.batch_id)
    wait_until(
        lambda: queue.get_message(failed.message_ids[0]).delivery == "delivered",
        "it is delivered by hand",
    )
    assert delivery_of("[nowhere] again") == "undelivered"
    assert queue.discard_failed_all(reason="undelivered") == 1


def test_a_worker_writes_the_audit_and_a_producer_has_it_erased(
    users: Users, provider: StandInProvider, tmp_path: Path
) -> None:
    audit = SqlAudit(f"sqlite:///{tmp_path / 'audit.db'}")
    audit.upgrade()
    options: dict[str, Any] = {
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "audit": audit,
    }

    def batches() -> int:
        with audit.engine.connect() as connection:
            return len(connection.execute(audit.tables.batches.select()).all())

    with (
        AssistantMessageQueue(
            redis_url=users.url("producer"), message_delay=0, **options
        ) as producer,
        AssistantMessageQueue(redis_url=users.url("worker"), **options) as worker,
    ):
        worker.start_worker()
        assert producer.ask("t", "hello", timeout=PATIENCE_S)
        wait_until(lambda: batches() == 1, "it is written")
        producer.forget_thread("t")
        wait_until(lambda: batches() == 0, "it is erased")
    audit.close()


def operate(queue: AssistantMessageQueue) -> None:
    """Do what the operations page and the commands of operators do."""
    run = queue.core.store.run
    names = queue.core.namespace
    with recorded(queue.core, "Ann", "pause", "t"):
        queue.pause("t")
    for state, found in (("paused", ["t"]), ("active", [])):
        seen = run(browse_threads(names, state, 10)).threads
        assert [one.thread_id for one in seen] == found
    assert [one.ended for one in run(operation_log.read(names, 10))] == [True]
    assert "t" in {hit.thread_id for hit in run(search(names, "t", 10)).hits}
    assert run(count_failed(names)).total == 0
    queue.resume("t")


@pytest.mark.parametrize("user", ["producer", "web"])
def test_a_producer_and_a_page_stop_and_interrupt_what_a_worker_answers(
    users: Users, user: str
) -> None:
    begun = threading.Semaphore(0)

    async def answer(batch: Batch) -> str:
        begun.release()
        if batch.messages[-1].text == "wait":
            await asyncio.Event().wait()
        return "You said: " + " | ".join(message.text for message in batch.messages)

    options: dict[str, Any] = {"message_delay": 0, "backend": answer}
    with (
        AssistantMessageQueue(redis_url=users.url(user), **options) as asking,
        AssistantMessageQueue(redis_url=users.url("worker"), **options) as worker,
    ):
        worker.start_worker()
        first = asking.add_message_to_thread("t", "wait")
        assert begun.acquire(timeout=PATIENCE_S)
        assert asking.stop("t")
        with pytest.raises(MessageCancelled):
            asking.wait_for_reply(first.message_id, PATIENCE_S)
        asking.add_message_to_thread("t", "wait")
        assert begun.acquire(timeout=PATIENCE_S)
        second = asking.add_message_to_thread("t", "hi", mid_run="interrupt")
        reply = asking.wait_for_reply(second.message_id, PATIENCE_S)
        assert reply == "You said: wait | hi"
        operate(asking)
        assert users.denied() == []
        assert asking.explain(first.message_id).verdict == "stopped"


def test_a_viewer_sees_what_became_of_messages_and_changes_nothing(
    users: Users, provider: StandInProvider
) -> None:
    options: dict[str, Any] = {
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
    }
    with (
        AssistantMessageQueue(
            redis_url=users.url("producer"), message_delay=0, **options
        ) as producer,
        AssistantMessageQueue(redis_url=users.url("worker"), **options) as worker,
        AssistantMessageQueue(redis_url=users.url("viewer"), **options) as viewer,
    ):
        worker.start_worker()
        receipt = producer.add_message_to_thread("t", "hello", author="Ann")
        assert viewer.wait_for_reply(receipt.message_id, 30) == "You said: Ann: hello"
        found = [producer.list_messages("t", order="asc"), viewer.list_messages("t", order="asc")]
        assert [[one.author for one in rows] for rows in found] == [["Ann", None], [None, None]]
        assert viewer.get_message(receipt.message_id).status == "completed"
        assert viewer.get_thread_status("t").state in {"active", "idle"}
        assert viewer.list_failed() == []
        assert viewer.get_queue_status().completed_count == 1
        seen = viewer.get_metrics()
        assert (seen.messages["answered"], len(seen.workers)) == (1, 1)
        assert producer.get_metrics().workers == (), "a producer may not read RQ's records"
        producer.pause("u")
        producer.add_message_to_thread("u", "a text that waits")
        assert [row.thread_id for row in viewer.list_threads("paused")] == ["u"]
        producer.take_over("taken", "Jo")
        assert [row.taken_over_by for row in viewer.list_threads("taken_over")] == ["Jo"]
        top = CliRunner().invoke(main, ["top", "--once", "--redis-url", users.url("viewer")])
        assert top.exit_code == 0, top.output
        assert "answered 1" in top.output
        assert viewer.list_threads("pending") == viewer.list_threads("parked") == []
        for forbidden in (
            lambda: viewer.add_message_to_thread("t", "not me"),
            viewer.pause,
            lambda: viewer.stop("t"),
            lambda: viewer.take_over("t", "Jo"),
            lambda: viewer.hand_back("taken"),
            lambda: viewer.get_timeline("t"),
            lambda: viewer.get_jobs_by_thread_id("u"),  # texts that wait are not for viewers
            lambda: viewer.open_events("u"),
            viewer.feed,
        ):
            with pytest.raises(NotPermitted):
                forbidden()


@pytest.mark.skipif("path" not in SERVERS, reason="the wheel's Redis has no selectors")
@pytest.mark.parametrize("users", ["path"], indirect=True)
def test_a_selector_lets_a_viewer_read_journals_and_no_texts_that_wait(users: Users) -> None:
    (selector,) = re.findall(r"^(\(~assistant:journal.*\))$", PRODUCTION.read_text(), re.MULTILINE)
    with redis.Redis.from_url(users.url("admin")) as admin:
        admin.execute_command("ACL", "SETUSER", "viewer", selector)
    with (
        AssistantMessageQueue(
            redis_url=users.url("worker"), message_delay=0, backend=lambda _: "hi"
        ) as worker,
        AssistantMessageQueue(redis_url=users.url("viewer")) as viewer,
    ):
        worker.start_worker()
        worker.ask("t", "hello", timeout=PATIENCE_S)
        assert [one.outcome for one in viewer.get_timeline("t")] == ["completed"]
        with redis.Redis.from_url(users.url("viewer")) as client:
            for key in ("assistant:outbox:t", "assistant:pending:t"):
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.lrange(key, 0, -1)


@pytest.mark.parametrize("user", ["viewer", "producer", "web", "worker"])
def test_the_doctor_shows_what_its_user_may_see_and_says_what_it_may_not(
    users: Users, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)
    with AssistantMessageQueue(
        redis_url=users.url("producer"), message_delay=0, backend=lambda _: "hi"
    ) as producer:
        producer.add_message_to_thread("t", "hello")
        producer.pause()
    told = CliRunner().invoke(main, ["doctor", "--no-provider", "--redis-url", users.url(user)])
    assert told.exit_code in (0, 1), told.output
    assert "the queue is paused" in told.output
    assert ("this user of Redis" in told.output) is (user in {"producer", "web"})
    if user == "producer":
        assert "the workers cannot be read by this user of Redis" in told.output
        assert "may not ZCOUNT" in told.output
    else:
        assert "no worker is alive" in told.output


@pytest.mark.parametrize("users", sorted(SERVERS)[:1], indirect=True)
def test_the_doctor_finishes_whichever_of_its_commands_is_forbidden(
    users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASSISTANT_QUEUE_APP", raising=False)
    with AssistantMessageQueue(
        redis_url=users.url("producer"), message_delay=0, backend=lambda _: "hi"
    ) as producer:
        producer.add_message_to_thread("t", "hello")
    permitted = next(line for line in ACL_FILE.read_text().splitlines() if "user viewer" in line)
    rights = [word[1:] for word in permitted.split() if word.startswith("+")]
    asked = [word for word in rights if word not in {"auth", "hello", "ping", "select"}]
    assert {"info", "exists", "scard", "smembers", "time", "zcount", "zcard"} <= set(asked)
    with redis.Redis.from_url(users.url("admin")) as admin:
        for command in asked:
            admin.execute_command("ACL", "SETUSER", "viewer", f"-{command}")
            words = ["doctor", "--no-provider", "--redis-url", users.url("viewer")]
            told = CliRunner().invoke(main, words)
            assert told.exit_code in (0, 1), (command, told.output)
            assert "version" in told.output, command
            assert "maxmemory-policy" in told.output, command
            admin.execute_command("ACL", "SETUSER", "viewer", f"+{command}")


@pytest.mark.parametrize("user", ["viewer", "producer", "web", "worker"])
def test_every_user_learns_why_a_message_has_no_answer(users: Users, user: str) -> None:
    options: dict[str, Any] = {"message_delay": 0, "backend": lambda _: "hi"}
    with (
        AssistantMessageQueue(redis_url=users.url("producer"), **options) as producer,
        AssistantMessageQueue(redis_url=users.url("worker"), **options) as worker,
        AssistantMessageQueue(redis_url=users.url(user)) as asking,
    ):
        producer.add_message_to_thread("t", "hello", message_id="due")
        producer.pause("u")
        producer.add_message_to_thread("u", "hello", message_id="paused")
        knows_workers = user != "producer"
        found = asking.explain("due")
        assert found.verdict == ("no_worker" if knows_workers else "due"), found
        assert asking.explain("paused").verdict == "thread_paused"
        assert asking.explain("u").verdict == "thread_paused"
        assert asking.explain("unknown").verdict == "unknown"
        waiting = producer.add_message_to_thread("v", "hello")
        assert asking.explain(str(waiting.job_id)).thread_id == "v"
        worker.start_worker()
        producer.wait_for_reply("due", PATIENCE_S)
        assert asking.explain("due").verdict == "answered"
        assert {name for name, _, _ in users.denied()} <= {user} - {"viewer", "worker"}


@pytest.mark.parametrize("users", sorted(SERVERS)[:1], indirect=True)
def test_an_explanation_is_given_whichever_of_its_other_commands_is_forbidden(
    users: Users,
) -> None:
    with AssistantMessageQueue(
        redis_url=users.url("producer"), message_delay=0, backend=lambda _: "hi"
    ) as producer:
        producer.add_message_to_thread("t", "hello", message_id="m")
    with (
        redis.Redis.from_url(users.url("admin")) as admin,
        AssistantMessageQueue(redis_url=users.url("viewer")) as viewer,
    ):
        assert viewer.explain("m").verdict == "no_worker"
        for command in ("exists", "scard", "llen", "lpos", "zscore", "smembers", "zcard", "zrange"):
            admin.execute_command("ACL", "SETUSER", "viewer", f"-{command}")
            assert viewer.explain("m").verdict == "no_worker", command
            assert viewer.explain("unknown").verdict in {"unknown", "idle"}
            admin.execute_command("ACL", "SETUSER", "viewer", f"+{command}")
        admin.execute_command("ACL", "SETUSER", "viewer", "-hmget")
        with pytest.raises(NotPermitted):
            viewer.explain("m")


async def test_a_viewer_on_the_asyncio_class_sees_the_counters(users: Users) -> None:
    with AssistantMessageQueue(redis_url=users.url("producer"), message_delay=60) as producer:
        producer.add_message_to_thread("t", "hello")
    async with AsyncAssistantMessageQueue(redis_url=users.url("viewer")) as viewer:
        assert (await viewer.get_queue_status()).delayed_count == 1


def test_a_client_without_a_name_is_refused(users: Users) -> None:
    with AssistantMessageQueue(redis_url=users.server.url) as queue, pytest.raises(StoreError):
        queue.get_queue_status()


# --- TLS ------------------------------------------------------------------------------------------


def _certificate(directory: Path) -> tuple[Path, Path]:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl to make a certificate with")
    key = directory / "redis.key"
    certificate = directory / "redis.crt"
    command = [
        program,
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(
        [*command, "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis that speaks nothing but TLS."""
    program = SERVERS.get("path") or SERVERS["wheel"]
    key, certificate = _certificate(tmp_path)
    port = free_port()
    tls = [
        "--tls-port",
        str(port),
        "--tls-cert-file",
        str(certificate),
        "--tls-key-file",
        str(key),
        "--tls-auth-clients",
        "no",
    ]
    probe = subprocess.run(
        [program, "--port", "0", *tls, "--tls-port", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Bad directive" in probe.stdout + probe.stderr:
        pytest.skip(f"{program} was built without TLS")
    server = RedisServer(program, tmp_path, "--tls-ca-cert-file", str(certificate), *tls)
    server.start()
    yield f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={quote(str(certificate))}"
    server.stop()


def test_tls_serves_both_classes_and_a_worker(
    encrypted: str, prefix: str, provider: StandInProvider
) -> None:
    both_classes_and_a_worker(encrypted, prefix, provider)


def test_an_untrusted_certificate_is_refused(encrypted: str, prefix: str) -> None:
    with AssistantMessageQueue(redis_url=encrypted.partition("?")[0], queue_prefix=prefix) as queue:
        with pytest.raises(StoreError) as caught:
            queue.add_message_to_thread("t", "hello")
        causes = [caught.value.__cause__]
        while causes[-1] is not None:
            causes.append(causes[-1].__cause__ or causes[-1].__context__)
        assert any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes)


def both_classes_and_a_worker(url: str, prefix: str, provider: StandInProvider) -> None:
    import asyncio

    options: dict[str, Any] = {
        "redis_url": url,
        "queue_prefix": prefix,
        "message_delay": 0,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
    }

    async def through_the_asyncio_class() -> str | None:
        async with AsyncAssistantMessageQueue(**options) as queue:
            return await queue.ask("u", "hello", timeout=PATIENCE_S)

    with AssistantMessageQueue(**options) as queue:
        queue.start_worker()
        assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
        assert asyncio.run(through_the_asyncio_class()) == "You said: hello"


# --- Sentinel -------------------------------------------------------------------------------------


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[str]:
    """The address of a primary behind a Sentinel, both with a password."""
    program = SERVERS.get("path") or SERVERS["wheel"]
    primary = RedisServer(program, tmp_path, "--requirepass", "of-the-primary")
    primary.start()
    port = free_port()
    file = tmp_path / "sentinel.conf"
    file.write_text(
        f"port {port}\nbind 127.0.0.1\nrequirepass of-the-sentinel\n"
        f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\nsentinel auth-pass mymaster of-the-primary\n",
        encoding="utf-8",
    )
    log = tmp_path / "sentinel.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, str(file), "--sentinel"],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    try:
        client = redis.Redis(port=port, password="of-the-sentinel")
        wait_until(lambda: _answers(client), "the Sentinel answers")
        client.close()
        yield f"redis+sentinel://:of-the-primary@127.0.0.1:{port}/mymaster/0?sentinel_password=of-the-sentinel"
    finally:
        process.kill()
        process.wait()
        primary.stop()


def _answers(client: Any) -> bool:
    try:
        return bool(client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))
    except redis.ConnectionError:
        return False


def test_a_sentinel_leads_both_classes_and_a_worker_to_the_primary(
    sentinel: str, prefix: str, provider: StandInProvider
) -> None:
    both_classes_and_a_worker(sentinel, prefix, provider)


def test_every_line_of_the_users_file_is_a_user_with_a_password_to_change() -> None:
    lines = ACL_FILE.read_text(encoding="utf-8").splitlines()
    assert [line.split()[1] for line in lines] == [
        "default",
        "admin",
        "producer",
        "web",
        "worker",
        "viewer",
    ]
    assert all(f">change-me-{line.split()[1]}" in line for line in lines[1:])
    assert "+@all" not in "\n".join(lines[2:])
    assert os.linesep not in lines[0]
