"""A bot as users write it: a module with a queue and a function of theirs."""

from __future__ import annotations

from assistant_queue import AssistantMessageQueue, RunResult, ToolCall

sent: list[tuple[str, str | None]] = []


def handle(thread_id: str, run_id: str, tool_calls: list[ToolCall]) -> list[dict[str, str]]:
    return [{"tool_call_id": call.id, "output": "shipped"} for call in tool_calls]


def send(result: RunResult) -> None:
    sent.append((result.thread_id, result.reply))


queue = AssistantMessageQueue(
    model="gpt-5", handle_requires_action=handle, on_reply=send, message_delay=8
)
