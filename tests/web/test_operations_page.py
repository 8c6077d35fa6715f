"""The operations page in a real Chromium: phone and desktop, light and dark, keyboard, two at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import Action, Caller
from assistant_queue.store.ops.operation_log import OperationRecord, begin
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Gate, Reply, RunFailure
from tests.conftest import PATIENCE_S
from tests.integration.conftest import wait_until
from tests.web.conftest import Site, running
from tests.web.prefixing import proxied
from tests.web.test_page_accessibility import faults

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

Operator = Callable[..., Awaitable[Page]]
RICH = {"", "threads", "threads/orders-1", "failed"}
HOSTILE = '<img src=x onerror="document.title=1">'


def by_cookie(request: Any, action: Action, thread_id: str | None) -> Caller | bool:
    """`reader` may look; everyone else with a name may change, too."""
    name = request.cookies.get("name", "")
    if action not in {Action.OPERATE_READ, Action.OPERATE_CHANGE} or not name:
        return False
    return (action is Action.OPERATE_READ or name != "reader") and Caller(id=name, name=name)


@pytest.fixture
def operated(queue: AssistantMessageQueue) -> Iterator[Site]:
    queue.start_worker()
    with running(queue, authorize=by_cookie) as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def operator(operated: Site, browser: Browser) -> AsyncIterator[Operator]:
    """Open the page as an operator, in a browser context without others."""
    async with AsyncExitStack() as stack:
        complaints: list[str] = []

        async def open_page(name: str = "Ann", view: str = "", **options: Any) -> Page:
            context = await browser.new_context(**options)
            stack.push_async_callback(context.close)
            if name:
                await context.add_cookies([{"name": "name", "value": name, "url": operated.url}])
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda said: (
                    complaints.append(said.text) if "Content Security Policy" in said.text else None
                ),
            )
            page.on(
                "request",
                lambda request: (
                    None
                    if request.url.startswith(operated.url)
                    else complaints.append(f"asked {request.url}")
                ),
            )
            await page.goto(f"{operated.url}/ops#/{view}")
            await expect(page.locator("html")).to_have_attribute("data-loaded", "yes")
            return page

        yield open_page
        assert complaints == []


async def fail(queue: AssistantMessageQueue, provider: StandInProvider, *names: str) -> None:
    """Put one batch of each thread into the failed list."""
    provider.model = lambda _: RunFailure()
    for name in names:
        queue.add_message_to_thread(name, f"Hello from {name}", author="Mia", message_delay=0)
    await asyncio.to_thread(
        wait_until, lambda: queue.get_queue_status().failed_count == len(names), "all failed"
    )
    provider.model = lambda _: "Here you are."


@contextmanager
def answering(provider: StandInProvider) -> Iterator[Gate]:
    """An answer that is under way until the gate is released."""
    provider.model = lambda _: Reply("One two three four", chunks=4)
    with provider.hold("speaking") as gate:
        yield gate


async def test_every_view_keeps_the_rules_on_phones_and_desktops_light_and_dark(
    operator: Operator, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    await asyncio.to_thread(queue.ask, "orders-1", "Where is my sofa?", timeout=PATIENCE_S)
    await fail(queue, provider, "orders-2", HOSTILE)
    queue.pause("orders-3")
    queue.add_message_to_thread("orders-4", HOSTILE, author="<b>Mia</b>", message_delay=600)
    queue.add_message_to_thread("orders-3", "I wait", message_delay=600)
    views = {
        "": ".tiles",
        "threads": ".list",
        "threads/orders-1": ".picture",
        "threads/orders-2": ".error",
        "threads/orders-4": ".message",
        "threads?state=active": ".empty",
        "failed": ".cards",
        "parked": ".empty",
        "workers": ".list",
        "search?q=orders": ".hits",
        "search?q=nothing%20like%20it": ".empty",
        "record": ".heading",
        "nowhere": ".empty",
    }
    for width, scheme in ((390, "dark"), (1280, "light"), (390, "light"), (1280, "dark")):
        page = await operator(
            viewport={"width": width, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
        )
        for view, shown in views.items():
            await page.goto(f"{page.url.partition('#')[0]}#/{view}")
            await expect(page.locator(f"#view {shown}").first).to_be_visible()
            # All views once, and those with most colours in the dark, too.
            if (width, scheme) == (1280, "light") or (view in RICH and scheme == "dark"):
                assert await faults(page) == [], (width, scheme, view)
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, (view, "nothing is wider than the screen")
        assert await page.title() != "1"
        await page.context.close()


async def test_two_operators_see_each_others_changes(
    operator: Operator, queue: AssistantMessageQueue
) -> None:
    queue.add_message_to_thread("kitchen", "Hello!", message_delay=600)
    ann, tom = await operator("Ann", "threads/kitchen"), await operator("Tom", "threads/kitchen")
    await ann.get_by_role("button", name="Pause", exact=True).click()
    for page in (ann, tom):
        await expect(page.get_by_role("button", name="Resume")).to_be_visible()
        await expect(page.locator(".records")).to_contain_text("Ann paused this thread")
    await tom.get_by_role("button", name="Resume").click()
    for page in (ann, tom):
        await expect(page.locator(".records li").first).to_contain_text("Tom resumed this thread")
    assert not queue.get_thread_status("kitchen").paused
    await ann.get_by_role("button", name="Take over").click()
    await ann.locator("#ask-yes").click()
    await expect(tom.locator(".badges")).to_contain_text("answered by Ann")
    await tom.get_by_role("button", name="Take over from Ann").click()
    await tom.locator("#ask-yes").click()
    await expect(ann.locator(".badges")).to_contain_text("answered by Tom")
    await tom.get_by_role("button", name="Hand back").click()
    await expect(ann.locator(".records li").first).to_contain_text("Tom handed back this thread")
    await ann.get_by_role("button", name="Say").click()
    await ann.get_by_label("Text, delivered as the assistant's").fill("A colleague writes soon.")
    await ann.get_by_role("button", name="Say it").click()
    await expect(tom.locator(".records li").first).to_contain_text("Ann said something in")
    await ann.locator(".message:has-text('Hello!')").get_by_role("button").click()
    await ann.locator("#ask-yes").click()
    await expect(tom.locator(".message:has-text('Hello!')")).to_have_count(0)
    await tom.goto(f"{tom.url.partition('#')[0]}#/")
    await ann.goto(f"{ann.url.partition('#')[0]}#/")
    await ann.get_by_role("button", name="Pause the queue").click()
    await ann.keyboard.press("Escape")
    assert not queue.get_queue_status().paused, "a dialog that is closed changes nothing"
    await ann.get_by_role("button", name="Pause the queue").click()
    await ann.locator("#ask-yes").click()
    await expect(tom.locator(".needs")).to_contain_text("The queue is paused")
    await expect(tom.locator("#state")).to_have_text("Paused")


async def test_a_reader_sees_everything_and_has_no_buttons(
    operator: Operator, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    await fail(queue, provider, "kitchen")
    queue.pause("kitchen")
    reader = await operator("reader")
    await expect(reader.locator("#me")).to_contain_text("may only read")
    for view, shown in (("", ".tiles"), ("failed", ".card"), ("threads/kitchen", ".why")):
        await reader.goto(f"{reader.url.partition('#')[0]}#/{view}")
        await expect(reader.locator(f"#view {shown}").first).to_be_visible()
        await expect(reader.locator("[data-do], [data-choose]")).to_have_count(0)
    refused = await reader.evaluate(
        """() => fetch("api/ops/operations", {method: "POST", headers: {"content-type": "application/json"},
             body: JSON.stringify({operation: "resume", thread_id: "kitchen"})}).then((answer) => answer.status)"""
    )
    assert refused == 403
    assert queue.get_thread_status("kitchen").paused
    stranger = await operator("")
    await expect(stranger.locator(".empty-title")).to_have_text("This is not for you")


async def test_many_failed_batches_are_retried_after_a_question_with_their_number(
    operator: Operator, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    await fail(queue, provider, "a", "b", "c", "d")
    page = await operator(view="failed")
    await expect(page.locator(".card")).to_have_count(4)
    await page.get_by_label("Choose the batch of b").check()
    await page.get_by_label("Choose the batch of c").check()
    await page.get_by_role("button", name="Retry 2").click()
    await expect(page.locator("#ask-title")).to_have_text("Retry 2 batches?")
    await page.get_by_role("button", name="Cancel").click()
    assert queue.get_queue_status().failed_count == 4
    await page.get_by_role("button", name="Retry 2").click()
    await page.locator("#ask-yes").click()
    await expect(page.locator("#said")).to_contain_text("2 batches")
    await expect(page.locator(".card")).to_have_count(2)
    await page.get_by_role("button", name="Discard all").click()
    await expect(page.locator("#ask-title")).to_have_text("Discard 2 batches?")
    await page.locator("#ask-yes").click()
    await expect(page.locator(".empty-title")).to_have_text("Nothing is failed here")
    await page.goto(f"{page.url.partition('#')[0]}#/record")
    await expect(page.locator(".records li").first).to_contain_text("discarded 2 failed batches")
    # One whose process died, and one that is recorded without the thread that it was about.
    begun = OperationRecord(
        at=datetime.now(UTC) - timedelta(hours=1), by="cli:ann@desk", operation="stop", ended=False
    )
    forgot = OperationRecord(at=datetime.now(UTC), by="Tom", operation="forget_thread")
    for record in (replace(begun, thread_id="e", done=False), forgot):
        queue.core.store.run(begin(queue.core.namespace, record))
    await expect(page.locator(".records li").first).to_contain_text("Tom forgot a thread")
    await expect(page.locator(".records li").nth(1)).to_contain_text(
        "cli:ann@desk stopped the answer of e: it is not known how it ended"
    )
    await asyncio.to_thread(
        wait_until, lambda: queue.get_queue_status().completed_count == 2, "two were answered"
    )


async def test_the_page_is_used_with_the_keyboard(
    operator: Operator, queue: AssistantMessageQueue
) -> None:
    for name in ("alpha", "beta", "gamma"):
        queue.add_message_to_thread(name, f"I am {name}", message_delay=600)
    page = await operator(view="threads")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#view")).to_be_focused()
    focused = page.locator("a.row-link:focus")
    for key, name in (
        ("j", "alpha"),
        ("j", "beta"),
        ("ArrowDown", "gamma"),
        ("j", "gamma"),
        ("k", "beta"),
    ):
        await page.keyboard.press(key)
        await expect(focused).to_have_text(name)
    # What is drawn anew keeps the focus.
    async with page.expect_response(re.compile("/api/ops/threads")):
        pass
    await expect(focused).to_have_text("beta")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("beta")
    await page.keyboard.press("Escape")
    await expect(page.locator("h1")).to_have_text("Threads")
    await page.keyboard.press("/")
    await expect(page.locator("#needle")).to_be_focused()
    await page.keyboard.type("i am gam")
    await expect(page.locator(".hit")).to_have_count(1)
    await expect(page.locator(".excerpt mark")).to_have_text("I am gam")
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("gamma")


async def test_a_link_leads_to_the_same_view(
    operator: Operator, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    await fail(queue, provider, "a thread?&#/ü".replace("/", ""))
    page = await operator(view="failed?reason=attempts")
    await page.locator(".card a.row-link").click()
    await expect(page.locator("h1")).to_have_text("a thread?&#ü")
    other = await operator("Tom")
    await other.goto(page.url)
    await expect(other.locator("h1")).to_have_text("a thread?&#ü")
    await page.go_back()
    await expect(page.locator(".chip[aria-current]")).to_contain_text("attempts")
    await page.reload()
    await expect(page.locator(".chip[aria-current]")).to_contain_text("attempts")


async def test_a_running_answer_is_seen_and_stopped(
    operator: Operator, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    page = await operator(view="threads/kitchen")
    await expect(page.locator(".why-title")).to_be_visible()
    with answering(provider):
        queue.add_message_to_thread("kitchen", "Count!", message_delay=0)
        await expect(page.locator("#now-title + .card .picture")).to_be_visible()
        await page.get_by_role("button", name="Stop the answer").click()
        await page.locator("#ask-yes").click()
        await expect(page.locator(".card .badge").first).to_have_text("stopped")
    await expect(page.get_by_role("button", name="Stop the answer")).to_be_disabled()


async def test_a_chart_says_its_values_where_the_pointer_is(
    operator: Operator, queue: AssistantMessageQueue
) -> None:
    page = await operator()
    await asyncio.to_thread(queue.ask, "kitchen", "Hello!", timeout=PATIENCE_S)
    await page.reload()
    chart = page.locator("[data-chart=rates] .plot")
    await expect(chart.locator("svg")).to_have_attribute("aria-label", re.compile("answered"))
    await chart.hover()
    await expect(chart.locator(".readout")).to_contain_text("answered")
    await page.locator("h1").hover()
    await expect(page.locator(".readout")).to_have_count(0)


async def test_the_page_is_served_below_a_path_of_a_proxy(
    browser: Browser, queue: AssistantMessageQueue
) -> None:
    for strips in (True, False):
        with (
            running(queue, root_path="/chat") as site,
            proxied({"/chat": site.port}, strips=strips) as proxy,
        ):
            page = await browser.new_page()
            for path in ("ops", "ops/"):
                await page.goto(f"{proxy.url}/chat/{path}#/threads")
                await expect(page.locator("h1")).to_have_text("Threads")
                await expect(page.locator("#state")).to_have_text("Live")
            await page.close()
            assert proxy.strayed == []


async def test_a_service_that_is_away_is_said_and_met_again(operator: Operator) -> None:
    page = await operator()
    await page.route("**/api/ops/**", lambda route: route.abort())
    await expect(page.locator("#state")).to_have_text("No answer")
    await expect(page.locator(".tiles")).to_be_visible()
    await page.unroute("**/api/ops/**")
    await expect(page.locator("#state")).to_have_text("Live")
