"""Store a thread's history if the provider stores none. Pure.

The history is the messages of earlier batches, bounded, as one JSON text.

It is stored in the place of the id of a conversation's last item, and is written by the same step
as the result: a crash before that step leaves the history as it was before the batch, a crash after
it leaves it with the whole batch.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.core.compact_json import to_json

Json = dict[str, Any]

MAX_MESSAGES = 1000
"""Messages of a history at most. Chosen: the history is read and written with every batch."""
USUAL_MESSAGES = 50
"""Messages of a history by default. Chosen: 25 turns of a chat."""
MAX_CHARS = 4_000_000
"""Characters of a stored history at most, attachments included. Chosen: as much as the content
parts of one message may have."""

_TOKENS_OF_MESSAGE = 4
"""Tokens of a message beside its text: role and separators. Source: the provider's cookbook."""
_TOKENS_OF_ATTACHMENT = 1000
"""Tokens of a picture or a file; the real number is unknown before it is sent. Chosen: a large
picture in full detail."""
_CHARS_OF_TOKEN = 4
"""ASCII characters of a token. Source: the provider's rule of thumb. Any other character is counted
as a token."""

_OURS = frozenset({"id", "run_id"})
"""Fields of a remembered message that are not sent."""

_log = logging.getLogger(__name__)


def estimated_tokens(text: str) -> int:
    """Estimate the tokens of a text.

    A quarter of its ASCII characters, and one for every other character.
    """
    plain = sum(char.isascii() for char in text)
    return -(-plain // _CHARS_OF_TOKEN) + len(text) - plain


def load(state: str | None) -> list[Json]:
    """Return the messages of a stored history, oldest first.

    The state of another backend is read if it is a history: a function's is, an item's id is not.
    """
    try:
        rows = json.loads(state) if state else []
    except ValueError:
        return []
    if not isinstance(rows, list):
        return []
    return [{"role": row[0], "content": row[1]} if isinstance(row, list) else row for row in rows]


def dump(messages: Sequence[Json]) -> str:
    """Serialize a history for `load`."""
    return to_json(list(messages))


def sent(messages: Sequence[Json]) -> list[Json]:
    """Return the messages as they are sent, without our own fields."""
    return [
        {name: value for name, value in message.items() if name not in _OURS}
        for message in messages
    ]


def turns(messages: Sequence[Json]) -> list[list[Json]]:
    """Group messages into turns: questions, and all answers and calls that follow.

    A turn is never cut in two.
    """
    found: list[list[Json]] = []
    before = ""
    for message in messages:
        if not found or (message["role"] == "user" and before != "user"):
            found.append([])
        found[-1].append(message)
        before = message["role"]
    return found


def newer_half(messages: Sequence[Json]) -> list[Json]:
    """Drop the older half of the turns; a single turn is dropped."""
    found = turns(messages)
    return [message for turn in found[(len(found) + 1) // 2 :] for message in turn]


def _is_round(message: Json) -> bool:
    return message["role"] == "tool" or bool(message.get("tool_calls"))


def _attachments(message: Json) -> int:
    content = message.get("content")
    return (
        0
        if not isinstance(content, list)
        else sum(part.get("type") not in {"text", "refusal"} for part in content)
    )


def _without_attachments(message: Json) -> Json:
    if not _attachments(message):
        return message
    parts = [
        part
        if part.get("type") == "text"
        else {"type": "text", "text": f"[{part.get('type')}: too large to keep]"}
        for part in message["content"]
    ]
    return {**message, "content": parts}


def _words(message: Json) -> str:
    """Return the text of a message and of its calls, for counting."""
    content = message.get("content") or ""
    if not isinstance(content, str):
        content = "\n".join(str(part.get("text") or part.get("refusal") or "") for part in content)
    calls = [call.get("function") or {} for call in message.get("tool_calls") or ()]
    return "\n".join(
        part
        for part in (content, *(f"{call.get('name')} {call.get('arguments')}" for call in calls))
        if part
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bounds of a thread's history.

    Attributes:
        messages: Most messages; 0 remembers nothing.
        tokens: Most tokens, None for no such bound.
        count: Counts the tokens of a text; None estimates them.
    """

    messages: int = USUAL_MESSAGES
    tokens: int | None = None
    count: Callable[[str], int] | None = None

    def keep(self, messages: Sequence[Json]) -> list[Json]:
        """Return the newest turns that fit, whole, oldest first.

        If the last turn alone does not fit, its tool rounds are dropped first, then its
        attachments; if it still does not fit, nothing is remembered.
        """
        if not self.messages or not messages:
            return []
        kept: list[Json] = []
        used = _Size()
        found = turns(messages)
        for turn in reversed(found):
            used = used + self._size(turn)
            if not self._fits(used):
                break
            kept = [*turn, *kept]
        if kept:
            return kept
        bare = [message for message in found[-1] if not _is_round(message)]
        for turn in (bare, [_without_attachments(message) for message in bare]):
            if self._fits(self._size(turn)):
                return turn
        return []

    def _fits(self, size: _Size) -> bool:
        return (
            size.messages <= self.messages
            and size.chars <= MAX_CHARS
            and (self.tokens is None or size.tokens <= self.tokens)
        )

    def _size(self, turn: Sequence[Json]) -> _Size:
        tokens = 0 if self.tokens is None else sum(self._tokens(message) for message in turn)
        return _Size(messages=len(turn), chars=len(dump(turn)), tokens=tokens)

    def _tokens(self, message: Json) -> int:
        return (
            _TOKENS_OF_MESSAGE
            + _TOKENS_OF_ATTACHMENT * _attachments(message)
            + self._counted(_words(message))
        )

    def _counted(self, text: str) -> int:
        if self.count is None:
            return estimated_tokens(text)
        try:
            return int(self.count(text))
        # An error in the user's function must not cost an answer; the estimate is good enough.
        except Exception:  # noqa: BLE001
            _log.exception("count_tokens raised; the tokens are estimated")
            return estimated_tokens(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    messages: int = 0
    chars: int = 0
    tokens: int = 0

    def __add__(self, other: _Size) -> _Size:
        return _Size(
            messages=self.messages + other.messages,
            chars=self.chars + other.chars,
            tokens=self.tokens + other.tokens,
        )
