"""Methods of the asyncio class have the whole docstrings of the blocking class."""

from __future__ import annotations

import inspect

import pytest

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue

NAMES = [name for name in dir(AsyncAssistantMessageQueue) if not name.startswith("_")]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "start_worker"])
def test_a_docstring_is_the_one_of_the_blocking_class(name: str) -> None:
    shown = docstring_of(AsyncAssistantMessageQueue, name)
    assert shown == docstring_of(AssistantMessageQueue, name)


def test_starting_a_worker_names_its_thread_or_loop_and_the_same_errors() -> None:
    blocking, asyncio_ = (
        docstring_of(queue, "start_worker")
        for queue in (AssistantMessageQueue, AsyncAssistantMessageQueue)
    )
    assert "thread of this process" in blocking
    assert "event loop" in asyncio_
    assert blocking.split("Raises:")[1] == asyncio_.split("Raises:")[1]


def docstring_of(queue: type, name: str) -> str:
    text = getattr(queue, name).__doc__
    assert text, f"{queue.__name__}.{name} has no docstring"
    return inspect.cleandoc(text)
