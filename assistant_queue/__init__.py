"""Many messages, many workers, one run at a time per conversation - and every message answered exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    BatchFailed,
    BatchNotFound,
    CallbackError,
    ConfigurationError,
    ConfigurationMismatch,
    FormatTooNew,
    InvalidArgument,
    InvalidToolResult,
    LeaseLost,
    MessageCancelled,
    MessageIdConflict,
    MessageNotFound,
    QueueError,
    StoreError,
    StoreUnavailable,
    ThreadBusy,
    ThreadFull,
    UnknownOption,
    UnknownThread,
)
from assistant_queue.models import (
    Batch,
    ErrorInfo,
    FailedBatch,
    FunctionCall,
    Message,
    MessageStatus,
    QueueStatus,
    Receipt,
    RunResult,
    ThreadStatus,
    ToolCall,
    ToolOutput,
    Usage,
)
from assistant_queue.queue import AssistantMessageQueue

if TYPE_CHECKING:
    from assistant_queue.aio import AsyncAssistantMessageQueue
    from assistant_queue.worker.rq_worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AssistantMessageQueue",
    "AssistantQueueError",
    "AsyncAssistantMessageQueue",
    "BackendError",
    "Batch",
    "BatchFailed",
    "BatchNotFound",
    "CallbackError",
    "ConfigurationError",
    "ConfigurationMismatch",
    "ErrorInfo",
    "FailedBatch",
    "FormatTooNew",
    "FunctionCall",
    "InvalidArgument",
    "InvalidToolResult",
    "LeaseLost",
    "Message",
    "MessageCancelled",
    "MessageIdConflict",
    "MessageNotFound",
    "MessageStatus",
    "QueueError",
    "QueueStatus",
    "Receipt",
    "RunResult",
    "StoreError",
    "StoreUnavailable",
    "ThreadBusy",
    "ThreadFull",
    "ThreadStatus",
    "ToolCall",
    "ToolOutput",
    "UnknownOption",
    "UnknownThread",
    "Usage",
    "Worker",
]


def __getattr__(name: str) -> Any:
    """Imported when they are asked for: a process that only adds messages needs no RQ, a blocking one no asyncio."""
    if name == "AsyncAssistantMessageQueue":
        from assistant_queue.aio import AsyncAssistantMessageQueue

        return AsyncAssistantMessageQueue
    if name == "Worker":
        from assistant_queue.worker.rq_worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
