"""Events of a thread, as its subscribers get them: one frozen dataclass each.

`docs/events.md` has the table.

Every event has an `id` to resume from, the caller's `thread_id`, the time `at` (aware, UTC) and a
`type`, the same word as on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal, get_args

from assistant_queue.deprecated import old_names
from assistant_queue.models import Content, ErrorInfo, SayKind, Timeline, Usage

if not TYPE_CHECKING:  # a type checker would take any name for one of this module
    __getattr__ = old_names(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """Fields of all events.

    Attributes:
        id: `events(thread_id, after=id)` resumes after it, and so does `feed(after=id)` for an
            event of the feed. Ids of one thread grow, and so do those of the feed.
        thread_id: The caller's thread id.
        at: Time of the event; aware, UTC.
    """

    id: str
    thread_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageQueued(_Event):
    """A message was added.

    Attributes:
        author: Its author, None if it has none.
        due_at: End of the window, as known now; aware, UTC. None if no waiting message wants a
            reply.
        pending_count: Messages that wait, this one included.
    """

    message_id: str
    author: str | None
    content: Content
    due_at: datetime | None
    pending_count: int
    type: Literal["message_queued"] = "message_queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEdited(_Event):
    """The content of a message was replaced, while it waited or while it was being answered."""

    message_id: str
    content: Content
    type: Literal["message_edited"] = "message_edited"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageWithdrawn(_Event):
    """A message was cancelled, or removed from its batch; it will not be answered."""

    message_id: str
    type: Literal["message_cancelled"] = "message_cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowMoved(_Event):
    """The window of the waiting messages ends at another time than published before.

    Attributes:
        due_at: Its new end; aware, UTC. None if no waiting message wants a reply any more.
        pending_count: Messages that wait.
    """

    due_at: datetime | None
    pending_count: int
    type: Literal["window_moved"] = "window_moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing(_Event):
    """A person types.

    Attributes:
        author: Their name, None if it was not given.
        until: End of the typing unless it is published again; aware, UTC.
    """

    author: str | None
    until: datetime
    type: Literal["typing"] = "typing"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchClaimed(_Event):
    """A worker has the batch: a new one, or one that another worker left.

    If it is published again for the same batch, the later event counts.

    Attributes:
        message_ids: In order.
        attempt: Number of the attempt, from 1.
    """

    batch_id: str
    message_ids: tuple[str, ...]
    attempt: int
    type: Literal["batch_claimed"] = "batch_claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(_Event):
    """The provider has accepted the batch, or tool outputs that are another run (Responses)."""

    batch_id: str
    run_id: str
    type: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(_Event):
    """A piece of a run's text.

    Attributes:
        index: Number of the run's message, from 0.
        offset: Position of the piece in that message, in characters (Unicode code points). At 0
            the message begins, also if it had begun before.
        text: The piece, at least one character.
    """

    batch_id: str
    run_id: str
    index: int
    offset: int
    text: str
    type: Literal["text_delta"] = "text_delta"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalled(_Event):
    """One of your functions is called. After a crash the same call may be published again.

    Attributes:
        arguments: The JSON that the model wrote, unchecked.
    """

    batch_id: str
    run_id: str
    tool_call_id: str
    name: str
    arguments: str
    type: Literal["tool_called"] = "tool_called"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswered(_Event):
    """The output of a call is stored, and will be sent.

    Attributes:
        output: The text that is sent to the model.
    """

    batch_id: str
    run_id: str
    tool_call_id: str
    output: str
    type: Literal["tool_answered"] = "tool_answered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyReady(_Event):
    """The batch is answered, and its results are stored.

    Attributes:
        run_id: The latest run of the batch.
        reply: `replies` joined by a blank line, None if there were none.
        replies: The complete messages of all its runs; they replace all deltas.
        incomplete_reason: Reason why the model was cut short, None if it was not.
        usage: Tokens of its run, None if the provider did not count them.
        model: The model that answered, None if it was not named.
        tenant: The label of its messages, None if they have none.
        timeline: Times of the batch, and the attempts at it.
        answered_by: The person that said the `reply`, because the thread was taken over: the
            event `said` has shown them. None if the model answered.
    """

    batch_id: str
    run_id: str
    message_ids: tuple[str, ...]
    reply: str | None
    replies: tuple[str, ...]
    incomplete_reason: str | None
    usage: Usage | None = None
    model: str | None = None
    tenant: str | None = None
    timeline: Timeline = field(default_factory=Timeline)
    answered_by: str | None = None
    type: Literal["reply_ready"] = "reply_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyDelivered(_Event):
    """The platform has the whole reply: `on_reply` has returned, or all parts are confirmed.

    Attributes:
        late: It was delivered by hand from the failed list.
    """

    batch_id: str
    late: bool
    type: Literal["reply_delivered"] = "reply_delivered"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSaid(_Event):
    """A text was said in the thread with `say`, without a run.

    Attributes:
        message_id: The id in the receipt.
        author: Its author, None if it has none.
        text: The text.
        kind: `reply`, or `notice` for a text that the model does not see.
    """

    message_id: str
    author: str | None
    text: str
    kind: SayKind
    type: Literal["said"] = "said"


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenOver(_Event):
    """A person answers the thread instead of the model.

    Attributes:
        by: The person.
        instead_of: The person that answered it before, None if the model did.
    """

    by: str
    instead_of: str | None
    type: Literal["taken_over"] = "taken_over"


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedBack(_Event):
    """The model answers the thread again.

    Attributes:
        by: The person that answered it until now.
    """

    by: str
    type: Literal["handed_back"] = "handed_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFailed(_Event):
    """The reply is in the failed list: it was not delivered, or that is not known.

    Attributes:
        reason: `undelivered`, or `delivery_unknown`: the platform may have it.
    """

    batch_id: str
    message_ids: tuple[str, ...]
    reason: str
    error: ErrorInfo
    type: Literal["delivery_failed"] = "delivery_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStopped(_Event):
    """The batch was stopped: its messages are cancelled, and nothing of it is delivered.

    Attributes:
        run_id: Its latest run, empty if there was none.
        reply: `replies` joined by a blank line; None if nothing was said.
        replies: What was said until then; it replaces all deltas.
        usage: Tokens of its runs, None if they were not counted.
    """

    batch_id: str
    run_id: str
    message_ids: tuple[str, ...]
    reply: str | None
    replies: tuple[str, ...]
    usage: Usage | None = None
    type: Literal["run_stopped"] = "run_stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInterrupted(_Event):
    """The batch's run was cancelled for a new message; they are answered together.

    The deltas of the run are void.

    Attributes:
        run_id: The run, empty if there was none.
        message_ids: All messages of the batch now, in order.
    """

    batch_id: str
    run_id: str
    message_ids: tuple[str, ...]
    type: Literal["run_interrupted"] = "run_interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptRefused(_Event):
    """A message was to interrupt or to steer the batch, and waits for the next instead.

    Attributes:
        reason: `max_interrupts`; `cannot_cancel`: the run cannot be cancelled; `max_batch_size` or
            `max_batch_chars`: the batch is full; `separate_authors`: with that option nothing
            interrupts a batch, and only its own authors steer it; or `say`: a reply of `say` comes
            between.
    """

    batch_id: str
    reason: str
    type: Literal["interrupt_refused"] = "interrupt_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequested(_Event):
    """A tool call waits for an answer from outside; the batch is parked.

    Attributes:
        call_id: For `approve`, `deny` and `answer_tool`.
        tool: The function's name.
        arguments: The JSON that the model wrote.
        question: What is asked; None if nothing is.
        kind: `approval`, or `answer` if the output comes by `answer_tool`.
        authors: The authors of the batch's messages.
        expires_at: When the call is denied by itself; aware, UTC.
    """

    batch_id: str
    call_id: str
    tool: str
    arguments: str
    question: str | None
    kind: str
    authors: tuple[str, ...]
    expires_at: datetime
    type: Literal["approval_requested"] = "approval_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalSettled(_Event):
    """A tool call waits no more.

    Attributes:
        verdict: `approved`, `denied`, `answered`, `expired`, or `withdrawn`: its batch was stopped,
            interrupted, or ended otherwise.
        by: The name that was given with the answer, None for none.
        reason: Of a denial.
    """

    batch_id: str
    call_id: str
    verdict: str
    by: str | None
    reason: str | None
    type: Literal["approval_settled"] = "approval_settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSteered(_Event):
    """Messages have joined the batch, and go with the outputs of its tools.

    Attributes:
        run_id: The run of the round before.
        message_ids: Those that have joined, in order.
    """

    batch_id: str
    run_id: str
    message_ids: tuple[str, ...]
    type: Literal["message_steered"] = "message_steered"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(_Event):
    """An attempt failed and another will be made; the deltas of the failed one are void.

    Attributes:
        attempt: How often the batch has been sent; refusals that do not count are left out.
        retry_at: Time of the next attempt; aware, UTC.
    """

    batch_id: str
    attempt: int
    error: ErrorInfo
    retry_at: datetime
    type: Literal["attempt_failed"] = "attempt_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchParked(_Event):
    """The batch is in the failed list: the provider may have accepted it, and cannot be asked."""

    batch_id: str
    message_ids: tuple[str, ...]
    error: ErrorInfo
    type: Literal["batch_parked"] = "batch_parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDeadLettered(_Event):
    """The batch is in the failed list because its attempts are used up, or no attempt can help."""

    batch_id: str
    message_ids: tuple[str, ...]
    error: ErrorInfo
    type: Literal["batch_dead_lettered"] = "batch_dead_lettered"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRetried(_Event):
    """A failed batch was retried: its messages wait again, at the thread's head.

    Attributes:
        pending_count: Messages that wait, these included.
    """

    batch_id: str
    message_ids: tuple[str, ...]
    pending_count: int
    type: Literal["batch_retried"] = "batch_retried"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDiscarded(_Event):
    """A failed batch was discarded."""

    batch_id: str
    message_ids: tuple[str, ...]
    type: Literal["batch_discarded"] = "batch_discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsMissed(_Event):
    """Events after `after` may be gone: trimmed, expired, or lost with Redis.

    All events that are still kept follow. This one is not kept in Redis; its `id` is that of
    `after`. Read the thread's state again, and continue. In the feed its `thread_id` is empty.

    Attributes:
        after: The last id that the reader had.
    """

    after: str
    type: Literal["events_missed"] = "events_missed"


Event = (
    MessageQueued
    | MessageEdited
    | MessageWithdrawn
    | WindowMoved
    | Typing
    | BatchClaimed
    | RunStarted
    | TextDelta
    | ToolCalled
    | ToolAnswered
    | ReplyReady
    | ReplyDelivered
    | DeliveryFailed
    | TextSaid
    | TakenOver
    | HandedBack
    | RunStopped
    | RunInterrupted
    | InterruptRefused
    | MessageSteered
    | ApprovalRequested
    | ApprovalSettled
    | AttemptFailed
    | BatchParked
    | BatchDeadLettered
    | BatchRetried
    | BatchDiscarded
    | EventsMissed
)
"""All events that `events` and `feed` yield; distinguish them by class or by `type`."""

EVENTS: tuple[type[Event], ...] = get_args(Event)
"""The classes, in the order of the documentation."""
