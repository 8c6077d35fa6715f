"""A worker process that serves one queue of each protocol, with a tool that asks first.

`python -m tests.integration.approval_bot FILE`: the file has the options of each queue, the version
of the deploy, and the step at which the process dies. Functions and replies are logged to files
outside Redis.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from assistant_queue import AssistantMessageQueue, Batch, RunResult, ToolContext
from assistant_queue.testing.chaos.shifting import shift
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from assistant_queue.worker.handle import WorkerHandle
from assistant_queue.worker.parent_process import die_with_parent

INSIDE = "in the function"


@dataclass(kw_only=True)
class Deploy:
    """Options that a worker process reads when it starts.

    Attributes:
        queues: The options of each queue, by a name.
        log: The file of calls and replies.
        clock: The file that says by how much the store's time is shifted.
        version: Named by the function's output.
        point: The step at which the process dies once each queue has reached it, or `INSIDE`; "" for
            never.
    """

    queues: dict[str, dict[str, Any]]
    log: str
    clock: str
    version: int = 1
    point: str = ""

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Deploy:
        return cls(**json.loads(path.read_text()))


def model(turn: Turn) -> Outcome:
    """Call two functions for `refund`, once; then say what they returned."""
    if turn.instructions and "do not call them again" in turn.instructions.lower():
        return Reply(turn.instructions.rpartition(":\n")[2])
    if turn.round:
        return Reply("\n".join(one.output for one in turn.tool_outputs))
    if turn.user_texts[-1].rpartition("\n")[2].endswith("refund"):
        return ToolCalls([("refund", {"amount": 3}), ("stock", {})])
    return Reply("You said: " + " | ".join(turn.user_texts))


class Log:
    """Lines of a file to which all processes append, each in one write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, *words: str) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, json.dumps(words).encode() + b"\n")
        finally:
            os.close(file)

    def read(self, *start: str) -> list[list[str]]:
        """Return the rest of all lines that begin with these words."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        rows: list[list[str]] = [json.loads(line) for line in lines]
        return [row[len(start) :] for row in rows if row[: len(start)] == [*start]]


def make_queue(
    name: str, deploy: Deploy, at: Callable[[str], None] = lambda _: None
) -> AssistantMessageQueue:
    """The queue of one protocol; `name` is in its lines of the log, `at` is called in `refund`."""
    log = Log(Path(deploy.log))

    def on_reply(result: RunResult) -> None:
        log.add(name, "reply", result.thread_id, str(result.reply))

    queue = AssistantMessageQueue(on_reply=on_reply, **deploy.queues[name])

    @queue.tool(approval=f"Refund {{amount}}? ({deploy.version})")
    def refund(amount: int, context: ToolContext) -> str:
        log.add(name, "call", context.call_id, str(context.approved_by))
        at(INSIDE)
        return f"refunded {amount} by version {deploy.version}"

    @queue.tool
    def stock() -> str:
        log.add(name, "stock")
        return "7 left"

    return queue


def dying(point: str, parties: int) -> Callable[[str], None]:
    """Return a function that kills this process when each of its queues has reached the point."""
    all_here = threading.Barrier(parties)

    def at(name: str) -> None:
        if name == point:
            all_here.wait()
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def main(path: Path) -> None:
    """Serve all queues until SIGTERM."""
    ends = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ends.set())
    die_with_parent()
    deploy = Deploy.read(path)
    shift(Path(deploy.clock))
    at = dying(deploy.point, len(deploy.queues))

    def probe(name: str, _: Batch) -> None:
        at(name)

    queues = [make_queue(name, deploy, at) for name in deploy.queues]
    handles = [WorkerHandle(queue.config, probe=probe) for queue in queues]
    ends.wait()
    for handle in handles:
        handle.stop()
    for queue in queues:
        queue.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
