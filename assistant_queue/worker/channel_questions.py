"""Questions of channels whether a tool may be called: asked, and shown as settled.

The question is stored by the script that parks its batch, so a worker that dies leaves it to the
next one; it may then be asked twice, and is never lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from assistant_queue.channels.base import PartNotSent, PartSent, PartUnknown, SettledQuestion
from assistant_queue.channels.channel import Channel, channel_of
from assistant_queue.core.delivery import MAX_CHANNEL_DEATHS
from assistant_queue.models import Batch
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import questions
from assistant_queue.store.ops.questions import DueQuestion, DueQuestions, HeldQuestion
from assistant_queue.user_code.error_text import log_raised, words_of
from assistant_queue.user_code.scrubbing import scrubbed
from assistant_queue.worker.outage import PASSES, pause_s
from assistant_queue.worker.store_writes import STORE_RETRY_S, write_once

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

_MOST_WAIT_S = 3600.0
"""Longest wait between two tries, whatever the platform asks for. Chosen: a person still reads the
question on the same day."""
_AWAY_S = 1.0
"""Seconds until a question is taken again that Redis, or an error, has kept from being asked.
Chosen: as of a look."""
_MOST_AT_ONCE = 100
"""Questions that a worker without a question loop handles after a wake-up. Chosen: a page."""


class ChannelQuestions:
    """Asks about open calls on their channels, and shows there how they were settled.

    1. takes a question for the time of a lease, so that one worker at a time asks it
    2. has the channel make one attempt, and notes how the message is found again
    3. tries again after a failure or an unknown outcome, until `delivery_for` is over
    """

    def __init__(self, runtime: Runtime) -> None:
        """Ask nothing yet."""
        self._runtime = runtime
        self._channels = [one for one in runtime.config.channels if getattr(one, "asks", False)]
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.on_news: Callable[[float], None] | None = None

    @property
    def is_on(self) -> bool:
        """Whether one of the queue's channels asks."""
        return bool(self._channels)

    def channel_of(self, thread_id: str) -> Channel | None:
        """Return the channel that asks about the calls of a thread; None if none does."""
        return channel_of(thread_id, self._channels)

    def kick(self, wait_s: float = 0.0) -> None:
        """Have the worker's loop look now, or after a while; without one, the next wake-up does."""
        if self.on_news is not None and self.is_on:
            self.on_news(wait_s)

    async def find(self, offset: int = 0) -> DueQuestions:
        """Return the questions that are due."""
        found: DueQuestions = await self._runtime.store.run(
            questions.find_due(self._runtime.namespace, offset=offset)
        )
        return found

    async def count_due(self) -> int:
        """Return how many questions of these channels are due, of the longest overdue ones."""
        if not self.is_on:
            return 0
        found = await self.find()
        return sum(self.channel_of(due.thread_id) is not None for due in found.due)

    async def ask_due(self) -> float | None:
        """Ask what is due, in a worker without a question loop.

        Returns:
            The seconds until the next one is due; None if there is none.
        """
        if not self.is_on or self.on_news is not None:
            return None
        await asyncio.gather(*self.tasks.values())
        for _ in range(_MOST_AT_ONCE):
            found = await self.find()
            ours = next((due for due in found.due if self.channel_of(due.thread_id)), None)
            if ours is None:
                return found.next_due_in_s
            await self.handle(ours)
        return 0.0

    async def handle(self, due: DueQuestion) -> None:
        """Make one attempt to ask a question, or to show a verdict."""
        until_s = self._lease_end_s()
        held = await self._claim(due)
        if held is not None:
            await self._attempt(held, until_s)

    async def show(self, thread_id: str, call_ids: Iterable[str]) -> None:
        """Begin to show how calls were settled, before their texts are removed."""
        if self.channel_of(thread_id) is None:
            return
        try:
            until_s = self._lease_end_s()
            found = await self._runtime.store.run(
                questions.find_settled(self._runtime.namespace, thread_id, list(call_ids))
            )
            for due in found:
                held = await self._claim(due)
                if held is not None:
                    self.begin(due.call_id, self._attempt(held, until_s))
        except PASSES as error:  # any worker finds them later
            _log.debug("thread %r: %s", thread_id, error)

    def begin(self, call_id: str, attempt: Coroutine[Any, Any, None]) -> None:
        """Make an attempt in the background."""
        task = asyncio.create_task(_contained(call_id, attempt))
        self.tasks[call_id] = task
        task.add_done_callback(lambda _: self._done(call_id, task))

    def _done(self, call_id: str, task: asyncio.Task[None]) -> None:
        if self.tasks.get(call_id) is task:
            del self.tasks[call_id]
        self.kick()

    def _lease_end_s(self) -> float:
        """Return until when a question that is claimed now may be asked, on the monotonic clock."""
        runtime = self._runtime
        return runtime.clock.monotonic() + runtime.config.lock_duration - runtime.lease_margin_s

    async def _claim(self, due: DueQuestion) -> HeldQuestion | None:
        runtime = self._runtime
        held: HeldQuestion | None = await runtime.store.run(
            questions.claim_question(
                runtime.namespace,
                due,
                token=secrets.token_hex(8),
                lease_s=runtime.config.lock_duration,
            )
        )
        return held

    async def _attempt(self, held: HeldQuestion, until_s: float) -> None:
        runtime = self._runtime
        channel = self.channel_of(held.thread_id)
        if channel is None:
            return
        if held.deaths >= MAX_CHANNEL_DEATHS:
            outcome: Any = PartNotSent(f"{held.deaths} workers died while they asked", final=True)
        else:
            await self._probe("before", held)
            outcome = await self._try(channel, held, until_s - runtime.clock.monotonic())
            await self._probe("after", held)
        await self._settle(channel, held, outcome, until_s)

    async def _probe(self, when: str, held: HeldQuestion) -> None:
        batch_id = "" if held.approval is None else held.approval.batch_id
        batch = Batch(id=batch_id, thread_id=held.thread_id, messages=(), attempts=1)
        await self._runtime.probe(f"{when} {held.what.capitalize()}", batch)

    async def _try(self, channel: Channel, held: HeldQuestion, limit_s: float) -> Any:
        try:
            async with asyncio.timeout(max(limit_s, 0.0)):
                if held.what == "show":
                    return await channel.settled(_settled(held))
                if held.approval is None:
                    return PartNotSent(
                        "its record in Redis was changed by another program", final=True
                    )
                return await channel.ask(held.approval)
        except TimeoutError:
            return PartUnknown("no answer within the lease")
        except Exception as error:  # noqa: BLE001 - a channel may raise anything
            what = "thread %r, call %s: the channel raised"
            log_raised(_log, what, held.thread_id, held.call_id, error=error)
            return PartUnknown(words_of(error))

    async def _settle(
        self, channel: Channel, held: HeldQuestion, outcome: Any, until_s: float
    ) -> None:
        namespace = self._runtime.namespace
        if not isinstance(outcome, PartNotSent | PartUnknown):
            if held.what == "ask":
                part_id = outcome.id if isinstance(outcome, PartSent) else None
                await self._write(lambda: questions.note_asked(namespace, held, part_id), until_s)
            else:
                await self._write(
                    lambda: questions.release_question(namespace, held, None), until_s
                )
            return
        where = (held.thread_id, held.call_id, channel.name, held.what)
        reason = scrubbed(outcome.reason)
        tries = held.tries + 1
        if self._is_over(held, outcome, tries):
            _log.error(
                "thread %r, call %s: %r could not %s, and does not try again: %s; the call is "
                "listed everywhere else",
                *where,
                reason,
            )
            await self._write(lambda: questions.release_question(namespace, held, None), until_s)
            return
        wait_s = self._wait_s(outcome, tries)
        _log.warning(
            "thread %r, call %s: %r could not %s; again in %.1f s: %s", *where, wait_s, reason
        )
        await self._write(
            lambda: questions.release_question(namespace, held, wait_s, tries=tries), until_s
        )
        self.kick(wait_s)

    def _is_over(self, held: HeldQuestion, outcome: PartNotSent | PartUnknown, tries: int) -> bool:
        rules = self._runtime.delivery_rules
        is_final = isinstance(outcome, PartNotSent) and outcome.final
        is_used_up = rules.attempts is not None and tries >= rules.attempts
        return is_final or is_used_up or held.waited_s > rules.for_s

    def _wait_s(self, outcome: PartNotSent | PartUnknown, tries: int) -> float:
        rules = self._runtime.delivery_rules
        asked_s = outcome.retry_after if isinstance(outcome, PartNotSent) else None
        wait_s = min(rules.backoff.wait_s(tries), rules.max_delay_s) if asked_s is None else asked_s
        return min(wait_s, _MOST_WAIT_S)

    async def _write(self, operation: Callable[[], Operation[bool]], until_s: float) -> None:
        """Write through a Redis that is away, as long as no other worker may ask."""
        while True:
            try:
                await write_once(self._runtime, operation)
            except PASSES as error:
                wait_s = pause_s(error, STORE_RETRY_S)
                if self._runtime.clock.monotonic() + wait_s > until_s:
                    raise
                await asyncio.sleep(wait_s)
            else:
                return


async def _contained(call_id: str, attempt: Coroutine[Any, Any, None]) -> None:
    try:
        await attempt
    except PASSES as error:
        _log.debug("call %s: %s", call_id, error)
        await asyncio.sleep(pause_s(error, _AWAY_S))  # it is still due: not at once again
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:  # noqa: BLE001 - one question must not stop the worker
        what = "call %s: its question failed; it is asked again when its lease has lapsed"
        log_raised(_log, what, call_id, error=error, is_ours=True)
        await asyncio.sleep(_AWAY_S)


def _settled(held: HeldQuestion) -> SettledQuestion:
    found = held.settlement
    return SettledQuestion(
        held.call_id,
        None if found is None else found.kind.value,
        None if found is None else found.by,
        part_ids=held.part_ids,
        approval=held.approval,
    )
