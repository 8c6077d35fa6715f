"""The store, once on fakeredis and once on each real Redis at hand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest
import redis

from tests.conftest import SERVERS, RedisServer
from tests.contract.store_rig import Rig


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


@pytest.fixture
def store(redis_client: Any, prefix: str) -> Iterator[Rig]:
    """The store under a fake clock."""
    yield Rig(redis_client, prefix)
    # Not for the next test's namespace, but for its searches through the job hashes, which no
    # prefix tells apart.
    redis_client.flushdb()
