"""Record what operators do: the record is written as an operation begins, and as it has ended.

A process that dies in between leaves a record that says so.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from assistant_queue.errors import AssistantQueueError, StoreUnavailable
from assistant_queue.store.ops.operation_log import OperationRecord, begin, end

_log = logging.getLogger(__name__)

MAX_NAME = 200
"""Characters of a name, and of each detail. Chosen: longer than those of people."""
_NO_DETAIL: Mapping[str, str] = MappingProxyType({})


@dataclass(slots=True)
class OperationOutcome:
    """The result of an operation, as its caller notes it.

    Attributes:
        record: The record; complete after the operation.
        done: Whether it changed anything; unless it is said, whether nothing was raised.
        count: Number of batches that it was about; None if it is not about batches.
    """

    record: OperationRecord
    done: bool | None = None
    count: int | None = None


@contextmanager
def recorded(
    core: Any,
    by: str | None,
    operation: str,
    thread_id: str | None = None,
    detail: Mapping[str, str] = _NO_DETAIL,
) -> Iterator[OperationOutcome]:
    """Record the operation that is performed inside, of a blocking queue with this `core`.

    Raises:
        StoreUnavailable: Redis did not take the record. The operation was not performed.
    """
    outcome = _outcome(by, operation, thread_id, detail)
    entry = None
    try:
        entry = core.store.run(begin(core.namespace, outcome.record))
    except AssistantQueueError as error:
        _refused(outcome, error)
    failure: BaseException | None = None
    try:
        yield outcome
    except BaseException as error:
        failure = error
        raise
    finally:
        if _is_over(outcome, failure) and entry is not None:
            try:
                core.store.run(end(core.namespace, entry, outcome.record))
            except AssistantQueueError as error:
                _not_recorded(outcome, error)


@asynccontextmanager
async def recorded_async(
    core: Any,
    by: str | None,
    operation: str,
    thread_id: str | None = None,
    detail: Mapping[str, str] = _NO_DETAIL,
) -> AsyncIterator[OperationOutcome]:
    """Record the operation that is performed inside; as `recorded`, of an asyncio queue."""
    outcome = _outcome(by, operation, thread_id, detail)
    entry = None
    try:
        entry = await core.store.run(begin(core.namespace, outcome.record))
    except AssistantQueueError as error:
        _refused(outcome, error)
    failure: BaseException | None = None
    try:
        yield outcome
    except BaseException as error:
        failure = error
        raise
    finally:
        if _is_over(outcome, failure) and entry is not None:
            try:
                await core.store.run(end(core.namespace, entry, outcome.record))
            except AssistantQueueError as error:
                _not_recorded(outcome, error)


def _outcome(
    by: str | None, operation: str, thread_id: str | None, detail: Mapping[str, str]
) -> OperationOutcome:
    return OperationOutcome(
        OperationRecord(
            at=datetime.now(UTC),
            by=None if by is None else by[:MAX_NAME],
            operation=operation,
            thread_id=thread_id,
            done=False,
            detail={name: value[:MAX_NAME] for name, value in detail.items()},
            ended=False,
        )
    )


def _is_over(outcome: OperationOutcome, failure: BaseException | None) -> bool:
    """Complete the record; return False if it is not known how the operation ended."""
    if failure is not None and not isinstance(failure, Exception):
        return False  # cancelled, or the process is ended
    known = failure if isinstance(failure, AssistantQueueError) else None
    done = failure is None if outcome.done is None else outcome.done
    outcome.record = replace(
        outcome.record,
        done=done,
        count=outcome.count,
        error=None if known is None else known.code,
        ended=True,
    )
    return True


def _refused(outcome: OperationOutcome, error: AssistantQueueError) -> None:
    """Raise an error that the operation would meet, too; log another one."""
    if isinstance(error, StoreUnavailable):
        raise error
    _not_recorded(outcome, error)


def _not_recorded(outcome: OperationOutcome, error: AssistantQueueError) -> None:
    _log.error("operation %s was not recorded: %s", outcome.record.operation, error)
