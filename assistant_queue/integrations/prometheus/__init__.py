"""Metrics of a queue for Prometheus. Needs the extra `prometheus`.

Names and labels are listed in docs/metrics.md.
"""

from __future__ import annotations

from assistant_queue.client.arguments import check_timeout
from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.errors import ConfigurationError, MissingExtra

try:
    import prometheus_client as _  # noqa: F401 - to name the extra if it is missing
except ImportError as error:
    raise MissingExtra(
        f"{error}; the extra has it: pip install 'assistant-queue[prometheus]'"
    ) from error

from assistant_queue.integrations.prometheus.collecting import TIMEOUT_S, QueueCollector

__all__ = ["QueueCollector", "collector"]


def collector(
    queue: AssistantMessageQueue | AsyncAssistantMessageQueue,
    *queues: AssistantMessageQueue | AsyncAssistantMessageQueue,
    timeout: float = TIMEOUT_S,
) -> QueueCollector:
    """Return a collector of a queue's metrics, for a registry of `prometheus_client`.

    `REGISTRY.register(collector(queue))`. Each scrape reads the metrics from Redis: they are those
    of the whole queue, whichever process is scraped. Registering reads nothing. A scrape never
    raises because of Redis: if it does not answer, `assistant_queue_up` is 0, the other metrics are
    missing, and one line is logged.

    Args:
        queue: A queue of either class. Of an asyncio one only the options are used: the collector
            opens a connection for it, until its `close()`.
        queues: Further queues, with other prefixes: a registry takes a metric's name once, so one
            collector has all queues of a process.
        timeout: Seconds that a scrape waits for Redis.

    Raises:
        ConfigurationError: One is an instance of neither class, or two have the same prefix.
        InvalidArgument: The timeout is no number of seconds, 0 or more.
    """
    given = (queue, *queues)
    for one in given:
        if not isinstance(one, AssistantMessageQueue | AsyncAssistantMessageQueue):
            raise ConfigurationError(
                "queue must be an AssistantMessageQueue or an AsyncAssistantMessageQueue, not "
                f"{type(one).__name__}"
            )
    prefixes = [one.config.queue_prefix for one in given]
    if len(set(prefixes)) < len(prefixes):
        raise ConfigurationError(
            f"Invalid queues: expected another queue_prefix for each, not {', '.join(prefixes)}"
        )
    return QueueCollector(given, check_timeout(timeout))
