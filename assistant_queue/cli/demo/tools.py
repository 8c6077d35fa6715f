"""The one function that the demo's bot offers to the model."""

from __future__ import annotations

from typing import Any

TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "name": "order_status",
        "description": "Where an order is.",
        "parameters": {
            "type": "object",
            "properties": {"order": {"type": "string"}},
            "required": ["order"],
        },
    }
]

_NEWS = (
    "is out for delivery and arrives before 18:00",
    "is packed and arrives tomorrow",
    "waits for you at the pick-up point",
)


def order_status(order: str) -> str:
    """Return the state of an order, always the same for the same order."""
    return _NEWS[sum(order.encode()) % len(_NEWS)]
