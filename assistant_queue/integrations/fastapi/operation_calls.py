"""Operations from the operations page: each is performed and recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from assistant_queue.client.approval_calls import MAX_REASON
from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.errors import BatchNotFound, MessageNotFound
from assistant_queue.integrations.fastapi.access import Caller
from assistant_queue.integrations.fastapi.approval_pages import check_call
from assistant_queue.integrations.fastapi.operation_schemas import NewOperation
from assistant_queue.integrations.fastapi.recorded_calls import operator_name, recorded_call
from assistant_queue.models import FailureReason
from assistant_queue.store.ops.failures import read_failed
from assistant_queue.store.ops.operation_log import OperationRecord

ANONYMOUS_PERSON = "operator"
"""The person that answers a thread which an anonymous caller took over."""

Performed = tuple[bool, int | None]
"""Whether anything was changed, and of how many batches if it is about batches."""


async def operate(
    queue: AsyncAssistantMessageQueue, caller: Caller, wanted: NewOperation
) -> OperationRecord:
    """Perform an operation, record it, and return the record.

    Raises:
        AssistantQueueError: As of the queue's own method; recorded, too.
    """
    async with recorded_call(
        queue, caller, wanted.operation, wanted.thread_id, **_detail(wanted)
    ) as outcome:
        outcome.done, outcome.count = await _PERFORM[wanted.operation](queue, caller, wanted)
    return outcome.record


def _detail(wanted: NewOperation) -> dict[str, str]:
    found = {}
    if wanted.message_id is not None:
        found["message_id"] = wanted.message_id
    if wanted.call_id is not None:
        found["call_id"] = wanted.call_id
    if wanted.reasons:
        found["reasons"] = ", ".join(wanted.reasons)
    if wanted.batch_ids is not None and len(wanted.batch_ids) == 1:
        found["batch_id"] = wanted.batch_ids[0]
    return found


async def _pause(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    await queue.pause(wanted.thread_id)
    return True, None


async def _resume(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    await queue.resume(wanted.thread_id)
    return True, None


async def _stop(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    return await queue.stop(wanted.thread_id or ""), None


async def _flush(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    return await queue.flush(wanted.thread_id or ""), None


async def _say(queue: AsyncAssistantMessageQueue, by: Caller, wanted: NewOperation) -> Performed:
    await queue.say(wanted.thread_id or "", wanted.text or "", author=by.name)
    return True, None


async def _take_over(
    queue: AsyncAssistantMessageQueue, by: Caller, wanted: NewOperation
) -> Performed:
    person = operator_name(by) or ANONYMOUS_PERSON
    done = await queue.take_over(wanted.thread_id or "", person, instead_of=wanted.instead_of)
    return done, None


async def _hand_back(
    queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation
) -> Performed:
    return await queue.hand_back(wanted.thread_id or ""), None


async def _cancel(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    message_id = wanted.message_id or ""
    found = await queue.get_message(message_id)
    if found is None or found.thread_id != wanted.thread_id:
        raise MessageNotFound(f"there is no message {message_id!r} in thread {wanted.thread_id!r}")
    return await queue.cancel(message_id, running=True), None


async def _approve(
    queue: AsyncAssistantMessageQueue, by: Caller, wanted: NewOperation
) -> Performed:
    call_id = wanted.call_id or ""
    await check_call(queue, wanted.thread_id or "", call_id)
    return await queue.approve(call_id, by=operator_name(by)), None


async def _deny(queue: AsyncAssistantMessageQueue, by: Caller, wanted: NewOperation) -> Performed:
    call_id = wanted.call_id or ""
    await check_call(queue, wanted.thread_id or "", call_id)
    reason = None if wanted.text is None else wanted.text[:MAX_REASON]
    return await queue.deny(call_id, by=operator_name(by), reason=reason), None


async def _retry(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    return await _each_failed(queue, wanted, queue.retry_failed, queue.retry_failed_all)


async def _discard(queue: AsyncAssistantMessageQueue, _: Caller, wanted: NewOperation) -> Performed:
    return await _each_failed(queue, wanted, queue.discard_failed, queue.discard_failed_all)


async def _each_failed(
    queue: AsyncAssistantMessageQueue,
    wanted: NewOperation,
    one: Callable[[str], Awaitable[None]],
    many: Callable[..., Awaitable[int]],
) -> Performed:
    count = 0
    if wanted.batch_ids is None:
        reasons: list[FailureReason | None] = [*wanted.reasons] if wanted.reasons else [None]
        for reason in reasons:
            count += await many(reason, wanted.thread_id)
        return count > 0, count
    core = queue.core
    # The latest first: a retried batch goes to its thread's head.
    for batch_id in reversed(wanted.batch_ids):
        try:
            if wanted.thread_id is not None:
                failed = await core.store.run(read_failed(core.namespace, batch_id))
                if failed.thread_id != wanted.thread_id:
                    continue  # a permission for one thread covers no other
            await one(batch_id)
        except BatchNotFound:
            continue  # another operator has just handled it
        count += 1
    return count > 0, count


_PERFORM: dict[
    str, Callable[[AsyncAssistantMessageQueue, Caller, NewOperation], Awaitable[Performed]]
] = {
    "pause": _pause,
    "resume": _resume,
    "stop": _stop,
    "flush": _flush,
    "say": _say,
    "take_over": _take_over,
    "hand_back": _hand_back,
    "cancel_message": _cancel,
    "approve_call": _approve,
    "deny_call": _deny,
    "retry_failed": _retry,
    "discard_failed": _discard,
}
