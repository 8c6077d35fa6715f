"""Die before and after every single call: each command to Redis and each request to the provider, counted at the clients themselves."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import fakeredis
import openai
import pytest

from assistant_queue import AssistantMessageQueue, Batch, FunctionBackend, RunContext
from assistant_queue.store.transport.stores import AsyncStore
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import Crash, InstantWorker
from assistant_queue.testing.provider import Reply, ToolCalls
from tests.conftest import RedisServer, with_clock

TEXTS = ("hi", "one question")
TOOL = {"type": "function", "name": "order", "parameters": {"type": "object", "properties": {}}}


class Deaths:
    """Counts the boundaries of calls, two for each, and dies at the k-th: no further call is made, whatever is caught meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.passed = 0
        self.name = ""
        self._watch(
            monkeypatch,
            AsyncStore,
            "_send",
            lambda _, call: f"redis {call.script.name if call.script else call.words[0]}",
        )
        self._watch(monkeypatch, AsyncStore, "_send_many", lambda *_: "redis, several")
        self._watch(
            monkeypatch,
            aiohttp.ClientSession,
            "_request",
            lambda _, method, url, **__: f"http {method} {url.path}",
        )
        # openai has changed its HTTP library once: whichever it builds on.
        sends = next(one for one in openai.DefaultAsyncHttpxClient.__mro__ if "send" in vars(one))
        self._watch(
            monkeypatch,
            sends,
            "send",
            lambda _, request, **__: f"http {request.method} {request.url.path}",
        )

    def _watch(
        self,
        monkeypatch: pytest.MonkeyPatch,
        owner: type[Any],
        method: str,
        name_of: Callable[..., str],
    ) -> None:
        real = getattr(owner, method)

        async def send(*args: Any, **kwargs: Any) -> Any:
            name = name_of(*args, **kwargs)
            self._pass(f"before {name}")
            answer = await real(*args, **kwargs)
            try:
                self._pass(f"after {name}")
            except Crash:
                if isinstance(answer, aiohttp.ClientResponse):
                    answer.close()  # a process that dies leaves no connection
                raise
            return answer

        monkeypatch.setattr(owner, method, send)

    def arm(self, number: int) -> None:
        """Die at the so-manieth boundary from now on; 0 for never."""
        self.number = number
        self.passed = 0
        self.name = ""

    def _pass(self, name: str) -> None:
        self.passed += 1
        if self.passed == self.number:
            self.name = name
        if self.name:
            raise Crash(self.name)


class Bot:
    """A queue of one backend, and what was asked of its functions."""

    def __init__(
        self, where: dict[str, Any], prefix: str, provider: StandInProvider, kind: str
    ) -> None:
        self.asked: list[str] = []
        self.calls: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = []
        self.kind = kind
        self.provider = provider
        self.seen = len(provider.runs)
        self.clock = FakeClock()
        chosen: dict[str, dict[str, Any]] = {
            "responses": {"model": "stand-in-model", "tools": [TOOL]},
            "assistants": {"assistant_id": provider.assistant_id},
            "function": {"backend": FunctionBackend(self.answer, idempotent=True)},
            "function with history": {
                "backend": FunctionBackend(self.answer, idempotent=True, history=6)
            },
        }
        if not kind.startswith("function"):
            chosen[kind] |= {
                "openai_api_key": provider.api_key,
                "openai_base_url": provider.base_url,
                "handle_requires_action": self.handle,
            }
        self.queue = AssistantMessageQueue(
            **where, queue_prefix=prefix, message_delay=5, **chosen[kind]
        )
        self.queue = with_clock(self.queue, self.clock)

    def handle(self, _thread: str, _run: str, calls: Any) -> Any:
        self.asked += [call.id for call in calls]
        return [{"tool_call_id": call.id, "output": "shipped"} for call in calls]

    def answer(self, batch: Batch, context: RunContext) -> str:
        texts = tuple(str(message.content) for message in batch.messages)
        self.calls.append((batch.id, texts, tuple(said.text for said in context.history)))
        return "You said: " + " | ".join(texts)

    def work(self) -> None:
        InstantWorker(self.queue.config, self.clock).run_until_idle()

    def check(self, expected: list[str], where: str) -> None:
        if self.kind.startswith("function"):
            first = {batch_id: texts for batch_id, texts, _ in self.calls}
            assert [text for texts in first.values() for text in texts] == expected, where
            for (
                batch_id,
                _,
                history,
            ) in self.calls:  # each earlier text once, whichever process died meanwhile
                before = [
                    text for other, texts in first.items() if other != batch_id for text in texts
                ]
                assert len(set(history)) == len(history), where
                assert set(history) <= {
                    *before,
                    *(f"You said: {' | '.join(texts)}" for texts in first.values()),
                }, where
        else:
            runs = self.provider.runs[self.seen :]
            is_round = self.kind == "responses"
            answered = [
                text
                for run in runs
                if run.status == "completed" and not (is_round and run.outputs)
                for text in run.user_texts
            ]
            assert answered == expected, where
            (place,) = {run.conversation_id for run in runs}
            assert self.provider.user_texts(str(place)) == expected, where
            assert self.provider.overlaps == (), where
            # A function that had returned when its outputs were not yet stored is asked again, and
            # only then.
            doubled = len(self.asked) - len(set(self.asked))
            assert doubled == 0 or "before redis progress" in where, where
        assert self.queue.list_failed() == [], where
        status = self.queue.get_queue_status()
        assert (
            status.completed_count,
            status.active_count,
            status.waiting_count,
            status.delayed_count,
        ) == (len(expected), 0, 0, 0), where


@pytest.fixture(scope="module")
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(
        lambda turn: ToolCalls([("order", {})]) if turn.round == 0 else Reply("done"), latency=0
    ) as standing:
        yield standing
        assert standing.model_errors == ()


@pytest.fixture
def make(
    one_redis: RedisServer, prefix: str, provider: StandInProvider
) -> Callable[[str, str], Bot]:
    numbers = itertools.count()

    def make(store: str, kind: str) -> Bot:
        where = (
            {"redis": fakeredis.FakeRedis(server=fakeredis.FakeServer())}
            if store == "fakeredis"
            else {"redis_url": one_redis.url}
        )
        return Bot(where, f"{prefix}-{next(numbers)}", provider, kind)

    return make


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> Deaths:
    return Deaths(monkeypatch)


@pytest.mark.parametrize("kind", ["responses", "assistants", "function", "function with history"])
@pytest.mark.parametrize("store", ["fakeredis", "redis"])
def test_a_batch_survives_a_death_at_every_call(
    store: str, kind: str, deaths: Deaths, make: Callable[..., Bot]
) -> None:
    """The worker dies, with its loop and connections; another one continues when the lease has lapsed. A message more comes in between."""
    names: list[str] = []
    number = 0
    while True:
        number += 1
        bot = make(store, kind)
        with bot.queue:
            for text in TEXTS:
                bot.queue.add_message_to_thread("t", f"{number} {text}")
            deaths.arm(number)
            died = ""
            try:
                bot.work()
            except Crash:
                died = deaths.name
                deaths.arm(0)
                bot.queue.add_message_to_thread("t", f"{number} late")
                bot.work()
            expected = [f"{number} {text}" for text in TEXTS] + ([f"{number} late"] if died else [])
            bot.check(expected, f"died at boundary {number}, {died}")
        if not died:
            break
        names.append(died)
    seen = set(names)
    assert {
        "before redis claim",
        "after redis claim",
        "before redis progress",
        "after redis finish",
    } <= seen
    if kind == "responses":
        assert {"before http POST /v1/responses", "after http POST /v1/responses"} <= seen
    if kind == "assistants":
        assert any(
            name.startswith("before http POST") and name.endswith("/submit_tool_outputs")
            for name in seen
        )
