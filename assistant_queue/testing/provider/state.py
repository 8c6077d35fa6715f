"""Hold the provider's state: conversations, threads, responses, runs, assistants.

Touched on the server's loop only.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from assistant_queue.testing.provider.faults import Faults
from assistant_queue.testing.provider.gates import Gates
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.log import Appended, Log, Overlap
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    ModelScript,
    Never,
    Outcome,
    OutputItems,
    Reply,
    RunFailure,
    ToolCalls,
    Turn,
)

if TYPE_CHECKING:
    from assistant_queue.testing.provider.response import Response
    from assistant_queue.testing.provider.run import Run
    from assistant_queue.testing.provider.webhooks import WebhookEndpoint

Json = dict[str, Any]

_OUTCOMES: tuple[type, ...] = (
    Reply,
    ToolCalls,
    OutputItems,
    RunFailure,
    IncompleteReply,
    Never,
    str,
)


@dataclass(eq=False)
class Conversation:
    """A conversation of the Responses side; `active` are the responses working on it, in order."""

    id: str
    metadata: Mapping[str, str]
    created_at: int
    items: list[Json] = field(default_factory=list)
    active: dict[str, None] = field(default_factory=dict)


@dataclass(eq=False)
class Thread:
    """Assistants thread; `answered` are the ids of messages a completed run has seen."""

    id: str
    metadata: Mapping[str, str]
    created_at: int
    messages: list[Json] = field(default_factory=list)
    runs: dict[str, Run] = field(default_factory=dict)
    active: dict[str, None] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)


class World:
    """State of one provider, with its script, faults, gates and log."""

    def __init__(
        self,
        *,
        model: ModelScript,
        latency: float,
        strict: bool,
        personality: Personality,
        run_expires_after: float,
        background_kept_for: float,
    ) -> None:
        self.model = model
        self.latency = latency
        self.strict = strict
        self.personality = personality
        self.run_expires_after = run_expires_after
        self.background_kept_for = background_kept_for
        self.endpoints: list[WebhookEndpoint] = []
        self.log = Log()
        self.faults = Faults()
        self.gates = Gates()
        self.conversations: dict[str, Conversation] = {}
        self.responses: dict[str, Response] = {}
        self.threads: dict[str, Thread] = {}
        self.assistants: dict[str, Json] = {}
        self.model_errors: list[Exception] = []
        self._left_out: set[tuple[object, ...]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start work in the background and keep it from being collected."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def ask_model(self, turn: Turn) -> Outcome:
        """Return the outcome of the user's script.

        A script that raises is a failed run, and its error is kept in `model_errors`.
        """
        try:
            outcome = self.model(turn)
        except Exception as error:  # noqa: BLE001 - any error of the user's script ends the run
            self.model_errors.append(error)
            return RunFailure("server_error", f"The model script raised {error!r}")
        if not isinstance(outcome, _OUTCOMES):
            self.model_errors.append(
                TypeError(f"The model script returned {outcome!r}, which is no outcome")
            )
            return RunFailure(
                "server_error", "The model script returned something that is no outcome"
            )
        return (
            Reply(delay=0)
            if isinstance(outcome, Reply | str) and self._leaves_out(turn)
            else outcome
        )

    def _leaves_out(self, turn: Turn) -> bool:
        """Return whether this server stays silent in this turn.

        It never answers, or not the first time.
        """
        if self.personality.empty_answers == "never":
            return False
        asked = (turn.protocol, turn.conversation_id, turn.user_texts, turn.round)
        is_new = asked not in self._left_out
        self._left_out.add(asked)
        return is_new or self.personality.empty_answers == "always"

    def enter(self, conversation: Conversation | Thread, run_id: str) -> None:
        """A run takes the conversation; another one in it makes it an overlap."""
        if conversation.active:
            self.log.add(Overlap(time.time(), conversation.id, run_id, tuple(conversation.active)))
        conversation.active[run_id] = None

    def record_appended(
        self, conversation_id: str, run_id: str | None, items: Sequence[Json]
    ) -> None:
        """Write down that these items or messages joined."""
        texts = tuple(text_of(item) for item in items if is_user_text(item))
        self.log.add(
            Appended(
                time.time(), conversation_id, run_id, texts, tuple(item["id"] for item in items)
            )
        )

    def new_conversation(self, metadata: Mapping[str, str]) -> Conversation:
        """An empty conversation."""
        conversation = Conversation(new_id("conv"), dict(metadata), int(time.time()))
        self.conversations[conversation.id] = conversation
        return conversation

    def new_thread(self, metadata: Mapping[str, str]) -> Thread:
        """An empty thread."""
        thread = Thread(new_id("thread"), dict(metadata), int(time.time()))
        self.threads[thread.id] = thread
        return thread


def is_user_text(item: Mapping[str, Any]) -> bool:
    """The item or message was said by a user."""
    return item.get("role") == "user"


def text_of(item: Mapping[str, Any]) -> str:
    """Return the text of an item or message, its parts joined by newlines.

    Parts without text are left out.
    """
    found: list[str] = []
    content = item.get("content") or ()
    if isinstance(content, str):
        return content
    for part in content:
        text = part.get("text")
        if isinstance(text, Mapping):
            text = text.get("value")
        if isinstance(text, str):
            found.append(text)
    return "\n".join(found)


def count_words(texts: Sequence[str]) -> int:
    """A stand-in for the number of tokens: words, and at least one."""
    return max(1, sum(len(text.split()) for text in texts))


def tool_names(tools: Sequence[Json] | None) -> tuple[str, ...]:
    """The names of the functions among the tools, in either protocol's shape."""
    return tuple(
        tool["name"] if "name" in tool else tool["function"]["name"]
        for tool in tools or ()
        if tool.get("type") == "function"
    )
