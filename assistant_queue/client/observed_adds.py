"""Observation of messages that are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from assistant_queue.client.additions import Addition
from assistant_queue.observing import Adding, Observers, ended_with
from assistant_queue.store.calls import Operation

ResultT = TypeVar("ResultT")
Rows = Sequence[Addition]


def add_observed(
    observers: Observers,
    queue_prefix: str,
    rows: Rows,
    add: Callable[[Rows], Operation[ResultT]],
) -> Operation[ResultT]:
    """Add messages with the trace context of this call.

    Args:
        observers: The observer of the queue, if it has one.
        queue_prefix: The queue's name.
        rows: The messages, with their threads.
        add: Adds them; raises what this raises.
    """
    if observers.observer is None or not rows:
        return (yield from add(rows))
    seen = observers.begin(
        Adding(
            queue=queue_prefix,
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
