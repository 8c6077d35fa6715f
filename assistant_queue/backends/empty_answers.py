"""An answer without a word is asked for once more, where the provider's conversation holds the question already."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from assistant_queue.core.runs import EMPTY, RunEnded, RunEvent, RunStarted


async def once_more_if_empty(
    first: AsyncGenerator[RunEvent, None], again: Callable[[], AsyncGenerator[RunEvent, None]]
) -> AsyncGenerator[RunEvent, None]:
    """Give the events of a run, and behind an end without a word those of a second one.

    Only the first run has a name for the flow. A worker that dies during the second finds the first again, which has ended, and the batch
    ends as it did: the question is asked twice at most, and its text is stored once.

    Args:
        first: The run.
        again: Begins the second one, over what the conversation holds.
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
            if not isinstance(event, RunStarted):
                yield event
