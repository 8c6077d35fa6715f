"""A message as one list entry: JSON with what is empty left out."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from typing import Any

from assistant_queue.models import Content, Message


def pack(message: Message) -> str:
    """A message as a list entry."""
    plain: dict[str, Any] = {"id": message.id, "c": message.content}
    if message.instructions:
        plain["i"] = message.instructions
    if message.author is not None:
        plain["a"] = message.author
    if message.metadata:
        plain["m"] = dict(message.metadata)
    if message.held:
        plain["h"] = 1
    return json.dumps(plain, separators=(",", ":"), ensure_ascii=False)


def unpack(entry: str) -> Message:
    """The opposite of `pack`."""
    plain = json.loads(entry)
    return Message(
        id=plain["id"],
        content=plain["c"],
        instructions=plain.get("i"),
        author=plain.get("a"),
        metadata=plain.get("m", {}),
        held=bool(plain.get("h")),
    )


def digest(content: Content) -> str:
    """What tells one content from another under the same message id; 15 characters."""
    plain = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return b64encode(hashlib.blake2b(plain.encode("utf-8"), digest_size=11).digest()).rstrip(b"=").decode()
