"""Convert stored messages of either protocol for the caller. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from assistant_queue.backends.openai.content import (
    MESSAGE_MARK,
    object_in,
    parts_of,
    said,
    text_of,
)
from assistant_queue.backends.provider_calls import time_of
from assistant_queue.core.history_notes import HistoryNotes, Note
from assistant_queue.models import ThreadMessage

_TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})


def message_of(stored: Mapping[str, Any]) -> ThreadMessage:
    """Convert a message of a thread, or a message item of a conversation."""
    parts = tuple(parts_of(stored.get("content")))
    role = str(stored.get("role") or "")
    run_id = stored.get("run_id")
    return ThreadMessage(
        id=str(stored.get("id") or ""),
        role=role,
        # The assistant's parts are one text, as in a reply; the user's are lines, as in the queue's
        # own messages.
        text=said(parts)
        if role == "assistant"
        else "\n".join(text_of(part) for part in parts if str(part.get("type")) in _TEXTS),
        content=parts,
        created_at=time_of(stored.get("created_at")),
        run_id=str(run_id) if run_id else None,
        metadata=dict(object_in(stored.get("metadata"))),
    )


def noted(message: ThreadMessage, note: Note) -> ThreadMessage:
    """Return a message with its author, and with a time if the provider has none."""
    return replace(
        message,
        author=note.author,
        created_at=note.at if message.created_at is None else message.created_at,
    )


def noted_by_mark(message: ThreadMessage, notes: HistoryNotes) -> ThreadMessage:
    """Return a message with its author, by the ids in its metadata."""
    marked = message.metadata.get(MESSAGE_MARK)
    return noted(message, notes.of_messages(marked.split(","))) if marked else message
