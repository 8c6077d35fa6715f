"""Changes by the command line in the record of operations, under the name of the system's user."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import AbstractContextManager, suppress

from assistant_queue.client.operation_records import OperationOutcome, recorded
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.errors import BatchNotFound
from assistant_queue.store.ops.failures import read_failed
from assistant_queue.store.ops.settling import thread_of


def recorded_command(
    queue: AssistantMessageQueue, operation: str, thread_id: str | None = None, **detail: str | None
) -> AbstractContextManager[OperationOutcome]:
    """Record the operation that is performed inside.

    Raises:
        StoreUnavailable: Redis did not take the record. The operation was not performed.
    """
    given = {name: value for name, value in detail.items() if value is not None}
    return recorded(queue.core, actor(), operation, thread_id, given)


def actor() -> str:
    """Return the name with which commands of this user on this host are recorded."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = str(os.getuid())
    return f"cli:{user}@{socket.gethostname()}"


def thread_of_message(queue: AssistantMessageQueue, message_id: str) -> str | None:
    """Return the thread of a message, so that its records can be forgotten with it."""
    found = queue.get_message(message_id)
    return None if found is None else found.thread_id


def thread_of_batch(queue: AssistantMessageQueue, batch_id: str) -> str | None:
    """Return the thread of a failed batch, likewise."""
    with suppress(BatchNotFound):
        core = queue.core
        return core.store.run(read_failed(core.namespace, batch_id)).thread_id or None
    return None


def thread_of_call(queue: AssistantMessageQueue, call_id: str) -> str | None:
    """Return the thread of a tool call that waits, likewise."""
    return queue.core.store.run(thread_of(queue.core.namespace, call_id))
