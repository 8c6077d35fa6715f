"""Files of messages as content parts."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from assistant_queue.channels import Attachment, FetchedFile, Telegram
from assistant_queue.channels.intake import content_of
from assistant_queue.channels.media import BatchFiles, has_files
from assistant_queue.testing.channels import StandInTelegram


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        yield running


@pytest.fixture
async def channel(platform: StandInTelegram) -> AsyncIterator[Telegram]:
    one = Telegram(platform.token, api_url=platform.url)
    yield one
    await one.close()


def said(channel: Telegram, platform: StandInTelegram, text: str = "", **files: bytes) -> Any:
    platform.say(5, text, files=files)
    (message,) = channel.messages_of(platform.updates[-1])
    return content_of(channel, message)


async def parts_of(channel: Telegram, content: Any) -> Any:
    assert has_files(content)
    resolved = await BatchFiles([channel]).content(content)
    assert not has_files(resolved)
    return resolved


async def test_a_photo_is_a_picture(platform: StandInTelegram, channel: Telegram) -> None:
    text, picture = await parts_of(channel, said(channel, platform, "look", photo=b"a picture"))
    assert text == {"type": "text", "text": "look"}
    data = base64.b64encode(b"a picture").decode()
    assert picture == {"type": "input_image", "image_url": f"data:image/jpeg;base64,{data}"}


async def test_a_voice_message_is_its_words(platform: StandInTelegram) -> None:
    async def transcribe(attachment: Attachment, file: FetchedFile) -> str:
        return f"{attachment.kind}: {file.data.decode()}"

    channel = Telegram(platform.token, api_url=platform.url, transcribe=transcribe)
    (part,) = await parts_of(channel, said(channel, platform, voice=b"hello"))
    assert part == {"type": "text", "text": "voice: hello"}
    await channel.close()


async def test_a_voice_message_that_is_not_transcribed_is_mentioned(
    platform: StandInTelegram, channel: Telegram
) -> None:
    (part,) = await parts_of(channel, said(channel, platform, voice=b"hello"))
    assert part == {"type": "text", "text": "[voice: cannot be read by the model]"}


async def test_documents(channel: Telegram) -> None:
    async def parts(name: str, media_type: str) -> Any:
        attachment = Attachment(kind="document", ref="x", file_name=name, media_type=media_type)
        return await channel.content_parts(attachment, FetchedFile(b"data", media_type))

    assert await parts("a.txt", "text/plain; charset=utf-8") == [
        {"type": "text", "text": "[a.txt]\ndata"}
    ]
    assert await parts("a.pdf", "application/pdf") == [
        {
            "type": "input_file",
            "filename": "a.pdf",
            "file_data": "data:application/pdf;base64,ZGF0YQ==",
        }
    ]
    assert await parts("a.bin", "application/zip") == [
        {"type": "text", "text": "[document 'a.bin': cannot be read by the model]"}
    ]


async def test_a_file_that_is_gone_does_not_stop_the_answer(
    platform: StandInTelegram, channel: Telegram, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.channels.media._PAUSE_S", 0.0)
    batch = said(channel, platform, "look", photo=b"x")
    platform.methods.files.clear()
    parts = await parts_of(channel, batch)
    assert parts[1] == {"type": "text", "text": "[photo: could not be read]"}


async def test_a_worker_without_the_channel_says_so(
    platform: StandInTelegram, channel: Telegram
) -> None:
    batch = said(channel, platform, "look", photo=b"x")
    content: Any = await BatchFiles([]).content(batch)
    assert content[1] == {"type": "text", "text": "[photo: cannot be read here]"}


async def test_a_file_is_read_once_for_a_batch(
    platform: StandInTelegram, channel: Telegram
) -> None:
    content = said(channel, platform, "look", photo=b"x")
    files = BatchFiles([channel])
    assert await files.content(content) == await files.content(content)
    assert len([one for one in platform.requests if "getFile" in one.path]) == 1


@pytest.mark.parametrize(
    ("declared", "data", "sent"),
    [
        ("image/png", b"\x89PNG\r\n\x1a\n...", "image/png"),
        ("image/png", b"\xff\xd8\xff...", "image/jpeg"),
        ("image/webp", b"RIFF....WEBP", "image/webp"),
        ("image/gif", b"GIF89a", "image/gif"),
        ("image/jpg", b"?", "image/jpeg"),
        ("image/heic", b"\x00\x00\x00\x18ftypheic", None),
        ("image/svg+xml", b"<svg/>", None),
        ("image/tiff", b"\xff\xd8\xff...", "image/jpeg"),
    ],
)
async def test_pictures_go_as_the_types_that_models_take(
    channel: Telegram, declared: str, data: bytes, sent: str | None
) -> None:
    attachment = Attachment(kind="document", ref="x", file_name="x", media_type=declared)
    (part,) = await channel.content_parts(attachment, FetchedFile(data, declared))
    if sent is None:
        assert part == {"type": "text", "text": "[document 'x': cannot be read by the model]"}
    else:
        encoded = base64.b64encode(data).decode()
        assert part == {"type": "input_image", "image_url": f"data:{sent};base64,{encoded}"}


async def test_a_provider_that_takes_links_alone_reads_that_there_was_a_file(
    platform: StandInTelegram, channel: Telegram
) -> None:
    content = said(channel, platform, "look", photo=b"a picture")
    assert await BatchFiles([channel], inline=False).content(content) == [
        {"type": "text", "text": "look"},
        {"type": "text", "text": "[photo: cannot be read by the model]"},
    ]
