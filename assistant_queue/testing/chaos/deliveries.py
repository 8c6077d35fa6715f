"""The bot's own log of the replies it was given: outside Redis."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from assistant_queue import RunResult


@dataclass(frozen=True, slots=True)
class Delivered:
    """A reply that `on_reply` was given. At least once: the same one may be given again."""

    batch_id: str
    run_id: str
    thread: str
    message_ids: tuple[str, ...]
    reply: str | None


class Deliveries:
    """The bot's own log of what it was given: a file, outside Redis, to which all workers append."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, result: RunResult) -> None:
        """`on_reply`: one line, in one write, so that a worker killed in it leaves all or nothing."""
        told = [result.batch_id, result.run_id, result.thread_id, result.message_ids, result.reply]
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(told).encode() + b"\n")
        finally:
            os.close(file)

    def read(self) -> list[Delivered]:
        """Everything that was delivered so far, repetitions included."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows = (json.loads(line) for line in lines)
        return [Delivered(batch, run, thread, tuple(messages), reply) for batch, run, thread, messages, reply in rows]
