"""Represent one response: its input, its state, and its views for the model and the log."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from assistant_queue.testing.provider.actions import Action
from assistant_queue.testing.provider.app_context import Exchange
from assistant_queue.testing.provider.log import RunRecord
from assistant_queue.testing.provider.script import RunFailure, Tokens, Turn
from assistant_queue.testing.provider.sse import Tape
from assistant_queue.testing.provider.state import (
    Conversation,
    Json,
    is_user_text,
    text_of,
    tool_names,
)

_DEFAULT_MODEL = "stand-in-model"


@dataclass(eq=False)
class Response:
    """A response: what was asked, and how far it is.

    `tape` is there only if it was asked for as a stream, `failure` if its conversation is too long;
    it `is_compacted` if what came before is left out of it.
    """

    id: str
    asked: Json
    conversation: Conversation | None
    previous: Response | None
    items: list[Json]
    is_background: bool
    tape: Tape | None
    actions: tuple[Action, ...] = ()
    failure: RunFailure | None = None
    is_compacted: bool = False
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "in_progress"
    output: list[Json] = field(default_factory=list)
    error: Json | None = None
    incomplete: Json | None = None
    usage: Json | None = None
    tokens: Tokens = field(default_factory=Tokens)
    completed_at: int | None = None
    is_stranded: bool = False
    task: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def model(self) -> str:
        """The model's name; a prompt brings its own."""
        return self.asked.get("model") or _DEFAULT_MODEL

    @property
    def conversation_id(self) -> str | None:
        """The conversation it is bound to, if any."""
        return None if self.conversation is None else self.conversation.id

    def context(self) -> list[Json]:
        """Every item the model sees, oldest first."""
        if self.conversation is not None:
            return self.conversation.items + self.items
        return _chain(self.previous) + self.items

    def turn(self, exchange: Exchange) -> Turn:
        """Return the turn for the model script."""
        return Turn(
            protocol="responses",
            conversation_id=self.conversation_id,
            run_id=self.id,
            user_texts=exchange.user_texts,
            instructions=self.asked.get("instructions"),
            tools=tool_names(self.asked.get("tools")),
            tool_outputs=exchange.outputs,
            round=exchange.round,
            metadata=self.asked.get("metadata") or {},
        )

    def record(self, exchange: Exchange, request: int) -> RunRecord:
        """Return the log's record of its acceptance.

        It holds only the items of this response, not earlier ones.
        """
        given = {
            item["call_id"] for item in self.items if item.get("type") == "function_call_output"
        }
        return RunRecord(
            id=self.id,
            protocol="responses",
            conversation_id=self.conversation_id,
            request=request,
            user_texts=tuple(text_of(item) for item in self.items if is_user_text(item)),
            metadata=self.asked.get("metadata") or {},
            instructions=self.asked.get("instructions"),
            tools=tool_names(self.asked.get("tools")),
            stream=self.tape is not None,
            background=self.is_background,
            status=self.status,
            started_at=time.time(),
            outputs=tuple(output for output in exchange.outputs if output.call_id in given),
        )


def _chain(response: Response | None) -> list[Json]:
    """The items of a response and of all before it, oldest first."""
    links: list[list[Json]] = []
    while response is not None:
        links.append(response.items + response.output)
        response = response.previous
    return [item for link in reversed(links) for item in link]
