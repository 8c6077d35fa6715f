"""Stop, interrupt and steer a batch, die at every step after that, and look at what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from assistant_queue import Batch
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.harness import Crash
from assistant_queue.testing.provider import Reply
from tests.conftest import RedisServer
from tests.integration.test_crash_points import TEXTS, Bot, with_tools

PROTOCOLS = ["responses", "assistants", "chat_completions"]
WISHES = ["stop", "interrupt", "steer"]
PLACES = [("before Start", 1), ("before Answer", 1), ("before Submit", 2)]
CASES = [
    (wish, place, PROTOCOLS[(row + column) % 3])
    for row, wish in enumerate(WISHES)
    for column, place in enumerate(PLACES)
]
"""Each pair of wish, place and protocol. The flow's model dies at all places on every protocol."""


class WishesAndDies:
    """Makes a wish at a place, and dies at the k-th point after it; `passed` counts them."""

    def __init__(
        self,
        bot: Bot,
        wish: str,
        place: tuple[str, int],
        number: int,
        at_the_wish: Callable[[], object] = lambda: None,
    ) -> None:
        self._bot = bot
        self._at_the_wish = at_the_wish
        self._wish = wish
        self._place = place
        self._number = number
        self._seen = 0
        self._is_made = False
        self.was_stopped = False
        self.passed = 0
        self.name = ""

    def __call__(self, name: str, _: Batch) -> None:
        if not self._is_made:
            self._seen += name == self._place[0]
            if self._seen == self._place[1]:
                self._make()
            return
        if self.passed and name.startswith("before "):
            return  # a death after the step that came before it
        self.passed += 1
        if self.passed == self._number:
            self.name = name
            raise Crash(name)

    def _make(self) -> None:
        self._is_made = True
        self._at_the_wish()
        queue = self._bot.queue
        if self._wish == "stop":
            self.was_stopped = queue.stop("t")
        else:
            queue.add_message_to_thread("t", "meanwhile", mid_run=self._wish)  # type: ignore[arg-type]


def with_tools_but_late(turn: Any) -> Any:
    """Call tools in a batch that gets a wish; what comes after it shows that the thread lives."""
    return Reply("at once") if turn.user_texts[-1:] == ["late"] else with_tools(turn)


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        standing.model = with_tools_but_late
        yield standing
        assert standing.model_errors == ()


@pytest.mark.parametrize(
    ("wish", "place", "protocol"),
    CASES,
    ids=[f"{wish}-{name} {nth}-{protocol}" for wish, (name, nth), protocol in CASES],
)
def test_a_death_at_every_step_after_a_wish(  # noqa: PLR0917 - fixtures and cases
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    wish: str,
    place: tuple[str, int],
) -> None:
    number = 0
    died = ""
    while died or not number:
        number += 1
        seen = len(provider.runs)
        bot = Bot(one_redis.url, f"{prefix}-{number}", provider, protocol)
        with bot.queue:
            died = live_through(bot, wish, place, number, seen)


def live_through(  # noqa: PLR0917 - what is the same in all scenarios, and what is not
    bot: Bot,
    wish: str,
    place: tuple[str, int],
    number: int,
    seen: int,
    at_the_wish: Callable[[], object] = lambda: None,
    after_it: Callable[[], object] = lambda: None,
) -> str:
    """Make the wish, die at the point (0: do not), check all; return the point's name.

    `after_it` is called when nothing is left to do but a message that comes late.
    """
    queue = bot.queue
    ids = [queue.add_message_to_thread("t", text).message_id for text in TEXTS]
    dying = WishesAndDies(bot, wish, place, number, at_the_wish)
    try:
        bot.work(dying)
    except Crash:
        bot.work()
    after_it()
    late = queue.add_message_to_thread("t", "late").message_id
    bot.work()
    where = f"{wish} at {place}, died at point {number}, {dying.name}"
    found = [queue.get_message(one) for one in (*ids, late)]
    expected = ["cancelled" if dying.was_stopped else "completed"] * len(ids)
    assert [one and one.status for one in found] == [*expected, "completed"], where
    runs = bot.provider.runs[seen:]
    others = [] if wish == "stop" else ["meanwhile"]
    assert bot.remembered("t", runs) == [*TEXTS, *others, "late"], where
    assert bot.provider.overlaps == (), where
    assert queue.list_failed() == [], where
    counted = queue.get_metrics().messages
    assert counted["answered"] + counted["cancelled"] == len(TEXTS) + len(others) + 1, where
    assert counted["cancelled"] == (len(TEXTS) if dying.was_stopped else 0), where
    doubled = len(bot.asked) - len(set(bot.asked))
    assert doubled == 0 or dying.name in {"after Answer", "before Save"}, where
    return dying.name


@pytest.mark.parametrize("wish", WISHES)
def test_the_wish_is_seen_before_the_batch_ends(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, wish: str
) -> None:
    """The scenarios above are about wishes that are obeyed."""
    bot = Bot(one_redis.url, prefix, provider, "responses")
    names: list[str] = []
    dying: Any = WishesAndDies(bot, wish, ("before Answer", 1), 0)

    def probe(name: str, batch: Batch) -> None:
        names.append(name)
        dying(name, batch)

    with bot.queue as queue:
        queue.add_message_to_thread("t", "hi")
        bot.work(probe)
    assert ("after Stop" if wish == "stop" else "after Join") in names
