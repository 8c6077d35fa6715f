"""What can happen to a thread, as its subscribers see it: one frozen value each. `docs/events.md` has the table.

Every event has an `id` to resume from, the caller's `thread_id`, the time `at` (aware, UTC) and a `type`, the same word as on the wire.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from assistant_queue.models import Content, ErrorInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """What all events have.

    Attributes:
        id: `events(thread_id, after=id)` goes on behind it. Ids of one thread grow.
        thread_id: The caller's thread id.
        at: When it happened; aware, UTC.
    """

    id: str
    thread_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageQueued(_Event):
    """A message was taken.

    Attributes:
        author: Its author, None if it has none.
        due_at: When the window ends, as known now; aware, UTC.
        pending_count: Messages that wait, this one included.
    """

    message_id: str
    author: str | None
    content: Content
    due_at: datetime
    pending_count: int
    type: Literal["message_queued"] = "message_queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEdited(_Event):
    """A waiting message has another content now."""

    message_id: str
    content: Content
    type: Literal["message_edited"] = "message_edited"


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageCancelled(_Event):
    """A waiting message was taken out; it will not be answered."""

    message_id: str
    type: Literal["message_cancelled"] = "message_cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowMoved(_Event):
    """The window of the waiting messages ends at another time than was told before.

    Attributes:
        due_at: When it ends now; aware, UTC.
        pending_count: Messages that wait.
    """

    due_at: datetime
    pending_count: int
    type: Literal["window_moved"] = "window_moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Typing(_Event):
    """A person types.

    Attributes:
        author: Their name, None if it was not given.
        until: When it is over unless it is told again; aware, UTC.
    """

    author: str | None
    until: datetime
    type: Literal["typing"] = "typing"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchClaimed(_Event):
    """A worker has the batch: a new one, or one that another worker left. Told again of the same batch, the later one counts.

    Attributes:
        message_ids: In order.
        attempt: Which attempt this is, from 1.
    """

    batch_id: str
    message_ids: tuple[str, ...]
    attempt: int
    type: Literal["batch_claimed"] = "batch_claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(_Event):
    """The provider has accepted the batch, or the outputs of a tool round that are a run of their own (Responses)."""

    batch_id: str
    run_id: str
    type: Literal["run_started"] = "run_started"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta(_Event):
    """A piece of a run's text.

    Attributes:
        index: Which of the run's messages, from 0.
        offset: Where in that message it belongs, in characters (Unicode code points). At 0 the message begins, also if it was begun before.
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
    """One of your functions is called. After a crash the same call may be told again.

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
    """Its output is stored, and will be sent.

    Attributes:
        output: As the model gets it.
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
        replies: The messages of all its runs, whole: what counts, whatever deltas said.
        incomplete_reason: Why the model was cut short, None if it was not.
    """

    batch_id: str
    run_id: str
    message_ids: tuple[str, ...]
    reply: str | None
    replies: tuple[str, ...]
    incomplete_reason: str | None
    type: Literal["reply_ready"] = "reply_ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(_Event):
    """An attempt failed and another will be made; what deltas said of it is void.

    Attributes:
        attempt: How often the batch has been sent; refusals that do not count are left out.
        retry_at: When it will be tried again; aware, UTC.
    """

    batch_id: str
    attempt: int
    error: ErrorInfo
    retry_at: datetime
    type: Literal["attempt_failed"] = "attempt_failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchParked(_Event):
    """The batch is in the failed list because it cannot be found out whether the provider accepted it."""

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
    """A person put a failed batch back: its messages wait again, at the thread's head.

    Attributes:
        pending_count: Messages that wait, these included.
    """

    batch_id: str
    message_ids: tuple[str, ...]
    pending_count: int
    type: Literal["batch_retried"] = "batch_retried"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDiscarded(_Event):
    """A person gave a failed batch up."""

    batch_id: str
    message_ids: tuple[str, ...]
    type: Literal["batch_discarded"] = "batch_discarded"


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsMissed(_Event):
    """Events behind `after` may be gone: trimmed, expired, or lost with Redis. Everything that is still kept follows.

    Not kept in Redis itself; its `id` is that of `after`. Read the thread's state again, and go on.

    Attributes:
        after: The last id that the reader had.
    """

    after: str
    type: Literal["events_missed"] = "events_missed"


Event = (
    MessageQueued
    | MessageEdited
    | MessageCancelled
    | WindowMoved
    | Typing
    | BatchClaimed
    | RunStarted
    | TextDelta
    | ToolCalled
    | ToolAnswered
    | ReplyReady
    | AttemptFailed
    | BatchParked
    | BatchDeadLettered
    | BatchRetried
    | BatchDiscarded
    | EventsMissed
)
"""Whatever `queue.events` yields; tell them apart by class or by `type`."""

EVENTS: tuple[type[Event], ...] = get_args(Event)
"""The classes, in the order of the documentation."""
