"""Waiting on the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NoReturn


async def pause(seconds: float) -> None:
    """Sleep, unless there is nothing to wait for."""
    if seconds > 0:
        await asyncio.sleep(seconds)


async def forever() -> NoReturn:
    """Wait until the task is cancelled."""
    while True:
        await asyncio.get_running_loop().create_future()


def cut_in_pieces(text: str, chunks: int) -> Sequence[str]:
    """The text as about `chunks` deltas, at least one."""
    size = max(1, -(-len(text) // max(1, chunks)))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]
