"""Hooks are called beside the batches: bounded, contained, in order for each thread."""

from __future__ import annotations

import asyncio
import builtins
import logging
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, InvalidArgument
from assistant_queue.user_code.abandoned import ABANDONED
from assistant_queue.user_code.hooks import HOOK_NAMES, Hook, Hooks, check_hook
from assistant_queue.worker import hook_calls
from assistant_queue.worker.hook_calls import HookCalls
from tests.conftest import PATIENCE_S, until

ODD: list[BaseException] = [
    ValueError("no"),
    SystemExit(3),
    KeyboardInterrupt(),
    asyncio.CancelledError(),
    GeneratorExit(),
]
if hasattr(builtins, "BaseExceptionGroup"):
    ODD.append(builtins.BaseExceptionGroup("odd", [KeyboardInterrupt()]))


@pytest.fixture
async def calls() -> AsyncIterator[HookCalls]:
    made = HookCalls()
    yield made
    await made.close()


@pytest.fixture
def let_go() -> Any:
    """Release what hangs at the end of a test."""
    event = threading.Event()
    yield event
    event.set()
    for _ in range(1000):
        if ABANDONED.count == 0:
            return
        threading.Event().wait(0.01)
    raise AssertionError("a call never ended")


def emit(
    calls: HookCalls,
    function: Callable[[Any], Any],
    value: Any = None,
    thread: str = "t",
    limit_s: float = PATIENCE_S,
) -> None:
    hook = Hook(function, f"tests.{getattr(function, '__name__', 'f')}")
    calls.emit("completed", (hook,), value, thread, "b", limit_s)


async def test_events_of_a_thread_are_seen_in_order_by_several_functions(calls: HookCalls) -> None:
    seen: list[Any] = []

    def first(value: int) -> None:
        seen.append(("first", value))

    async def second(value: int) -> None:
        await asyncio.sleep(0)
        seen.append(("second", value))

    hooks = (Hook(first, "first"), Hook(second, "second"))
    for number in range(5):
        calls.emit("completed", hooks, number, "t", "b", PATIENCE_S)
    await calls.drain(PATIENCE_S)
    assert seen == [(name, number) for number in range(5) for name in ("first", "second")]
    assert calls._lines == {}


async def test_an_event_costs_its_batch_no_turn_of_the_loop_and_other_threads_do_not_wait(
    calls: HookCalls,
) -> None:
    let_go = asyncio.Event()
    seen: list[str] = []

    async def waits(thread: str) -> None:
        if thread == "slow":
            await let_go.wait()
        seen.append(thread)

    for thread in ("slow", "slow", "quick"):
        emit(calls, waits, thread, thread)
    assert seen == []
    await until(lambda: seen == ["quick"])
    let_go.set()
    await calls.drain(PATIENCE_S)
    assert seen == ["quick", "slow", "slow"]


@pytest.mark.parametrize("way", ["sync", "async"])
async def test_whatever_a_hook_raises_is_logged_once_for_each_kind_and_changes_nothing(
    calls: HookCalls, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    seen: list[BaseException] = []

    def raises(error: BaseException) -> None:
        seen.append(error)
        raise error

    async def araises(error: BaseException) -> None:
        raises(error)

    for error in [*ODD, *ODD]:
        emit(calls, raises if way == "sync" else araises, error)
    await calls.drain(PATIENCE_S)
    assert seen == [*ODD, *ODD]
    lines = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert len(lines) == len(ODD)
    assert all("thread 't', batch b: the hook 'completed', tests." in line for line in lines)
    assert [type(error).__name__ in line for error, line in zip(ODD, lines, strict=True)] == [
        True
    ] * len(ODD)


async def test_a_hook_that_awaits_for_ever_is_ended_and_the_next_event_is_seen(
    calls: HookCalls, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []

    async def hangs(value: int) -> None:
        seen.append(value)
        await asyncio.get_running_loop().create_future()

    for number in range(3):
        emit(calls, hangs, number, limit_s=0.01)
    await calls.drain(PATIENCE_S)
    assert seen == [0, 1, 2]
    (line,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "tests.hangs, did not return within 0.01 s; it was ended" in line
    assert ABANDONED.count == 0


async def test_a_sync_hook_that_never_returns_is_soon_not_called_any_more(
    calls: HookCalls,
    let_go: threading.Event,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, "assistant_queue.worker.hook_calls")
    monkeypatch.setattr(hook_calls, "CALLS_AT_ONCE", 2)
    monkeypatch.setattr(hook_calls, "MOST_HANGING", 3)
    began: list[int] = []
    others: list[int] = []

    def hangs(value: int) -> None:
        began.append(value)
        let_go.wait(PATIENCE_S)

    for number in range(40):
        emit(calls, hangs, number, f"t{number}", limit_s=0.01)
        emit(calls, others.append, number, f"other {number}")
    await calls.drain(PATIENCE_S)
    assert sorted(others) == list(range(40))
    assert 3 <= len(began) <= 4, "those that ran together when the bound was reached"
    lines = [one.getMessage() for one in caplog.records if "hook" in one.getMessage()]
    warned = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert sum("is not called: 3 abandoned calls" in line for line in lines) >= 30
    assert sum("the hook" in one.getMessage() for one in warned) == 2
    let_go.set()
    await until(lambda: ABANDONED.count == 0)
    emit(calls, hangs, 99)
    await calls.drain(PATIENCE_S)
    assert began[-1] == 99, "called again once its calls have ended"


async def test_a_function_is_called_a_bounded_number_of_times_at_once(
    calls: HookCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_calls, "CALLS_AT_ONCE", 3)
    running = most = 0
    together = asyncio.Barrier(3)

    async def counts(_: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await together.wait()  # until as many run as may
        running -= 1

    for number in range(30):
        emit(calls, counts, number, f"t{number}")
    await calls.drain(PATIENCE_S)
    assert most == 3


async def test_events_that_no_hook_catches_up_with_are_dropped_and_that_is_logged_once(
    calls: HookCalls, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hook_calls, "MOST_WAITING", 5)
    seen: list[int] = []

    async def sees(value: int) -> None:
        seen.append(value)

    for number in range(9):
        emit(calls, sees, number)
    await calls.drain(PATIENCE_S)
    assert seen == [0, 1, 2, 3, 4]
    (line,) = [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]
    assert "5 events wait for the calls of hooks" in line
    emit(calls, sees, 10)
    await calls.drain(PATIENCE_S)
    assert seen[-1] == 10


async def test_the_end_of_a_worker_waits_for_calls_and_cuts_off_what_takes_longer(
    let_go: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    calls = HookCalls()
    seen: list[int] = []

    later = asyncio.Event()

    async def sees(value: int) -> None:
        await later.wait()
        seen.append(value)

    for number in range(3):
        emit(calls, sees, number)
    asyncio.get_running_loop().call_soon(later.set)
    await calls.drain(PATIENCE_S)
    assert seen == [0, 1, 2]
    emit(calls, lambda _: let_go.wait(PATIENCE_S))
    emit(calls, sees, 3)
    await calls.drain(0.01)
    assert len(calls._tasks) == 1
    await calls.close()
    assert seen == [0, 1, 2]
    assert "2 event(s) of hooks are dropped, or their calls cut off" in caplog.text
    assert not calls._tasks


async def test_a_listener_of_the_callers_loop_is_called_on_it(calls: HookCalls) -> None:
    threads: list[threading.Thread] = []

    def sees(_: Any) -> None:
        threads.append(threading.current_thread())

    calls.emit("completed", (Hook(sees, "sees", on_loop=True),), 1, "t", "b", PATIENCE_S)
    calls.emit("completed", (Hook(sees, "sees"),), 2, "t", "b", PATIENCE_S)
    await calls.drain(PATIENCE_S)
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threading.current_thread()


# --- registration ---------------------------------------------------------------------------------


def generates(_: Any) -> Any:
    yield 1


async def agenerates(_: Any) -> Any:
    yield 1


@pytest.mark.parametrize(
    ("name", "function", "says"),
    [
        ("finished", print, "expected one of 'started', 'completed'"),
        (7, print, "Invalid hook 7"),
        (["completed"], print, "Invalid hook"),
        ("completed", "print", "expected a function of one argument, not str"),
        ("completed", lambda: None, "called with one argument"),
        ("completed", lambda _, __: None, "called with one argument"),
        ("completed", generates, "is a generator"),
        ("completed", agenerates, "is a generator"),
    ],
)
def test_what_cannot_be_a_hook_is_refused_at_once(name: Any, function: Any, says: str) -> None:
    with AssistantMessageQueue() as queue:
        with pytest.raises(InvalidArgument, match=says):
            queue.on(name, function)
        assert all(not queue.config.hooks.of(one) for one in HOOK_NAMES)


def test_an_unknown_name_is_refused_before_the_function_is_decorated() -> None:
    with AssistantMessageQueue() as queue, pytest.raises(InvalidArgument):
        queue.on("finished")  # type: ignore[call-overload]


def test_every_name_takes_functions_of_any_kind_and_gives_them_back() -> None:
    class Callback:
        def __call__(self, value: Any) -> None: ...

        async def method(self, value: Any) -> None: ...

    functions = [print, Callback(), Callback().method, partial(max, 1), lambda *_: None]
    with AssistantMessageQueue() as queue:
        for name in HOOK_NAMES:
            for function in functions:
                assert queue.on(name, function) is function
                assert queue.on(name)(function) is function
            assert [hook.function for hook in queue.config.hooks.of(name)] == [
                function for function in functions for _ in range(2)
            ]
        copied = queue.config.model_copy(update={"queue_prefix": "other"})
        assert copied.hooks is queue.config.hooks


def test_hooks_are_called_in_the_order_of_their_registration() -> None:
    hooks = Hooks()
    for function in (print, repr, str):
        hooks.add("failed", check_hook("failed", function))
    assert [hook.function for hook in hooks.of("failed")] == [print, repr, str]
    assert hooks.of("completed") == ()
