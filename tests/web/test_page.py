"""The chat page in a real Chromium: as people use it, and as the world treats it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Gate, Reply, RunFailure, ToolCalls
from tests.conftest import PATIENCE_S, RedisServer
from tests.docs.generated import ROOT
from tests.web.browser import Person, items, replies, say, until_true
from tests.web.conftest import Site, patient, queue_options, running
from tests.web.prefixing import proxied

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
]  # the first one may have to install a browser

ANSWER = (
    "This is one answer to all of you: it comes in pieces, and it ends with the word 🙈 finished."
)


@pytest.fixture
def speaking(provider: StandInProvider) -> Iterator[Gate]:
    """An answer in pieces, the last of which waits until the test has seen the others."""
    provider.model = lambda _: Reply(ANSWER, chunks=30, delay=0.5)
    with provider.hold("speaking") as gate:
        yield gate


async def test_a_burst_of_two_people_is_one_streamed_answer_on_both_screens(
    person: Person, speaking: Gate, queue: AssistantMessageQueue
) -> None:
    with running(patient(queue)) as site:
        mia, tom = await person("Mia", url=site.url), await person("Tom", url=site.url)
        await expect(mia.locator("#people li")).to_have_count(2)
        await say(mia, "Hi!", "I want to bake a cake")
        await say(tom, "and we have no eggs")
        for page in (mia, tom):
            await expect(replies(page, ".working")).to_contain_text("one answer")
            assert "finished" not in await replies(page).inner_text(), "it is seen while it is said"
        speaking.release()
        for page in (mia, tom):
            await expect(replies(page, ".done")).to_have_text(ANSWER)
            await expect(page.locator(".reply")).to_have_count(1)
            await expect(page.locator(".reply .summary")).to_contain_text("3 messages, one answer")
            assert sorted((await items(page))[:3]) == [
                "Hi!",
                "I want to bake a cake",
                "and we have no eggs",
            ]
        assert await items(mia) == await items(tom)
        await expect(tom.locator(".message.theirs .author").first).to_have_text("Mia")


async def test_a_reload_in_the_middle_shows_the_whole_answer_once(
    person: Person, speaking: Gate
) -> None:
    mia = await person("Mia")
    await say(mia, "Hi!")
    await expect(replies(mia, ".working")).to_contain_text("one answer")
    await mia.reload()
    await expect(replies(mia, ".working")).to_contain_text("one answer")
    speaking.release()
    await expect(replies(mia, ".done")).to_have_text(ANSWER)
    assert await items(mia) == ["Hi!", ANSWER]


async def test_offline_what_is_written_waits_and_what_happened_is_not_missed(
    person: Person, speaking: Gate
) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await say(mia, "one")
    await expect(replies(tom, ".working")).to_contain_text("This is")
    await tom.context.set_offline(True)
    await expect(tom.locator("#connection-text")).to_have_text("Offline")
    await say(tom, "written in a tunnel")
    await expect(tom.locator(".message.sending .bubble")).to_have_text("written in a tunnel")
    speaking.release()
    await expect(replies(mia, ".done")).to_have_count(1)
    await say(mia, "two")
    await expect(replies(mia, ".done")).to_have_count(2)
    await tom.context.set_offline(False)
    for page in (mia, tom):
        await expect(replies(page, ".done")).to_have_count(3)
        assert await items(page) == ["one", ANSWER, "two", ANSWER, "written in a tunnel", ANSWER]


async def test_what_was_written_before_a_reload_without_a_connection_is_sent_afterwards(
    person: Person,
) -> None:
    mia = await person("Mia")
    await mia.route(
        "**/messages",
        lambda route: route.abort() if route.request.method == "POST" else route.continue_(),
    )
    await say(mia, "not lost")
    await expect(mia.locator(".message.sending")).to_have_count(1)
    await mia.unroute("**/messages")
    await mia.reload()
    await expect(replies(mia, ".done")).to_have_text("You said: Mia: not lost")
    assert (await items(mia))[0] == "not lost"


async def test_markup_is_text_wherever_it_stands(person: Person, provider: StandInProvider) -> None:
    evil = (
        '<img src=x onerror="alert(1)"><script>alert(2)</script><a href="javascript:alert(3)">x</a>'
    )
    provider.model = lambda _: f"**{evil}**\n\n```html\n{evil}\n```\n\n- {evil}\n- `{evil}`"
    mia, tom = (
        await person('<b onmouseover="alert(4)">Mia</b>', room="%3Cimg src=x onerror=alert(5)%3E"),
        await person("Tom"),
    )
    await say(mia, evil)
    await expect(replies(mia, ".done")).to_have_count(1)
    assert await mia.locator(".message .bubble").inner_text() == evil
    assert (await replies(mia).inner_text()).count(evil) == 4
    for page in (mia, tom):
        assert (
            await page.locator(".items img, .items script, .items a, header b, header img").count()
            == 0
        )


async def test_code_that_continues_beyond_its_block_shows_that_it_does(
    person: Person, provider: StandInProvider
) -> None:
    provider.model = lambda _: "Long:\n```\n" + "wide = " * 200 + "\n```\nShort:\n```\nnarrow\n```"
    mia = await person("Mia", viewport={"width": 1200, "height": 800})
    await say(mia, "Show me code")
    await expect(replies(mia, ".done")).to_have_count(1)
    wide = mia.locator(".reply pre").first
    narrow = mia.locator(".reply pre").last

    async def edges(block: Any) -> tuple[bool, bool]:
        """Return whether the left and right edges differ in colour from the padding."""
        png = await block.screenshot()
        return await mia.evaluate(
            """async (png) => {
              const image = await createImageBitmap(new Blob([Uint8Array.from(png)], { type: "image/png" }));
              const canvas = new OffscreenCanvas(image.width, image.height);
              const pen = canvas.getContext("2d");
              pen.drawImage(image, 0, 0);
              const at = (x) => [...pen.getImageData(x, 9, 1, 1).data].join();
              const middle = at(image.width / 2);
              return [at(5) !== middle, at(image.width - 6) !== middle];
            }""",
            list(png),
        )

    assert await edges(narrow) == [False, False]
    assert await edges(wide) == [False, True]
    await wide.evaluate("(block) => { block.scrollLeft = 200; }")
    assert await edges(wide) == [True, True]
    await wide.evaluate("(block) => { block.scrollLeft = block.scrollWidth; }")
    assert await edges(wide) == [True, False]


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("نی\u200cکو", "نی\u200cکو"),
        ("👩\u200d👧 Fam", "👩\u200d👧 Fam"),
        ("\u200fمريم\u202e", "مريم"),
        (" Mia\u00a0 \u200b Sue\x01 ", "Mia Sue"),
    ],
    ids=["joined", "emoji", "marked", "blanks"],
)
async def test_a_name_in_any_language_is_shown(person: Person, typed: str, name: str) -> None:
    page = await person(typed)
    await say(page, "Hi!")
    await expect(replies(page, ".done")).to_have_text(f"You said: {name}: Hi!")
    await expect(page.locator("#people li .unseen")).to_have_text(name)


async def test_what_is_written_from_right_to_left_stands_so(person: Person) -> None:
    page = await person("Mia")
    await say(page, "שלום!", "Hello!")
    seen = page.locator(".message .bubble")
    await expect(seen).to_have_count(2)
    # Where the exclamation mark is drawn: on the left of the one, on the right of the other.
    where = """(bubble) => {
      const range = document.createRange();
      const [text] = bubble.childNodes;
      range.setStart(text, text.length - 1);
      range.setEnd(text, text.length);
      const mark = range.getBoundingClientRect();
      range.selectNodeContents(bubble);
      const whole = range.getBoundingClientRect();
      return mark.left - whole.left < whole.right - mark.right ? "left" : "right";
    }"""
    sides = f"[...document.querySelectorAll('.message .bubble')].map({where}).join()"
    await until_true(page, f"() => {sides} === 'left,right'")


async def test_an_address_that_was_cut_is_a_room_all_the_same(person: Person) -> None:
    page = await person("Mia", room="caf%C3")
    await expect(page.locator("#room")).to_have_text("caf%C3")


async def test_everything_can_be_done_by_keyboard(person: Person) -> None:
    page = await person(None)
    await expect(page.locator("#nickname")).to_be_focused()
    for _ in range(3):
        await page.keyboard.press("Escape")
    await expect(page.locator("#naming")).to_be_visible()
    await page.keyboard.type("   ")
    await page.keyboard.press("Enter")
    await expect(page.locator("#nickname")).to_be_focused()
    await page.keyboard.type("Mia")
    await page.keyboard.press("Enter")
    await expect(page.locator("#text")).to_be_focused()
    await page.keyboard.type("first line")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("second line")
    await page.keyboard.press("Enter")
    await expect(page.locator(".message .bubble")).to_have_text("first line\nsecond line")
    await page.keyboard.press("Shift+Tab")
    await expect(page.locator("#attach")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await expect(page.locator("#me")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.type("Amelia")
    await page.keyboard.press("Enter")
    await expect(page.locator("#people")).to_contain_text("Amelia")
    await expect(replies(page, ".done")).to_have_count(1)
    for _ in range(3):
        await page.keyboard.press("Shift+Tab")
    await expect(page.get_by_role("button", name="Copy the answer")).to_be_focused()
    await page.keyboard.press("Shift+Tab")
    await expect(page.locator("#scroll")).to_be_focused()
    await page.evaluate("document.activeElement.blur()")
    reached = []
    for _ in range(4):  # the button behind the field sleeps while there is nothing to send
        await page.keyboard.press("Tab")
        reached.append(
            await page.evaluate("document.activeElement.id || document.activeElement.className")
        )
        # The field shows its focus by the frame around it.
        outline = await page.evaluate(
            "(document.activeElement.id === 'text' ? 'frame' : getComputedStyle(document.activeElement).outlineStyle)"
        )
        assert outline != "none", reached
    assert reached == ["copy", "me", "attach", "text"]


async def test_listeners_get_messages_and_whole_answers_once(
    person: Person, speaking: Gate
) -> None:
    mia, tom = await person("Mia"), await person("Tom")
    await say(tom, "Hi!")
    await expect(replies(mia, ".working")).to_contain_text("one answer")
    await expect(mia.locator("#said p")).to_have_text(["Tom: Hi!"])
    speaking.release()
    await expect(replies(mia, ".done")).to_have_count(1)
    await expect(mia.locator("#said p")).to_have_text(
        ["Tom: Hi!", f"Assistant: {ANSWER}".replace("Assistant", "Robin")]
    )
    assert await mia.locator("#said").get_attribute("aria-live") == "polite"
    assert await mia.locator(".reply .body").get_attribute("aria-busy") == "false"


async def test_a_tool_call_and_a_failure_are_shown_as_such(
    person: Person, provider: StandInProvider, queue: AssistantMessageQueue
) -> None:
    provider.model = lambda turn: (
        "It is on its way."
        if turn.tool_outputs
        else ToolCalls([("order_status", {"order": "4711"})])
    )
    mia = await person("Mia")
    await say(mia, "Where is my order?")
    await expect(mia.locator(".tool.done")).to_have_text("Usedorder_status")
    await expect(replies(mia, ".done")).to_have_text("It is on its way.")

    provider.model = lambda _: RunFailure(message="org-SECRET at 10.0.0.1")
    await say(mia, "and now?")
    await expect(mia.locator(".failure")).to_contain_text("could not answer")
    await expect(mia.locator(".message.failed .note")).to_contain_text("Not answered")
    assert "SECRET" not in await mia.content()
    provider.model = lambda _: "Now it works."
    await mia.get_by_role("button", name="Try again").click()
    await expect(replies(mia, ".done").last).to_have_text("Now it works.")
    await expect(mia.locator(".failure")).to_have_count(0)


async def test_where_there_is_no_answer_people_read_the_fallback(
    person: Person, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    options = {name: getattr(queue.config, name) for name in queue.config.model_fields_set}
    provider.model = lambda _: RunFailure()
    with AssistantMessageQueue(
        **{
            **options,
            "queue_prefix": queue.config.queue_prefix + "f",
            "fallback_reply": "We are <b>closed</b>.",
        }
    ) as other:
        other.start_worker()
        with running(other) as site:
            mia = await person("Mia", url=site.url)
            await say(mia, "Hi!")
            await expect(mia.locator(".reply .fallback")).to_have_text("We are <b>closed</b>.")
            await expect(mia.locator(".failure")).to_have_count(1)


async def test_the_page_shows_the_window_filling_and_typing(
    person: Person, queue: AssistantMessageQueue
) -> None:
    with running(patient(queue)) as site:
        mia, tom = await person("Mia", url=site.url), await person("Tom", url=site.url)
        await tom.locator("#text").press_sequentially("hm")
        await expect(mia.locator("#typing")).to_have_text("Tom is typing")
        await say(mia, "one", "two")
        await expect(tom.locator("#window-text")).to_contain_text("2 messages, one answer in")
        await expect(mia.locator("#window")).to_be_hidden()
        await expect(replies(tom, ".done")).to_have_count(1)


async def test_writing_too_fast_is_reported_and_nothing_is_lost(
    person: Person, queue: AssistantMessageQueue
) -> None:
    with running(queue, rate_limit="1/2second") as site:
        mia = await person("Mia", url=site.url)
        await say(mia, "one", "two")
        await expect(mia.locator("#trouble")).to_contain_text("faster")
        await expect(mia.locator(".message.refused")).to_contain_text("Too fast")
        await expect(mia.locator(".message.answered")).to_have_count(2)
        await expect(mia.locator("#trouble")).to_be_hidden()


async def test_what_was_said_long_ago_comes_from_the_provider(
    person: Person, queue: AssistantMessageQueue
) -> None:
    for number in range(30):
        await asyncio.to_thread(
            queue.ask, "kitchen", f"message {number}", author="Ann", timeout=PATIENCE_S
        )
    await asyncio.to_thread(
        queue._store.client.delete, queue._commands.namespace.keys.events("kitchen")
    )
    mia = await person("Mia")
    await expect(mia.locator(".items .bubble").first).to_have_text("message 10")
    await expect(mia.locator(".message .author").first).to_have_text("Ann")
    await mia.get_by_role("button", name="Show earlier messages").click()
    await expect(mia.locator(".items .bubble").first).to_have_text("message 0")
    await say(mia, "and now")
    await expect(replies(mia, ".done").last).to_have_text("You said: Mia: and now")
    await mia.reload()
    await expect(mia.locator(".items .bubble").last).to_have_text("and now")
    await expect(mia.locator(".items .bubble").filter(has_text="and now")).to_have_count(1)


async def test_a_page_whose_events_are_gone_reads_everything_anew(
    person: Person, speaking: Gate, queue: AssistantMessageQueue
) -> None:
    mia = await person("Mia")
    await say(mia, "Hi!")
    await expect(replies(mia, ".working")).to_contain_text("This is")
    await mia.context.set_offline(True)
    speaking.release()
    await asyncio.to_thread(
        queue.wait_for_reply, await mia.locator(".message").get_attribute("data-id"), 20
    )
    await asyncio.to_thread(
        queue._store.client.delete, queue._commands.namespace.keys.events("kitchen")
    )
    await asyncio.to_thread(queue.open_events, "kitchen")
    await mia.context.set_offline(False)
    await expect(mia.locator(".gap")).to_have_count(1)
    await expect(mia.locator(".reply .text")).to_have_text(ANSWER)
    assert await items(mia) == ["Hi!", ANSWER]


@pytest.mark.parametrize("width", [320, 390, 1280])
async def test_it_fits_every_screen_and_can_be_read(
    person: Person, provider: StandInProvider, width: int
) -> None:
    provider.model = lambda _: (
        "`"
        + "x" * 300
        + "`\n\n```\n"
        + "y" * 300
        + "\n```\n\n"
        + "https://example.com/"
        + "z" * 200
    )
    mia = await person(
        "Mia",
        room="a-room-with-a-very-long-name-that-nobody-would-choose",
        viewport={"width": width, "height": 700},
    )
    await say(mia, "w" * 400)
    await expect(replies(mia, ".done")).to_have_count(1)
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        await mia.emulate_media(color_scheme=scheme)
        assert await mia.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert await mia.evaluate(
            "document.getElementById('scroll').scrollWidth <= document.getElementById('scroll').clientWidth"
        )
        for selector, least in (
            (".bubble", 7),
            (".reply .text", 7),
            (".reply .author", 7),
            ("#connection-text", 4.5),
            (".send", 0),
        ):
            assert await contrast(mia, selector) >= least, (selector, scheme)
        small = await mia.evaluate(
            "[...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 24).map((b) => b.id)"
        )
        assert small == []


async def test_a_long_text_has_the_whole_row_on_a_phone_and_the_end_stays_in_sight(
    person: Person, provider: StandInProvider
) -> None:
    provider.model = lambda _: "A line.\n\n" * 40
    mia = await person("Mia", viewport={"width": 320, "height": 568})
    await say(mia, "Hi!")
    await expect(replies(mia, ".done")).to_have_count(1)
    at_the_end = """() => {
      const { scrollHeight, scrollTop, clientHeight } = document.getElementById("scroll");
      return scrollHeight - scrollTop - clientHeight < 2;
    }"""
    width = "document.getElementById('text').offsetWidth"
    await until_true(mia, at_the_end)
    narrow = await mia.evaluate(width)
    await mia.evaluate(
        """() => new Promise((done) => {
          document.getElementById("scroll").scrollBy(0, -60);
          requestAnimationFrame(() => requestAnimationFrame(done));
        })"""
    )
    # An answer that is written scrolls; the field may grow before that event is handled.
    await mia.evaluate(
        """() => {
          const field = document.getElementById("text");
          document.getElementById("scroll").scrollBy(0, 40);
          field.value = "a text that is long enough for several lines of a phone ".repeat(4);
          field.dispatchEvent(new Event("input"));
        }"""
    )
    await until_true(mia, at_the_end)
    assert await mia.evaluate(width) > narrow + 60
    await mia.fill("#text", "")
    assert await mia.evaluate(width) == narrow
    await mia.mouse.move(160, 200)
    await mia.mouse.wheel(0, -600)
    await until_true(mia, f"() => !({at_the_end})()")
    await say(mia, "more")
    await expect(replies(mia, ".done")).to_have_count(2)
    await until_true(mia, at_the_end)


async def contrast(page: Page, selector: str) -> float:
    """Of a text with what is behind it, as WCAG counts."""
    return await page.evaluate(
        """(selector) => {
        const element = document.querySelector(selector);
        const rgb = (color) => color.match(/[\\d.]+/g).map(Number);
        let behind = element;
        while (behind && (rgb(getComputedStyle(behind).backgroundColor)[3] ?? 1) < 0.5) behind = behind.parentElement;
        const light = (color) => {
            const [r, g, b] = rgb(color).map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const pair = [light(getComputedStyle(element).color), light(getComputedStyle(behind ?? document.body).backgroundColor)].sort();
        return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    }""",
        selector,
    )


async def test_reduced_motion_is_respected(person: Person, speaking: Gate) -> None:
    mia = await person("Mia", reduced_motion="reduce")
    await say(mia, "Hi!")
    await expect(mia.locator(".thinking, .caret").first).to_be_visible()
    running_animations = await mia.evaluate(
        "document.getAnimations().filter((a) => a.playState === 'running').length"
    )
    assert running_animations == 0


# --- the worker is killed -------------------------------------------------------------------------


@pytest.fixture
def workers(
    one_redis: RedisServer, provider: StandInProvider, prefix: str, tmp_path: Path
) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts worker processes of the tests' queue."""
    started: list[subprocess.Popen[bytes]] = []
    told = {
        "options": queue_options(
            one_redis.url, provider, prefix, max_attempts=3, lock_duration=1.0
        ),
        "tools": False,
        "on_reply": False,
    }

    def start() -> subprocess.Popen[bytes]:
        environment = {**os.environ, "BOT": json.dumps(told), "PYTHONPATH": str(ROOT)}
        command = [
            sys.executable,
            "-m",
            "assistant_queue.cli",
            "worker",
            "--app",
            "tests.integration.bot:queue",
        ]
        process = subprocess.Popen(
            command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"worker ready")
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


async def test_a_worker_killed_in_the_middle_is_followed_by_another_and_the_text_is_whole_once(
    person: Person,
    queue: AssistantMessageQueue,
    speaking: Gate,
    provider: StandInProvider,
    workers: Callable[[], subprocess.Popen[bytes]],
) -> None:
    with running(queue) as site:
        for handle in queue._workers:
            handle.stop()
        first = await asyncio.to_thread(workers)
        mia, tom = await person("Mia", url=site.url), await person("Tom", url=site.url)
        await say(mia, "Hi!")
        for page in (mia, tom):
            await expect(replies(page, ".working")).to_contain_text("one answer")
        first.send_signal(signal.SIGKILL)
        await asyncio.to_thread(workers)
        speaking.release()
        for page in (mia, tom):
            await expect(replies(page, ".done")).to_have_text(ANSWER)
            assert await items(page) == ["Hi!", ANSWER]
    assert len(provider.runs) == 1


@pytest.mark.parametrize(
    ("options", "strips", "place"),
    [
        ({}, True, "/chat/"),
        ({"root_path": "/chat"}, True, "/chat/"),
        ({"root_path": "/chat"}, True, "/chat"),
        ({"root_path": "/chat/"}, False, "/chat/"),
        ({"root_path": "/chat"}, False, "/chat"),
        ({"mount": "/chat"}, False, "/chat/"),
        ({"mount": "/chat"}, False, "/chat"),
        ({"root_path": "/a.b/chat~1"}, False, "/a.b/chat~1/"),
    ],
    ids=[
        "stripped",
        "stripped and told",
        "stripped, no slash",
        "whole",
        "whole, no slash",
        "mounted",
        "mounted, no slash",
        "deep",
    ],
)
async def test_below_a_path_of_a_proxy_the_page_works_and_asks_nothing_of_others(
    person: Person, queue: AssistantMessageQueue, options: dict[str, Any], strips: bool, place: str
) -> None:
    queue.start_worker()
    path = place.rstrip("/")
    with running(queue, **options) as site, proxied({path: site.port}, strips=strips) as proxy:
        mia = await person(None, url=f"{proxy.url}{path}")
        await mia.goto(f"{proxy.url}{place}")
        await expect(mia.locator("#room")).to_have_text("lobby")
        await mia.fill("#nickname", "Mia")
        await mia.keyboard.press("Enter")
        await expect(mia.locator("html")).to_have_attribute("data-connection", "open")
        await say(mia, "Hi!")
        await expect(replies(mia, ".done")).to_have_text("You said: Mia: Hi!")
        await mia.reload()
        await expect(replies(mia, ".done")).to_have_count(1)
        assert (
            await mia.evaluate("getComputedStyle(document.querySelector('.unseen')).position")
            == "absolute"
        ), "it has its style"
        await mia.goto(f"{proxy.url}{path}/room/kitchen")
        await expect(mia.locator("html")).to_have_attribute("data-connection", "open")
        await expect(mia.locator("#room")).to_have_text("kitchen")
        await say(mia, "Hello!")
        await expect(replies(mia, ".done")).to_have_text("You said: Mia: Hello!")
        assert proxy.strayed == []


async def test_what_waits_in_the_browser_is_not_sent_to_a_service_below_another_path(
    person: Person, site: Site
) -> None:
    with proxied({"/one": site.port, "/two": site.port}, strips=True) as proxy:
        mia = await person("Mia", url=f"{proxy.url}/one")
        await mia.route(
            "**/messages",
            lambda route: route.abort() if route.request.method == "POST" else route.continue_(),
        )
        await say(mia, "not for others")
        await expect(mia.locator(".message.sending")).to_have_count(1)
        other = await mia.context.new_page()
        await other.goto(f"{proxy.url}/two/room/kitchen")
        await expect(other.locator("html")).to_have_attribute("data-connection", "open")
        await expect(other.locator(".message")).to_have_count(0)
        await mia.unroute("**/messages")
        await mia.reload()
        await expect(replies(mia, ".done")).to_have_text("You said: Mia: not for others")
