"""The text that a scrape gets from an event loop, such as a worker's or the HTTP service's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.integrations.prometheus.collecting import (
    TIMEOUT_S,
    Outages,
    Readings,
    metrics_of,
)
from assistant_queue.metrics import Metrics

PATH = "/metrics"
"""The path of the text. Source: Prometheus' default `metrics_path`."""


class Scrapes:
    """Answers scrapes with the metrics of some queues; scrapes at the same time share a read."""

    def __init__(
        self, queues: Sequence[AsyncAssistantMessageQueue], timeout_s: float = TIMEOUT_S
    ) -> None:
        """Read nothing yet. The queues belong to the caller, which closes them."""
        self._queues = queues
        self._timeout_s = timeout_s
        self._outages = Outages()
        self._reading: asyncio.Task[Readings] | None = None

    async def answer(self, accept: str) -> tuple[str, bytes]:
        """Return the content type and the text, for the header `Accept` of a scrape.

        Of a queue that cannot be read in time, `assistant_queue_up` is 0 and the rest is missing.
        """
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        readings = await asyncio.shield(self._reading)
        return await asyncio.to_thread(text_of, readings, accept)

    async def _read(self) -> Readings:
        found = await asyncio.gather(*map(self._read_one, self._queues))
        return dict(zip((queue.config.queue_prefix for queue in self._queues), found, strict=True))

    async def _read_one(self, queue: AsyncAssistantMessageQueue) -> Metrics | None:
        prefix = queue.config.queue_prefix
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await queue.get_metrics()
        except Exception as error:  # noqa: BLE001 - metrics of other queues are scraped, too
            self._outages.failed(prefix, error)
            return None
        self._outages.read(prefix)
        return found


def text_of(readings: Readings, accept: str) -> tuple[str, bytes]:
    """Return the content type and the text of readings, in the format that `Accept` asks for."""
    encode, content_type = choose_encoder(accept)
    return content_type, encode(_Read(readings))


class _Read(Collector):
    """Readings, as the encoders take them."""

    def __init__(self, readings: Readings) -> None:
        self._families = list(metrics_of(readings))

    def collect(self) -> Iterable[Metric]:
        return iter(self._families)

    def describe(self) -> Iterator[Metric]:
        return metrics_of({})
