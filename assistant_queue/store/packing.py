"""A message as one list entry: JSON with what is empty left out."""

from __future__ import annotations

import hashlib
import json
from binascii import b2a_base64
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from assistant_queue.models import Content, Message
from assistant_queue.store.sendable import is_text

# One encoder each: `json.dumps` makes a new one at every call, which costs more than the encoding.
_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_encode_sorted = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode
_TEXT = (str, type(None))


def pack(message: Message) -> str:
    """A message as a list entry."""
    if isinstance(message.content, str) and not (message.instructions or message.author is not None or message.metadata or message.held):
        return f'{{"id":{_encode(message.id)},"c":{_encode(message.content)}}}'  # nearly every message; a third of the time
    plain: dict[str, Any] = {"id": message.id, "c": message.content}
    if message.instructions:
        plain["i"] = message.instructions
    if message.author is not None:
        plain["a"] = message.author
    if message.metadata:
        plain["m"] = dict(message.metadata)
    if message.held:
        plain["h"] = 1
    return _encode(plain)


def unpack(entry: str) -> Message:
    """The opposite of `pack`; fields that are not known are left alone.

    Raises:
        ValueError: It is no entry of ours.
    """
    plain = json.loads(entry)
    is_ours = isinstance(plain, dict) and all(isinstance(plain.get(name), kinds) for name, kinds in _ENTRY.items())
    if not is_ours or not is_text(plain["id"]):  # the id names a key
        msg = "not a message of ours"
        raise ValueError(msg)
    return Message(
        id=plain["id"],
        content=plain["c"],
        instructions=plain.get("i"),
        author=plain.get("a"),
        metadata=plain.get("m") or {},
        held=bool(plain.get("h")),
    )


_ENTRY: dict[str, tuple[type, ...]] = {"id": (str,), "c": (str, list), "i": _TEXT, "a": _TEXT, "m": (dict, type(None))}


def unpack_readable(entries: Sequence[str]) -> tuple[tuple[Message, ...], int]:
    """Those entries that are messages of ours, and how many are not."""
    messages: list[Message] = []
    for entry in entries:
        with suppress(ValueError, RecursionError):
            messages.append(unpack(entry))
    return tuple(messages), len(entries) - len(messages)


def digest(content: Content) -> str:
    """What tells one content from another under the same message id; 15 characters."""
    short = hashlib.blake2b(_encode_sorted(content).encode("utf-8"), digest_size=11).digest()
    return b2a_base64(short, newline=False)[:15].decode()  # the sixteenth is padding
