"""Select the items that a renewed conversation begins with. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.backends.openai.content import Json, parts_of, said, text_of
from assistant_queue.backends.openai.items import are_of_batch, is_asked, is_kind
from assistant_queue.core.runs import RunRequest
from assistant_queue.models import ToolCall

MAX_ITEMS = 20
"""Items of one request that creates a conversation or adds to it. Source: the provider's published
API description."""


def split_at_batch(
    items: Sequence[Json], request: RunRequest, calls: Sequence[ToolCall]
) -> tuple[Sequence[Json], Sequence[Json]]:
    """Split into the items before the batch and those of its rounds so far, oldest first.

    A batch without rounds has nothing to carry over: if its texts are stored although its response
    failed, they are sent again.
    """
    begin = _begin_of_batch(items, request, {call.id for call in calls})
    own = items[begin:]
    return items[:begin], own if any(is_kind(item, "function_call") for item in own) else ()


def split_by_ids(
    items: Sequence[Json], request: RunRequest, calls: Sequence[ToolCall]
) -> tuple[Sequence[Json], Sequence[Json]]:
    """Split as `split_at_batch` does, for items of unknown order.

    The batch's own items are found by its texts and by these calls, if any is open.
    """
    opened = [item for item in items if _is_call(item, {call.id for call in calls})]
    asked: list[Json] = []
    for wanted in request.items if opened else ():
        found = [item for item in items if item not in asked and are_of_batch([item], [wanted])]
        asked += found[:1]
    own = [*asked, *opened]
    return [item for item in items if item not in own], own


def _begin_of_batch(items: Sequence[Json], request: RunRequest, called: set[str]) -> int:
    size = len(request.items)
    wanted = request.items
    anchors = [place for place, item in enumerate(items, 1) if item.get("id") == request.anchor]
    places = [
        place
        for place in range(len(items) - size + 1)
        if size and are_of_batch(items[place : place + size], wanted)
    ]
    if anchors or request.anchor is None:
        known = [place for place in places if place >= (anchors[0] if anchors else 0)]
    else:  # an earlier turn may have the same text: only the last question can be the batch
        known = [
            place for place in places if not any(is_asked(item) for item in items[place + size :])
        ]
    if known:
        return known[0]
    begin = next((place for place, item in enumerate(items) if _is_call(item, called)), len(items))
    while 0 < begin < len(items) and not _begins_turn(items, begin):
        begin -= 1
    return begin


def _is_call(item: Json, called: set[str]) -> bool:
    return is_kind(item, "function_call") and item.get("call_id") in called


def _begins_turn(items: Sequence[Json], place: int) -> bool:
    return is_asked(items[place]) and not is_asked(items[place - 1])


def later_half(items: Sequence[Json]) -> list[Json]:
    """Return the latest turns, oldest first, up to half of all characters.

    At most `MAX_ITEMS` messages are returned.

    Texts only: a call without its reasoning, or a file that has expired, would make the new
    conversation unusable. The latest turns are passed over if they alone are too long: earlier
    turns are better than none.
    """
    turns = _turns([found for found in map(_as_input, items) if found is not None])
    room = sum(map(_size, turns)) // 2
    places = MAX_ITEMS
    kept: list[Json] = []
    for turn in reversed(turns):
        if _size(turn) > room or len(turn) > places:
            if kept:
                break
            continue
        room -= _size(turn)
        places -= len(turn)
        kept = [*turn, *kept]
    return kept


def _turns(messages: Sequence[Json]) -> list[list[Json]]:
    """Group messages into turns; messages before the first question are left out."""
    found: list[list[Json]] = []
    before = ""
    for message in messages:
        if message["role"] == "user" and before != "user":
            found.append([])
        if found:
            found[-1].append(message)
        before = message["role"]
    return found


def _size(turn: Sequence[Json]) -> int:
    return sum(len(message["content"]) for message in turn)


def _as_input(item: Json) -> Json | None:
    """Convert a message to an input item of its text, None for other items."""
    if not is_kind(item, "message"):
        return None
    content = item.get("content")
    if is_asked(item):
        parts = [text_of(part) for part in parts_of(content) if part.get("type") != "input_image"]
        text = "\n".join(part for part in parts if part)
        role = "user"
    else:
        text = said(content)
        role = str(item.get("role") or "assistant")
    return {"type": "message", "role": role, "content": text} if text else None


_FIELDS = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name", "arguments"),
    "function_call_output": ("call_id", "output"),
}


def copied(items: Sequence[Json]) -> list[Json]:
    """Copy the batch's own items for another conversation.

    Fields and items that belong to the old one, such as ids and reasoning, are left out.
    """
    found: list[Json] = []
    for item in items:
        kind = str(item.get("type", "message"))
        if kind in _FIELDS:
            found.append(
                {"type": kind, **{name: item[name] for name in _FIELDS[kind] if name in item}}
            )
    return found
