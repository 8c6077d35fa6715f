"""Validators at the doors: refused before anything is queued, all or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, Message, MessageRefused, max_length, no_markup
from tests.conftest import RedisServer


@pytest.fixture(params=["blocking", "asyncio"])
async def add(request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str) -> AsyncIterator[Any]:
    """Calls a method of either door."""
    options: dict[str, Any] = {"redis_url": one_redis.url, "queue_prefix": prefix, "validators": [max_length(20), no_markup(), no_spam]}
    if request.param == "blocking":
        with AssistantMessageQueue(**options) as queue:

            async def call(name: str, *args: Any, **details: Any) -> Any:
                return getattr(queue, name)(*args, **details)

            yield call
        return
    async with AsyncAssistantMessageQueue(**options) as queue:

        async def awaited(name: str, *args: Any, **details: Any) -> Any:
            return await getattr(queue, name)(*args, **details)

        yield awaited


def no_spam(message: Message) -> str | None:
    return "it is spam" if message.metadata.get("score") == "spam" else None


async def test_a_refused_message_is_nowhere(add: Any) -> None:
    for name in ("add_message_to_thread", "ask"):
        with pytest.raises(MessageRefused, match="21 characters") as caught:
            await add(name, "ann", "x" * 21, message_id="m1")
        assert (caught.value.message_id, caught.value.thread_id) == ("m1", "ann")
    with pytest.raises(MessageRefused, match="a tag that runs"):
        await add("add_message_to_thread", "ann", "hi <script>")
    with pytest.raises(MessageRefused, match="it is spam"):
        await add("add_message_to_thread", "ann", "buy", metadata={"score": "spam"})
    assert await add("get_message", "m1") is None
    assert (await add("get_thread_status", "ann")).state == "idle"
    assert (await add("add_message_to_thread", "ann", "a < b", message_id="m1")).duplicate is False


async def test_of_many_messages_all_or_none_are_taken(add: Any) -> None:
    rows = [{"thread_id": f"t{number}", "message": "fine", "message_id": f"m{number}"} for number in range(3)]
    with pytest.raises(MessageRefused) as caught:
        await add("add_messages", [*rows, {"thread_id": "t9", "message": "javascript:x", "message_id": "bad"}])
    assert (caught.value.message_id, caught.value.thread_id) == ("bad", "t9")
    assert [await add("get_message", f"m{number}") for number in range(3)] == [None] * 3
    assert len(await add("add_messages", rows)) == 3


async def test_an_edit_is_looked_at_as_well_and_leaves_the_message_as_it_was(add: Any) -> None:
    await add("add_message_to_thread", "ann", "hello", message_id="m1")
    with pytest.raises(MessageRefused, match="event handler") as caught:
        await add("edit_message", "m1", "<b onclick=x>")
    assert caught.value.message_id == "m1"
    assert await add("edit_message", "m1", "hello again")
