"""The namespace of a queue with the rules that its options set."""

from __future__ import annotations

from assistant_queue.clock import Clock
from assistant_queue.config import Config
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.audit_spool import audit_rules
from assistant_queue.store.ops.event_log import event_rules
from assistant_queue.store.ops.journal import journal_rules


def namespace_of(config: Config, clock: Clock) -> Namespace:
    """Return the namespace of the queue of these options."""
    return Namespace(
        config.queue_prefix,
        clock,
        event_rules(config),
        journal_rules(config),
        audit_rules(config),
        is_counted=config.metrics,
        poll_rate=config.poll_rate,
    )
