"""Interpret the `finish_reason` of a chat completion. Pure.

Servers use more words than the API defines. Only known words count as a good end: a reply that was
cut off for an unknown reason must not pass for a complete one.
"""

from __future__ import annotations

from collections.abc import Mapping

_NONE = frozenset(
    {
        "",
        "null",
        "none",
        "nil",
        "undefined",
        "unspecified",
        "finish_reason_unspecified",
        "not_finished",
        "unfinished",
    }
)
"""Words of a server that sends a reason in every chunk before the end."""

_CALLS = frozenset({"tool_calls", "tool_call", "tool_use", "function_call", "function_calls"})
"""Words that announce calls."""

_WHOLE = _CALLS | frozenset(
    {
        "stop",
        "end",
        "end_turn",
        "eos",
        "eos_token",
        "stop_sequence",
        "complete",
        "completed",
        "finish",
        "finished",
    }
)
"""Words of a model that ended by itself, or at a stop sequence."""

_OUT_OF_ROOM = frozenset(
    {
        "length",
        "max_tokens",
        "max_output_tokens",
        "max_completion_tokens",
        "model_length",
        "token_limit",
        "model_context_window_exceeded",
    }
)
"""Words of a model that met a limit of tokens: its text so far is sound."""

_FAILED = frozenset({"error"})

_MOST_CHARS = 64
"""Characters of a word that are passed on. Chosen: twice the longest known word."""


def read_reason(reason: object) -> str | None:
    """Return the word of a `finish_reason` in lower case, None as long as there is none.

    Some servers send `{"type": "stop"}`.
    """
    if isinstance(reason, Mapping):
        reason = reason.get("type") or reason.get("reason")
    if not reason:
        return None
    word = str(reason).strip().lower()[:_MOST_CHARS]
    return None if word in _NONE else word


def is_whole(word: str) -> bool:
    """Return whether the answer is complete."""
    return word in _WHOLE


def announces_calls(word: str) -> bool:
    """Return whether the model asks for tools."""
    return word in _CALLS


def is_out_of_room(word: str) -> bool:
    """Return whether the answer met a limit of its length."""
    return word in _OUT_OF_ROOM


def is_failure(word: str) -> bool:
    """Return whether the server gave up."""
    return word in _FAILED
