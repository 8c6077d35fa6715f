"""Data of an earlier version is read, finished and answered; data of a later one is left alone.

`format_1.json` holds every key of a queue as version 0.1 wrote it, `format_1_outbox.json` replies
that wait for their delivery, `format_1_said.json` what was said, `format_1_journal.json` the
journal of a thread, `format_1_notes.json` its notes of the history, `format_1_wishes.json` batches
that are to be stopped, interrupted or steered, `format_1_taken.json` threads that a person took
over, `format_1_parked.json` and, packed, `format_1_packed.json` batches with calls that wait for an
answer, `format_1_asked.json` such calls that a channel asks about, `format_1_operations.json` what
operators did and a history of the metrics, and `format_1_pauses.json` a complete list of paused
threads, which format 1 has since. When the format changes, they stay, and new files join them. To
write the last one as of today: `python -m tests.contract.test_format`; `write_journal`,
`write_notes`, `write_said`, `write_outbox`, `write_wishes`, `write_takeovers`, `write_parked`,
`write_asked`, `write_operations` and `write` wrote the others.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue, RunResult
from assistant_queue.core.account import ms_of, timeline_of
from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.flow import Claimed
from assistant_queue.core.history_notes import Item, Kind, Note, load_notes
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.stored_rows import AttemptRow, ToolRow
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import BatchRecord, ErrorInfo, Usage
from assistant_queue.store.keys import FORMAT_VERSION
from assistant_queue.store.ops import (
    control,
    journal,
    leases,
    metric_history,
    operation_log,
    outcomes,
    paused_threads,
    questions,
)
from assistant_queue.store.ops.browsing import browse_threads
from assistant_queue.store.ops.questions import HeldQuestion
from assistant_queue.store.ops.reply_outbox import DeliveryLease
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import InstantWorker
from tests.conftest import RedisServer, with_clock
from tests.contract.store_rig import ERROR, Rig

HERE = Path(__file__).parent
OLD_FORMATS = sorted(HERE.glob("format_?.json"))
OUTBOXES = sorted(HERE.glob("format_?_outbox.json"))
JOURNALS = sorted(HERE.glob("format_?_journal.json"))
NOTES = sorted(HERE.glob("format_?_notes.json"))
SAID = sorted(HERE.glob("format_?_said.json"))
WISHES = sorted(HERE.glob("format_?_wishes.json"))
TAKEN = sorted(HERE.glob("format_?_taken.json"))
PARKED = [*sorted(HERE.glob("format_?_parked.json")), *sorted(HERE.glob("format_?_packed.json"))]
PAUSES = sorted(HERE.glob("format_?_pauses.json"))
ASKED = sorted(HERE.glob("format_?_asked.json"))
OPERATIONS = sorted(HERE.glob("format_?_operations.json"))
PREFIX = "format"


def open_queue(url: str, provider: StandInProvider, clock: FakeClock) -> AssistantMessageQueue:
    queue = AssistantMessageQueue(
        redis_url=url,
        queue_prefix=PREFIX,
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        model="stand-in-model",
    )
    return with_clock(queue, clock)


def dump(client: redis.Redis) -> dict[str, Any]:
    """Every key of the prefix and of RQ, with what it holds and how long it lives."""
    read = {
        b"string": lambda key: client.get(key).decode("latin-1"),
        b"list": lambda key: [value.decode("latin-1") for value in client.lrange(key, 0, -1)],
        b"set": lambda key: sorted(value.decode("latin-1") for value in client.smembers(key)),
        b"zset": lambda key: [
            [member.decode("latin-1"), score]
            for member, score in client.zrange(key, 0, -1, withscores=True)
        ],
        b"hash": lambda key: {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in client.hgetall(key).items()
        },
        b"stream": lambda key: [
            [
                entry.decode(),
                {name.decode(): value.decode("latin-1") for name, value in row.items()},
            ]
            for entry, row in client.xrange(key)
        ],
    }
    keys = sorted(client.scan_iter("*"))
    return {
        key.decode("latin-1"): [client.type(key).decode(), read[client.type(key)](key)]
        for key in keys
    }


def restore(client: redis.Redis, rows: dict[str, Any]) -> None:
    for name, (kind, value) in rows.items():
        key = name.encode("latin-1")
        if kind == "string":
            client.set(key, value.encode("latin-1"))
        elif kind == "list":
            client.rpush(key, *(one.encode("latin-1") for one in value))
        elif kind == "set":
            client.sadd(key, *(one.encode("latin-1") for one in value))
        elif kind == "zset":
            client.zadd(key, {member.encode("latin-1"): score for member, score in value})
        elif kind == "stream":
            for entry, row in value:
                client.xadd(key, {n: one.encode("latin-1") for n, one in row.items()}, id=entry)
        else:
            client.hset(
                key,
                mapping={
                    field.encode("latin-1"): one.encode("latin-1") for field, one in value.items()
                },
            )


def clear(client: redis.Redis) -> None:
    for pattern in (f"{PREFIX}:*", f"rq:*{PREFIX}*", "rq:job:*"):
        for key in client.scan_iter(pattern):
            client.delete(key)


@contextmanager
def restored(
    path: Path, server: RedisServer
) -> Iterator[tuple[AssistantMessageQueue, StandInProvider, FakeClock, dict[str, Any]]]:
    """Open a queue over the data of a file, with its provider, its clock, and what the file says."""
    told = json.loads(path.read_text(encoding="utf-8"))
    clock = FakeClock(told["now_ms"])
    with redis.Redis.from_url(server.url) as client, StandInProvider(latency=0) as provider:
        restore(client, told["keys"])
        with open_queue(server.url, provider, clock) as queue:
            yield queue, provider, clock, told
        clear(client)


def write_file(kind: str, told: dict[str, Any]) -> None:
    """Write a file of the format of today: its kind as in `_said`, or "" for the whole queue."""
    text = json.dumps(told, indent=1, ensure_ascii=True, sort_keys=True)
    (HERE / f"format_{FORMAT_VERSION}{kind}.json").write_text(text + "\n", encoding="utf-8")


@pytest.mark.parametrize("path", OLD_FORMATS, ids=[path.stem for path in OLD_FORMATS])
def test_a_queue_of_an_earlier_version_is_finished_by_this_one(
    path: Path, redis_server: RedisServer
) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    clock = FakeClock(told["now_ms"])
    with redis.Redis.from_url(redis_server.url) as client, StandInProvider(latency=0) as provider:
        restore(client, told["keys"])
        with open_queue(redis_server.url, provider, clock) as queue:
            before = {name: queue.get_message(name).status for name in told["messages"]}
            assert before == told["messages"]
            assert queue.get_message("answered").reply == "You said: hello"
            assert queue.add_message_to_thread("done", "hello", message_id="answered").duplicate
            (failed,) = queue.list_failed()
            queue.retry_failed(failed.batch_id)
            queue.resume("paused")
            InstantWorker(queue.config, clock).run_until_idle()
            assert {queue.get_message(name).status for name in told["messages"]} == {"completed"}
            status = queue.get_queue_status()
            assert (status.completed_count, status.failed_count, status.active_count) == (
                len(told["messages"]),
                0,
                0,
            )
        assert client.get(f"{PREFIX}:format") == str(FORMAT_VERSION).encode()
        assert sorted(text for run in provider.runs for text in run.user_texts) == sorted(
            told["texts"]
        )
        clear(client)


@pytest.mark.parametrize("path", OUTBOXES, ids=[path.stem for path in OUTBOXES])
def test_replies_that_wait_since_an_earlier_version_are_delivered_by_this_one(
    path: Path, redis_server: RedisServer
) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    clock = FakeClock(told["now_ms"])
    delivered: list[RunResult] = []
    with redis.Redis.from_url(redis_server.url) as client:
        restore(client, told["keys"])
        queue = AssistantMessageQueue(
            redis_url=redis_server.url,
            queue_prefix=PREFIX,
            backend=lambda _: "never asked",
            on_reply=delivered.append,
        )
        with with_clock(queue, clock) as queue:
            assert queue.get_queue_status().delivering_count == len(told["replies"]) - 1
            (failed,) = queue.list_failed()
            assert (failed.reason, failed.error.message) == ("undelivered", "400")
            queue.resume("paused")
            InstantWorker(queue.config, clock).run_until_idle()
            queue.retry_failed(failed.batch_id)
            InstantWorker(queue.config, clock).run_until_idle()
            assert sorted((one.thread_id, one.reply) for one in delivered) == [
                tuple(one) for one in told["replies"]
            ]
            assert [one.reply for one in delivered if one.thread_id == "waiting"] == ["one", "two"]
            assert {one.reply for one in delivered if one.late} == {"parked"}
            assert {one.messages[0].text for one in delivered} == {"hello"}
            assert {one.authors for one in delivered} == {("Ann",)}
            status = queue.get_queue_status()
            assert (status.delivering_count, status.delivered_count, status.undelivered_count) == (
                0,
                len(told["replies"]),
                0,
            )
        clear(client)


@pytest.mark.parametrize("path", SAID, ids=[path.stem for path in SAID])
def test_what_was_said_in_an_earlier_version_is_written_by_this_one(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, provider, clock, told):
        InstantWorker(queue.config, clock).run_until_idle()
        assert queue.get_message("s").status == "completed"
        assert [row.text for row in queue.list_messages("said", order="asc")] == told["texts"]
        assert queue.get_message("quiet").status == "queued"
        assert provider.runs == ()


@pytest.mark.parametrize("path", JOURNALS, ids=[path.stem for path in JOURNALS])
def test_a_journal_of_an_earlier_version_is_read_by_this_one(
    path: Path, redis_server: RedisServer
) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    with redis.Redis.from_url(redis_server.url) as client:
        restore(client, told["keys"])
        found = Rig(client, PREFIX).journal("t")
        known = told["records"][0].keys()  # what a newer version adds is at its default
        plain = [json.loads(plain_of(one)) for one in found]
        for call in [call for one in plain for call in one["tool_calls"]]:
            assert [call.pop(name) for name in ("verdict", "settled_by", "settled_at")] == [
                None
            ] * 3
        assert [{name: one[name] for name in known} for one in plain] == told["records"]
        assert all(one.answered_by is None for one in found)
        clear(client)


@pytest.mark.parametrize("path", NOTES, ids=[path.stem for path in NOTES])
def test_the_notes_of_an_earlier_version_are_read_by_this_one(
    path: Path, redis_server: RedisServer
) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    with redis.Redis.from_url(redis_server.url) as client:
        restore(client, told["keys"])
        assert _noted(Rig(client, PREFIX)) == told["notes"]
        clear(client)


def _noted(rig: Rig) -> list[list[Any]]:
    """The conversation of `write_notes`: for each item its author and its time, ms."""
    kinds: list[Kind] = ["user", "user", "other", "assistant", "user", "assistant", "user", "user"]
    kinds += ["assistant"]
    items = [Item(f"item_{number}", kind) for number, kind in enumerate(kinds)]
    entries = rig.run(journal.read_entries(rig.namespace, "t"))
    notes = load_notes(entries).of_items(items, begins=True, ends=True)
    found = [notes.get(item.id, Note()) for item in items]
    return [[one.author, ms_of(one.at)] for one in found]


def plain_of(record: BatchRecord) -> str:
    return json.dumps(dataclasses.asdict(record), default=str)


@pytest.mark.parametrize("path", OLD_FORMATS, ids=[path.stem for path in OLD_FORMATS])
def test_a_wish_that_a_worker_of_an_earlier_version_left_means_nothing(
    path: Path, redis_server: RedisServer
) -> None:
    """It releases a thread without removing the field, which it does not know."""
    told = json.loads(path.read_text(encoding="utf-8"))
    clock = FakeClock(told["now_ms"])
    with redis.Redis.from_url(redis_server.url) as client, StandInProvider(latency=0) as provider:
        restore(client, told["keys"])
        for key in client.scan_iter(f"{PREFIX}:thread:*"):
            client.hset(key, mapping={"wish": "stop 0123456789abcdef01234567", "wished": "17"})
        with open_queue(redis_server.url, provider, clock) as queue:
            (failed,) = queue.list_failed()
            queue.retry_failed(failed.batch_id)
            InstantWorker(queue.config, clock).run_until_idle()
            assert queue.get_thread_status("paused").pending_count == 1
            queue.resume("paused")
            InstantWorker(queue.config, clock).run_until_idle()
            assert {queue.get_message(name).status for name in told["messages"]} == {"completed"}
        assert not client.keys(f"{PREFIX}:thread:*")
        clear(client)


@pytest.mark.parametrize("path", WISHES, ids=[path.stem for path in WISHES])
def test_wishes_of_an_earlier_version_are_obeyed_by_this_one(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, provider, clock, told):
        assert queue.get_message("stopped-1").reply == "hi"
        assert queue.explain("stopped-1").verdict == "stopped"
        InstantWorker(queue.config, clock).run_until_idle()
        found = {name: queue.get_message(name).status for name in told["cancelled"]}
        assert found == dict.fromkeys(told["cancelled"], "cancelled")
        assert queue.get_queue_status().completed_count == 5
        assert sorted(list(run.user_texts) for run in provider.runs) == told["runs"]


@pytest.mark.parametrize("path", TAKEN, ids=[path.stem for path in TAKEN])
def test_threads_that_a_person_took_over_in_an_earlier_version_stay_so(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, provider, clock, told):
        assert [row.thread_id for row in queue.list_threads("taken_over")] == told["threads"]
        assert {row.taken_over_by for row in queue.list_threads("taken_over")} == {"Jo"}
        assert queue.get_thread_status("paused").paused
        InstantWorker(queue.config, clock).run_until_idle()
        answered = queue.get_message("said-1")
        assert (answered.reply, answered.answered_by) == ("Jo here.", "Jo")
        assert queue.get_message("waits-1").status == "queued"
        assert provider.runs == ()
        queue.hand_back("waits")
        InstantWorker(queue.config, clock).run_until_idle()
        assert queue.get_message("waits-1").status == "completed"
        assert queue.get_message("written-1").answered_by == "Jo"


@pytest.mark.parametrize("path", PARKED, ids=[path.stem for path in PARKED])
def test_calls_that_waited_in_an_earlier_version_are_settled(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, _, _, told):
        calls = queue.list_approvals()
        assert [call.call_id for call in calls] == told["calls"]
        assert {call.question for call in calls} == {"Refund 3?"}
        assert {(call.tool, call.arguments["amount"]) for call in calls} == {("refund", 3)}
        assert not queue.deny("approved"), "it was approved before"
        assert queue.approve("waits", by="eve")
        assert not queue.approve("waits")
        assert queue.get_thread_status("waits").due_at is not None
        assert queue.deny("later", reason="no")
        assert queue.list_approvals() == []
        for thread in ("waits", "settled"):
            queue.forget_thread(thread)


@pytest.mark.parametrize("path", ASKED, ids=[path.stem for path in ASKED])
def test_questions_of_an_earlier_version_are_asked_and_shown(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, _, clock, told):
        core = queue.core
        numbers = itertools.count()

        def claim() -> dict[str, HeldQuestion]:
            found = core.store.run(questions.find_due(core.namespace)).due
            held = [
                core.store.run(
                    questions.claim_question(
                        core.namespace, due, token=f"{next(numbers)}", lease_s=30
                    )
                )
                for due in found
            ]
            return {one.call_id: one for one in held if one is not None}

        rows = {name: [one.what, one.tries, list(one.part_ids)] for name, one in claim().items()}
        assert rows == told["due"]
        clock.advance(30)
        held = claim()
        rows = {name: [one.what, one.deaths, list(one.part_ids)] for name, one in held.items()}
        assert rows == told["after_a_lease"]
        assert held["tried"].approval is not None
        assert held["tried"].approval.question == "Refund 3?"
        assert held["shown"].settlement is not None
        assert held["shown"].settlement.by == "eve"
        assert queue.deny("asked", by="jo")
        assert claim()["asked"].part_ids == ("-5/7:12",)
        queue.forget_thread("t")
        assert not core.store.client.exists(core.namespace.keys.questions)


@pytest.mark.parametrize("path", OPERATIONS, ids=[path.stem for path in OPERATIONS])
def test_what_operators_did_and_the_history_of_an_earlier_version_are_read(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, _, _, told):
        core = queue.core
        found = core.store.run(operation_log.read(core.namespace, 10))
        assert [[one.by, one.operation, one.thread_id, one.done, one.ended] for one in found] == (
            told["operations"]
        )
        assert found[-1].detail == {"reasons": "attempts, parked"}
        assert (found[-1].count, found[-2].error) == (3, "thread_taken_over")
        spans = core.store.run(
            metric_history.read_spans(
                core.namespace, None, now_ms=told["now_ms"], minutes=60, steps=60
            )
        )
        assert [(one.messages["queued"], one.status["delayed"]) for one in spans] == [(2, 3)]
        seen = core.store.run(browse_threads(core.namespace, "paused", 10))
        assert [one.thread_id for one in seen.threads] == ["paused"]
        queue.forget_thread("paused")
        left = core.store.run(operation_log.read(core.namespace, 10))
        assert {one.thread_id for one in left} == {None}


@pytest.mark.parametrize("path", PAUSES, ids=[path.stem for path in PAUSES])
def test_a_complete_list_of_paused_threads_of_an_earlier_version_is_read(
    path: Path, redis_server: RedisServer
) -> None:
    with restored(path, redis_server) as (queue, _, _, told):
        found = {state: queue.list_threads(state) for state in ("paused", "taken_over")}
        assert {state: [row.thread_id for row in rows] for state, rows in found.items()} == told[
            "threads"
        ]
        assert queue.core.store.run(paused_threads.is_complete(queue.core.namespace))
        for name in ("b", "d"):
            queue.resume(name)
        queue.hand_back("c")


def test_the_format_of_today_has_its_files() -> None:
    assert HERE / f"format_{FORMAT_VERSION}_pauses.json" in PAUSES
    assert HERE / f"format_{FORMAT_VERSION}_operations.json" in OPERATIONS
    assert HERE / f"format_{FORMAT_VERSION}_packed.json" in PARKED
    assert HERE / f"format_{FORMAT_VERSION}_asked.json" in ASKED
    assert HERE / f"format_{FORMAT_VERSION}_journal.json" in JOURNALS
    assert HERE / f"format_{FORMAT_VERSION}_notes.json" in NOTES
    assert HERE / f"format_{FORMAT_VERSION}_said.json" in SAID
    assert HERE / f"format_{FORMAT_VERSION}_wishes.json" in WISHES
    assert HERE / f"format_{FORMAT_VERSION}_taken.json" in TAKEN
    assert HERE / f"format_{FORMAT_VERSION}.json" in OLD_FORMATS
    assert HERE / f"format_{FORMAT_VERSION}_outbox.json" in OUTBOXES


def write_outbox(url: str) -> None:
    """Replies that wait: for the first time, after a try, leased, paused, in the failed list."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)

        def answered(thread_id: str, reply: str, *, at_once: bool = False) -> DeliveryLease | None:
            rig.add(thread_id, delay_s=0, author="Ann")
            return rig.reply(rig.claim(thread_id), reply=reply, at_once=at_once)

        answered("waiting", "one")
        answered("waiting", "two")
        for thread_id in ("tried", "parked"):
            lease = answered(thread_id, thread_id, at_once=True)
            assert lease is not None
            if thread_id == "tried":
                state = DeliveryState(tries=1, part_ids=("part-1",), error=ERROR)
                rig.postpone_delivery(lease, 30, state)
            else:
                rig.park_delivery(lease)
        answered("leased", "leased", at_once=True)  # its worker died
        answered("paused", "paused")
        rig.run(control.pause_thread(rig.namespace, "paused"))
        names = ("leased", "parked", "paused", "tried")
        told = {
            "now_ms": rig.clock.ms,
            "replies": sorted(
                [[name, name] for name in names] + [["waiting", "one"], ["waiting", "two"]]
            ),
            "keys": dump(client),
        }
    write_file("_outbox", told)


def write_wishes(url: str) -> None:
    """Batches in a back-off: to be stopped, to be interrupted, and steered; one that was stopped."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        for thread_id in ("stop", "interrupt", "steer", "stopped"):
            rig.add(thread_id, f"{thread_id}-1", f"{thread_id} one", delay_s=0)
            lease = rig.claim(thread_id)
            if thread_id == "stopped":
                rig.stop(thread_id)
                rig.stopped(lease)
                continue
            rig.postpone(lease, wait_s=5.0)
            how = "collect" if thread_id == "stop" else thread_id
            rig.add(thread_id, f"{thread_id}-2", f"{thread_id} two", delay_s=0, mid_run=how)
            if thread_id == "stop":
                rig.stop(thread_id)
        told = {
            "now_ms": rig.clock.ms,
            "cancelled": ["stop-1", "stopped-1"],
            "runs": [
                ["interrupt one", "interrupt two"],
                ["steer one", "steer two"],
                ["stop two"],
            ],
            "keys": dump(client),
        }
    write_file("_wishes", told)


def write_takeovers(url: str) -> None:
    """Threads that a person answers: idle, waiting, paused besides, with words and in a batch."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        threads = ["idle", "paused", "said", "waits", "written"]
        for thread in threads:
            rig.take_over("Jo", thread)
        rig.run(control.pause_thread(rig.namespace, "paused"))
        for thread in ("waits", "said", "written"):
            rig.add(thread, f"{thread}-1", "Is there a human?", delay_s=0)
        for thread in ("said", "written"):
            rig.say(thread, "Jo here.", message_id=f"{thread}-2", kind="reply")
        rig.claim("written")  # its worker died
        told = {"now_ms": rig.clock.ms, "threads": threads, "keys": dump(client)}
    write_file("_taken", told)


def write_parked(url: str) -> None:
    """Batches with calls that wait: one, and two of which the first is approved."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        for thread, *ids in (("waits", "waits"), ("settled", "approved", "later")):
            rig.add(thread, f"{thread}-1", "Refund me!", delay_s=0)
            assert rig.park(rig.claim(thread), *map(rig.open_call, ids), new=len(ids))
            rig.clock.advance(1)
        rig.settle("approved", by="eve")
        told = {"now_ms": rig.clock.ms, "calls": ["waits", "later"], "keys": dump(client)}
    write_file("_packed", told)


def write_asked(url: str) -> None:
    """Calls that a channel asks about: due, put off, held by a worker, asked, settled since."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        rig.add("t", "t-1", "Refund me!", delay_s=0)
        calls = [rig.open_call(one) for one in ("due", "tried", "held", "asked", "shown")]
        assert rig.park(rig.claim("t"), *calls, new=len(calls), asks=True)
        held = {one: rig.claim_question(one) for one in ("tried", "held", "asked", "shown")}
        for name, question in held.items():
            assert question is not None
            if name == "tried":
                assert rig.release_question(question, 5, tries=1)
            elif name != "held":
                assert rig.note_asked(question, "-5/7:12")
        rig.settle("shown", by="eve")
        rig.clock.advance(5)
        shown = ["show", 0, ["-5/7:12"]]
        told = {
            "now_ms": rig.clock.ms,
            "due": {"due": ["ask", 0, []], "tried": ["ask", 1, []], "shown": shown},
            "after_a_lease": {
                "due": ["ask", 1, []],
                "tried": ["ask", 1, []],
                "held": ["ask", 1, []],
                "shown": ["show", 1, ["-5/7:12"]],
            },
            "keys": dump(client),
        }
    write_file("_asked", told)


def write_said(url: str) -> None:
    """A reply of `say` after a message that wants no reply; and such a message alone."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        rig.add("said", "before", "before", wants_reply=False)
        rig.say("said", "a reply", message_id="s", kind="reply")
        rig.add("quiet", "quiet", "quiet", wants_reply=False)
        told = {"now_ms": rig.clock.ms, "texts": ["before", "a reply"], "keys": dump(client)}
    write_file("_said", told)


def write_journal(url: str) -> None:
    """A batch that was answered, one that failed, a delivery, and a text of `say`."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        rig.add("t", delay_s=0, message_id="m1", tenant="acme")
        rig.add("t", delay_s=0, message_id="0123456789abcdef01234567")
        lease = rig.claim("t", batch_id="abcdef0123456789abcdef01")
        rig.clock.advance(2)
        error = ErrorInfo(code="rate_limited", message="")
        started = rig.clock.ms - 900
        rows = (
            AttemptRow(number=1, started_ms=started, ended_ms=started + 1, error=error),
            AttemptRow(number=2, started_ms=started + 5, worker="host:1", run_id="run_1"),
        )
        progress = Progress(tries=rows, run_sent_ms=started + 6, first_text_ms=started + 700)
        timeline = timeline_of(
            lease.claimed.batch.messages, progress, claimed_ms=started, due_ms=started
        )
        usage = Usage(input_tokens=9, output_tokens=3, total_tokens=12, rounds=2, model="gpt-x")
        result = dataclasses.replace(
            rig.result(lease), timeline=timeline, usage=usage, model="gpt-x", attempts=2
        )
        rig.finish(
            lease,
            result=result,
            tools=[
                ToolRow(name="f", ms=7, call_id="call_1", started_ms=started + 9),
                ToolRow(name="g", ms=8, error="KeyError"),
            ],
        )
        rig.add("t", delay_s=0, message_id="m2")
        rig.bury(rig.claim("t"))
        rig.add("t", delay_s=0, message_id="m3")
        held = rig.reply(rig.claim("t"))
        assert held is not None
        rig.delivered(held, state=DeliveryState(tries=1, part_ids=("101", None)))
        rig.say("t", message_id="s")
        parked = rig.claim_delivery("t")
        assert parked is not None
        rig.park_delivery(parked)
        told = {
            "records": [json.loads(plain_of(one)) for one in rig.journal("t")],
            "keys": {
                name: row for name, row in dump(client).items() if name == rig.keys.journal("t")
            },
        }
    write_file("_journal", told)


def write_notes(url: str) -> None:
    """A batch of two authors, one that was written, and one of a single author."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)

        def ended(*shown: str, **fields: Any) -> None:
            lease = rig.claim("t")
            rig.clock.advance(2)
            messages = lease.claimed.batch.messages
            timeline = timeline_of(messages, Progress(), claimed_ms=rig.clock.ms)
            result = dataclasses.replace(
                rig.result(lease), messages=messages, timeline=timeline, **fields
            )
            rig.finish(lease, result=result, shown=shown)

        rig.add("t", delay_s=0, author="Ann")
        rig.clock.advance(1.5)
        rig.add("t", delay_s=0, author="Bob: the builder")
        ended("item_3")
        rig.add("t", delay_s=0, author="Ann", wants_reply=False)
        rig.say("t", message_id="s", kind="reply")
        ended("item_4", "item_5", run_id="")
        for _ in range(2):
            rig.add("t", delay_s=0, author="Bob: the builder")
            rig.clock.advance(3)
        ended("item_8")
        told = {
            "notes": _noted(rig),
            "keys": {
                name: row for name, row in dump(client).items() if name == rig.keys.journal("t")
            },
        }
    write_file("_notes", told)


def write(url: str) -> None:
    """One thread in each state, as this version writes it."""
    clock = FakeClock()
    with (
        redis.Redis.from_url(url) as client,
        StandInProvider(latency=0) as provider,
        open_queue(url, provider, clock) as queue,
    ):
        store = queue._store
        namespace = queue._commands.namespace

        def claim(thread_id: str) -> tuple[leases.Lease, Claimed]:
            lease = store.run(
                leases.claim(
                    namespace,
                    thread_id,
                    token=f"token-{thread_id}",
                    batch_id=f"batch-{thread_id}",
                    lease_s=30,
                )
            )
            assert isinstance(lease, leases.Lease)
            return lease, lease.claimed

        queue.add_message_to_thread("done", "hello", message_id="answered")
        InstantWorker(queue.config, clock).run_until_idle()
        for number, thread_id in enumerate(("dead", "retrying", "active")):
            queue.add_message_to_thread(
                thread_id, f"text {number}", message_id=thread_id, author="Ann", metadata={"k": "v"}
            )
        clock.advance(10)
        lease, _ = claim("dead")
        error = ErrorInfo(code="run_failed", message="it failed")
        store.run(
            outcomes.bury(
                namespace, lease, lease.guard_id, reason="attempts", error=error, progress=Progress(attempts=3, failures=3, error=error),
                message_ids=["dead"], open_calls=[], pause=False, ended_ms=clock.ms,
            )
        )  # fmt: skip
        lease, _ = claim("retrying")
        progress = Progress(attempts=1, failures=1, error=error)
        store.run(
            leases.postpone(
                namespace,
                lease,
                state=ThreadState.RETRYING,
                wait_s=5,
                phase=Phase.FROZEN,
                progress=progress,
            )
        )
        claim("active")  # its worker died before it sent anything
        queue.add_message_to_thread("active", "behind", message_id="behind")
        queue.add_message_to_thread(
            "waiting", "wait", message_id="waiting", instructions="Be brief."
        )
        queue.pause("paused")
        queue.add_message_to_thread("paused", "hold on", message_id="paused")
        names = ["answered", "dead", "retrying", "active", "behind", "waiting", "paused"]
        told = {
            "now_ms": clock.ms,
            "messages": {name: queue.get_message(name).status for name in names},
            "texts": ["Ann: text 0", "Ann: text 1", "Ann: text 2", "behind", "wait", "hold on"],
            "keys": dump(client),
        }
    write_file("", told)


def write_operations(url: str) -> None:
    """Operations that ended, one that did not, two without those marks, and two samples."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        rig.add("paused", delay_s=60)
        keep = partial(metric_history.keep_sample, rig.namespace)
        rig.run(keep())
        rig.clock.advance(60)
        for number in range(2):
            rig.add(f"t{number}", delay_s=60)
        rig.run(keep())
        rig.run(control.pause_thread(rig.namespace, "paused"))
        # As they were written before an operation was recorded as it begins.
        for row in (
            (
                '{"at":1772452805000,"by":"Ann","op":"retry_failed","n":3,'
                '"d":{"reasons":"attempts, parked"}}'
            ),
            (
                '{"at":1772452806000,"op":"take_over","t":"paused","done":false,'
                '"x":"thread_taken_over"}'
            ),
        ):
            client.lpush(rig.keys.operations, row)
        one = operation_log.OperationRecord(
            at=moment(rig.clock.ms), by="cli:ann@desk", operation="pause", thread_id="paused"
        )
        begun = dataclasses.replace(one, ended=False, done=False)
        entry = rig.run(operation_log.begin(rig.namespace, begun))
        rig.run(operation_log.end(rig.namespace, entry, one))
        rig.run(operation_log.begin(rig.namespace, begun))
        told = {
            "now_ms": rig.clock.ms,
            "operations": [
                ["cli:ann@desk", "pause", "paused", False, False],
                ["cli:ann@desk", "pause", "paused", True, True],
                [None, "take_over", "paused", False, True],
                ["Ann", "retry_failed", None, True, True],
            ],
            "keys": dump(client),
        }
    write_file("_operations", told)


def write_pauses(url: str) -> None:
    """Threads that are paused or a person's, one since before the list was kept by the scripts."""
    with redis.Redis.from_url(url) as client:
        client.flushall()
        rig = Rig(client, PREFIX)
        for thread in ("d", "b"):
            rig.run(control.pause_thread(rig.namespace, thread))
            rig.clock.advance(1)
        client.zrem(rig.keys.pausing, "b")
        rig.take_over("Jo", "c")
        rig.clock.advance(1)
        rig.run(paused_threads.complete(rig.namespace))
        told = {
            "now_ms": rig.clock.ms,
            "threads": {"paused": ["d", "b"], "taken_over": ["c"]},
            "keys": dump(client),
        }
    write_file("_pauses", told)


if __name__ == "__main__":
    import tempfile

    from tests.conftest import SERVERS

    server = RedisServer(next(iter(SERVERS.values())), Path(tempfile.mkdtemp()))
    server.start()
    write_pauses(server.url)
    server.stop()
