"""Messages of a running answer on the chat page: edited, taken back, and answered at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import CHAT_ACTIONS, Action
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Gate, Reply
from tests.web.browser import Person, replies, say
from tests.web.conftest import Site, patient, running
from tests.web.test_page_stop import ANSWER

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]


@pytest.fixture
def speaking(provider: StandInProvider) -> Iterator[Gate]:
    """An answer that is half said until the test continues; what is not slow repeats its texts."""
    provider.model = lambda turn: (
        Reply(ANSWER, chunks=20)
        if "slow" in turn.user_texts[-1]
        else "You said: " + " | ".join(turn.user_texts)
    )
    with provider.hold("speaking") as gate:
        yield gate


@pytest.fixture
def held(queue: AssistantMessageQueue) -> Iterator[tuple[AssistantMessageQueue, Site]]:
    """Return a queue whose window stays open, and its service."""
    with patient(queue, 300) as other:
        other.start_worker()
        with running(other) as site:
            yield other, site


@pytest_asyncio.fixture(loop_scope="session")
async def pages(
    person: Person, held: tuple[AssistantMessageQueue, Site], speaking: Gate
) -> AsyncIterator[tuple[Page, Page]]:
    """Return the pages of two people; the first has two messages that are being answered."""
    other, site = held
    del speaking
    mia, tom = await person("Mia", url=site.url), await person("Tom", url=site.url)
    await say(mia, "order 8", "slow, please")
    await expect(mia.locator(".message.waiting")).to_have_count(2)
    await expect(mia.get_by_role("button", name="Answer now")).to_have_count(0)
    await asyncio.to_thread(other.flush, "kitchen")
    for page in (mia, tom):
        await expect(replies(page, ".working")).to_contain_text("One two")
    yield mia, tom


async def test_a_message_that_is_being_answered_is_edited(
    pages: tuple[Page, Page], speaking: Gate
) -> None:
    mia, tom = pages
    await mia.get_by_role("button", name="Edit: slow").click()
    await expect(mia.locator("#editing")).to_contain_text("begin anew")
    await mia.fill("#text", "quick, please")
    await mia.keyboard.press("Enter")
    for page in (mia, tom):
        await expect(page.locator(".message .bubble")).to_have_text(["order 8", "quick, please"])
        await expect(page.locator(".message .note").last).to_contain_text("Edited")
        await expect(page.locator(".reply .summary")).to_contain_text("interrupted")
        assert "One two" not in await page.locator(".items").inner_text()
    await expect(mia.locator(".note")).not_to_contain_text(["Changing…"])
    assert await tom.locator(".message .link").count() == 0, "only of one's own"
    speaking.release()
    for page in (mia, tom):
        await expect(replies(page, ".done")).to_have_text(
            "You said: Mia: order 8 | Mia: quick, please"
        )
        await expect(page.locator(".message .link")).to_have_count(0)


async def test_the_arrow_key_edits_a_message_that_is_being_answered(
    pages: tuple[Page, Page],
) -> None:
    mia, _ = pages
    await mia.focus("#text")
    await mia.keyboard.press("ArrowUp")
    await expect(mia.locator("#text")).to_have_value("slow, please")
    await mia.keyboard.press("Escape")
    await expect(mia.locator("#editing")).to_be_hidden()


async def test_a_message_that_is_being_answered_is_taken_back(
    pages: tuple[Page, Page], speaking: Gate
) -> None:
    mia, tom = pages
    await mia.get_by_role("button", name="Take back: slow").click()
    for page in (mia, tom):
        await expect(page.locator(".message.cancelled .bubble")).to_have_text("slow, please")
        await expect(page.locator(".message.cancelled .note")).to_contain_text("Taken back")
        await expect(page.locator(".reply .summary")).to_contain_text("interrupted")
    speaking.release()
    for page in (mia, tom):
        await expect(replies(page, ".done")).to_have_text("You said: Mia: order 8")
        await expect(page.locator(".message.answered .bubble")).to_have_text(["order 8"])


async def test_an_answer_is_stopped_with_its_last_message(pages: tuple[Page, Page]) -> None:
    mia, tom = pages
    await mia.get_by_role("button", name="Take back: order 8").click()
    await expect(mia.locator(".message.cancelled")).to_have_count(1)
    await expect(mia.locator(".message.working")).to_have_count(1)
    await mia.get_by_role("button", name="Take back: slow").click()
    for page in (mia, tom):
        await expect(page.locator(".message.stopped .bubble")).to_have_text("slow, please")
        await expect(page.locator(".reply.stopped")).to_have_count(1)
        await expect(page.locator("#stop")).to_be_hidden()


async def test_a_change_is_pending_until_events_say_what_became_of_it(
    pages: tuple[Page, Page], speaking: Gate
) -> None:
    mia, _ = pages
    # The wish is stored, and the answer ends before it is obeyed.
    await mia.route(
        "**/messages/*?running=true",
        lambda route: route.fulfill(json={"edited": True, "cancelled": True}),
    )
    await mia.get_by_role("button", name="Edit: slow").click()
    await mia.fill("#text", "slower, please")
    async with mia.expect_response("**/messages/*?running=true"):
        await mia.keyboard.press("Enter")
    await mia.get_by_role("button", name="Take back: order 8").click()
    await expect(mia.locator(".message .note")).to_have_text(["Taking back…", "Changing…"])
    await expect(mia.locator(".message .bubble")).to_have_text(["order 8", "slow, please"])
    speaking.release()
    await expect(replies(mia, ".done")).to_have_text(ANSWER)
    notes = mia.locator(".message .note span")
    await expect(notes).to_have_text(
        ["Not taken back: the answer came first.", "Not changed: the answer came first."]
    )
    await mia.fill("#text", "a draft")
    await mia.get_by_role("button", name="Write again: slow").click()
    await expect(mia.locator("#text")).to_have_value("a draft\nslower, please")
    await expect(notes).to_have_count(1)


async def test_a_waiting_message_is_answered_at_once(
    pages: tuple[Page, Page], speaking: Gate
) -> None:
    mia, tom = pages
    await say(mia, "and also", "in euros")
    await expect(mia.locator(".message.waiting")).to_have_count(2)
    button = mia.get_by_role("button", name="Answer now")
    await expect(button).to_have_count(1)
    await expect(button).to_have_accessible_name("Answer now: in euros")
    await expect(tom.locator(".message.waiting")).to_have_count(2)
    await expect(tom.get_by_role("button", name="Answer now")).to_have_count(0)
    await button.click()
    for page in (mia, tom):
        await expect(page.locator(".reply .summary")).to_contain_text("4 messages, one answer")
        await expect(page.locator(".message.working")).to_have_count(4)
    await expect(mia.get_by_role("button", name="Answer now")).to_have_count(0)
    speaking.release()
    for page in (mia, tom):
        await expect(replies(page, ".done")).to_contain_text("Mia: and also | Mia: in euros")
        await expect(page.locator(".reply")).to_have_count(1)


async def test_a_message_that_cannot_interrupt_is_answered_next(
    person: Person, queue: AssistantMessageQueue, speaking: Gate
) -> None:
    options = {name: getattr(queue.config, name) for name in queue.config.model_fields_set}
    options["queue_prefix"] = f"{queue.config.queue_prefix}s"
    with queue.__class__(**{**options, "max_interrupts": 0}) as other:
        other.start_worker()
        with running(other) as site:
            mia = await person("Mia", url=site.url)
            await say(mia, "slow, please")
            await expect(replies(mia, ".working")).to_contain_text("One two")
            await say(mia, "in euros")
            await mia.get_by_role("button", name="Answer now").click()
            trouble = mia.locator("#trouble")
            await expect(trouble).to_contain_text("finished first. Your message is answered next.")
            await expect(mia.get_by_role("button", name="Answer now")).to_have_count(0)
            await expect(mia.get_by_role("button", name="Edit: in euros")).to_have_count(1)
            await mia.get_by_role("button", name="Edit: slow").click()
            await mia.fill("#text", "quick, please")
            await mia.keyboard.press("Enter")
            await expect(trouble).to_contain_text("Your message stays as it was.")
            note = mia.locator(".message.working .note")
            await expect(note).to_contain_text("Not changed: the answer could not be interrupted.")
            speaking.release()
            await expect(replies(mia, ".done")).to_have_count(2)


async def test_a_promotion_that_is_refused_or_late_is_reported(
    person: Person, queue: AssistantMessageQueue, speaking: Gate
) -> None:
    queue.start_worker()
    allowed = CHAT_ACTIONS - {Action.PROMOTE}
    with running(queue, authorize=lambda _, action, __: action in allowed) as site:
        mia = await person("Mia", url=site.url)
        await say(mia, "slow, please")
        await expect(replies(mia, ".working")).to_contain_text("One two")
        await say(mia, "in euros")
        button = mia.get_by_role("button", name="Answer now")
        await button.click()
        await expect(mia.locator("#trouble")).to_contain_text("That did not work.")
        await mia.route("**/promote", lambda route: route.fulfill(json={"promoted": False}))
        await button.click()
        await expect(mia.locator("#trouble")).to_contain_text("yours is next")
        await expect(button).to_have_count(1)
        speaking.release()
        await expect(replies(mia, ".done")).to_have_count(2)
