"""Observation of messages that are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from assistant_queue.client.additions import Addition
from assistant_queue.config import Config
from assistant_queue.observing import Adding, ended_with
from assistant_queue.store.calls import Operation

ResultT = TypeVar("ResultT")
Rows = Sequence[Addition]


def add_observed(
    config: Config, rows: Rows, add: Callable[[Rows], Operation[ResultT]]
) -> Operation[ResultT]:
    """Add messages with the trace context of this call.

    Args:
        config: The queue's options.
        rows: The messages, with their threads.
        add: Adds them; raises what this raises.
    """
    observers = config.observers
    if observers.observer is None or not rows:
        return (yield from add(rows))
    seen = observers.begin(
        Adding(
            queue=config.queue_prefix,
            thread_ids=[row.thread_id for row in rows],
            messages=[row.message for row in rows],
        )
    )
    trace = seen.trace
    with ended_with(seen):
        return (
            yield from add(
                [replace(row, message=replace(row.message, trace=trace)) for row in rows]
            )
        )
