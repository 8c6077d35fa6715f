"""The app of worker processes with a Telegram channel that asks the staff; options by environment."""

from __future__ import annotations

import json
import os

from assistant_queue import AssistantMessageQueue
from assistant_queue.channels import Telegram

_told = json.loads(os.environ["ASKING_BOT"])
_channel = Telegram(**_told["telegram"])
_channel._group_interval = 0.0
queue = AssistantMessageQueue(channels=[_channel], **_told["queue"])


@queue.tool(approval="Refund {order}?")
def refund(order: str) -> str:
    """Refund an order."""
    return f"refunded {order}"
