"""Questions with buttons in Telegram: a real queue and worker, the fake Telegram over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from assistant_queue import (
    Approval,
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    ToolContext,
)
from assistant_queue.channels import Telegram
from assistant_queue.errors import InvalidArgument, NotAuthenticated
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.channels import AnswerWith, LoseAnswer, StandInTelegram
from assistant_queue.testing.channels.telegram_server import person_id
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.channels.rigs import SECRET_HEADER, hurried
from tests.conftest import PATIENCE_S, RedisServer, installed_redis

STAFF = -1009
EVE = f"Eve ({person_id('Eve')})"


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from installed_redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        running.chat(STAFF)
        running.chat(5)
        yield running


def model(turn: Turn) -> Outcome:
    if turn.tool_outputs:
        return Reply(f"It says: {turn.tool_outputs[0].output}")
    name, _, order = turn.user_texts[-1].rpartition(": ")[2].partition(" ")
    return ToolCalls([(name, {"order": order})])


class Shop:
    """A bot with a tool that needs an approval, behind the fake Telegram."""

    def __init__(self, platform: StandInTelegram, queue: AsyncAssistantMessageQueue) -> None:
        self.platform = platform
        self.queue = queue
        self.channel = queue.config.channels[0]
        self.done: list[tuple[str, str | None]] = []

        @queue.tool(approval="Refund @maria {order}?")
        def refund(order: str, context: ToolContext) -> str:
            self.done.append((order, context.approved_by))
            return f"refunded {order}"

        @queue.tool(approval=True)
        def cancel(order: str) -> str:
            return f"cancelled {order}"

    async def seen(self, what: Any) -> None:
        await asyncio.to_thread(self.platform.wait_for, what, PATIENCE_S)

    async def asked(self, chat_id: int, text: str = "refund 7", *, by: int = 5) -> Approval:
        """Have a customer write, and wait for the question."""
        before = len(self.platform.chat(chat_id).shown)
        await asyncio.to_thread(self.platform.say, by, text, name="Mia")
        await self.seen(lambda: len(self.platform.chat(chat_id).shown) > before)
        return (await self.queue.list_approvals())[-1]

    async def press(self, chat_id: int, label: str, **given: Any) -> str | None:
        """Have a person press a button; return what the person reads."""
        query_id = await asyncio.to_thread(
            lambda: self.platform.press(chat_id, label, **{"name": "Eve", **given})
        )
        await self.seen(lambda: self.platform.answer_to(query_id) is not None)
        return self.platform.answer_to(query_id)


@contextlib.asynccontextmanager
async def opened(
    redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    platform: StandInTelegram,
    *,
    polls: bool = True,
    **options: Any,
) -> AsyncIterator[Shop]:
    provider.model = model
    channel = hurried(
        Telegram(platform.token, api_url=platform.url, stream="off", secret_token="s", **options)
    )
    channel._group_interval = 0.0
    async with AsyncAssistantMessageQueue(
        redis_url=redis.url,
        queue_prefix=prefix,
        model="any",
        openai_api_key=provider.api_key,
        openai_base_url=provider.base_url,
        message_delay=0,
        channels=[channel],
    ) as queue:
        shop = Shop(platform, queue)
        await queue.start_worker()
        polling = asyncio.create_task(channel.poll(queue)) if polls else None
        yield shop
        if polling is not None:
            polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await polling


async def test_the_staff_decides_in_its_chat_and_not_the_customer(
    redis: RedisServer, prefix: str, provider: StandInProvider, platform: StandInTelegram
) -> None:
    staff, customer = platform.chat(STAFF), platform.chat(5)
    async with opened(redis, prefix, provider, platform, approval_chat=STAFF) as shop:
        call = await shop.asked(STAFF)
        assert staff.shown == ["❓ Refund @\u2060maria 7?\nIn telegram:5, of Mia"]
        assert customer.shown == []
        (message,) = staff.messages.values()
        assert set(message.buttons) == {"Approve", "Deny"}
        # A changed client sends the data of a message that it does not see.
        platform.methods.chats[5].messages[99] = type(message)(
            99, "x", had_buttons={"Approve": f"aq+{call.call_id}"}
        )
        assert await shop.press(5, "Approve", name="Mia") == "You may not decide this."
        assert await shop.queue.list_approvals() == [call]
        assert await shop.press(STAFF, "Approve") == "Approved."
        await shop.seen(lambda: "It says: refunded 7" in customer.shown)
        assert shop.done == [("7", EVE)]
        await shop.seen(lambda: not message.buttons)
        assert message.text.endswith(f"\n\n✅ Approved by {EVE}")
        late = await shop.press(STAFF, "Deny", name="Tom")
        assert late == f"Too late. ✅ Approved by {EVE}"
        assert message.text.count("Approved") == 1
        (record,) = await shop.queue.get_timeline("telegram:5")
        assert [one.settled_by for one in record.tool_calls] == [EVE]
        # Settled elsewhere, and a call without a question, with an id too long for a button.
        await shop.asked(STAFF, "cancel 8")
        message = list(staff.messages.values())[-1]
        assert '❓ Call cancel?\n{"order": "8"}\n' in message.text
        (call,) = await shop.queue.list_approvals()
        await shop.queue.deny(call.call_id, by="Jo", reason="no")
        await shop.seen(lambda: message.text.endswith("🚫 Denied by Jo"))
        assert not message.buttons
        # A call of a thread that is not on Telegram, by a client that makes its own data.
        is_parked = asyncio.Event()
        wake = asyncio.get_running_loop().call_soon_threadsafe
        shop.queue.on("approval_requested", lambda _: wake(is_parked.set))
        await shop.queue.add_message_to_thread("web", "refund 9")
        await asyncio.wait_for(is_parked.wait(), PATIENCE_S)
        found = await shop.queue.list_approvals(thread_id="web")
        await shop.asked(STAFF, "refund 10", by=6)
        forged = await shop.press(STAFF, "Approve", data=f"aq+{found[0].call_id}")
        assert str(forged).startswith("Too late")
        assert found[0] in await shop.queue.list_approvals()


async def test_only_approvers_press_in_a_group_and_a_lost_question_is_repeated(
    redis: RedisServer, prefix: str, provider: StandInProvider, platform: StandInTelegram
) -> None:
    group = platform.chat(-1005)
    async with opened(redis, prefix, provider, platform, approvers=[person_id("Eve")]) as shop:
        platform.fault(AnswerWith(429, {"ok": False, "error_code": 429, "description": "x",
            "parameters": {"retry_after": 0.01}}), of="sendMessage")  # fmt: skip
        entities = [{"type": "mention", "offset": 0, "length": 13}]
        await asyncio.to_thread(
            platform.say, -1005, "@stand_in_bot: refund 7", name="Mia", entities=entities
        )
        await shop.seen(lambda: group.shown)
        assert await shop.press(-1005, "Approve", name="Mia") == "You may not decide this."
        assert len(await shop.queue.list_approvals()) == 1
        other = await shop.asked(5, "refund 8")
        forged = await shop.press(-1005, "Approve", data=f"aq+{other.call_id}")
        assert str(forged).startswith("Too late"), "its message has no such button"
        assert other in await shop.queue.list_approvals()
        assert await shop.press(-1005, "Deny") == "Denied."
        await shop.seen(lambda: any("denied" in one for one in group.shown[1:]))
        old = await shop.press(-1005, "Approve", data=f"aq+{other.call_id}", is_old=True)
        assert str(old).startswith("Too late"), "it is the call of another thread"
        assert await shop.queue.list_approvals() == [other]
        assert shop.done == []


async def test_an_answer_that_is_lost_repeats_the_question_and_one_press_counts(
    redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    platform: StandInTelegram,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("assistant_queue.worker.channel_questions._MOST_WAIT_S", 0.0)
    staff = platform.chat(STAFF)
    async with opened(redis, prefix, provider, platform, approval_chat=STAFF) as shop:
        platform.fault(LoseAnswer(accept=True), of="sendMessage")
        await shop.asked(STAFF)
        await shop.seen(lambda: len(staff.shown) == 2)
        assert await shop.press(STAFF, "Deny", is_old=True) == "Denied."
        await shop.seen(lambda: staff.shown[-1].endswith(f"Mia\n\n🚫 Denied by {EVE}"))
        await shop.seen(lambda: len(platform.chat(5).shown) == 1)
        assert shop.done == []


async def test_a_webhook_settles_a_call_by_a_queue_of_either_class(
    redis: RedisServer, prefix: str, provider: StandInProvider, platform: StandInTelegram
) -> None:
    async with opened(redis, prefix, provider, platform, polls=False, approval_chat=STAFF) as shop:
        options = {
            name: getattr(shop.queue.config, name) for name in shop.queue.config.model_fields_set
        }
        with AssistantMessageQueue(**options) as blocking:
            for order, queue in (("1", blocking), ("2", shop.queue)):
                await shop.queue.add_message_to_thread("telegram:5", f"refund {order}")
                await shop.seen(lambda n=int(order): len(platform.chat(STAFF).shown) == n)
                query_id = platform.press(STAFF, "Approve", name="Eve")
                update = platform.updates[-1]
                with pytest.raises(NotAuthenticated):
                    shop.channel.receive(queue, update, {SECRET_HEADER: "wrong"})
                assert platform.answer_to(query_id) is None
                if queue is blocking:
                    await asyncio.to_thread(
                        shop.channel.receive, queue, update, {SECRET_HEADER: "s"}
                    )
                else:
                    await shop.channel.receive(queue, update, {SECRET_HEADER: "s"})
                assert platform.answer_to(query_id) == "Approved."
                message = list(platform.chat(STAFF).messages.values())[-1]
                assert message.text.endswith(f"✅ Approved by {EVE}")
                done = f"refunded {order}"
                await shop.seen(lambda done=done: done in "".join(platform.chat(5).shown))
                # Telegram sends an update again that was not answered: nothing is settled twice.
                again = shop.channel.receive(shop.queue, update, {SECRET_HEADER: "s"})
                await again
        assert shop.done == [("1", EVE), ("2", EVE)]


def test_without_approvers_and_chat_there_are_no_buttons_and_bad_ones_are_refused() -> None:
    token = "123456:" + "a" * 30
    assert not Telegram(token).asks
    assert Telegram(token, approvers=[5]).asks
    assert Telegram(token, approval_chat="-1001/7").asks
    bad: list[dict[str, Any]] = [
        {"approvers": []},
        {"approvers": ["eve"]},
        {"approvers": "5"},
        {"approvers": 5},
        {"approvers": [True]},
        {"approvers": [-5]},
        {"approval_chat": "@staff"},
        {"approval_chat": True},
        {"approval_chat": 0},
        {"approval_chat": "5/x"},
    ]
    for given in bad:
        with pytest.raises(InvalidArgument, match=f"Invalid {next(iter(given))}"):
            Telegram(token, **given)
