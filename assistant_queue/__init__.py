"""Many messages, many workers, one run at a time per conversation.

Every message is answered exactly once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from assistant_queue.approvals import Approval, ApprovalKind, ApprovalLinks
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.deprecated import MODULES, install
from assistant_queue.errors import (
    ApprovalNotFound,
    AssistantQueueError,
    BackendError,
    BatchFailed,
    BatchNotFound,
    CallbackError,
    ConfigurationError,
    ConfigurationMismatch,
    ConversationBusy,
    DeliveryError,
    DeliveryUnknown,
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
    RetryLater,
    RunVanished,
    StateTooLarge,
    StoreError,
    StoreUnavailable,
    ThreadBusy,
    ThreadFull,
    ThreadTakenOver,
    Undeliverable,
    UnknownOption,
    UnknownThread,
)
from assistant_queue.metrics import (
    Histogram,
    Metrics,
    TokenMetrics,
    ToolMetrics,
    WorkerMetrics,
)
from assistant_queue.models import (
    AttemptInfo,
    BackoffKeywords,
    Batch,
    BatchOutcome,
    BatchRecord,
    Content,
    DeliveredReply,
    DeliveryRecord,
    DeliveryStatus,
    ErrorInfo,
    Explanation,
    ExplanationVerdict,
    FailedBatch,
    FailureReason,
    FunctionCall,
    Message,
    MessageState,
    MessageStateName,
    MessageStatus,
    PostponedBatch,
    QueueStatus,
    Receipt,
    ResultStatus,
    RunInfo,
    RunResult,
    ThreadFilter,
    ThreadInfo,
    ThreadMessage,
    ThreadOrder,
    ThreadStateName,
    ThreadStatus,
    Timeline,
    ToolCall,
    ToolCallRecord,
    ToolOutput,
    Usage,
)
from assistant_queue.row_types import MessageRow
from assistant_queue.tools import AnswerLater, ToolContext

if TYPE_CHECKING:
    from assistant_queue.backends.function.backend import (
        FunctionBackend,
        GuestCall,
        OpenCalls,
        RunContext,
        Said,
        SettledCall,
    )
    from assistant_queue.callback_types import (
        CompletedListener,
        FailedListener,
        FallbackReply,
        FlushCallable,
        InstructionsCallable,
        OnReply,
        RequiresActionHandler,
        ShareCallable,
        Validator,
    )
    from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
    from assistant_queue.events import Event
    from assistant_queue.validators import max_length, no_markup
    from assistant_queue.worker.handle import WorkerHandle
    from assistant_queue.worker.loop_handle import LoopWorkerHandle
    from assistant_queue.worker.rq_concurrent_worker import ConcurrentWorker
    from assistant_queue.worker.rq_forking_worker import Worker

__version__ = "0.1.0"

__all__ = [
    "AnswerLater",
    "Approval",
    "ApprovalKind",
    "ApprovalLinks",
    "ApprovalNotFound",
    "AssistantMessageQueue",
    "AssistantQueueError",
    "AsyncAssistantMessageQueue",
    "AttemptInfo",
    "BackendError",
    "BackoffKeywords",
    "Batch",
    "BatchFailed",
    "BatchNotFound",
    "BatchOutcome",
    "BatchRecord",
    "CallbackError",
    "CompletedListener",
    "ConcurrentWorker",
    "ConfigurationError",
    "ConfigurationMismatch",
    "Content",
    "ConversationBusy",
    "DeliveredReply",
    "DeliveryError",
    "DeliveryRecord",
    "DeliveryStatus",
    "DeliveryUnknown",
    "ErrorInfo",
    "Event",
    "Explanation",
    "ExplanationVerdict",
    "FailedBatch",
    "FailedListener",
    "FailureReason",
    "FallbackReply",
    "FlushCallable",
    "FormatTooNew",
    "FunctionBackend",
    "FunctionCall",
    "GuestCall",
    "Histogram",
    "InstructionsCallable",
    "InvalidArgument",
    "InvalidToolResult",
    "LeaseLost",
    "LoopWorkerHandle",
    "Message",
    "MessageCancelled",
    "MessageIdConflict",
    "MessageNotFound",
    "MessageRefused",
    "MessageRow",
    "MessageState",
    "MessageStateName",
    "MessageStatus",
    "Metrics",
    "NotConfigured",
    "NotPermitted",
    "NotReplicated",
    "NotSupported",
    "OnReply",
    "OpenCalls",
    "OutcomeUnknown",
    "PostponedBatch",
    "QueueError",
    "QueueStatus",
    "Receipt",
    "RequestRefused",
    "RequiresActionHandler",
    "ResultStatus",
    "RetryLater",
    "RunContext",
    "RunInfo",
    "RunResult",
    "RunVanished",
    "Said",
    "SettledCall",
    "ShareCallable",
    "StateTooLarge",
    "StoreError",
    "StoreUnavailable",
    "ThreadBusy",
    "ThreadFilter",
    "ThreadFull",
    "ThreadInfo",
    "ThreadMessage",
    "ThreadOrder",
    "ThreadStateName",
    "ThreadStatus",
    "ThreadTakenOver",
    "Timeline",
    "TokenMetrics",
    "ToolCall",
    "ToolCallRecord",
    "ToolContext",
    "ToolMetrics",
    "ToolOutput",
    "Undeliverable",
    "UnknownOption",
    "UnknownThread",
    "Usage",
    "Validator",
    "Worker",
    "WorkerHandle",
    "WorkerMetrics",
    "max_length",
    "no_markup",
]

_LAZY = {
    "AsyncAssistantMessageQueue": "client.async_queue",
    "CompletedListener": "callback_types",
    "ConcurrentWorker": "worker.rq_concurrent_worker",
    "Event": "events",
    "FailedListener": "callback_types",
    "FallbackReply": "callback_types",
    "FlushCallable": "callback_types",
    "FunctionBackend": "backends.function.backend",
    "GuestCall": "backends.function.backend",
    "InstructionsCallable": "callback_types",
    "LoopWorkerHandle": "worker.loop_handle",
    "OnReply": "callback_types",
    "OpenCalls": "backends.function.backend",
    "RequiresActionHandler": "callback_types",
    "RunContext": "backends.function.backend",
    "Said": "backends.function.backend",
    "SettledCall": "backends.function.backend",
    "ShareCallable": "callback_types",
    "Validator": "callback_types",
    "Worker": "worker.rq_forking_worker",
    "WorkerHandle": "worker.handle",
    "max_length": "validators",
    "no_markup": "validators",
}
"""Modules that are imported when one of their names is asked for.

A process that only adds messages needs no RQ, a blocking one no asyncio.
"""

install()


if not TYPE_CHECKING:  # a type checker would take any name for one of this package

    def __getattr__(name: str) -> Any:
        """Import a lazy name, or a module at its old path."""
        if name in _LAZY:
            return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        if name in MODULES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
