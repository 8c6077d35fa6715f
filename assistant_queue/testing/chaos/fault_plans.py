"""Named faults of the provider for the plan, and its model."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Mapping, Sequence

from assistant_queue.testing.provider import (
    Reply,
    RunFailure,
    StandInProvider,
    ToolCalls,
    Turn,
    cut_stream,
    delay,
    drop_connection,
    never_answer,
    refuse,
    reply_with,
    work_then_refuse,
)
from assistant_queue.testing.provider.actions import Action
from assistant_queue.testing.provider.script import Outcome, Protocol

ACTIONS: Mapping[str, Action] = {
    "500": refuse(500),
    "503": refuse(503),
    "429": refuse(429, "rate_limit_exceeded", retry_after=0.3),
    "works, then 500": work_then_refuse(500),
    "works, never answers": never_answer(accept=True),
    "never answers": never_answer(accept=False),
    "works, drops": drop_connection(accept=True),
    "drops": drop_connection(accept=False),
    "cut before the id": cut_stream(after_events=0),
    "cut in an event": cut_stream(after_bytes=40),
    "cut after the id": cut_stream(after_events=2),
    "cut and failed": cut_stream(after_events=2, abort=True),
    "fails": reply_with(RunFailure()),
    "fails by rate limit": reply_with(RunFailure(code="rate_limit_exceeded")),
    "slow": delay(before=1.0, after=0.5),
}

_STREAMS = [name for name in ACTIONS if name not in {"fails", "fails by rate limit"}]
_PLAIN = ["500", "429", "never answers", "drops", "slow"]


def _weights(starts: list[str], submits: list[str], questions: list[str]) -> dict[str, int]:
    started = {f"{op}: {name}": 4 for op in starts for name in ACTIONS}
    submitted = {f"{op}: {name}": 1 for op in submits for name in _STREAMS}
    return {**started, **submitted, **{f"{op}: {name}": 2 for op in questions for name in _PLAIN}}


WEIGHTS: Mapping[Protocol, Mapping[str, int]] = {
    "responses": _weights(
        ["responses.create"], [], ["responses.retrieve", "items.list", "conversations.create"]
    ),
    "assistants": _weights(
        ["runs.create"],
        ["runs.submit_tool_outputs"],
        ["runs.retrieve", "runs.list", "messages.list", "threads.create"],
    ),
    "chat_completions": _weights(["chat.completions.create"], [], []),
}
"""`operation: action` -> relative frequency."""


WRITING: Mapping[str, str] = {"responses": "items.create", "assistants": "messages.create"}
"""Protocol -> the operation that writes a reply of `say`."""
OF_WRITING = ("503", "429", "works, then 500", "works, drops", "drops", "works, never answers")
"""Actions that such an operation meets."""

_CANCELS: Mapping[Protocol, Sequence[str]] = {
    "responses": ["responses.cancel", "responses.retrieve", "items.list", "items.create"],
    "assistants": ["runs.cancel", "runs.retrieve", "runs.list", "messages.create"],
    "chat_completions": ["chat.completions.create"],
}
OF_STEERING: Mapping[Protocol, Sequence[str]] = {
    protocol: [f"{op}: {name}" for op in ops for name in ("500", "429", "drops", "works, drops")]
    for protocol, ops in _CANCELS.items()
}
"""Faults of the requests that end a run, and that read or write what became of it."""


def inject(provider: StandInProvider, name: str) -> None:
    """Make the next request of that kind fail."""
    op, action = name.split(": ", 1)
    provider.fault(op, ACTIONS[action])


def reply_to(texts: Sequence[str]) -> str:
    """Return the model's reply to a batch of these texts."""
    return "You said: " + " | ".join(texts)


class Model:
    """Replies after a delay that depends on the text alone; requests a function for `tool_word`."""

    def __init__(self, tool_word: str, longest_s: float = 0.8) -> None:
        self._tool_word = tool_word
        self._longest_s = longest_s
        self._lock = threading.Lock()
        self._replied: dict[str, tuple[str, ...]] = {}

    def __call__(self, turn: Turn) -> Outcome:
        """Return the outcome of a turn, as a model script does."""
        wait_s = self._longest_s * (zlib.crc32("|".join(turn.user_texts).encode()) % 100 + 1) / 100
        if turn.round == 0 and any(self._tool_word in text for text in turn.user_texts):
            return ToolCalls([("order_status", {"order": turn.user_texts[0]})], delay=wait_s)
        with self._lock:
            self._replied[turn.run_id] = turn.user_texts
        return Reply(reply_to(turn.user_texts), delay=wait_s)

    @property
    def replied(self) -> dict[str, tuple[str, ...]]:
        """Run id -> texts, of the runs that replied instead of requesting a function."""
        with self._lock:
            return dict(self._replied)
