"""Faults beyond kills, restarts and a bad provider: each for a moment, with the judge of the chaos runner.

`.ci/matrix faults` has ten minutes of them.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from assistant_queue.testing.chaos import ChaosSettings, make_plan, run
from assistant_queue.testing.chaos.chaos_outcome import ChaosOutcome
from assistant_queue.testing.chaos.plan import PlannedFault
from assistant_queue.testing.chaos.table import table
from tests.conftest import RedisServer

pytestmark = pytest.mark.usefixtures("forked_workers")
QUIET = ChaosSettings(
    seconds=5,
    workers=2,
    kill_every=0,
    restart_every=0,
    fault_every=0,
    burst_every=0.15,
    threads=16,
    drain=60,
)


def replies_between(until_s: float, every_s: float) -> list[PlannedFault]:
    """Replies of `say`, each after a quiet message; messages that end their threads."""
    found = []
    for number in range(round(until_s / every_s)):
        thread = f"thread-{number % 4}"
        for kind in ("note", "tell"):
            name = f"{thread}.{kind}.{number}"
            found.append(
                PlannedFault(
                    at=number * every_s,
                    kind=kind,
                    thread=thread,
                    message_id=name,
                    text=f"{thread} {kind}s {number}",
                )
            )
    found += [
        PlannedFault(
            at=until_s,
            kind="say",
            thread=f"thread-{one}",
            message_id=f"end.{one}",
            text=f"end {one}",
        )
        for one in range(4)
    ]
    return found


def carry_out(
    settings: ChaosSettings, shocks: list[PlannedFault], one_redis: RedisServer, directory: Path
) -> ChaosOutcome:
    """The messages of the settings, and these events."""
    plan = sorted([*make_plan(settings), *shocks], key=lambda event: event.at)
    return run(settings, plan=plan, redis_program=one_redis.program, logs=directory)


def test_what_costs_nothing(one_redis: RedisServer, tmp_path: Path) -> None:
    """Replies of `say` stand between messages. Redis stands still or takes hardly any client, a worker has no memory left or its number of jobs, a producer is killed in a bulk.

    A worker without memory may hang: another has its threads after `run_timeout`.
    """
    shocks = [
        PlannedFault(at=0.2, kind="add_bulk"),
        PlannedFault(at=1.0, kind="starve", slot=0, seconds=0.7),
        PlannedFault(at=1.5, kind="stall", seconds=0.8),
        PlannedFault(at=2.2, kind="crowd", seconds=1.2),  # several bursts long
        PlannedFault(at=3.5, kind="stall", seconds=QUIET.lease * 1.3),
    ]
    settings = replace(QUIET, max_jobs=3, run_timeout=10, said_every=1000)
    outcome = carry_out(settings, [*shocks, *replies_between(4.5, 0.3)], one_redis, tmp_path)
    assert outcome.holds, table(outcome)
    assert outcome.verdict.sent > 1530
    assert outcome.said is not None
    assert outcome.said.said + outcome.said.unsure == 15, table(outcome)
    assert outcome.done == {"add_bulk": 1, "starve": 1, "stall": 2, "crowd": 1}, (
        "some of the bulk was there, some was not, and a crowded Redis refused connections"
    )
    assert outcome.ended_by_themselves, "a worker has had its jobs"


def test_a_file_without_its_last_second_costs_what_was_in_the_air_and_nothing_else(
    one_redis: RedisServer, tmp_path: Path
) -> None:
    outcome = carry_out(
        QUIET, [PlannedFault(at=2.5, kind="truncate", seconds=0.2)], one_redis, tmp_path
    )
    assert outcome.holds, table(outcome)
    assert outcome.done["truncate"] == 1
    assert outcome.verdict.excused_lost + outcome.verdict.excused_doubled, (
        "what was accepted in that second is not there"
    )
    assert outcome.verdict.once > outcome.verdict.sent / 2


@pytest.mark.parametrize("durability", ["replicated", "local"])
def test_a_failover_in_the_middle_of_traffic(
    durability: str, one_redis: RedisServer, tmp_path: Path
) -> None:
    settings = replace(QUIET, seconds=2, durability=durability, fail_over_every=1000)
    outcome = carry_out(
        settings, [PlannedFault(at=1.0, kind="fail_over", text="killed")], one_redis, tmp_path
    )
    assert outcome.holds, table(outcome)
    assert outcome.done["fail_over"] == 1
    assert outcome.repeated, "producers have noticed"
    if durability == "replicated":
        assert outcome.verdict.once == outcome.verdict.sent


def test_a_clock_that_is_set_back_an_hour_while_windows_are_open(
    one_redis: RedisServer, tmp_path: Path
) -> None:
    """And a worker that dies just then: neither a window nor a lease lasts an hour longer."""
    shocks = [
        PlannedFault(at=1.0, kind="set_clock_back", seconds=3600),
        PlannedFault(at=1.05, kind="kill", slot=0),
    ]
    outcome = carry_out(
        replace(QUIET, seconds=2, clock_every=1000, burst_every=0.08), shocks, one_redis, tmp_path
    )
    assert outcome.holds, table(outcome)
    assert outcome.done == {"set_clock_back": 1, "kill": 1}
