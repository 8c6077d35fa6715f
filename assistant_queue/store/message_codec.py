"""Encoding of a message as one list entry: JSON without empty fields."""

from __future__ import annotations

import hashlib
import json
from binascii import b2a_base64
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any

from assistant_queue.core.compact_json import to_json
from assistant_queue.models import Content, Message
from assistant_queue.store.sendable import is_text

# Made once: `json.dumps` makes a new encoder at every call, which costs more than the encoding.
_encode_sorted = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, sort_keys=True).encode
_TEXT = (str, type(None))
_QUIET = 0
SAID = 2
"""Marks of messages that want no reply, and of replies of `say`. Source: lua/_quiet.lua."""


def pack(message: Message) -> str:
    """Return a message as a list entry."""
    if (
        isinstance(message.content, str)
        and not (
            message.instructions or message.author is not None or message.metadata or message.held
        )
        and (message.tenant is None and message.queued_at is None)
        and (message.request_id is None and message.wants_reply and message.role == "user")
        and message.trace is None
    ):
        # Nearly every message; takes a third of the time.
        return f'{{"id":{encode_basestring(message.id)},"c":{encode_basestring(message.content)}}}'
    return to_json(plain_message(message))


def plain_message(message: Message) -> dict[str, Any]:
    """Return a message as the plain value that `pack` encodes."""
    # First, because the scripts look for it at the beginning (lua/_quiet.lua).
    plain: dict[str, Any] = {} if message.wants_reply else {"w": _QUIET}
    if message.role == "assistant":
        plain = {"w": SAID}
    plain |= {"id": message.id, "c": message.content}
    if message.instructions:
        plain["i"] = message.instructions
    if message.author is not None:
        plain["a"] = message.author
    if message.metadata:
        plain["m"] = dict(message.metadata)
    if message.held:
        plain["h"] = 1
    if message.answered_by is not None:
        plain["p"] = message.answered_by
    if message.tenant is not None:
        plain["t"] = message.tenant
    if message.queued_at is not None:
        plain["q"] = round(message.queued_at.timestamp() * 1000)
    origin = {"r": message.request_id, "x": message.trace}
    plain |= {name: value for name, value in origin.items() if value is not None}
    return plain


def unpack(entry: str) -> Message:
    """Return the message of a list entry; unknown fields are ignored.

    Raises:
        ValueError: The entry was not written by `pack`.
    """
    plain = json.loads(entry)
    is_ours = isinstance(plain, dict) and all(
        isinstance(plain.get(name), kinds) for name, kinds in _ENTRY.items()
    )
    if not is_ours or not is_text(plain["id"]):  # the id names a key
        msg = "Invalid list entry: expected a packed message"
        raise ValueError(msg)
    return Message(
        id=plain["id"],
        content=plain["c"],
        instructions=plain.get("i"),
        author=plain.get("a"),
        metadata=plain.get("m") or {},
        held=bool(plain.get("h")),
        tenant=plain.get("t"),
        queued_at=_moment(plain.get("q")),
        wants_reply=plain.get("w") not in (_QUIET, SAID),
        request_id=plain.get("r"),
        role="assistant" if plain.get("w") == SAID else "user",
        answered_by=plain.get("p"),
        trace=plain.get("x"),
    )


_ENTRY: dict[str, tuple[type, ...]] = {
    "id": (str,),
    "c": (str, list),
    "i": _TEXT,
    "a": _TEXT,
    "m": (dict, type(None)),
    "t": _TEXT,
    "r": _TEXT,
    "x": _TEXT,
    "p": _TEXT,
}


def _moment(ms: Any) -> datetime | None:
    """Return the time that Redis put into an entry; None if it is not one."""
    is_time = isinstance(ms, int) and not isinstance(ms, bool)
    with suppress(OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(ms / 1000, tz=UTC) if is_time else None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """Labels of a message that stay in its record."""

    author: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None


def pack_labels(message: Message) -> str:
    """Return a message's labels for its record; "" for none."""
    if message.author is None and message.tenant is None and not message.metadata:
        return ""
    plain: dict[str, Any] = {}
    if message.author is not None:
        plain["a"] = message.author
    if message.metadata:
        plain["m"] = dict(message.metadata)
    if message.tenant is not None:
        plain["t"] = message.tenant
    return to_json(plain)


def unpack_labels(stored: str) -> Labels:
    """Return the labels in a record; none if they cannot be read."""
    with suppress(ValueError, RecursionError):
        plain = json.loads(stored or "{}")
        if isinstance(plain, dict) and all(
            isinstance(plain.get(name), _ENTRY[name]) for name in ("a", "m", "t")
        ):
            return Labels(
                author=plain.get("a"), metadata=plain.get("m") or {}, tenant=plain.get("t")
            )
    return Labels()


def unpack_readable(entries: Sequence[str]) -> tuple[tuple[Message, ...], int]:
    """Return the messages of the readable entries, and the number of the others."""
    messages: list[Message] = []
    for entry in entries:
        with suppress(ValueError, RecursionError):
            messages.append(unpack(entry))
    return tuple(messages), len(entries) - len(messages)


def digest(content: Content) -> str:
    """Return 15 characters by which two contents of the same message id are compared."""
    encoded = encode_basestring(content) if isinstance(content, str) else _encode_sorted(content)
    short = hashlib.blake2b(encoded.encode("utf-8"), digest_size=11).digest()
    return b2a_base64(short, newline=False)[:15].decode()  # the sixteenth is padding
