"""Observation of messages that are added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from assistant_queue.config import Config
from assistant_queue.models import Message
from assistant_queue.observing import Adding, ended_with
from assistant_queue.store.calls import Operation

ResultT = TypeVar("ResultT")
Rows = Sequence[tuple[str, Message]]


def add_observed(
    config: Config, rows: Rows, add: Callable[[Rows], Operation[ResultT]]
) -> Operation[ResultT]:
    """Add messages with the trace context of this call.

    Args:
        config: The queue's options.
        rows: Thread ids and messages.
        add: Adds them; raises what this raises.
    """
    observers = config.observers
    if observers.observer is None or not rows:
        return (yield from add(rows))
    thread_ids, messages = zip(*rows, strict=True)
    seen = observers.begin(
        Adding(queue=config.queue_prefix, thread_ids=thread_ids, messages=messages)
    )
    trace = seen.trace
    with ended_with(seen):
        return (
            yield from add([(thread_id, replace(made, trace=trace)) for thread_id, made in rows])
        )
