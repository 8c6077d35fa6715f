"""Record the provider's own log: the oracle of every test.

Records are frozen and only ever appended. The server's thread writes, any thread reads or waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from assistant_queue.testing.provider.script import OutputGiven, Protocol

ACTIVE = frozenset({"queued", "in_progress", "requires_action", "cancelling"})


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came in.

    Attributes:
        number: 1 for the provider's first request, and so on.
        at: Seconds since the epoch.
        method: The HTTP method.
        path: The path, without `/v1`.
        op: What is asked for, such as `responses.create`, `runs.create`,
            `runs.submit_tool_outputs`, `items.list`.
        protocol: `responses`, `assistants` or `chat_completions`.
        conversation_id: The conversation or thread it is about, if it names one.
        params: The ids in the path.
        query: The query parameters.
        body: The JSON body, if there was one.
        retry_count: How many times the client library says it has tried before.
    """

    number: int
    at: float
    method: str
    path: str
    op: str
    protocol: Protocol
    conversation_id: str | None
    params: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] | None = None
    retry_count: int = 0


@dataclass(frozen=True, slots=True)
class Answered:
    """End of a request: `status` None if the client got no complete answer; `how` is the reason."""

    number: int
    at: float
    op: str
    status: int | None
    how: str = "answered"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A request that was refused, and why.

    `scripted` distinguishes a fault from the provider's own decision.
    """

    number: int
    at: float
    op: str
    conversation_id: str | None
    status: int
    code: str | None
    message: str
    scripted: bool


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run or response as it stands now.

    Attributes:
        id: `run_...`, `resp_...` or `chatcmpl-...`.
        protocol: `assistants`, `responses` or `chat_completions`.
        conversation_id: The thread or conversation, None for a response bound to neither and for a
            chat completion.
        request: The number of the request that started it.
        user_texts: The user texts that were in it (on Assistants: those that no run has answered
            with a text).
        message_metadata: The metadata of those messages, in the same order (empty on Responses,
            which have none).
        metadata: Its own metadata.
        instructions: The instructions in force.
        tools: The names of the functions offered.
        stream: It was asked for as a stream.
        background: It was asked for in the background.
        status: The provider's word; also `vanished` for one that was made to disappear, `stranded`
            for one that is shown as open for ever while no process works on it.
        started_at: When it was accepted, seconds since the epoch.
        ended_at: When it reached a final status; None before.
        outputs: The tool outputs received, in order.
        error_code: Of a failed one.
    """

    id: str
    protocol: Protocol
    conversation_id: str | None
    request: int
    user_texts: tuple[str, ...]
    message_metadata: tuple[Mapping[str, str], ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    instructions: str | None = None
    tools: tuple[str, ...] = ()
    stream: bool = False
    background: bool = False
    status: str = "queued"
    started_at: float = 0.0
    ended_at: float | None = None
    outputs: tuple[OutputGiven, ...] = ()
    error_code: str | None = None

    @property
    def is_active(self) -> bool:
        """It has not reached a final status."""
        return self.status in ACTIVE


@dataclass(frozen=True, slots=True)
class RunChanged:
    """A run was accepted, got outputs, or moved to another status; `run` is it as of then."""

    at: float
    run: RunRecord


@dataclass(frozen=True, slots=True)
class Overlap:
    """Acceptance of a run while others of its conversation were active.

    Possible on servers without a lock.
    """

    at: float
    conversation_id: str
    run_id: str
    active_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Appended:
    """Addition of items or messages to a conversation or thread.

    `run_id` is None if a client added them itself.
    """

    at: float
    conversation_id: str
    run_id: str | None
    user_texts: tuple[str, ...]
    item_ids: tuple[str, ...]


Record = Request | Answered | Refusal | RunChanged | Overlap | Appended


class Log:
    """The append-only list of records, with the current state of every run beside it.

    1. `add` and `run` write, from the server's thread.
    2. `records`, `runs` and `of` read, from any thread.
    3. `wait` blocks any other thread until something holds.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._records: list[Record] = []
        self._runs: dict[str, RunRecord] = {}
        self._requests = 0
        self._ended = 0

    def next_number(self) -> int:
        """The number of the next request."""
        with self._changed:
            self._requests += 1
            return self._requests

    def add(self, record: Record) -> None:
        """Append a record and wake all waiters."""
        with self._changed:
            self._records.append(record)
            self._changed.notify_all()

    def start_run(self, run: RunRecord) -> None:
        """A run was accepted."""
        with self._changed:
            self._runs[run.id] = run
            self.add(RunChanged(run.started_at, run))

    def change_run(self, run_id: str, **changes: Any) -> None:
        """Record a new state of a run; a final status also gets its time."""
        with self._changed:
            now = time.time()
            run = replace(self._runs[run_id], **changes)
            if not run.is_active and run.ended_at is None:
                run = replace(run, ended_at=now)
                self._ended += 1
            self._runs[run_id] = run
            self.add(RunChanged(now, run))

    def records(self) -> tuple[Record, ...]:
        """Everything so far, in order."""
        with self._changed:
            return tuple(self._records)

    def runs(self) -> tuple[RunRecord, ...]:
        """Every run as it stands now, in the order of acceptance."""
        with self._changed:
            return tuple(self._runs.values())

    def counts(self) -> tuple[int, int]:
        """Return the number of runs that were accepted, and of those that have ended."""
        with self._changed:
            return len(self._runs), self._ended

    def run(self, run_id: str) -> RunRecord:
        """One run as it stands now."""
        with self._changed:
            return self._runs[run_id]

    def wait(self, holds: Callable[[], bool], timeout: float) -> bool:
        """Block until `holds()` after some record; False after `timeout` seconds."""
        with self._changed:
            return self._changed.wait_for(holds, timeout)
