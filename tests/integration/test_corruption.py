"""Foreign writes to the keys stop no worker and no other thread; messages are answered or fail."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import fakeredis
import pytest
import redis
from click.testing import CliRunner

from assistant_queue import AssistantMessageQueue, StoreError
from assistant_queue.cli import main
from assistant_queue.store.keys import Keys
from assistant_queue.store.ops.metric_history import keep_sample
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import refuse
from tests.conftest import RedisServer, with_clock

Spoil = Callable[["Victim"], Any]
GARBAGE = b"\xff\xfe{"


class Victim:
    """A thread `t` in some state, a healthy neighbour `u`, and a client that writes anything."""

    def __init__(
        self,
        options: dict[str, Any],
        client: Any,
        prefix: str,
        provider: StandInProvider,
        moment: str,
    ) -> None:
        self.client = client
        self.keys = Keys(prefix)
        self.provider = provider
        self.moment = moment
        self.delivered: list[str] = []
        self.seen = len(provider.runs)
        self.clock = FakeClock()
        self.queue = AssistantMessageQueue(
            **options,
            queue_prefix=prefix,
            openai_api_key=provider.api_key,
            openai_base_url=provider.base_url,
            model="stand-in-model",
            message_delay=5,
            max_attempts=1 if moment == "failed" else 3,
            on_reply=lambda result: self.delivered.append(result.batch_id),
        )
        self.queue = with_clock(self.queue, self.clock)
        self.ids = [
            self.queue.add_message_to_thread("t", text).message_id for text in ("one", "two")
        ]
        if moment == "failed":
            provider.fault("responses.create", refuse(404, "not_found"))
            self.work()
            (failed,) = self.queue.list_failed()
            self.batch = failed.batch_id
        elif moment != "waiting":
            self.work(crash=moment)
            where = self.keys.delivering if moment == "before Deliver" else self.keys.thread
            self.batch = client.hget(where("t"), "batch").decode()

    def work(self, crash: str = "") -> None:
        def probe(name: str, batch: Any) -> None:
            if name == crash and batch.thread_id == "t":
                raise Crash(name)

        try:
            InstantWorker(self.queue.config, self.clock, probe=probe).run_until_idle()
        except Crash:
            assert crash

    def look(self) -> None:
        """Everything that reads, while it is still broken: an answer or a typed error."""
        for call in (
            lambda: self.queue.get_message(self.ids[0]),
            lambda: self.queue.get_thread_status("t"),
            self.queue.get_queue_status,
            self.queue.get_metrics,
            self.queue.list_failed,
            lambda: self.queue.get_jobs_by_thread_id("t"),
            lambda: self.queue.pause("v"),
            lambda: self.queue.core.store.run(keep_sample(self.queue.core.namespace)),
        ):
            with contextlib.suppress(StoreError):
                call()

    def texts(self) -> list[str]:
        """Return all users' texts that the provider got, in all its conversations."""
        places = dict.fromkeys(run.conversation_id for run in self.provider.runs[self.seen :])
        return [text for place in places for text in self.provider.user_texts(place)]


@pytest.fixture(scope="module")
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        yield standing


@pytest.fixture(params=["fakeredis", "redis"])
def make(
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> Iterator[Callable[[str], Victim]]:
    made: list[Victim] = []
    client: Any = redis.Redis.from_url(one_redis.url)
    options: dict[str, Any] = {"redis_url": one_redis.url}
    if request.param == "fakeredis":
        client = fakeredis.FakeRedis(server=fakeredis.FakeServer())
        options = {"redis": client}

    def make(moment: str) -> Victim:
        made.append(Victim(options, client, prefix, provider, moment))
        return made[-1]

    yield make
    for victim in made:
        victim.queue.close()
    client.close()


def at_moments(first: str, *others: str) -> pytest.MarkDecorator:
    """Spoil at each moment on Redis, at the first one on fakeredis: it runs the same scripts."""
    return pytest.mark.parametrize(
        ("make", "moment"),
        [("fakeredis", first), *(("redis", moment) for moment in (first, *others))],
        indirect=["make"],
    )


EVERY_MOMENT = at_moments("after Start", "before Start", "before Finish")


def survives(victim: Victim, spoil: Spoil) -> list[str]:
    """Spoil, add to both threads, work until idle; return the texts that the provider got."""
    spoil(victim)
    victim.look()
    neighbour = victim.queue.add_message_to_thread("u", "neighbour")
    try:
        late = victim.queue.add_message_to_thread("t", "late")
    except StoreError:
        late = None
    victim.look()
    victim.work()
    assert victim.queue.get_message(neighbour.message_id).reply == "You said: neighbour"
    later = victim.queue.add_message_to_thread("t", "later")
    victim.work()
    assert victim.queue.get_message(later.message_id).status == "completed"
    texts = victim.texts()
    assert late is not None or "late" not in texts
    assert len(texts) == len(set(texts)), "something was sent twice"
    assert victim.provider.overlaps == ()
    assert victim.client.zcard(victim.keys.due) == 0
    assert not victim.client.keys(f"{victim.keys.prefix}:frozen:*")
    status = victim.queue.get_queue_status()
    assert min(status.active_count, status.waiting_count, status.delayed_count) >= 0
    return texts


def wrong_type(name: str, *which: str) -> Spoil:
    """The key becomes a string, or a set."""

    def spoil(victim: Victim) -> None:
        key = key_of(victim, name)
        victim.client.delete(key)
        if which:
            victim.client.sadd(key, *which)
        else:
            victim.client.set(key, GARBAGE)

    return spoil


def key_of(victim: Victim, name: str) -> str:
    keys = victim.keys
    if name == "message":
        return keys.message(victim.ids[0])
    if name in {"record", "dead"}:
        return str(getattr(keys, name)(victim.batch))
    return str(
        getattr(keys, name)("t")
        if name
        in {"thread", "pending", "frozen", "conversation", "outbox", "delivering", "journal"}
        else getattr(keys, name)
    )


def field(key: str, name: str, value: Any) -> Spoil:
    def spoil(victim: Victim) -> None:
        if value is None:
            victim.client.hdel(key_of(victim, key), name)
        else:
            victim.client.hset(key_of(victim, key), name, value)

    return spoil


def entry(key: str, index: int, value: Any) -> Spoil:
    return lambda victim: victim.client.lset(key_of(victim, key), index, value)


WHOLE_QUEUE = (
    *("due", "failed", "counters", "metrics"),
    *("paused", "format", "fingerprint", "quarantine"),
    *("history", "operations", "pausing"),
)
NUMBERS = ("n", "head", "first", "own_due")
VALUES = ("abc", "", "1e400", "1" * 30, "-5.5", GARBAGE)


# --- before anything was sent: nothing may be missing ---------------------------------------------


@pytest.mark.parametrize("name", WHOLE_QUEUE)
@pytest.mark.parametrize("which", [(), ("x",)], ids=["string", "set"])
def test_a_key_of_the_whole_queue_of_another_type_costs_no_message(
    make: Callable[[str], Victim], name: str, which: tuple[str, ...]
) -> None:
    victim = make("waiting")
    if name == "paused":
        wrong_type(name, *which)(victim)
        victim.queue.resume()
    assert set(
        survives(victim, (lambda _: None) if name == "paused" else wrong_type(name, *which))
    ) == {
        "one",
        "two",
        "late",
        "later",
        "neighbour",
    }


@pytest.mark.parametrize(
    ("name", "value"), [*(("due", value) for value in VALUES), *((name, "abc") for name in NUMBERS)]
)
def test_a_thread_with_a_broken_number_begins_anew(
    make: Callable[[str], Victim], name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    victim = make("waiting")
    assert set(survives(victim, field("thread", name, value))) == {
        "one",
        "two",
        "late",
        "later",
        "neighbour",
    }
    assert [
        record
        for record in caplog.records
        if record.levelno == logging.ERROR and "is now" in record.getMessage()
    ]
    (kept,) = victim.client.zrange(victim.keys.quarantine, 0, -1)
    assert victim.client.hget(kept, name) == (value if isinstance(value, bytes) else value.encode())


@pytest.mark.parametrize(
    "spoil",
    [
        wrong_type("thread"),
        wrong_type("thread", "x"),
        field("thread", "state", "weird"),
        field("thread", "state", None),
        field("thread", "due", None),
        field("thread", "n", None),
        field("thread", "n", 7),
        field("thread", "n", 1),
        field("thread", "head", 99),
        field("thread", "own_due", None),
        field("thread", "pk", "weird"),
        field("thread", "wake", GARBAGE),
        field("thread", "token", "somebody"),
        field("thread", "batch", "none"),
        field("thread", "unknown", GARBAGE),
        field("message", "seq", "abc"),
        field("message", "digest", None),
        field("message", "due", None),
        field("message", "thread", None),
        field("message", "unknown", GARBAGE),
        wrong_type("message"),
        wrong_type("conversation"),
        field("conversation", "open", "{"),
        field("conversation", "open", "5"),
        field("counters", "waiting", "abc"),
        field("counters", "active", GARBAGE),
        field("counters", "completed", 9223372036854775807),
        lambda victim: victim.client.zadd(victim.keys.due, {GARBAGE: 1, "ghost": 2, "": 3}),
        lambda victim: (
            victim.client.zadd(victim.keys.due, {"far": "inf", "long ago": "-inf"})
            and victim.client.zrem(victim.keys.due, "far")
        ),
        lambda victim: victim.client.zadd(victim.keys.failed, {GARBAGE: 1, "ghost": 2}),
        lambda victim: victim.client.set(victim.keys.fingerprint, "{"),
        lambda victim: victim.client.set(victim.keys.fingerprint, "5"),
        lambda victim: victim.client.set(victim.keys.format, "one"),
        lambda victim: victim.client.lpush(f"rq:queue:{victim.keys.prefix}", "no-such-job"),
        lambda victim: victim.client.delete(victim.keys.message(victim.ids[0])),
    ],
)
def test_what_waits_is_answered(make: Callable[[str], Victim], spoil: Spoil) -> None:
    assert {"one", "two", "later", "neighbour"} <= set(survives(make("waiting"), spoil))


@pytest.mark.parametrize(
    "value",
    [
        GARBAGE,
        "{",
        "5",
        "[]",
        '{"id": 1}',
        '{"id": "x"}',
        '{"id": "x", "c": 5}',
        '{"id": "x", "c": "y", "m": []}',
    ],
)
@at_moments("waiting", "before Start")
def test_an_unreadable_message_takes_its_batch_to_the_failed_list(
    make: Callable[[str], Victim], moment: str, value: Any
) -> None:
    victim = make(moment)
    texts = survives(victim, entry("pending" if moment == "waiting" else "frozen", 0, value))
    assert "one" not in texts
    (failed,) = victim.queue.list_failed()
    assert failed.reason == "corrupt"
    assert victim.ids[1] in failed.message_ids
    with pytest.raises(StoreError, match="was not written by this queue"):
        victim.queue.retry_failed(failed.batch_id)
    victim.queue.discard_failed(failed.batch_id)
    assert victim.queue.list_failed() == []
    assert victim.queue.get_queue_status().failed_count == 0


def test_fields_that_a_newer_version_added_do_no_harm(make: Callable[[str], Victim]) -> None:
    victim = make("waiting")
    spoil = entry("pending", 0, json.dumps({"id": victim.ids[0], "c": "one", "new": {"a": 1}}))
    assert set(survives(victim, spoil)) == {"one", "two", "late", "later", "neighbour"}
    assert victim.queue.list_failed() == []


@pytest.mark.parametrize("key", ["pending", "thread"])
def test_a_lost_list_or_hash_costs_no_more_than_itself(
    make: Callable[[str], Victim], key: str
) -> None:
    """Of a list that is gone nothing can be answered; of a hash that is gone everything."""
    victim = make("waiting")
    texts = survives(victim, lambda victim: victim.client.delete(key_of(victim, key)))
    assert {"late", "later", "neighbour"} <= set(texts)
    assert ("one" in texts) is (key == "thread")


def test_a_list_of_another_type_is_kept_for_a_person(make: Callable[[str], Victim]) -> None:
    victim = make("waiting")
    assert {"late", "later", "neighbour"} <= set(survives(victim, wrong_type("pending")))
    kept = [
        name
        for name in victim.client.zrange(victim.keys.quarantine, 0, -1)
        if b":pending:t" in name
    ]
    assert [victim.client.get(name) for name in kept] == [GARBAGE]


# --- in the middle of a batch: what may have been sent is not sent again --------------------------


@EVERY_MOMENT
@pytest.mark.parametrize(
    "spoil",
    [
        wrong_type("thread"),
        wrong_type("frozen"),
        wrong_type("conversation"),
        wrong_type("journal"),
        field("thread", "phase", "weird"),
        field("thread", "phase", None),
        field("thread", "until", "abc"),
        field("thread", "until", None),
        field("thread", "deaths", "abc"),
        field("thread", "claimed", None),
        field("thread", "bn", "abc"),
        field("thread", "bn", 9),
        field("thread", "progress", "{"),
        field("thread", "progress", "[]"),
        field("thread", "progress", '{"attempts": "x"}'),
        field("thread", "progress", '{"calls": [5]}'),
        field("thread", "progress", '{"outputs": []}'),
        field("thread", "progress", GARBAGE),
        field("thread", "batch", GARBAGE),
        lambda victim: victim.client.delete(key_of(victim, "frozen")),
        lambda victim: victim.client.delete(key_of(victim, "thread")),
    ],
)
def test_a_batch_with_a_broken_record_fails_without_a_guess(
    make: Callable[[str], Victim], moment: str, spoil: Spoil
) -> None:
    victim = make(moment)
    texts = survives(victim, spoil)
    assert {"later", "neighbour"} <= set(texts)
    for failed in victim.queue.list_failed():
        assert failed.reason in {"corrupt", "parked"}
        victim.queue.discard_failed(failed.batch_id)


@EVERY_MOMENT
@pytest.mark.parametrize(
    "spoil",
    [
        wrong_type("message"),
        wrong_type("record"),
        wrong_type("counters"),
        wrong_type("due"),
        field("message", "batch", None),
        field("conversation", "open", "{"),
        field("conversation", "anchor", "item_of_nobody"),
        field("counters", "active", "abc"),
        field("thread", "unknown", GARBAGE),
        field("thread", "bk", "weird"),
        field("thread", "wake", None),
        lambda victim: victim.client.delete(key_of(victim, "message")),
    ],
)
def test_broken_keys_of_a_batch_are_quarantined_and_the_batch_continues(
    make: Callable[[str], Victim], moment: str, spoil: Spoil
) -> None:
    victim = make(moment)
    assert {"one", "two", "later", "neighbour"} <= set(survives(victim, spoil))
    assert victim.queue.list_failed() == []


@pytest.mark.parametrize(
    "spoil",
    [
        field("delivering", "progress", "{"),
        field("delivering", "progress", GARBAGE),
        field("delivering", "until", GARBAGE),
        field("delivering", "batch", GARBAGE),
        wrong_type("message"),
        wrong_type("delivering"),
        wrong_type("deliveries"),
        wrong_type("journal", "x"),
    ],
)
def test_a_reply_is_delivered_although_its_record_is_broken(
    make: Callable[[str], Victim], spoil: Spoil
) -> None:
    victim = make("before Deliver")
    survives(victim, spoil)
    assert victim.batch in victim.delivered


def test_an_unreadable_reply_stops_no_other_thread(
    make: Callable[[str], Victim], caplog: pytest.LogCaptureFixture
) -> None:
    victim = make("before Deliver")

    def spoil(victim: Victim) -> None:
        header = victim.client.lpop(key_of(victim, "outbox")).split(b" {")[0]
        victim.client.lpush(key_of(victim, "outbox"), header + b" {")
        field("record", "result", "{")(victim)

    survives(victim, spoil)
    assert "the reply goes to the failed list (undelivered)" in caplog.text
    assert victim.batch not in victim.delivered


# --- in the failed list ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        wrong_type("record"),
        wrong_type("dead"),
        field("record", "failure", "{"),
        field("record", "failure", "5"),
        field("record", "failure", "{}"),
        field("record", "failed_at", "abc"),
        field("record", "failed_at", "9" * 30),
        field("record", "n", "abc"),
        lambda victim: victim.client.lset(key_of(victim, "dead"), 0, "{"),
        lambda victim: victim.client.zadd(victim.keys.failed, {"ghost": 1}),
        wrong_type("failed"),
        wrong_type("failed", "x"),
    ],
)
def test_a_broken_failed_batch_is_shown_and_can_be_discarded(
    make: Callable[[str], Victim], spoil: Spoil
) -> None:
    victim = make("failed")
    assert {"late", "later", "neighbour"} <= set(survives(victim, spoil))
    assert victim.batch in [failed.batch_id for failed in victim.queue.list_failed()]
    try:
        victim.queue.retry_failed(victim.batch)
    except StoreError:
        victim.queue.discard_failed(victim.batch)
    victim.work()
    assert victim.batch not in [failed.batch_id for failed in victim.queue.list_failed()]


# --- queries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["due", "failed", "counters", "fingerprint", "format"])
def test_the_doctor_examines_a_queue_with_foreign_keys(
    one_redis: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("REDIS_URL", one_redis.url)
    monkeypatch.setenv("ASSISTANT_QUEUE_QUEUE_PREFIX", prefix)
    with redis.Redis.from_url(one_redis.url) as client:
        client.sadd(getattr(Keys(prefix), name), "x")
        client.zadd(Keys(prefix).quarantine, {"some key": 1})
    for command in (["doctor", "--no-provider"], ["status"], ["failed"], ["sweep", "--once"]):
        told = CliRunner().invoke(main, command)
        assert told.exception is None or isinstance(told.exception, SystemExit), told.output
    told = CliRunner().invoke(main, ["doctor", "--no-provider"])
    assert "moved aside" in told.output
