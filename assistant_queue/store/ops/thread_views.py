"""The messages of a thread that are not over, with their texts, and its current batch."""

from __future__ import annotations

from assistant_queue.models import Message, MessageStatus
from assistant_queue.store.calls import Namespace, Operation, each, plain, texts
from assistant_queue.store.message_codec import unpack_readable
from assistant_queue.store.ops.statuses import read_message
from assistant_queue.values import valueclass

_MOST = 200
"""Messages of each list. Chosen: more than a page shows."""


@valueclass(frozen=True, slots=True, kw_only=True)
class OpenMessages:
    """The messages of a thread that are not over.

    Attributes:
        frozen: Those of the batch under way.
        pending: Those that wait.
        current: The status of the first of `frozen`: its times are those of the batch.
    """

    frozen: tuple[Message, ...] = ()
    pending: tuple[Message, ...] = ()
    current: MessageStatus | None = None


def read_open_messages(namespace: Namespace, thread_id: str) -> Operation[OpenMessages]:
    """Return the messages of a thread that are not over, at most some hundred."""
    keys = namespace.keys
    lists = yield from each(
        [
            plain("LRANGE", keys.frozen(thread_id), 0, _MOST - 1),
            plain("LRANGE", keys.pending(thread_id), 0, _MOST - 1),
        ]
    )
    frozen, pending = (
        unpack_readable([entry for entry in texts(found or []) if entry])[0] for found in lists
    )
    current = None
    if frozen:
        current = yield from read_message(namespace, frozen[0].id)
    return OpenMessages(frozen=frozen, pending=pending, current=current)
