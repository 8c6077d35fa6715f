"""What a thread of the Assistants protocol holds: runs and messages, read back by our marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from assistant_queue.backends import run_reader
from assistant_queue.backends.content import BATCH_MARK, MAX_VALUE, MESSAGE_MARK, message_mark, same_content
from assistant_queue.backends.item_lists import PAGE, EndUnknown, ListReader
from assistant_queue.backends.openai_clients import streamed
from assistant_queue.backends.streams import Json, fetch
from assistant_queue.core.runs import InputItem, RunRequest
from assistant_queue.errors import RunVanished

if TYPE_CHECKING:
    from openai import AsyncOpenAI

_MOST_PAGES = 20
"""Of runs or messages that are searched. Chosen: what is searched for was made minutes ago."""

_TIMES = 4
"""Different times that have to be in order before an order is believed. Chosen: in an arbitrary order, one list in 24 looks like that."""


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

    async def latest_runs(self, request: RunRequest) -> list[Json]:
        """A page of the thread's runs, whatever they carry."""
        list_page = partial(self._runs.list, request.conversation_id, limit=PAGE, order="desc")
        runs = (await fetch(list_page, thread=request.batch.thread_id)).get("data") or []
        return [run for run in runs if isinstance(run, dict)]

    async def newest_run(self, request: RunRequest) -> Json | None:
        """The latest run that carries the batch's mark.

        Raises:
            EndUnknown: There is none, as far as the server lets its runs be read.
        """
        marked = partial(_marked, request.batch.id[:MAX_VALUE])
        listed = await self._searched(request, self._runs.list, lambda runs: bool(marked(runs)), stops=is_newest_first)
        # Newest first, as asked and as servers do that ignore it: of several in one second the first is the latest.
        return max(marked(listed), key=lambda run: run.get("created_at") or 0, default=None)

    async def missing(self, request: RunRequest, *, since: int | None = None) -> list[InputItem]:
        """The batch's items that the thread does not hold.

        Args:
            request: The batch.
            since: Also take a user message without any metadata for an item of the same text, if it was made at this time (seconds since
                the epoch) or later: some servers drop the metadata.

        Raises:
            EndUnknown: Some are missing, as far as the server lets its messages be read.
        """
        if not request.items:
            return []
        missing_in = partial(_missing, request, since)
        return missing_in(await self._searched(request, self._messages.list, lambda messages: not missing_in(messages)))

    async def _searched(
        self,
        request: RunRequest,
        list_page: Callable[..., Any],
        is_there: Callable[[Sequence[Json]], bool],
        *,
        stops: Callable[[Sequence[Json]], bool] = lambda _: True,
    ) -> Sequence[Json]:
        """What a list holds, read until what is looked for is there, or to its proven end.

        Objects that come newest first by their times need no further proof: what is looked for is among the newest.

        Args:
            request: Names the thread.
            list_page: The list.
            is_there: Whether it is among these objects.
            stops: Whether these are enough if it is.
        """
        reader = ListReader(partial(list_page, request.conversation_id), thread=request.batch.thread_id, most_pages=_MOST_PAGES)
        listed = await reader.newest(lambda read: is_there(read) and stops(read))
        if is_there(listed.items) or (is_newest_first(listed.items) and not listed.is_odd):
            return listed.items
        if listed.is_all and (not listed.items or await reader.is_mirrored(listed)):
            return listed.items
        whole = await reader.whole()
        if is_there(whole.items) or whole.is_all:
            return whole.items
        raise EndUnknown

    async def earlier(self, request: RunRequest) -> list[Json]:
        """The thread's messages without those of the batch, oldest first; of a very long thread the newest."""
        mark = request.batch.id[:MAX_VALUE]
        reader = ListReader(partial(self._messages.list, request.conversation_id), thread=request.batch.thread_id, most_pages=_MOST_PAGES)
        listed = await reader.newest()
        found = [message for message in listed.items if (message.get("metadata") or {}).get(BATCH_MARK) != mark]
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
        list_page = partial(self._messages.list, request.conversation_id, run_id=run_id)
        reader = ListReader(list_page, thread=request.batch.thread_id, most_pages=_MOST_PAGES)
        listed = await reader.newest(order=order)
        return [message for message in listed.items if message.get("run_id") == run_id and message.get("role") == "assistant"]


def is_newest_first(objects: Sequence[Json]) -> bool:
    """Whether the objects' own times show that the newest come first; a few times, or the same everywhere, show nothing."""
    times = [one.get("created_at") for one in objects]
    known = [time for time in times if isinstance(time, int | float)]
    return len(known) == len(times) and len(set(known)) >= _TIMES and known == sorted(known, reverse=True)


def is_marked(run: Json) -> bool:
    """Whether the run is a batch's, of this queue or another."""
    return BATCH_MARK in (run.get("metadata") or {})


def _marked(mark: str, runs: Sequence[Json]) -> list[Json]:
    return [run for run in runs if (run.get("metadata") or {}).get(BATCH_MARK) == mark]


def _missing(request: RunRequest, since: int | None, messages: Sequence[Json]) -> list[InputItem]:
    """The batch's items that are not among these messages."""
    wanted, mark = list(request.items), request.batch.id[:MAX_VALUE]
    for message in messages:
        pairs = message.get("metadata") or {}
        if pairs.get(BATCH_MARK) == mark:
            wanted = [item for item in wanted if message_mark(item) != pairs.get(MESSAGE_MARK)]
        elif not pairs and since is not None and message.get("role") == "user" and (message.get("created_at") or 0) >= since - 1:
            twin = next((item for item in wanted if same_content(message.get("content"), item.content)), None)
            wanted = [item for item in wanted if item is not twin]
    return wanted
