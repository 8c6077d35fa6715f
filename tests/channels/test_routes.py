"""The FastAPI router of a channel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import fastapi
import httpx
import pytest

from assistant_queue.channels import Channel, Telegram
from assistant_queue.errors import StoreUnavailable, ThreadBusy, ThreadFull
from assistant_queue.testing.channels import StandInTelegram
from assistant_queue.testing.channels.conformance import AsyncRecordingQueue, RecordingQueue
from tests.channels.rigs import SECRET_HEADER


@pytest.fixture
def platform() -> Iterator[StandInTelegram]:
    with StandInTelegram() as running:
        yield running


@pytest.fixture
def channel(platform: StandInTelegram) -> Telegram:
    return Telegram(platform.token, api_url=platform.url, secret_token="s3cret")


async def post(channel: Channel, queue: Any, body: Any, **given: Any) -> httpx.Response:
    app = fastapi.FastAPI()
    app.include_router(channel.router(queue), prefix="/hooks")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://bot") as client:
        if isinstance(body, bytes):
            return await client.post("/hooks/telegram", content=body, **given)
        return await client.post("/hooks/telegram", json=body, **given)


SIGNED = {"headers": {SECRET_HEADER: "s3cret"}}


@pytest.mark.parametrize("queue", [RecordingQueue(), AsyncRecordingQueue()])
async def test_an_update_is_queued(
    platform: StandInTelegram, channel: Telegram, queue: Any
) -> None:
    update = platform.update_of(5, "Hi")
    for _ in range(2):
        answer = await post(channel, queue, update, **SIGNED)
        assert answer.status_code == 200
    assert [one[2] for one in queue.messages] == ["Hi"]


async def test_bad_requests_are_refused(platform: StandInTelegram, channel: Telegram) -> None:
    queue = RecordingQueue()
    update = platform.update_of(5, "Hi")
    assert (await post(channel, queue, update)).status_code == 401
    assert (await post(channel, queue, b"{", **SIGNED)).status_code == 400
    huge = b"x" * (channel.limits.payload_bytes + 1)
    answer = await post(channel, queue, huge, **SIGNED)
    assert answer.status_code == 413
    assert queue.messages == []


@pytest.mark.parametrize("error", [ThreadFull("full"), StoreUnavailable("away")])
async def test_the_platform_is_asked_to_come_again(
    platform: StandInTelegram, channel: Telegram, error: Exception
) -> None:
    class Full(AsyncRecordingQueue):
        async def add_message_to_thread(self, *_: Any, **__: Any) -> Any:
            raise error

    answer = await post(channel, Full(), platform.update_of(5, "Hi"), **SIGNED)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]


async def test_a_message_that_meets_a_batch_and_must_not_wait_is_not_sent_again(
    platform: StandInTelegram, channel: Telegram
) -> None:
    class Busy(AsyncRecordingQueue):
        async def add_message_to_thread(self, *_: Any, **__: Any) -> Any:
            raise ThreadBusy("busy")

    update = platform.update_of(5, "Hi")
    assert (await post(channel, Busy(), update, **SIGNED)).status_code == 200
    received = await channel.receive(Busy(), json.dumps(update).encode(), SIGNED["headers"])
    assert [reason for _, reason in received.refused] == ["busy"]
