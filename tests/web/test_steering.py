"""A running answer is stopped and changed over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Never, Reply
from tests.conftest import PATIENCE_S

Asgi = Callable[..., httpx.AsyncClient]
MESSAGES = "/api/threads/t/messages"


async def until(holds: Callable[[], Awaitable[Any]]) -> None:
    """Ask until it is so."""
    loop = asyncio.get_running_loop()
    end = loop.time() + PATIENCE_S
    while not await holds():
        assert loop.time() < end


async def running(client: Any, queue: AssistantMessageQueue, provider: StandInProvider) -> str:
    """Add a message with an answer that never ends; return its id when its run is known."""
    provider.model = lambda turn: Never() if turn.user_texts[-1] == "wait" else Reply("done")
    queue.start_worker()
    body = {"message": "wait", "message_delay": 0}
    message_id = (await client.post(MESSAGES, json=body)).json()["message_id"]

    async def has_run() -> bool:
        return bool((await client.get("/api/threads/t")).json()["run_id"])

    await until(has_run)
    return str(message_id)


async def status(client: Any, message_id: str) -> str:
    return str((await client.get(f"{MESSAGES}/{message_id}")).json()["status"])


async def test_an_answer_is_stopped(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    client = asgi()
    assert (await client.post("/api/threads/t/stop")).json() == {"stopped": False}
    message_id = await running(client, queue, provider)
    assert (await client.post("/api/threads/t/stop")).json() == {"stopped": True}

    async def is_cancelled() -> bool:
        return await status(client, message_id) == "cancelled"

    await until(is_cancelled)


async def test_a_waiting_message_is_promoted(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    client = asgi()
    await running(client, queue, provider)
    added = await client.post(MESSAGES, json={"message": "now"})
    address = f"{MESSAGES}/{added.json()['message_id']}"
    assert (await client.post(f"{address}/promote", json={})).json() == {"promoted": True}
    answered = (await client.get(address, params={"wait": PATIENCE_S})).json()
    assert (answered["status"], answered["reply"]) == ("completed", "done")
    again = await client.post(f"{address}/promote", json={"mid_run": "steer"})
    assert again.json() == {"promoted": False}
    wrong = await client.post(f"{address}/promote", json={"mid_run": "collect"})
    assert wrong.status_code == 422
    unknown = await client.post(f"{MESSAGES}/unknown/promote", json={})
    assert unknown.status_code == 404


async def test_a_message_that_is_being_answered_is_edited_and_removed_where_that_is_wanted(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    client = asgi()
    message_id = await running(client, queue, provider)
    address = f"{MESSAGES}/{message_id}"
    assert (await client.patch(address, json={"message": "now"})).json() == {"edited": False}
    assert (await client.delete(address)).json() == {"cancelled": False}
    wrong = await client.delete(address, params={"running": "perhaps"})
    assert wrong.status_code == 422
    wanted = {"running": "true"}
    edited = await client.patch(address, json={"message": "now"}, params=wanted)
    assert edited.json() == {"edited": True}
    answered = (await client.get(address, params={"wait": PATIENCE_S})).json()
    assert (answered["status"], answered["reply"]) == ("completed", "done")
    second = await running(client, queue, provider)
    removed = await client.delete(f"{MESSAGES}/{second}", params=wanted)
    assert removed.json() == {"cancelled": True}

    async def is_cancelled() -> bool:
        return await status(client, second) == "cancelled"

    await until(is_cancelled)
