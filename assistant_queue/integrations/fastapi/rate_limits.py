"""Limits of requests, counted on Redis, and of open streams, counted in this process."""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from limits import RateLimitItem
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.exceptions import RedisError

from assistant_queue.integrations.fastapi.problems import ProblemRefusal
from assistant_queue.integrations.fastapi.settings import Settings
from assistant_queue.store.transport.refusals import hang_up_idle_async, leads_astray, translate


class RateLimiter:
    """Counts requests of clients over all processes of a service."""

    def __init__(self, client: Any, key_prefix: Callable[[], str]) -> None:
        """Connect nothing; the first `hit` does.

        Args:
            client: An asyncio Redis client.
            key_prefix: Called at the first `hit` for the prefix of the counters' keys.
        """
        self._client = client
        self._prefix = key_prefix
        self._made: MovingWindowRateLimiter | None = None

    def _strategy(self) -> MovingWindowRateLimiter:
        if self._made is None:
            pool: Any = self._client.connection_pool
            storage = RedisStorage(
                "async+redis://",
                implementation="redispy",
                key_prefix=self._prefix(),
                connection_pool=pool,
            )
            self._made = MovingWindowRateLimiter(storage)
        return self._made

    async def hit(self, limits: list[RateLimitItem], kind: str, client_key: str) -> None:
        """Count one request.

        Raises:
            ProblemRefusal: It exceeds a limit; has a `Retry-After`. Nothing else was done.
            StoreUnavailable: Redis did not answer.
        """
        # No addresses of people in Redis.
        digest = hashlib.sha256(client_key.encode("utf-8", "replace")).hexdigest()[:32]
        try:
            for limit in limits:
                if not await self._strategy().hit(limit, kind, digest):
                    stats = await self._strategy().get_window_stats(limit, kind, digest)
                    raise too_many(
                        max(1, math.ceil(stats.reset_time - time.time())), f"the limit is {limit}"
                    )
        except (RedisError, OSError) as error:
            if leads_astray(error):
                await hang_up_idle_async(self._client)
            raise translate(error) from error


def too_many(retry_after_s: int, what: str) -> ProblemRefusal:
    """Return a 429 with `Retry-After`."""
    return ProblemRefusal(
        429,
        "too_many_requests",
        f"Too many requests: {what}. Come back later.",
        headers={"Retry-After": str(retry_after_s)},
    )


class StreamGate:
    """Counts open streams, sockets and waiting requests."""

    def __init__(self, settings: Settings) -> None:
        """Start at zero."""
        self._most = settings.max_streams
        self._most_each = settings.max_streams_per_client
        self._open: Counter[str] = Counter()
        self.total = 0

    @contextmanager
    def slot(self, client_key: str) -> Iterator[None]:
        """Hold a slot for the duration of the block.

        Raises:
            ProblemRefusal: This client, or this process, is at its limit.
        """
        self.enter(client_key)
        try:
            yield
        finally:
            self.leave(client_key)

    def enter(self, client_key: str) -> None:
        """Take a slot; raises as `slot` does."""
        if self.total >= self._most:
            raise ProblemRefusal(
                503,
                "too_many_streams",
                "This server has as many open streams as it takes.",
                headers={"Retry-After": "5"},
            )
        if self._open[client_key] >= self._most_each:
            raise too_many(5, f"{self._most_each} open streams for each client")
        self._open[client_key] += 1
        self.total += 1

    def leave(self, client_key: str) -> None:
        """Give a slot back."""
        self.total -= 1
        self._open[client_key] -= 1
        if not self._open[client_key]:
            del self._open[client_key]
