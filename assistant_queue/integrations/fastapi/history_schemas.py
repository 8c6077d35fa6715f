"""The history of a thread, as the service returns it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from assistant_queue.integrations.fastapi.schemas import MessageRecord
from assistant_queue.models import ThreadMessage

TEXTS = frozenset({"text", "input_text", "output_text", "refusal"})
"""Types of the parts with their text in `text`."""


class HistoryAttachment(BaseModel):
    """A picture or file of a message, without its data."""

    type: str = Field(description="As the provider spells it: `input_image`, `input_file`.")
    name: str | None


class HistoryItem(BaseModel):
    """One message of the thread, as the provider holds it."""

    id: str
    role: str
    text: str
    author: str | None
    attachments: list[HistoryAttachment] = Field(description="Its pictures and files, in order.")
    created_at: datetime | None
    run_id: str | None


class History(BaseModel):
    """A page of a thread."""

    messages: list[HistoryItem] = Field(description="Messages in the requested order.")
    next: str | None = Field(
        description="What to say as `after` for the next page; null at the end."
    )
    pending: list[MessageRecord] = Field(
        description="Queued and processing messages, oldest first; not in `messages` yet, or in part."
    )
    is_kept: bool = Field(description="False if this service's assistant has no history to list.")


def item_of(message: ThreadMessage) -> HistoryItem:
    """Return one message of the provider's thread."""
    return HistoryItem(
        id=message.id,
        role=message.role,
        text=message.text,
        author=message.author,
        attachments=[
            _attachment(part) for part in message.content if part.get("type") not in TEXTS
        ],
        created_at=message.created_at,
        run_id=message.run_id,
    )


def _attachment(part: Mapping[str, Any]) -> HistoryAttachment:
    inner = part.get("file")
    name = part.get("filename") or (inner.get("filename") if isinstance(inner, Mapping) else None)
    return HistoryAttachment(type=str(part.get("type") or ""), name=str(name) if name else None)
