"""Models of requests and responses of the operations page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from assistant_queue.approvals import Approval
from assistant_queue.auditing import AuditHit
from assistant_queue.client import arguments
from assistant_queue.client.approval_calls import MAX_CALL_ID
from assistant_queue.core.metric_samples import MetricSpan
from assistant_queue.integrations.fastapi.schemas import SEGMENT, Text
from assistant_queue.metrics import WorkerMetrics
from assistant_queue.models import (
    BatchRecord,
    Explanation,
    FailedBatch,
    FailureReason,
    QueueStatus,
    ThreadStatus,
    Timeline,
)
from assistant_queue.store.ops.browsing import FailedCounts
from assistant_queue.store.ops.operation_log import OperationRecord

OperationName = Literal[
    "pause",
    "resume",
    "stop",
    "flush",
    "say",
    "take_over",
    "hand_back",
    "cancel_message",
    "approve_call",
    "deny_call",
    "retry_failed",
    "discard_failed",
]
"""Operations of the page. Further ones are added here and in `operation_calls.py`."""
MOST_BATCHES = 1000
"""Batches of one request. Chosen: as a page of the failed list."""
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "stop": ("thread_id",),
    "flush": ("thread_id",),
    "say": ("thread_id", "text"),
    "take_over": ("thread_id",),
    "hand_back": ("thread_id",),
    "cancel_message": ("thread_id", "message_id"),
    "approve_call": ("thread_id", "call_id"),
    "deny_call": ("thread_id", "call_id"),
}
_OF_FAILED = ("retry_failed", "discard_failed")

_Id = Annotated[str, Field(min_length=1, max_length=arguments.MAX_MESSAGE_ID)]


class NewOperation(BaseModel):
    """An operation to be performed."""

    model_config = ConfigDict(extra="forbid")

    operation: OperationName
    thread_id: (
        Annotated[str, Field(min_length=1, max_length=arguments.MAX_THREAD_ID, pattern=SEGMENT)]
        | None
    ) = Field(None, description="The thread; of `pause` and `resume` null for the whole queue.")
    message_id: _Id | None = Field(None, description="Of `cancel_message`.")
    call_id: Annotated[str, Field(min_length=1, max_length=MAX_CALL_ID)] | None = Field(
        None, description="Of `approve_call` and `deny_call`."
    )
    batch_ids: Annotated[list[_Id], Field(max_length=MOST_BATCHES)] | None = Field(
        None, description="Failed batches to retry or discard; of others than these none."
    )
    reasons: (
        Annotated[list[FailureReason], Field(max_length=len(get_args(FailureReason)))] | None
    ) = Field(None, description="Retry or discard the failed batches with one of these reasons.")
    text: Text | None = Field(
        None, description="Of `say`; of `deny_call` the reason, which the model reads."
    )
    instead_of: Annotated[str, Field(min_length=1, max_length=arguments.MAX_AUTHOR)] | None = Field(
        None, description="Of `take_over`: the person that answers the thread now."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        missing = [name for name in _NEEDS.get(self.operation, ()) if getattr(self, name) is None]
        if missing:
            msg = f"{self.operation} needs {' and '.join(missing)}"
            raise ValueError(msg)
        if self.operation in _OF_FAILED and not (self.batch_ids or self.reasons or self.thread_id):
            msg = f"{self.operation} needs batch_ids, reasons or thread_id"
            raise ValueError(msg)
        return self


class Operator(BaseModel):
    """The caller, as the page shows it."""

    name: str | None = Field(description="The name or id that operations are recorded with.")
    may_change: bool = Field(description="False: `authorize` refuses `operate_change`.")


class Overview(BaseModel):
    """The queue at a glance."""

    at: datetime
    queue: str
    operator: Operator
    status: QueueStatus
    thread_count: int
    oldest_due_s: float
    workers: list[WorkerMetrics]
    sees_workers: bool = Field(description="False: this user of Redis may not read the workers.")
    messages: dict[str, int] = Field(description="Ever: queued, answered, failed, cancelled.")
    runs_saved: int
    has_audit: bool = Field(description="The audit's database can be searched.")


class Spans(BaseModel):
    """The kept history of the metrics."""

    spans: list[MetricSpan] = Field(description="Oldest first; the last one ends now.")


class SeenThreads(BaseModel):
    """A page of threads."""

    threads: list[ThreadStatus]
    next: int | None = Field(description="What to say as `after`; null at the end.")
    read: int = Field(description="Threads that were read for this page.")
    total: int = Field(description="Threads of the list that was read.")


class WaitingMessage(BaseModel):
    """A message that is in a batch under way, or waits."""

    message_id: str
    author: str | None
    text: str
    queued_at: datetime | None
    is_in_batch: bool
    is_said: bool = Field(description="A text of `say`, not in the conversation yet.")


class CurrentBatch(BaseModel):
    """The batch that is under way."""

    batch_id: str
    run_id: str | None
    attempts: int
    timeline: Timeline


class ThreadView(BaseModel):
    """Everything that is known of a thread."""

    status: ThreadStatus
    explanation: Explanation
    sentence: str = Field(description="The explanation in words.")
    current: CurrentBatch | None
    waiting: list[WaitingMessage]
    batches: list[BatchRecord] = Field(description="The journal, newest first.")
    failed: list[FailedBatch] = Field(description="Its failed batches, of the newest ones.")
    approvals: list[Approval] = Field(description="Its tool calls that wait for an answer.")
    operations: list[OperationRecord]


class SeenFailed(BaseModel):
    """A page of failed batches."""

    failed: list[FailedBatch]
    next: str | None = Field(description="What to say as `after`; null at the end.")
    read: int = Field(description="Batches that were read for this page.")
    counts: FailedCounts | None = Field(description="With the first page.")


class AuditFound(BaseModel):
    """The result of a search in the audit's database."""

    hits: list[AuditHit]


class OperationsPage(BaseModel):
    """Operations from the page, newest first."""

    operations: list[OperationRecord]
