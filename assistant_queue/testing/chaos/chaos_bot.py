"""The bot that the workers of the chaos runner serve, configured by the environment."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from assistant_queue import AssistantMessageQueue, ToolCall, ToolContext
from assistant_queue.testing.chaos.deliveries import Deliveries
from assistant_queue.testing.chaos.operators import ToolLog
from assistant_queue.testing.chaos.platforms import channels_of
from assistant_queue.testing.chaos.shifting import shift
from assistant_queue.worker.parent_process import die_with_parent

VARIABLE = "ASSISTANT_QUEUE_CHAOS_OPTIONS"
"""The options of the queue, as JSON."""
CLOCK_VARIABLE = "ASSISTANT_QUEUE_CHAOS_CLOCK"
"""The file that says by how much the store's time is shifted; without it, Redis says what time it
is."""
PLATFORMS_VARIABLE = "ASSISTANT_QUEUE_CHAOS_PLATFORMS"
"""The addresses and secrets of the chat platforms, as JSON; without it there are none."""
DELIVERIES_VARIABLE = "ASSISTANT_QUEUE_CHAOS_DELIVERIES"
"""The file to which replies are delivered; without it there is no `on_reply`."""


AUDIT_VARIABLE = "ASSISTANT_QUEUE_CHAOS_AUDIT"
"""The address of the audit's database; without it there is no audit."""
APPROVALS_VARIABLE = "ASSISTANT_QUEUE_CHAOS_APPROVALS"
"""The file in which calls of the function are logged that needs an approval; without it none
does."""


def use_tools(thread_id: str, run_id: str, tool_calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """`handle_requires_action`: has an answer to everything."""
    return [
        {
            "tool_call_id": call.id,
            "output": f"{call.function.name}: on its way, for {thread_id} in {run_id}",
        }
        for call in tool_calls
    ]


def make_queue() -> AssistantMessageQueue:
    """The queue, from the environment; its process does not outlive the runner."""
    die_with_parent()
    if CLOCK_VARIABLE in os.environ:
        shift(Path(os.environ[CLOCK_VARIABLE]))
    path = os.environ.get(DELIVERIES_VARIABLE)
    on_reply = Deliveries(Path(path)).add if path else None
    options = json.loads(os.environ[VARIABLE])
    if PLATFORMS_VARIABLE in os.environ:
        options["channels"] = channels_of(os.environ[PLATFORMS_VARIABLE])
    if AUDIT_VARIABLE in os.environ:
        from assistant_queue.integrations.audit import SqlAudit

        options["audit"] = SqlAudit(os.environ[AUDIT_VARIABLE])
    queue = AssistantMessageQueue(handle_requires_action=use_tools, on_reply=on_reply, **options)
    if APPROVALS_VARIABLE in os.environ:
        _ask_first(queue, ToolLog(Path(os.environ[APPROVALS_VARIABLE])))
    return queue


def _ask_first(queue: AssistantMessageQueue, log: ToolLog) -> None:
    """Have the queue's function wait for an approval, and log its calls."""

    @queue.tool(approval="Look up {order}?")
    def order_status(order: str, context: ToolContext) -> str:
        log.add(context.call_id)
        return f"on its way: {order}"


def __getattr__(name: str) -> Any:
    if name == "queue":
        made = globals()["queue"] = make_queue()
        return made
    raise AttributeError(name)
