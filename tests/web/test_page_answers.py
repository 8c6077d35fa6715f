"""Answers on the chat page: Markdown while it is written and afterwards, in a real Chromium."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply
from tests.web.browser import Person, replies, say

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

CODE = 'def hello(name):\n    return f"<b>{name}</b>"'
ANSWER = f"""## Your order

It is **on its way**, see [the tracking page](https://example.com/t) and ~~nothing~~ `else`.

| Item | Price |
|------|------:|
| Lamp | 24.90 |

> Quoted
> > twice

1. one
   - nested
- [x] paid
- [ ] delivered

---

```python
{CODE}
```

The end."""
SHAPES = {
    "h2.h2": 1,
    "strong": 1,
    "p a[href='https://example.com/t'][rel~='noopener'][target='_blank']": 1,
    "s": 1,
    "p code": 1,
    ".table td.right": 1,
    "blockquote blockquote": 1,
    "ol > li > ul > li": 1,
    "li.task input[type=checkbox]:disabled": 2,
    "li.task input:checked": 1,
    "hr": 1,
    ".code pre code": 1,
}


async def test_an_answer_has_tables_quotes_lists_rules_and_code(
    person: Person, provider: StandInProvider
) -> None:
    provider.model = lambda _: ANSWER
    mia = await person("Mia")
    await say(mia, "## **mine** is [text](https://example.com)")
    await expect(replies(mia, ".done")).to_have_count(1)
    for selector, count in SHAPES.items():
        await expect(mia.locator(f".reply .text {selector}")).to_have_count(count)
    await expect(mia.locator(".language")).to_have_text("python")
    assert await mia.locator(".reply pre").inner_text() == CODE
    assert (
        await mia.locator(".message .bubble").inner_html()
        == "## **mine** is [text](https://example.com)"
    )


async def test_code_is_copied_as_it_was_written(person: Person, provider: StandInProvider) -> None:
    provider.model = lambda _: ANSWER
    mia = await person("Mia", permissions=["clipboard-read", "clipboard-write"])
    await say(mia, "Hi!")
    button = mia.get_by_role("button", name="Copy the code")
    await button.click()
    await expect(mia.locator(".copy").filter(has_text="Copied")).to_have_count(1)
    assert await mia.evaluate("navigator.clipboard.readText()") == CODE
    await expect(button).to_have_text("Copy")


async def test_without_a_clipboard_code_is_copied_by_selection(
    person: Person, provider: StandInProvider
) -> None:
    provider.model = lambda _: ANSWER
    mia = await person("Mia")
    await mia.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('none')); }"
    )
    await say(mia, "Hi!")
    await mia.get_by_role("button", name="Copy the code").click()
    await expect(mia.locator(".copy").filter(has_text="Copied")).to_have_count(1)
    await mia.fill("#text", "")
    await mia.keyboard.press("Control+V")
    assert await mia.locator("#text").input_value() == CODE


async def test_focus_and_selection_stay_while_an_answer_is_written(
    person: Person, provider: StandInProvider
) -> None:
    provider.model = lambda _: Reply(
        f"```python\n{CODE}\n```\n\nSelected words.\n\n" + "More of it. " * 30,
        chunks=40,
        delay=0.5,
    )
    mia = await person("Mia")
    with provider.hold("speaking") as gate:
        await say(mia, "Hi!")
        await expect(replies(mia, ".working")).to_contain_text("More of it.")
        await mia.get_by_role("button", name="Copy the code").focus()
        await mia.evaluate(
            "getSelection().selectAllChildren(document.querySelector('.reply .text > p'))"
        )
        gate.release()
    await expect(replies(mia, ".done")).to_have_count(1)
    await expect(mia.locator(".reply .copy").first).to_be_focused()
    assert await mia.evaluate("getSelection().toString()") == "Selected words."
    assert await mia.locator(".caret").count() == 0


async def test_half_written_marks_are_not_shown(person: Person, provider: StandInProvider) -> None:
    words = "There is **very good news for you and all of your friends**, and more."
    provider.model = lambda _: Reply(words, chunks=2)
    mia = await person("Mia")
    with provider.hold("speaking") as gate:
        await say(mia, "Hi!")
        await expect(mia.locator(".reply.working strong")).to_contain_text("very good news")
        assert "*" not in await replies(mia).inner_text()
        gate.release()
    await expect(replies(mia, ".done")).to_have_text(words.replace("**", ""))
