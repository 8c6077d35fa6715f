"""Collectors of `prometheus_client` that read a queue's metrics from Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.client.queue_core import open_core
from assistant_queue.errors import AssistantQueueError
from assistant_queue.integrations.prometheus.families import FAMILIES, QUEUE, UP, Family
from assistant_queue.metrics import Histogram, Metrics

_log = logging.getLogger(__name__)

TIMEOUT_S = 5.0
"""Seconds for reading a queue's metrics. Chosen: half of Prometheus' default `scrape_timeout`."""

Readings = Mapping[str, Metrics | None]
"""Queue prefix -> its metrics; None if they could not be read."""

_CLASSES: dict[str, Any] = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily}


def metrics_of(readings: Readings) -> Iterator[Metric]:
    """Return the families of `FAMILIES` with the samples of these queues."""
    for family in FAMILIES:
        made = _made(family)
        for queue, metrics in readings.items():
            if metrics is None:
                if family is UP:
                    made.add_metric((queue,), 0)
                continue
            for values, value in family.read(metrics):
                if isinstance(value, Histogram):
                    made.add_metric((queue, *values), list(_buckets(value)), value.sum_s)
                else:
                    made.add_metric((queue, *values), value)
        yield made


def _made(family: Family) -> Any:
    kind = _CLASSES.get(family.kind, HistogramMetricFamily)
    return kind(family.name, f"{family.help}.", labels=(QUEUE, *family.labels))


def _buckets(histogram: Histogram) -> Iterator[tuple[str, int]]:
    """Return the cumulative buckets, by their bounds in words."""
    seen = 0
    for bound, count in zip((*histogram.bounds, None), histogram.counts, strict=True):
        seen += count
        yield ("+Inf" if bound is None else repr(float(bound))), seen


class Outages:
    """Logs one line when a queue's metrics cannot be read any more, and one when they can again."""

    def __init__(self) -> None:
        self._away: set[str] = set()

    def failed(self, queue: str, error: BaseException) -> None:
        """Note a read that failed."""
        if queue not in self._away:
            self._away.add(queue)
            _log.warning("the metrics of queue %r cannot be read: %s", queue, _reason(error))

    def read(self, queue: str) -> None:
        """Note a read that succeeded."""
        if queue in self._away:
            self._away.discard(queue)
            _log.warning("the metrics of queue %r can be read again", queue)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "Redis did not answer in time"
    if isinstance(error, AssistantQueueError):
        return str(error)
    return f"{type(error).__name__}: {error}"


class MetricsReader:
    """Reads the metrics of one queue on a thread, one read at a time.

    A Redis that hangs delays a caller by its time-out and no longer; callers at the same time share
    a read.
    """

    def __init__(self, queue: AssistantMessageQueue | AsyncAssistantMessageQueue) -> None:
        """Read nothing yet."""
        self.prefix = queue.config.queue_prefix
        self._config = queue.config
        self._queue = queue if isinstance(queue, AssistantMessageQueue) else None
        self._owns_queue = self._queue is None
        self._lock = threading.Lock()
        self._reading: Future[Metrics] | None = None

    def start(self) -> Future[Metrics]:
        """Return the read that is under way, else begin one."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = Future()
                threading.Thread(
                    target=self._run,
                    args=(self._reading,),
                    name="assistant-queue-metrics",
                    daemon=True,
                ).start()
            return self._reading

    def close(self) -> None:
        """Close the queue object that was made here for an asyncio one."""
        if self._owns_queue and self._queue is not None:
            self._queue.close()
            self._queue = None

    def _run(self, reading: Future[Metrics]) -> None:
        try:
            if self._queue is None:
                self._queue = AssistantMessageQueue(open_core(self._config))
            reading.set_result(self._queue.get_metrics())
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            reading.set_exception(error)


class QueueCollector(Collector):
    """Reads the metrics of queues at each scrape."""

    def __init__(
        self,
        queues: Iterable[AssistantMessageQueue | AsyncAssistantMessageQueue],
        timeout_s: float,
    ) -> None:
        """Read nothing yet."""
        self._readers = [MetricsReader(queue) for queue in queues]
        self._timeout_s = timeout_s
        self._outages = Outages()

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples; reads nothing."""
        return metrics_of({})

    def collect(self) -> Iterable[Metric]:
        """Read the metrics; without Redis, `assistant_queue_up` is 0 and the rest is missing."""
        until = time.monotonic() + self._timeout_s
        reads = [(reader.prefix, reader.start()) for reader in self._readers]
        return metrics_of({prefix: self._wait(prefix, read, until) for prefix, read in reads})

    def close(self) -> None:
        """Close the connections that were opened for asyncio queues; given queues stay open."""
        for reader in self._readers:
            reader.close()

    def _wait(self, prefix: str, read: Future[Metrics], until: float) -> Metrics | None:
        try:
            found = read.result(max(0.0, until - time.monotonic()))
        except Exception as error:  # noqa: BLE001 - other metrics of the application are scraped, too
            self._outages.failed(prefix, error)
            return None
        self._outages.read(prefix)
        return found
