"""Deliberate bugs in the scripts of runs in the background: each must be found by the tour."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from assistant_queue.store.scripts import whole_source
from tests.conftest import RedisServer
from tests.contract.store_rig import Rig
from tests.properties import broken_scripts
from tests.properties.broken_scripts import swap

sys.path.insert(0, str(Path(__file__).parent))
from background_tour import background_tour
from store_model import machine
from test_deliberate_bugs import FOUND

BUGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a batch is parked without the lease": (
        "await_run",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "parking does not look for an early webhook": (
        "await_run",
        swap("redis.call('DEL', key.early) == 1", "false"),
    ),
    "an early webhook stays for the next look": (
        "await_run",
        swap("redis.call('DEL', key.early) == 1", "redis.call('EXISTS', key.early) == 1"),
    ),
    "parking leaves no way back from the run": (
        "await_run",
        swap("redis.call('HSET', key.runs, arg.run_id, arg.thread_id)", ""),
    ),
    "parking does not count the batch": ("await_run", swap("book(t.bk, 'parked', t.bn)", "")),
    "parking sleeps through a wish": (
        "await_run",
        swap("if is_wished_unseen(t) then due = now end", ""),
    ),
    "a webhook that comes early is not noted": (
        "hear",
        swap("redis.call('SET', key.early, '1', 'PX', arg.early_ms)", ""),
    ),
    "a webhook that comes again is looked at": (
        "land",
        swap("if known then return {known == arg.nonce and 'woken' or 'before'} end", ""),
    ),
    "a webhook leaves the run in the air": ("land", swap("\nleave_air(t)\nredis", "\nredis")),
    "a webhook makes nothing due": (
        "land",
        swap("\nend_park(t)\nreturn {'woken'}", "\nreturn {'woken'}"),
    ),
    "a claim leaves the run in the air": (
        "claim",
        swap("\nleave_air(t)\n\n", "\n"),
    ),
}


@pytest.fixture
def rig(one_redis: RedisServer) -> Iterator[Callable[[], Rig]]:
    with redis.Redis.from_url(one_redis.url) as client:
        client.flushdb()
        yield lambda: Rig(client, "p")


def test_the_tour_is_passed_by_the_store_as_it_is(rig: Callable[[], Rig]) -> None:
    background_tour(machine(rig)())


@pytest.mark.parametrize("bug", BUGS)
def test_the_tour_finds(rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    name, change = BUGS[bug]
    broken = change(whole_source(name))
    broken_scripts.use(monkeypatch, name, broken)
    with pytest.raises(FOUND):
        background_tour(machine(rig)())
