"""Read the runs and messages of Assistants threads, by our marks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from typing import Any

from assistant_queue.backends.assistants import parser
from assistant_queue.backends.openai.content import (
    BATCH_MARK,
    MAX_VALUE,
    MESSAGE_MARK,
    message_mark,
    object_in,
    objects_in,
    same_content,
)
from assistant_queue.backends.openai.item_lists import PAGE, EndUnknown, ListReader
from assistant_queue.backends.openai.provider_channel import ProviderChannel
from assistant_queue.backends.openai.sending import path_of
from assistant_queue.backends.openai.streams import Json, fetch
from assistant_queue.core.runs import InputItem, RunRequest
from assistant_queue.errors import RunVanished

_MOST_PAGES = 20
"""Pages of runs or messages that are searched. Chosen: the object was created minutes ago."""

_TIMES = 4
"""Different times that have to be in order before the order is believed. Chosen: four times in
arbitrary order are sorted in one list of 24."""


class ThreadLog:
    """Read threads.

    Servers ignore filters and order, so everything is filtered and sorted again.
    """

    def __init__(self, channel: ProviderChannel) -> None:
        self._channel = channel

    async def run(self, request: RunRequest, run_id: str) -> Json:
        """Retrieve one run.

        Raises:
            RunVanished: The provider does not know it.
        """
        retrieve = self._channel.read(path_of("threads", request.conversation_id, "runs", run_id))
        return await fetch(retrieve, thread=request.batch.thread_id, missing=RunVanished)

    async def latest_runs(self, request: RunRequest) -> list[Json]:
        """Return a page of the thread's runs, whatever they carry."""
        list_page = self._channel.read(
            path_of("threads", request.conversation_id, "runs"), {"limit": PAGE, "order": "desc"}
        )
        return objects_in((await fetch(list_page, thread=request.batch.thread_id)).get("data"))

    async def newest_run(self, request: RunRequest) -> Json | None:
        """Return the latest run with the batch's mark.

        Raises:
            EndUnknown: None was found, and the list's end could not be proven.
        """
        marked = partial(_marked, request.batch.id[:MAX_VALUE], request.cut)
        listed = await self._searched(
            request, "runs", lambda runs: bool(marked(runs)), stops=is_newest_first
        )
        # Newest first, as requested and as servers do that ignore the order: of several in one
        # second the first is the latest.
        return max(marked(listed), key=lambda run: run.get("created_at") or 0, default=None)

    async def missing(self, request: RunRequest, *, since: int | None = None) -> list[InputItem]:
        """The batch's items that the thread does not hold.

        Args:
            request: The batch.
            since: Also take a user message without any metadata for an item of the same text, if it
                was made at this time (seconds since the epoch) or later: some servers drop the
                metadata.

        Raises:
            EndUnknown: Some are missing, as far as the server lets its messages be read.
        """
        if not request.items:
            return []
        missing_in = partial(_missing, request, since)
        return missing_in(
            await self._searched(request, "messages", lambda messages: not missing_in(messages))
        )

    async def has_unmarked(self, request: RunRequest, items: Sequence[InputItem]) -> bool:
        """Return whether a message without any metadata may be one of the items.

        Some servers drop the metadata. Messages of a run do not count: the model made them.

        Raises:
            EndUnknown: There is none, as far as the server lets its messages be read.
        """

        def has_one(messages: Sequence[Json]) -> bool:
            return any(
                not message.get("metadata")
                and not message.get("run_id")
                and message.get("role") == item.role
                and same_content(message.get("content"), item.content)
                for message in messages
                for item in items
            )

        return has_one(await self._searched(request, "messages", has_one))

    async def _searched(
        self,
        request: RunRequest,
        listed_as: str,
        is_there: Callable[[Sequence[Json]], bool],
        *,
        stops: Callable[[Sequence[Json]], bool] = lambda _: True,
    ) -> Sequence[Json]:
        """Read a list until the object is found, or to its proven end.

        Objects that come newest first by their times need no further proof: the object is among the
        newest.

        Args:
            request: Names the thread.
            listed_as: `runs` or `messages`.
            is_there: Whether the object is among these.
            stops: Whether these are enough if it is.
        """
        reader = self._reader(request, listed_as)
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
        """Return the thread's messages without the batch's, oldest first.

        Of a very long thread the newest ones.
        """
        mark = request.batch.id[:MAX_VALUE]
        reader = self._reader(request, "messages")
        listed = await reader.newest()
        found = [
            message
            for message in listed.items
            if object_in(message.get("metadata")).get(BATCH_MARK) != mark
        ]
        # Servers that ignore the order still send times, in whole seconds.
        found.reverse()
        return sorted(found, key=parser.created_at)

    async def replies(self, request: RunRequest, run_id: str) -> tuple[str, ...]:
        """Return the assistant's texts of a run, one per message."""
        listed = await self._of_run(request, run_id, "asc")
        times = Counter(message.get("created_at") for message in listed)
        if any(count > 1 for count in times.values()):
            # Times are whole seconds. Where the other order gives the same list, order is ignored,
            # and that means newest first.
            reverse = await self._of_run(request, run_id, "desc")
            if [message.get("id") for message in reverse] == [
                message.get("id") for message in listed
            ]:
                listed.reverse()
        return parser.texts_of(listed)

    async def _of_run(self, request: RunRequest, run_id: str, order: str) -> list[Json]:
        reader = self._reader(request, "messages", {"run_id": run_id})
        listed = await reader.newest(order=order)
        return [
            message
            for message in listed.items
            if message.get("run_id") == run_id and message.get("role") == "assistant"
        ]

    def _reader(
        self, request: RunRequest, listed_as: str, query: Mapping[str, Any] | None = None
    ) -> ListReader:
        return ListReader(
            self._channel,
            path_of("threads", request.conversation_id, listed_as),
            thread=request.batch.thread_id,
            most_pages=_MOST_PAGES,
            query=query,
        )


def is_newest_first(objects: Sequence[Json]) -> bool:
    """Return whether the objects' own times show that the newest come first.

    Few different times show nothing.
    """
    times = [one.get("created_at") for one in objects]
    known = [time for time in times if isinstance(time, int | float)]
    return (
        len(known) == len(times)
        and len(set(known)) >= _TIMES
        and known == sorted(known, reverse=True)
    )


def is_marked(run: Json) -> bool:
    """Return whether the run is a batch's, of this queue or another."""
    return BATCH_MARK in object_in(run.get("metadata"))


def _marked(mark: str, cut: Container[str], runs: Sequence[Json]) -> list[Json]:
    return [
        run
        for run in runs
        if object_in(run.get("metadata")).get(BATCH_MARK) == mark and run.get("id") not in cut
    ]


def _missing(request: RunRequest, since: int | None, messages: Sequence[Json]) -> list[InputItem]:
    """The batch's items that are not among these messages."""
    wanted = list(request.items)
    mark = request.batch.id[:MAX_VALUE]
    for message in messages:
        pairs = message.get("metadata") or {}
        if pairs.get(BATCH_MARK) == mark:
            wanted = [item for item in wanted if message_mark(item) != pairs.get(MESSAGE_MARK)]
        elif (
            not pairs
            and since is not None
            and message.get("role") == "user"
            and (message.get("created_at") or 0) >= since - 1
        ):
            twin = next(
                (item for item in wanted if same_content(message.get("content"), item.content)),
                None,
            )
            wanted = [item for item in wanted if item is not twin]
    return wanted
