"""Checks of the arguments of public calls, before anything is sent.

Every check raises `InvalidArgument` with the argument's name, the value or its type, and the
expectation. Nothing was queued or changed by then.
"""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from assistant_queue.client.additions import Addition
from assistant_queue.config import MAX_SECONDS
from assistant_queue.core.window import MAX_HOLD_MS
from assistant_queue.errors import InvalidArgument
from assistant_queue.logs import bound_field
from assistant_queue.models import TEXT_PARTS, Content, FailureReason, Message, SayKind
from assistant_queue.row_types import MidRun

MAX_THREAD_ID = 512
"""Characters of a thread id. Chosen: longer than any provider's or messenger's id."""
MAX_MESSAGE_ID = 512
"""Characters of a message id. Chosen: longer than any messenger's id."""
MAX_CONTENT = 256_000
"""Characters of a message, and of its instructions. Source: the provider's limit for a message."""
MAX_AUTHOR = 128
"""Characters of an author's name. Chosen: it stands before each of the author's texts."""
MAX_TENANT = 128
"""Characters of a tenant's label. Chosen: longer than a UUID; it is a label of metrics, too."""
MAX_METADATA = 14
"""The caller's pairs. Source: the provider takes 16; two are the queue's own marks."""
MAX_METADATA_KEY = 64
"""Characters. Source: the provider's limit."""
MAX_METADATA_VALUE = 512
"""Characters. Source: the provider's limit."""


def identifier(value: Any, what: str, most: int) -> str:
    """Return a string of 1 to `most` characters."""
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}")
    if not 1 <= len(value) <= most:
        raise InvalidArgument(f"{what} must have 1 to {most} characters, not {len(value)}")
    encodable(value, what)
    return value


def encodable(value: str, what: str) -> None:
    """Check that a text can be written as UTF-8."""
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidArgument(
            f"{what} cannot be encoded as UTF-8: it holds half of a surrogate pair"
        ) from None


def shown(value: Any) -> str:
    """Return a value for an error message: its beginning and its end."""
    return reprlib.repr(value)


def check_thread_id(value: Any) -> str:
    """Return a thread id: any string of 1 to 512 characters."""
    return identifier(value, "thread_id", MAX_THREAD_ID)


def check_message_id(value: Any) -> str:
    """Return a message id: any string of 1 to 512 characters."""
    return identifier(value, "message_id", MAX_MESSAGE_ID)


def check_batch_id(value: Any) -> str:
    """Return a batch id, as in `FailedBatch.batch_id`."""
    return identifier(value, "batch_id", MAX_MESSAGE_ID)


def check_event_id(value: Any) -> str:
    """Return the id of an event, as in `event.id`; "0" for the oldest event that is kept."""
    if not isinstance(value, str) or re.fullmatch(r"[0-9]{1,19}(-[0-9]{1,19})?", value) is None:
        raise InvalidArgument(
            'after must be the id of an event, such as "1700000000000-0", or "0", '
            f"not {shown(value)}"
        )
    return value if "-" in value else f"{value}-0"


def check_patience(value: Any) -> float | None:
    """Return the seconds to wait for the next event, 0 or more; None for no limit."""
    return None if value is None else check_timeout(value)


def check_timeout(value: Any) -> float:
    """Return the seconds to wait, 0 or more."""
    return _seconds(value, "timeout")


def check_delay(value: Any) -> float | None:
    """Return the seconds that a message waits for others; None for those of the queue."""
    return None if value is None else _seconds(value, "message_delay")


def check_hold(value: Any) -> float:
    """Return the seconds for which a window stays open after a message, 0 for None."""
    if value is None:
        return 0.0
    if _seconds(value, "hold") > MAX_HOLD_MS / 1000:
        raise InvalidArgument(
            f"hold must be a number of seconds from 0 to {MAX_HOLD_MS // 1000}, not {shown(value)}"
        )
    return float(value)


def check_mid_run(value: Any) -> MidRun | None:
    """Return the fate of a message during a run; None for the option's."""
    if value is None:
        return None
    check_choice(value, "mid_run", get_args(MidRun))
    return cast("MidRun", value)


def _seconds(value: Any, what: str) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 <= value <= MAX_SECONDS
    ):
        raise InvalidArgument(
            f"{what} must be a number of seconds from 0 to {MAX_SECONDS:,.0f}, not {shown(value)}"
        )
    return float(value)


def check_limit(value: Any, most: int) -> int:
    """Return the number of rows of a page, 1 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidArgument(f"limit must be a whole number from 1 to {most}, not {shown(value)}")
    return value


def check_choice(value: Any, what: str, choices: Sequence[str]) -> str:
    """Return one of a few words."""
    if not isinstance(value, str) or value not in choices:
        raise InvalidArgument(
            f"Invalid {what} {shown(value)}: expected one of {', '.join(choices)}"
        )
    return value


def make_message(
    content: Any,
    *,
    message_id: Any,
    instructions: Any,
    author: Any,
    metadata: Any,
    tenant: Any = None,
    wants_reply: Any = True,
) -> Message:
    """Return a message from the arguments of `add_message_to_thread`.

    Raises:
        InvalidArgument: One of them is of the wrong type, empty or too long.
    """
    return Message(
        id=os.urandom(12).hex() if message_id is None else check_message_id(message_id),
        content=_content(content),
        instructions=None if instructions is None else _text(instructions, "instructions"),
        author=None if author is None else _author(author),
        metadata={} if metadata is None else _metadata(metadata),
        tenant=None if tenant is None else _name(tenant, "tenant", MAX_TENANT),
        wants_reply=check_flag(wants_reply, "wants_reply"),
        request_id=bound_field("request_id"),
    )


ROW_NAMES = frozenset(
    {
        "thread_id",
        "message",
        "instructions",
        "message_id",
        "author",
        "metadata",
        "tenant",
        "wants_reply",
        "message_delay",
        "hold",
        "mid_run",
    }
)
"""The keys of a row of `add_messages`."""


def make_rows(rows: Any) -> list[Addition]:
    """Return the rows of `add_messages`.

    Raises:
        InvalidArgument: They are not a list, or one of them is wrong; the error has its number.
    """
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise InvalidArgument(
            "messages must be a list of dicts with thread_id and message, "
            f"not {type(rows).__name__}"
        )
    return [make_row(number, row) for number, row in enumerate(rows)]


def make_row(number: int, row: Any) -> Addition:
    """Return a row of `add_messages`.

    Raises:
        InvalidArgument: The row is not a dict of the arguments of `add_message_to_thread`.
    """
    if not isinstance(row, Mapping):
        raise InvalidArgument(
            f"row {number} must be a dict with thread_id and message, not {type(row).__name__}"
        )
    unknown = sorted(str(name) for name in row.keys() - ROW_NAMES)
    if unknown or "thread_id" not in row or "message" not in row:
        raise InvalidArgument(
            f"row {number} must have thread_id and message, and may have instructions, message_id, "
            "author, metadata, tenant, wants_reply, message_delay, hold and mid_run"
            f"{'; unknown: ' + ', '.join(unknown) if unknown else ''}"
        )
    try:
        message = make_message(
            row["message"],
            message_id=row.get("message_id"),
            instructions=row.get("instructions"),
            author=row.get("author"),
            metadata=row.get("metadata"),
            tenant=row.get("tenant"),
            wants_reply=row.get("wants_reply", True),
        )
        return Addition(
            thread_id=check_thread_id(row["thread_id"]),
            message=message,
            delay_s=check_delay(row.get("message_delay")),
            hold_s=check_hold(row.get("hold")),
            mid_run=check_mid_run(row.get("mid_run")),
        )
    except InvalidArgument as error:
        raise InvalidArgument(f"row {number}: {error}") from None


def check_flag(value: Any, what: str) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise InvalidArgument(f"{what} must be True or False, not {shown(value)}")
    return value


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidArgument(f"{what} must be a string, not {type(value).__name__}")
    if not value.strip():
        raise InvalidArgument(f"{what} is empty or blank")
    if len(value) > MAX_CONTENT:
        raise InvalidArgument(
            f"{what} has {len(value):,} characters, the limit is {MAX_CONTENT:,}: split it"
        )
    encodable(value, what)
    return value


def _content(value: Any) -> Content:
    if isinstance(value, str):
        return _text(value, "message")
    if not isinstance(value, Sequence) or isinstance(value, bytes | bytearray):
        raise InvalidArgument(
            f"message must be a string or a list of content parts, not {type(value).__name__}"
        )
    if not value:
        raise InvalidArgument("message is an empty list of content parts")
    for number, part in enumerate(value):
        _part(number, part)
    parts = [dict(part) for part in value]
    size = len(as_json(parts, "the content parts").encode("utf-8"))
    letters = sum(len(str(part.get("text", ""))) for part in parts)
    if letters > MAX_CONTENT:
        raise InvalidArgument(
            f"the content parts have {letters:,} characters of text, the limit is {MAX_CONTENT:,}"
        )
    if size > MAX_PARTS_BYTES:
        raise InvalidArgument(
            f"the content parts have {size:,} bytes, the limit is {MAX_PARTS_BYTES:,}: "
            "upload files to the provider and send their ids"
        )
    if all(part["type"] in TEXT_PARTS and not part["text"].strip() for part in parts):
        raise InvalidArgument("the content parts hold no text")
    return parts


def _part(number: int, part: Any) -> None:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise InvalidArgument(
            f"content part {number} must be a dict with a 'type' of the provider's API"
        )
    if part["type"] in TEXT_PARTS and not isinstance(part.get("text"), str):
        kind = type(part.get("text")).__name__
        raise InvalidArgument(
            f"content part {number} is a text: its 'text' must be a string, not {kind}"
        )
    level: list[Any] = [part]
    for _ in range(MAX_DEPTH):
        level = [inner for one in level for inner in _inside(number, one)]
        if not level:
            return
    raise InvalidArgument(f"content part {number} is nested more than {MAX_DEPTH} levels deep")


def _inside(number: int, value: Any) -> Iterable[Any]:
    """Return the values inside a value of a content part."""
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) for name in value):
            raise InvalidArgument(f"content part {number} has a key that is not a string")
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def as_json(value: Any, what: str) -> str:
    """Return a value as JSON."""
    try:
        found = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"{what} cannot be written as JSON: {error}") from None
    encodable(found, what)
    return found


MAX_PARTS_BYTES = 4_000_000
"""Bytes of a message's content parts as JSON. Chosen: Redis is no place for pictures; the provider
takes uploaded files by their ids."""
MAX_DEPTH = 32
"""Levels of a content part. Chosen: the provider's own have four; some hundreds are more than a
worker can read again."""


_JOINERS = {0x200C: None, 0x200D: None}
"""Zero-width joiner and non-joiner: Python does not call them printable, and Persian names and many
emoji are spelled with them."""


def _author(value: Any) -> str:
    return _name(value, "author", MAX_AUTHOR)


def _name(value: Any, what: str, most: int) -> str:
    name = identifier(value, what, most)
    plain = name.translate(_JOINERS)
    if not plain.strip() or not plain.isprintable():
        raise InvalidArgument(f"{what} must be a printable name on one line")
    return name


def _metadata(value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"metadata must be a dict of strings, not {type(value).__name__}")
    if len(value) > MAX_METADATA:
        raise InvalidArgument(f"metadata has {len(value)} pairs, the limit is {MAX_METADATA}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            raise InvalidArgument(
                f"metadata must map strings to strings; the pair of {shown(key)} does not"
            )
        if not 1 <= len(key) <= MAX_METADATA_KEY:
            raise InvalidArgument(
                f"a metadata key must have 1 to {MAX_METADATA_KEY} characters, "
                f"not {len(key)}: {shown(key)}"
            )
        if len(item) > MAX_METADATA_VALUE:
            raise InvalidArgument(
                f"metadata[{key!r}] has {len(item)} characters, the limit is {MAX_METADATA_VALUE}"
            )
        encodable(key, "a metadata key")
        encodable(item, f"metadata[{key!r}]")
    return dict(value)


def check_say(text: Any, author: Any, kind: Any) -> tuple[Message, SayKind]:
    """Return the text of `say` as a message with a new id, and its kind.

    Raises:
        InvalidArgument: One of them is of the wrong type or empty, or the kind is unknown.
    """
    check_choice(kind, "kind", get_args(SayKind))
    message = make_message(
        _text(text, "text"), message_id=None, instructions=None, author=author, metadata=None
    )
    if kind == "reply":
        message = replace(message, role="assistant", wants_reply=False)
    return message, kind


def check_author(value: Any) -> str | None:
    """Return a printable name on one line, or None."""
    return None if value is None else _author(value)


def check_person(value: Any, name: str) -> str:
    """Return the name of a person that answers a thread: printable, on one line."""
    return _name(value, name, MAX_AUTHOR)


def check_content(value: Any) -> Content:
    """Return the content of a message: a non-blank text, or content parts."""
    return _content(value)


def check_metadata(value: Any) -> dict[str, str]:
    """Return pairs of strings; an empty dict for None."""
    return {} if value is None else _metadata(value)


def check_instructions(value: Any) -> str | None:
    """Return a non-blank text, or None."""
    return None if value is None else _text(value, "instructions")


def check_failed_filter(reason: Any, thread_id: Any) -> tuple[str | None, str | None]:
    """Check the filter of the failed list; None matches any.

    Raises:
        InvalidArgument: The reason is none of the failed list, or the thread id is no thread id.
    """
    if reason is not None:
        check_choice(reason, "reason", get_args(FailureReason))
    return reason, None if thread_id is None else check_thread_id(thread_id)
