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
    ConversationBusy,
    FormatTooNew,
    InvalidArgument,
    InvalidToolResult,
    LeaseLost,
    MessageCancelled,
    MessageIdConflict,
    MessageNotFound,
    MessageRefused,
    NotConfigured,
    NotPermitted,
    NotReplicated,
    NotSupported,
    OutcomeUnknown,
    QueueError,
    RequestRefused,
    RunVanished,
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
    RunInfo,
    RunResult,
    ThreadInfo,
    ThreadMessage,
    ThreadStatus,
    ToolCall,
    ToolOutput,
    Usage,
)
from assistant_queue.queue import AssistantMessageQueue
from assistant_queue.tools import ToolContext

if TYPE_CHECKING:
    from assistant_queue.aio import AsyncAssistantMessageQueue
    from assistant_queue.backends.function import FunctionBackend, RunContext, Said
    from assistant_queue.validation import max_length, no_markup
    from assistant_queue.worker.rq_concurrent import ConcurrentWorker
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
    "ConcurrentWorker",
    "ConfigurationError",
    "ConfigurationMismatch",
    "ConversationBusy",
    "ErrorInfo",
    "FailedBatch",
    "FormatTooNew",
    "FunctionBackend",
    "FunctionCall",
    "InvalidArgument",
    "InvalidToolResult",
    "LeaseLost",
    "Message",
    "MessageCancelled",
    "MessageIdConflict",
    "MessageNotFound",
    "MessageRefused",
    "MessageStatus",
    "NotConfigured",
    "NotPermitted",
    "NotReplicated",
    "NotSupported",
    "OutcomeUnknown",
    "QueueError",
    "QueueStatus",
    "Receipt",
    "RequestRefused",
    "RunContext",
    "RunInfo",
    "RunResult",
    "RunVanished",
    "Said",
    "StoreError",
    "StoreUnavailable",
    "ThreadBusy",
    "ThreadFull",
    "ThreadInfo",
    "ThreadMessage",
    "ThreadStatus",
    "ToolCall",
    "ToolContext",
    "ToolOutput",
    "UnknownOption",
    "UnknownThread",
    "Usage",
    "Worker",
    "max_length",
    "no_markup",
]


def __getattr__(name: str) -> Any:
    """Imported when they are asked for: a process that only adds messages needs no RQ, a blocking one no asyncio."""
    if name == "AsyncAssistantMessageQueue":
        from assistant_queue.aio import AsyncAssistantMessageQueue

        return AsyncAssistantMessageQueue
    if name in {"FunctionBackend", "RunContext", "Said"}:
        from assistant_queue.backends import function

        return getattr(function, name)
    if name == "ConcurrentWorker":
        from assistant_queue.worker.rq_concurrent import ConcurrentWorker

        return ConcurrentWorker
    if name in {"max_length", "no_markup"}:
        from assistant_queue import validation

        return getattr(validation, name)
    if name == "Worker":
        from assistant_queue.worker.rq_worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
