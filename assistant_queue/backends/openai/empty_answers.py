"""Repeat a run that answered without text, if the conversation holds the question already."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from assistant_queue.core.runs import EMPTY, RunAccepted, RunEnded, RunEvent


async def once_more_if_empty(
    first: AsyncGenerator[RunEvent, None], again: Callable[[], AsyncGenerator[RunEvent, None]]
) -> AsyncGenerator[RunEvent, None]:
    """Yield the events of a run; if it ends without text, those of a second one.

    The flow knows only the first run's id. If the worker dies during the second run, the next
    worker finds the first, which has ended, and the batch ends with it: the question is asked twice
    at most, and its text is stored once.

    Args:
        first: The run.
        again: Starts the second one, over the items of the conversation.
    """
    async with aclosing(first) as events:
        async for event in events:
            if isinstance(event, RunEnded) and event.incomplete_reason == EMPTY:
                break
            yield event
        else:
            return
    async with aclosing(again()) as events:
        async for event in events:
            if not isinstance(event, RunAccepted):
                yield event
