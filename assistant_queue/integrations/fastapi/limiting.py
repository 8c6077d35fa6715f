"""Limits: what a client sends, counted on Redis; streams and waiting requests, counted in this process."""

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

from assistant_queue.integrations.fastapi.problems import Refusal
from assistant_queue.integrations.fastapi.settings import Settings
from assistant_queue.store.refusals import hang_up_idle_async, leads_astray, translate


class RateLimiter:
    """Counts what clients send, for all processes of a service together."""

    def __init__(self, client: Any, key_prefix: Callable[[], str]) -> None:
        """Nothing is sent before the first `hit`.

        Args:
            client: An asyncio Redis client.
            key_prefix: Asked at the first `hit` for the beginning of the counters' keys.
        """
        self._client, self._prefix = client, key_prefix
        self._made: MovingWindowRateLimiter | None = None

    def _strategy(self) -> MovingWindowRateLimiter:
        if self._made is None:
            pool: Any = self._client.connection_pool
            storage = RedisStorage("async+redis://", implementation="redispy", key_prefix=self._prefix(), connection_pool=pool)
            self._made = MovingWindowRateLimiter(storage)
        return self._made

    async def hit(self, limits: list[RateLimitItem], kind: str, client_key: str) -> None:
        """Count one.

        Raises:
            Refusal: It is one too many; says when to come back. Nothing else was done.
            StoreUnavailable: Redis did not answer.
        """
        who = hashlib.sha256(client_key.encode("utf-8", "replace")).hexdigest()[:32]  # no addresses of people in Redis
        try:
            for limit in limits:
                if not await self._strategy().hit(limit, kind, who):
                    stats = await self._strategy().get_window_stats(limit, kind, who)
                    raise too_many(max(1, math.ceil(stats.reset_time - time.time())), f"the limit is {limit}")
        except (RedisError, OSError) as error:
            if leads_astray(error):
                await hang_up_idle_async(self._client)
            raise translate(error) from error


def too_many(retry_after_s: int, what: str) -> Refusal:
    """A 429."""
    return Refusal(429, "too_many_requests", f"Too many requests: {what}. Come back later.", headers={"Retry-After": str(retry_after_s)})


class StreamGate:
    """Counts what stays open: streams, sockets, requests that wait."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is open."""
        self._most, self._most_each = settings.max_streams, settings.max_streams_per_client
        self._open: Counter[str] = Counter()
        self.total = 0

    @contextmanager
    def slot(self, client_key: str) -> Iterator[None]:
        """One of them, for as long as the block lasts.

        Raises:
            Refusal: This client, or this process, has as many as it may.
        """
        self.enter(client_key)
        try:
            yield
        finally:
            self.leave(client_key)

    def enter(self, client_key: str) -> None:
        """Take a slot; raises as `slot` does."""
        if self.total >= self._most:
            raise Refusal(503, "too_many_streams", "This server has as many open streams as it takes.", headers={"Retry-After": "5"})
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
