"""How a chat completion ended, by its `finish_reason`. Pure.

Servers have more words for it than the API they speak. A word is taken for a good end only if it is known for one: a reply that was broken
off for a reason never heard of must not pass for a whole one.
"""

from __future__ import annotations

from collections.abc import Mapping

_NONE = frozenset({"", "null", "none", "nil", "undefined", "unspecified", "finish_reason_unspecified", "not_finished", "unfinished"})
"""Words of a server that has not ended yet, and says so in every chunk."""

_CALLS = frozenset({"tool_calls", "tool_call", "tool_use", "function_call", "function_calls"})
"""Words that announce calls."""

_WHOLE = _CALLS | frozenset({"stop", "end", "end_turn", "eos", "eos_token", "stop_sequence", "complete", "completed", "finish", "finished"})
"""Words of a model that ended by itself, or was stopped by a text it was told to stop at."""

_OUT_OF_ROOM = frozenset(
    {"length", "max_tokens", "max_output_tokens", "max_completion_tokens", "model_length", "token_limit", "model_context_window_exceeded"}
)
"""Words of a model that was stopped by a number of tokens: what it had said by then is sound."""

_FAILED = frozenset({"error"})

_MOST_CHARS = 64
"""Of a word that is passed on. Chosen: the longest one known has half of that."""


def read_reason(reason: object) -> str | None:
    """Return the word of a `finish_reason` in lower case, None as long as there is none. Some servers give `{"type": "stop"}`."""
    if isinstance(reason, Mapping):
        reason = reason.get("type") or reason.get("reason")
    if not reason:
        return None
    word = str(reason).strip().lower()[:_MOST_CHARS]
    return None if word in _NONE else word


def is_whole(word: str) -> bool:
    """Whether the answer is all that the model wanted to say."""
    return word in _WHOLE


def announces_calls(word: str) -> bool:
    """Whether the model asks for tools."""
    return word in _CALLS


def is_out_of_room(word: str) -> bool:
    """Whether the answer met a limit of its length."""
    return word in _OUT_OF_ROOM


def is_failure(word: str) -> bool:
    """Whether the server gave up."""
    return word in _FAILED
