"""User code that hangs, raises odd exceptions, or cancels itself.

It costs its own batch, and no other thread waits for it.
"""

from __future__ import annotations

import asyncio
import builtins
import logging
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    RunResult,
    ToolContext,
    Undeliverable,
)
from assistant_queue.backends.function.backend import FunctionBackend
from assistant_queue.core import delivery
from assistant_queue.core.runs import RunAccepted, RunEnded, RunEvent, RunRequest
from assistant_queue.errors import RunFailed
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.user_code.call_threads import THREAD_NAME
from assistant_queue.worker import loop_monitor
from assistant_queue.worker.driver import MIN_HAND_BACK_S
from assistant_queue.worker.hook_calls import HookCalls
from assistant_queue.worker.runtime import Runtime
from tests.conftest import PATIENCE_S, RedisServer, with_clock
from tests.integration.conftest import wait_until

SLOTS = 5
"""Runs at once in one worker; two workers are started."""


async def answer(batch: Batch) -> str:
    return f"re {batch.messages[0].text}"


class Hanging:
    """A function that hangs for texts with the word, in one of several ways, until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.calls: Counter[str] = Counter()
        self.begun = threading.Semaphore(0)

    def begins(self, text: str) -> bool:
        self.calls[text] += 1
        if "hang" in text:
            self.begun.release()
        return "hang" in text

    def sync(self, text: str) -> None:
        if self.begins(text):
            self.let_go.wait(PATIENCE_S)

    async def swallowing(self, text: str) -> None:
        """Lets no cancellation through."""
        hangs = self.begins(text)
        while hangs and not self.let_go.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    async def plain(self, text: str) -> None:
        if self.begins(text):
            await asyncio.get_running_loop().create_future()

    async def result(self, result: RunResult) -> None:
        await self.plain(str(result.reply))

    def as_callback(self, way: str) -> Callable[..., Any]:
        """An `on_reply` that hangs for the replies to texts that say so."""
        if way == "sync":

            def on_reply_sync(result: RunResult) -> None:
                self.sync(str(result.reply))

            return on_reply_sync

        async def on_reply(result: RunResult) -> None:
            await getattr(self, way)(str(result.reply))

        return on_reply

    def wait_begun(self, count: int) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE_S)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    made = Hanging()
    yield made
    made.let_go.set()
    wait_until(lambda: ABANDONED.count == 0, "the abandoned calls end")


@pytest.fixture
def options(one_redis: RedisServer, prefix: str) -> dict[str, Any]:
    return {
        "redis_url": one_redis.url,
        "queue_prefix": prefix,
        "message_delay": 0,
        "concurrency": SLOTS,
        "callback_timeout": 0.3,
        "backoff": {"type": "fixed", "delay": 0.1},
    }


def ask_healthy(queue: AssistantMessageQueue, count: int = 2 * SLOTS) -> None:
    """As many threads as the workers have slots are answered."""
    receipts = [
        queue.add_message_to_thread(f"healthy {number}", f"hello {number}")
        for number in range(count)
    ]
    for number, receipt in enumerate(receipts):
        assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == f"re hello {number}"


def add_hanging(queue: AssistantMessageQueue, count: int = 2 * SLOTS) -> list[str]:
    """As many threads as the workers have slots, each of which hangs one; their ids."""
    return [
        queue.add_message_to_thread(f"hung {number}", f"hang {number}").thread_id
        for number in range(count)
    ]


# --- hanging --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["sync", "swallowing"])
def test_deliveries_that_hang_in_every_slot_stop_no_other_thread_and_are_made_once(
    options: dict[str, Any],
    hanging: Hanging,
    way: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "MIN_OPEN_WAIT_S", 0.05)
    caplog.set_level(logging.INFO, "assistant_queue.worker")

    def said(words: str) -> list[str]:
        return [
            record.getMessage() for record in list(caplog.records) if words in record.getMessage()
        ]

    with AssistantMessageQueue(
        **options, backend=answer, on_reply=hanging.as_callback(way)
    ) as queue:
        workers = [queue.start_worker(), queue.start_worker()]
        threads = add_hanging(queue)
        hanging.wait_begun(len(threads))
        ask_healthy(queue)
        wait_until(
            lambda: all(
                any(repr(name) in line for line in said("an earlier call for this reply"))
                for name in threads
            ),
            "looked at again",
        )
        assert sum(workers[0].abandoned_calls.values()) == len(threads)
        hanging.let_go.set()
        wait_until(
            lambda: all(not queue.get_thread_status(name).delivering_count for name in threads),
            "each has been delivered",
        )
        assert all(worker.is_alive for worker in workers)
        wait_until(
            lambda: len(hanging.calls) == len(threads) + 2 * SLOTS,
            "the healthy ones have been delivered, too",
        )
    assert set(hanging.calls.values()) == {1}, "a call that returned after all was the delivery"
    warnings = said("did not return within 0.3 s; it is still running and is abandoned")
    assert len(warnings) == len(threads)
    assert all("on_reply" in one and "thread 'hung " in one and "batch " in one for one in warnings)


def test_a_delivery_that_can_be_cancelled_is_cancelled_and_made_again(
    options: dict[str, Any], hanging: Hanging
) -> None:
    with AssistantMessageQueue(
        **{**options, "callback_timeout": 0.05},
        backend=answer,
        on_reply=hanging.result,
        delivery_attempts=2,
    ) as queue:
        queue.start_worker()
        add_hanging(queue, 1)
        hanging.wait_begun(2)
        wait_until(lambda: queue.get_queue_status().undelivered_count == 1, "it is given up")
        assert hanging.calls["re hang 0"] == 2
        assert ABANDONED.count == 0


def test_a_delivery_that_raises_after_it_was_abandoned_is_made_again(
    options: dict[str, Any], hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "MIN_OPEN_WAIT_S", 0.05)

    def on_reply(result: RunResult) -> None:
        is_first = not hanging.calls
        hanging.sync(str(result.reply))
        if is_first:
            raise SystemExit(7)

    with AssistantMessageQueue(**options, backend=answer, on_reply=on_reply) as queue:
        queue.start_worker()
        (thread,) = add_hanging(queue, 1)
        hanging.wait_begun(1)
        wait_until(lambda: queue.get_thread_status(thread).delivery_error, "it is abandoned")
        hanging.let_go.set()
        wait_until(lambda: not queue.get_thread_status(thread).delivering_count, "it is delivered")
    assert hanging.calls["re hang 0"] == 2


def test_a_coroutine_that_lets_no_cancellation_through_keeps_no_worker_from_stopping(
    options: dict[str, Any], hanging: Hanging
) -> None:
    with AssistantMessageQueue(
        **options, backend=answer, on_reply=hanging.as_callback("swallowing")
    ) as queue:
        worker = queue.start_worker()
        add_hanging(queue, 1)
        hanging.wait_begun(1)
        worker.stop(timeout=0)
        assert not worker.is_alive
        assert worker.abandoned_calls == {}, "its loop is closed: it does not go on"


@pytest.mark.parametrize("way", ["sync", "swallowing"])
def test_function_backends_that_hang_in_every_slot_stop_no_other_thread(
    options: dict[str, Any], hanging: Hanging, way: str
) -> None:
    def on_thread(batch: Batch) -> str:
        hanging.sync(batch.messages[0].text)
        return f"re {batch.messages[0].text}"

    async def on_loop(batch: Batch) -> str:
        await hanging.swallowing(batch.messages[0].text)
        return await answer(batch)

    function = on_thread if way == "sync" else on_loop
    with AssistantMessageQueue(
        **options, backend=function, run_timeout=0.5, max_attempts=1
    ) as queue:
        queue.start_worker()
        worker = queue.start_worker()
        threads = add_hanging(queue)
        hanging.wait_begun(len(threads))
        ask_healthy(queue)
        failed = wait_until(
            lambda: len(queue.list_failed()) == len(threads) and queue.list_failed(),
            "each is given up",
        )
        assert {one.reason for one in failed} == {"attempts"}
        assert sum(worker.abandoned_calls.values()) == len(threads)


class OwnBackend(FunctionBackend):
    """A `Backend` of the user's: its streams and its other calls let no cancellation through."""

    def __init__(self, hanging: Hanging, where: str) -> None:
        super().__init__(answer, name="own")
        self._hanging = hanging
        self._where = where

    async def start(self, request: RunRequest) -> AsyncIterator[RunEvent]:
        text = request.batch.messages[0].text
        if self._where == "before the run":
            await self._hanging.swallowing(text)
        yield RunAccepted(run_id=request.batch.id)
        if self._where == "in the run":
            await self._hanging.swallowing(text)
        yield RunEnded(run_id=request.batch.id, status="completed", replies=(f"re {text}",))

    async def open_conversation(self, thread_id: str) -> str:
        if self._where == "before the batch":
            await self._hanging.swallowing(thread_id.replace("hung", "hang"))
        return thread_id


@pytest.mark.parametrize("where", ["before the batch", "before the run", "in the run"])
def test_own_backends_that_hang_in_every_slot_stop_no_other_thread(
    options: dict[str, Any], hanging: Hanging, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    backend = OwnBackend(hanging, where)
    backend.capabilities = replace(backend.capabilities, conversations=where == "before the batch")
    with AssistantMessageQueue(**options, backend=backend, run_timeout=0.5) as queue:
        worker = queue.start_worker()
        threads = add_hanging(queue, SLOTS)
        hanging.wait_begun(len(threads))
        ask_healthy(queue, SLOTS)
        wait_until(
            lambda: worker.abandoned_calls.get("own", 0) >= len(threads), "each is abandoned"
        )
    assert "a call of own was abandoned and is still running" in caplog.text


@pytest.mark.parametrize("option", ["default_instructions", "fallback_reply"])
def test_other_callbacks_that_hang_in_every_slot_stop_no_other_thread(
    options: dict[str, Any], hanging: Hanging, option: str
) -> None:
    def called(batch: Batch, *_: Any) -> str:
        hanging.sync(batch.messages[0].text)
        return "Sorry."

    async def fails_or_answers(batch: Batch) -> str:
        if option == "fallback_reply" and "hang" in batch.messages[0].text:
            raise RunFailed("no")
        return await answer(batch)

    with AssistantMessageQueue(
        **options, backend=fails_or_answers, max_attempts=1, **{option: called}
    ) as queue:
        queue.start_worker()
        queue.start_worker()
        threads = add_hanging(queue)
        hanging.wait_begun(len(threads))
        ask_healthy(queue)
        failed = wait_until(
            lambda: len(queue.list_failed()) == len(threads) and queue.list_failed(),
            "each is given up",
        )
        assert {one.reason for one in failed} == {"attempts"}
        if option == "default_instructions":
            assert all("did not return within 0.3 s" in one.error.message for one in failed)


@pytest.mark.parametrize("event", ["completed", "failed"])
def test_listeners_that_hang_in_every_slot_stop_no_other_thread(
    options: dict[str, Any], hanging: Hanging, event: str
) -> None:
    async def fails_or_answers(batch: Batch) -> str:
        if event == "failed" and "hang" in batch.messages[0].text:
            raise RunFailed("no")
        return await answer(batch)

    def listener(seen: Any, *_: Any) -> None:
        hanging.sync(seen.thread_id.replace("hung", "hang"))

    with AssistantMessageQueue(**options, backend=fails_or_answers, max_attempts=1) as queue:
        for worker in (queue.start_worker(), queue.start_worker()):
            worker.on(event, listener)
        threads = add_hanging(queue)
        hanging.wait_begun(len(threads))
        ask_healthy(queue)


HOOKS = ["started", "completed", "failed", "retrying", "delivered", "undelivered"]


def hooked_options(name: str) -> dict[str, Any]:
    """Options with which the hook of that name is called for texts that hang."""

    async def fails_or_answers(batch: Batch) -> str:
        if name in {"failed", "retrying"} and "hang" in batch.text:
            raise RunFailed("no")
        return await answer(batch)

    def on_reply(result: RunResult) -> None:
        if name == "undelivered" and "hang" in str(result.reply):
            raise Undeliverable("no such chat")

    return {
        "backend": fails_or_answers,
        "max_attempts": 2 if name == "retrying" else 1,
        "on_reply": on_reply,
    }


@pytest.mark.parametrize("name", HOOKS)
@pytest.mark.parametrize("way", ["sync", "swallowing", "plain"])
def test_hooks_that_hang_hold_no_slot_and_delay_no_batch_of_any_thread(
    options: dict[str, Any], hanging: Hanging, name: str, way: str
) -> None:
    def sync(value: Any) -> None:
        hanging.sync(value.thread_id.replace("hung", "hang"))

    async def on_loop(value: Any) -> None:
        await getattr(hanging, way)(value.thread_id.replace("hung", "hang"))

    # Longer than the test may take: a batch that waits for a hook fails it.
    slow = {**options, "callback_timeout": 2 * PATIENCE_S, **hooked_options(name)}
    with AssistantMessageQueue(**slow) as queue:
        queue.on(name, sync if way == "sync" else on_loop)
        worker = queue.start_worker()
        threads = add_hanging(queue)
        hanging.wait_begun(len(threads))
        ask_healthy(queue)
        receipts = [queue.add_message_to_thread(name, "hang again") for name in threads]
        states = {"completed", "failed"}
        wait_until(
            lambda: all(queue.get_message(one.message_id).status in states for one in receipts),
            "the same threads are answered, too",
        )
        worker.stop(timeout=0.01)
        hanging.let_go.set()


@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_worker_that_stops_gives_the_calls_of_its_hooks_their_time(
    options: dict[str, Any], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    began, let_go = threading.Event(), threading.Event()
    drain = HookCalls.drain

    async def drained(calls: HookCalls, timeout_s: float) -> None:
        let_go.set()  # not before: the worker has to wait for it here
        await drain(calls, timeout_s)

    monkeypatch.setattr(HookCalls, "drain", drained)

    def sync(result: RunResult) -> None:
        began.set()
        assert let_go.wait(PATIENCE_S)
        seen.append(result.thread_id)

    async def on_loop(result: RunResult) -> None:
        await asyncio.to_thread(sync, result)

    with AssistantMessageQueue(
        **{**options, "callback_timeout": PATIENCE_S}, backend=answer
    ) as queue:
        queue.on("completed", sync if way == "sync" else on_loop)
        worker = queue.start_worker()
        queue.ask("t", "hello", timeout=PATIENCE_S)
        assert began.wait(PATIENCE_S)
        worker.stop(timeout=PATIENCE_S)
        assert seen == ["t"]
        let_go.set()


def test_tools_that_hang_keep_no_thread_from_the_tools_of_others(
    one_redis: RedisServer, options: dict[str, Any], hanging: Hanging
) -> None:
    del one_redis

    def model(turn: Turn) -> Any:
        text = turn.user_texts[-1]
        if turn.round:
            return Reply(f"re {text}")
        return ToolCalls([("work", {"text": text})] * (4 if "hang" in text else 1))

    with StandInProvider(model, latency=0) as provider:
        provided = {
            "openai_api_key": provider.api_key,
            "openai_base_url": provider.base_url,
            "model": "stand-in-model",
        }
        with AssistantMessageQueue(**{**options, **provided, "concurrency": 2}) as queue:

            @queue.tool
            def work(text: str) -> str:
                hanging.sync(text)
                return "done"

            queue.start_worker()
            (thread,) = add_hanging(queue, 1)
            hanging.wait_begun(4)
            ask_healthy(queue, 4)
            assert queue.list_failed() == []
            hanging.let_go.set()
            wait_until(
                lambda: queue.get_thread_status(thread).state == "idle", "it is answered, too"
            )


@pytest.mark.parametrize("way", ["blocking", "awaiting"])
def test_an_async_function_that_blocks_the_event_loop_is_named(
    options: dict[str, Any],
    way: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loop_monitor, "BEAT_S", 0.01)
    monkeypatch.setattr(loop_monitor, "BLOCKED_S", 0.3)

    async def on_reply(result: RunResult) -> None:
        if way == "blocking":
            time.sleep(1.0)  # noqa: ASYNC251 - the mistake
        else:
            await asyncio.sleep(1.0)

    with AssistantMessageQueue(
        **{**options, "callback_timeout": PATIENCE_S}, backend=answer, on_reply=on_reply
    ) as queue:
        queue.start_worker()
        for thread in ("one", "two"):
            queue.add_message_to_thread(thread, "hello")
        for thread in ("one", "two"):
            wait_until(
                lambda name=thread: queue.get_thread_status(name).state == "idle", "it is delivered"
            )
    lines = [one for one in caplog.messages if "blocks the event loop for more than 0.3 s" in one]
    assert len(lines) == (way == "blocking"), "once for a function"
    assert all("is_named.<locals>.on_reply blocks" in one for one in lines)


# --- raising what must not be raised --------------------------------------------------------------

ODD: dict[str, BaseException] = {
    "exit": SystemExit(3),
    "interrupt": KeyboardInterrupt(),
    "cancelled": asyncio.CancelledError(),
    "generator exit": GeneratorExit(),
}
"""Exceptions that user code may raise without a reason to stop; by the thread in which it does."""
if hasattr(builtins, "BaseExceptionGroup"):
    ODD["group"] = builtins.BaseExceptionGroup("odd", [KeyboardInterrupt()])


def raising(way: str, calls: Counter[str], name: str) -> Callable[..., Any]:
    """Return a function that raises the exception of its thread, of one of four kinds."""

    def fail(about: Any, *_: Any) -> Any:
        thread_id = about if isinstance(about, str) else about.thread_id
        calls[f"{name} {thread_id}"] += 1
        if thread_id in ODD:
            raise ODD[thread_id]

    async def afail(about: Any, *_: Any) -> Any:
        fail(about)

    def stream(about: Any) -> Iterator[str]:
        yield "half "
        fail(about)

    async def astream(about: Any) -> AsyncIterator[str]:
        yield "half "
        fail(about)

    return {"sync": fail, "async": afail, "generator": stream, "async generator": astream}[way]


def times(name: str, count: int) -> dict[str, int]:
    """A function is called so often for each thread."""
    return {f"{name} {thread_id}": count for thread_id in ODD}


@pytest.mark.parametrize("way", ["sync", "async"])
def test_whatever_a_callback_raises_the_worker_lives_and_calls_it_no_more_than_it_should(
    options: dict[str, Any], way: str
) -> None:
    calls: Counter[str] = Counter()
    functions = {
        name: raising(way, calls, name)
        for name in ("on_reply", "default_instructions", "fallback_reply")
    }
    with AssistantMessageQueue(**options, backend=answer, max_attempts=2, **functions) as queue:
        worker = queue.start_worker()
        for event in ("completed", "failed"):
            worker.on(event, raising(way, calls, event))
        for hook in HOOKS:
            queue.on(hook, raising(way, calls, f"hook {hook}"))
        for name in ODD:
            queue.add_message_to_thread(name, "hello")
        failed = wait_until(
            lambda: len(queue.list_failed()) == len(ODD) and queue.list_failed(),
            "the instructions fail twice",
        )
        assert all(
            f"fail raised {type(ODD[one.thread_id]).__name__}" in one.error.message
            for one in failed
        )
        for name in ODD:
            told = queue.add_message_to_thread(name, "hello", "Be kind.")
            assert queue.wait_for_reply(told.message_id, PATIENCE_S) == "re hello"
        expected = (
            times("default_instructions", 2)
            | times("fallback_reply", 1)
            | times("failed", 1)
            | times("on_reply", 2)
        )
        expected |= times("completed", 1)
        expected |= times("hook started", 3) | times("hook retrying", 1) | times("hook failed", 1)
        expected |= times("hook completed", 1)
        wait_until(
            lambda: sum(calls.values()) >= sum(expected.values()),
            "the deliveries fail twice, the listeners once",
        )
        assert calls == expected
        assert worker.is_alive


@pytest.mark.parametrize("way", ["sync", "async", "generator", "async generator"])
def test_whatever_a_function_backend_raises_is_a_failed_run(
    options: dict[str, Any], way: str
) -> None:
    calls: Counter[str] = Counter()
    with AssistantMessageQueue(
        **options, backend=raising(way, calls, "backend"), max_attempts=2
    ) as queue:
        worker = queue.start_worker()
        for name in ODD:
            queue.add_message_to_thread(name, "hello")
        failed = wait_until(
            lambda: len(queue.list_failed()) == len(ODD) and queue.list_failed(), "each fails twice"
        )
        assert {one.reason for one in failed} == {"attempts"}
        assert calls == times("backend", 2)
        assert worker.is_alive


def test_whatever_tools_raise_they_are_called_once_a_round_and_the_model_hears_of_it(
    options: dict[str, Any],
) -> None:
    calls: Counter[str] = Counter()
    names = ["sync", "async", "handler"]

    def model(turn: Turn) -> Any:
        if turn.round:
            return Reply(" | ".join(output.output for output in turn.tool_outputs))
        return ToolCalls([(name, {}) for name in names])

    handled = {
        "type": "function",
        "name": "handler",
        "parameters": {"type": "object", "properties": {}},
    }
    with StandInProvider(model, latency=0) as provider:
        provided = {
            "openai_api_key": provider.api_key,
            "openai_base_url": provider.base_url,
            "model": "stand-in-model",
            "tools": [handled],
        }
        handler = raising("async", calls, "handler")
        with AssistantMessageQueue(**options, **provided, handle_requires_action=handler) as queue:

            @queue.tool(name="sync")
            def sync_tool(context: ToolContext) -> None:
                raising("sync", calls, "sync")(context)

            @queue.tool(name="async")
            async def async_tool(context: ToolContext) -> None:
                await raising("async", calls, "async")(context)

            worker = queue.start_worker()
            for name in ODD:
                assert queue.ask(name, "go", timeout=PATIENCE_S) == " | ".join(
                    ['{"error": "the function failed"}'] * 3
                )
            assert calls == times("sync", 1) | times("async", 1) | times("handler", 1)
            assert worker.is_alive


# --- where listeners are called -------------------------------------------------------------------


async def test_sync_listeners_are_called_on_a_thread_and_on_the_callers_own_loop(
    options: dict[str, Any],
) -> None:
    heard: list[str] = []
    has_heard = asyncio.Event()

    def hears(_: Any) -> None:
        heard.append(threading.current_thread().name)

    def sets(_: Any) -> None:
        has_heard.set()

    async with AsyncAssistantMessageQueue(**options, backend=answer) as queue:
        worker = await queue.start_worker()
        worker.on("completed", hears).on("completed", sets)
        await queue.add_message_to_thread("t", "hello")
        await asyncio.wait_for(has_heard.wait(), PATIENCE_S)
        assert worker.abandoned_calls == {}
    with AssistantMessageQueue(**options, backend=answer) as blocking:
        blocking.start_worker().on("completed", hears)
        await asyncio.to_thread(blocking.ask, "t", "hello")
        await asyncio.to_thread(wait_until, lambda: len(heard) == 2, "it is heard")
    assert heard == [threading.main_thread().name, THREAD_NAME]


# --- handed back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stopping", [False, True])
async def test_a_worker_that_continues_takes_what_it_handed_back_after_a_back_off(
    options: dict[str, Any], is_stopping: bool
) -> None:
    async def is_cancelled(name: str, _: Batch) -> None:
        if name == "before Start":
            raise asyncio.CancelledError

    clock = FakeClock()
    async with with_clock(AsyncAssistantMessageQueue(**options, backend=answer), clock) as queue:
        await queue.add_message_to_thread("t", "hello")
        runtime = Runtime(queue.config, clock=clock)
        runtime.watch_steps(is_cancelled)
        runtime.is_stopping = is_stopping
        try:
            with pytest.raises(asyncio.CancelledError):
                await runtime.handle("t")
            status = await queue.get_thread_status("t")
            now = datetime.fromtimestamp(clock.ms / 1000, UTC)
            assert (status.state, status.due_at) == (
                "held",
                now if is_stopping else now + timedelta(seconds=MIN_HAND_BACK_S),
            )
        finally:
            await runtime.close()
