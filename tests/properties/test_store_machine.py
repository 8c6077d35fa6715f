"""The store against a model of it in plain Python, after any sequence of events."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import SERVERS, RedisServer
from tests.contract.store_rig import Rig

sys.path.insert(0, str(Path(__file__).parent))
from store_model import machine

NUMBERS = itertools.count()


@pytest.fixture(scope="session", params=["fakeredis", *sorted(SERVERS)])
def redis_client(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A client of a Redis of this session's own."""
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis(version=(7,))
        return
    server = RedisServer(SERVERS[request.param], tmp_path_factory.mktemp("redis"))
    server.start()
    with redis.Redis.from_url(server.url) as client:
        yield client
    server.stop()


@pytest.mark.timeout(
    600 if settings().max_examples < 100 else 7200
)  # hundreds of thousands of commands, on a machine that does more
def test_the_store_does_what_its_model_does(redis_client: Any, search_seed: int | None) -> None:
    def rig() -> Rig:
        redis_client.flushdb()
        return Rig(redis_client, f"machine{next(NUMBERS)}")

    play = machine(rig)
    run_state_machine_as_test(
        play if search_seed is None else seed(search_seed)(play),
        settings=settings(
            max_examples=settings().max_examples,
            stateful_step_count=50,
            deadline=None,
            **(
                {} if search_seed is None else {"database": None}
            ),  # each seed walks its own way, whatever another has found
            derandomize="CI" in os.environ and search_seed is None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
