"""Stored facts about one message and its thread, as `explain` reads them. Pure.

What a user of Redis may not read is None.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from assistant_queue.core.delivery import DeliveryState
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import RunResult
from assistant_queue.values import valueclass


@valueclass(frozen=True, slots=True, kw_only=True)
class ThreadFacts:
    """A thread; times in ms, 0 for none.

    Attributes:
        state: Its state.
        due_ms: From when it may be claimed.
        first_ms: When the oldest waiting message arrived.
        waiting: Its waiting messages.
        batch_id: The frozen batch, "" for none.
        batch_size: Messages in it.
        phase: Of the batch, None without one.
        progress: Of the batch.
        is_leased: A worker, or a direct call, took the lease.
        until_ms: When the lease expires.
        deaths: Workers that died over the batch in its phase.
        claimed_ms: When the batch was first claimed.
        is_paused: The thread is paused by itself.
        person: The person that answers it instead of the model, "" for none.
        taken_ms: Since when.
        is_spoken: What that person said waits to be written to the conversation.
        wake_id: Its outstanding wake-up, "" for none.
        queued_ms: When that joined the line.
        is_stopping: The batch is to be stopped.
        wished_ms: Since when.
        since_ms: When its lease, its back-off or its wait was written.
        open_calls: The tool calls for which it waits, if it is parked.
    """

    state: ThreadState = ThreadState.IDLE
    due_ms: int = 0
    first_ms: int = 0
    waiting: int = 0
    batch_id: str = ""
    batch_size: int = 0
    phase: Phase | None = None
    progress: Progress = field(default_factory=Progress)
    is_leased: bool = False
    until_ms: int = 0
    deaths: int = 0
    claimed_ms: int = 0
    is_paused: bool = False
    person: str = ""
    taken_ms: int = 0
    is_spoken: bool = False
    wake_id: str = ""
    queued_ms: int = 0
    is_stopping: bool = False
    wished_ms: int = 0
    since_ms: int = 0
    open_calls: tuple[str, ...] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class DeliveryFacts:
    """The outbox of a thread; times in ms, 0 for none.

    Attributes:
        waiting: Replies in it.
        batch_id: Batch of the reply at the head, "" if it is not known.
        due_ms: From when the head may be delivered.
        is_leased: A worker took the lease.
        until_ms: When the lease expires.
        seen_ms: When a lease was taken, or the head was postponed, last.
        deaths: Workers that died over the head.
        state: Tries and the last error.
        is_call_open: An abandoned `on_reply` call for the batch in question still runs.
        is_hidden: This user may not look.
    """

    waiting: int = 0
    batch_id: str = ""
    due_ms: int = 0
    is_leased: bool = False
    until_ms: int = 0
    seen_ms: int = 0
    deaths: int = 0
    state: DeliveryState = field(default_factory=DeliveryState)
    is_call_open: bool = False
    is_hidden: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class OutcomeFacts:
    """The record of a batch that ended.

    Attributes:
        state: `completed`, `stopped`, `failed`, `discarded`; "" if there is no record.
        failure: What a batch, or a reply, in the failed list stores.
        failed_ms: When it got there.
        delivery: A `DeliveryStatus`, "" if none was stored.
        delivered_ms: When it was delivered.
        result: The result; None if there is none, or it cannot be read.
    """

    state: str = ""
    failure: Mapping[str, Any] = field(default_factory=dict)
    failed_ms: int = 0
    delivery: str = ""
    delivered_ms: int = 0
    result: RunResult | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class WorkerSign:
    """A sign of life of a registered worker.

    Attributes:
        heard_ms: When it wrote last.
        has_scheduler: It has a scheduler as long as it lives: it is not RQ's own.
    """

    heard_ms: int
    has_scheduler: bool


@valueclass(frozen=True, slots=True, kw_only=True)
class Workforce:
    """The workers of the queue.

    Attributes:
        has_leader: A scheduler leads.
        registered: Workers that RQ lists.
        is_suspended: RQ's workers are suspended.
        signs: Of those whose record has not expired; None if they were not, or cannot be, read.
    """

    has_leader: bool | None = None
    registered: int | None = None
    is_suspended: bool = False
    signs: tuple[WorkerSign, ...] | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class LineFacts:
    """The line of due threads, and one wake-up in it.

    Attributes:
        length: Wake-ups in the line.
        place: How many stand before this one; None if it was not found.
        is_in: It stands in the line, or after the part that was searched; None if this user may not
            look.
        is_scheduled: It waits for its time.
        check_ms: When a scheduler looks whether it was lost; 0 if it should have looked already.
        running: Runs in progress, as RQ's records show.
        wait_s: Seconds until its turn, estimated; None if that is not known.
    """

    length: int | None = None
    place: int | None = None
    is_in: bool | None = None
    is_scheduled: bool = False
    check_ms: int = 0
    running: int | None = None
    wait_s: float | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class MessageFacts:
    """All that is known of a message, or of a thread.

    Attributes:
        now_ms: The store's time.
        is_message: A message was asked about, else its thread.
        is_known: There is a record of the id.
        is_in_batch: The message is in the thread's frozen batch.
        batch_id: The batch of the message, "" while it waits.
        is_cancelled: The message was cancelled.
        queued_ms: When the message was accepted, 0 if that is not known.
        job_id: The wake-up that was asked about, "" for none.
        is_queue_paused: The whole queue is.
        paused_ms: Since when, 0 if that is not known.
    """

    now_ms: int
    is_message: bool = False
    is_known: bool = True
    is_in_batch: bool = False
    batch_id: str = ""
    is_cancelled: bool = False
    queued_ms: int = 0
    job_id: str = ""
    is_queue_paused: bool = False
    paused_ms: int = 0
    thread: ThreadFacts = field(default_factory=ThreadFacts)
    outcome: OutcomeFacts = field(default_factory=OutcomeFacts)
    outbox: DeliveryFacts = field(default_factory=DeliveryFacts)
    workers: Workforce = field(default_factory=Workforce)
    line: LineFacts | None = None
