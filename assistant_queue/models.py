"""Values that public calls take and return: frozen dataclasses with documented units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from assistant_queue.accounting import AttemptInfo as AttemptInfo  # noqa: PLC0414 - found here, too
from assistant_queue.accounting import BatchOutcome as BatchOutcome  # noqa: PLC0414
from assistant_queue.accounting import BatchRecord as BatchRecord  # noqa: PLC0414
from assistant_queue.accounting import DeliveryRecord as DeliveryRecord  # noqa: PLC0414
from assistant_queue.accounting import DeliveryStatus as DeliveryStatus  # noqa: PLC0414
from assistant_queue.accounting import ErrorInfo as ErrorInfo  # noqa: PLC0414
from assistant_queue.accounting import Timeline as Timeline  # noqa: PLC0414
from assistant_queue.accounting import ToolCallRecord as ToolCallRecord  # noqa: PLC0414
from assistant_queue.accounting import Usage as Usage  # noqa: PLC0414
from assistant_queue.explanations import Explanation as Explanation  # noqa: PLC0414
from assistant_queue.explanations import ExplanationVerdict as ExplanationVerdict  # noqa: PLC0414

Content = str | Sequence[Mapping[str, Any]]
"""A message's content: text, or a list of the provider's content-part dicts (text, image, file)."""


TEXT_PARTS = frozenset({"text", "input_text"})
"""Types of content parts that are text, in the formats of the protocols."""


class MessageState(StrEnum):
    """States of a message; `MessageStatus.status` is the value of one."""

    QUEUED = "queued"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    if TYPE_CHECKING:
        # Declared, or type checkers take the comparison with a `MessageStateName` for a mistake.
        def __eq__(self, other: object, /) -> bool: ...

        def __hash__(self) -> int: ...


MessageStateName = Literal["queued", "processing", "completed", "failed", "cancelled"]
"""Values of `MessageState`."""

ThreadStateName = Literal["idle", "pending", "active", "retrying", "held", "parked"]
"""States of a thread; docs/thread-life.md explains them."""

ThreadFilter = Literal[
    "pending", "active", "retrying", "held", "paused", "taken_over", "stuck", "parked"
]
"""Values of `state` of `list_threads`."""

ThreadOrder = Literal["oldest_due", "newest_due"]
"""Values of `order` of `list_threads`."""

ResultStatus = Literal["completed", "incomplete", "failed", "stopped"]
"""Outcomes of a batch, as `RunResult.status`."""

SayKind = Literal["reply", "notice"]
"""Kinds of what `say` says: a reply is written to the provider's conversation, a notice is not."""


FailureReason = Literal[
    "attempts",
    "refused",
    "worker_deaths",
    "parked",
    "unknown_thread",
    "not_configured",
    "undelivered",
    "delivery_unknown",
    "corrupt",
]
"""Reasons why a batch is in the failed list, as `FailedBatch.reason`."""


class BackoffKeywords(TypedDict, total=False):
    """The option `backoff`: how long a batch waits between two attempts.

    Keys:
        type: `exponential` doubles the wait after each attempt, `fixed` keeps it.
        delay: Seconds before the second attempt, 0 or more; 5 by default.
    """

    type: Literal["exponential", "fixed"]
    delay: float


class DeliveryBackoffKeywords(BackoffKeywords, total=False):
    """The option `delivery_backoff` as a dict; seconds."""

    max_delay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message as the queue took it.

    Attributes:
        id: Unique within the prefix.
        content: Text, or the provider's content parts.
        instructions: The caller's instructions for this message, None for the default.
        author: Its author, None if it has none.
        metadata: The caller's string pairs, kept beside the message.
        held: The provider's thread already has this text (a run over it failed, and the batch was
            retried).
        tenant: The caller's label for the customer it belongs to, None if it has none.
        queued_at: When Redis accepted it; aware, UTC. None before that, and if version 0.1 added
            it. Two messages are equal whatever it is.
        wants_reply: False for a message that is answered with the next one that wants a reply.
        request_id: The id of the HTTP request that added it, for the log; None if none did.
        role: `assistant` for a reply of `say`: it is written to the conversation, and no run
            answers it.
        trace: The W3C trace context of the call that added it (`traceparent`, a space and
            `tracestate` if there is one); None if the queue was not instrumented there.
        answered_by: The person that answered it while the thread was taken over; None if the
            model answers it.
    """

    id: str
    content: Content
    instructions: str | None = None
    author: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    held: bool = False
    tenant: str | None = None
    queued_at: datetime | None = field(default=None, compare=False)
    wants_reply: bool = True
    request_id: str | None = field(default=None, compare=False)
    role: Literal["user", "assistant"] = "user"
    trace: str | None = field(default=None, compare=False)
    answered_by: str | None = None

    @property
    def has_attachment(self) -> bool:
        """Whether the content has a part that is not text: a picture, a file."""
        return not isinstance(self.content, str) and any(
            part.get("type") not in TEXT_PARTS for part in self.content
        )

    @property
    def text(self) -> str:
        """The text of the content; parts that are not text are left out."""
        if isinstance(self.content, str):
            return self.content
        return "\n".join(
            str(part["text"]) for part in self.content if isinstance(part.get("text"), str)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The messages of one run, frozen, in the order in which Redis took them.

    Passed to the `default_instructions` callable and to a function backend.

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
        """The texts of all messages, one per line."""
        return "\n".join(message.text for message in self.messages)

    @property
    def authors(self) -> tuple[str, ...]:
        """The distinct authors, in the order of their first message."""
        return tuple(
            dict.fromkeys(message.author for message in self.messages if message.author is not None)
        )

    @property
    def metadata(self) -> Mapping[str, str]:
        """The metadata of the last message."""
        return self.messages[-1].metadata if self.messages else {}

    @property
    def tenant(self) -> str | None:
        """The tenant of the last message that has one; None if none has."""
        tenants = (message.tenant for message in reversed(self.messages))
        return next((tenant for tenant in tenants if tenant is not None), None)


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """The function that a model calls.

    `arguments` is the JSON string that the model wrote, unchecked.
    """

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that the model waits for.

    `id` is stable across retries: use it as an idempotency key.
    """

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The answer to one call.

    A string is sent as it is, any other output as pydantic's JSON of it.
    """

    tool_call_id: str
    output: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """Confirmation of `add_message_to_thread`: the message is stored and will be answered.

    Attributes:
        message_id: The message's id, the caller's or a generated one.
        thread_id: The caller's thread id.
        job_id: The RQ job that will wake a worker, None if none was needed (a run is in progress
            and picks the message up).
        due_at: End of the thread's window, as known at this moment; aware, UTC. 9999-01-01 if no
            waiting message wants a reply.
        duplicate: The message had been added before; nothing was queued now.
    """

    message_id: str
    thread_id: str
    job_id: str | None
    due_at: datetime
    duplicate: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus:
    """State of one message, and its reply.

    Attributes:
        status: `queued`, `processing`, `completed`, `failed` or `cancelled`: the value of a
            `MessageState`. A message of a parked batch is `failed` with `error.code == "parked"`;
            one of a batch in back-off is `queued` with an `error`, and `cancel` returns False.
        run_id: The provider's run, once there is one.
        reply: The run's messages joined by a blank line; None before completion and if the run
            said nothing.
        replies: The run's messages, one entry each.
        attempts: How often the message's batch has been sent to the provider.
        error: The last failure, also while a retry is still to come.
        batch_id: The batch it went into, None while it waits.
        fallback: `reply` is the `fallback_reply` of a failed batch: `status` is `failed`, `error`
            is set, and the batch is in the failed list.
        author: Its author, None if it has none.
        metadata: The caller's string pairs.
        tenant: The caller's label, None if it has none.
        queued_at: When Redis accepted it; aware, UTC. None if version 0.1 added it.
        due_at: When a worker claims it, as known now: the end of its window; aware, UTC. Once
            claimed, when it was due. None while it waits for a message that wants a reply.
        timeline: Its times, and the attempts at its batch.
        usage: Tokens of its run so far; None if none were counted.
        delivery: State of the reply's delivery by `on_reply` or a channel: `none` if there is none
            (yet), `pending`, `delivered`, `unknown` (the platform may have it; the reply is in the
            failed list), or `undelivered`.
        approval: The id of the tool call that waits for a person, None if none does.
        answered_by: The person that said the `reply`, because the thread was taken over; None
            if the model answered.
    """

    message_id: str
    thread_id: str
    status: MessageStateName
    run_id: str | None = None
    reply: str | None = None
    replies: tuple[str, ...] = ()
    attempts: int = 0
    error: ErrorInfo | None = None
    batch_id: str | None = None
    fallback: bool = False
    author: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    queued_at: datetime | None = None
    due_at: datetime | None = None
    timeline: Timeline = field(default_factory=Timeline)
    usage: Usage | None = None
    delivery: DeliveryStatus = "none"
    approval: str | None = None
    answered_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """Numbers of messages by state.

    Attributes:
        active_count: In a claimed batch, including the grace period after an ambiguous request.
        waiting_count: Due, not claimed yet.
        delayed_count: The window or a back-off is still running, or no waiting message of their
            thread wants a reply.
        completed_count: Ever completed under this prefix.
        failed_count: Dead or parked now.
        delivering_count: Replies that wait for their delivery, or are being delivered.
        delivered_count: Replies ever delivered under this prefix.
        undelivered_count: Replies in the failed list now: not delivered, or that is not known.
        paused: The whole queue is paused: messages are accepted, nothing is claimed.
        parked_count: In a batch that waits for answers to its tool calls from outside, or for its
            run to end at the provider.
        paused_since: When it was paused, UTC; None if it is not, or if an older version paused it.
    """

    active_count: int = 0
    waiting_count: int = 0
    delayed_count: int = 0
    completed_count: int = 0
    failed_count: int = 0
    delivering_count: int = 0
    delivered_count: int = 0
    undelivered_count: int = 0
    paused: bool = False
    paused_since: datetime | None = None
    parked_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadStatus:
    """State of one thread.

    Attributes:
        state: A `ThreadState`: `idle`, `pending`, `active`, `retrying`, `held` or `parked`.
        pending_count: Messages that wait for the current batch to end, or for their window.
        batch_id: The frozen batch, None without one.
        run_id: The run of that batch, None before it is known.
        due_at: When a worker next examines the thread: the end of its window, a retry, the end of
            a lease; aware, UTC. None if no waiting message wants a reply.
        attempts: How often the current batch has been sent.
        paused: Messages are accepted, nothing is claimed or delivered. Of a thread that is taken
            over: once it is handed back.
        delivering_count: Replies that wait for their delivery, or are being delivered.
        delivery_due_at: When the first of them is tried next, or its lease ends; aware, UTC.
        delivery_error: Why its last try failed.
        taken_over_by: The person that answers instead of the model; None if the model does.
        taken_over_since: Since when; aware, UTC.
    """

    thread_id: str
    state: ThreadStateName
    pending_count: int = 0
    batch_id: str | None = None
    run_id: str | None = None
    due_at: datetime | None = None
    attempts: int = 0
    paused: bool = False
    delivering_count: int = 0
    delivery_due_at: datetime | None = None
    delivery_error: ErrorInfo | None = None
    taken_over_by: str | None = None
    taken_over_since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """One completed batch, as passed to `on_reply` and to the worker's `completed` listeners.

    `on_reply` also gets a failed batch that has a fallback.

    Attributes:
        run_id: The latest run of the batch (each tool round of Responses is its own run).
        message_ids: In the order in which the model saw them.
        status: `completed`, or `incomplete` with `incomplete_reason`; `failed` if the batch is in
            the failed list and `reply` a fallback.
        reply: `replies` joined by a blank line, None if there were none.
        usage: Tokens; None if the provider did not count them.
        attempts: How often the batch was sent.
        started_at: When the first worker claimed the batch; aware, UTC.
        ended_at: When the run's end was stored; aware, UTC.
        fallback: `reply` is the `fallback_reply`. With `status="failed"` the batch is in the failed
            list, and its own reply follows if it is retried; with `incomplete_reason="empty"` the
            model said nothing, and there is no other reply.
        late: It was in the failed list, and is delivered by hand: later replies may have been
            delivered before it.
        messages: The messages that it answers, in that order; they are kept until the reply is
            delivered. Empty if they are not known any more: stored results never have them.
        authors: Their distinct authors, in the order of their first message.
        metadata: The metadata of the last message.
        tenant: The tenant of the last message that has one.
        model: The model that answered, by the provider's name; None if it was not named.
        timeline: Times of the batch, and the attempts at it.
        answered_by: The person that said the `reply`, because the thread was taken over; no
            run answered the messages, and the words were shown and delivered by `say`.
    """

    thread_id: str
    run_id: str
    batch_id: str
    message_ids: tuple[str, ...]
    messages_processed: int
    status: ResultStatus
    incomplete_reason: str | None
    reply: str | None
    replies: tuple[str, ...]
    usage: Usage | None
    attempts: int
    started_at: datetime
    ended_at: datetime
    fallback: bool = False
    late: bool = False
    messages: tuple[Message, ...] = ()
    authors: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    model: str | None = None
    timeline: Timeline = field(default_factory=Timeline)
    answered_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedBatch:
    """A batch in the failed list, to be retried or discarded.

    It is dead (its attempts are used up, or no attempt can help) or parked (the provider may have
    accepted it, and cannot be asked). Or it was answered, and its reply was not delivered.

    Attributes:
        reason: `attempts`, `refused`, `worker_deaths`, `parked`, `unknown_thread`,
            `not_configured`, `corrupt`; of a reply `undelivered` or `delivery_unknown`.
        error: The last error.
        known_run_id: The provider's run, if one was ever known.
        failed_at: Aware, UTC.
    """

    batch_id: str
    thread_id: str
    message_ids: tuple[str, ...]
    reason: FailureReason
    error: ErrorInfo
    attempts: int
    known_run_id: str | None
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PostponedBatch:
    """A batch that will be looked at again, as the hook `retrying` gets it.

    Attributes:
        state: `retrying`: it is sent again; `held`: the provider is asked first whether it has
            accepted it.
        error: The failure that it waits for.
        attempts: How often the batch was sent.
        known_run_id: The provider's run, if one is known.
        retry_at: Aware, UTC.
    """

    batch_id: str
    thread_id: str
    message_ids: tuple[str, ...]
    state: Literal["retrying", "held"]
    error: ErrorInfo
    attempts: int
    known_run_id: str | None
    retry_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveredReply:
    """A reply that its platform has, as the hook `delivered` gets it.

    Attributes:
        batch_id: The batch that it answers.
        channel: The name of the channel; `on_reply` for the callback.
        tries: Earlier tries that failed.
        result: The reply, with the messages that it answers.
    """

    batch_id: str
    thread_id: str
    channel: str
    tries: int
    result: RunResult


@dataclass(frozen=True, slots=True, kw_only=True)
class ThreadInfo:
    """A thread as the provider knows it.

    Attributes:
        id: The provider's own id, of its thread or conversation.
        thread_id: The id the caller asked by.
        created_at: Aware, UTC; None if the provider does not say.
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
        role: `user`, `assistant` or another role of the provider.
        text: The text of the content; parts that are not text are left out.
        content: The content parts, in the provider's format.
        created_at: Aware, UTC. The provider's time; where it has none (Responses, Chat
            Completions), when the queue took the message, to a second, or when the batch that it
            answers ended. None where the thread's journal does not have it.
        run_id: The run that wrote it; None on Responses, and for messages of no run.
        metadata: The message's pairs; empty on Responses.
        author: The author that was given with the add, or with `say`; None if none was, and where
            the thread's journal does not have it.
    """

    id: str
    role: str
    text: str
    content: tuple[Mapping[str, Any], ...] = ()
    created_at: datetime | None = None
    run_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    author: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run, in its present state at the provider.

    Attributes:
        id: The provider's id of the run; on Responses, of the response.
        thread_id: The id the caller asked by.
        status: The provider's word: `queued`, `in_progress`, `completed`, `failed` ...;
            `requires_action` while there are calls to answer, also on Responses, which lacks the
            word.
        required_calls: The calls that `submit_tool_outputs` has to answer, all at once.
        created_at: Aware, UTC; None if the provider does not say.
        error: Reason of a failure.
        incomplete_reason: Reason of an `incomplete` run.
        usage: Tokens, if the provider counts them; on Responses, of this round only.
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
