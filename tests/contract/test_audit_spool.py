"""The audit's spool: what the scripts that end a batch leave there, and how it is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import redis

from assistant_queue.accounting import AttemptInfo, ErrorInfo, Timeline, Usage
from assistant_queue.auditing import AuditMessage, AuditRecord, Erasure
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.errors import ThreadBusy
from assistant_queue.models import Batch, Message, RunResult
from assistant_queue.store import audit_codec
from assistant_queue.store.calls import AuditRules, Namespace
from assistant_queue.store.ops import audit_spool, control
from tests.conftest import RedisServer
from tests.contract.store_rig import ERROR, Rig

RULES = AuditRules(most=3, max_chars=50)


@pytest.fixture
def plain(one_redis: RedisServer, prefix: str) -> Iterator[Rig]:
    """A store without an audit."""
    with redis.Redis.from_url(one_redis.url) as client:
        yield Rig(client, prefix)


@pytest.fixture
def store(plain: Rig) -> Rig:
    plain.namespace = Namespace(plain.prefix, plain.clock, audit=RULES)
    return plain


def ended(store: Rig, thread: str = "thread", end: Callable[[Any], Any] | None = None) -> str:
    store.add(thread, delay_s=0, author="Ann", tenant="acme")
    lease = store.claim(thread)
    (end or store.finish)(lease)
    return lease.claimed.batch.id


def taken(store: Rig, token: str = "a", **given: Any) -> Any:
    given = {"written": 0, "lease_s": 10.0, **given}
    return store.run(audit_spool.drain(store.namespace, token, **given))


def records(store: Rig) -> list[AuditRecord | Erasure | None]:
    page = taken(store)
    return [audit_codec.unpack_entry(store.prefix, one) for one in page.entries]


def test_without_the_option_nothing_is_spooled(plain: Rig) -> None:
    ended(plain)
    plain.run(control.forget(plain.namespace, "thread"))
    assert not [key for key in plain.all_keys() if "audit" in key]


def test_a_batch_is_spooled_with_what_was_said(store: Rig) -> None:
    at = store.clock.ms
    settled = {"verdict": "approved", "by": "eve", "settled_ms": at + 5}
    tools = (ToolRow(name="find", ms=250, call_id="c", started_ms=at, **settled),)
    batch_id = ended(store, end=lambda lease: store.finish(lease, tools=tools))
    (record,) = records(store)
    assert isinstance(record, AuditRecord)
    assert (record.batch_id, record.thread_id, record.outcome) == (batch_id, "thread", "completed")
    assert (record.reply, record.run_id, record.tenant) == ("hi", "run_1", "acme")
    (message,) = record.messages
    assert (message.text, message.author) == ("hello", "Ann")
    assert message.queued_at == moment(store.clock.ms)
    (tool,) = record.tools
    assert (tool.name, tool.verdict, tool.settled_by) == ("find", "approved", "eve")
    assert tool.settled_at == moment(at + 5)
    assert (record.answered_by, message.answered_by) == (None, None)
    assert record.timeline.queued_at == moment(store.clock.ms)


def test_a_failed_batch_is_spooled_with_its_error(store: Rig) -> None:
    progress = Progress(attempts=3, run_id="run_1", replies=("half",))
    ended(store, end=lambda lease: store.bury(lease, progress=progress))
    (record,) = records(store)
    assert isinstance(record, AuditRecord)
    assert (record.outcome, record.reason, record.attempts) == ("failed", "attempts", 3)
    assert (record.error, record.reply) == (ERROR, "half")


def test_a_reply_that_is_delivered_is_sent_to_redis_once(store: Rig) -> None:
    words = "a reply that is delivered"
    ended(store, end=lambda lease: store.reply(lease, reply=words))
    call = [one for one in store.sent if one.script and one.script.name == "finish"][-1]
    # Twice in the result, and once in the reply that the outbox and the spool share.
    assert sum(str(word).count(words) for word in call.words) == 3
    (record,) = records(store)
    assert isinstance(record, AuditRecord)
    assert record.reply == words


@pytest.mark.parametrize("thread", ["t", "a b", "🙂 12 ä", "1 2 3 4"])
def test_any_thread_id_is_read_back(store: Rig, thread: str) -> None:
    ended(store, thread)
    store.run(control.forget(store.namespace, "another " + thread))
    store.run(control.forget(store.namespace, "x" + thread))
    record, first, second = records(store)
    assert isinstance(record, AuditRecord)
    assert record.thread_id == thread
    assert (first, second) == (Erasure("another " + thread), Erasure("x" + thread))


def test_long_texts_are_cut(store: Rig) -> None:
    long = "word " * 100
    data = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1000}}
    store.add(delay_s=0, content=[{"type": "text", "text": long}, data], instructions=long)
    store.reply(store.claim(), reply=long)
    (record,) = records(store)
    assert isinstance(record, AuditRecord)
    assert record.truncated
    assert record.reply == long[:50] == record.messages[0].text == record.messages[0].instructions
    assert len(record.messages[0].attachments[0]["image_url"]["url"]) == 300
    waiting = store.client.lrange(store.keys.outbox("thread"), 0, -1)
    assert long.strip() in waiting[0].decode(), "the platform gets all of it"


def test_what_finds_no_room_is_counted(store: Rig) -> None:
    for _ in range(5):
        ended(store)
    page = taken(store)
    assert (len(page.entries), page.lost) == (3, 2)
    status = store.run(audit_spool.read_spool(store.namespace))
    assert (status.waiting, status.lost) == (3, 2)


def test_one_worker_takes_until_its_lease_lapses(store: Rig) -> None:
    ended(store)
    assert len(taken(store, "a").entries) == 1
    assert taken(store, "b") is None
    store.clock.advance(9)
    assert taken(store, "a") is not None
    store.clock.advance(9)
    assert taken(store, "b") is None
    store.clock.advance(2)
    assert len(taken(store, "b").entries) == 1
    assert taken(store, "a") is None
    assert taken(store, "b", lease_s=0) is not None, "given back"
    assert taken(store, "a") is not None


def test_a_clock_that_is_set_back_holds_no_lease(store: Rig) -> None:
    ended(store)
    taken(store, "a")
    store.clock.ms -= 3_600_000
    assert taken(store, "b") is not None


def test_what_is_written_is_removed_once(store: Rig) -> None:
    ids = [ended(store) for _ in range(3)]
    page = taken(store)
    assert taken(store, written=page.first + 2).first == 2
    taken(store, written=page.first + 2)  # the reply was lost
    for call in [one for one in store.sent if one.script and one.script.name == "drain_audit"]:
        store.again(call)
    (left,) = records(store)
    assert isinstance(left, AuditRecord)
    assert left.batch_id == ids[-1]


def test_what_another_worker_says_removes_nothing(store: Rig) -> None:
    ended(store)
    taken(store, "a")
    store.clock.advance(11)
    assert len(taken(store, "b", written=99).entries) == 1


def test_a_forgotten_thread_leaves_no_text(store: Rig) -> None:
    ended(store, "ann")
    ended(store, "ben")
    store.run(control.forget(store.namespace, "ann"))
    page = taken(store)
    assert page.entries[0] == ""
    assert "hello" in page.entries[1]
    assert audit_codec.unpack_entry(store.prefix, page.entries[2]) == Erasure("ann")


def test_a_thread_that_is_busy_is_not_forgotten_by_halves(store: Rig) -> None:
    ended(store)
    store.add(delay_s=0)
    store.claim()
    with pytest.raises(ThreadBusy):
        store.run(control.forget(store.namespace, "thread"))
    assert len(taken(store).entries) == 1


@pytest.mark.parametrize("key", ["audit", "auditing"])
@pytest.mark.parametrize("end", ["finish", "bury", "forget", "drain"])
def test_a_key_of_another_program_is_set_aside(store: Rig, key: str, end: str) -> None:
    store.client.set(getattr(store.keys, key), "foreign")
    if end == "forget":
        store.run(control.forget(store.namespace, "thread"))
    elif end == "drain":
        taken(store)
    else:
        ended(store, end=getattr(store, end))
        assert len(taken(store).entries) == 1
    assert store.client.zcard(store.keys.quarantine) == 1


def test_numbers_of_another_program_do_not_stop_the_audit(store: Rig) -> None:
    store.client.hset(
        store.keys.auditing, mapping={"lost": "x", "head": "y", "until": "z", "token": "t"}
    )
    for _ in range(4):
        ended(store)
    assert taken(store).lost == 1


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "nonsense",
        "b 1 99 t",
        'b 1 1 t{"z":1}',
        "b 1 1 tnull",
        'b 1 1 t{"z":{"o":"completed"},"b":"x","e":0,"m":[],"p":[],"i":""}',
        'b 1 1 t{"z":{"o":"completed"},"b":1e99,"e":0,"m":[],"p":[],"i":""}',
    ],
)
def test_an_entry_that_is_none_is_left_out(entry: str) -> None:
    found = audit_codec.unpack_entry("q", entry)
    assert found is None or found == Erasure("t")


STORED = (
    'batch-1 1700000005000 8 thread-1{"i":"run_1","p":["Which lamp?","This one."],"u":[10,20,30,0,0,'
    '0,2,"gpt-5-mini","flex"],"k":2,"b":1700000001000,"e":4000,"m":[{"id":"m1","c":"My lamp","a":'
    '"Ann","m":{"k":"v"},"t":"acme","q":1700000000000},{"w":0,"id":"m2","c":[{"type":"text","text":'
    '"look"},{"type":"input_image","image_url":"https://example.com/x.png"}],"q":1700000000500}],"a":'
    '{"t":"acme","m":"gpt-5-mini","d":-500,"s":1000,"f":2000,"a":[[1,0,500,"host:1","run_0",'
    '"server_error","oops"],[2,1000,4000,"host:1","run_1"]]},"z":{"o":"completed","t":[["find",250,'
    '"","call_1",1700000002000]]}}'
)
"""An entry as it was stored on 2026-11-30: it must be read by every later version."""


def test_a_stored_entry_stays_readable() -> None:
    at = moment(1700000001000)

    def after(seconds: float) -> Any:
        return at + timedelta(seconds=seconds)

    record = audit_codec.unpack_entry("q", STORED)
    assert isinstance(record, AuditRecord)
    (tool,) = record.tools
    assert (tool.name, tool.call_id, tool.duration_s) == ("find", "call_1", 0.25)
    picture = {"type": "input_image", "image_url": "https://example.com/x.png"}
    first = {
        "number": 1,
        "started_at": at,
        "ended_at": after(0.5),
        "worker": "host:1",
        "run_id": "run_0",
    }
    second = {**first, "number": 2, "started_at": after(1), "ended_at": after(4), "run_id": "run_1"}
    assert replace(record, tools=()) == AuditRecord(
        queue="q",
        batch_id="batch-1",
        thread_id="thread-1",
        outcome="completed",
        messages=(
            AuditMessage(
                message_id="m1",
                text="My lamp",
                author="Ann",
                tenant="acme",
                metadata={"k": "v"},
                queued_at=after(-1),
            ),
            AuditMessage(
                message_id="m2",
                text="look",
                attachments=(picture,),
                queued_at=after(-0.5),
                wants_reply=False,
            ),
        ),
        reply="Which lamp?\n\nThis one.",
        ended_at=after(4),
        run_id="run_1",
        model="gpt-5-mini",
        tenant="acme",
        usage=Usage(
            input_tokens=10,
            output_tokens=20,
            total_tokens=30,
            rounds=2,
            model="gpt-5-mini",
            service_tier="flex",
        ),
        timeline=Timeline(
            queued_at=after(-1),
            due_at=after(-0.5),
            claimed_at=at,
            sent_at=after(1),
            first_token_at=after(2),
            attempts=(
                AttemptInfo(**first, error=ErrorInfo(code="server_error", message="oops")),
                AttemptInfo(**second, error=None),
            ),
        ),
        attempts=2,
    )


def test_a_reply_of_say_has_its_role(store: Rig) -> None:
    message = Message(
        id="m", content="this is Eve", role="assistant", wants_reply=False, answered_by="eve"
    )
    result = replace(result_of(message), run_id="", answered_by="eve")
    packed = audit_codec.pack_batch(RULES, result, ())
    entry = f'b 1 1 t{packed["audit_of"][:-1]},"z":{packed["audit"]}}}'
    record = audit_codec.unpack_entry("q", entry)
    assert isinstance(record, AuditRecord)
    assert (record.outcome, record.messages[0].role) == ("said", "assistant")
    assert (record.answered_by, record.messages[0].answered_by) == ("eve", "eve")
    assert not record.messages[0].wants_reply


def result_of(*messages: Message) -> RunResult:
    batch = Batch(id="b", thread_id="t", messages=messages)
    return RunResult(
        thread_id="t",
        run_id="run_1",
        batch_id=batch.id,
        message_ids=tuple(one.id for one in messages),
        messages_processed=len(messages),
        status="completed",
        incomplete_reason=None,
        reply=None,
        replies=(),
        usage=None,
        attempts=1,
        started_at=moment(1000),
        ended_at=moment(2000),
        messages=messages,
    )
