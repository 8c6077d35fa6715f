"""A producer that is killed in the middle of `add_messages`, and its successor, which adds all of it again under the same ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import StoreUnavailable
from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.producers import RETRY_S, Producers

THREADS = 100
ROWS = 1500
"""Chosen: half a dozen round trips; a thread's share fits in one request of each protocol, one text an item."""
_SEEN = 300
"""The row at which the blow falls: it is in the second round trip (`store/producing.py`)."""
_PATIENCE_S = 30.0
_ADD = """
import json, sys
from assistant_queue import AssistantMessageQueue
told = json.load(sys.stdin)
AssistantMessageQueue(**told["options"]).add_messages(told["rows"])
"""


class Bulks:
    """Has bulks added by producers that are killed, and again by their successors, whose messages go into the log."""

    def __init__(self, queue: AssistantMessageQueue, options: Mapping[str, Any], producers: Producers) -> None:
        self._queue, self._options, self._producers = queue, options, producers

    def add(self, number: int) -> bool:
        """Add one; False if its first producer was killed too late, when all was added, or too early."""
        rows, at = rows_of(number), time.time()
        is_cut = add_and_die(self._queue, self._options, rows)
        repeated = add_again(self._queue, rows, RETRY_S)
        sent = [Sent(row["message_id"], row["thread_id"], row["message"], at, time.time()) for row in rows]
        self._producers.note(sent, repeated)
        return is_cut


def rows_of(number: int) -> list[dict[str, str]]:
    """The messages of one bulk, over threads of its own, in turn."""
    rows = []
    for index in range(ROWS):
        thread, nth = f"bulk-{number}-{index % THREADS}", index // THREADS + 1
        rows.append({"thread_id": thread, "message": f"{thread} says {nth}", "message_id": f"{thread}.{nth}"})
    return rows


def add_and_die(queue: AssistantMessageQueue, options: Mapping[str, Any], rows: Sequence[Mapping[str, str]]) -> bool:
    """Have a process add the rows, and kill it when Redis has some of them; whether others were left."""
    told = json.dumps({"options": options, "rows": rows}).encode()
    command = [sys.executable, "-c", _ADD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=os.environ) as child:  # noqa: S603 - this Python itself
        assert child.stdin is not None
        child.stdin.write(told)
        child.stdin.close()
        until = time.monotonic() + _PATIENCE_S
        while child.poll() is None and time.monotonic() < until and not _is_there(queue, rows[_SEEN]):
            pass
        child.kill()
    return _is_there(queue, rows[0]) and not _is_there(queue, rows[-1])


def add_again(queue: AssistantMessageQueue, rows: Sequence[Mapping[str, str]], pause_s: float) -> int:
    """Add all rows until Redis has acknowledged them; how often it did not."""
    repeated = 0
    while True:
        try:
            queue.add_messages(rows)
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
