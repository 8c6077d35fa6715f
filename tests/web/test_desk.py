"""The desk of `assistant-queue demo --web`, in a real browser over the real command."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, expect

from tests.conftest import PATIENCE_S
from tests.web.test_page_accessibility import faults
from tests.web.test_serve import command

pytestmark = [pytest.mark.asyncio(loop_scope="session")]


async def test_a_visitor_changes_what_happens_and_sees_it(browser: Browser) -> None:
    with command("demo", "--web", "--workers", "1") as (_, url):
        context = await browser.new_context(viewport={"width": 1400, "height": 860})
        context.set_default_timeout(PATIENCE_S * 1000)
        expect.set_options(timeout=PATIENCE_S * 1000)
        page = await context.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(f"{url}/demo")
        chat, thread = page.frame_locator("#chat"), page.frame_locator("#thread")
        await chat.get_by_label("Your name").fill("Mia")
        await chat.get_by_role("button", name="Join the room").click()
        field = chat.get_by_label("Message", exact=True)

        async def state() -> dict[str, Any]:
            found = await asyncio.to_thread(httpx.get, f"{url}/demo/state")
            return dict(found.json())

        async def say(text: str) -> None:
            await field.fill(text)
            await field.press("Enter")

        await page.get_by_role("slider").fill("0.5")
        await expect(page.locator("#said")).to_have_text("Messages wait 0.5 s for others.")
        await page.get_by_label("A message during an answer").select_option("interrupt")
        await expect(page.locator("#said")).to_contain_text("interrupts it")
        set_now = await state()
        assert (set_now["window_s"], set_now["mid_run"]) == (0.5, "interrupt")

        await say("refund #4711")
        await expect(thread.get_by_text("A tool call waits for an answer")).to_be_visible()
        await chat.get_by_role("button", name="Approve: Refund order 4711?").click()
        await expect(chat.get_by_text("is refunded", exact=True)).to_be_visible()
        await expect(chat.locator(".ask.settled")).to_contain_text("Approved by Mia")
        await expect(thread.get_by_text("completed").first).to_be_visible()

        await page.get_by_role("button", name="Slow").click()
        await say("tell me something")
        await expect(chat.get_by_role("button", name="Stop")).to_be_visible()
        before = (await state())["workers"]
        await page.get_by_role("button", name=f"process {before[0]}").click()
        await expect(page.locator("#said")).to_contain_text("was killed; another one starts")
        assert (await state())["workers"] != before
        await page.get_by_role("button", name="Stop it").click()
        await expect(page.locator("#said")).to_have_text("The answer is stopped.")
        await expect(thread.get_by_text("stopped").first).to_be_visible()
        assert await faults(page) == []
        assert errors == []
        await context.close()
        for headers in ({"host": "evil.example"}, {"content-type": "text/plain"}):
            refused = await asyncio.to_thread(
                httpx.post, f"{url}/demo/kill", content='{"pid": 1}', headers=headers
            )
            assert refused.status_code in {400, 415, 422}
