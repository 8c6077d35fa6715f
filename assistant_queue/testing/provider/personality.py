"""Describe how a compatible server differs from the strict one, one flag per difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from assistant_queue.testing.provider.answer_flags import AnswerFlags, WireFlags
from assistant_queue.testing.provider.context_flags import ContextFlags
from assistant_queue.testing.provider.error_flags import ErrorFlags
from assistant_queue.testing.provider.reading_flags import ForegroundFlags, ListFlags
from assistant_queue.testing.provider.request_flags import RequestFlags


@dataclass(frozen=True)
class Personality(
    AnswerFlags, WireFlags, RequestFlags, ErrorFlags, ListFlags, ForegroundFlags, ContextFlags
):
    """The ways in which this server is not OpenAI's. The default is the strict one.

    The flags of the base classes are fields of this class too: `AnswerFlags` (what a chat
    completion looks like), `WireFlags` (the bytes of its stream), `RequestFlags` (what is refused),
    `ErrorFlags` (how errors are reported), `ListFlags` (how lists are cut and sorted) and
    `ForegroundFlags` (responses without a reader). `personalities.py` has whole
    servers by name.

    Attributes:
        lock: What a second writer on a busy conversation or thread meets: `refuse` (400),
            `conflict` (409), or `none`: both run at once, and the log records the overlap.
        ignores_run_id_filter: `messages.list(run_id=...)` returns the messages of all runs.
        expires_at: What a run shows as `expires_at`: its time, `null` or `0`. It expires all the
            same.
        ignores_additional_messages: `runs.create(additional_messages=...)` drops them without a
            word.
        omits_usage: `usage` stays null when the work has ended.
        omits_conversation: A response does not name its conversation.
    """

    lock: Literal["refuse", "conflict", "none"] = "refuse"
    ignores_run_id_filter: bool = False
    expires_at: Literal["timestamp", "null", "zero"] = "timestamp"
    ignores_additional_messages: bool = False
    omits_usage: bool = False
    omits_conversation: bool = False
