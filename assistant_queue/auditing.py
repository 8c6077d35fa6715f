"""The audit of a queue: its records as values, and the sink that stores them.

The script that ends a batch spools its entry in Redis; a worker's drain reads the entries and gives
the records to the sink (`integrations/audit/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from assistant_queue.accounting import ErrorInfo, Timeline, ToolCallRecord, Usage

AuditOutcome = Literal["completed", "incomplete", "failed", "stopped", "said"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditMessage:
    """One message of a batch.

    Attributes:
        message_id: Its id.
        text: Its text, without the parts that are not text.
        author: Its author, None if it has none.
        tenant: Its label, None if it has none.
        instructions: Its instructions, None for the queue's.
        metadata: Its metadata.
        attachments: Its other parts, with long data cut off.
        queued_at: When Redis accepted it.
        wants_reply: As of the add.
        role: `assistant` for a reply of `say`.
        answered_by: The person that answered it, because the thread was taken over; else None.
    """

    message_id: str
    text: str
    author: str | None = None
    tenant: str | None = None
    instructions: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    attachments: Sequence[Mapping[str, Any]] = ()
    queued_at: datetime | None = None
    wants_reply: bool = True
    role: Literal["user", "assistant"] = "user"
    answered_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One batch that ended.

    Attributes:
        queue: The `queue_prefix`.
        outcome: `completed`, `incomplete`, `failed` (in the failed list), `stopped`, or `said` for
            a text of `say` that was written to the conversation.
        messages: What it answered, in the order in which the model saw them.
        reply: What the model said, or the fallback; None for nothing.
        run_id: The latest run, "" if there was none.
        model: The model that answered, None if it was not named.
        tenant: The tenant of the last message that has one.
        usage: Its tokens, None if the provider did not count them.
        timeline: Its times and attempts.
        attempts: How often it was sent.
        tools: Its calls of tools, without outputs; how those that waited were settled, by which
            name, and when.
        reason: Of the failed list, or of an incomplete run.
        error: The last error of a failed batch.
        fallback: `reply` is the `fallback_reply`.
        truncated: A text was longer than `max_chars`.
        answered_by: The person that answered instead of a run, because the thread was taken over;
            else None.
        ended_at: When it ended.
    """

    queue: str
    batch_id: str
    thread_id: str
    outcome: AuditOutcome
    messages: tuple[AuditMessage, ...]
    reply: str | None
    ended_at: datetime
    run_id: str = ""
    model: str | None = None
    tenant: str | None = None
    usage: Usage | None = None
    timeline: Timeline = field(default_factory=Timeline)
    attempts: int = 0
    tools: tuple[ToolCallRecord, ...] = ()
    reason: str | None = None
    error: ErrorInfo | None = None
    fallback: bool = False
    truncated: bool = False
    answered_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHit:
    """A message or a reply that a search of the audit has found.

    Attributes:
        kind: `message`, `batch`, `run` or `thread` for an id, else `author`, `text` or `reply`.
        message_id: The message; None for a hit in the batch or its reply.
        text: The text of the message, or the reply.
        ended_at: When the batch ended.
    """

    kind: Literal["thread", "message", "batch", "run", "author", "text", "reply"]
    thread_id: str
    batch_id: str
    ended_at: datetime
    message_id: str | None = None
    run_id: str | None = None
    author: str | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Erasure:
    """A thread was forgotten: all its records before this are to be removed."""

    thread_id: str


class AuditSink(Protocol):
    """A store of audit records; its methods block, and are called on one thread of a worker.

    Attributes:
        spool: Batches that wait in Redis while the store is away; further ones are lost.
        max_chars: Characters of each text that are kept.
    """

    spool: int
    max_chars: int

    def take_over(self, queue: str, holder: str) -> None:
        """Make `holder` the only one that writes the records of a queue.

        Raises:
            AuditUnavailable: As of `write`.
        """
        ...

    def write(
        self, queue: str, holder: str, entries: Sequence[AuditRecord | Erasure], lost: int
    ) -> bool:
        """Store records and erase threads, in order and in one transaction.

        A record that is there already stays as it is. `lost`: records of this queue that were never
        spooled, ever.

        Returns:
            False if another holder has taken over: nothing was written.

        Raises:
            AuditUnavailable: The store is away, or has no tables. Nothing was written.
        """
        ...

    def close(self) -> None:
        """Close its connections."""
        ...
