"""Observation of a queue: what begins and ends, as values, and the observer that is notified.

The runtime begins an observation where it adds, runs, calls and delivers; an observer makes spans
and metrics of it (`integrations/opentelemetry/`). Without an observer a begin returns at once.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from assistant_queue.accounting import Usage
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import Batch, Message, ToolCall
from assistant_queue.values import valueclass

_log = logging.getLogger(__name__)


@valueclass(frozen=True, slots=True, kw_only=True)
class Adding:
    """Messages are added to Redis, in one call."""

    queue: str
    thread_ids: Sequence[str]
    messages: Sequence[Message]


@valueclass(frozen=True, slots=True, kw_only=True)
class Processing:
    """A worker has claimed a batch. `deaths`: workers that left it unfinished in this phase."""

    queue: str
    batch: Batch
    deaths: int = 0


@valueclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The model is asked, or a run is followed, until its end or its next calls.

    Attributes:
        batch: The batch.
        conversation_id: The provider's id of the thread; "" if it has none.
        backend: The name of a user's function or `Backend`; None for one of this package.
        instructions: Instructions that are sent.
        outputs: Outputs that are sent, by call id; None if the batch itself is.
        is_followed: The run was started by an earlier request, perhaps of another worker.
    """

    batch: Batch
    conversation_id: str
    backend: str | None = None
    instructions: str | None = None
    outputs: Mapping[str, str] | None = None
    is_followed: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A backend of this package sends another request: about a conversation, or what became of it.

    It is observed so that it can be kept from other observers of the HTTP client.
    """


@valueclass(frozen=True, slots=True, kw_only=True)
class Executing:
    """A tool is called."""

    batch: Batch
    run_id: str
    call: ToolCall


@valueclass(frozen=True, slots=True, kw_only=True)
class Delivering:
    """A reply is delivered: one try.

    Attributes:
        thread_id: The thread.
        batch_id: The batch that it answers.
        messages: The messages that it answers, if they are known.
        channel: The name of the channel; "on_reply" for the callback.
        tries: Earlier tries that failed.
    """

    thread_id: str
    batch_id: str
    messages: Sequence[Message]
    channel: str
    tries: int = 0


@valueclass(frozen=True, slots=True, kw_only=True)
class SendingPart:
    """A channel sends one part of a reply."""

    thread_id: str
    batch_id: str
    channel: str
    index: int
    total: int


@valueclass(frozen=True, slots=True, kw_only=True)
class Calling:
    """A direct call asks the provider.

    Attributes:
        call: Its name, `create_run` and so on.
        thread_id: The thread; "" of `create_thread`.
        conversation_id: The provider's id of the thread; "" if it has none.
        run_id: The run that is asked for.
        backend: As of `Round`.
    """

    call: str
    thread_id: str
    conversation_id: str
    run_id: str | None = None
    backend: str | None = None

    @property
    def runs(self) -> bool:
        """Whether it has the model answer."""
        return self.call in _RUNS


_RUNS = frozenset({"create_run", "submit_tool_outputs"})

Subject = Adding | Processing | Round | Asking | Calling | Executing | Delivering | SendingPart


@valueclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of an observation.

    Attributes:
        error: The code of an error, or the type of an exception; None if it went well.
        status: Of a batch: `completed`, `incomplete`, `failed`, `retrying`, `held` or `parked`; None
            if the worker has left it to another one.
        run_id: The provider's id of the run.
        attempts: How often the batch was sent.
        usage: Tokens, as the provider counted them.
        model: The model that answered, by the provider's name.
        finish_reason: Why a round ended: `stop`, `length`, `content_filter`, `tool_calls`.
        first_text_s: Seconds until the first text of a round.
        replies: The texts of a round.
        calls: The calls of a round.
        output: The output of a tool.
        part_id: The platform's id of a part.
    """

    error: str | None = None
    status: str | None = None
    run_id: str | None = None
    attempts: int = 0
    usage: Usage | None = None
    model: str | None = None
    finish_reason: str | None = None
    first_text_s: float | None = None
    replies: Sequence[str] = ()
    calls: Sequence[ToolCall] = ()
    output: str | None = None
    part_id: str | None = None


def error_code(error: BaseException) -> str:
    """Return the code of an error of this package; else the exception's type."""
    return error.code if isinstance(error, AssistantQueueError) else type(error).__name__


def finish_reason(
    status: str, incomplete_reason: str | None, *, is_failed: bool = False
) -> str | None:
    """Return why a run ended, in the words of OpenTelemetry's conventions; None while it runs."""
    if status == "completed":
        return "stop"
    if status == "requires_action":
        return "tool_calls"
    if status == "incomplete":
        return _FINISH_REASONS.get(incomplete_reason or "", incomplete_reason)
    return "error" if is_failed else None


_FINISH_REASONS = {"max_output_tokens": "length", "max_completion_tokens": "length"}


class Observation(Protocol):
    """Something that an observer has seen begin."""

    @property
    def trace(self) -> str | None:
        """The context to be stored with messages that are added in it; None for none."""

    def active(self) -> AbstractContextManager[object]:
        """Return a block in which what the current context starts belongs to this."""

    def end(self, outcome: Outcome) -> None:
        """Take the outcome."""


@contextmanager
def ended_with(observation: Observation) -> Iterator[None]:
    """End an observation with the block: with the error that leaves it, if one does."""
    try:
        yield
    except BaseException as error:
        observation.end(Outcome(error=error_code(error)))
        raise
    observation.end(Outcome())


class Observer(Protocol):
    """Sees what a queue does, in producers and in workers. Its methods return at once."""

    def begin(self, subject: Subject) -> Observation:
        """Return an observation that has begun now."""

    def flush(self) -> None:
        """Export what was observed; called on a thread before a worker's process ends."""


class _Nothing:
    """The observation of a queue without an observer."""

    trace = None

    def active(self) -> AbstractContextManager[object]:
        return nullcontext()

    def end(self, outcome: Outcome) -> None:
        """Do nothing."""


NOTHING: Observation = _Nothing()


@dataclass(slots=True)
class Observers:
    """The observer of a queue, if it has one. Copies of its options share this.

    1. an exception of the observer is logged once, and changes nothing
    2. an observation ends once; later ends do nothing
    """

    observer: Observer | None = None
    _has_failed: bool = field(default=False, repr=False)

    def begin(self, subject: Subject) -> Observation:
        """Begin an observation; `NOTHING` without an observer."""
        if self.observer is None:
            return NOTHING
        try:
            return _Contained(self, self.observer.begin(subject))
        except Exception as error:  # noqa: BLE001 - nothing that is observed may be hurt
            self.failed(error)
            return NOTHING

    def flush(self) -> None:
        """Have the observer export; blocks."""
        if self.observer is None:
            return
        try:
            self.observer.flush()
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Log an exception of the observer, the first one as a warning."""
        level = logging.DEBUG if self._has_failed else logging.WARNING
        self._has_failed = True
        place = traceback.extract_tb(error.__traceback__)[-1]
        _log.log(
            level,
            "the observer raised %s at %s:%s; the queue continues",
            type(error).__name__,
            place.filename,
            place.lineno,
        )


UNOBSERVED = Observers()
"""For what is made without a queue's options, in tests."""


class _Contained:
    """An observation whose exceptions go no further."""

    __slots__ = ("_inner", "_is_over", "_observers")

    def __init__(self, observers: Observers, inner: Observation) -> None:
        self._observers = observers
        self._inner = inner
        self._is_over = False

    @property
    def trace(self) -> str | None:
        try:
            return self._inner.trace
        except Exception as error:  # noqa: BLE001 - as above
            self._observers.failed(error)
            return None

    @contextmanager
    def active(self) -> Iterator[None]:
        try:
            block = self._inner.active()
            block.__enter__()
        except Exception as error:  # noqa: BLE001 - as above
            self._observers.failed(error)
            yield
            return
        try:
            yield
        finally:
            try:
                block.__exit__(None, None, None)
            except Exception as error:  # noqa: BLE001 - as above
                self._observers.failed(error)

    def end(self, outcome: Outcome) -> None:
        if self._is_over:
            return
        self._is_over = True
        try:
            self._inner.end(outcome)
        except Exception as error:  # noqa: BLE001 - as above
            self._observers.failed(error)
