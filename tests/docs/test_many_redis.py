"""The recipe for several Redis primaries (examples/many_redis.py), as primaries come and go."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, StoreUnavailable
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, SERVERS, RedisServer
from tests.docs.test_examples import EXAMPLES, run

THREADS = [f"thread-{number}" for number in range(12_000)]
TWO = {"red": 1.0, "blue": 1.0}
THREE = {**TWO, "green": 1.0}


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("many_redis", "surroundings"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("many_redis")


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[dict[str, RedisServer]]:
    made = {name: RedisServer(SERVERS.get("path") or SERVERS["wheel"], tmp_path) for name in THREE}
    for server in made.values():
        server.start()
    yield made
    for server in made.values():
        server.stop()


@pytest.fixture
def queues(
    servers: dict[str, RedisServer], provider: StandInProvider
) -> Iterator[dict[str, AssistantMessageQueue]]:
    made = {
        name: AssistantMessageQueue(
            redis_url=server.url,
            model="any",
            openai_api_key=provider.api_key,
            openai_base_url=provider.base_url,
            message_delay=0,
        )
        for name, server in servers.items()
    }
    yield made
    for queue in made.values():
        queue.close()


def test_it_runs() -> None:
    done = run("examples/many_redis.py")
    assert done.returncode == 0, done.stderr
    assert "answered: 4 by red, 4 by blue; failed: 0" in done.stdout
    assert "with a third primary 33% of the threads would move, all to it" in done.stdout
    assert done.stderr == ""


def test_threads_are_spread_by_weight_and_the_order_of_names_does_not_matter(recipe: Any) -> None:
    weights = {"red": 1.0, "blue": 1.0, "green": 2.0}
    homes = [recipe.owner(thread, weights) for thread in THREADS]
    shares = {name: count / len(THREADS) for name, count in Counter(homes).items()}
    assert shares == pytest.approx({"red": 0.25, "blue": 0.25, "green": 0.5}, abs=0.02)
    assert homes == [recipe.owner(thread, dict(reversed(weights.items()))) for thread in THREADS]
    assert [recipe.owner(thread, THREE) for thread in THREADS[:8]] == PINNED, (
        "a stable hash: in every process, in every version"
    )


PINNED = ["green", "red", "blue", "blue", "green", "red", "blue", "green"]


def test_a_new_primary_takes_its_share_and_nothing_moves_between_the_others(recipe: Any) -> None:
    moved = [
        thread for thread in THREADS if recipe.owner(thread, TWO) != recipe.owner(thread, THREE)
    ]
    assert len(moved) / len(THREADS) == pytest.approx(1 / 3, abs=0.02)
    assert {recipe.owner(thread, THREE) for thread in moved} == {"green"}


def moving(recipe: Any) -> Iterator[str]:
    return (
        thread for thread in THREADS if recipe.owner(thread, TWO) != recipe.owner(thread, THREE)
    )


@pytest.mark.parametrize("at_work", [False, True], ids=["answered", "waiting"])
def test_while_a_primary_is_added_a_known_thread_stays_in_every_process(
    recipe: Any, queues: dict[str, AssistantMessageQueue], *, at_work: bool
) -> None:
    """Processes of both deployments agree on every known thread."""
    known, new, *_ = moving(recipe)
    before = recipe.ManyQueues(queues, TWO)
    first = recipe.ManyQueues(queues, TWO, other=THREE)
    second = recipe.ManyQueues(queues, THREE, other=TWO)
    home = before.of(known)
    if at_work:
        before.add_message_to_thread(known, "hello")
    else:
        home.start_worker()
        assert before.ask(known, "hello", timeout=PATIENCE_S) == "You said: hello"
    assert first.of(known) is second.of(known) is home
    assert second.of(new) is queues["green"]
    second.add_message_to_thread(new, "hello")
    assert first.of(new) is queues["green"]


def test_when_one_is_down_only_its_threads_wait(
    recipe: Any, queues: dict[str, AssistantMessageQueue], servers: dict[str, RedisServer]
) -> None:
    many = recipe.ManyQueues(queues, THREE)
    for queue in queues.values():
        queue.start_worker()
    servers["red"].stop()
    lives = next(thread for thread in THREADS if recipe.owner(thread, THREE) != "red")
    waits = next(thread for thread in THREADS if recipe.owner(thread, THREE) == "red")
    assert many.ask(lives, "hello", timeout=PATIENCE_S) == "You said: hello"
    with pytest.raises(StoreUnavailable):
        many.add_message_to_thread(waits, "hello")
    seen = many.get_queue_status()
    assert isinstance(seen["red"], StoreUnavailable)
    assert sum(status.completed_count for name, status in seen.items() if name != "red") == 1
    servers["red"].start()
    assert many.ask(waits, "hello", timeout=PATIENCE_S) == "You said: hello"
    assert many.list_failed() == []
