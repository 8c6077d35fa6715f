"""One run: what was asked, how far it is, and what it looks like to the model and to the log."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from assistant_queue.testing.provider.actions import Action
from assistant_queue.testing.provider.log import RunRecord
from assistant_queue.testing.provider.script import OutputGiven, Tokens, Turn
from assistant_queue.testing.provider.sse import Tape
from assistant_queue.testing.provider.state import Json, Thread, is_user_text, text_of, tool_names


@dataclass(eq=False)
class Step:
    """Step of a run: a written message (`message_creation`) or calls (`tool_calls`)."""

    id: str
    kind: str
    details: Json
    status: str = "in_progress"
    created_at: int = field(default_factory=lambda: int(time.time()))
    completed_at: int | None = None


@dataclass(eq=False)
class Run:
    """A run: what was asked, and how far it is.

    `tape` is there only while its present leg is streamed.

    `added` are the messages that came with it, `user_messages` those without an answer,
    `open_calls` are (id, name, arguments), `message` is the one being written and `said` are the
    texts of those before it.
    """

    id: str
    thread: Thread
    asked: Json
    assistant: Json
    user_messages: list[Json]
    expires_at: float
    tape: Tape | None
    actions: tuple[Action, ...] = ()
    added: list[Json] = field(default_factory=list)
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "queued"
    started_at: int | None = None
    ended_at: int | None = None
    open_calls: tuple[tuple[str, str, str], ...] = ()
    outputs: tuple[OutputGiven, ...] = ()
    round: int = 0
    steps: list[Step] = field(default_factory=list)
    message: Json | None = None
    said: list[str] = field(default_factory=list)
    last_error: Json | None = None
    incomplete: Json | None = None
    usage: Json | None = None
    tokens: Tokens = field(default_factory=Tokens)
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def assistant_id(self) -> str:
        """The assistant that runs."""
        return str(self.assistant["id"])

    @property
    def model(self) -> str:
        """The run's or else the assistant's model."""
        return str(self.asked.get("model") or self.assistant["model"])

    @property
    def instructions(self) -> str:
        """The run's or else the assistant's instructions, then the additional ones."""
        first = self.asked.get("instructions") or self.assistant.get("instructions")
        parts = [part for part in (first, self.asked.get("additional_instructions")) if part]
        return "\n\n".join(parts)

    @property
    def tools(self) -> list[Json]:
        """The run's or else the assistant's tools."""
        own = self.asked.get("tools")
        return list(self.assistant["tools"] if own is None else own)

    def turn(self) -> Turn:
        """Return the turn for the model script."""
        return Turn(
            protocol="assistants",
            conversation_id=self.thread.id,
            run_id=self.id,
            user_texts=tuple(text_of(message) for message in self.user_messages),
            instructions=self.instructions or None,
            tools=tool_names(self.tools),
            tool_outputs=self.outputs,
            round=self.round,
            metadata=self.asked.get("metadata") or {},
        )

    def record(self, request: int) -> RunRecord:
        """Return the log's record of its acceptance."""
        return RunRecord(
            id=self.id,
            protocol="assistants",
            conversation_id=self.thread.id,
            request=request,
            user_texts=tuple(text_of(message) for message in self.user_messages),
            message_metadata=tuple(dict(message["metadata"]) for message in self.user_messages),
            metadata=self.asked.get("metadata") or {},
            instructions=self.instructions or None,
            tools=tool_names(self.tools),
            stream=self.tape is not None,
            started_at=time.time(),
        )


def unanswered(thread: Thread) -> list[Json]:
    """The user messages of a thread that were in no completed run, oldest first."""
    return [
        message
        for message in thread.messages
        if is_user_text(message) and message["id"] not in thread.answered
    ]
