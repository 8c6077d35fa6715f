"""Queues that keep messages in memory, for tests of channels."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from assistant_queue.errors import MessageIdConflict, MessageNotFound
from assistant_queue.models import Receipt


class RecordingQueue:
    """A blocking queue that keeps messages in memory.

    Attributes:
        messages: Id, thread and content of each.
        quiet: Ids of those that want no reply.
    """

    def __init__(self) -> None:
        """Hold no messages."""
        self.messages: list[tuple[str, str, Any]] = []
        self.quiet: set[str] = set()

    def add_message_to_thread(
        self,
        thread_id: str,
        message: Any,
        *,
        message_id: str,
        wants_reply: bool = True,
        **_: Any,
    ) -> Receipt:
        """Add a message, once per id."""
        known = [one for one in self.messages if one[0] == message_id]
        if known and known[0][2] != message:
            raise MessageIdConflict(f"message {message_id!r} has another content")
        if not known:
            self.messages.append((message_id, thread_id, message))
            if not wants_reply:
                self.quiet.add(message_id)
        return Receipt(
            message_id=message_id,
            thread_id=thread_id,
            job_id=None,
            due_at=datetime.now(UTC),
            duplicate=bool(known),
        )

    def edit_message(self, message_id: str, message: Any, *, running: bool = False) -> bool:
        """Replace a message."""
        _ = running
        for number, (known, thread_id, _) in enumerate(self.messages):
            if known == message_id:
                self.messages[number] = (known, thread_id, message)
                return True
        raise MessageNotFound(f"no message {message_id!r}")

    def cancel(self, message_id: str, *, running: bool = False) -> bool:
        """Drop a message."""
        _ = running
        before = len(self.messages)
        self.messages = [one for one in self.messages if one[0] != message_id]
        return len(self.messages) < before


class AsyncRecordingQueue:
    """An asyncio queue that keeps messages in memory."""

    def __init__(self) -> None:
        """Hold no messages."""
        self._queue = RecordingQueue()

    @property
    def messages(self) -> list[tuple[str, str, Any]]:
        """Id, thread and content of each message."""
        return self._queue.messages

    async def add_message_to_thread(
        self, thread_id: str, message: Any, instructions: str | None = None, **given: Any
    ) -> Receipt:
        """Add a message, once per id."""
        _ = instructions
        return self._queue.add_message_to_thread(thread_id, message, **given)

    async def edit_message(self, message_id: str, message: Any, *, running: bool = False) -> bool:
        """Replace a message."""
        return self._queue.edit_message(message_id, message, running=running)

    async def cancel(self, message_id: str, *, running: bool = False) -> bool:
        """Drop a message."""
        return self._queue.cancel(message_id, running=running)
