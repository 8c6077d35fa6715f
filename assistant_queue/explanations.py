"""Values that `explain` returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from assistant_queue.accounting import ErrorInfo


class ExplanationVerdict(StrEnum):
    """Reasons why a message has no answer (yet), or what became of it; `explain` returns one.

    `core/explaining/explanation.py` has the title and the advice of each.
    """

    WINDOW_OPEN = "window_open"
    NO_REPLY_WANTED = "no_reply_wanted"
    QUEUE_PAUSED = "queue_paused"
    THREAD_PAUSED = "thread_paused"
    TAKEN_OVER = "taken_over"
    BACKING_OFF = "backing_off"
    HELD = "held"
    WAITS_FOR_ANSWER = "waits_for_answer"
    IN_BACKGROUND = "in_background"
    DIRECT_CALL = "direct_call"
    DUE = "due"
    NO_WORKER = "no_worker"
    WORKERS_SUSPENDED = "workers_suspended"
    WORKERS_FULL = "workers_full"
    WAKE_UP_LOST = "wake_up_lost"
    RUNNING = "running"
    USER_CODE = "user_code"
    STOPPING = "stopping"
    WORKER_LOST = "worker_lost"
    FAILED = "failed"
    PARKED = "parked"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"
    STOPPED = "stopped"
    ANSWERED = "answered"
    EMPTY_REPLY = "empty_reply"
    WRITTEN = "written"
    DELIVERING = "delivering"
    DELIVERY_RETRYING = "delivery_retrying"
    DELIVERY_WAITS = "delivery_waits"
    UNDELIVERED = "undelivered"
    DELIVERY_UNKNOWN = "delivery_unknown"
    DELIVERED = "delivered"
    IDLE = "idle"
    UNKNOWN = "unknown"

    if TYPE_CHECKING:
        # Declared, as for `MessageState`.
        def __eq__(self, other: object, /) -> bool: ...

        def __hash__(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a message, or a thread, has no answer (yet); `str()` of it is a sentence for people.

    Attributes:
        verdict: The reason, or what became of the message.
        because: The evidence, in words.
        since: When that began; aware, UTC. None if it is not known, or does not apply.
        until: When it ends by itself, or is looked at next; aware, UTC. None if it does not.
        advice: What to do.
        title: The verdict in words.
        thread_id: The thread; None if the id is not known.
        message_id: The message; None if the thread was asked about.
        batch_id: The batch that the answer depends on.
        error: The failure that it waits for, or ended with.
        evidence: The same evidence for programs: names such as `attempts`, `run_id`, `worker`,
            `function`, `line`, `reason`; only those that apply.
    """

    verdict: ExplanationVerdict
    because: str
    since: datetime | None = None
    until: datetime | None = None
    advice: str = ""
    title: str = ""
    thread_id: str | None = None
    message_id: str | None = None
    batch_id: str | None = None
    error: ErrorInfo | None = None
    evidence: Mapping[str, str | int | float | bool] = field(default_factory=dict)

    def __str__(self) -> str:
        what = f"{self.title[:1].upper()}{self.title[1:]}: {self.because}."
        return f"{what} {self.advice}".rstrip()
