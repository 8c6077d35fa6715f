"""Items of a conversation in the form of Responses: their type, and a batch's own ones."""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.backends.openai.content import Json, same_content
from assistant_queue.core.runs import InputItem


def is_kind(item: Json, kind: str) -> bool:
    """Return True if the item is of this type; an item without a type is a message."""
    return bool((item.get("type") or "message") == kind)


def is_asked(item: Json) -> bool:
    """Return True if the item is a user's message."""
    return is_kind(item, "message") and item.get("role") == "user"


def are_of_batch(items: Sequence[Json], wanted: Sequence[InputItem]) -> bool:
    """Return True if these are the batch's items, by their texts."""
    return all(is_said_by(item, ours) for item, ours in zip(items, wanted, strict=True))


def is_said_by(item: Json, ours: InputItem) -> bool:
    """Return True if this may be the batch's item, by its role and its text."""
    return (
        is_kind(item, "message")
        and item.get("role") == ours.role
        and same_content(item.get("content"), ours.content)
    )
