"""Calling a user's function with a batch: what it takes, and where it runs."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
import typing
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from assistant_queue.abandoned import ABANDONED
from assistant_queue.call_threads import Outcome, contained
from assistant_queue.errors import ConfigurationError, RunFailed
from assistant_queue.models import Content
from assistant_queue.user_errors import said

CANCEL_PATIENCE_S = 1.0
"""How long a coroutine may take to end once it is cancelled. Chosen: enough for a `finally` that closes a connection."""
MAX_HISTORY = 1000
"""Texts of a thread that the queue remembers at most. Chosen: it is written with each batch."""


@dataclass(frozen=True, slots=True)
class Said:
    """Something said in a thread before: `role` is `user` or `assistant`."""

    role: str
    text: str


def load_history(state: str | None) -> tuple[Said, ...]:
    """What a thread's state between two batches remembers, oldest first."""
    return tuple(Said(role, text) for role, text in json.loads(state)) if state else ()


def dump_history(said: Sequence[Said], most: int) -> str:
    """The newest of it as the thread's state."""
    return json.dumps([[one.role, one.text] for one in said[-most:]], separators=(",", ":"), ensure_ascii=False)


def text_of(content: Content) -> str:
    """The text of a content; parts that are not text are left out."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What a function may want to know beside the batch. One that has a parameter annotated with it, or called `context`, is given it.

    Attributes:
        run_id: This call; another one for each attempt.
        contents: The batch as a model should read it, one a message: if any author in it has a name, each is signed.
        history: What was said in the thread before, oldest first; empty unless the backend was made with `history=`.
        instructions: Those of the messages, else the default ones; None for none.
        deadline_s: Seconds that this attempt has (`run_timeout`).
    """

    run_id: str
    contents: tuple[Content, ...]
    history: tuple[Said, ...] = ()
    instructions: str | None
    deadline_s: float

    @property
    def text(self) -> str:
        """The texts of `contents`, one a line; parts that are not text are left out."""
        return "\n".join(text for text in map(text_of, self.contents) if text)


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives something to await or to iterate on the loop; everything else is called on a thread."""
    while isinstance(function, partial):
        function = function.func
    called = function if inspect.isroutine(function) else type(function).__call__
    return inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)


def context_parameter(function: Callable[..., Any], name: str) -> str | None:
    """The parameter that gets the `RunContext`, None if there is none.

    Raises:
        ConfigurationError: It cannot be called with a batch.
    """
    if inspect.isclass(function):
        raise ConfigurationError(f"backend= is the class {name}: give an instance of it, or a function")
    if not callable(function):
        raise ConfigurationError(f"{name} cannot be called with a batch; give a function, or a Backend")
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None  # written in C: it takes what it takes
    if not parameters or parameters[0].kind in {inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD}:
        raise ConfigurationError(f"{name} takes no batch: its first parameter is given the Batch to answer")
    found = None
    hints = _hints_of(function)
    for one in parameters[1:]:
        if one.kind is not one.POSITIONAL_ONLY and (hints.get(one.name) is RunContext or one.name == "context"):
            found = one.name
        elif one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}:
            raise ConfigurationError(
                f"{name} needs {one.name!r}, which nobody gives it: a backend's function takes a Batch, and a RunContext if it wants one"
            )
    return found


def _hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    while isinstance(function, partial):
        function = function.func
    try:
        return typing.get_type_hints(function if inspect.isroutine(function) else type(function).__call__)
    except Exception:  # noqa: BLE001 - annotations that only a type checker can read
        return {}


async def finished(result: Awaitable[Any], name: str) -> Any:
    """Return the result of a coroutine, in a task of its own: that it was cancelled from within is not that the caller is."""
    task = asyncio.ensure_future(contained(result))
    try:
        await asyncio.wait({task})
    finally:
        await _end(task, name)
    return _value_of(Outcome(error=asyncio.CancelledError()) if task.cancelled() else task.result(), name)


def _value_of(outcome: Outcome, name: str) -> Any:
    error = outcome.error
    if error is None:
        return outcome.value
    if isinstance(error, asyncio.CancelledError):
        raise RunFailed(f"{name} was cancelled from within") from error
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        raise error
    raise RunFailed(f"{name} ended with {said(error)}") from error


async def _end(task: asyncio.Task[Any], name: str) -> None:
    """End a task, as far as it lets itself be ended; one that does not is abandoned."""
    if task.done():
        return
    task.cancel()
    await asyncio.wait({task}, timeout=CANCEL_PATIENCE_S)
    if not task.done():
        ABANDONED.add_task(name, task)


async def pieces_of(stream: AsyncIterable[Any], name: str) -> AsyncGenerator[Any, None]:
    """Yield what an async generator yields, read by a task of its own: what comes out of it, be it a SystemExit, ends the run alone."""
    words: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)

    async def read() -> None:
        try:
            async for word in stream:
                await words.put(word)
        finally:
            if isinstance(stream, AsyncGenerator):
                await stream.aclose()

    task = asyncio.ensure_future(contained(read()))
    try:
        while True:
            word = asyncio.ensure_future(words.get())
            try:
                await asyncio.wait({word, task}, return_when=asyncio.FIRST_COMPLETED)
                if not word.done():
                    break
                yield word.result()
            finally:
                word.cancel()
        while not words.empty():
            yield words.get_nowait()
        _value_of(Outcome(error=asyncio.CancelledError()) if task.cancelled() else task.result(), name)
    finally:
        await _end(task, name)


@dataclass(frozen=True, slots=True)
class Result:
    """What a function returned on its thread."""

    value: Any


@dataclass(frozen=True, slots=True)
class _Raised:
    """What it raised there."""

    error: BaseException


async def on_thread(call: Callable[[], Any], name: str) -> AsyncGenerator[Any, None]:
    """Call on a thread of its own: the pieces that it yields, then a `Result`.

    The thread is a daemon and belongs to no pool: a call that never returns keeps neither other calls nor the end of the process waiting.
    """
    worker = _Thread(call, name)
    worker.start()
    try:
        while True:
            word = await worker.words.get()
            if isinstance(word, _Raised):
                _value_of(Outcome(error=word.error), name)
            yield word
            if isinstance(word, Result):
                return
    finally:
        worker.leave()


class _Thread:
    """One call on its thread; tells the loop what it says."""

    def __init__(self, call: Callable[[], Any], name: str) -> None:
        self.words: asyncio.Queue[Any] = asyncio.Queue()
        self._call = call
        self._name = name
        self._lock = threading.Lock()
        self._is_heard = True
        self._has_ended = False
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Call; the caller's context variables are seen."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._work,), name="assistant-queue-function", daemon=True).start()

    def leave(self) -> None:
        """Hear no more of it; a call that goes on all the same is abandoned."""
        with self._lock:
            self._is_heard = False
            if not self._has_ended:
                ABANDONED.add(self._name)

    def _work(self) -> None:
        try:
            word: Result | _Raised = Result(self._said())
        except BaseException as error:  # noqa: BLE001 - it is raised where the call is waited for
            word = _Raised(error)
        with self._lock:
            self._has_ended = True
            if not self._is_heard:
                ABANDONED.remove(self._name)
        self._put(word)

    def _said(self) -> Any:
        result = self._call()
        if not isinstance(result, Iterator):
            return result
        for piece in result:
            if not self._is_heard:
                break
            self._put(piece)
        return None

    def _put(self, word: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed, and its subscribers with it
            self._loop.call_soon_threadsafe(self.words.put_nowait, word)
