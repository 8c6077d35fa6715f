"""How a compatible server differs from the strict one: one flag for each difference seen in the wild."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Personality:
    """The ways in which this server is not OpenAI's. The default is the strict one.

    Attributes:
        lock: What a second writer on a busy conversation or thread meets: `refuse` (400), `conflict` (409), or `none`:
            both run at once, and the log records the overlap.
        ignores_run_id_filter: `messages.list(run_id=...)` returns the messages of all runs.
        ignores_order: Lists come newest first whatever `order` says.
        unsorted_lists: Lists come in an arbitrary (yet repeatable) order.
        expires_at: What a run shows as `expires_at`: its time, `null` or `0`. It expires all the same.
        ignores_additional_messages: `runs.create(additional_messages=...)` drops them without a word.
        omits_usage: `usage` stays null when the work has ended.
        omits_conversation: A response does not name its conversation.
        background: What `background=True` does: `runs` as documented, `refused` (400, param `background`), or
            `completes_at_once`: the answer comes when the work is done.
        error_body: The shape of every error: OpenAI's, `{"detail": ...}` or `{"errors": [...]}`.
    """

    lock: Literal["refuse", "conflict", "none"] = "refuse"
    ignores_run_id_filter: bool = False
    ignores_order: bool = False
    unsorted_lists: bool = False
    expires_at: Literal["timestamp", "null", "zero"] = "timestamp"
    ignores_additional_messages: bool = False
    omits_usage: bool = False
    omits_conversation: bool = False
    background: Literal["runs", "refused", "completes_at_once"] = "runs"
    error_body: Literal["openai", "detail", "errors"] = "openai"
