"""Questions about tool calls on the chat page: on every screen, also after a reload."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.web.browser import Person, say
from tests.web.test_page_accessibility import faults

pytestmark = [pytest.mark.asyncio(loop_scope="session")]


def model(turn: Turn) -> Outcome:
    if turn.tool_outputs:
        return Reply(f"It says: {turn.tool_outputs[0].output}")
    return ToolCalls([("refund", {"order": turn.user_texts[-1].rpartition(" ")[2]})])


@pytest.fixture
def refunds(queue: AssistantMessageQueue, provider: StandInProvider) -> list[str]:
    """Orders that were refunded; each needs an approval."""
    done: list[str] = []

    @queue.tool(approval="Refund order {order}?")
    def refund(order: str) -> str:
        done.append(order)
        return f"refunded {order}"

    provider.model = model
    queue.start_worker()
    return done


async def test_a_call_is_approved_on_one_screen_and_settled_on_all(
    person: Person, refunds: list[str]
) -> None:
    mia = await person("Mia", reduced_motion="reduce")
    tom = await person("Tom", reduced_motion="reduce", viewport={"width": 390, "height": 800})
    await say(mia, "refund 7")
    for page in (mia, tom):
        await expect(page.get_by_text("Refund order 7?").first).to_be_visible()
    assert await faults(mia) == []
    assert await faults(tom) == []
    await mia.reload()
    await expect(mia.get_by_role("button", name="Approve: Refund order 7?")).to_be_visible()
    await tom.get_by_role("button", name="Approve: Refund order 7?").click()
    for page in (mia, tom):
        await expect(page.locator(".ask.settled")).to_contain_text("Approved by Tom")
        await expect(page.locator(".reply.done")).to_contain_text("refunded 7")
    assert refunds == ["7"]


async def test_a_denied_call_is_not_made(person: Person, refunds: list[str]) -> None:
    mia = await person("Mia")
    await say(mia, "refund 8")
    await mia.get_by_role("button", name="Deny: Refund order 8?").click()
    await expect(mia.locator(".ask.settled")).to_contain_text("Denied by Mia")
    await expect(mia.locator(".reply.done")).to_contain_text("It says:")
    assert refunds == []
