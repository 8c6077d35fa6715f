"""Queue object for worker processes: `assistant-queue worker --app app:queue`.

Start it in this directory. Redis, the key, the model and the window come from the environment, so
that web processes and workers can share this file:

    export REDIS_URL=... OPENAI_API_KEY=... ASSISTANT_QUEUE_MODEL=...
    assistant-queue worker --app app:queue
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from typing import Any

from assistant_queue import AssistantMessageQueue, RunResult, ToolCall

log = logging.getLogger("assistant_queue.examples")

TOOLS = [
    {
        "type": "function",
        "name": "order_status",
        "description": "Look up an order.",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "string"}},
            "required": ["order"],
        },
    }
]


def use_tools(thread_id: str, run_id: str, tool_calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Return an output for each call of a round."""
    log.info("thread %s, run %s asks for %d tool calls", thread_id, run_id, len(tool_calls))
    outputs = []
    for call in tool_calls:
        order = json.loads(call.function.arguments)["order"]
        outputs.append(
            {"tool_call_id": call.id, "output": {"order": order, "status": "on its way"}}
        )
    return outputs


def send_reply(result: RunResult) -> None:
    """Post `result.reply` to the chat; here it is only logged."""
    log.info(
        "thread %s: %d messages answered by %s",
        result.thread_id,
        result.messages_processed,
        result.run_id,
    )


queue = AssistantMessageQueue(tools=TOOLS, handle_requires_action=use_tools, on_reply=send_reply)
