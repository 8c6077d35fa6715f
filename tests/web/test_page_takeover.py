"""A person that answers, as the chat page shows it."""

from __future__ import annotations

import asyncio

import pytest
from playwright.async_api import expect

from assistant_queue import AssistantMessageQueue
from tests.web.browser import Person, replies, say

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


async def test_a_person_answers_with_a_name_on_every_screen(
    person: Person, queue: AssistantMessageQueue
) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await expect(mia.locator("#person")).to_be_hidden()
    await asyncio.to_thread(queue.take_over, "kitchen", "Jo")
    for page in (mia, tom):
        await expect(page.locator("#person")).to_have_text("Jo answers here now.")
    await say(mia, "Is there a human?")
    await expect(tom.locator("#window-text")).to_have_text("1 message for Jo")
    await tom.reload()
    await expect(tom.locator("#person")).to_have_text("Jo answers here now.")
    await asyncio.to_thread(queue.say, "kitchen", "There is.", author="Jo")
    for page in (mia, tom):
        await expect(replies(page, ".done")).to_have_text(["There is."])
        await expect(page.locator(".reply .author")).to_have_text(["Jo"])
        await expect(page.locator(".message.answered")).to_have_count(1)
    await asyncio.to_thread(queue.hand_back, "kitchen")
    for page in (mia, tom):
        await expect(page.locator("#person")).to_be_hidden()
