"""Which items of a conversation that outgrew the model go into the one after it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.backends.content import Json, said, text_of
from assistant_queue.backends.response_reader import is_asked, is_kind

MAX_ITEMS = 20
"""Items of one request that creates a conversation or adds to it. Source: the provider's published API description."""


def later_half(items: Sequence[Json]) -> list[Json]:
    """The latest messages, oldest first, with at most half of all their characters and at most `MAX_ITEMS`; they begin with a question.

    Texts only: a call without its reasoning, or a file that has expired, would make the new conversation unusable.
    """
    messages = [found for found in map(_as_input, items) if found is not None]
    room = sum(len(one["content"]) for one in messages) // 2
    kept: list[Json] = []
    for message in reversed(messages):
        room -= len(message["content"])
        if room < 0 or len(kept) == MAX_ITEMS:
            break
        kept.insert(0, message)
    while kept and kept[0]["role"] != "user":
        del kept[0]
    return kept


def _as_input(item: Json) -> Json | None:
    """A message of either side as an input item of its text, None for everything else."""
    if not is_kind(item, "message"):
        return None
    content = item.get("content")
    if is_asked(item):
        parts = [content] if isinstance(content, str) else [text_of(part) for part in content or () if part.get("type") != "input_image"]
        text, role = "\n".join(part for part in parts if part), "user"
    else:
        text, role = said(content), str(item.get("role") or "assistant")
    return {"type": "message", "role": role, "content": text} if text else None


_FIELDS = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
}


def copied(items: Sequence[Json]) -> list[Json]:
    """The batch's own items, to be added to another conversation; without what belongs to the old one, such as ids and reasoning."""
    found: list[Json] = []
    for item in items:
        kind = str(item.get("type", "message"))
        if kind in _FIELDS:
            found.append({"type": kind, **{name: item[name] for name in _FIELDS[kind] if name in item}})
    return found


def split_at(items: Sequence[Json], anchor: str | None) -> tuple[Sequence[Json], Sequence[Json]]:
    """The items up to the anchor, and those after it. Without a known anchor all of them came before."""
    places = [place for place, item in enumerate(items, 1) if item.get("id") == anchor]
    end = places[0] if places else 0 if anchor is None else len(items)
    return items[:end], items[end:]
