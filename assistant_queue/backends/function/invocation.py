"""Call a user's function with a batch, on the event loop or on a thread."""

from __future__ import annotations

import asyncio
import inspect
import json
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from assistant_queue.backends.function.deferral import SettledCall
from assistant_queue.errors import ConfigurationError, RunFailed
from assistant_queue.models import Content, Usage
from assistant_queue.user_code.error_text import said
from assistant_queue.user_code.functions import code_of
from assistant_queue.user_code.running_calls import CallOutcome, TaskCall, ThreadCall, post
from assistant_queue.user_code.stream_tasks import read_in_task

MAX_HISTORY = 1000
"""Most texts of a thread's history. Chosen: the history is written with each batch."""


@dataclass(frozen=True, slots=True)
class Said:
    """Earlier text of a thread: `role` is `user` or `assistant`."""

    role: str
    text: str


def load_history(state: str | None) -> tuple[Said, ...]:
    """Return the history in a thread's state, oldest first."""
    return tuple(Said(role, text) for role, text in json.loads(state)) if state else ()


def dump_history(said: Sequence[Said], most: int) -> str:
    """Serialize the newest texts as the thread's state."""
    return json.dumps(
        [[one.role, one.text] for one in said[-most:]], separators=(",", ":"), ensure_ascii=False
    )


def text_of(content: Content) -> str:
    """Return the text of a content; parts that are not text are left out."""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Context of a batch for the function.

    A function with a parameter annotated with it, or named `context`, receives it.

    Attributes:
        run_id: This call; another one for each attempt.
        contents: The batch as a model should read it, one entry per message; if any author in it
            has a name, each is signed.
        history: The thread's earlier texts, oldest first; empty unless the backend has `history=`.
        instructions: Those of the messages, else the default ones; None for none.
        deadline_s: Seconds that this attempt has (`run_timeout`).
        state: Of the function's last `OpenCalls`, now that all its calls are settled; None in the
            first call.
        settled: What came of those calls, by their ids.
    """

    run_id: str
    contents: tuple[Content, ...]
    history: tuple[Said, ...] = ()
    instructions: str | None
    deadline_s: float
    state: str | None = field(default=None, repr=False)
    settled: Mapping[str, SettledCall] = field(default_factory=dict)
    _usages: list[Usage] = field(default_factory=list, init=False, repr=False, compare=False)

    def add_usage(self, usage: Usage) -> None:
        """Add the tokens of one answer of a model to those of the run (`RunResult.usage`).

        Call it once for each answer, from any thread. Usage without `rounds` counts as one round.
        """
        self._usages.append(usage if usage.rounds else replace(usage, rounds=1))

    @property
    def usage(self) -> Usage | None:
        """Tokens added so far; None if none were."""
        return sum(self._usages[1:], self._usages[0]) if self._usages else None

    @property
    def text(self) -> str:
        """Texts of `contents`, one a line; parts that are not text are left out."""
        return "\n".join(text for text in map(text_of, self.contents) if text)


def context_parameter(function: Callable[..., Any], name: str) -> str | None:
    """Return the parameter for the `RunContext`, None if there is none.

    Raises:
        ConfigurationError: It cannot be called with a batch.
    """
    if inspect.isclass(function):
        raise ConfigurationError(
            f"backend= is the class {name}: give an instance of it, or a function"
        )
    if not callable(function):
        raise ConfigurationError(
            f"{name} cannot be called with a batch; give a function, or a Backend"
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None  # written in C: its parameters are not known
    if not parameters or parameters[0].kind in {
        inspect.Parameter.KEYWORD_ONLY,
        inspect.Parameter.VAR_KEYWORD,
    }:
        raise ConfigurationError(
            f"{name} takes no batch: its first parameter is given the Batch to answer"
        )
    found = None
    hints = _hints_of(function)
    for one in parameters[1:]:
        if one.kind is not one.POSITIONAL_ONLY and (
            hints.get(one.name) is RunContext or one.name == "context"
        ):
            found = one.name
        elif one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}:
            raise ConfigurationError(
                f"{name} requires the parameter {one.name!r}: a backend's function takes a Batch "
                "and, if it asks for one, a RunContext"
            )
    return found


def _hints_of(function: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return typing.get_type_hints(code_of(function))
    except Exception:  # noqa: BLE001 - annotations that only a type checker can read
        return {}


async def finished(result: Awaitable[Any], name: str) -> Any:
    """Return the result of a coroutine.

    It runs as a separate task: a CancelledError raised inside it does not cancel the caller.
    """
    call = TaskCall(result, name)
    try:
        outcome = await call.ended()
    finally:
        await call.stop()
    return _value_of(outcome, name)


def _value_of(outcome: CallOutcome | None, name: str) -> Any:
    error = asyncio.CancelledError() if outcome is None else outcome.error
    if outcome is not None and error is None:
        return outcome.value
    if isinstance(error, asyncio.CancelledError):
        raise RunFailed(f"{name} was cancelled from within") from error
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        raise error
    assert error is not None
    raise RunFailed(f"{name} ended with {said(error)}") from error


async def pieces_of(stream: AsyncIterable[Any], name: str) -> AsyncGenerator[Any, None]:
    """Yield the pieces of an async generator, which runs as a separate task."""
    async with aclosing(read_in_task(stream, name)) as pieces:
        async for piece in pieces:
            if isinstance(piece, CallOutcome):
                _value_of(piece, name)
            else:
                yield piece


@dataclass(frozen=True, slots=True)
class Result:
    """Return value of a function on its thread."""

    value: Any


async def on_thread(function: Callable[[], Any], name: str) -> AsyncGenerator[Any, None]:
    """Call on a new thread; yield the pieces of a generator, then a `Result`.

    The thread is a daemon and belongs to no pool: a call that never returns delays neither other
    calls nor the end of the process.
    """
    pieces: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def put(piece: Any) -> None:
        post(loop, lambda: pieces.put_nowait(piece))

    def run() -> Any:
        result = function()
        if not isinstance(result, Iterator):
            return result
        for piece in result:
            if call.is_abandoned:
                break
            put(piece)
        return None

    call = ThreadCall(run, name)
    call.when_settled(put)
    call.start("assistant-queue-function")
    try:
        while not isinstance(piece := await pieces.get(), CallOutcome):
            yield piece
        yield Result(_value_of(piece, name))
    finally:
        call.abandon()
