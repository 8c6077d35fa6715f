"""Threads for calls that may never return."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from assistant_queue.user_code.abandoned import Abandoned
from assistant_queue.user_code.call_threads import CallThreads
from assistant_queue.user_code.running_calls import ThreadCall
from tests.conftest import PATIENCE_S


@pytest.fixture
def let_go() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def made(threads: CallThreads, function: Any) -> ThreadCall:
    call = ThreadCall(function, "f")
    threads.submit(call)
    return call


def value_of(call: ThreadCall) -> Any:
    outcome = call.wait(PATIENCE_S)
    assert outcome is not None
    return outcome.value


def hung(threads: CallThreads, let_go: threading.Event) -> ThreadCall:
    begun = threading.Event()

    def hang() -> str:
        begun.set()
        let_go.wait(PATIENCE_S)
        return "late"

    call = made(threads, hang)
    assert begun.wait(PATIENCE_S)
    return call


def test_an_idle_thread_is_used_again() -> None:
    threads = CallThreads(5)
    names = {value_of(made(threads, threading.get_ident)) for _ in range(3)}
    threads.close()
    assert len(names) <= 2, "a thread is idle a moment after its call has ended"


def test_calls_beyond_the_most_wait_and_an_abandoned_one_is_replaced_at_once(
    let_go: threading.Event,
) -> None:
    threads = CallThreads(1)
    first = hung(threads, let_go)
    second = ThreadCall(lambda: "in time", "f")
    assert threads.submit(second) is False, "it waits"
    assert threads.abandon(first) is True
    assert value_of(second) == "in time"
    assert threads.abandon(first) is False, "once"
    assert first.outcome is None
    let_go.set()
    assert value_of(first) == "late"


def test_a_call_that_has_not_begun_is_never_made(let_go: threading.Event) -> None:
    threads = CallThreads(1)
    first = hung(threads, let_go)
    calls = []
    second = made(threads, lambda: calls.append("second"))
    assert threads.abandon(second) is False
    third = made(threads, lambda: calls.append("third"))
    let_go.set()
    assert third.wait(PATIENCE_S) is not None
    assert (calls, value_of(first)) == (["third"], "late")


@pytest.mark.parametrize(
    "error",
    [ValueError("x"), SystemExit(3), KeyboardInterrupt(), GeneratorExit(), StopIteration(1)],
    ids=repr,
)
def test_whatever_is_raised_is_an_outcome_and_the_thread_continues(error: BaseException) -> None:
    def fail() -> None:
        raise error

    threads = CallThreads(1)
    outcome = made(threads, fail).wait(PATIENCE_S)
    assert outcome is not None
    assert outcome.error is error
    assert value_of(made(threads, lambda: "next")) == "next"
    threads.close()


def test_a_forked_process_has_its_own_threads(let_go: threading.Event) -> None:
    threads = CallThreads(1)
    assert value_of(made(threads, lambda: "before")) == "before"
    hung(threads, let_go)
    pid = os.fork()
    if not pid:  # the child: the parent's thread, and its locks, are not here
        os._exit(0 if value_of(made(threads, lambda: "after")) == "after" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_no_thread_to_be_had_is_an_error_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="the operating system's limit"):
        CallThreads(5).submit(ThreadCall(int, "f"))


def test_abandoned_calls_are_counted_by_function_and_reported_from_the_bound_on() -> None:
    ledger = Abandoned(most=2)
    told = []

    def watcher() -> None:
        told.append("many")

    ledger.watch(watcher)
    ledger.add("a")
    assert told == []
    ledger.add("b")
    ledger.add("b")
    assert (ledger.count, ledger.by_function, told) == (3, {"a": 1, "b": 2}, ["many", "many"])
    ledger.unwatch(watcher)
    ledger.remove("b")
    ledger.remove("c")  # it ended before it was known to be abandoned
    ledger.add("c")
    assert (ledger.count, ledger.by_function) == (2, {"a": 1, "b": 1})
