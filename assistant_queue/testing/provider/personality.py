"""How a compatible server differs from the strict one: one flag for each difference seen in the wild."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assistant_queue.testing.provider.reading_flags import ForegroundFlags, ListFlags


@dataclass(frozen=True)
class Personality(ListFlags, ForegroundFlags):
    """The ways in which this server is not OpenAI's. The default is the strict one.

    The flags of the base classes are fields of this class too: `ListFlags` (how lists are cut and sorted) and `ForegroundFlags` (what
    becomes of a response that nothing reads).

    Attributes:
        lock: What a second writer on a busy conversation or thread meets: `refuse` (400), `conflict` (409), or `none`:
            both run at once, and the log records the overlap.
        ignores_run_id_filter: `messages.list(run_id=...)` returns the messages of all runs.
        expires_at: What a run shows as `expires_at`: its time, `null` or `0`. It expires all the same.
        ignores_additional_messages: `runs.create(additional_messages=...)` drops them without a word.
        omits_usage: `usage` stays null when the work has ended.
        omits_conversation: A response does not name its conversation.
        background: What `background=True` does: `runs` as documented, `refused` (400, param `background`), or
            `completes_at_once`: the answer comes when the work is done.
        stream_options: What `stream_options` does: `takes` as documented, or `refused` (400): a server that does not know it.
        wants_turns: A chat completion whose messages do not take turns, user and assistant, is refused (400): some models' templates.
        call_ids: The ids of the calls in a chat completion: `unique`, `numbered` (from 0 in every round) or `empty`.
        ends_calls_with: The `finish_reason` of a chat completion with calls.
        ignores_stream: A chat completion is answered whole although a stream was asked for.
        context_words: A chat completion over more words than these is refused (400, `context_length_exceeded`); None for no limit.
        error_body: The shape of every error: OpenAI's, `{"detail": ...}` or `{"errors": [...]}`.
    """

    lock: Literal["refuse", "conflict", "none"] = "refuse"
    ignores_run_id_filter: bool = False
    expires_at: Literal["timestamp", "null", "zero"] = "timestamp"
    ignores_additional_messages: bool = False
    omits_usage: bool = False
    omits_conversation: bool = False
    background: Literal["runs", "refused", "completes_at_once"] = "runs"
    stream_options: Literal["takes", "refused"] = "takes"
    wants_turns: bool = False
    call_ids: Literal["unique", "numbered", "empty"] = "unique"
    ends_calls_with: Literal["tool_calls", "stop"] = "tool_calls"
    ignores_stream: bool = False
    context_words: int | None = None
    error_body: Literal["openai", "detail", "errors"] = "openai"
