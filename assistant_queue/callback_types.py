"""Types of the functions that an application gives to a queue, and of the listeners of a worker.

All of them are called with positional arguments, so parameters may have any names. Unless its
docstring says otherwise, a callable may be sync (called on a thread) or async (awaited on the
worker's event loop), and one call may take at most `callback_timeout` seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import (
    Batch,
    ErrorInfo,
    FailedBatch,
    Message,
    RunResult,
    ToolCall,
    ToolOutput,
)

ToolOutputs = Sequence[Mapping[str, Any] | ToolOutput]
"""Outputs of one round of tool calls: `{"tool_call_id": ..., "output": ...}` or `ToolOutput`."""


class OnReply(Protocol):
    """Deliver the result of a batch: the option `on_reply`.

    Called at least once for each batch; `result.batch_id` is the idempotency key. The return value
    is ignored. If it raises or takes too long, the result stays stored and the call is repeated.
    """

    def __call__(self, result: RunResult, /) -> object:
        """Deliver one result."""


class RequiresActionHandler(Protocol):
    """Answer the tool calls of one round: the option `handle_requires_action`.

    Bounded by `run_timeout`, not by `callback_timeout`. Calls without an output get an error
    output, and so do all calls if the handler raises.
    """

    def __call__(
        self, thread_id: str, run_id: str, tool_calls: list[ToolCall], /
    ) -> ToolOutputs | Awaitable[ToolOutputs]:
        """Return a list of outputs, one for each call."""


class InstructionsCallable(Protocol):
    """Return the instructions of a run: the option `default_instructions`.

    Called for a batch if its messages carry no instructions.
    """

    def __call__(self, batch: Batch, /) -> str | Awaitable[str | None] | None:
        """Return the instructions, None for none."""


class FallbackReply(Protocol):
    """Return the reply to a batch that failed for good: the option `fallback_reply`."""

    def __call__(self, batch: Batch, error: ErrorInfo, /) -> str | Awaitable[str | None] | None:
        """Return the reply, None for no reply."""


class Validator(Protocol):
    """Accept or refuse a message before it is queued: an entry of the option `validators`.

    Called in the process that adds the message. It must be a plain function: neither a coroutine
    function nor a class.
    """

    def __call__(self, message: Message, /) -> str | None:
        """Return None to accept the message, or the reason to refuse it.

        Raises:
            ValueError: Refuse the message; the text is the reason.
        """


class FlushCallable(Protocol):
    """Say whether a message ends the window of its thread: the option `flush_when`.

    Called in the process that adds the message, after the validators. It must be a plain function.
    If it raises or takes too long, that is logged and the message waits for the end of its window.
    """

    def __call__(self, message: Message, /) -> bool:
        """Return True to answer what waits now."""


class ShareCallable(Protocol):
    """Say which authors may share a run: the option `separate_authors`.

    Called in the worker with the names of two authors of one batch, None for a message without one.
    It must be a plain function. If it raises or takes too long, that is logged and each author gets
    a run.
    """

    def __call__(self, author: str | None, other: str | None, /) -> bool:
        """Return True if one run may answer both."""


class CompletedListener(Protocol):
    """Observe completed batches: `worker.on("completed", listener)`."""

    def __call__(self, result: RunResult, /) -> object:
        """Observe one result."""


class FailedListener(Protocol):
    """Observe batches that failed for good: `worker.on("failed", listener)`."""

    def __call__(self, batch: FailedBatch, error: AssistantQueueError, /) -> object:
        """Observe one failed batch and the error that failed it."""
