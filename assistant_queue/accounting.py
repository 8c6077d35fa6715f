"""Values that account for a run: its tokens, times, attempts and errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

DeliveryStatus = Literal["none", "pending", "delivered", "unknown", "undelivered"]
"""States of a reply's delivery, as `MessageStatus.delivery`."""

BatchOutcome = Literal["completed", "incomplete", "failed", "said", "stopped"]
"""Outcomes of a batch, as `BatchRecord.outcome`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorInfo:
    """Reason of a failure: a stable `code` for programs and a `message` for people."""

    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of all rounds of a run, as the provider counted them.

    A count that the provider does not report is 0, and a total that it does not report is the sum
    of input and output.

    Attributes:
        input_tokens: Tokens that the model read, those of the cache included.
        cached_input_tokens: The part of `input_tokens` that came from the provider's cache.
        cache_write_tokens: The part of `input_tokens` that was written to the cache.
        output_tokens: Tokens that the model wrote, its reasoning included.
        reasoning_tokens: The part of `output_tokens` that is reasoning.
        total_tokens: All tokens, as the provider adds them up.
        rounds: Answers of the model: the rounds of tool calls, and the reply. 0 if not known,
            because version 0.1 stored the result.
        model: The model that answered last, by the provider's name; None if it was not named.
        service_tier: The tier that served the last answer; None if it was not named.
    """

    input_tokens: int = 0
    cached_input_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    rounds: int = 0
    model: str | None = None
    service_tier: str | None = None

    def __add__(self, other: Usage) -> Usage:
        """Return the tokens of both; the model and the tier are those of the later one, `other`."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            cached_input_tokens=self.cached_input_tokens + other.cached_input_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=self.reasoning_tokens + other.reasoning_tokens,
            total_tokens=self.total_tokens + other.total_tokens,
            rounds=self.rounds + other.rounds,
            model=other.model or self.model,
            service_tier=other.service_tier or self.service_tier,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptInfo:
    """One attempt at a batch by one worker.

    A batch that is sent again by the worker that holds it, or continued by another one, has
    another entry.

    Attributes:
        number: How often the batch had been sent by then, this attempt included. Refusals that do
            not count leave it, and so does a worker that continues another one's run.
        started_at: When the worker claimed the batch, or sent it again; aware, UTC.
        ended_at: When it gave the batch back, or ended it; None while it is at work, and if it
            died.
        worker: Its process, as `host:pid`; None if it died before it sent anything.
        run_id: The latest run of the attempt, None if there was none.
        error: Why it failed; None for one that succeeded, or is at work. A worker that died, or
            lost the thread's lease, leaves the code `worker_lost`.
    """

    number: int
    started_at: datetime
    ended_at: datetime | None = None
    worker: str | None = None
    run_id: str | None = None
    error: ErrorInfo | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Times of a message or a batch, by Redis' clock; aware, UTC, None if not (yet) known.

    Attributes:
        queued_at: When Redis accepted the message; of a batch, the oldest of them.
        due_at: When a worker was to claim it: the end of the window.
        claimed_at: When a worker first claimed its batch.
        sent_at: When the request of the last attempt left.
        first_token_at: When a worker read the first text of that attempt.
        completed_at: When the end of the run was stored.
        delivered_at: When the delivery of the reply was confirmed.
        attempts: In order; of very many, the first and the latest.
    """

    queued_at: datetime | None = None
    due_at: datetime | None = None
    claimed_at: datetime | None = None
    sent_at: datetime | None = None
    first_token_at: datetime | None = None
    completed_at: datetime | None = None
    delivered_at: datetime | None = None
    attempts: tuple[AttemptInfo, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallRecord:
    """One call of a tool, as the journal keeps it: no arguments and no output.

    Attributes:
        name: The tool's name, as the model wrote it.
        call_id: The provider's id of the call.
        started_at: When the function was called; aware, UTC. None if it is not known.
        duration_s: Seconds until it returned, raised, or was given up; calls that the handler
            answers together took as long as that.
        error_code: Why it failed: the type of an exception, or a code such as `timeout`; None if it
            returned, or was denied.
        verdict: How the call was settled, if it was answered from outside: `approved`, `denied`,
            `answered` or `expired`; None if it was not.
        settled_by: The name that was given with that; None for none.
        settled_at: When; aware, UTC.
    """

    name: str
    call_id: str
    started_at: datetime | None
    duration_s: float
    error_code: str | None = None
    verdict: str | None = None
    settled_by: str | None = None
    settled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """The delivery of a batch's reply, as the journal keeps it.

    Attributes:
        state: `none` if there is no reply to deliver, `pending`, `delivered`, `unknown` or
            `undelivered`, as `MessageStatus.delivery`.
        channel: The channel's name, or `on_reply`; None before it is settled, and if there is none.
        tries: How often it was tried, refusals that do not count aside.
        part_ids: The platform's ids of the parts that it has, in order; None for a part without an
            id. Of very many, the first.
        error_code: Why it was given up; None if it was not.
    """

    state: DeliveryStatus = "none"
    channel: str | None = None
    tries: int = 0
    part_ids: tuple[str | None, ...] = ()
    error_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch that ended, as the journal of its thread keeps it: no texts.

    Attributes:
        batch_id: Its id. A failed batch that is retried is answered as another batch.
        thread_id: The thread.
        message_ids: Its messages, in the order in which the model saw them; of very many, the first
            and the latest.
        message_count: The number of its messages.
        outcome: `completed`, `incomplete` or `failed`; `said` for a text of `say`, which no run
            answers.
        ended_at: When it ended; aware, UTC.
        reason: Of a failed batch the reason of the failed list, of an incomplete one the provider's
            reason; None otherwise.
        error_code: The code of the error of a failed batch.
        attempts: How often it was sent to the provider.
        run_ids: The latest run of each attempt that had one, in order.
        timeline: Its times, and the attempts at it; their errors have codes and no words.
        usage: Tokens of its run; None if none were counted.
        model: The model that answered; None if it was not named.
        tenant: The tenant of its messages.
        tool_calls: The calls of tools, in the order of their ends; of very many, the first and the
            latest.
        delivery: The delivery of its reply.
        answered_by: The person that answered its messages, because the thread was taken over;
            None if no person did.
    """

    batch_id: str
    thread_id: str
    message_ids: tuple[str, ...]
    message_count: int
    outcome: BatchOutcome
    ended_at: datetime
    reason: str | None = None
    error_code: str | None = None
    attempts: int = 0
    run_ids: tuple[str, ...] = ()
    timeline: Timeline = field(default_factory=Timeline)
    usage: Usage | None = None
    model: str | None = None
    tenant: str | None = None
    tool_calls: tuple[ToolCallRecord, ...] = ()
    delivery: DeliveryRecord = field(default_factory=DeliveryRecord)
    answered_by: str | None = None
