"""The app of `tests.benchmarks.hanging`: each user function hangs for the threads that are named after it."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import Any

import redis

from assistant_queue import (
    AssistantMessageQueue,
    Batch,
    ErrorInfo,
    RunResult,
    ToolCall,
    ToolContext,
)
from tests.benchmarks import VARIABLE

OPTIONS: dict[str, Any] = json.loads(os.environ[VARIABLE])
CLIENT = redis.Redis.from_url(OPTIONS["redis_url"])


def hang(kind: str) -> None:
    """Count the call and never return."""
    CLIENT.incr(f"hanging:{kind}")
    threading.Event().wait()


def on_reply(result: RunResult) -> None:
    if result.thread_id.startswith("on_reply"):
        hang("on_reply")


def instruct(batch: Batch) -> str:
    if batch.thread_id.startswith("default_instructions"):
        hang("default_instructions")
    return "Reply."


def fall_back(batch: Batch, error: ErrorInfo) -> str:
    if batch.thread_id.startswith("fallback_reply"):
        hang("fallback_reply")
    return f"Sorry: {error.code}"


def handle(thread_id: str, run_id: str, calls: list[ToolCall]) -> list[dict[str, Any]]:
    hang("handle_requires_action")
    return []


queue = AssistantMessageQueue(
    **OPTIONS,
    on_reply=on_reply,
    default_instructions=instruct,
    fallback_reply=fall_back,
    handle_requires_action=handle,
)


@queue.tool(timeout=OPTIONS["callback_timeout"])
def hangs(context: ToolContext) -> str:
    """Never return."""
    hang("tool")
    return ""


@queue.tool(timeout=OPTIONS["callback_timeout"])
async def hangs_on_the_loop(context: ToolContext) -> str:
    """Never return, and ignore being cancelled."""
    CLIENT.incr("hanging:async tool")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue


@queue.tool
async def cancels(context: ToolContext) -> str:
    """Raise what looks like a cancellation."""
    CLIENT.incr("hanging:cancels")
    raise asyncio.CancelledError
