"""A producer that is killed during `add_messages`, and its successor, which adds all again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from assistant_queue import AssistantMessageQueue, MessageRow
from assistant_queue.errors import StoreUnavailable
from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.producers import RETRY_S, Producers

THREADS = 100
ROWS = 1500
"""Chosen: half a dozen round trips; a thread's share fits in one request of each protocol, one text
an item."""
_SEEN = 300
"""Index of the row at which the process is killed: it is in the second round trip (`store/ops/producing.py`)."""
_PATIENCE_S = 30.0
_ADD = """
import json, sys
from assistant_queue import AssistantMessageQueue
given = json.load(sys.stdin)
AssistantMessageQueue(**given["options"]).add_messages(given["rows"])
"""


class Bulks:
    """Adds bulks by producers that are killed, then by successors that enter them into the log."""

    def __init__(
        self, queue: AssistantMessageQueue, options: Mapping[str, Any], producers: Producers
    ) -> None:
        self._queue = queue
        self._options = options
        self._producers = producers

    def add(self, number: int) -> bool:
        """Add a bulk; return False if its first producer was not killed during the adding."""
        rows = rows_of(number)
        at = time.time()
        is_cut = add_and_die(self._queue, self._options, rows)
        repeated = add_again(self._queue, rows, RETRY_S)
        sent = [
            Sent(row["message_id"], row["thread_id"], row["message"], at, time.time())
            for row in rows
        ]
        self._producers.note(sent, repeated)
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
    queue: AssistantMessageQueue, options: Mapping[str, Any], rows: Sequence[Mapping[str, str]]
) -> bool:
    """Kill a process while it adds rows; return whether Redis has some of them, not all."""
    given = json.dumps({"options": options, "rows": rows}).encode()
    command = [sys.executable, "-c", _ADD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ) as child:  # noqa: S603 - this Python itself
        assert child.stdin is not None
        child.stdin.write(given)
        child.stdin.close()
        until = time.monotonic() + _PATIENCE_S
        while (
            child.poll() is None and time.monotonic() < until and not _is_there(queue, rows[_SEEN])
        ):
            pass
        child.kill()
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
