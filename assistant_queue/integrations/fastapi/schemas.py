"""Models of requests and responses, as in the OpenAPI document."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, model_validator
from pydantic_core import PydanticKnownError

from assistant_queue.client import arguments, provider_call_arguments
from assistant_queue.core.window import MAX_HOLD_MS
from assistant_queue.integrations.fastapi.problems import QueueProblem, problem_of_code
from assistant_queue.integrations.fastapi.timeline_schemas import TimelineRecord, timeline_record
from assistant_queue.models import (
    BatchRecord,
    DeliveryStatus,
    FailedBatch,
    MessageStatus,
    SayKind,
    ThreadStatus,
    Usage,
)
from assistant_queue.row_types import MidRun

SEGMENT = r"^([^/]*[^/.][^/]*|\.{3,})$"
"""Pattern of one segment of a path: `.` and `..` are resolved by clients."""

ThreadId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=arguments.MAX_THREAD_ID,
        pattern=SEGMENT,
        description="Your id of the thread, without a slash.",
    ),
]
MessageId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=arguments.MAX_MESSAGE_ID,
        pattern=SEGMENT,
        description="As `POST .../messages` gave it.",
    ),
]
RunId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=arguments.MAX_MESSAGE_ID,
        pattern=SEGMENT,
        description="The provider's run.",
    ),
]
BatchId = Annotated[
    str,
    Path(
        min_length=1,
        max_length=arguments.MAX_MESSAGE_ID,
        pattern=SEGMENT,
        description="As `GET /failed` gave it.",
    ),
]

Text = Annotated[
    str,
    Field(min_length=1, max_length=arguments.MAX_CONTENT, pattern=r"\S", description="Not blank."),
]
Author = Annotated[str, Field(min_length=1, max_length=arguments.MAX_AUTHOR, pattern=r"\S")]

Tenant = Annotated[str, Field(min_length=1, max_length=arguments.MAX_TENANT, pattern=r"\S")]


def _check_size(value: Any, most: int) -> Any:
    """Refuse a list or object with too many entries before each of them is validated.

    Raises:
        PydanticKnownError: It has more than `most`.
    """
    if isinstance(value, dict | list) and len(value) > most:
        kind = "Dictionary" if isinstance(value, dict) else "List"
        raise PydanticKnownError(
            "too_long", {"field_type": kind, "max_length": most, "actual_length": len(value)}
        )
    return value


def _at_most(most: int) -> BeforeValidator:
    return BeforeValidator(lambda value: _check_size(value, most))


Pairs = Annotated[
    dict[str, Annotated[str, Field(max_length=arguments.MAX_METADATA_VALUE)]],
    Field(max_length=arguments.MAX_METADATA),
    _at_most(arguments.MAX_METADATA),
]
Said = (
    Text
    | Annotated[
        list[dict[str, Any]],
        Field(
            min_length=1,
            description="Content parts, as the provider spells them.",
            fail_fast=True,
        ),
    ]
)


MOST_NAMES = 100
"""Names in a body's object. Chosen: more than any model has; each unknown one is an error."""


MOST_DELAY_S = 86_400.0
"""Seconds that a client may have a message wait. Chosen: a day is longer than any window."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _check_names(cls, value: Any) -> Any:
        return _check_size(value, MOST_NAMES)


class NewThread(_Body):
    """A thread to be created at the provider."""

    metadata: Pairs | None = None


class NewMessage(_Body):
    """A message to be answered."""

    message: Said
    author: Author | None = Field(
        None,
        description="The author; the model sees the name. Ignored if `authorize` names the caller.",
    )
    tenant: Tenant | None = Field(
        None,
        description="The customer's label. Ignored if `authorize` names the caller's tenant.",
    )
    instructions: Text | None = Field(
        None, description="For the run over this message, instead of the default."
    )
    metadata: Pairs | None = None
    message_id: (
        Annotated[str, Field(min_length=1, max_length=arguments.MAX_MESSAGE_ID, pattern=SEGMENT)]
        | None
    ) = Field(
        None,
        description=(
            "Your id: the same id, thread and content again is the same message. "
            "Instead of the header Idempotency-Key."
        ),
    )
    wants_reply: Annotated[bool, Strict()] = Field(
        True,
        description="False: it is answered with the next message that wants a reply.",
    )
    message_delay: Annotated[float, Field(ge=0, le=MOST_DELAY_S)] | None = Field(
        None,
        description="Seconds that it waits for further messages, instead of the queue's own.",
    )
    hold: Annotated[float, Field(ge=0, le=MAX_HOLD_MS / 1000)] | None = Field(
        None, description="Seconds for which the window stays open after it: the rest of an album."
    )
    mid_run: MidRun | None = Field(
        None,
        description="If a batch of the thread is not over: `collect`, `interrupt`, `steer`, or "
        "`reject`, which is 409. Default: the queue's option.",
    )


class EditedMessage(_Body):
    """The new content of a waiting message."""

    message: Said


class SaidText(_Body):
    """Text that your program says in a thread, without a run."""

    text: Text
    author: Author | None = Field(
        None, description="The author. Ignored if `authorize` names the caller."
    )
    kind: SayKind = Field(
        "reply",
        description="`reply`: the model reads it as its own. `notice`: the model does not see it.",
    )


class ChatMessage(NewMessage):
    """A message with a wait for its reply."""

    thread_id: Annotated[
        str, Field(min_length=1, max_length=arguments.MAX_THREAD_ID, pattern=SEGMENT)
    ]
    timeout: (
        Annotated[float, Field(ge=0, description="Seconds; no more than the service's own limit.")]
        | None
    ) = None


class TypingBy(_Body):
    """The author of a typing notice."""

    author: Author | None = None


class NewRun(_Body):
    """A run over the provider's thread."""

    instructions: Text | None = None
    tools: (
        Annotated[
            list[dict[str, Any]],
            Field(max_length=provider_call_arguments.MAX_TOOLS),
            _at_most(provider_call_arguments.MAX_TOOLS),
        ]
        | None
    ) = None
    metadata: Pairs | None = None


class Output(_Body):
    """The answer to one tool call."""

    tool_call_id: Annotated[str, Field(min_length=1, max_length=arguments.MAX_MESSAGE_ID)]
    output: Any = Field(description="Text, or anything that is then sent as JSON.")


class Outputs(_Body):
    """All outputs of one round."""

    outputs: Annotated[
        list[Output],
        Field(min_length=1, max_length=provider_call_arguments.MAX_TOOLS),
        _at_most(provider_call_arguments.MAX_TOOLS),
    ]


class Created(BaseModel):
    """A thread that the provider made."""

    thread_id: str


class Accepted(BaseModel):
    """The receipt of a message."""

    message_id: str
    thread_id: str
    job_id: str | None = Field(
        description="The wake-up that was written for it; null if a current run picks it up."
    )
    status: str = Field(
        description="`queued`; `completed` for what was said; for a duplicate, the message's."
    )
    estimated_wait_s: float | None = Field(
        description="Seconds until its run starts, estimated: its window, the run before it, the "
        "line; its own run comes on top. null while the thread or the queue is paused, and if no "
        "waiting message wants a reply."
    )
    due_at: datetime | None = Field(
        description="The end of its window; null if no waiting message wants a reply."
    )
    duplicate: bool = Field(description="It had been taken before; nothing was queued now.")


class MessageRecord(BaseModel):
    """The status of a message."""

    message_id: str
    thread_id: str
    status: Literal["queued", "processing", "completed", "failed", "cancelled"]
    run_id: str | None
    reply: str | None = Field(
        description="The run's messages joined by a blank line; null before completion, or if there are none."
    )
    replies: list[str]
    is_fallback: bool = Field(
        description="`reply` is the fallback: the message is failed, and kept."
    )
    attempts: int
    batch_id: str | None
    problem: QueueProblem | None = Field(
        description="The last failure, also before another attempt."
    )
    author: str | None
    metadata: dict[str, str]
    tenant: str | None
    queued_at: datetime | None = Field(description="When it was taken.")
    due_at: datetime | None = Field(
        description="The end of its window, as known now; once its run began, when it was due."
    )
    timeline: TimelineRecord
    usage: Usage | None = Field(description="Tokens of its run so far.")
    delivery: DeliveryStatus = Field(description="State of the delivery of its reply.")
    approval: str | None = Field(description="The tool call that waits for a person.")
    answered_by: str | None = Field(description="The person that said the reply.")


class Cancelled(BaseModel):
    """The result of a cancellation."""

    cancelled: bool = Field(description="False: it is in a run already, or over.")


class Edited(BaseModel):
    """The result of an edit."""

    edited: bool = Field(description="False: it is in a run already, or over.")


class ChatReply(BaseModel):
    """The answer to `POST /chat`."""

    message_id: str
    thread_id: str
    reply: str | None
    status: Literal["completed", "failed"] = Field(
        description="`failed`: the reply is a fallback; the message is kept."
    )
    is_fallback: bool


class FailedPage(BaseModel):
    """Batches that need a person."""

    failed: list[FailedBatch]
    next: str | None = Field(
        description="What to say as `after` for the next page; null at the end."
    )


class ThreadsPage(BaseModel):
    """Threads that are not idle."""

    threads: list[ThreadStatus]
    next: str | None = Field(
        description="What to say as `after` for the next page; null at the end."
    )


class TimelinePage(BaseModel):
    """Batches of a thread that ended, newest first."""

    batches: list[BatchRecord]
    next: str | None = Field(
        description="What to say as `before` for the next page; null at the end."
    )


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Handled(BaseModel):
    """Number of failed batches that a request was about."""

    count: int = Field(ge=0)


class HealthAnswer(BaseModel):
    """Readiness: whether messages are taken and answered."""

    status: Literal["ready", "degraded"] = Field(
        description="degraded: messages are taken, and no worker answers them at present."
    )
    workers: int | None = Field(
        description="Worker processes that are alive; null where this service may not know."
    )
    is_paused: bool
    waiting: int = Field(description="Messages that are due and not taken yet.")
    delayed: int
    active: int
    failed: int
    delivering: int = Field(description="Replies that wait for their delivery.")
    undelivered: int = Field(description="Replies in the failed list.")
    streams: int = Field(description="Open streams, sockets and waiting requests of this process.")


def message_of(status: MessageStatus) -> MessageRecord:
    """Return a status with its error in the texts for clients."""
    problem = None
    if status.error is not None:
        problem = problem_of_code(status.error.code)
    return MessageRecord(
        message_id=status.message_id,
        thread_id=status.thread_id,
        status=status.status,
        run_id=status.run_id,
        reply=status.reply,
        replies=list(status.replies),
        is_fallback=status.fallback,
        attempts=status.attempts,
        batch_id=status.batch_id,
        problem=problem,
        author=status.author,
        metadata=dict(status.metadata),
        tenant=status.tenant,
        queued_at=status.queued_at,
        due_at=status.due_at,
        timeline=timeline_record(status.timeline),
        usage=status.usage,
        delivery=status.delivery,
        approval=status.approval,
        answered_by=status.answered_by,
    )
