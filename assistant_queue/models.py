"""The values that cross the package's public border: frozen, typed, with units in their documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Literal

Content = str | Sequence[Mapping[str, Any]]
"""A message's content: text, or a list of the provider's content-part dicts (text, image, file)."""


TEXT_PARTS = frozenset({"text", "input_text"})
"""The content parts that are text, as the protocols spell them."""


class MessageState(str, Enum):
    """What has become of one message."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as the queue took it.

    Attributes:
        id: Unique within the prefix.
        content: Text, or the provider's content parts.
        instructions: The caller's instructions for this message, None for the default.
        author: Its author, None if it has none.
        metadata: String pairs of the caller's, kept beside the message.
        held: The provider's thread holds this text already (a run over it failed and a person asked for a retry).
    """

    id: str
    content: Content
    instructions: str | None = None
    author: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    held: bool = False

    @property
    def has_attachment(self) -> bool:
        """The content holds a part that is not text: a picture, a file."""
        return not isinstance(self.content, str) and any(part.get("type") not in TEXT_PARTS for part in self.content)

    @property
    def text(self) -> str:
        """The text of the content; parts that are not text are left out."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(str(part["text"]) for part in self.content if isinstance(part.get("text"), str))


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The messages of one run, frozen, in the order in which Redis took them.

    This is what the `default_instructions` callable and a function backend are given.

    Attributes:
        id: The batch's own id; `on_reply` is keyed by it.
        thread_id: The caller's thread id.
        messages: At least one.
        attempts: How often the batch has been sent so far, this time included.
    """

    id: str
    thread_id: str
    messages: tuple[Message, ...]
    attempts: int = 1

    @property
    def text(self) -> str:
        """The texts of all messages, one a line."""
        return "\n".join(message.text for message in self.messages)

    @property
    def authors(self) -> tuple[str, ...]:
        """The distinct authors, in the order of their first message."""
        return tuple(dict.fromkeys(message.author for message in self.messages if message.author is not None))


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The function a model wants called. `arguments` is the JSON string the model wrote, unchecked."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call the model waits for. `id` is stable across retries: use it as an idempotency key."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The answer to one call. An output that is not a string is JSON-encoded before it is sent."""

    tool_call_id: str
    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What `add_message_to_thread` promises.

    Attributes:
        message_id: The id to ask for, the caller's or a generated one.
        thread_id: The caller's thread id.
        job_id: The RQ job that will wake a worker, None if none was needed (a run is going on and picks it up).
        due_at: When the thread's window ends, as known at this moment; aware, UTC.
        duplicate: The message had been added before; nothing was queued now.
    """

    message_id: str
    thread_id: str
    job_id: str | None
    due_at: datetime
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """Why something failed: a stable `code` for programs and a `message` for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus:
    """What is known of one message.

    Attributes:
        status: `queued`, `processing`, `completed`, `failed` or `cancelled`. A parked batch is `failed` with `error.code == "parked"`.
        run_id: The provider's run, once there is one.
        reply: The run's messages joined by a blank line; None before completion and where the run said nothing.
        replies: The run's messages, one each.
        attempts: How often the message's batch has been sent to the provider.
        error: The last failure, also while a retry is still to come.
        batch_id: The batch it went into, None while it waits.
        fallback: `reply` is the `fallback_reply` of a batch that failed: `status` and `error` say so, and the batch is in the failed list.
    """

    message_id: str
    thread_id: str
    status: str
    run_id: str | None = None
    reply: str | None = None
    replies: tuple[str, ...] = ()
    attempts: int = 0
    error: ErrorInfo | None = None
    batch_id: str | None = None
    fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """How many messages are where.

    Attributes:
        active_count: In a claimed batch, the grace period of an ambiguous one included.
        waiting_count: Due, not claimed yet.
        delayed_count: The window or a back-off is still running.
        completed_count: Ever completed under this prefix.
        failed_count: Dead or parked now.
        paused: The whole queue is paused: messages are accepted, nothing is claimed.
        paused_since: When it was paused, UTC; None if it is not, or if an older version paused it.
    """

    active_count: int = 0
    waiting_count: int = 0
    delayed_count: int = 0
    completed_count: int = 0
    failed_count: int = 0
    paused: bool = False
    paused_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStatus:
    """Where one thread stands.

    Attributes:
        state: A `ThreadState`: `idle`, `pending`, `active`, `retrying` or `held`.
        pending_count: Messages that wait behind the current batch, or for their window.
        batch_id: The frozen batch, None without one.
        run_id: The run of that batch, None before it is known.
        due_at: When a worker will next look at the thread: the window's end, a retry, a lease's end; aware, UTC.
        attempts: How often the current batch has been sent.
        paused: Messages are accepted, nothing is claimed.
    """

    thread_id: str
    state: str
    pending_count: int = 0
    batch_id: str | None = None
    run_id: str | None = None
    due_at: datetime | None = None
    attempts: int = 0
    paused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of all rounds of a run, as the provider counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One completed batch, as `on_reply` and the worker's `completed` event get it; to `on_reply`, a failed one with a fallback, too.

    Attributes:
        run_id: The latest run of the batch (each tool round of Responses is a run of its own).
        message_ids: In the order in which the model saw them.
        status: `completed`, or `incomplete` with `incomplete_reason`; `failed` if the batch is in the failed list and `reply` a fallback.
        reply: `replies` joined by a blank line, None if there were none.
        usage: None where the provider did not say.
        attempts: How often the batch was sent.
        started_at: When the first worker claimed the batch; aware, UTC.
        ended_at: When the run's end was stored; aware, UTC.
        fallback: `reply` is the `fallback_reply`. With `status="failed"` the batch is in the failed list, and its true reply comes if it is
            retried; with `incomplete_reason="empty"` the model said nothing, and there is no other reply.
    """

    thread_id: str
    run_id: str
    batch_id: str
    message_ids: tuple[str, ...]
    messages_processed: int
    status: str
    incomplete_reason: str | None
    reply: str | None
    replies: tuple[str, ...]
    usage: Usage | None
    attempts: int
    started_at: datetime
    ended_at: datetime
    fallback: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBatch:
    """A batch that needs a decision: dead (attempts used up) or parked (whether it was accepted cannot be found out).

    Attributes:
        reason: `attempts`, `refused`, `worker_deaths`, `parked`, `unknown_thread`, `not_configured`, `corrupt`.
        error: The last error.
        known_run_id: The provider's run, if one was ever known.
        failed_at: Aware, UTC.
    """

    batch_id: str
    thread_id: str
    message_ids: tuple[str, ...]
    reason: str
    error: ErrorInfo
    attempts: int
    known_run_id: str | None
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadInfo:
    """A thread as the provider knows it.

    Attributes:
        id: The provider's own id, of its thread or conversation.
        thread_id: The id the caller asked by.
        created_at: Aware, UTC; None where the provider does not say.
        metadata: The provider's pairs.
    """

    id: str
    thread_id: str
    created_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadMessage:
    """One message of a thread, as the provider holds it.

    Attributes:
        id: The provider's id of the message; also the cursor for `after` and `before`.
        role: `user` or `assistant`, or what else the provider says.
        text: The text of the content; parts that are not text are left out.
        content: The content parts, as the provider spells them.
        created_at: Aware, UTC; None on Responses, whose items carry no time.
        run_id: The run that said it; None on Responses, and for what no run said.
        metadata: The message's pairs; empty on Responses.
    """

    id: str
    role: str
    text: str
    content: tuple[Mapping[str, Any], ...] = ()
    created_at: datetime | None = None
    run_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run, as the provider shows it at this moment.

    Attributes:
        id: The provider's id of the run; on Responses, of the response.
        thread_id: The id the caller asked by.
        status: The provider's word: `queued`, `in_progress`, `completed`, `failed` ...; `requires_action` while there are calls to answer,
            also on Responses, which have no word for it.
        required_calls: The calls that `submit_tool_outputs` has to answer, all at once.
        created_at: Aware, UTC; None where the provider does not say.
        error: Why it failed.
        incomplete_reason: Why an `incomplete` run stopped.
        usage: Tokens, where the provider counts them; on Responses, of this round only.
        metadata: The run's pairs.
    """

    id: str
    thread_id: str
    status: str
    required_calls: tuple[ToolCall, ...] = ()
    created_at: datetime | None = None
    error: ErrorInfo | None = None
    incomplete_reason: str | None = None
    usage: Usage | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
