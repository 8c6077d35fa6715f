"""Faults of the requests that end a run, and that read or write what became of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant_queue.testing import StandInProvider
from assistant_queue.testing.chaos.fault_plans import ACTIONS
from tests.conftest import RedisServer
from tests.integration.test_crash_points import Bot
from tests.integration.test_steering_crash_points import live_through, with_tools_but_late

READS = {
    "responses": ["responses.cancel", "responses.retrieve", "items.list"],
    "assistants": ["runs.cancel", "runs.retrieve", "messages.list"],
}
WRITES = {"responses": "items.create", "assistants": "messages.create"}
CASES = [
    *(
        (wish, protocol, op)
        for wish in ("stop", "interrupt")
        for protocol in READS
        for op in READS[protocol]
    ),
    *(("stop", protocol, op) for protocol, op in WRITES.items()),
]
FAULTS = ["500", "429", "drops", "works, drops"]
PLACES = [("before Save", 1), ("before Start", 1), ("before Submit", 1)]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        standing.model = with_tools_but_late
        yield standing
        assert standing.model_errors == ()


@pytest.mark.parametrize(("wish", "protocol", "op"), CASES)
def test_one_fault_of_each_kind(  # noqa: PLR0917 - fixtures and cases
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    wish: str,
    protocol: str,
    op: str,
) -> None:
    for place in PLACES:
        for number, fault in enumerate(FAULTS):
            seen = len(provider.runs)
            provider.clear_faults()
            provider.fault(op, ACTIONS[fault])
            name = f"{prefix}-{number}-{place[0].split()[1]}"
            bot = Bot(one_redis.url, name, provider, protocol)
            with bot.queue:
                live_through(bot, wish, place, 0, seen)
    assert any(request.op == op for request in provider.requests), "no fault was met"
