"""Conversion of a thread's frozen messages into the items of one request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from assistant_queue.core.runs import InputItem
from assistant_queue.models import Content, Message
from assistant_queue.values import valueclass

MAX_METADATA_PAIRS = 14
"""The caller's pairs of one item. Source: the provider takes 16; two are ours."""

NO_NAME = "(no name)"
"""Signature of a message without an author, if others in its batch have one."""


@valueclass(frozen=True, slots=True)
class Fit:
    """Messages that go into one request.

    Attributes:
        items: The items, in order.
        taken: How many of the messages they carry; the rest waits for the next run.
    """

    items: tuple[InputItem, ...]
    taken: int


MayShare = Callable[[str | None, str | None], object]
"""Whether the messages of two authors may be answered by one run."""


def within(messages: Sequence[Message], most: int, *, cuts_quiet: bool) -> int:
    """Return how many of the messages, from the first on, have `most` characters together.

    1 or more: a longer message goes alone.

    Args:
        messages: Messages in order, at least one.
        most: Characters of their texts.
        cuts_quiet: A batch may consist of messages that want no reply: they are written to the
            conversation without a run.
    """
    chars = 0
    is_asked = cuts_quiet
    for count, message in enumerate(messages):
        chars += len(message.text)
        if chars > most and count and is_asked:
            return count
        is_asked = is_asked or message.wants_reply
    return len(messages)


def of_sharing_authors(messages: Sequence[Message], may_share: MayShare) -> int:
    """Return how many of the messages, from the first on, have authors that may share a run.

    A message that wants no reply leads to no run: its author shares with all.
    """
    authors: list[str | None] = []
    for count, message in enumerate(messages):
        if not message.wants_reply or message.author in authors:
            continue
        if not all(may_share(one, message.author) for one in authors):
            return count
        authors.append(message.author)
    return len(messages)


def of_one_author(messages: Sequence[Message]) -> int:
    """`of_sharing_authors`, where each author shares with itself alone."""
    return of_sharing_authors(messages, lambda _one, _other: False)


def signed(text: str, author: str | None) -> str:
    """Return the text as the model sees it, with its author.

    Every further line is indented, and a name is one line without a colon: no line can pass for
    another author's.
    """
    name = " ".join((author or "").replace(":", " ").split()) or NO_NAME
    first, *others = text.splitlines() or [""]
    return "\n".join([f"{name}: {first}", *(f"    {line}" for line in others)])


def content_of(message: Message, *, sign: bool) -> Content:
    """Return a message's content; `sign` if any author in its batch has a name.

    A reply of `say` is not signed: the model would sign its own.
    """
    if not sign or message.role == "assistant":
        return message.content
    if isinstance(message.content, str):
        return signed(message.content, message.author)
    return [
        {"type": "text", "text": signed("", message.author)},
        *(_indented(part) for part in message.content),
    ]


def _indented(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a content part that follows a signature, each line of its text indented."""
    text = part.get("text")
    return (
        part
        if not isinstance(text, str)
        else {**part, "text": "\n".join(f"    {line}" for line in text.splitlines())}
    )


def fit(messages: Sequence[Message], *, max_items: int | None, max_item_chars: int | None) -> Fit:
    """Return as many of the messages as one request takes.

    Above `max_items`, neighbours of one author, and neighbours that want no reply, are joined with
    a newline, up to `max_item_chars`;
    what does not fit then is left. Messages with a text that is in the provider's thread already
    are taken and carry no item.
    """
    sign = any(message.author is not None and message.role == "user" for message in messages)
    fresh = [message for message in messages if not message.held]
    if max_items is None or len(fresh) <= max_items:
        items = [_item([message], sign=sign) for message in fresh]
        return Fit(tuple(items), len(messages))

    groups: list[list[Message]] = []
    taken = 0
    for message in messages:
        if not message.held:
            if groups and _joins(groups[-1], message, sign=sign, most=max_item_chars):
                groups[-1].append(message)
            elif len(groups) < max_items:
                groups.append([message])
            else:
                break
        taken += 1
    return Fit(tuple(_item(group, sign=sign) for group in groups), taken)


def _joins(group: Sequence[Message], message: Message, *, sign: bool, most: int | None) -> bool:
    if "assistant" in {message.role, group[-1].role}:
        return False
    are_quiet = not (message.wants_reply or any(one.wants_reply for one in group))
    if not isinstance(message.content, str) or not (
        are_quiet or message.author == group[-1].author
    ):
        return False
    if any(not isinstance(one.content, str) for one in group):
        return False
    return most is None or len(str(_item([*group, message], sign=sign).content)) <= most


def _item(group: Sequence[Message], *, sign: bool) -> InputItem:
    ids = tuple(message.id for message in group)
    pairs = {name: value for message in group for name, value in message.metadata.items()}
    metadata = dict(list(pairs.items())[:MAX_METADATA_PAIRS])
    if len(group) == 1:
        return InputItem(
            content=content_of(group[0], sign=sign),
            message_ids=ids,
            metadata=metadata,
            role=group[0].role,
        )
    content = "\n".join(str(content_of(message, sign=sign)) for message in group)
    return InputItem(content=content, message_ids=ids, metadata=metadata)


def instructions_of(messages: Sequence[Message]) -> str | None:
    """Return the distinct instructions of the messages, in order; None if none has any.

    They are joined by a blank line.
    """
    distinct = dict.fromkeys(message.instructions for message in messages if message.instructions)
    return "\n\n".join(str(text) for text in distinct) or None
