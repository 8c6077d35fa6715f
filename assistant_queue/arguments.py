"""The arguments of public calls, checked before anything is sent: a typed error says what, where and what to do."""

from __future__ import annotations

import json
import re
import reprlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistant_queue.config import MAX_SECONDS
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import TEXT_PARTS, Content, Message

MAX_THREAD_ID = 512
"""Characters of a thread id. Chosen."""
MAX_MESSAGE_ID = 512
"""Characters of a message id. Chosen."""
MAX_CONTENT = 256_000
"""Characters of a message, and of its instructions. Source: the provider's limit for a message."""
MAX_AUTHOR = 128
"""Characters of an author's name. Chosen."""
MAX_METADATA = 14
"""The caller's pairs. Source: the provider takes 16; two are the queue's own marks."""
MAX_METADATA_KEY = 64
"""Characters. Source: the provider's limit."""
MAX_METADATA_VALUE = 512
"""Characters. Source: the provider's limit."""


def identifier(value: Any, what: str, most: int) -> str:
    """A string of 1 to `most` characters."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}; nothing was done")
    if not 1 <= len(value) <= most:
        raise InvalidArgument(f"{what} must have 1 to {most} characters, this one has {len(value)}; nothing was done")
    encodable(value, what)
    return value


def encodable(value: str, what: str) -> None:
    """See to it that a text can be written as UTF-8."""
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} holds half of a surrogate pair, which is not UTF-8; repair the text; nothing was done") from None


def shown(value: Any) -> str:
    """A value in an error: its beginning and its end, whatever its length."""
    return reprlib.repr(value)


def check_thread_id(value: Any) -> str:
    """A thread id: any string of 1 to 512 characters."""
    return identifier(value, "thread_id", MAX_THREAD_ID)


def check_message_id(value: Any) -> str:
    """A message id: any string of 1 to 512 characters."""
    return identifier(value, "message_id", MAX_MESSAGE_ID)


def check_batch_id(value: Any) -> str:
    """A batch id, as `list_failed` gives it."""
    return identifier(value, "batch_id", MAX_MESSAGE_ID)


def check_event_id(value: Any) -> str:
    """The id of an event: as `event.id` gives it, or "0" for the beginning of what is kept."""
    if not isinstance(value, str) or re.fullmatch(r"[0-9]{1,19}(-[0-9]{1,19})?", value) is None:
        raise InvalidArgument(f'after must be the id of an event, such as "1700000000000-0", or "0", not {shown(value)}')
    return value if "-" in value else f"{value}-0"


def check_patience(value: Any) -> float | None:
    """Seconds to wait for the next event, 0 or more; None for any time."""
    return None if value is None else check_timeout(value)


def check_timeout(value: Any) -> float:
    """Seconds to wait, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_SECONDS:
        raise InvalidArgument(f"timeout must be a number of seconds from 0 to {MAX_SECONDS:,.0f}, not {shown(value)}")
    return float(value)


def check_limit(value: Any, most: int) -> int:
    """How many rows to return."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"limit must be a whole number from 1 to {most}, not {shown(value)}")
    return value


def make_message(content: Any, *, message_id: Any, instructions: Any, author: Any, metadata: Any) -> Message:
    """A message from the arguments of `add_message_to_thread`.

    Raises:
        InvalidArgument: One of them is of the wrong type, empty or too long. Nothing was queued.
    """
    return Message(
        id=secrets.token_hex(12) if message_id is None else check_message_id(message_id),
        content=_content(content),
        instructions=None if instructions is None else _text(instructions, "instructions"),
        author=None if author is None else _author(author),
        metadata={} if metadata is None else _metadata(metadata),
    )


ROW_NAMES = frozenset({"thread_id", "message", "instructions", "message_id", "author", "metadata"})
"""What a row of `add_messages` may say."""


def make_rows(rows: Any) -> list[tuple[str, Message]]:
    """The rows of `add_messages`.

    Raises:
        InvalidArgument: They are no list, or one of them is wrong; the message says which. Nothing was queued.
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InvalidArgument(f"messages must be a list of dicts with thread_id and message, not {type(rows).__name__}; nothing was queued")
    return [make_row(number, row) for number, row in enumerate(rows)]


def make_row(number: int, row: Any) -> tuple[str, Message]:
    """A row of `add_messages`: the thread id and the message.

    Raises:
        InvalidArgument: The row is not a dict of the arguments of `add_message_to_thread`. Nothing was queued.
    """
    if not isinstance(row, Mapping):
        raise InvalidArgument(f"row {number} must be a dict with thread_id and message, not {type(row).__name__}; nothing was queued")
    unknown = sorted(str(name) for name in row.keys() - ROW_NAMES)
    if unknown or "thread_id" not in row or "message" not in row:
        raise InvalidArgument(
            f"row {number} must have thread_id and message, and may have instructions, message_id, author and metadata"
            f"{'; it has ' + ', '.join(unknown) if unknown else ''}; nothing was queued"
        )
    try:
        message = make_message(
            row["message"],
            message_id=row.get("message_id"),
            instructions=row.get("instructions"),
            author=row.get("author"),
            metadata=row.get("metadata"),
        )
        return check_thread_id(row["thread_id"]), message
    except InvalidArgument as error:
        raise InvalidArgument(f"row {number}: {error}") from None


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}; nothing was queued")
    if not value.strip():
        raise InvalidArgument(f"{what} is empty or blank; nothing was queued")
    if len(value) > MAX_CONTENT:
        raise InvalidArgument(f"{what} has {len(value):,} characters, the limit is {MAX_CONTENT:,}; nothing was queued - split it")
    encodable(value, what)
    return value


def _content(value: Any) -> Content:
    if isinstance(value, str):
        return _text(value, "message")
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise InvalidArgument(f"message must be a string or a list of content parts, not {type(value).__name__}; nothing was queued")
    if not value:
        raise InvalidArgument("message is an empty list of content parts; nothing was queued")
    for number, part in enumerate(value):
        _part(number, part)
    parts = [dict(part) for part in value]
    size = len(as_json(parts, "the content parts", "queued").encode("utf-8"))
    letters = sum(len(str(part.get("text", ""))) for part in parts)
    if letters > MAX_CONTENT:
        raise InvalidArgument(f"the content parts have {letters:,} characters of text, the limit is {MAX_CONTENT:,}; nothing was queued")
    if size > MAX_PARTS_BYTES:
        raise InvalidArgument(f"the content parts have {size:,} bytes, the limit is {MAX_PARTS_BYTES:,}; upload files and name their ids")
    if all(part["type"] in TEXT_PARTS and not part["text"].strip() for part in parts):
        raise InvalidArgument("the content parts hold no text; nothing was queued")
    return parts


def _part(number: int, part: Any) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise InvalidArgument(f"content part {number} must be a dict with a 'type', as the provider spells it; nothing was queued")
    if part["type"] in TEXT_PARTS and not isinstance(part.get("text"), str):
        kind = type(part.get("text")).__name__
        raise InvalidArgument(f"content part {number} is a text: its 'text' must be a string, not {kind}; nothing was queued")
    level: list[Any] = [part]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _inside(number, one)]
        if not level:
            return
    raise InvalidArgument(f"content part {number} is nested more than {MAX_DEPTH} levels deep; nothing was queued")


def _inside(number: int, value: Any) -> Iterable[Any]:
    """What a value of a content part holds."""
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise InvalidArgument(f"content part {number} has a name that is no string; nothing was queued")
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def as_json(value: Any, what: str, not_done: str) -> str:
    """A value as JSON."""
    try:
        found = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} cannot be written as JSON: {error}; nothing was {not_done}") from None
    encodable(found, what)
    return found


MAX_PARTS_BYTES = 4_000_000
"""Bytes of a message's content parts as JSON. Chosen: Redis is no place for pictures; the provider takes uploaded files by their ids."""
MAX_DEPTH = 32
"""Levels of a content part. Chosen: the provider's own have four; some hundreds are more than a worker can read again."""


_JOINERS = {0x200C: None, 0x200D: None}
"""Zero-width joiner and non-joiner: Python does not call them printable, and Persian names and many emoji are spelled with them."""


def _author(value: Any) -> str:
    name = identifier(value, "author", MAX_AUTHOR)
    plain = name.translate(_JOINERS)
    if not plain.strip() or not plain.isprintable():
        raise InvalidArgument("author must be a printable name on one line: it stands before the text for the model; nothing was queued")
    return name


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"metadata must be a dict of strings, not {type(value).__name__}; nothing was queued")
    if len(value) > MAX_METADATA:
        raise InvalidArgument(f"metadata has {len(value)} pairs, the limit is {MAX_METADATA}; nothing was queued")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise InvalidArgument(f"metadata must map strings to strings, {key!r} does not; nothing was queued")
        if not 1 <= len(key) <= MAX_METADATA_KEY:
            raise InvalidArgument(f"a metadata key has 1 to {MAX_METADATA_KEY} characters, {key[:80]!r} does not; nothing was queued")
        if len(item) > MAX_METADATA_VALUE:
            raise InvalidArgument(f"metadata[{key!r}] has {len(item)} characters, the limit is {MAX_METADATA_VALUE}; nothing was queued")
        encodable(key, "a metadata key")
        encodable(item, f"metadata[{key!r}]")
    return dict(value)


def check_author(value: Any) -> str | None:
    """A printable name on one line, or None."""
    return None if value is None else _author(value)


def check_content(value: Any) -> Content:
    """The content of a message: a non-blank text, or content parts."""
    return _content(value)


def check_metadata(value: Any) -> dict[str, str]:
    """Pairs of strings; none for None."""
    return {} if value is None else _metadata(value)


def check_instructions(value: Any) -> str | None:
    """A non-blank text, or None."""
    return None if value is None else _text(value, "instructions")
