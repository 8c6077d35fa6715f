"""Pictures and files on the chat page: chosen, pasted and dropped; and what strangers send."""

from __future__ import annotations

import asyncio
import base64
import random
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import FilePayload, Page, expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import RunFailure
from tests.conftest import PATIENCE_S
from tests.web.browser import Person, replies, say, until_true
from tests.web.conftest import Site, patient, running

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

EVIL_NAME = "<img src=x onerror=alert(1)>\u202egnp.txt"
PDF = b"%PDF-1.4\n%%EOF"


def png(width: int, height: int, *, noise: bool = False) -> bytes:
    """Return a picture: of one colour, or of noise that no format makes small."""
    dice = random.Random(7)
    row = b"\x30\x60\xc0" * width
    lines = (b"\0" + (dice.randbytes(3 * width) if noise else row) for _ in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    text = chunk(b"tEXt", b"Comment\0SECRET PLACE")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size)
        + text
        + chunk(b"IDAT", zlib.compress(b"".join(lines), 1))
        + chunk(b"IEND", b"")
    )


def upload(name: str, kind: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data}


async def choose(page: Page, *files: FilePayload) -> None:
    await page.set_input_files("#files", list(files))


def sent_to(provider: StandInProvider) -> list[dict[str, Any]]:
    """Return the parts of the first message that the provider has."""
    run = provider.runs[0]
    found: Sequence[Any] = provider.items(run.conversation_id)[0]["content"]
    return list(found)


async def test_a_picture_is_sent_seen_by_all_and_still_there_after_a_reload(
    person: Person, provider: StandInProvider
) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await choose(mia, upload("lamp.png", "image/png", png(3000, 1500)))
    await expect(mia.locator("#attached img")).to_have_count(1)
    await say(mia, "My lamp")
    await expect(mia.locator("#attached")).to_be_hidden()
    await expect(replies(mia, ".done")).to_have_count(1)
    for page in (mia, tom):
        await expect(page.locator(".message .picture img")).to_have_count(1)
        await expect(page.locator(".message .bubble")).to_have_text("My lamp")
        await until_true(
            page, "() => document.querySelector('.message .picture img').naturalWidth === 2048"
        )
    await mia.reload()
    await expect(mia.locator(".message .picture img")).to_have_count(1)
    await expect(mia.locator(".message")).to_have_count(1)
    _, text, picture = sent_to(provider)
    assert text["text"].strip() == "My lamp"
    assert picture["type"] == "input_image"
    head, _, data = picture["image_url"].partition(",")
    assert head == "data:image/png;base64"
    assert b"SECRET PLACE" not in base64.b64decode(data), "what the camera wrote is not sent"


async def test_a_picture_alone_is_a_message(person: Person, provider: StandInProvider) -> None:
    mia = await person("Mia")
    await expect(mia.locator("#send")).to_be_disabled()
    await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
    await mia.get_by_role("button", name="Send").click()
    await expect(replies(mia, ".done")).to_have_count(1)
    await expect(mia.locator(".message .bubble")).to_have_count(0)
    await mia.get_by_role("button", name="Show the picture in full").click()
    await expect(mia.locator("#picture-image")).to_be_visible()
    await mia.keyboard.press("Escape")
    await expect(mia.locator("#picture")).to_be_hidden()


async def test_a_large_picture_is_made_to_fit(person: Person, provider: StandInProvider) -> None:
    mia = await person("Mia")
    await choose(mia, upload("noise.png", "image/png", png(1600, 1200, noise=True)))
    await expect(mia.locator("#attached img")).to_have_count(1)
    await say(mia, "Noise")
    await expect(replies(mia, ".done")).to_have_count(1)
    url = sent_to(provider)[2]["image_url"]
    assert url.startswith("data:image/jpeg;base64,")
    assert 200_000 < len(url) < 900_000


async def test_documents_and_texts_are_sent_and_can_be_opened_and_saved(
    person: Person, provider: StandInProvider
) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await choose(
        mia,
        upload("bill.pdf", "application/pdf", PDF),
        upload(EVIL_NAME, "text/html", b"<b>one</b>\ntwo"),
    )
    await expect(mia.locator("#attached li")).to_have_count(2)
    await say(mia, "Two files")
    await expect(replies(mia, ".done")).to_have_count(1)
    for page in (mia, tom):
        await expect(page.locator(".message .file-name")).to_have_text(
            ["bill.pdf", "<img src=x onerror=alert(1)>gnp.txt"]
        )
        await page.locator(".message details summary").click()
        await expect(page.locator(".message details code")).to_have_text("<b>one</b>\ntwo")
        assert await page.locator(".message img").count() == 0
    async with tom.expect_download() as saving:
        await tom.get_by_role("button", name="Save bill.pdf").click()
    saved = await saving.value
    assert saved.suggested_filename == "bill.pdf"
    assert await asyncio.to_thread(Path(await saved.path()).read_bytes) == PDF
    kinds = [part["type"] for part in sent_to(provider)]
    assert kinds == ["input_text", "input_text", "input_file", "input_text"]


async def test_files_are_pasted_dropped_and_removed(person: Person) -> None:
    mia = await person("Mia")
    carry = """([selector, kind]) => {
      const data = new DataTransfer();
      data.items.add(new File(["words"], `${kind}.txt`, { type: "text/plain" }));
      const fields = { bubbles: true, cancelable: true };
      const event = kind === "paste"
        ? new ClipboardEvent(kind, { ...fields, clipboardData: data })
        : new DragEvent(kind, { ...fields, dataTransfer: data });
      return !document.querySelector(selector).dispatchEvent(event);
    }"""
    assert await mia.evaluate(carry, ["#text", "paste"]), "the browser pastes nothing itself"
    await expect(mia.locator("#attached .file-name")).to_have_text(["paste.txt"])
    await mia.evaluate(carry, ["body", "dragenter"])
    await expect(mia.locator("#drop")).to_be_visible()
    assert await mia.evaluate(carry, ["body", "drop"]), "the browser does not leave the page"
    await expect(mia.locator("#drop")).to_be_hidden()
    await expect(mia.locator("#attached .file-name")).to_have_text(["paste.txt", "drop.txt"])
    await mia.get_by_role("button", name="Remove paste.txt").click()
    await expect(mia.locator("#attached .file-name")).to_have_text(["drop.txt"])
    await expect(mia.locator("#text")).to_be_focused()
    await mia.get_by_role("button", name="Remove drop.txt").click()
    await expect(mia.locator("#send")).to_be_disabled()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (upload("big.pdf", "application/pdf", b"x" * 900_000), "“big.pdf” is too large: 900 kB."),
        (upload("big.txt", "text/plain", b"x" * 100_001), "“big.txt” is too large"),
        (upload("run.exe", "application/octet-stream", b"MZ\0\1" * 50), "“run.exe” is not taken."),
        (upload("x.png", "image/png", b"no picture"), "“x.png” cannot be read as a picture."),
        (upload("x.svg", "image/svg+xml", b"<svg onload='alert(1)'/>"), "cannot be read"),
        (upload("none.txt", "text/plain", b""), "“none.txt” is empty."),
        (upload(EVIL_NAME, "application/zip", b"PK\3\4\0"), "“<img src=x onerror=alert(1)>gnp"),
    ],
    ids=["large", "long", "program", "broken", "drawing", "empty", "evil"],
)
async def test_what_is_not_taken_is_named_with_its_reason(
    person: Person, file: FilePayload, words: str
) -> None:
    mia = await person("Mia")
    await choose(mia, file)
    await expect(mia.locator("#trouble")).to_contain_text(words)
    await expect(mia.locator("#attached")).to_be_hidden()
    await expect(mia.locator("#send")).to_be_disabled()


async def test_a_message_that_is_sent_while_its_picture_is_read_waits_for_it(
    person: Person, provider: StandInProvider
) -> None:
    mia = await person("Mia")
    await mia.evaluate(
        """() => {
          const read = window.createImageBitmap;
          const gate = new Promise((resolve) => { window.release = resolve; });
          window.createImageBitmap = (file) => gate.then(() => read(file));
        }"""
    )
    await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
    await say(mia, "My lamp")
    await expect(mia.locator("#attached")).to_have_text("Reading…")
    await expect(mia.locator(".message")).to_have_count(0)
    await mia.evaluate("() => window.release()")
    await expect(replies(mia, ".done")).to_have_count(1)
    await expect(mia.locator(".message .picture")).to_have_count(1)
    assert [part["type"] for part in sent_to(provider)][-1] == "input_image"


async def test_a_message_takes_a_number_of_files(person: Person) -> None:
    mia = await person("Mia")
    await choose(mia, *(upload(f"{number}.txt", "text/plain", b"x") for number in range(9)))
    await expect(mia.locator("#trouble")).to_have_text("A message takes 8 files.")
    await expect(mia.locator("#attached li")).to_have_count(8)


async def test_files_of_an_unsent_message_survive_a_reload(person: Person) -> None:
    mia = await person("Mia")
    await mia.route(
        "**/messages",
        lambda route: route.abort() if route.request.method == "POST" else route.continue_(),
    )
    await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
    await say(mia, "not lost")
    await expect(mia.locator(".message.sending .picture")).to_have_count(1)
    await mia.unroute("**/messages")
    await mia.reload()
    await expect(replies(mia, ".done")).to_have_count(1)
    await expect(mia.locator(".message .picture")).to_have_count(1)


async def test_an_edit_changes_the_text_and_keeps_the_picture(
    person: Person, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    with patient(queue, 300) as other:
        other.start_worker()
        with running(other) as site:
            mia = await person("Mia", url=site.url)
            await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
            await say(mia, "My lmap")
            await mia.get_by_role("button", name="Edit: My lmap").click()
            await mia.fill("#text", "My lamp")
            await mia.keyboard.press("Enter")
            await expect(mia.locator(".message .bubble")).to_have_text("My lamp")
            await expect(mia.locator(".message .picture")).to_have_count(1)
            await asyncio.to_thread(other.flush, "kitchen")
            await expect(replies(mia, ".done")).to_have_count(1)
    assert [part["type"] for part in sent_to(provider)][-1] == "input_image"


async def test_a_failed_message_is_written_again_with_its_picture(
    person: Person, provider: StandInProvider
) -> None:
    provider.model = lambda _: RunFailure()
    mia = await person("Mia")
    await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
    await say(mia, "My lamp")
    await expect(mia.locator(".message.failed")).to_have_count(1)
    provider.model = lambda _: "A lamp."
    await mia.get_by_role("button", name="Write again: My lamp").click()
    await expect(mia.locator("#text")).to_have_value("My lamp")
    await expect(mia.locator("#attached img")).to_have_count(1)
    await mia.keyboard.press("Enter")
    await expect(replies(mia, ".done")).to_have_text("A lamp.")
    await expect(mia.locator(".message .picture")).to_have_count(2)


async def test_of_old_messages_the_page_shows_that_there_was_a_picture(
    person: Person, queue: AssistantMessageQueue
) -> None:
    mia = await person("Mia")
    await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
    await say(mia, "My lamp")
    await expect(replies(mia, ".done")).to_have_count(1)
    await asyncio.to_thread(
        queue._store.client.delete, queue._commands.namespace.keys.events("kitchen")
    )
    await mia.reload()
    await expect(mia.locator(".message .file-name")).to_have_text("Picture")
    await expect(mia.locator(".message .bubble")).to_have_text("My lamp")
    await expect(mia.locator(".message .author")).to_have_count(0)


async def test_parts_of_strangers_load_nothing_and_run_nothing(
    person: Person, site: Site, queue: AssistantMessageQueue
) -> None:
    mia = await person("Mia")  # the fixture fails at a request to elsewhere, and at a script
    evil = '"><script>alert(1)<script>'
    parts = [
        {"type": "text", "text": f"[{evil}]\n{evil}"},
        {"type": "input_image", "image_url": "https://evil.example/x.png"},
        {"type": "input_image", "image_url": "data:image/svg+xml;base64,PHN2Zy8+"},
        {"type": "input_image", "image_url": f"data:image/png;base64,AAAA{evil}"},
        {"type": "input_file", "filename": evil, "file_data": "data:text/html;base64,PGI+"},
        {"type": "input_file", "filename": 7, "file_data": ["x"]},
        {"type": evil, "url": "javascript:alert(1)"},
    ]
    async with httpx.AsyncClient(base_url=site.url, timeout=PATIENCE_S) as client:
        answer = await client.post("/api/threads/kitchen/messages", json={"message": parts})
    assert answer.status_code == 202
    await expect(mia.locator(".message .file")).to_have_count(7)
    await expect(mia.locator(".message .file-name").first).to_have_text(evil)
    assert await mia.locator(".message img, .message a, .message script").count() == 0


async def test_a_protocol_without_files_says_so(
    person: Person, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.integrations.fastapi.page.takes_files", lambda _: False)
    queue.start_worker()
    with running(queue) as site:
        mia = await person("Mia", url=site.url)
        await choose(mia, upload("lamp.png", "image/png", png(40, 40)))
        await expect(mia.locator("#trouble")).to_have_text("This assistant takes no pictures.")
        await choose(mia, upload("n.txt", "text/plain", b"words"))
        await expect(mia.locator("#attached .file-name")).to_have_text(["n.txt"])
