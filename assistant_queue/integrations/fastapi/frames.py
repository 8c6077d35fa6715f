"""Events as they are sent: encoded once for all listeners."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

from assistant_queue.errors import InvalidArgument
from assistant_queue.integrations.fastapi.problems import problem_of_code
from assistant_queue.integrations.fastapi.timeline_schemas import timeline_record
from assistant_queue.models import ErrorInfo, Timeline, Usage

_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Frame:
    """One event or note for listeners, encoded.

    Attributes:
        place: Position among the thread's events; None without one (presence, a gap).
        event: The event itself, for `sees`; None if every listener of the thread may see it.
        text: As JSON, for sockets.
        sse: As an entry of an event stream.
    """

    place: tuple[int, int] | None
    event: Any
    text: str
    sse: bytes


def frame_of(event: Any) -> Frame:
    """Encode an event of the queue, with its errors in the texts for clients."""
    text = json.dumps(
        {field.name: _plain(getattr(event, field.name)) for field in fields(event)},
        ensure_ascii=False,
    )
    place = None if event.type == "events_missed" else place_of(event.id)
    return Frame(place, event, text, sse_entry(event.type, text, event.id))


def place_of(event_id: str) -> tuple[int, int]:
    """Parse an event id into its comparable parts.

    Raises:
        InvalidArgument: It is not an event id.
    """
    if not _ID.fullmatch(event_id):
        raise InvalidArgument(
            "after must be the id of an event, as the stream gave it, or 0 for all that is kept"
        )
    ms, _, number = event_id.partition("-")
    return int(ms), int(number or 0)


def id_of(place: tuple[int, int]) -> str:
    """Return the id at a place."""
    return f"{place[0]}-{place[1]}"


def note(kind: str, thread_id: str, *, at: str | None = None, **values: Any) -> Frame:
    """Encode a note of the service, which is not stored: `caught_up`, `presence`, `closed`.

    Args:
        kind: Its type.
        thread_id: The thread.
        at: The id to resume from, if any.
        values: Its other fields.
    """
    content = {"type": kind, "thread_id": thread_id, **({} if at is None else {"id": at}), **values}
    text = json.dumps(content)  # in ASCII: `ref` is the client's, and may hold what is no UTF-8
    return Frame(None, None, text, sse_entry(kind, text, at))


def sse_entry(kind: str, text: str, event_id: str | None) -> bytes:
    """Encode an entry of an event stream; `text` is JSON and has no line breaks."""
    head = "" if event_id is None else f"id: {event_id}\n"
    return f"{head}event: {kind}\ndata: {text}\n\n".encode("utf-8", "replace")


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, ErrorInfo):
        return problem_of_code(value.code).model_dump(include={"code", "detail"})
    if isinstance(value, Timeline):
        return timeline_record(value).model_dump(mode="json")
    if isinstance(value, Usage):
        return asdict(value)
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value
