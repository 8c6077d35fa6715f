"""The audit's machine, and bugs that its tour must find."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from assistant_queue.errors import AssistantQueueError
from assistant_queue.store.scripts import whole_source
from tests.conftest import RedisServer
from tests.contract.store_rig import Rig
from tests.properties import broken_scripts
from tests.properties.broken_scripts import swap

sys.path.insert(0, str(Path(__file__).parent))
from audit_model import MemorySink, audit_tour, machine

NUMBERS = count(1)
FOUND = (AssertionError, AssistantQueueError, ValueError)


@pytest.fixture(scope="module")
def client(one_redis: RedisServer) -> Iterator[Any]:
    with redis.Redis.from_url(one_redis.url) as client:
        yield client


@pytest.fixture
def rig(client: Any) -> Callable[[], Rig]:
    def fresh() -> Rig:
        client.flushdb()
        return Rig(client, f"audit{next(NUMBERS)}")

    return fresh


@pytest.mark.timeout(600 if settings().max_examples < 100 else 7200)
def test_the_audit_does_what_its_model_does(
    rig: Callable[[], Rig], search_seed: int | None
) -> None:
    play = machine(rig)
    run_state_machine_as_test(
        play if search_seed is None else seed(search_seed)(play),
        settings=settings(
            max_examples=settings().max_examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize="CI" in os.environ,
        ),
    )


def test_the_tour_is_passed_by_the_store_as_it_is(rig: Callable[[], Rig]) -> None:
    audit_tour(machine(rig)())


BUGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a batch that was answered is not spooled": ("finish", swap("  audit_batch(t.batch)\n", "")),
    "a batch that failed is not spooled": ("bury", swap("audit_batch(t.batch)\n", "")),
    "a copy spools a batch again": (
        "finish",
        swap("if not holds(t) then\n", "audit_batch('copy')\nif not holds(t) then\n"),
    ),
    "a reply is sent twice": ("finish", swap("arg.audit_of ~= '' and arg.audit_of or", "")),
    "the spool has no end": ("finish", swap(">= tonumber(arg.audit_most)", "< 0")),
    "what is lost is not counted": (
        "finish",
        swap("redis.pcall('HINCRBY', key.auditing, 'lost', 1)", "0"),
    ),
    "what is written stays": (
        "drain_audit",
        swap("redis.call('LTRIM', key.audit, count, -1)", ""),
    ),
    "a copy removes what is not written": ("drain_audit", swap("head = head + count", "")),
    "what is read is removed": (
        "drain_audit",
        swap("local chars = 0", "local chars = 0\nredis.call('DEL', key.audit)"),
    ),
    "a forgotten text waits on": (
        "forget",
        swap("redis.call('LSET', key.audit, start + i - 1, '')", ""),
    ),
    "a forgotten thread keeps its rows": (
        "forget",
        swap("redis.call('RPUSH', key.audit, audit_head('-'))", ""),
    ),
    "a forgotten entry leaves its place": (
        "forget",
        swap(
            "redis.call('LSET', key.audit, start + i - 1, '')",
            "redis.call('LREM', key.audit, 1, entry)",
        ),
    ),
    "another thread is forgotten": (
        "forget",
        swap(
            "== arg.thread_id then\n        redis.call('LSET'",
            "~= '' then\n        redis.call('LSET'",
        ),
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_the_tour_finds(rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    name, change = BUGS[bug]
    broken = change(whole_source(name))
    broken_scripts.use(monkeypatch, name, broken)
    with pytest.raises(FOUND):
        audit_tour(machine(rig)())


def test_the_tour_finds_a_sink_that_does_not_know_its_writer(
    rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemorySink, "take_over", lambda self, _queue, _holder: None)

    def write(self: MemorySink, queue: str, holder: str, entries: Any, lost: int) -> bool:
        self.holder = holder
        return real(self, queue, holder, entries, lost)

    real = MemorySink.write
    monkeypatch.setattr(MemorySink, "write", write)
    with pytest.raises(AssertionError):
        audit_tour(machine(rig)())
