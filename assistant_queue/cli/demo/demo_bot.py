"""The demo's bot: what `assistant-queue worker --app assistant_queue.cli.demo.demo_bot:queue` serves.

It is what a bot of your own looks like. Redis, the provider and the window come from the
environment; here are its tool, and where its replies go.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Sequence
from typing import Any

import redis

from assistant_queue import AssistantMessageQueue, RunResult, ToolCall
from assistant_queue.channels import DeliveryProgress, Telegram
from assistant_queue.cli.demo.outbox import OUTBOX
from assistant_queue.cli.demo.tools import TOOLS, order_status
from assistant_queue.worker.parent_process import die_with_parent

_outbox = redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost:6379/0"))


def _say(kind: str, **words: Any) -> None:
    _outbox.rpush(OUTBOX, json.dumps({"kind": kind, "at": time.time(), **words}))


def use_tools(thread_id: str, run_id: str, tool_calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """`handle_requires_action`: look up the orders."""
    outputs = []
    for call in tool_calls:
        order = str(json.loads(call.function.arguments)["order"])
        news = order_status(order)
        _say(
            "tool",
            thread=thread_id,
            run_id=run_id,
            name=call.function.name,
            asked=order,
            answer=news,
        )
        outputs.append({"tool_call_id": call.id, "output": {"order": order, "news": news}})
    return outputs


def deliver(result: RunResult) -> None:
    """`on_reply`: append the reply, keyed by the batch; at least once."""
    _say(
        "reply",
        thread=result.thread_id,
        batch_id=result.batch_id,
        run_id=result.run_id,
        message_ids=result.message_ids,
        reply=result.reply,
        attempts=result.attempts,
        claimed_at=result.started_at.timestamp(),
    )


class ReportingTelegram(Telegram):
    """The bot's channel, which also tells the demo what it has delivered."""

    async def deliver(self, result: RunResult, progress: DeliveryProgress) -> None:
        """Deliver the reply, then report it."""
        await super().deliver(result, progress)
        await asyncio.to_thread(deliver, result)


def channels() -> list[Telegram]:
    """Return the channels of the demo: with `--channel telegram` a bot at a fake platform."""
    token = os.environ.get("DEMO_TELEGRAM_TOKEN")
    return (
        [ReportingTelegram(token, api_url=os.environ["DEMO_TELEGRAM_URL"], reply_when="always")]
        if token
        else []
    )


if os.environ.get("ASSISTANT_QUEUE_DEMO"):
    die_with_parent()  # a killed demo leaves no workers behind

queue = AssistantMessageQueue(
    tools=TOOLS, handle_requires_action=use_tools, on_reply=deliver, channels=channels()
)


@queue.tool(approval="Refund order {order}?")
def refund(order: str) -> dict[str, str]:
    """Refund an order."""
    return {"order": order, "news": "is refunded"}
