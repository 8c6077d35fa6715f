"""Validators at both classes: refused before anything is queued, all or nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Message,
    MessageRefused,
    max_length,
    no_markup,
)
from assistant_queue.user_code.abandoned import ABANDONED
from tests.conftest import PATIENCE_S, RedisServer


@pytest.fixture(params=["blocking", "asyncio"])
async def add(
    request: pytest.FixtureRequest, one_redis: RedisServer, prefix: str
) -> AsyncIterator[Any]:
    """Calls a method of either class."""
    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "validators": [max_length(20), no_markup(), no_spam],
    }
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


class Asked:
    of: Callable[[Message], Any] | None = None


def no_spam(message: Message) -> str | None:
    if Asked.of is not None:
        Asked.of(message)
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
    rows = [
        {"thread_id": f"t{number}", "message": "fine", "message_id": f"m{number}"}
        for number in range(3)
    ]
    with pytest.raises(MessageRefused) as caught:
        await add(
            "add_messages",
            [*rows, {"thread_id": "t9", "message": "javascript:x", "message_id": "bad"}],
        )
    assert (caught.value.message_id, caught.value.thread_id) == ("bad", "t9")
    assert [await add("get_message", f"m{number}") for number in range(3)] == [None] * 3
    assert len(await add("add_messages", rows)) == 3


async def test_an_edit_is_looked_at_as_well_and_leaves_the_message_as_it_was(add: Any) -> None:
    await add("add_message_to_thread", "ann", "hello", message_id="m1")
    with pytest.raises(MessageRefused, match="event handler") as caught:
        await add("edit_message", "m1", "<b onclick=x>")
    assert caught.value.message_id == "m1"
    assert await add("edit_message", "m1", "hello again")


async def hung_validator_is_refused(add: Any, let_go: threading.Event) -> None:
    with pytest.raises(MessageRefused, match=r"hangs raised TimeoutError"):
        await add("add_message_to_thread", "ann", "hello", message_id="m1")
    assert list(ABANDONED.by_function.values()) == [1]
    assert await add("get_message", "m1") is None
    let_go.set()


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
async def test_a_validator_that_hangs_costs_a_thread_and_the_message(
    one_redis: RedisServer, prefix: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    let_go, has_ended = threading.Event(), threading.Event()

    def hangs(_: Message) -> None:
        let_go.wait(PATIENCE_S)
        has_ended.set()

    options: dict[str, Any] = {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "validators": [hangs],
        "callback_timeout": 0.05,
    }
    if kind == "blocking":
        with AssistantMessageQueue(**options) as queue:

            async def call(name: str, *args: Any, **details: Any) -> Any:
                return getattr(queue, name)(*args, **details)

            await hung_validator_is_refused(call, let_go)
    else:
        async with AsyncAssistantMessageQueue(**options) as queue:

            async def awaited(name: str, *args: Any, **details: Any) -> Any:
                return await getattr(queue, name)(*args, **details)

            await hung_validator_is_refused(awaited, let_go)
    assert has_ended.wait(PATIENCE_S)
    assert "hangs did not return within 0.05 s; it is still running and is abandoned" in caplog.text
    assert "thread 'ann', message 'm1'" in caplog.text


async def test_a_validator_does_not_block_the_loop(one_redis: RedisServer, prefix: str) -> None:
    asked, let_go = threading.Event(), threading.Event()

    def waits(_: Message) -> None:
        asked.set()
        assert let_go.wait(PATIENCE_S)

    async with AsyncAssistantMessageQueue(
        redis_url=one_redis.url, queue_prefix=prefix, validators=[waits]
    ) as queue:
        adding = asyncio.ensure_future(queue.add_message_to_thread("ann", "hello"))
        while not asked.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0)
        let_go.set()
        assert (await adding).duplicate is False


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()],
    ids=repr,
)
async def test_whatever_a_validator_raises_is_a_refusal(
    add: Any, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(_: Message) -> None:
        raise error

    monkeypatch.setattr(Asked, "of", raises)
    with pytest.raises(MessageRefused, match=type(error).__name__):
        await add("add_message_to_thread", "ann", "odd")
