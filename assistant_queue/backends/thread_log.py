"""What a thread of the Assistants protocol holds: runs and messages, read back by our marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.backends import run_reader
from assistant_queue.backends.content import BATCH_MARK, MAX_VALUE, MESSAGE_MARK, message_mark, same_content
from assistant_queue.backends.openai_clients import streamed
from assistant_queue.backends.streams import Json, fetch
from assistant_queue.core.runs import InputItem, RunRequest
from assistant_queue.errors import RunVanished

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_PAGE = 100
"""Source: the provider's published API description: lists take a limit of 1 to 100."""

_MOST_PAGES = 20
"""Of runs or messages that are searched. Chosen: what is searched for was made minutes ago."""


class ThreadLog:
    """Reads threads. Servers ignore filters and order, so everything is filtered and sorted again."""

    def __init__(self, client: AsyncOpenAI) -> None:
        threads = client.beta.threads
        self._runs, self._messages = streamed(threads.runs), streamed(threads.messages)

    async def run(self, request: RunRequest, run_id: str) -> Json:
        """One run.

        Raises:
            RunVanished: The provider does not know it.
        """
        retrieve = partial(self._runs.retrieve, run_id, thread_id=request.conversation_id)
        return await fetch(retrieve, thread=request.batch.thread_id, missing=RunVanished)

    async def newest_run(self, request: RunRequest) -> Json | None:
        """The latest run that carries the batch's mark."""
        mark = request.batch.id[:MAX_VALUE]
        async with aclosing(self._all(request, self._runs.list)) as runs:
            marked = [run async for run in runs if (run.get("metadata") or {}).get(BATCH_MARK) == mark]
        # Newest first, as asked and as servers do that ignore it: of several in one second the first is the latest.
        return max(marked, key=lambda run: run.get("created_at") or 0, default=None)

    async def missing(self, request: RunRequest, *, since: int | None = None) -> list[InputItem]:
        """The batch's items that the thread does not hold.

        Args:
            request: The batch.
            since: Also take a user message without any metadata for an item of the same text, if it was made at this time (seconds since
                the epoch) or later: some servers drop the metadata.
        """
        wanted = list(request.items)
        if not wanted:
            return []
        mark = request.batch.id[:MAX_VALUE]
        async with aclosing(self._all(request, self._messages.list)) as messages:
            async for message in messages:
                pairs = message.get("metadata") or {}
                if pairs.get(BATCH_MARK) == mark:
                    wanted = [item for item in wanted if message_mark(item) != pairs.get(MESSAGE_MARK)]
                elif not pairs and since is not None and message.get("role") == "user" and (message.get("created_at") or 0) >= since - 1:
                    twin = next((item for item in wanted if same_content(message.get("content"), item.content)), None)
                    wanted = [item for item in wanted if item is not twin]
                if not wanted:
                    break
        return wanted

    async def earlier(self, request: RunRequest) -> list[Json]:
        """The thread's messages without those of the batch, oldest first; of a very long thread the newest."""
        mark = request.batch.id[:MAX_VALUE]
        async with aclosing(self._all(request, self._messages.list)) as messages:
            found = [message async for message in messages if (message.get("metadata") or {}).get(BATCH_MARK) != mark]
        # Servers that ignore the order still tell the time, in whole seconds.
        found.reverse()
        return sorted(found, key=lambda message: message.get("created_at") or 0)

    async def replies(self, request: RunRequest, run_id: str) -> tuple[str, ...]:
        """What the assistant said in a run, one entry a message."""
        listed = await self._of_run(request, run_id, "asc")
        times = Counter(message.get("created_at") for message in listed)
        if any(count > 1 for count in times.values()):
            # Times are whole seconds. Where the other order gives the same list, order is ignored, and that means newest first.
            reverse = await self._of_run(request, run_id, "desc")
            if [message.get("id") for message in reverse] == [message.get("id") for message in listed]:
                listed.reverse()
        return run_reader.texts_of(listed)

    async def _of_run(self, request: RunRequest, run_id: str, order: str) -> list[Json]:
        async with aclosing(self._all(request, self._messages.list, run_id=run_id, order=order)) as messages:
            return [message async for message in messages if message.get("run_id") == run_id and message.get("role") == "assistant"]

    async def _all(self, request: RunRequest, list_page: Callable[..., Any], **query: Any) -> AsyncGenerator[Json, None]:
        """The objects of a list, newest first unless `order` is given, page by page as they are needed."""
        seen: dict[str, None] = {}
        for _ in range(_MOST_PAGES):
            options = {"order": "desc", "limit": _PAGE, **query}
            if seen:
                options["after"] = next(reversed(seen))
            page = await fetch(partial(list_page, request.conversation_id, **options), thread=request.batch.thread_id)
            fresh = [one for one in page.get("data") or [] if str(one.get("id")) not in seen]
            seen.update(dict.fromkeys(str(one.get("id")) for one in fresh))
            for one in fresh:
                yield one
            if not page.get("has_more") or not fresh:
                return
