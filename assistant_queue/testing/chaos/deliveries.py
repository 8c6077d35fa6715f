"""The bot's own log of delivered replies, outside Redis."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from assistant_queue import RunResult


@dataclass(frozen=True, slots=True)
class Delivered:
    """A reply that was passed to `on_reply`, at least once."""

    batch_id: str
    run_id: str
    thread: str
    message_ids: tuple[str, ...]
    reply: str | None


class Deliveries:
    """The bot's log of delivered replies: a file outside Redis to which all workers append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, result: RunResult) -> None:
        """`on_reply`: append one line in one write, so that a killed worker leaves no part."""
        row = [result.batch_id, result.run_id, result.thread_id, result.message_ids, result.reply]
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(row).encode() + b"\n")
        finally:
            os.close(file)

    def read(self) -> list[Delivered]:
        """Return all deliveries so far, including repetitions."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows = (json.loads(line) for line in lines)
        return [
            Delivered(batch, run, thread, tuple(messages), reply)
            for batch, run, thread, messages, reply in rows
        ]
