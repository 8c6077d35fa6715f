"""Waiting on the server's loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
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


async def say(
    text: str, chunks: int, delay: float, before_last: Callable[[], Awaitable[None]]
) -> AsyncIterator[str]:
    """Yield the text as deltas, with `delay` seconds spread over them.

    `before_last` is awaited before the last one.
    """
    *first, last = cut_in_pieces(text, chunks)
    for piece in first:
        await pause(delay / (len(first) + 1))
        yield piece
    await pause(delay / (len(first) + 1))
    await before_last()
    yield last
