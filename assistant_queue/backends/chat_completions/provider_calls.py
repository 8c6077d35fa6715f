"""Read a thread's history by direct calls if the provider stores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assistant_queue.backends.chat_completions import history as chat_history
from assistant_queue.backends.openai.content import said
from assistant_queue.backends.openai.message_reader import noted
from assistant_queue.backends.provider_calls import Page, Place
from assistant_queue.core.history_notes import HistoryNotes
from assistant_queue.models import ThreadMessage


class ChatDirect:
    """Read the history that the queue stores; no other direct call exists."""

    async def list_messages(self, place: Place, page: Page) -> list[ThreadMessage]:
        """Return a page of the stored questions and answers, without tool rounds."""
        found = [
            _noted(_message_of(message), place.notes)
            for message in chat_history.load(place.kept)
            if _is_said(message)
        ]
        if page.order == "desc":
            found.reverse()
        ids = [message.id for message in found]
        first = ids.index(page.after) + 1 if page.after in ids else 0
        last = ids.index(page.before) if page.before in ids else len(ids)
        if page.before is not None and page.after is None:
            first = max(first, last - page.limit)  # the page right before it
        return found[first:last][: page.limit]


def _is_said(message: Mapping[str, Any]) -> bool:
    return message["role"] in {"user", "assistant"} and bool(message.get("content"))


def _message_of(message: Mapping[str, Any]) -> ThreadMessage:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return ThreadMessage(
        id=str(message.get("id") or ""),
        role=str(message["role"]),
        text="\n".join(said([part]) for part in parts if part.get("type") == "text"),
        content=tuple(parts),
        run_id=message.get("run_id"),
    )


def _noted(message: ThreadMessage, notes: HistoryNotes) -> ThreadMessage:
    """Return a message with its author and time, by the batch and the number in its id."""
    batch_id, _, number = message.id.rpartition("-")
    if not number.isdecimal():
        return message
    return noted(message, notes.of_place(batch_id, int(number), message.role))
