"""Async iterators of user code, read by a separate task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from typing import Any

from assistant_queue.user_code.running_calls import TaskCall


async def read_in_task(stream: AsyncIterable[Any], name: str) -> AsyncGenerator[Any, None]:
    """Yield the items of a stream, then the `CallOutcome` of reading it.

    1. the task contains exceptions of any kind, SystemExit and CancelledError included
    2. reads an item when it is asked for, and none ahead
    3. is cancelled when this generator is closed, and abandoned if it does not end
    """
    items: asyncio.Queue[Any] = asyncio.Queue()
    requests: asyncio.Queue[None] = asyncio.Queue()

    async def read() -> None:
        is_collected = False
        try:
            await requests.get()
            async for item in stream:
                items.put_nowait(item)
                await requests.get()
        except GeneratorExit:  # abandoned, and its loop is closed: nothing can be awaited
            is_collected = True
            raise
        finally:
            if isinstance(stream, AsyncGenerator) and not is_collected:
                await stream.aclose()

    call = TaskCall(read(), name)
    try:
        while True:
            requests.put_nowait(None)
            item = asyncio.ensure_future(items.get())
            try:
                await asyncio.wait({item, call.task}, return_when=asyncio.FIRST_COMPLETED)
                if not item.done():
                    break
                yield item.result()
            finally:
                item.cancel()
        yield await call.ended()
    finally:
        await call.stop()
