"""Answers that are stopped, interrupted and steered, as the chat page shows them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import CHAT_ACTIONS, Action
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Gate, Reply, ToolCalls
from tests.conftest import PATIENCE_S
from tests.web.browser import Person, replies, say
from tests.web.conftest import running

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

ANSWER = "One two three four five six seven eight nine ten, and this is the end."


@pytest.fixture
def speaking(provider: StandInProvider) -> Iterator[Gate]:
    """An answer that is half said until the test continues."""
    provider.model = lambda turn: (
        Reply(ANSWER, chunks=20) if "slow" in turn.user_texts[-1] else "Quick."
    )
    with provider.hold("speaking") as gate:
        yield gate


async def test_a_running_answer_is_stopped_on_every_screen(person: Person, speaking: Gate) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await expect(mia.locator("#stop")).to_be_hidden()
    await say(mia, "slow, please")
    await expect(replies(mia, ".working")).to_contain_text("One two")
    await expect(tom.get_by_role("button", name="Stop the answer")).to_be_visible()
    await mia.get_by_role("button", name="Stop the answer").click()
    await expect(mia.locator("#text")).to_be_focused()
    for page in (mia, tom):
        await expect(page.locator(".reply.stopped .quietly")).to_have_text("Stopped here.")
        await expect(page.locator(".reply.stopped .text")).to_contain_text("One two")
        await expect(page.locator(".message.stopped .note")).to_contain_text("Stopped")
        await expect(page.locator("#stop")).to_be_hidden()
    speaking.release()
    await say(mia, "quick, please")
    await expect(replies(mia, ".done")).to_have_text("Quick.")
    assert "the end" not in await mia.locator(".reply.stopped .text").inner_text()


async def test_a_stop_that_is_not_allowed_is_reported(
    person: Person, speaking: Gate, queue: AssistantMessageQueue
) -> None:
    queue.start_worker()
    allowed = CHAT_ACTIONS - {Action.STOP}
    with running(queue, authorize=lambda _, action, __: action in allowed) as site:
        mia = await person("Mia", url=site.url)
        await say(mia, "slow, please")
        await expect(replies(mia, ".working")).to_contain_text("One two")
        await mia.get_by_role("button", name="Stop the answer").click()
        await expect(mia.locator("#trouble")).to_contain_text("It was not stopped.")
        await expect(mia.locator("#stop")).to_be_enabled()
        speaking.release()
        await expect(replies(mia, ".done")).to_have_text(ANSWER)


async def test_an_interrupted_answer_is_withdrawn_from_every_screen(
    person: Person, speaking: Gate, queue: AssistantMessageQueue
) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await say(mia, "slow, please")
    await expect(replies(tom, ".working")).to_contain_text("One two")
    await asyncio.to_thread(
        queue.add_message_to_thread, "kitchen", "quick!", author="Ann", mid_run="interrupt"
    )
    for page in (mia, tom):
        await expect(page.locator(".reply.working .summary")).to_contain_text("interrupted")
        assert "One two" not in await page.locator(".items").inner_text()
    speaking.release()
    for page in (mia, tom):
        await expect(replies(page, ".done")).to_have_text("Quick.")
        await expect(page.locator(".reply")).to_have_count(1)
        await expect(page.locator(".reply .summary")).to_contain_text("2 messages, one answer")
        await expect(page.locator(".message.answered .bubble")).to_have_text(
            ["slow, please", "quick!"]
        )


async def test_a_steered_message_belongs_to_the_answer_below_it(
    person: Person, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    looking = threading.Event()
    goes_on = threading.Event()

    provider.model = lambda turn: (
        Reply("Both: " + " | ".join(turn.user_texts))
        if turn.round
        else ToolCalls([("look", {})], text="Let me look.")
    )
    options = {name: getattr(queue.config, name) for name in queue.config.model_fields_set}
    options["queue_prefix"] = f"{queue.config.queue_prefix}s"
    with queue.__class__(**options) as other:

        @other.tool
        def look() -> str:
            """Look up the order."""
            looking.set()
            assert goes_on.wait(PATIENCE_S)
            return "4711"

        other.start_worker()
        with running(other) as site:
            mia = await person("Mia", url=site.url)
            await say(mia, "look it up")
            assert await asyncio.to_thread(looking.wait, PATIENCE_S)
            await asyncio.to_thread(
                other.add_message_to_thread, "kitchen", "in euros", author="Ann", mid_run="steer"
            )
            await expect(mia.locator(".message")).to_have_count(2)
            goes_on.set()
            await expect(replies(mia, ".done")).to_contain_text("in euros")
            await expect(mia.locator(".reply")).to_have_count(1)
            await expect(mia.locator(".message.answered")).to_have_count(2)
            await expect(mia.locator(".items > li").last).to_have_class("reply done")
