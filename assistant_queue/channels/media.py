"""Files of messages as content parts of the provider, read in the worker."""

from __future__ import annotations

import asyncio
import base64
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from assistant_queue.channels.base import Attachment, FetchedFile
from assistant_queue.channels.intake import ATTACHMENT_TYPE, channel_named
from assistant_queue.core.runs import RunRequest
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import Content
from assistant_queue.user_code.error_text import log_raised

if TYPE_CHECKING:
    from assistant_queue.channels.channel import Channel

_log = logging.getLogger(__name__)

_TRIES = 3
"""Reads of a file before its message is answered without it. Chosen: a platform that is away for
longer than some seconds also delays the reply."""

_PAUSE_S = 1.0

_PICTURES = {
    "image/jpeg": b"\xff\xd8\xff",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""Pictures that models take, and how they begin. Source: the providers' guides; they refuse any
other, and one that says that it is another."""

_MOST_TEXT = 100_000
"""Characters of a text file that go to the model. Chosen: more fills a model's window."""


def has_files(content: Content) -> bool:
    """Return whether a message's content names a file that is still at its platform."""
    return not isinstance(content, str) and any(
        part.get("type") == ATTACHMENT_TYPE for part in content
    )


class BatchFiles:
    """Reads the files of one batch, each once.

    Pictures and documents become content parts, spoken words text. A file that cannot be read, or
    that the provider does not take within a message, becomes a line of text that says so: the
    question beside it is answered.
    """

    def __init__(self, channels: Sequence[Channel], *, inline: bool = True) -> None:
        """Read nothing yet; `inline`: the provider takes files within a message."""
        self._channels = channels
        self._inline = inline
        self._read: dict[tuple[Any, Any], Sequence[Mapping[str, Any]]] = {}

    async def request(self, request: RunRequest) -> RunRequest:
        """Return a request with the files as content parts."""
        if not any(has_files(message.content) for message in request.batch.messages):
            return request
        messages = [
            replace(message, content=await self.content(message.content))
            for message in request.batch.messages
        ]
        items = [replace(item, content=await self.content(item.content)) for item in request.items]
        return replace(
            request,
            batch=replace(request.batch, messages=tuple(messages)),
            items=tuple(items),
        )

    async def content(self, content: Content) -> Content:
        """Return a content with its files as parts."""
        if isinstance(content, str) or not has_files(content):
            return content
        parts: list[Mapping[str, Any]] = []
        for part in content:
            if part.get("type") == ATTACHMENT_TYPE:
                key = (part.get("channel"), part.get("ref"))
                if key not in self._read:
                    found = await _parts(part, self._channels)
                    self._read[key] = found if self._inline else _without_data(part, found)
                parts.extend(self._read[key])
            else:
                parts.append(part)
        return parts


def _without_data(
    stored: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """Return the parts with a line of text in place of a file."""
    note = _note(_attachment_of(stored), "cannot be read by the model")
    return [
        note if str(part.get("image_url", part.get("file_data", ""))).startswith("data:") else part
        for part in parts
    ]


def _attachment_of(stored: Mapping[str, Any]) -> Attachment:
    return Attachment(
        kind=cast("Any", stored.get("kind", "document")),
        ref=str(stored.get("ref", "")),
        media_type=stored.get("media_type"),
        file_name=stored.get("file_name"),
        size=stored.get("size"),
    )


async def _parts(
    stored: Mapping[str, Any], channels: Sequence[Channel]
) -> Sequence[Mapping[str, Any]]:
    channel = channel_named(stored.get("channel"), channels)
    attachment = _attachment_of(stored)
    if channel is None:
        _log.error("no channel %r is configured in this worker", stored.get("channel"))
        return [_note(attachment, "cannot be read here")]
    file = await _read(channel, attachment)
    if file is None:
        return [_note(attachment, "could not be read")]
    try:
        return await channel.content_parts(attachment, file)
    except Exception as error:  # noqa: BLE001 - `transcribe` is the user's
        log_raised(_log, "channel %r: a file was not understood", channel.name, error=error)
        return [_note(attachment, "could not be read")]


async def _read(channel: Channel, attachment: Attachment) -> FetchedFile | None:
    for left in reversed(range(_TRIES)):
        try:
            return await channel.fetch(attachment)
        except AssistantQueueError as error:
            _log.warning("channel %r: %s", channel.name, error)
            if left:
                await asyncio.sleep(_PAUSE_S)
    return None


async def default_parts(
    attachment: Attachment, file: FetchedFile, transcribe: Any
) -> list[Mapping[str, Any]]:
    """Return a file as parts that models take.

    JPEG, PNG, GIF and WebP are `input_image`, PDFs `input_file`, text files their text; what is
    spoken is what `transcribe` makes of it.
    """
    kind = file.media_type.partition(";")[0].strip().lower()
    picture = _picture_type(kind, file.data)
    if picture is not None:
        return [{"type": "input_image", "image_url": _data_url(picture, file.data)}]
    if kind == "application/pdf":
        name = attachment.file_name or "document.pdf"
        return [{"type": "input_file", "filename": name, "file_data": _data_url(kind, file.data)}]
    if kind.startswith("text/") or kind == "application/json":
        text = file.data.decode("utf-8", "replace")[:_MOST_TEXT]
        return [{"type": "text", "text": f"[{attachment.file_name or 'document'}]\n{text}"}]
    if attachment.kind in {"voice", "audio", "video"} and transcribe is not None:
        said = transcribe(attachment, file)
        said = await said if inspect.isawaitable(said) else said
        return [{"type": "text", "text": str(said)}]
    return [_note(attachment, "cannot be read by the model")]


def _picture_type(declared: str, data: bytes) -> str | None:
    """Return the media type of a picture, by its beginning if that is known; None if it is none."""
    if not declared.startswith("image/"):
        return None
    found = (kind for kind, beginning in _PICTURES.items() if data.startswith(beginning))
    usual = declared.replace("image/jpg", "image/jpeg")
    return next(found, usual if usual in _PICTURES else None)


def _note(attachment: Attachment, why: str) -> Mapping[str, Any]:
    named = f" {attachment.file_name!r}" if attachment.file_name else ""
    return {"type": "text", "text": f"[{attachment.kind}{named}: {why}]"}


def _data_url(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
