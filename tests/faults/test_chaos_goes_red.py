"""Each fault plan of the chaos runner before a build that lacks a safeguard: the judge sees it.

The same plans hold for the whole build: `tests/integration/test_chaos_faults.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, StoreUnavailable
from assistant_queue.store import scripts
from assistant_queue.store.transport.connect import SOCKET_TIMEOUT_S
from assistant_queue.testing.chaos import ChaosSettings, PlannedFault, run
from assistant_queue.testing.chaos.chaos_outcome import ChaosOutcome
from assistant_queue.testing.chaos.table import table
from tests.conftest import RedisServer
from tests.integration.conftest import forked_workers
from tests.integration.test_chaos import says

__all__ = ["forked_workers"]

QUIET = ChaosSettings(
    seconds=2, workers=3, lease=1.5, drain=60, app="tests.integration.broken_chaos:queue"
)
Carry = Callable[..., ChaosOutcome]


@pytest.fixture
def carry_out(
    one_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked_workers: None
) -> Carry:
    """Return a function that carries out a plan of messages and these events."""

    def carry_out(*shocks: PlannedFault, without: str = "", **options: Any) -> ChaosOutcome:
        monkeypatch.setenv("WITHOUT", without)
        settings = replace(QUIET, **options)
        plan = sorted([*says(6, 0.05), *shocks], key=lambda event: event.at)
        outcome = run(settings, plan=plan, redis_program=one_redis.program, logs=tmp_path)
        assert not outcome.holds, table(outcome)
        return outcome

    return carry_out


@pytest.fixture
def _adds_that_fail_are_taken_for_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    add = AssistantMessageQueue.add_message_to_thread

    def swallow(*words: Any, **options: Any) -> None:
        with suppress(StoreUnavailable):
            add(*words, **options)

    monkeypatch.setattr(AssistantMessageQueue, "add_message_to_thread", swallow)


@pytest.mark.usefixtures("_adds_that_fail_are_taken_for_accepted")
def test_a_crowded_redis_costs_messages_if_its_refusal_is_taken_for_an_answer(
    carry_out: Carry,
) -> None:
    outcome = carry_out(PlannedFault(at=1.5, kind="crowd", seconds=2.0))
    assert outcome.verdict.lost, table(outcome)


@pytest.mark.usefixtures("_adds_that_fail_are_taken_for_accepted")
def test_a_failover_costs_messages_if_a_lost_connection_is_taken_for_an_answer(
    carry_out: Carry,
) -> None:
    outcome = carry_out(
        PlannedFault(at=1.5, kind="fail_over", text="killed"),
        fail_over_every=1000,
        durability="replicated",
    )
    assert outcome.verdict.lost, table(outcome)


def test_a_stopped_redis_doubles_messages_if_an_add_does_not_know_its_copy(
    carry_out: Carry, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = scripts._source

    def changed(name: str) -> str:
        text = source(name)
        return text.replace("if known[1] then", "if false then") if name == "add" else text

    monkeypatch.setattr(scripts, "_source", changed)
    scripts.load.cache_clear()
    try:
        outcome = carry_out(PlannedFault(at=1.5, kind="stall", seconds=SOCKET_TIMEOUT_S + 1.5))
    finally:
        scripts.load.cache_clear()
    assert outcome.verdict.doubled, table(outcome)


def test_a_worker_without_memory_doubles_runs_if_its_batches_are_gathered_anew(
    carry_out: Carry,
) -> None:
    shocks = [
        PlannedFault(at=at, kind="starve", slot=slot, seconds=3.0)
        for at, slot in ((1.0, 0), (1.2, 2), (4.5, 0), (4.7, 2))
    ]
    outcome = carry_out(*shocks, without="freeze", run_timeout=10, drain=20)
    assert outcome.verdict.doubled + outcome.left, table(outcome)


def test_a_worker_that_has_had_its_jobs_leaves_threads_if_it_ends_in_the_middle(
    carry_out: Carry,
) -> None:
    """And if its batches are gathered anew."""
    outcome = carry_out(without="drain", max_jobs=5, drain=20)
    assert outcome.ended_by_themselves
    assert outcome.verdict.doubled + outcome.left, table(outcome)
