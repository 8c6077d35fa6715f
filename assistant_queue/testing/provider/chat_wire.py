"""JSON of chat completions: whole ones and their chunks, in the form of the server's personality.

Source: the provider's published API description; the public reports that `personalities.py` names
    for what differs.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.script import Tokens
from assistant_queue.testing.provider.sse import dumps
from assistant_queue.testing.provider.state import Json

DONE = b"data: [DONE]\n\n"


def data(value: Json) -> bytes:
    """One event as it goes over the wire: these have no name."""
    return b"data: " + dumps(value) + b"\n\n"


def new_completion_id() -> str:
    """A fresh id in the provider's form."""
    return f"chatcmpl-{secrets.token_hex(16)}"


@dataclass(eq=False)
class StreamedText:
    """Track the text of a completion, and the fields that all of its chunks share.

    Attributes:
        counts: The usage was asked for, and is to be had.
        finish: How it ends, known when it begins to speak.
    """

    id: str
    model: str
    counts: bool
    server: Personality
    created: int = field(default_factory=lambda: int(time.time()))
    text: str | None = None
    thought: str | None = None
    calls: list[Json] = field(default_factory=list)
    finish: str | None = None
    usage: Json | None = None
    tokens: Tokens = field(default_factory=Tokens)
    service_tier: str = "default"

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """A piece of it."""
        choice: Json = {**self._index(), "delta": delta, "logprobs": None}
        if self.server.finish != "absent":
            choice["finish_reason"] = finish
        return self._piece([choice])

    def last_chunk(self) -> Json:
        """The usage, where it was asked for: a chunk without choices, or with an empty one."""
        choices = (
            [{**self._index(), "delta": {}}] if self.server.usage_place == "with_choice" else []
        )
        return {**self._piece(choices), "usage": self.usage}

    def whole(self) -> Json:
        """All of it at once."""
        message: Json = {
            "role": "assistant",
            "content": content(self.text, self.server),
            "refusal": None,
            "annotations": [],
        }
        message |= thought(self.thought, self.server)
        if self.calls and self.server.legacy_calls:
            message["function_call"] = self.calls[0]["function"]
        elif self.calls:
            message["tool_calls"] = self.calls
        return {
            **self._id(),
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [
                {
                    **self._index(),
                    "message": message,
                    "logprobs": None,
                    "finish_reason": self.finish,
                }
            ],
            "service_tier": self.service_tier,
            **({} if self.usage is None else {"usage": self.usage}),
        }

    def _piece(self, choices: list[Json]) -> Json:
        piece: dict[str, Any] = {
            **self._id(),
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "service_tier": self.service_tier,
            "choices": choices,
        }
        return {**piece, "usage": None} if self.counts else piece

    def _id(self) -> Json:
        given: dict[str, Json] = {
            "text": {"id": self.id},
            "number": {"id": int(self.id.rpartition("-")[2], 16)},
            "null": {"id": None},
            "absent": {},
            "changing": {"id": new_completion_id()},
        }
        return given[self.server.completion_ids]

    def _index(self) -> Json:
        given: dict[str, Json] = {"number": {"index": 0}, "text": {"index": "0"}, "absent": {}}
        return given[self.server.choice_index]


def content(text: str | None, server: Personality) -> Any:
    """Return the content that carries a text in this server's messages and deltas."""
    if text is None or server.content == "text":
        return text
    if server.content == "strings":
        half = len(text) // 2
        return [piece for piece in (text[:half], text[half:]) if piece]
    return [{"type": "text", "text": text}]


def thought(text: str | None, server: Personality) -> Json:
    """Return the fields of a message or delta that carry reasoning.

    None if the content carries it.
    """
    if text is None or server.thinks in {"no", "tags", "parts"}:
        return {}
    if server.thinks == "reasoning_details":
        details = [
            {
                "type": "reasoning.text",
                "text": text,
                "signature": "sig",
                "format": "unknown",
                "index": 0,
            }
        ]
        return {"reasoning": text, "reasoning_details": details}
    return {server.thinks: text}


def usage_json(words_read: int, words_written: int, tokens: Tokens, server: Personality) -> Json:
    """Return the usage of a completion."""
    given = words_read + tokens.cached + tokens.cache_write
    made = words_written + tokens.reasoning
    if server.usage_values != "numbers":
        ways: dict[str, Callable[[int], Any]] = {
            "texts": str,
            "floats": float,
            "nulls": lambda _: None,
            "words": lambda _: "n/a",
        }
        shown = ways[server.usage_values]
        return {
            name: shown(held)
            for name, held in zip(_COUNTED, (given, made, given + made), strict=True)
        }
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {
            "cached_tokens": tokens.cached,
            "cache_write_tokens": tokens.cache_write,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": tokens.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


_COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")
