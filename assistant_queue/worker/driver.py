"""Carries out the steps of one batch: the only place where the flow meets Redis, the provider and the user's functions."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from assistant_queue.core import steps
from assistant_queue.core.flow import BatchFlow, Flow
from assistant_queue.core.progress import Progress
from assistant_queue.core.quoting import without_quotes
from assistant_queue.core.runs import FoundBy, RunEnded
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    LeaseLost,
    NotReplicated,
    RunExpired,
)
from assistant_queue.store import deliveries, ending, events, holding
from assistant_queue.store.calls import Operation
from assistant_queue.worker import callbacks, tool_calls
from assistant_queue.worker.lease import HeldLease
from assistant_queue.worker.outage import PASSES, pause_s
from assistant_queue.worker.talk import Talk
from assistant_queue.worker.telling import Teller
from assistant_queue.worker.user_code import name_of

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

_USERS_CODE = frozenset({steps.Instruct, steps.Answer, steps.Deliver, steps.FallBack})

STORE_RETRY_S = 0.2
"""Seconds between the first two tries while Redis is away. Chosen."""
_GROWTH, _MOST_RETRY_S = 1.5, 1.0
"""By how much each pause between tries is longer, and the longest: four hundred batches must not keep a Redis that is full busy. Chosen."""
MIN_HAND_BACK_S = 1.0
"""Seconds before a batch that was handed back by a worker that goes on is taken again, at least. Chosen."""


class BatchDriver:
    """Drives one claimed batch.

    1. before each call with an effect, makes sure that the lease is still held for long enough
    2. writes through a Redis that is away or refuses, until the batch's deadline: every script can be repeated
    3. hands the batch back where it stands when the worker is stopped
    """

    def __init__(self, runtime: Runtime, held: HeldLease) -> None:
        self._runtime = runtime
        self._held = held
        self._lease = held.lease
        self._claimed = held.lease.claimed
        self._started = runtime.clock.monotonic()
        self._phase, self._progress = self._claimed.phase, self._claimed.progress
        self._marked = self._phase is not Phase.FROZEN
        self._taken = len(self._claimed.batch.messages)
        self._is_alone = False
        # Only a batch that had its result when it was claimed can be in a call of on_reply already.
        self._may_be_in_delivery = self._progress.result is not None
        self._was_delivered = False
        self._teller = None if runtime.config.events == "off" else Teller(runtime.space, held, self._write, self._once, self._probe)
        self._talk = Talk(
            runtime.backend,
            self._lease.thread_id,
            self._teller,
            self.now_ms,
            run_timeout_s=runtime.config.run_timeout,
            tags=runtime.tags,
        )
        self._handlers: dict[type[Any], Callable[[Any], Awaitable[Any]]] = {
            steps.Trim: self._trim,
            steps.OpenConversation: self._open_conversation,
            steps.Locate: self._talk.locate,
            steps.RenewConversation: self._surely(self._talk.renew_conversation),
            steps.MoveThread: self._move_thread,
            steps.Instruct: self._instruct,
            steps.Save: self._save,
            steps.Start: self._surely(self._talk.start),
            steps.Submit: self._surely(self._talk.submit),
            steps.Follow: self._talk.follow,
            steps.Watch: self._talk.watch,
            steps.Find: self._talk.find,
            steps.Cancel: self._surely(self._talk.cancel),
            steps.Answer: self._answer,
            steps.Isolate: self._isolate,
            steps.Complete: self._complete,
            steps.Deliver: self._deliver,
            steps.FallBack: self._fall_back,
            steps.Finish: self._finish,
            steps.Postpone: self._postpone,
            steps.Bury: self._bury,
        }

    async def _probe(self, name: str) -> None:
        await self._runtime.probe(name, self._claimed.batch)

    def now_ms(self) -> int:
        """The store's time, as far as this process can tell: the claim's time and what has passed here since."""
        told = self._runtime.clock.store_now_ms()
        if told is not None:
            return told
        return self._lease.now_ms + round((self._runtime.clock.monotonic() - self._started) * 1000)

    async def drive(self) -> steps.Ending:
        """Take the batch to its end, or as far as it can go now.

        Raises:
            LeaseLost: Another worker holds the thread; nothing more was written.
            StoreUnavailable: Redis was away, or refused, until the batch's deadline; the worker that finds the thread next goes on.
            NotPermitted: Redis did not let this worker in until then; likewise.
        """
        flow = BatchFlow(self._claimed, self._runtime.backend.capabilities, self._runtime.rules, self.now_ms).run()
        try:
            return await self._drive(flow)
        except asyncio.CancelledError:
            await self._hand_back()
            raise
        finally:
            flow.close()
            self._leave_solitude()
            if self._teller is not None:
                await self._teller.close()
            await self._talk.close()

    async def _drive(self, flow: Flow) -> steps.Ending:
        answer: Any = None
        error: AssistantQueueError | None = None
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # a Flow returns an Ending
            answer = error = None
            await self._probe(f"before {type(step).__name__}")
            try:
                answer = await self._handlers[type(step)](step)
            except NotReplicated as problem:
                error = problem
            except (LeaseLost, *PASSES):
                raise
            except AssistantQueueError as problem:
                error = problem
            answer, error = self._without_texts(answer), self._without_texts(error)
            if type(step) in _USERS_CODE:
                self._leave_solitude()
            await self._probe(f"after {type(step).__name__}")

    def _without_texts(self, said: Any) -> Any:
        """The same answer or error without what the provider repeats of the conversation: its words are shown to operators."""
        trouble = said.trouble if isinstance(said, BackendError | RunEnded) else None
        if trouble is None or not trouble.words:
            return said
        progress = self._progress
        texts = [*(message.text for message in self._claimed.batch.messages), *progress.outputs.values(), *progress.replies]
        history = [text for text in (self._claimed.anchor, progress.transcript) if text]  # where the queue keeps it
        words = without_quotes(trouble.words, [*texts, *history])
        if isinstance(said, BackendError):
            said.args = (str(said).replace(trouble.words, words),)
            return said
        if said.error is None:
            return said
        return replace(said, error=replace(said.error, message=said.error.message.replace(trouble.words, words)))

    # --- the lease --------------------------------------------------------------------------------------------------

    async def _sure(self) -> None:
        """Before a call with an effect: hold the lease for long enough that nobody else can be at it."""
        if self._held.remaining_s() >= self._runtime.lease_margin_s:
            return
        renewed = None
        asked_at = 0.0

        def renewal() -> Operation[holding.Renewed | None]:
            nonlocal asked_at
            asked_at = self._runtime.clock.monotonic()
            return holding.renew(self._runtime.space, self._lease, self._runtime.config.lock_duration)

        if not self._held.is_lost:
            renewed = await self._write(renewal)
            if renewed is not None:
                self._held.extend(asked_at + self._runtime.config.lock_duration, renewed)
        if renewed is None:
            self._held.lose()
            raise LeaseLost(f"the lease on thread {self._lease.thread_id!r} is another worker's now; nothing was sent")

    def _surely(self, call: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def make_sure(step: Any) -> Any:
            await self._sure()
            return await call(step)

        return make_sure

    async def _write(self, operation: Callable[[], Operation[Any]]) -> Any:
        """Write to Redis, again and again until it is done or the batch's deadline has passed.

        For longer than the lease: a Redis that refuses this write refuses every other worker's claim, too, and one that has let another
        worker claim refuses the write as `lost`. What the provider has answered is not asked for a second time.
        """
        retry_s = STORE_RETRY_S
        while True:
            try:
                done = await self._once(operation)
            except NotReplicated:
                raise  # it has been waited for, and what it means the flow knows
            except PASSES as error:
                if self._held.is_over() or self._held.is_lost:
                    raise
                await asyncio.sleep(pause_s(error, retry_s))
                retry_s = min(retry_s * _GROWTH, _MOST_RETRY_S)
            else:
                return done

    async def _release(self, operation: Callable[[], Operation[Any]]) -> Any:
        """Write what gives the lease back: a renewal that comes after it is refused, and says nothing about another worker."""
        self._held.is_ending = True
        return await self._write(operation)

    async def _once(self, operation: Callable[[], Operation[Any]]) -> Any:
        """Write to Redis, or not."""
        outage = self._runtime.outage
        try:
            done = await self._runtime.store.run(operation())
        except NotReplicated:
            raise
        except PASSES as error:
            outage.failed("writes", error)
            raise
        outage.passed("writes")
        return done

    async def _hand_back(self) -> None:
        """The worker stops: let the next one continue from here at once. A worker that goes on takes it again after a back-off."""
        if self._held.is_lost or self._phase is Phase.DELIVERING:
            return  # a delivery that was cut off is repeated when the lease has lapsed
        # A cancellation that no stop explains may come again at once: this worker must not spin.
        wait_s = 0.0 if self._runtime.is_stopping else max(MIN_HAND_BACK_S, self._runtime.rules.backoff.wait_s(1))
        operation = holding.postpone(
            self._runtime.space, self._lease, state=ThreadState.HELD, wait_s=wait_s, phase=self._phase, progress=self._progress
        )
        try:
            await asyncio.shield(self._runtime.store.run(operation))
        except AssistantQueueError as error:
            _log.warning("thread %r not handed back, its lease will lapse: %s", self._lease.thread_id, error)

    # --- the store --------------------------------------------------------------------------------------------------

    async def _trim(self, step: steps.Trim) -> None:
        await self._write(lambda: holding.trim(self._runtime.space, self._lease, step.keep))
        self._taken = step.keep

    async def _save(self, step: steps.Save) -> None:
        marks = [] if self._marked else self._message_ids()
        batch_id, run_id, outputs = self._claimed.batch.id, step.progress.run_id or "", step.progress.outputs
        news = [events.tool_called(batch_id, run_id, call) for call in step.asked]
        news += [events.tool_answered(batch_id, run_id, call_id, outputs[call_id]) for call_id in step.answered]
        to_replica = step.leaves and self._runtime.config.durability == "replicated"
        self._held.listened = await self._write(
            lambda: holding.save(self._runtime.space, self._lease, step.phase, step.progress, marks, to_replica=to_replica, news=news)
        )
        self._marked = True
        self._phase, self._progress = step.phase, step.progress

    async def _complete(self, step: steps.Complete) -> None:
        rules = self._runtime.result_rules
        await self._write(
            lambda: ending.complete(
                self._runtime.space, self._lease, result=step.result, progress=step.progress, anchor=step.anchor, rules=rules
            )
        )
        self._phase, self._progress = Phase.DELIVERING, step.progress

    async def _finish(self, step: steps.Finish) -> None:
        if step.undelivered is not None:
            _log.error(
                "thread %r, batch %s: the reply was not delivered and will not be tried again: %s",
                self._lease.thread_id, step.result.batch_id, step.undelivered.message,
            )  # fmt: skip
        rules = self._runtime.result_rules
        await self._release(
            lambda: ending.finish(
                self._runtime.space,
                self._lease,
                guard_id=self._held.guard_id,
                result=step.result,
                anchor=step.anchor,
                rules=rules,
            )
        )
        if self._was_delivered:
            await self._write(lambda: deliveries.clear(self._runtime.space, step.result.batch_id))

    async def _postpone(self, step: steps.Postpone) -> None:
        await self._release(
            lambda: holding.postpone(
                self._runtime.space, self._lease, state=step.state, wait_s=step.wait_s, phase=step.phase, progress=step.progress
            )
        )

    async def _bury(self, step: steps.Bury) -> None:
        await self._release(
            lambda: ending.bury(
                self._runtime.space,
                self._lease,
                self._held.guard_id,
                reason=step.reason,
                error=step.error,
                progress=step.progress,
                message_ids=self._message_ids(),
                open_calls=step.open_calls,
                fallback=step.fallback,
                pause=self._runtime.config.after_failure == "pause",
                keep_anchor=self._runtime.backend.capabilities.found_by is FoundBy.NOT_AT_ALL,
            )
        )

    def _message_ids(self) -> list[str]:
        return [message.id for message in self._claimed.batch.messages[: self._taken]]

    # --- the provider -------------------------------------------------------------------------------------------------

    async def _open_conversation(self, _: steps.OpenConversation) -> tuple[str, str | None]:
        await self._sure()
        thread_id, backend = self._lease.thread_id, self._runtime.backend
        created = await self._talk.asked(backend.open_conversation(thread_id))
        found, anchor = await self._write(
            lambda: holding.set_conversation(self._runtime.space, thread_id, created, token=self._lease.token)
        )
        if found != created:
            # Another process mapped the thread meanwhile (a direct call): its conversation counts, ours goes.
            await self._drop(created)
        return found, anchor

    async def _move_thread(self, step: steps.MoveThread) -> bool:
        found = await self._write(
            lambda: holding.move_conversation(
                self._runtime.space,
                self._lease,
                old_id=step.old_id,
                conversation_id=step.conversation_id,
                anchor=step.anchor,
                phase=step.phase,
                progress=step.progress,
            )
        )
        moved = bool(found == step.conversation_id)
        if moved:
            self._phase, self._progress = step.phase, step.progress
            self._say_moved(step)
        if moved and step.drops_old:
            await self._drop(step.old_id)
        elif step.is_new and not moved:
            await self._drop(step.conversation_id)
        return moved

    def _say_moved(self, step: steps.MoveThread) -> None:
        thread_id = self._lease.thread_id
        if not step.is_new:
            _log.warning("thread %r: its batch is refused all the same; it has conversation %s again", thread_id, step.conversation_id)
            return
        rest = "" if step.drops_old else ". The old one stays at the provider"
        _log.warning(
            "thread %r: the model cannot read conversation %s any more (%s); it is continued in %s, which begins with its last turns%s",
            thread_id, step.old_id, _reason(step.progress), step.conversation_id, rest,
        )  # fmt: skip

    async def _drop(self, conversation_id: str) -> None:
        """Delete a conversation that no thread has."""
        try:
            await self._talk.asked(self._runtime.backend.drop_conversation(conversation_id))
        except BackendError as error:
            _log.warning("conversation %s is not needed and could not be deleted: %s", conversation_id, error)

    async def _isolate(self, _: steps.Isolate) -> None:
        """A worker is one process for many batches: two suspects in it at once would be convicted of each other's deaths."""
        await self._runtime.solitude.acquire()
        self._is_alone = True

    def _leave_solitude(self) -> None:
        if self._is_alone:
            self._is_alone = False
            self._runtime.solitude.release()

    # --- the user -----------------------------------------------------------------------------------------------------

    async def _answer(self, step: steps.Answer) -> dict[str, str]:
        await self._sure()
        runtime = self._runtime
        left_s = max(0.0, (self._progress.deadline_ms - self.now_ms()) / 1000)
        toolbox, handler = runtime.config.toolbox, runtime.config.handle_requires_action
        try:
            return await asyncio.wait_for(
                tool_calls.answer(toolbox, handler, runtime.code, batch=step.batch, run_id=step.run_id, calls=step.calls), left_s
            )
        except (asyncio.TimeoutError, TimeoutError):
            limit = runtime.config.run_timeout
            name = name_of(handler) if handler else "a tool"
            _log.warning("thread %r, batch %s: %s has not answered in time", step.batch.thread_id, step.batch.id, name)
            raise RunExpired(f"{name} has not answered thread {step.batch.thread_id!r} within run_timeout ({limit:g} s)") from None

    async def _instruct(self, step: steps.Instruct) -> str | None:
        runtime, function = self._runtime, self._runtime.config.default_instructions
        return await callbacks.instruct(function, runtime.code, step.batch, runtime.config.callback_limit) if callable(function) else None

    async def _deliver(self, step: steps.Deliver) -> None:
        await self._sure()
        runtime, batch_id = self._runtime, step.result.batch_id
        function = runtime.config.on_reply
        if function is None or (self._may_be_in_delivery and await self._has_been_delivered(batch_id)):
            return
        if runtime.config.durability == "replicated":
            # Else a failover could forget the reply after it was delivered, and a provider that keeps nothing gives another one.
            await self._write(
                lambda: holding.save(runtime.space, self._lease, Phase.DELIVERING, self._progress, to_replica=True, about="its reply")
            )
        try:
            await callbacks.deliver(
                function,
                runtime.code,
                step.result,
                runtime.config.callback_limit,
                on_abandoned=lambda running: runtime.deliveries.keep(batch_id, running),
            )
        except steps.DeliveryOpen:
            # Before the thread is given back: its next holder must know.
            await self._write(lambda: deliveries.announce(runtime.space, batch_id, runtime.config.lock_duration))
            raise

    async def _has_been_delivered(self, batch_id: str) -> bool:
        """Whether a call that was given up has returned since; raises DeliveryOpen if it goes on, here or in another process."""
        runtime = self._runtime
        found = await self._write(lambda: deliveries.look(runtime.space, batch_id))
        if batch_id in runtime.deliveries or found == deliveries.OPEN:
            name = name_of(runtime.config.on_reply) if runtime.config.on_reply else "on_reply"
            raise steps.DeliveryOpen(f"an earlier call of {name} for this batch goes on", is_new=False)
        self._was_delivered = found == deliveries.DONE
        return self._was_delivered

    async def _fall_back(self, step: steps.FallBack) -> str | None:
        await self._sure()
        runtime, function = self._runtime, self._runtime.config.fallback_reply
        if not callable(function):
            return None
        return await callbacks.fall_back(function, runtime.code, step.batch, step.error, runtime.config.callback_limit)


def _reason(progress: Progress) -> str:
    return "unknown" if progress.error is None else progress.error.message
