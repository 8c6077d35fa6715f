"""One's own messages on the chat page: times, edit, take back, try again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from tests.web.browser import Person, replies, say
from tests.web.conftest import Site, patient, running

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

LONG_S = 300.0
"""A window that ends when a test flushes it."""


@pytest.fixture
def held(queue: AssistantMessageQueue) -> Iterator[tuple[AssistantMessageQueue, Site]]:
    """Return a queue whose window stays open, and its service."""
    with patient(queue, LONG_S) as other:
        other.start_worker()
        with running(other) as site:
            yield other, site


async def test_a_waiting_message_is_edited_from_the_page(
    person: Person, held: tuple[AssistantMessageQueue, Site]
) -> None:
    queue, site = held
    mia, tom = await person("Mia", url=site.url), await person("Tom", url=site.url)
    await say(mia, "teh order", "is late")
    await mia.fill("#text", "a draft")
    await mia.get_by_role("button", name="Edit: teh order").click()
    await expect(mia.locator("#text")).to_have_value("teh order")
    await expect(mia.locator("#text")).to_be_focused()
    await expect(mia.locator("#editing")).to_be_visible()
    await mia.keyboard.press("Escape")
    await expect(mia.locator("#text")).to_have_value("a draft")
    await expect(mia.locator("#editing")).to_be_hidden()
    await mia.get_by_role("button", name="Edit: teh order").click()
    await mia.fill("#text", "the order")
    await mia.keyboard.press("Enter")
    await expect(mia.locator("#text")).to_have_value("a draft")
    for page in (mia, tom):
        await expect(page.locator(".message .bubble")).to_have_text(["the order", "is late"])
        await expect(page.locator(".message .note").first).to_contain_text("Edited")
    assert await tom.locator(".message .link").count() == 0, "only of one's own"
    await asyncio.to_thread(queue.flush, "kitchen")
    await expect(replies(mia, ".done")).to_contain_text("the order")
    await expect(mia.locator(".message .link")).to_have_count(0)


async def test_the_last_waiting_message_is_edited_with_the_arrow_key(
    person: Person, held: tuple[AssistantMessageQueue, Site]
) -> None:
    _, site = held
    mia = await person("Mia", url=site.url)
    await mia.keyboard.press("ArrowUp")
    await say(mia, "one", "two")
    await expect(mia.locator(".message.waiting")).to_have_count(2)
    await mia.keyboard.press("ArrowUp")
    await expect(mia.locator("#text")).to_have_value("two")
    await mia.keyboard.type(" and a half")
    await mia.keyboard.press("Enter")
    await expect(mia.locator(".message .bubble")).to_have_text(["one", "two and a half"])
    await expect(mia.locator("#text")).to_have_value("")


async def test_a_waiting_message_is_taken_back_from_the_page(
    person: Person, held: tuple[AssistantMessageQueue, Site]
) -> None:
    queue, site = held
    mia, tom = await person("Mia", url=site.url), await person("Tom", url=site.url)
    await say(mia, "oops", "the order is late")
    await mia.get_by_role("button", name="Take back: oops").click()
    for page in (mia, tom):
        await expect(page.locator(".message.cancelled .note")).to_contain_text("Taken back")
    await expect(mia.locator("#text")).to_be_focused()
    await asyncio.to_thread(queue.flush, "kitchen")
    await expect(replies(mia, ".done")).to_have_text("You said: Mia: the order is late")
    await expect(tom.get_by_role("button", name="Write again")).to_have_count(0)
    await mia.fill("#text", "a draft")
    await mia.get_by_role("button", name="Write again: oops").click()
    await expect(mia.locator("#text")).to_have_value("a draft\noops")


async def test_an_edit_that_comes_too_late_says_so_and_keeps_the_words(
    person: Person, held: tuple[AssistantMessageQueue, Site], provider: StandInProvider
) -> None:
    queue, site = held
    mia = await person("Mia", url=site.url)
    await say(mia, "the order")
    await mia.get_by_role("button", name="Edit: the order").click()
    await mia.fill("#text", "the other order")
    await asyncio.to_thread(queue.flush, "kitchen")
    await expect(mia.locator("#editing")).to_be_hidden()
    await expect(mia.locator("#trouble")).to_contain_text("Too late")
    await expect(mia.locator("#text")).to_have_value("the other order")
    await expect(replies(mia, ".done")).to_have_count(1)
    # The same where the page does not know it yet.
    await mia.fill("#text", "")
    await say(mia, "more")
    await mia.route(
        "**/messages/*",
        lambda route: (
            route.fulfill(json={"edited": False, "cancelled": False})
            if route.request.method in {"PATCH", "DELETE"}
            else route.continue_()
        ),
    )
    await mia.get_by_role("button", name="Edit: more").click()
    await mia.fill("#text", "much more")
    await mia.keyboard.press("Enter")
    await expect(mia.locator("#trouble")).to_contain_text("as a new message")
    await expect(mia.locator("#text")).to_have_value("much more")
    await mia.get_by_role("button", name="Take back: more").click()
    await expect(mia.locator("#trouble")).to_have_text("Too late to change that.")
    await expect(mia.locator(".message .bubble").last).to_have_text("more")


async def test_a_change_that_is_not_allowed_or_not_sent_is_reported(
    person: Person, held: tuple[AssistantMessageQueue, Site]
) -> None:
    _, site = held
    mia = await person("Mia", url=site.url)
    await say(mia, "the order")
    button = mia.get_by_role("button", name="Take back: the order")
    await expect(button).to_be_visible()
    await mia.route(
        "**/messages/*",
        lambda route: route.fulfill(status=403, json={"detail": "<b>You may not.</b>"}),
    )
    await button.click()
    await expect(mia.locator("#trouble")).to_have_text("That did not work. <b>You may not.</b>")
    await mia.unroute("**/messages/*")
    await mia.route("**/messages/*", lambda route: route.abort())
    await button.click()
    await expect(mia.locator("#trouble")).to_contain_text("no connection")
    await expect(mia.locator(".message.waiting")).to_have_count(1)


async def test_a_message_that_was_refused_is_sent_again_once(person: Person) -> None:
    mia = await person("Mia")
    await mia.route(
        "**/messages",
        lambda route: (
            route.fulfill(status=403, json={"detail": "Not now."})
            if route.request.method == "POST"
            else route.continue_()
        ),
    )
    await say(mia, "please")
    await expect(mia.locator(".message.refused .note")).to_contain_text("Not sent. Not now.")
    await mia.unroute("**/messages")
    await mia.get_by_role("button", name="Try again: please").click()
    await expect(replies(mia, ".done")).to_have_text("You said: Mia: please")
    await expect(mia.locator(".message")).to_have_count(1)


async def test_offline_an_unsent_message_can_be_taken_back(person: Person) -> None:
    mia = await person("Mia")
    await mia.context.set_offline(True)
    await expect(mia.locator("#connection-text")).to_have_text("Offline")
    await say(mia, "never mind")
    await mia.get_by_role("button", name="Take back: never mind").click()
    await expect(mia.locator(".message")).to_have_count(0)
    await mia.context.set_offline(False)
    await say(mia, "hello")
    await expect(replies(mia, ".done")).to_have_text("You said: Mia: hello")


async def test_an_answer_is_copied_as_the_model_wrote_it(
    person: Person, provider: StandInProvider
) -> None:
    answer = "**Yes**, in\n\n```\ncode\n```"
    provider.model = lambda _: answer
    mia = await person("Mia", permissions=["clipboard-read", "clipboard-write"])
    await say(mia, "Hi!")
    await mia.get_by_role("button", name="Copy the answer").click()
    await expect(mia.locator(".reply-foot")).to_have_text("Copied")
    assert await mia.evaluate("navigator.clipboard.readText()") == answer


async def test_messages_and_answers_have_their_times(
    person: Person, queue: AssistantMessageQueue
) -> None:
    mia = await person("Mia", locale="de-DE", timezone_id="Asia/Tokyo")
    await say(mia, "Hi!")
    await expect(replies(mia, ".done")).to_have_count(1)
    shown = mia.locator(".message time")
    found = queue.get_message(str(await mia.locator(".message").get_attribute("data-id")))
    assert found is not None
    assert found.queued_at is not None
    at = datetime.fromisoformat(str(await shown.get_attribute("datetime")))
    assert abs(at - found.queued_at) < timedelta(seconds=1)
    assert await shown.inner_text() == f"{at.astimezone(UTC) + timedelta(hours=9):%H:%M}"
    await expect(mia.locator(".reply .summary time")).to_have_count(1)
    await expect(mia.locator(".day")).to_have_count(0)
    await mia.clock.set_fixed_time(datetime.now(UTC) + timedelta(days=1))
    await mia.reload()
    await expect(mia.locator(".day")).to_have_text("Yesterday")


async def test_what_is_said_without_a_run_appears_at_once(
    person: Person, queue: AssistantMessageQueue
) -> None:
    mia = await person("Mia")
    await asyncio.to_thread(queue.say, "kitchen", "A person takes over.", author="Jo")
    await expect(replies(mia, ".done")).to_have_text("A person takes over.")
