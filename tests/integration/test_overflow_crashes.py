"""A thread moves to another conversation while workers die, and answers of Redis and of the provider get lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import openai
import pytest
import redis

from assistant_queue.store.ops import leases
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import (
    Personality,
    Reply,
    ToolCalls,
    drop_connection,
    refuse,
)
from assistant_queue.testing.provider.actions import Action
from tests.conftest import RedisServer
from tests.integration.lossy_redis import LossyRedis
from tests.integration.test_crash_points import Bot, CrashAt

PAST = [f"earlier question {number}" for number in range(6)]
"""Of three words each, and replies of five."""
NOW = "where is the order"
LATE = "thank you"
LEASE_S = 30.0


@dataclass(frozen=True)
class Scene:
    """A conversation found to be too long at a last question, with one round of tools.

    The server shortens nothing.

    Attributes:
        words: That the model reads. The past has 48, the question 4, its call 1, the output 1.
        outcome: How that is reported.
        protocol: Of the queue.
        moves: How often the thread moves.
    """

    words: int
    outcome: Any = "refused"
    protocol: str = "responses"
    moves: int = 1
    flags: dict[str, Any] = field(
        default_factory=lambda: {"truncation": "refused", "truncation_strategy": "ignored"}
    )

    @property
    def personality(self) -> Personality:
        return Personality(context_words=self.words, context_outcome=self.outcome, **self.flags)


SCENES = {
    "at the question": Scene(40),
    "at the question, twice": Scene(24, moves=2),
    "at the outputs": Scene(53),
    "at the question, in a run": Scene(40, outcome="failed"),
    "at the outputs, in a run": Scene(53, outcome="failed"),
    "at the question of a thread": Scene(40, outcome="failed", protocol="assistants"),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore:The Assistants API is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]
EVERY_SCENE = pytest.mark.parametrize("scene", SCENES.values(), ids=SCENES)


def model(turn: Any) -> Any:
    return (
        ToolCalls([("order", {})])
        if NOW in turn.user_texts and not turn.round
        else Reply("You said: " + " | ".join(turn.user_texts[-1:]))
    )


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(model, latency=0) as standing:
        yield standing
        assert standing.model_errors == ()
        assert standing.overlaps == ()


@pytest.fixture
def client(provider: StandInProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key) as client:
        yield client


def with_a_past(
    url: str, prefix: str, provider: StandInProvider, client: openai.OpenAI, scene: Scene
) -> tuple[Bot, str]:
    """Return a bot and the conversation of its thread.

    The conversation has some turns in it, and is of a model that is too small for it.
    """
    provider.personality = Personality()
    said = [
        {"role": role, "content": text}
        for asked in PAST
        for role, text in (("user", asked), ("assistant", f"You said: {asked}"))
    ]
    if scene.protocol == "responses":
        place = client.conversations.create(items=[{"type": "message", **one} for one in said]).id  # type: ignore[typeddict-item]
    else:
        place = client.beta.threads.create(messages=said).id  # type: ignore[arg-type]
    bot = Bot(
        url, prefix, provider, scene.protocol, lock_duration=LEASE_S, default_instructions=None
    )
    bot.queue._store.run(leases.set_conversation(bot.queue._commands.namespace, "t", place))
    provider.personality = scene.personality
    return bot, place


def check(
    bot: Bot, old: str, seen: int, where: str, *, late: bool = False, doubled: bool = False
) -> None:
    """The question is answered by one run, stands once in the thread's conversation, behind what was said last; nothing waits or failed."""
    queue = bot.queue
    provider = bot.provider
    expected = [NOW, LATE] if late else [NOW]
    is_round_a_run = bot.protocol == "responses"
    ended = [
        run
        for run in provider.runs[seen:]
        if run.status == "completed" and not (is_round_a_run and run.outputs)
    ]
    assert [run.user_texts[-1] for run in ended] == expected, where
    place = queue.get_thread("t").id
    assert place != old, where
    assert provider.user_texts(old)[: len(PAST)] == PAST, where
    said = provider.user_texts(place)
    kept = len(said) - len(expected)
    assert said == [*PAST[len(PAST) - kept :], *expected], where
    assert kept > 0, where
    assert queue.list_failed() == [], where
    status = queue.get_queue_status()
    counts = (
        status.completed_count,
        status.failed_count,
        status.active_count,
        status.waiting_count,
        status.delayed_count,
    )
    assert counts == (len(expected), 0, 0, 0, 0), where
    assert queue.get_thread_status("t").state == "idle", where
    assert doubled or len(bot.asked) == 1, where


@EVERY_SCENE
def test_a_thread_that_moves_survives_a_death_at_every_step(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    client: openai.OpenAI,
    scene: Scene,
) -> None:
    names: list[str] = []
    number = 0
    is_over = False
    while not is_over:
        number += 1
        bot, old = with_a_past(one_redis.url, f"{prefix}-{number}", provider, client, scene)
        with bot.queue:
            seen = len(provider.runs)
            bot.queue.add_message_to_thread("t", NOW)
            crash = CrashAt(number)
            try:
                bot.work(crash)
            except Crash:
                names.append(crash.name)
                bot.queue.add_message_to_thread("t", LATE)
                bot.work()
            is_over = not crash.name
            where = f"died at point {number}, {crash.name}"
            # Only a death between the function's return and the write of its outputs can ask again.
            check(
                bot,
                old,
                seen,
                where,
                late=not is_over,
                doubled=crash.name in {"after Answer", "before Save"},
            )
    assert names.count("after MoveThread") == scene.moves
    assert {
        "after RenewConversation",
        "after Postpone",
    } <= set(names)


@pytest.mark.parametrize(
    "name", ["at the question, twice", "at the outputs, in a run", "at the question of a thread"]
)
def test_a_thread_that_moves_survives_the_loss_of_any_answer_of_redis(
    lossy: LossyRedis, prefix: str, provider: StandInProvider, client: openai.OpenAI, name: str
) -> None:
    number = 0
    is_over = False
    while not is_over:
        number += 1
        lossy.lose(0)
        bot, old = with_a_past(lossy.url, f"{prefix}-{number}", provider, client, SCENES[name])
        with bot.queue:
            seen = len(provider.runs)
            began_ms = bot.clock.ms
            receipt = bot.queue.add_message_to_thread("t", NOW)
            begins = [number]

            def probe(step: str, _: Any, begins: list[int] = begins) -> None:
                if step in {"before RenewConversation", "before Postpone"} and begins:
                    lossy.lose(begins.pop())

            bot.work(probe)
            lossy.lose_no_more()
            where = f"lost the answer to command {number}: {lossy.lost}"
            is_over = lossy.lost is None
            assert receipt.duplicate is False, where
            check(bot, old, seen, where)
            assert bot.clock.ms - began_ms < LEASE_S * 1000, (
                f"{where}: a lease that nobody knows of had to lapse"
            )
    assert number > 10


LOSSES: dict[str, Action] = {
    "lost, and accepted": drop_connection(accept=True),
    "lost, and not accepted": drop_connection(accept=False),
    "429": refuse(429, "rate_limit_exceeded"),
}


CASES = [
    (name, loss)
    for number, name in enumerate(SCENES)
    for loss in LOSSES
    if loss != ("lost, and not accepted", "429")[number % 2]
]


@pytest.mark.parametrize("case", CASES, ids=" - ".join)
def test_a_thread_that_moves_survives_the_loss_of_any_answer_of_the_provider(
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    client: openai.OpenAI,
    case: tuple[str, str],
) -> None:
    (name, loss) = case
    scene = SCENES[case[0]]
    ops: list[str] = []
    number = 0
    is_over = False
    while not is_over:
        number += 1
        bot, old = with_a_past(one_redis.url, f"{prefix}-{number}", provider, client, scene)
        with bot.queue:
            seen = len(provider.runs)
            bot.queue.add_message_to_thread("t", NOW)
            fault = provider.fault("*", LOSSES[loss], nth=number)
            before = len(provider.requests)
            bot.work()
            provider.clear_faults()
            is_over = not fault.acted
            ops += [] if is_over else [provider.requests[before + number - 1].op]
            check(bot, old, seen, f"{loss}: request {number}, {ops[-1:]}")
    renewal = (
        {"threads.create", "messages.list"}
        if scene.protocol == "assistants"
        else {"conversations.create", "items.list"}
    )
    assert renewal <= set(ops)
    assert ("items.create" in ops) is ("outputs" in name)


def test_a_thread_that_is_given_another_conversation_meanwhile_is_answered_there(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, client: openai.OpenAI
) -> None:
    bot, old = with_a_past(one_redis.url, prefix, provider, client, SCENES["at the question"])
    theirs = client.conversations.create().id
    with bot.queue as queue, redis.Redis.from_url(one_redis.url) as store:

        def give(name: str, _: Any) -> None:
            if name == "before MoveThread":
                store.hset(queue._commands.namespace.keys.conversation("t"), "id", theirs)

        queue.add_message_to_thread("t", NOW)
        bot.work(give)
        assert queue.get_thread("t").id == theirs
        assert (provider.user_texts(theirs), provider.user_texts(old)) == ([NOW], PAST)
        assert queue.get_queue_status().completed_count == 1
        left = len(provider.calls("conversations.create")) - len(
            provider.calls("conversations.delete")
        )
        assert left == 2, "the new one is not left there"
