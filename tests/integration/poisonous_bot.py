"""Test bot with a function that kills its worker, in one thread."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence

from assistant_queue import AssistantMessageQueue, ToolCall

POISON = "poison"


def handle(thread_id: str, _run_id: str, tool_calls: Sequence[ToolCall]) -> list[dict[str, str]]:
    if thread_id == POISON:
        os.kill(os.getpid(), signal.SIGKILL)
    return [{"tool_call_id": call.id, "output": "fine"} for call in tool_calls]


queue = AssistantMessageQueue(
    handle_requires_action=handle, **json.loads(os.environ["BOT"])["options"]
)
