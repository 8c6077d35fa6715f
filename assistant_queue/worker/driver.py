"""Execute the steps of one batch: where the flow meets Redis, the provider and user code."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from assistant_queue.backends.function.backend import FunctionBackend
from assistant_queue.channels.channel import channel_of
from assistant_queue.channels.live_replies import LiveReply
from assistant_queue.channels.media import BatchFiles
from assistant_queue.config.protocol import name_of_backend
from assistant_queue.core import steps
from assistant_queue.core.flow import BatchContext, Flow, run_batch
from assistant_queue.core.quoting import without_quotes
from assistant_queue.core.runs import FoundBy, RunEnded
from assistant_queue.core.thread_state import ThreadState
from assistant_queue.core.wishes import Wished
from assistant_queue.errors import AssistantQueueError, BackendError, LeaseLost, NotReplicated
from assistant_queue.store.ops import leases, reply_outbox
from assistant_queue.worker.conversation_steps import ConversationSteps
from assistant_queue.worker.delta_publisher import DeltaPublisher
from assistant_queue.worker.interruption import WATCHED, Interruption
from assistant_queue.worker.lease import HeldLease
from assistant_queue.worker.leased_batch import LeasedBatch
from assistant_queue.worker.outage import PASSES
from assistant_queue.worker.provider_session import ProviderSession
from assistant_queue.worker.store_steps import StoreSteps
from assistant_queue.worker.user_code_steps import UserCodeSteps
from assistant_queue.worker.wish_listener import LISTEN_AFTER_S

if TYPE_CHECKING:
    from assistant_queue.worker.runtime import Runtime

_log = logging.getLogger(__name__)

_WITH_TROUBLE = (BackendError, RunEnded)

_Handler = Callable[[Any], Awaitable[Any]]

_USER_CODE = frozenset({steps.Separate, steps.Instruct, steps.Answer, steps.FallBack})

MIN_HAND_BACK_S = 1.0
"""Seconds at least before a batch that was handed back by a worker that continues is taken again.
Chosen: a cancellation that no stop explains may repeat, and must not make the worker spin."""


class BatchDriver:
    """Drives one claimed batch.

    1. sends the answer of each step, or its error, back into the flow
    2. removes quotes of the conversation from the provider's errors
    3. hands the batch back where it stands when the worker is stopped

    The handlers are in `store_steps.py`, `conversation_steps.py`, `user_code_steps.py` and
    `provider_session.py`; what they share is in `leased_batch.py`.
    """

    _batch: LeasedBatch
    _conversation: ConversationSteps
    _session: ProviderSession
    _store_steps: StoreSteps
    _user_code: UserCodeSteps

    _HANDLERS: ClassVar[dict[type[Any], Callable[[BatchDriver], _Handler]]] = {
        steps.Trim: lambda self: self._store_steps.trim,
        steps.Join: lambda self: self._store_steps.join,
        steps.ReadRevisions: lambda self: self._store_steps.read_revisions,
        steps.Revise: lambda self: self._store_steps.revise,
        steps.DeclineInterrupt: lambda self: self._store_steps.refuse,
        steps.Separate: lambda self: self._user_code.separate,
        steps.OpenConversation: lambda self: self._conversation.open,
        steps.Locate: lambda self: self._session.locate,
        steps.RenewConversation: lambda self: self._leased(self._session.renew_conversation),
        steps.MoveThread: lambda self: self._conversation.move,
        steps.Instruct: lambda self: self._user_code.instruct,
        steps.Save: lambda self: self._store_steps.save,
        steps.Start: lambda self: self._leased(self._session.start),
        steps.Submit: lambda self: self._leased(self._session.submit),
        steps.Follow: lambda self: self._session.follow,
        steps.Watch: lambda self: self._session.watch,
        steps.Find: lambda self: self._session.find,
        steps.CheckRun: lambda self: self._session.check_run,
        steps.AskForRoom: lambda self: self._ask_for_room,
        steps.Cancel: lambda self: self._leased(self._session.cancel),
        steps.CloseStream: lambda self: self._session.close_stream,
        steps.Answer: lambda self: self._user_code.answer,
        steps.EnterExclusive: lambda self: self._user_code.enter_exclusive,
        steps.FallBack: lambda self: self._user_code.fall_back,
        steps.Finish: lambda self: self._store_steps.finish,
        steps.Stop: lambda self: self._store_steps.stop,
        steps.Postpone: lambda self: self._store_steps.postpone,
        steps.AwaitRun: lambda self: self._await_run,
        steps.Bury: lambda self: self._store_steps.bury,
        steps.ParkBatch: lambda self: self._store_steps.park,
        steps.ReadSettlements: lambda self: self._store_steps.read_settlements,
        steps.CloseCalls: lambda self: self._store_steps.close_calls,
    }
    """Looked up by step: a batch passes through few of them."""

    def __init__(self, runtime: Runtime, held: HeldLease[leases.Lease]) -> None:
        """Prepare the handlers; write and send nothing yet."""
        self._runtime = runtime
        self._closing: list[Callable[[], object]] = []
        self._batch = batch = LeasedBatch(runtime, held)
        self._publisher = (
            None
            if runtime.config.events == "off"
            else DeltaPublisher(runtime.namespace, held, batch.write, batch.write_once, batch.probe)
        )
        thread_id = batch.lease.thread_id
        channels = runtime.config.channels
        channel = channel_of(thread_id, channels)
        is_asked = any(message.wants_reply for message in batch.claimed.batch.messages)
        self._live = (
            LiveReply(channel, thread_id, batch.claimed.batch.id, self._has_undelivered)
            if channel is not None and is_asked
            else None
        )
        self._session = ProviderSession(
            runtime.backend,
            thread_id,
            self._publisher,
            batch.now_ms,
            run_timeout_s=runtime.config.run_timeout,
            tags=runtime.tags,
            user_backend=_user_backend(runtime),
            files=_files_of(runtime),
            live=self._live,
            observers=runtime.observers,
        )
        self._user_code = user_code = UserCodeSteps(batch)
        self._interruption = Interruption(
            batch,
            user_code,
            waits_for_ids=runtime.backend.capabilities.found_by is not FoundBy.NOT_AT_ALL,
        )
        self._conversation = ConversationSteps(batch, self._session)
        self._store_steps = StoreSteps(batch, self._live)

    @property
    def batch(self) -> LeasedBatch:
        """The batch, as far as this worker has taken it."""
        return self._batch

    async def drive(self) -> steps.Ending:
        """Take the batch to its end, or as far as it can go now.

        Raises:
            LeaseLost: Another worker holds the thread; nothing more was written.
            StoreUnavailable: Redis was away, or refused, until the batch's deadline; the worker
                that finds the thread next continues.
            NotPermitted: Redis did not let this worker in until then; likewise.
        """
        runtime = self._runtime
        batch = self._batch
        context = BatchContext(
            batch.claimed,
            runtime.backend.capabilities,
            runtime.rules,
            batch.now_ms,
            runtime.worker_name,
        )
        context.wish_now = lambda: batch.held.wish
        self._interruption.begin(context)
        flow = run_batch(context)
        if not runtime.wishes.has_begun:
            listening = asyncio.get_running_loop().call_later(LISTEN_AFTER_S, runtime.wishes.begin)
            self._closing.append(listening.cancel)
        is_answered = False
        if self._live is not None and batch.progress.result is None:
            self._live.start()
        try:
            ending = await self._drive(flow)
        except asyncio.CancelledError:
            await self._hand_back()
            raise
        else:
            is_answered = isinstance(ending, steps.Completed)
            return ending
        finally:
            flow.close()
            await self._interruption.close()
            for close in self._closing:
                close()
            if self._live is not None:
                self._live.close_soon(is_answered=is_answered)
            self._user_code.leave_exclusive()
            if self._publisher is not None:
                await self._publisher.close()
            await self._session.close()

    async def _await_run(self, step: steps.AwaitRun) -> None:
        """Leave the run to the provider, and park the batch."""
        await self._session.leave_run(step.run_id)
        await self._store_steps.await_run(step)

    async def _ask_for_room(self, _: steps.AskForRoom) -> float:
        """Return the seconds to wait before another run is started in the background."""
        return await self._runtime.room.wait_s()

    async def _has_undelivered(self) -> bool:
        """Return whether earlier replies of the thread wait for their delivery."""
        operation = reply_outbox.has_waiting(self._runtime.namespace, self._batch.lease.thread_id)
        found: bool = await self._runtime.store.run(operation)
        return found

    async def _drive(self, flow: Flow) -> steps.Ending:
        answer: Any = None
        error: AssistantQueueError | None = None
        batch = self._batch
        while True:
            try:
                step = flow.send(answer) if error is None else flow.throw(error)
            except StopIteration as stop:
                return stop.value  # type: ignore[no-any-return]  # a Flow returns an Ending
            answer = error = None
            kind = type(step)
            handler = self._HANDLERS[kind](self)
            if self._runtime.is_watched:
                await batch.probe(f"before {kind.__name__}")
            try:
                answer = await (
                    self._interruption.carry_out(step, handler)
                    if kind in WATCHED
                    else handler(step)
                )
            except Wished as wished:
                batch.seen = wished.wish
                error = wished
            except NotReplicated as problem:
                error = problem
            except (LeaseLost, *PASSES):
                raise
            except AssistantQueueError as problem:
                error = problem
            answer = self._without_texts(answer)
            error = None if error is None else self._without_texts(error)
            if kind in _USER_CODE:
                self._user_code.leave_exclusive()
            if self._runtime.is_watched:
                await batch.probe(f"after {kind.__name__}")

    def _leased(self, call: _Handler) -> _Handler:
        return self._batch.with_lease(call)

    def _without_texts(self, said: Any) -> Any:
        """Return an answer or error without the provider's quotes of the conversation.

        Its words are shown to operators.
        """
        trouble = said.trouble if isinstance(said, _WITH_TROUBLE) else None
        if trouble is None or not trouble.words:
            return said
        claimed = self._batch.claimed
        progress = self._batch.progress
        texts = [
            *(message.text for message in claimed.batch.messages),
            *progress.outputs.values(),
            *progress.replies,
        ]
        # The history, if the queue keeps it.
        history = [text for text in (claimed.anchor, progress.transcript) if text]
        words = without_quotes(trouble.words, [*texts, *history])
        if isinstance(said, BackendError):
            said.args = (str(said).replace(trouble.words, words),)
            return said
        if said.error is None:
            return said
        return replace(
            said,
            error=replace(said.error, message=said.error.message.replace(trouble.words, words)),
        )

    async def _hand_back(self) -> None:
        """Give the lease back because the worker stops: the next one continues at once.

        A worker that is not stopping takes the batch again after a back-off.
        """
        batch = self._batch
        if batch.held.is_lost:
            return
        wait_s = (
            0.0
            if self._runtime.is_stopping
            else max(MIN_HAND_BACK_S, self._runtime.rules.backoff.wait_s(1))
        )
        operation = leases.postpone(
            self._runtime.namespace,
            batch.lease,
            state=ThreadState.HELD,
            wait_s=wait_s,
            phase=batch.phase,
            progress=batch.progress,
            seen=batch.seen,
        )
        try:
            await asyncio.shield(self._runtime.store.run(operation))
        except AssistantQueueError as error:
            _log.warning(
                "thread %r not handed back, its lease will lapse: %s", batch.lease.thread_id, error
            )


def _files_of(runtime: Runtime) -> BatchFiles | None:
    """Return the reader of files; None for a queue without channels."""
    channels = runtime.config.channels
    inline = runtime.backend.capabilities.inline_files
    return BatchFiles(channels, inline=inline) if channels else None


def _user_backend(runtime: Runtime) -> str | None:
    """Return the name of the user's own `Backend`; None for one of this package, which ends."""
    backend = runtime.backend
    is_own = backend is runtime.config.backend and type(backend) is not FunctionBackend
    return name_of_backend(backend) if is_own else None
