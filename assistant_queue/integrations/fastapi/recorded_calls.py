"""Changes of operators over HTTP: each is recorded and logged with its author."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.client.operation_records import OperationOutcome, recorded_async
from assistant_queue.integrations.fastapi.access import Caller
from assistant_queue.store.ops.operation_log import OperationRecord

_log = logging.getLogger(__name__)


def operator_name(caller: Caller) -> str | None:
    """Return the name with which a caller's operations are recorded; None for an anonymous one."""
    return caller.name if caller.name is not None else caller.id


@asynccontextmanager
async def recorded_call(
    queue: AsyncAssistantMessageQueue,
    caller: Caller,
    operation: str,
    thread_id: str | None = None,
    **detail: str | None,
) -> AsyncIterator[OperationOutcome]:
    """Record and log the operation that is performed inside.

    Raises:
        StoreUnavailable: Redis did not take the record. The operation was not performed.
    """
    given: Mapping[str, str] = {name: value for name, value in detail.items() if value is not None}
    outcome: OperationOutcome | None = None
    try:
        async with recorded_async(
            queue.core, operator_name(caller), operation, thread_id, given
        ) as outcome:
            yield outcome
    finally:
        if outcome is not None:
            _note(outcome.record)


@asynccontextmanager
async def recorded_if_named(
    queue: AsyncAssistantMessageQueue, caller: Caller, operation: str, thread_id: str
) -> AsyncIterator[None]:
    """Record and log what operators and programs do alike, unless the caller is anonymous.

    Raises:
        StoreUnavailable: As of `recorded_call`.
    """
    if operator_name(caller) is None:
        yield
        return
    async with recorded_call(queue, caller, operation, thread_id):
        yield


def _note(record: OperationRecord) -> None:
    _log.info(
        "operation %s by %r on %s: %s",
        record.operation,
        record.by,
        "the queue" if record.thread_id is None else f"thread {record.thread_id!r}",
        record.error
        or ("done" if record.done else "nothing to do" if record.ended else "not ended"),
    )
