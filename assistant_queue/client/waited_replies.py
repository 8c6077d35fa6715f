"""The end of a message, for a caller that waits for its reply."""

from __future__ import annotations

from assistant_queue.errors import BatchFailed, MessageCancelled, MessageNotFound
from assistant_queue.models import MessageState, MessageStatus


def settled_reply(message_id: str, status: MessageStatus | None) -> tuple[bool, str | None]:
    """Return whether a message's run has ended, and its reply.

    Raises:
        MessageNotFound: There is no record of it.
        MessageCancelled: It was cancelled, or its answer was stopped.
        BatchFailed: Its batch is in the failed list, and there is no `fallback_reply`.
    """
    if status is None:
        raise MessageNotFound(
            f"there is no message {message_id!r}: "
            "it was never added, or its record has expired (result_ttl)"
        )
    if status.status == MessageState.CANCELLED.value:
        how = "its answer was stopped" if status.batch_id else "it was cancelled"
        raise MessageCancelled(f"message {message_id!r} has no reply: {how}")
    if status.fallback:
        return True, status.reply
    if status.status == MessageState.FAILED.value and status.batch_id is not None:
        why = status.error.message if status.error else "no reason is known"
        raise BatchFailed(
            f"message {message_id!r} of thread {status.thread_id!r} is in failed batch "
            f"{status.batch_id}: {why}; see list_failed(), retry_failed(), discard_failed()",
            batch_id=status.batch_id,
        )
    return status.status == MessageState.COMPLETED.value, status.reply


def no_reply_yet(message_id: str, timeout_s: float) -> TimeoutError:
    """Return the error of `wait_for_reply` for a run that has not ended in time."""
    return TimeoutError(
        f"message {message_id!r} has no reply after {timeout_s:g} s; "
        "it stays queued and will be answered"
    )
