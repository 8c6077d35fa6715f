"""The state of a played scene: each message, answer and thread."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from assistant_queue.cli.demo.lines import Line
from assistant_queue.models import FailedBatch, Receipt, ThreadStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardMessage:
    """An accepted message and the time of its adding (seconds since the epoch)."""

    line: Line
    receipt: Receipt
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardAnswer:
    """The bot's reply to a batch and its time; `claimed_at` is the time of the claim.

    Times in seconds since the epoch.
    """

    thread: str
    batch_id: str
    run_id: str
    message_ids: tuple[str, ...]
    reply: str
    attempts: int
    claimed_at: float
    at: float

    @classmethod
    def load(cls, said: Mapping[str, Any]) -> BoardAnswer:
        """Return the answer in an entry of the outbox."""
        return cls(
            thread=said["thread"],
            batch_id=said["batch_id"],
            run_id=said["run_id"],
            message_ids=tuple(said["message_ids"]),
            reply=said["reply"] or "",
            attempts=said["attempts"],
            claimed_at=said["claimed_at"],
            at=said["at"],
        )


@dataclass(slots=True, kw_only=True)
class BoardRow:
    """One thread's row in the view.

    `state` is a word for people; `changed` counts up with every change of the board.
    """

    thread: str
    story: str = ""
    sent: int = 0
    open: int = 0
    state: str = ""
    run: str = ""
    reply: str = ""
    changed: int = 0


@dataclass(slots=True)
class Board:
    """The state so far.

    `conversations` is filled in at the end: thread -> the provider's conversation.
    """

    stories: Mapping[str, str] = field(default_factory=dict)
    rows: dict[str, BoardRow] = field(default_factory=dict)
    sent: dict[str, BoardMessage] = field(default_factory=dict)
    open: set[str] = field(default_factory=set)
    answers: dict[str, BoardAnswer] = field(default_factory=dict)
    failed: dict[str, FailedBatch] = field(default_factory=dict)
    conversations: dict[str, str] = field(default_factory=dict)
    changes: int = 0

    def row(self, thread: str) -> BoardRow:
        """Return the thread's row."""
        if thread not in self.rows:
            self.rows[thread] = BoardRow(thread=thread, story=self.stories.get(thread, ""))
        return self.rows[thread]

    def _touch(self, thread: str) -> BoardRow:
        self.changes += 1
        row = self.row(thread)
        row.changed = self.changes
        return row

    def add(self, sent: BoardMessage) -> None:
        """Note an accepted message."""
        self.sent[sent.receipt.message_id] = sent
        self.open.add(sent.receipt.message_id)
        row = self._touch(sent.line.thread)
        row.sent += 1
        row.open += 1

    def answer(self, answer: BoardAnswer) -> bool:
        """Note an answer; return False for a repeated delivery (they are at least once)."""
        if answer.batch_id in self.answers:
            return False
        self.answers[answer.batch_id] = answer
        row = self._touch(answer.thread)
        row.reply = answer.reply
        self._settle(row, answer.message_ids)
        return True

    def fail(self, batch: FailedBatch) -> bool:
        """Note a failed batch; return False if it is known."""
        if batch.batch_id in self.failed:
            return False
        self.failed[batch.batch_id] = batch
        row = self._touch(batch.thread_id)
        self._settle(row, batch.message_ids)
        row.state = "failed"
        return True

    def _settle(self, row: BoardRow, message_ids: Iterable[str]) -> None:
        settled = self.open & set(message_ids)
        self.open -= settled
        row.open -= len(settled)
        if not row.open:
            row.state = "answered"
            row.run = ""

    def see(self, status: ThreadStatus) -> str:
        """Note a thread's status, as a word for people."""
        row = self.row(status.thread_id)
        if not row.open:
            return row.state
        was = row.state
        was_run = row.run
        row.state = _word(status)
        row.run = status.run_id or ""
        if (row.state, row.run) != (was, was_run):
            self._touch(status.thread_id)
        return row.state

    def threads_to_look_at(self, most: int) -> list[str]:
        """Return the threads with unanswered messages, the longest unchanged first."""
        waiting = [row for row in self.rows.values() if row.open]
        return [row.thread for row in sorted(waiting, key=lambda row: row.changed)[:most]]


def _word(status: ThreadStatus) -> str:
    due = status.due_at is not None and status.due_at <= datetime.now(UTC)
    if status.state == "pending":
        return "due" if due else "gathering"
    if status.state == "active":
        return "running" if status.run_id else "sending"
    return {"retrying": "trying again", "held": "asking", "idle": "answered"}.get(
        status.state, status.state
    )
