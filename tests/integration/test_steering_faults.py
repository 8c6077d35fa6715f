"""Faults of the requests that end a run, and that read or write what became of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from assistant_queue.testing import StandInProvider
from assistant_queue.testing.chaos.fault_plans import ACTIONS
from tests.conftest import RedisServer
from tests.integration.test_crash_points import Bot, with_tools
from tests.integration.test_steering_crash_points import live_through

OPERATIONS = {
    "responses": ["responses.cancel", "responses.retrieve", "items.list", "items.create"],
    "assistants": [
        "runs.cancel",
        "runs.retrieve",
        "runs.list",
        "messages.list",
        "messages.create",
    ],
}
CASES = [(protocol, op) for protocol, ops in OPERATIONS.items() for op in ops]
FAULTS = ["500", "429", "drops", "works, drops"]
PLACES = [("before Start", 1), ("before Submit", 1)]


@pytest.fixture
def provider() -> Iterator[StandInProvider]:
    with StandInProvider(latency=0) as standing:
        standing.model = with_tools
        yield standing
        assert standing.model_errors == ()


@pytest.mark.parametrize(("protocol", "op"), CASES)
@pytest.mark.parametrize("wish", ["stop", "interrupt"])
def test_one_fault_of_each_kind(  # noqa: PLR0917 - fixtures and cases
    one_redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    protocol: str,
    op: str,
    wish: str,
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
