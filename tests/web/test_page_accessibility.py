"""The chat page for screen readers and keyboards: axe's rules in every state, both colours."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure
from tests.web.browser import Person, replies, say
from tests.web.conftest import patient, running
from tests.web.test_page_answers import ANSWER
from tests.web.test_page_stop import ANSWER as LONG_ANSWER
from tests.web.test_page_uploads import choose, png, upload

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

RULES = {
    "runOnly": {
        "type": "tag",
        "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    }
}
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


async def faults(page: Page) -> list[str]:
    """Return what axe finds, with the elements."""
    # Nothing is judged half faded in.
    await page.evaluate("Promise.all(document.getAnimations().map((one) => one.finished))")
    found = await Axe().run(page, options=RULES)
    return [
        f"{one['id']}: {node['target']} {node['failureSummary']}"
        for one in found.response["violations"]
        for node in one["nodes"]
    ]


async def faults_in_all_looks(page: Page) -> list[str]:
    """Return what axe finds on a phone and on a desktop, in both colours, with the look."""
    found: list[str] = []
    for width in (390, 1280):
        await page.set_viewport_size({"width": width, "height": 800})
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            found += [f"{width} {scheme} {fault}" for fault in await faults(page)]
    return found


async def test_every_state_keeps_the_rules(
    person: Person, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    options = {"reduced_motion": "reduce"}
    with patient(queue, 300) as other:
        other.start_worker()
        with running(other) as site:
            mia = await person(None, url=site.url, **options)
            assert await faults_in_all_looks(mia) == [], "the question for the name"
            await mia.fill("#nickname", "Mia")
            await mia.keyboard.press("Enter")
            await expect(mia.locator("#empty")).to_be_visible()
            assert await faults_in_all_looks(mia) == [], "an empty room"
            tom = await person("Tom", url=site.url, **options)

            provider.model = lambda _: ANSWER
            await choose(tom, upload("n.txt", "text/plain", b"x"))
            await say(tom, "Hello!")
            await choose(mia, upload("l.png", "image/png", png(40, 40)))
            await say(mia, "My lamp")
            await expect(mia.locator(".message.waiting")).to_have_count(2)
            await asyncio.to_thread(other.flush, "kitchen")
            await expect(replies(mia, ".done")).to_have_count(1)
            provider.model = lambda _: RunFailure()
            await say(mia, "and this?")
            await expect(mia.locator(".message.waiting")).to_have_count(1)
            await asyncio.to_thread(other.flush, "kitchen")
            await expect(mia.locator(".failure")).to_have_count(1)
            await say(mia, "one", "two")
            await mia.get_by_role("button", name="Take back: one").click()
            await expect(mia.locator(".message.cancelled")).to_have_count(1)
            await mia.get_by_role("button", name="Edit: two").click()
            await choose(mia, upload("x.exe", "", b"\0"))
            assert await faults_in_all_looks(mia) == [], "a conversation"
            await mia.locator(".picture").first.click()
            assert await faults_in_all_looks(mia) == [], "a picture in full"


async def test_stopped_and_interrupted_answers_keep_the_rules(
    person: Person, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    provider.model = lambda _: Reply(LONG_ANSWER, chunks=20)
    with patient(queue, 300) as other, provider.hold("speaking"):
        other.start_worker()
        with running(other) as site:
            mia = await person("Mia", url=site.url, reduced_motion="reduce")
            await say(mia, "where is my order?", "number 8", "oops")
            await expect(mia.locator(".message.waiting")).to_have_count(3)
            await asyncio.to_thread(other.flush, "kitchen")
            await expect(replies(mia, ".working")).to_contain_text("One two")
            await say(mia, "in euros")
            await expect(mia.get_by_role("button", name="Answer now")).to_have_count(1)
            await mia.get_by_role("button", name="Edit: number 8").click()
            assert await faults_in_all_looks(mia) == [], (
                "an answer under way, and an edit of its message"
            )
            await mia.fill("#text", "number 7")
            await mia.keyboard.press("Enter")
            await expect(mia.locator(".reply .summary")).to_contain_text("interrupted")
            await mia.get_by_role("button", name="Take back: oops").click()
            await expect(mia.locator(".message.cancelled")).to_have_count(1)
            await expect(replies(mia, ".working")).to_contain_text("One two")
            assert await faults_in_all_looks(mia) == [], "an interrupted answer"
            await mia.route(
                "**/messages/*?running=true",
                lambda route: route.fulfill(json={"edited": True, "cancelled": True}),
            )
            await mia.get_by_role("button", name="Take back: in euros").click()
            await expect(mia.get_by_text("Taking back…")).to_be_visible()
            assert await faults_in_all_looks(mia) == [], "a wish that is not fulfilled yet"
            await mia.get_by_role("button", name="Stop the answer").click()
            await expect(mia.locator(".reply.stopped .quietly")).to_have_text("Stopped here.")
            assert await faults_in_all_looks(mia) == [], "a stopped answer"
