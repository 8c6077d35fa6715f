"""The way of the demo's messages to the queue, and of its replies to the people."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from assistant_queue.cli.demo.board import Board, BoardAnswer, BoardMessage
from assistant_queue.cli.demo.lines import Line
from assistant_queue.cli.demo.screens import ScreensVerdict
from assistant_queue.models import FailedBatch

if TYPE_CHECKING:
    from assistant_queue.client.queue import AssistantMessageQueue


class Entrance:
    """Adds each message itself, as a web process does."""

    def __init__(self, queue: AssistantMessageQueue) -> None:
        """Add messages to this queue."""
        self._queue = queue
        self._accepted: list[BoardMessage] = []

    @property
    def is_waiting(self) -> bool:
        """Whether a message has been said that the queue does not have yet."""
        return False

    def say(self, line: Line) -> None:
        """Say a message."""
        at = time.time()
        receipt = self._queue.add_message_to_thread(line.thread, line.text, author=line.author)
        self._accepted.append(BoardMessage(line=line, receipt=receipt, at=at))

    def accepted(self) -> list[BoardMessage]:
        """Return the messages that the queue has accepted since the last call."""
        new = self._accepted
        self._accepted = []
        return new

    def news(self, share: float) -> list[str]:
        """Do what is due when this share of the scene has been played; return notes about it."""
        _ = share
        return []

    def settle(self, batch: FailedBatch) -> tuple[BoardAnswer | None, str] | None:
        """Settle a failed reply as an operator would.

        Returns:
            The answer, if it has arrived after all, and a note; None for what stays failed.
        """
        _ = batch
        return None

    def judge(self, board: Board, replies: Mapping[str, Sequence[str]]) -> ScreensVerdict | None:
        """Compare the people's screens with the model's replies; None if there are no screens."""
        _ = board, replies
        return None
