"""The course of the two examples of approvals: a worker asks and ends, a command approves.

`pydantic_ai_approval.py` and `openai_agents_approval.py` share it; your own bot needs none of this.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from assistant_queue import Approval, AssistantMessageQueue
from assistant_queue.testing.provider import Reply, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome


def scripted(turn: Turn) -> Outcome:
    """Play the model."""
    if turn.tool_outputs:
        return Reply(turn.tool_outputs[-1].output)
    return ToolCalls([("refund", {"order": 4711, "amount": 30})])


def play(answer: Callable[..., Any], options: dict[str, Any]) -> None:
    """Ask, approve by another process, and continue by another worker."""
    settings = {name: options[name] for name in ("redis_url", "queue_prefix")}
    with AssistantMessageQueue(backend=answer, message_delay=0.1, **settings) as queue:
        worker = queue.start_worker()
        print("Mia: Please refund order 4711")
        receipt = queue.add_message_to_thread("mia", "Please refund order 4711", author="Mia")
        call = _first_approval(queue)
        worker.stop()
    print(f"{call.question} ({call.call_id[:5]}...); the worker has ended")
    command = [sys.executable, "-m", "assistant_queue.cli", "approve", call.call_id, "--by", "eve"]
    variables = {
        "REDIS_URL": settings["redis_url"],
        "ASSISTANT_QUEUE_QUEUE_PREFIX": settings["queue_prefix"],
    }
    subprocess.run(  # noqa: S603 - our own command
        command, env={**os.environ, **variables}, check=True, stdout=subprocess.DEVNULL
    )
    print("approved by another process")
    with AssistantMessageQueue(backend=answer, message_delay=0.1, **settings) as queue:
        queue.start_worker()
        print(f"Bot: {queue.wait_for_reply(receipt.message_id, timeout=120)}")


def _first_approval(queue: AssistantMessageQueue) -> Approval:
    """Wait for the first open call."""
    for event in queue.events("mia", after="0-0", timeout=120):
        if event.type == "approval_requested":
            break
    (call,) = queue.list_approvals()
    return call
