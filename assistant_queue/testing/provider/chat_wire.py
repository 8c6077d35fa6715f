"""JSON of chat completions: whole ones and their chunks.

Source: the provider's published API description.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Any

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
class Told:
    """What a completion has said so far, and the words that are the same in all of its chunks."""

    id: str
    model: str
    counts: bool
    created: int = field(default_factory=lambda: int(time.time()))
    text: str | None = None
    calls: list[Json] = field(default_factory=list)
    finish: str | None = None
    usage: Json | None = None

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """A piece of it."""
        return self._piece([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])

    def last_chunk(self) -> Json:
        """The usage, where it was asked for: a chunk without choices."""
        return {**self._piece([]), "usage": self.usage}

    def whole(self) -> Json:
        """All of it at once."""
        message: Json = {"role": "assistant", "content": self.text, "refusal": None, "annotations": []}
        if self.calls:
            message["tool_calls"] = self.calls
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": self.finish}],
            "service_tier": "default",
            **({} if self.usage is None else {"usage": self.usage}),
        }

    def _piece(self, choices: list[Json]) -> Json:
        piece: dict[str, Any] = {
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "service_tier": "default",
            "choices": choices,
        }
        return {**piece, "usage": None} if self.counts else piece


def usage_json(given: int, made: int) -> Json:
    """What a completion has used."""
    return {
        "prompt_tokens": given,
        "completion_tokens": made,
        "total_tokens": given + made,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
