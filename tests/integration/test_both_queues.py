"""Both queue classes: the same scenario, the same errors, and calls that are cut off."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    ConfigurationError,
    ConfigurationMismatch,
    FormatTooNew,
    InvalidArgument,
    MessageCancelled,
    MessageIdConflict,
    MessageNotFound,
    RunContext,
    StoreUnavailable,
    ThreadFull,
)
from assistant_queue.errors import WrongQueueClass
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S, RedisServer, free_port


class Awaited:
    """The blocking class with the asyncio class's methods, so that one scenario serves both."""

    def __init__(self, queue: AssistantMessageQueue) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._queue, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(target, *args, **kwargs)

        return call


@pytest.fixture(params=["blocking", "asyncio"])
def make_queue(request: pytest.FixtureRequest) -> Any:
    def make(**options: Any) -> Any:
        if request.param == "blocking":
            return Awaited(AssistantMessageQueue(**options))
        return AsyncAssistantMessageQueue(**options)

    return make


@pytest.fixture
def options(one_redis: RedisServer, prefix: str, provider: StandInProvider) -> dict[str, Any]:
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "message_delay": 0.1,
        "model": "stand-in-model",
    }


def answer(batch: Batch, context: RunContext) -> str:
    """Return the stand-in's default reply, from a function."""
    return "You said: " + " | ".join(str(content) for content in context.contents)


@pytest.fixture(params=["responses", "assistants", "chat_completions", "function"])
def model(request: pytest.FixtureRequest, provider: StandInProvider) -> dict[str, Any]:
    """The same scenario for every backend a user can choose."""
    chosen: dict[str, dict[str, Any]] = {
        "responses": {"model": "stand-in-model"},
        "chat_completions": {"protocol": "chat_completions", "history": 10},
        "assistants": {"model": None, "assistant_id": provider.assistant_id},
        "function": {"model": None, "backend": answer},
    }
    return chosen[request.param]


async def test_the_first_week_of_a_bot(
    make_queue: Any, options: dict[str, Any], model: dict[str, Any]
) -> None:
    queue = make_queue(**{**options, **model}, max_pending=3)
    worker = await queue.start_worker()
    try:
        assert await queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
        await queue.pause("t")
        receipts = await queue.add_messages(
            [
                {
                    "thread_id": "t",
                    "message": f"m{number}",
                    "message_id": f"id-{number}",
                    "author": "Ann",
                }
                for number in range(3)
            ]
        )
        assert [receipt.message_id for receipt in receipts] == ["id-0", "id-1", "id-2"]
        with pytest.raises(ThreadFull, match="max_pending is 3"):
            await queue.add_message_to_thread("t", "too many")
        with pytest.raises(MessageIdConflict, match="id-0"):
            await queue.add_message_to_thread("t", "another text", message_id="id-0")
        assert await queue.cancel("id-1")
        assert not await queue.cancel("id-1")
        assert await queue.edit_message("id-2", "edited")
        assert [one.message_id for one in await queue.get_jobs_by_thread_id("t")] == [
            "id-0",
            "id-2",
        ]
        thread = await queue.get_thread_status("t")
        assert (thread.state, thread.paused, thread.pending_count) == ("pending", True, 2)
        await queue.resume("t")
        assert await queue.wait_for_reply("id-2", 20) == "You said: Ann: m0 | Ann: edited"
        with pytest.raises(MessageCancelled):
            await queue.wait_for_reply("id-1")
        with pytest.raises(MessageNotFound):
            await queue.wait_for_reply("no such message")
        status = await queue.get_queue_status()
        assert (status.completed_count, status.waiting_count, status.delayed_count) == (3, 0, 0)
        await queue.forget_thread("t")
        assert await queue.get_message("id-2") is None
    finally:
        stopped = worker.stop()
        if asyncio.iscoroutine(stopped):
            await stopped
        await queue.close()
        await queue.close()


async def test_a_reply_that_takes_too_long_is_a_timeout_and_the_message_stays(
    make_queue: Any, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    with pytest.raises(TimeoutError, match="stays queued"):
        await queue.ask("t", "nobody works", timeout=0.05)
    assert (await queue.get_thread_status("t")).pending_count == 1
    await queue.close()


async def test_a_closed_queue_connects_again_and_is_closed_once_more(
    make_queue: Any, options: dict[str, Any]
) -> None:
    queue = make_queue(**options)
    for turn in ("first", "second"):
        await queue.start_worker()
        assert await queue.ask("t", turn, timeout=PATIENCE_S) == f"You said: {turn}"
        assert (await queue.list_messages("t"))[0].text == f"You said: {turn}"
        await queue.close()
    assert (await queue.get_queue_status()).completed_count == 2
    assert not (await queue.add_message_to_thread("t", "while the process ends")).duplicate
    await queue.close()
    await queue.close()


async def test_a_second_worker_of_one_object_starts_and_is_warned_of(
    make_queue: Any, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    queue = make_queue(**options)
    first = await queue.start_worker()
    assert "start_worker()" not in caplog.text
    second = await queue.start_worker()
    assert "start_worker() was called with 1 worker(s) of this object running" in caplog.text
    assert (first.is_alive, second.is_alive) == (True, True)
    for worker in (first, second):
        stopped = worker.stop()
        if asyncio.iscoroutine(stopped):
            await stopped
    caplog.clear()
    await queue.start_worker()
    assert "start_worker()" not in caplog.text
    await queue.close()


async def test_each_class_says_when_the_other_one_is_meant(options: dict[str, Any]) -> None:
    blocking = AssistantMessageQueue(**options)
    awaited = AsyncAssistantMessageQueue(**options)
    with pytest.raises(WrongQueueClass, match="AsyncAssistantMessageQueue with `async with`"):
        async with blocking:
            pass
    with pytest.raises(WrongQueueClass, match="`async with`, or AssistantMessageQueue"), awaited:
        pass


async def test_a_blocking_wait_in_a_running_loop_is_warned_of_once(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def warnings() -> list[str]:
        return [
            record.getMessage().split("(")[0]
            for record in caplog.records
            if "running event loop" in record.getMessage()
        ]

    with AssistantMessageQueue(**options) as queue:
        receipt = queue.add_message_to_thread("t", "hello")  # one round trip holds no caller up
        with pytest.raises(TimeoutError):
            queue.wait_for_reply(receipt.message_id, timeout=0)
        assert list(queue.events("t", after="0", timeout=0)) == []
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(queue.wait_for_reply, receipt.message_id, 0.05)
        with monkeypatch.context() as interactive:
            interactive.setattr(sys, "ps1", ">>> ", raising=False)
            with pytest.raises(TimeoutError):
                queue.wait_for_reply(receipt.message_id, timeout=0.05)
        assert warnings() == []
        queue.start_worker()
        for text in ("one", "two"):
            assert str(queue.ask("t", text, timeout=PATIENCE_S)).endswith(text)
            assert list(queue.events("t", timeout=0.05)) == []
        assert warnings() == [
            "AssistantMessageQueue.wait_for_reply",
            "AssistantMessageQueue.events",
        ]


IN_TWO_LOOPS = """
import asyncio, sys
from assistant_queue import AsyncAssistantMessageQueue, ConfigurationError

queue = AsyncAssistantMessageQueue(redis_url=sys.argv[1], queue_prefix=sys.argv[2])
asyncio.run(queue.add_message_to_thread("t", "hello"))
try:
    asyncio.run(queue.add_message_to_thread("t", "hello again"))
except ConfigurationError as error:
    print(error)
asyncio.run(queue.close())
"""


def test_an_asyncio_object_in_a_second_loop_says_so_and_can_be_closed_there(
    options: dict[str, Any],
) -> None:
    # In a separate process: what the first loop has left open is complained of whenever the
    # garbage is collected.
    done = subprocess.run(
        [sys.executable, "-c", IN_TWO_LOOPS, options["redis_url"], options["queue_prefix"]],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert "belongs to the event loop of its first call" in done.stdout
    with AssistantMessageQueue(**options) as other:
        assert other.get_thread_status("t").pending_count == 1


async def test_an_unreachable_redis_is_an_error_within_five_seconds(
    make_queue: Any, options: dict[str, Any]
) -> None:
    queue = make_queue(**{**options, "redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="redis_url"):
        await queue.add_message_to_thread("t", "hello")
    with pytest.raises(StoreUnavailable):
        await queue.start_worker()
    assert (
        time.monotonic() - began < 10
    )  # two calls, five seconds each: a bound of the API, not a measurement
    await queue.close()


async def test_a_worker_without_a_backend_or_a_key_does_not_start(
    make_queue: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ASSISTANT_ID"):
        monkeypatch.delenv(name, raising=False)
    plain = {"redis_url": options["redis_url"], "queue_prefix": options["queue_prefix"]}
    with pytest.raises(ConfigurationError, match="model="):
        await make_queue(**plain).start_worker()
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        await make_queue(**plain, model="m").start_worker()


async def test_a_worker_for_another_queue_is_refused_unless_configured_otherwise(
    make_queue: Any, options: dict[str, Any]
) -> None:
    producer = make_queue(**options)
    await producer.add_message_to_thread("t", "hello")
    other = {**options, "model": "another-model"}
    with pytest.raises(ConfigurationMismatch, match="another-model"):
        await make_queue(**other).start_worker()
    tolerant = make_queue(**other, allow_mismatch=True)
    await tolerant.start_worker()
    await tolerant.close()
    await producer.close()


async def test_keys_of_a_newer_version_are_refused(
    make_queue: Any, options: dict[str, Any], one_redis: RedisServer, prefix: str
) -> None:
    import redis

    with redis.Redis.from_url(one_redis.url) as client:
        client.set(f"{prefix}:format", 99)
    queue = make_queue(**options)
    with pytest.raises(FormatTooNew, match="99"):
        await queue.add_message_to_thread("t", "hello")
    with pytest.raises(FormatTooNew):
        await queue.start_worker()
    await queue.close()


BAD = [
    (("", "text"), {}, "thread_id"),
    (("t" * 513, "text"), {}, "thread_id"),
    ((7, "text"), {}, "thread_id"),
    (("t\ud800", "text"), {}, "surrogate"),
    (("t", ""), {}, "empty"),
    (("t", " \n\t"), {}, "blank"),
    (("t", None), {}, "message"),
    (("t", b"bytes"), {}, "message"),
    (("t", "x" * 256_001), {}, "256,000"),
    (("t", []), {}, "empty list"),
    (("t", [{"text": "no type"}]), {}, "content part 0"),
    (("t", [{"type": "x", "value": object()}]), {}, "JSON"),
    (("t", "text", 7), {}, "instructions"),
    (("t", "text", " "), {}, "instructions"),
    (("t", "text"), {"message_id": ""}, "message_id"),
    (("t", "text"), {"message_id": 7}, "message_id"),
    (("t", "text"), {"author": "two\nlines"}, "author"),
    (("t", "text"), {"author": " "}, "author"),
    (("t", "text"), {"metadata": [("a", "b")]}, "metadata"),
    (("t", "text"), {"metadata": {"a": 1}}, "metadata"),
    (("t", "text"), {"metadata": {"": "b"}}, "metadata"),
    (("t", "text"), {"metadata": {"a": "b" * 513}}, "513"),
    (("t", "text"), {"metadata": {str(number): "" for number in range(15)}}, "14"),
]


@pytest.mark.parametrize(("args", "kwargs", "says"), BAD)
async def test_a_bad_argument_is_a_typed_error_and_nothing_is_queued(
    make_queue: Any,
    options: dict[str, Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    says: str,
) -> None:
    queue = make_queue(**options)
    with pytest.raises(InvalidArgument, match=says):
        await queue.add_message_to_thread(*args, **kwargs)
    status = await queue.get_queue_status()
    assert (status.waiting_count, status.delayed_count) == (0, 0)
    await queue.close()


@pytest.mark.parametrize(
    "thread_id",
    [
        "a:b",
        "zwei Wörter",
        "👩‍👩‍👧 chat",
        "line\nbreak",
        "*?[x]",
        "x" * 512,
        "conv",
        '"quoted"',
        "\x00",
    ],
)
async def test_any_string_is_a_thread_id(
    make_queue: Any, options: dict[str, Any], thread_id: str
) -> None:
    queue = make_queue(**options)
    worker = await queue.start_worker()
    try:
        assert await queue.ask(thread_id, "hello", timeout=PATIENCE_S) == "You said: hello"
    finally:
        stopped = worker.stop()
        if asyncio.iscoroutine(stopped):
            await stopped
        await queue.forget_thread(thread_id)
        await queue.close()


async def test_ten_thousand_cancelled_calls_leave_nothing_half_done_and_mix_up_no_replies(
    options: dict[str, Any],
) -> None:
    queue = AsyncAssistantMessageQueue(**{**options, "message_delay": 3600})
    await queue.add_message_to_thread("warm", "up")

    async def add(number: int) -> str:
        receipt = await queue.add_message_to_thread(
            f"t{number % 100}", f"text {number}", message_id=str(number)
        )
        assert receipt.message_id == str(number)
        return receipt.message_id

    done = 0
    for start in range(0, 10_000, 200):
        tasks = [asyncio.create_task(add(number)) for number in range(start, start + 200)]
        await asyncio.sleep(0)
        for number, task in enumerate(tasks):
            if number % 2:
                task.cancel()
            elif number % 10 == 0:
                await asyncio.sleep(0)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [one for one in results if not isinstance(one, str | asyncio.CancelledError)] == []
        done += sum(isinstance(one, str) for one in results)
    status = await queue.get_queue_status()
    queued = 0
    for number in range(0, 10_000, 7):
        found = await queue.get_message(str(number))
        assert found is None or (found.message_id, found.thread_id) == (
            str(number),
            f"t{number % 100}",
        )
        queued += found is not None
    # A cancelled call may have been carried out or not; one that returned was.
    assert done + 1 <= status.delayed_count <= 10_001
    assert queued > 0
    await queue.close()
