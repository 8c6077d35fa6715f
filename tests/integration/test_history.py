"""Authors and times of a thread's history, whatever the provider keeps of them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import redis

from assistant_queue import AssistantMessageQueue, ThreadMessage
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls
from tests.conftest import RedisServer, with_clock
from tests.integration.test_crash_points import CrashAt

PROTOCOLS = ("responses", "assistants", "chat_completions")


class Chat:
    """One queue on one protocol, on a clock that stands still."""

    def __init__(self, url: str, prefix: str, provider: StandInProvider, **options: Any) -> None:
        protocol = options.pop("protocol")
        chosen = (
            {"assistant_id": provider.assistant_id}
            if protocol == "assistants"
            else {"model": "stand-in-model", "protocol": protocol}
        )
        self.clock = FakeClock()
        self.provider = provider
        self.prefix = prefix
        self.redis = redis.Redis.from_url(url, decode_responses=True)
        self.queue = with_clock(
            AssistantMessageQueue(
                redis_url=url,
                queue_prefix=prefix,
                openai_api_key=provider.api_key,
                openai_base_url=provider.base_url,
                **chosen,
                **options,
            ),
            self.clock,
        )
        self.worker = InstantWorker(self.queue.config, self.clock)

    def add(self, text: str, author: str | None = None, **fields: Any) -> int:
        """Add a message; return the ms at which it was queued."""
        self.queue.add_message_to_thread("t", text, author=author, **fields)
        return self.clock.ms

    def answer(self) -> int:
        """Answer what waits; return the ms at which the batch ended."""
        self.worker.run_until_idle()
        return round(self.queue.get_timeline("t", limit=1)[0].ended_at.timestamp() * 1000)

    def history(self, **page: Any) -> list[ThreadMessage]:
        return self.queue.list_messages("t", **{"limit": 100, "order": "asc", **page})

    def seen(self, **page: Any) -> list[tuple[str, str | None, int | None]]:
        """Text, author and time (ms) of the history."""
        return [
            (
                one.text,
                one.author,
                None if one.created_at is None else round(one.created_at.timestamp() * 1000),
            )
            for one in self.history(**page)
        ]


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def chat(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, protocol: str
) -> Iterator[Chat]:
    made = Chat(one_redis.url, prefix, provider, protocol=protocol)
    with made.queue:
        yield made
    made.redis.close()


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    def model(turn: Any) -> Reply:
        return Reply(f"re {turn.user_texts[-1]}")

    with StandInProvider(model, latency=0) as standing:
        yield standing


only_responses = pytest.mark.parametrize("protocol", ["responses"])


def test_each_message_has_its_author_and_its_time(chat: Chat) -> None:
    chat.add("one", "Ann")
    chat.clock.advance(1)
    chat.add("two", "Bob")
    chat.answer()
    chat.add("three")
    chat.answer()
    found = chat.history()
    assert [one.author for one in found] == ["Ann", "Bob", None, None, None]
    assert all(one.created_at is not None for one in found)


@pytest.mark.parametrize("protocol", ["responses", "chat_completions"])
def test_the_times_are_those_of_the_queue_where_the_provider_has_none(chat: Chat) -> None:
    first = chat.add("one", "Ann")
    chat.clock.advance(1.4)
    chat.add("two", "Ann")
    ended = chat.answer()
    chat.clock.advance(500)
    third = chat.add("three")
    later = chat.answer()
    assert [at for _, _, at in chat.seen()] == [first, first + 1000, ended, third, later]
    assert later > third > ended


@only_responses
def test_a_page_that_begins_between_a_question_and_its_answer_is_complete(chat: Chat) -> None:
    expected = []
    for number in range(4):
        for part in "abc":
            expected.append((f"m{number}{part}", f"Author {part}"))
            chat.add(f"m{number}{part}", f"Author {part}")
        chat.answer()
        expected.append((None, None))
    everything = chat.history()
    assert [one.author for one in everything] == [author for _, author in expected]
    count = len(everything)
    for order, listed in (("asc", everything), ("desc", everything[::-1])):
        for limit in (1, 2, 3, 5):
            for place in range(count):
                after = chat.history(limit=limit, order=order, after=listed[place].id)
                assert after == listed[place + 1 : place + 1 + limit], (order, limit, place)
                before = chat.history(limit=limit, order=order, before=listed[place].id)
                assert before == listed[max(place - limit, 0) : place], (order, limit, place)


@only_responses
def test_an_answer_in_several_rounds_is_one_batch(chat: Chat, provider: StandInProvider) -> None:
    provider.model = lambda turn: (
        Reply("done") if turn.tool_outputs else ToolCalls([("order", {})], text="let me see")
    )
    chat.queue.tool(lambda: "shipped", name="order")
    at = chat.add("where?", "Ann")
    ended = chat.answer()
    assert chat.seen() == [
        ("Ann: where?", "Ann", at),
        ("let me see", None, ended),
        ("done", None, ended),
    ]


def test_a_worker_that_dies_leaves_the_history_known(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    provider.model = lambda turn: (
        Reply("done") if turn.tool_outputs else ToolCalls([("order", {})], text="let me see")
    )
    for number in itertools.count(1):
        chat = Chat(one_redis.url, f"{prefix}-{number}", provider, protocol="responses")
        with chat.queue:
            chat.queue.tool(lambda: "shipped", name="order")
            at = chat.add("where?", "Ann")
            crash = CrashAt(number)
            with suppress(Crash):
                InstantWorker(chat.queue.config, chat.clock, probe=crash).run_until_idle()
            ended = chat.answer()
            assert chat.seen() == [
                ("Ann: where?", "Ann", at),
                ("let me see", None, ended),
                ("done", None, ended),
            ], f"died at point {number}, {crash.name}"
        chat.redis.close()
        if not crash.name:
            assert number > 5
            return


@only_responses
def test_what_was_said_and_what_wants_no_reply_have_their_authors(chat: Chat) -> None:
    quiet = chat.add("by the way", "Ann", wants_reply=False)
    chat.clock.advance(2)
    chat.queue.say("t", "A person here.", author="Cleo")
    said = chat.clock.ms
    chat.worker.run_until_idle()
    asked = chat.add("thanks", "Bob")
    ended = chat.answer()
    texts = [text for text, _, _ in chat.seen()]
    assert [(author, at) for _, author, at in chat.seen()] == [
        ("Ann", quiet),
        ("Cleo", said),
        ("Bob", asked),
        (None, ended),
    ], texts


@only_responses
def test_nothing_is_said_of_messages_that_the_journal_does_not_know(chat: Chat) -> None:
    chat.queue.create_message("t", "written beside the queue")
    chat.add("asked in the queue", "Ann")
    ended = chat.answer()
    nothing = (None, None)
    assert [(author, at) for _, author, at in chat.seen()] == [nothing, nothing, (None, ended)]
    at = chat.add("asked alone", "Bob")
    later = chat.answer()
    assert [(author, at) for _, author, at in chat.seen()][3:] == [("Bob", at), (None, later)]


@only_responses
def test_an_author_is_not_guessed_when_an_item_is_gone(chat: Chat) -> None:
    chat.add("one", "Ann")
    chat.add("two", "Bob")
    chat.answer()
    place = chat.redis.hget(f"{chat.prefix}:conversation:t", "id")
    found = chat.history()
    httpx.delete(
        f"{chat.provider.base_url}/conversations/{place}/items/{found[0].id}",
        headers={"Authorization": f"Bearer {chat.provider.api_key}"},
    ).raise_for_status()
    assert [one.author for one in chat.history()] == [None, None]


@only_responses
def test_the_first_page_costs_one_request(chat: Chat) -> None:
    for number in range(3):
        chat.add(f"m{number}", "Ann")
        chat.answer()
    before = len(chat.provider.requests)
    assert [one.author for one in chat.history(limit=4, order="desc")] == [None, "Ann"] * 2
    assert len(chat.provider.requests) == before + 1


@only_responses
def test_a_forgotten_thread_has_no_authors(chat: Chat) -> None:
    chat.add("one", "Ann")
    chat.answer()
    place = chat.redis.hget(f"{chat.prefix}:conversation:t", "id")
    assert "Ann" in "".join(chat.redis.lrange(f"{chat.prefix}:journal:t", 0, -1))
    chat.queue.forget_thread("t")
    assert not list(chat.redis.scan_iter(f"{chat.prefix}:journal:*"))
    found = chat.queue.list_messages(place, order="asc")
    assert [(one.author, one.created_at) for one in found] == [(None, None)] * 2


def test_without_a_journal_nothing_is_known(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    chat = Chat(one_redis.url, prefix, provider, protocol="responses", journal=0)
    with chat.queue:
        chat.add("one", "Ann")
        chat.worker.run_until_idle()
        assert [(author, at) for _, author, at in chat.seen()] == [(None, None)] * 2


@only_responses
def test_entries_of_an_earlier_version_say_nothing_about_the_history(chat: Chat) -> None:
    chat.add("one", "Ann")
    chat.answer()
    key = f"{chat.prefix}:journal:t"
    row = json.loads(chat.redis.lindex(key, 0))
    assert isinstance(row.pop(), str)
    chat.redis.lset(key, 0, json.dumps(row))
    assert [dataclasses.astuple(one)[-1] for one in chat.history()] == [None, None]
    assert [one.created_at for one in chat.history()] == [None, None]
    assert len(chat.queue.get_timeline("t")) == 1
