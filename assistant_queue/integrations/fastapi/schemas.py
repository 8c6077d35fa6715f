"""What requests say and what answers hold, as the OpenAPI document has it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from assistant_queue import arguments, direct_arguments
from assistant_queue.integrations.fastapi.problems import ANSWERS, QueueProblem
from assistant_queue.models import FailedBatch, MessageStatus, ThreadMessage

SEGMENT = r"^([^/]*[^/.][^/]*|\.{3,})$"
"""What can stand between two slashes of an address: `.` and `..` lead elsewhere."""

ThreadId = Annotated[
    str, Path(min_length=1, max_length=arguments.MAX_THREAD_ID, pattern=SEGMENT, description="Your id of the thread, without a slash.")
]
MessageId = Annotated[
    str, Path(min_length=1, max_length=arguments.MAX_MESSAGE_ID, pattern=SEGMENT, description="As `POST .../messages` gave it.")
]
RunId = Annotated[str, Path(min_length=1, max_length=arguments.MAX_MESSAGE_ID, pattern=SEGMENT, description="The provider's run.")]
BatchId = Annotated[str, Path(min_length=1, max_length=arguments.MAX_MESSAGE_ID, pattern=SEGMENT, description="As `GET /failed` gave it.")]

Text = Annotated[str, Field(min_length=1, max_length=arguments.MAX_CONTENT, pattern=r"\S", description="Not blank.")]
Author = Annotated[str, Field(min_length=1, max_length=arguments.MAX_AUTHOR, pattern=r"\S")]
Pairs = Annotated[dict[str, Annotated[str, Field(max_length=arguments.MAX_METADATA_VALUE)]], Field(max_length=arguments.MAX_METADATA)]
Said = Text | Annotated[list[dict[str, Any]], Field(min_length=1, description="Content parts, as the provider spells them.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewThread(_Body):
    """A thread to be created at the provider."""

    metadata: Pairs | None = None


class NewMessage(_Body):
    """A message to be answered."""

    message: Said
    author: Author | None = Field(None, description="Who says it; the model sees the name. Ignored where the service knows who is asking.")
    instructions: Text | None = Field(None, description="For the run over this message, instead of the default.")
    metadata: Pairs | None = None
    message_id: Annotated[str, Field(min_length=1, max_length=arguments.MAX_MESSAGE_ID, pattern=SEGMENT)] | None = Field(
        None, description="Yours: the same id, thread and content again is the same message. Instead of the header Idempotency-Key."
    )


class EditedMessage(_Body):
    """What a waiting message shall say instead."""

    message: Said


class ChatMessage(NewMessage):
    """A message whose reply is waited for."""

    thread_id: Annotated[str, Field(min_length=1, max_length=arguments.MAX_THREAD_ID, pattern=SEGMENT)]
    timeout: Annotated[float, Field(ge=0, description="Seconds; no more than the service's own limit.")] | None = None


class TypingBy(_Body):
    """Who is typing."""

    author: Author | None = None


class NewRun(_Body):
    """A run over what the provider's thread holds."""

    instructions: Text | None = None
    tools: Annotated[list[dict[str, Any]], Field(max_length=direct_arguments.MAX_TOOLS)] | None = None
    metadata: Pairs | None = None


class Output(_Body):
    """The answer to one tool call."""

    tool_call_id: Annotated[str, Field(min_length=1, max_length=arguments.MAX_MESSAGE_ID)]
    output: Any = Field(description="Text, or anything that is then sent as JSON.")


class Outputs(_Body):
    """All outputs of one round."""

    outputs: Annotated[list[Output], Field(min_length=1, max_length=direct_arguments.MAX_TOOLS)]


class Created(BaseModel):
    """A thread that the provider made."""

    thread_id: str


class Accepted(BaseModel):
    """What is promised about a message that was taken."""

    message_id: str
    thread_id: str
    job_id: str | None = Field(description="The wake-up that was written for it; null where a run that is going on picks it up.")
    status: str = Field(description="`queued`; of a message that was known already: where it stands.")
    estimated_wait_s: float = Field(description="Seconds until its window ends and its run starts; the run itself comes on top.")
    due_at: datetime
    duplicate: bool = Field(description="It had been taken before; nothing was queued now.")


class Message(BaseModel):
    """Where a message stands."""

    message_id: str
    thread_id: str
    status: Literal["queued", "processing", "completed", "failed", "cancelled"]
    run_id: str | None
    reply: str | None = Field(description="The run's messages joined by a blank line; null before completion and where it said nothing.")
    replies: list[str]
    is_fallback: bool = Field(description="`reply` is what is said where there is no answer: the message is failed, and kept.")
    attempts: int
    batch_id: str | None
    problem: QueueProblem | None = Field(description="The last failure, also while another attempt is still to come.")


class HistoryItem(BaseModel):
    """One message of the thread, as the provider holds it."""

    id: str
    role: str
    text: str
    created_at: datetime | None
    run_id: str | None


class History(BaseModel):
    """A page of a thread."""

    messages: list[HistoryItem] = Field(description="What has been said, in the order asked for.")
    next: str | None = Field(description="What to say as `after` for the next page; null at the end.")
    pending: list[Message] = Field(description="What waits or is being worked on, oldest first; not in `messages` yet, or in part.")
    is_kept: bool = Field(description="False where this service's assistant has no history that could be listed.")


class Cancelled(BaseModel):
    """Whether a message was taken out."""

    cancelled: bool = Field(description="False: it is in a run already, or over.")


class Edited(BaseModel):
    """Whether a message was changed."""

    edited: bool = Field(description="False: it is in a run already, or over.")


class ChatReply(BaseModel):
    """The answer to `POST /chat`."""

    message_id: str
    thread_id: str
    reply: str | None
    status: Literal["completed", "failed"] = Field(description="`failed`: the reply is a fallback; the message is kept.")
    is_fallback: bool


class FailedPage(BaseModel):
    """Batches that need a person."""

    failed: list[FailedBatch]
    next: str | None = Field(description="What to say as `after` for the next page; null at the end.")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class Health(BaseModel):
    """Whether messages are taken and answered."""

    status: Literal["ready", "degraded"] = Field(description="degraded: messages are taken, and nobody answers them at the moment.")
    workers: int | None = Field(description="Worker processes that are alive; null where this service may not know.")
    is_paused: bool
    waiting: int = Field(description="Messages that are due and not taken yet.")
    delayed: int
    active: int
    failed: int
    streams: int = Field(description="Open streams, sockets and waiting requests of this process.")


def message_of(status: MessageStatus) -> Message:
    """A status, with its error in the words for clients."""
    problem = None
    if status.error is not None:
        problem = problem_of_code(status.error.code)
    return Message(
        message_id=status.message_id,
        thread_id=status.thread_id,
        status=status.status,  # type: ignore[arg-type]  # MessageState's own words
        run_id=status.run_id,
        reply=status.reply,
        replies=list(status.replies),
        is_fallback=status.fallback,
        attempts=status.attempts,
        batch_id=status.batch_id,
        problem=problem,
    )


_BY_CODE: Mapping[str, Any] = {cls.code: answer for cls, answer in reversed(ANSWERS.items())}


def problem_of_code(code: str) -> QueueProblem:
    """Why something failed, by the error's code: its own words may name what is nobody's business."""
    answer = _BY_CODE.get(code)
    detail = (answer.detail if answer else None) or "The assistant could not answer."
    return QueueProblem(title="Failed", status=answer.status if answer else 502, code=code, detail=detail)


def item_of(message: ThreadMessage) -> HistoryItem:
    """One message of the provider's thread."""
    return HistoryItem(id=message.id, role=message.role, text=message.text, created_at=message.created_at, run_id=message.run_id)
