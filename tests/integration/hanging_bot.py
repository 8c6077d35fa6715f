"""Test bot with a hanging delivery and a hanging model, each for texts that ask for it.

The delivery hangs at its first call for a batch.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading

from assistant_queue import AssistantMessageQueue, Batch, RunResult
from assistant_queue.user_code.abandoned import ABANDONED

_told = json.loads(os.environ["BOT"])
ABANDONED.most = _told.get("most", ABANDONED.most)


async def answer(batch: Batch) -> str:
    text = batch.messages[0].text
    if text == "think":
        queue._store.client.rpush(f"{queue.config.queue_prefix}:noted:thinks", os.getpid())
        await asyncio.get_running_loop().create_future()
    return text


def on_reply(result: RunResult) -> None:
    key = f"{queue.config.queue_prefix}:noted:{result.thread_id}"
    if queue._store.client.rpush(key, os.getpid()) == 1 and result.reply == "hang":
        threading.Event().wait()


queue = AssistantMessageQueue(backend=answer, on_reply=on_reply, **_told["options"])
