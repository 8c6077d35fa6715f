"""A running reply on the screen: a typing indicator, and the text as far as it is written."""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from assistant_queue.channels.base import Part, PartNotSent, PartSent

if TYPE_CHECKING:
    from assistant_queue.channels.channel import Channel

T = TypeVar("T")

_log = logging.getLogger(__name__)

_LEAST_CHARS = 20
"""Characters from which a text is shown. Chosen: the first words say what the reply will be, and a
short reply needs no preview."""

_MORE = " …"

_TURN_S = 1.0
"""Seconds at least between two looks whether earlier replies have been delivered. Chosen: replies
are long in coming only if the platform is away or refuses."""

_CLOSE_S = 2.0
"""Chosen: a platform that is well answers within it; one that is not must not hold a deploy."""

_MOST_KEPT = 10_000
"""Previews that are kept for their replies. Chosen: more than one process has at once."""


class Previews:
    """Messages that show half a reply, until the whole one replaces them.

    Kept in memory during the run, and with the reply in the outbox after it. After a crash in the
    run the half reply stays on the screen, above the whole one.
    """

    def __init__(self) -> None:
        """Keep none yet."""
        self._ids: OrderedDict[str, str] = OrderedDict()
        self._closing: dict[str, asyncio.Task[None]] = {}

    def keep(self, batch_id: str, part_id: str) -> None:
        """Keep the message that shows a batch's reply."""
        self._ids[batch_id] = part_id
        while len(self._ids) > _MOST_KEPT:
            self._ids.popitem(last=False)

    def get(self, batch_id: str) -> str | None:
        """Return the message that shows a batch's reply, None if there is none."""
        return self._ids.get(batch_id)

    def closing(self, batch_id: str, task: asyncio.Task[None]) -> None:
        """Note that a batch's preview is being closed: its last edit may be on its way."""
        self._closing[batch_id] = task
        task.add_done_callback(lambda _: self._closing.pop(batch_id, None))

    async def settled(self, batch_id: str) -> str | None:
        """Return the message that shows a batch's reply, once no edit of it is on its way."""
        task = self._closing.get(batch_id)
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait({task})
        return self.get(batch_id)

    async def closed(self, timeout_s: float = _CLOSE_S) -> None:
        """Wait, for a while, until previews without a reply are off the screen: the worker ends."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._closing.values() if task.get_loop() is loop]
        if tasks:
            await asyncio.wait(tasks, timeout=timeout_s)

    def forget(self, batch_id: str) -> None:
        """Forget it: it is replaced, or gone."""
        self._ids.pop(batch_id, None)


class LiveReply:
    """Show one batch during its run.

    1. refreshes the typing indicator
    2. shows the text so far, no more often than the platform allows; skips what is too late, and
       shows again what would vanish
    3. shows nothing of an attempt that failed
    4. shows no text before earlier replies have been delivered: it would stand above them; and none
       while whole replies wait for the platform's pace
    5. never delays or fails the run: it works in a task, and its errors are logged
    """

    def __init__(
        self,
        channel: Channel,
        thread_id: str,
        batch_id: str,
        waits_for_others: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """Show nothing yet.

        Args:
            channel: The platform.
            thread_id: A thread of the channel.
            batch_id: The batch that is being answered.
            waits_for_others: Returns whether earlier replies of the thread wait for their delivery;
                None if there are none.
        """
        self._waits_for_others = waits_for_others
        self._channel = channel
        self._address = channel.address_of(thread_id)
        self._batch_id = batch_id
        self._texts: list[str] = []  # of the messages of the run
        self._item: object = None
        self._shown = ""
        self._cut = ""
        self._is_streaming = channel.streams(self._address)
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._request: asyncio.Task[None] | None = None
        self._pause_s = 0.0

    def start(self) -> None:
        """Begin to show that the bot is writing."""
        loop = asyncio.get_running_loop()
        if self._channel.limits.typing_interval is not None:
            self._tasks.append(loop.create_task(self._type()))
        if self._is_streaming:
            self._tasks.append(loop.create_task(self._stream()))

    def begin(self, *, is_round: bool) -> None:
        """Begin the text of a run; `is_round`: it continues after the outputs of tools."""
        if not is_round:
            self._texts.clear()
        self._item = None

    def add(self, text: str, item: object = None) -> None:
        """Add a piece of text; another `item` is another message of the run."""
        if not self._texts or item != self._item:
            self._texts.append("")
            self._item = item
        self._texts[-1] += text
        self._news.set()

    def take_back(self) -> None:
        """Remove the text of an attempt that failed; another attempt may follow."""
        self._texts.clear()
        self._item = None
        self._news.set()

    def hand_over(self) -> str | None:
        """Show nothing more; return the message that the whole reply replaces.

        None also while an edit of it is on its way: in another process, the reply could arrive
        before it.
        """
        self._is_streaming = False
        if self._request is not None and not self._request.done():
            return None
        return self._channel.previews.get(self._batch_id)

    def close_soon(self, *, is_answered: bool) -> None:
        """Close in the background; the delivery of the reply waits for it."""
        task = asyncio.get_running_loop().create_task(self.close(is_answered=is_answered))
        self._channel.previews.closing(self._batch_id, task)

    async def close(self, *, is_answered: bool) -> None:
        """Show nothing more; without a reply, remove what is shown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._request is not None:
            # Cut off, it could still arrive: after the whole reply, which it would replace.
            await asyncio.wait({self._request})
        part_id = self._channel.previews.get(self._batch_id)
        if not is_answered and part_id is not None:
            self._channel.previews.forget(self._batch_id)
            await self._guarded(self._channel.retract(self._address, part_id))

    async def _type(self) -> None:
        interval_s = self._channel.limits.typing_interval or 0.0
        while True:
            await self._guarded(self._channel.typing(self._address))
            await asyncio.sleep(interval_s)

    async def _stream(self) -> None:
        interval_s = max(
            self._channel.limits.edits_interval or 0.0, self._channel.interval_of(self._address)
        )
        while self._is_streaming:
            is_fading = await self._waited()
            text = self._text()
            if text == self._shown and not is_fading:
                continue
            if not (self._channel.pacer.is_free and await self._has_turn()):
                # Replies go first where the platform limits what a bot says in all chats.
                self._news.set()
                await asyncio.sleep(max(interval_s, _TURN_S))
                continue
            await self._channel.pacer.wait(self._address, interval_s)
            await self._channel.pacer.wait_in_all(self._channel.limits.total_interval)
            text = self._text()  # as it is by now
            if self._is_streaming and text and (text != self._shown or is_fading):
                self._request = asyncio.get_running_loop().create_task(self._show(text))
                await asyncio.shield(self._request)
                await asyncio.sleep(self._pause_s)
                self._pause_s = 0.0

    async def _waited(self) -> bool:
        """Wait for news of the text; return True if what is shown vanishes without any."""
        lasts_s = self._channel.preview_lasts(self._address) if self._shown else None
        try:
            async with asyncio.timeout(lasts_s):
                await self._news.wait()
        except TimeoutError:
            return True
        self._news.clear()
        return False

    async def _has_turn(self) -> bool:
        """Return whether no earlier reply waits; there is none after a moment without one."""
        if self._waits_for_others is None:
            return True
        has_turn = await self._guarded(self._waits_for_others()) is False
        if has_turn:
            self._waits_for_others = None
        return has_turn

    def _text(self) -> str:
        whole = "\n\n".join(text for text in self._texts if text.strip())
        if not whole:
            return _MORE.strip() if self._shown else ""
        if len(whole) < _LEAST_CHARS and not self._shown:
            return ""
        # Never a whole part: one that stays is recognised as a beginning.
        return self._beginning(whole) + _MORE

    def _beginning(self, whole: str) -> str:
        """Return as much of a text as fits; what was cut once does not shrink when it grows."""
        if self._cut and whole.startswith(self._cut):
            return self._cut
        if self._fits(whole):
            return whole
        length = bisect_left(range(len(whole)), 1, key=lambda n: not self._fits(whole[:n])) - 1
        words = whole[:length].rstrip()
        self._cut = words[: max(words.rfind(" "), words.rfind("\n"), 0)].rstrip() or words
        return self._cut

    def _fits(self, text: str) -> bool:
        units = self._channel.limits.units
        return units is None or self._channel.measure(text + _MORE) <= units

    async def _show(self, text: str) -> None:
        part = Part(text=text, key=f"{self._batch_id}.preview")
        shown = self._channel.previews.get(self._batch_id)
        outcome = await self._guarded(self._channel.preview(self._address, shown, part))
        if isinstance(outcome, PartSent):
            self._shown = text
            if outcome.id is not None:
                self._channel.previews.keep(self._batch_id, outcome.id)
        elif isinstance(outcome, PartNotSent) and not outcome.final:
            self._pause_s = outcome.retry_after or 0.0
            self._news.set()
        else:
            # A preview that may be there cannot be edited: no second one.
            self._is_streaming = False

    async def _guarded(self, call: Awaitable[T]) -> T | None:
        try:
            return await call
        except Exception as error:  # noqa: BLE001 - a preview must not fail the run
            _log.debug("channel %r: no preview: %s", self._channel.name, type(error).__name__)
            return None
