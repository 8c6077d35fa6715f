"""A producer that dies during `add_messages`, and its successor, which adds all again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from assistant_queue import AssistantMessageQueue, MessageRow
from assistant_queue.errors import StoreUnavailable
from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.producers import RETRY_S, Producers

THREADS = 100
ROWS = 1500
"""Chosen: half a dozen round trips; a thread's share fits in one request of each protocol, one text
an item."""
_PATIENCE_S = 30.0
_ADD = """
import json, os, pathlib, signal, sys
from assistant_queue import AssistantMessageQueue
from assistant_queue.store.ops import producing
from assistant_queue.testing.chaos.shifting import shift
given = json.load(sys.stdin)
if given["clock"]:
    shift(pathlib.Path(given["clock"]))
prepared, prepare = [], producing._add_calls
def prepare_or_die(*args):
    prepared.append(args)
    if len(prepared) == given["dies_at"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return prepare(*args)
producing._add_calls = prepare_or_die
AssistantMessageQueue(**given["options"]).add_messages(given["rows"])
"""
"""It kills itself before one of its round trips: a kill from outside may come too late."""
_ROUND_TRIPS = (3, 4, 5)
"""Round trips before which it dies, in turn: of six, and the first was answered."""


class Bulks:
    """Adds bulks by producers that are killed, then by successors that enter them into the log."""

    def __init__(
        self,
        queue: AssistantMessageQueue,
        options: Mapping[str, Any],
        producers: Producers,
        clock: Path | None = None,
    ) -> None:
        """`clock`: the file that the producers' clocks follow (`shifting.py`)."""
        self._queue = queue
        self._options = options
        self._producers = producers
        self._clock = None if clock is None else str(clock)
        self.added_again = 0
        """Rows that were added by a successor, once for each of its tries."""

    def add(self, number: int) -> bool:
        """Add a bulk; return False if its first producer was not killed during the adding."""
        rows = rows_of(number)
        at = time.time()
        dies_at = _ROUND_TRIPS[number % len(_ROUND_TRIPS)]
        is_cut = add_and_die(
            self._queue, rows, options=self._options, dies_at=dies_at, clock=self._clock
        )
        repeated = add_again(self._queue, rows, RETRY_S)
        sent = [
            Sent(row["message_id"], row["thread_id"], row["message"], at, time.time())
            for row in rows
        ]
        self._producers.note(sent, repeated)
        self.added_again += len(rows) * (1 + repeated)
        return is_cut


def rows_of(number: int) -> list[dict[str, str]]:
    """Return the messages of one bulk, over its own threads in turn."""
    rows = []
    for index in range(ROWS):
        thread = f"bulk-{number}-{index % THREADS}"
        nth = index // THREADS + 1
        rows.append(
            {
                "thread_id": thread,
                "message": f"{thread} says {nth}",
                "message_id": f"{thread}.{nth}",
            }
        )
    return rows


def add_and_die(
    queue: AssistantMessageQueue, rows: Sequence[Mapping[str, str]], **given: Any
) -> bool:
    """Have a process die while it adds rows; return whether Redis has some of them, not all."""
    text = json.dumps({"rows": rows, **given}).encode()
    command = [sys.executable, "-c", _ADD]
    subprocess.run(command, input=text, env=os.environ, timeout=_PATIENCE_S, check=False)  # noqa: S603 - this Python itself
    return _is_there(queue, rows[0]) and not _is_there(queue, rows[-1])


def add_again(
    queue: AssistantMessageQueue, rows: Sequence[Mapping[str, str]], pause_s: float
) -> int:
    """Add all rows until Redis has acknowledged them; return the number of repetitions."""
    repeated = 0
    while True:
        try:
            queue.add_messages(cast("Sequence[MessageRow]", rows))
        except StoreUnavailable:
            repeated += 1
            time.sleep(pause_s)
        else:
            return repeated


def _is_there(queue: AssistantMessageQueue, row: Mapping[str, str]) -> bool:
    try:
        return queue.get_message(row["message_id"]) is not None
    except StoreUnavailable:
        return False
