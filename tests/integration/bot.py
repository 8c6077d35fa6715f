"""The app that worker processes of the tests load: a queue built from what the test wrote into the environment."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

from assistant_queue import (
    AssistantMessageQueue,
    Batch,
    RetryLater,
    RunResult,
    ToolCall,
    Undeliverable,
)

_told = json.loads(os.environ["BOT"])
_options = dict(_told["options"])


def _note(kind: str, value: str) -> None:
    queue._store.client.rpush(f"{queue.config.queue_prefix}:noted:{kind}", value)


def _count(kind: str, value: str) -> int:
    noted = queue._store.client.lrange(f"{queue.config.queue_prefix}:noted:{kind}", 0, -1)
    return noted.count(value.encode())


def handle(thread_id: str, run_id: str, tool_calls: list[ToolCall]) -> list[dict[str, str]]:
    for call in tool_calls:
        _note("calls", call.id)
    return [
        {"tool_call_id": call.id, "output": f"{call.function.name} {call.function.arguments}"}
        for call in tool_calls
    ]


def on_reply(result: RunResult) -> None:
    said = result.reply or ""
    if "[nowhere]" in said and not result.late:
        raise Undeliverable("the chat is gone")
    _note("replies", result.batch_id)
    if "[later]" in said and _count("replies", result.batch_id) == 1:
        raise RetryLater(0.1)


if _told["tools"]:
    _options["handle_requires_action"] = handle
if _told["on_reply"]:
    _options["on_reply"] = on_reply

if _told.get("audit"):
    from assistant_queue.integrations.audit import SqlAudit

    _options["audit"] = SqlAudit(_told["audit"])

queue = AssistantMessageQueue(**_options)


def _hook(name: str) -> None:
    @queue.on(name)
    def note(value: Any) -> None:
        batch_id = value.id if isinstance(value, Batch) else value.batch_id
        row = {"hook": name, "pid": os.getpid(), "kind": type(value).__name__, "batch": batch_id}
        _note(f"hooks:{value.thread_id}", json.dumps(row))
        if name == _told.get("raises"):
            raise SystemExit(7)
        if name == _told.get("hangs"):
            threading.Event().wait()


for _name in _told.get("hooks", ()):
    _hook(_name)

if _told.get("spans"):
    from tests.integration.span_file import instrument_into

    instrument_into(queue, _told["spans"], in_worker=os.getpid() != _told["test_pid"])
