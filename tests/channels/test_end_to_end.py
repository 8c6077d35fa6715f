"""From a person's message to the reply on the screen: real Redis, worker, HTTP on both sides."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import queue as queue_module
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import pytest

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, Batch
from assistant_queue.channels import Telegram, Webhook
from assistant_queue.errors import ConfigurationError
from assistant_queue.models import RunResult
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.channels import (
    AnswerWith,
    PlatformAnswer,
    PlatformRequest,
    StandInTelegram,
    WebhookReceiver,
)
from assistant_queue.testing.channels.platform_server import TOO_MANY_REQUESTS
from assistant_queue.testing.provider import Reply
from assistant_queue.testing.provider.state import text_of
from tests.channels.rigs import hurried
from tests.conftest import PATIENCE_S, RedisServer, installed_redis


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    yield from installed_redis(tmp_path_factory.mktemp("redis"))


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        yield running


@pytest.fixture
def channel(platform: StandInTelegram) -> Telegram:
    return hurried(Telegram(platform.token, api_url=platform.url))


def options(redis: RedisServer, prefix: str, provider: StandInProvider, **more: Any) -> Any:
    return {
        "redis_url": redis.url,
        "queue_prefix": prefix,
        "model": "any",
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0.1,
        **more,
    }


@pytest.fixture
async def queue(
    redis: RedisServer, prefix: str, provider: StandInProvider, channel: Telegram
) -> AsyncIterator[AsyncAssistantMessageQueue]:
    async with AsyncAssistantMessageQueue(
        **options(redis, prefix, provider, channels=[channel])
    ) as opened:
        await opened.start_worker()
        polling = asyncio.create_task(channel.poll(opened))
        yield opened
        polling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await polling


async def seen(platform: Any, what: Any) -> Any:
    return await asyncio.to_thread(platform.wait_for, what, 60.0)


async def test_a_bot_answers(
    platform: StandInTelegram, queue: AsyncAssistantMessageQueue, provider: StandInProvider
) -> None:
    provider.model = lambda turn: Reply(f"You said: **{' | '.join(turn.user_texts)}**")
    for text in ("Hi!", "My lamp", "is broken"):
        await asyncio.to_thread(platform.say, 5, text, name="Mia")
    chat = platform.chat(5)
    await seen(platform, lambda: "You said" in "".join(chat.shown))
    await seen(platform, lambda: chat.shown[0].endswith("broken"))
    (message,) = [one for one in chat.messages.values() if one.from_bot]
    assert message.text == "You said: Mia: Hi! | Mia: My lamp | Mia: is broken"
    assert [one["type"] for one in message.entities] == ["bold"]
    assert chat.typing


async def test_a_long_reply_is_streamed_and_arrives_in_parts(
    platform: StandInTelegram, queue: AsyncAssistantMessageQueue, provider: StandInProvider
) -> None:
    words = " ".join(f"word{number}" for number in range(1500))
    provider.model = lambda turn: Reply(words)
    await asyncio.to_thread(platform.say, 6, "go on")
    chat = platform.chat(6)
    await seen(platform, lambda: " ".join(chat.shown).split() == words.split())
    assert len(chat.shown) == len(queue.config.channels[0].split(words)) > 2


async def test_a_worker_that_takes_over_replaces_what_another_has_streamed(
    redis: RedisServer, prefix: str, platform: StandInTelegram, provider: StandInProvider
) -> None:
    provider.model = lambda turn: Reply(f"Heard: {turn.user_texts[-1]}")
    gate = provider.hold("completing")

    def opened() -> AsyncAssistantMessageQueue:
        channel = hurried(Telegram(platform.token, api_url=platform.url))
        return AsyncAssistantMessageQueue(**options(redis, prefix, provider, channels=[channel]))

    def is_whole(request: Any) -> bool:
        text = str((request.body or {}).get("text", ""))
        return text.startswith("Heard") and not text.endswith("…")

    chat = platform.chat(12)
    platform.fault(TOO_MANY_REQUESTS, when=is_whole, times=100)
    async with opened() as first:
        await first.add_message_to_thread("telegram:12", "a reply of some length")
        worker = await first.start_worker()
        await seen(platform, lambda: chat.shown)
        gate.release()
        await seen(platform, lambda: any(is_whole(one) for one in platform.requests))
        await worker.stop()
    assert chat.shown == ["Heard: a reply of some length …"]
    platform.clear_faults()
    async with opened() as second:
        await second.start_worker()
        await seen(platform, lambda: chat.shown[-1].endswith("length"))
    assert chat.shown == ["Heard: a reply of some length"]


PICTURE = b"\xff\xd8\xffa lamp"
DATA_URL = f"data:image/jpeg;base64,{base64.b64encode(PICTURE).decode()}"


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("responses", {"type": "input_image", "image_url": DATA_URL}),
        ("chat_completions", {"type": "image_url", "image_url": {"url": DATA_URL}}),
        ("assistants", "[photo: cannot be read by the model]"),
    ],
)
async def test_a_photo_reaches_the_model_as_its_protocol_takes_it(
    redis: RedisServer,
    platform: StandInTelegram,
    provider: StandInProvider,
    protocol: str,
    expected: Any,
) -> None:
    channel = hurried(Telegram(platform.token, api_url=platform.url))
    more = {"protocol": protocol, "channels": [channel]}
    if protocol == "assistants":
        more |= {"assistant_id": provider.assistant_id, "model": None}
    async with AsyncAssistantMessageQueue(
        **options(redis, f"photo-{protocol}", provider, **more)
    ) as queue:
        await queue.start_worker()
        await asyncio.to_thread(platform.say, 7, "what is this?", files={"photo": PICTURE})
        await channel.take(queue, channel.messages_of(platform.updates[-1]))
        await seen(platform, lambda: platform.chat(7).shown)
    sent = json.dumps([one.body for one in provider.requests])
    assert json.dumps(expected).strip('"') in sent
    assert ("data:" in sent) == (protocol != "assistants")
    assert provider.refusals == ()


def of_protocol(protocol: str, provider: StandInProvider) -> dict[str, Any]:
    """The options that select a protocol."""
    if protocol == "assistants":
        return {"protocol": protocol, "assistant_id": provider.assistant_id, "model": None}
    if protocol == "function":
        return {"model": None, "backend": said_of}
    return {"protocol": protocol}


def said_of(batch: Batch) -> str:
    """Return what a batch holds, from a function."""
    files = [
        part
        for message in batch.messages
        if not isinstance(message.content, str)
        for part in message.content
        if part["type"] != "text"
    ]
    return f"{len(batch.messages)} messages, {len(files)} pictures"


PROTOCOLS = ["responses", "assistants", "chat_completions", "function"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("chat_id", [5, -5], ids=["private", "group"])
async def test_an_album_is_answered_once(
    redis: RedisServer,
    platform: StandInTelegram,
    provider: StandInProvider,
    protocol: str,
    chat_id: int,
) -> None:
    channel = hurried(Telegram(platform.token, api_url=platform.url, album_hold=60.0))
    more = of_protocol(protocol, provider) | {"message_delay": 0.0, "channels": [channel]}
    prefix = f"album-{protocol}-{chat_id}"
    async with AsyncAssistantMessageQueue(**options(redis, prefix, provider, **more)) as queue:
        await queue.start_worker()
        polling = asyncio.create_task(channel.poll(queue))
        numbers = []
        for place in range(4):
            text = "@stand_in_bot compare them" if place == 0 else ""
            entities = [{"type": "mention", "offset": 0, "length": 13}] if text else None
            said = {"files": {"photo": PICTURE}, "album": "77", "entities": entities}
            numbers.append(await asyncio.to_thread(platform.say, chat_id, text, **said))
            await seen(platform, lambda: not platform.updates)
        assert not platform.chat(chat_id).shown
        await queue.flush(channel.thread_id(str(chat_id)))
        await seen(platform, lambda: platform.chat(chat_id).shown)
        polling.cancel()
        statuses = [
            await queue.get_message(f"{channel.thread_id(str(chat_id))}:{one}") for one in numbers
        ]
    assert len({status.batch_id for status in statuses if status}) == 1
    assert len(statuses) == 4


async def test_a_blocked_chat_leaves_the_others_alone(
    platform: StandInTelegram, queue: AsyncAssistantMessageQueue
) -> None:
    await asyncio.to_thread(platform.say, 8, "bye")
    platform.block(8)
    await asyncio.to_thread(platform.say, 9, "hi")
    await seen(platform, lambda: platform.chat(9).shown)
    assert platform.chat(8).shown == []


async def test_a_webhook_is_a_channel_of_the_blocking_queue(
    redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    with WebhookReceiver() as receiver:
        webhook = Webhook(receiver.url, receiver.secret)

        def work() -> None:
            with AssistantMessageQueue(
                **options(redis, prefix, provider, channels=[webhook])
            ) as queue:
                queue.start_worker()
                webhook.receive(queue, *receiver.message("ann", "Hi", message_id="1"))
                receiver.wait_for(lambda: receiver.events, 60.0)

        await asyncio.to_thread(work)
        (event,) = receiver.events
        assert event["data"]["thread_id"] == "webhook:ann"
        assert event["data"]["message_ids"] == ["webhook:ann:1"]


async def test_a_refused_part_is_sent_again_and_is_no_unknown_one(
    platform: StandInTelegram, queue: AsyncAssistantMessageQueue
) -> None:
    platform.fault(TOO_MANY_REQUESTS, of="sendMessage", times=2)
    await queue.say("telegram:11", "hello", kind="notice")
    await seen(platform, lambda: platform.chat(11).shown)
    assert platform.chat(11).shown == ["hello"]
    assert await queue.list_failed() == []


async def test_a_notice_reaches_the_chat_without_a_run(
    platform: StandInTelegram, queue: AsyncAssistantMessageQueue, provider: StandInProvider
) -> None:
    receipt = await queue.say("telegram:10", "We are **closed** today.", kind="notice")
    await seen(platform, lambda: platform.chat(10).shown)
    assert platform.chat(10).shown == ["We are closed today."]
    assert provider.runs == ()
    status = await queue.get_message(receipt.message_id)
    assert status is not None
    assert (status.status, status.run_id) == ("completed", "")


async def test_a_reply_is_in_the_chat_at_once_and_in_the_conversation_after_the_run(
    platform: StandInTelegram, queue: AsyncAssistantMessageQueue, provider: StandInProvider
) -> None:
    provider.model = lambda turn: Reply(f"You said: {turn.user_texts[-1]}")
    with provider.hold("accepted") as gate:
        await asyncio.to_thread(platform.say, 12, "Is my lamp in stock?", name="Mia")
        await asyncio.to_thread(gate.wait_reached, 1, PATIENCE_S)
        receipt = await queue.say("telegram:12", "Jo here: **yes**.", author="Jo")
        await seen(platform, lambda: "Jo here: yes." in platform.chat(12).shown)
        status = await queue.get_message(receipt.message_id)
        assert status is not None
        assert status.status == "queued"
        assert provider.calls("items.create") == ()
    assert await queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "Jo here: **yes**."
    (run,) = provider.runs
    items = provider.items(str(run.conversation_id))
    assert [(item["role"], text_of(item)) for item in items] == [
        ("user", "Mia: Is my lamp in stock?"),
        ("assistant", "You said: Mia: Is my lamp in stock?"),
        ("assistant", "Jo here: **yes**."),
    ]
    await seen(platform, lambda: len(platform.chat(12).shown) == 2)


@pytest.mark.parametrize("kind", ["notice", "reply"])
@pytest.mark.parametrize("delivers", [True, False])
def test_what_is_said_goes_to_on_reply_or_leaves_the_outbox(
    redis: RedisServer,
    prefix: str,
    provider: StandInProvider,
    delivers: bool,
    kind: Literal["notice", "reply"],
) -> None:
    heard: queue_module.Queue[RunResult] = queue_module.Queue()
    more: dict[str, Any] = {"on_reply": heard.put} if delivers else {}
    with AssistantMessageQueue(**options(redis, prefix, provider, **more)) as queue:
        after = queue.open_events("ann")
        receipt = queue.say("ann", "one moment", author="Jo", kind=kind)
        queue.start_worker()
        if delivers:
            result = heard.get(timeout=PATIENCE_S)
            assert (result.reply, result.run_id, result.messages) == ("one moment", "", ())
        events = queue.events("ann", after=after, timeout=PATIENCE_S)
        said = next(events)
        assert (said.type, next(events).type) == ("said", "reply_delivered")
        assert queue.get_queue_status().delivering_count == 0
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "one moment"
        written = [] if kind == "notice" else ["one moment"]
        texts = [row.text for row in queue.list_messages("ann")] if written else []
        assert texts == written


class HangingReceiver(WebhookReceiver):
    """Takes requests and answers none of them."""

    async def answer(self, request: PlatformRequest) -> PlatformAnswer:
        await asyncio.get_running_loop().create_future()
        raise AssertionError


def test_a_platform_that_does_not_answer_holds_no_delivery_of_another(
    redis: RedisServer, prefix: str, provider: StandInProvider
) -> None:
    with HangingReceiver() as hanging, WebhookReceiver() as well:
        channels = [
            Webhook(hanging.url, hanging.secret, name="hanging"),
            Webhook(well.url, well.secret, name="well"),
        ]
        more = {"channels": channels, "delivery_concurrency": 1}
        with AssistantMessageQueue(**options(redis, prefix, provider, **more)) as queue:
            worker = queue.start_worker()
            for number in range(3):
                queue.add_message_to_thread(f"hanging:{number}", "hi")
            hanging.wait_for(lambda: hanging.requests, PATIENCE_S)
            well.fault(AnswerWith(503, headers={"retry-after": "0"}))  # then it is due, after them
            queue.add_message_to_thread("well:1", "hello")
            well.wait_for(lambda: well.replies, PATIENCE_S)
            assert len(hanging.requests) == 1
            worker.stop(timeout=0)
        assert len(hanging.requests) == 1, "one slot for each platform"


def test_other_threads_go_to_on_reply(
    redis: RedisServer, prefix: str, provider: StandInProvider, channel: Telegram
) -> None:
    heard: list[str] = []
    with AssistantMessageQueue(
        **options(
            redis,
            prefix,
            provider,
            channels=[channel],
            on_reply=lambda result: heard.append(result.thread_id),
        )
    ) as queue:
        queue.start_worker()
        queue.ask("somewhere-else", "Hi", timeout=60)
    assert heard == ["somewhere-else"]


@pytest.mark.parametrize("wrong", ["telegram", [object()], [1], 5])
def test_channels_that_are_none_are_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="list of channels"):
        AssistantMessageQueue(channels=wrong)


def test_two_channels_need_two_names(platform: StandInTelegram) -> None:
    two = [Telegram(platform.token) for _ in range(2)]
    with pytest.raises(ConfigurationError, match="one name, of telegram, telegram"):
        AssistantMessageQueue(channels=two)
