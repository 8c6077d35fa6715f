"""The front door for asyncio: `AsyncAssistantMessageQueue`. The same operations as the blocking one, awaited."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import redis
import redis.asyncio
from typing_extensions import Self, Unpack

from assistant_queue import arguments
from assistant_queue.config import Options, configure
from assistant_queue.direct_doors import AsyncDirectCalls
from assistant_queue.door import RECHECK_S, Door, TakesTools, settled_reply
from assistant_queue.errors import WrongQueueClass
from assistant_queue.event_doors import AsyncEventCalls
from assistant_queue.models import Content, FailedBatch, MessageStatus, QueueStatus, Receipt, ThreadStatus
from assistant_queue.queue import options_help, options_signature
from assistant_queue.store.connect import async_from, listening, sync_from
from assistant_queue.store.refusals import translate
from assistant_queue.store.stores import AsyncStore

if TYPE_CHECKING:
    import rq

    from assistant_queue.clock import Clock
    from assistant_queue.worker.loop_handle import LoopWorkerHandle


class AsyncAssistantMessageQueue(TakesTools, AsyncDirectCalls, AsyncEventCalls):
    """`AssistantMessageQueue`, awaited: the same constructor, names, meanings and errors.

    Bound to the event loop of its first call. A call that is cancelled leaves nothing half-done: a message is queued or it is not.
    """

    __doc__ = f"{__doc__ or ''}{options_help()}"

    __signature__ = options_signature()

    def __init__(self, **options: Unpack[Options]) -> None:
        self.config = configure(options)
        self._clock: Clock | None = None
        self._open()

    def _open(self) -> None:
        given = self.config.redis
        self._door = Door(self.config, self._clock)
        self._store = AsyncStore(async_from(given, self.config.redis_url), keeps=given is None, spaces=(self._door.space,))
        self._owns_client = self._store.client is not given
        self._listening = listening(self._store.client)
        self._workers: list[LoopWorkerHandle] = []
        self._open_direct()
        self._open_events()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(queue_prefix={self.config.queue_prefix!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> NoReturn:
        """Refuse; raises WrongQueueClass."""
        raise WrongQueueClass("AsyncAssistantMessageQueue is awaited: use `async with`, or AssistantMessageQueue with `with`")

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    async def close(self) -> None:
        """As `AssistantMessageQueue.close`."""
        workers, self._workers = self._workers, []
        for worker in workers:
            await worker.stop()
        await self._close_events()
        await self._close_direct()
        if self._owns_client:
            await self._store.close(self._listening)

    # --- messages -----------------------------------------------------------------------------------------------------

    async def add_message_to_thread(
        self,
        thread_id: str,
        message: Content,
        instructions: str | None = None,
        *,
        message_id: str | None = None,
        author: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Receipt:
        """As `AssistantMessageQueue.add_message_to_thread`."""
        checked, made = self._door.make(thread_id, message, instructions, message_id=message_id, author=author, metadata=metadata)
        await self._door.validate_async(made, checked)
        return await self._store.run(self._door.add_made(checked, made))

    async def add_messages(self, messages: Iterable[Mapping[str, Any]]) -> list[Receipt]:
        """As `AssistantMessageQueue.add_messages`."""
        rows = arguments.make_rows(messages)
        for thread_id, made in rows:  # all of them before the first is queued
            await self._door.validate_async(made, thread_id)
        return await self._store.run(self._door.add_rows(rows))

    async def ask(
        self,
        thread_id: str,
        message: Content,
        instructions: str | None = None,
        *,
        timeout: float = 60,
        message_id: str | None = None,
        author: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str | None:
        """As `AssistantMessageQueue.ask`."""
        arguments.check_timeout(timeout)
        receipt = await self.add_message_to_thread(
            thread_id, message, instructions, message_id=message_id, author=author, metadata=metadata
        )
        return await self.wait_for_reply(receipt.message_id, timeout)

    async def get_message(self, message_id: str) -> MessageStatus | None:
        """As `AssistantMessageQueue.get_message`."""
        return await self._store.run(self._door.get_message(message_id))

    async def wait_for_reply(self, message_id: str, timeout: float = 60) -> str | None:
        """As `AssistantMessageQueue.wait_for_reply`."""
        until = self._door.clock.monotonic() + arguments.check_timeout(timeout)
        status = await self.get_message(message_id)
        settled, reply = settled_reply(message_id, status)
        if settled or status is None:
            return reply
        try:
            async with self._listening.pubsub() as words:
                await words.subscribe(self._door.space.keys.done(status.thread_id))
                await words.get_message(timeout=RECHECK_S)  # the subscription stands; what ended before it is seen by the next look
                while True:
                    settled, reply = settled_reply(message_id, await self.get_message(message_id))
                    if settled:
                        return reply
                    left = until - self._door.clock.monotonic()
                    if left <= 0:
                        break
                    await words.get_message(timeout=min(left, RECHECK_S))
        except (redis.RedisError, OSError) as error:
            raise translate(error) from error
        raise TimeoutError(f"message {message_id!r} has no reply after {timeout:g} s; it stays queued and will be answered")

    async def cancel(self, message_id: str) -> bool:
        """As `AssistantMessageQueue.cancel`."""
        return await self._store.run(self._door.cancel(message_id))

    async def edit_message(self, message_id: str, message: Content) -> bool:
        """As `AssistantMessageQueue.edit_message`."""
        made = self._door.make_edit(message_id, message)
        await self._door.validate_async(made, None)
        return await self._store.run(self._door.edit_made(made))

    # --- control ------------------------------------------------------------------------------------------------------

    async def pause(self, thread_id: str | None = None) -> None:
        """As `AssistantMessageQueue.pause`."""
        await self._store.run(self._door.pause(thread_id))

    async def resume(self, thread_id: str | None = None) -> None:
        """As `AssistantMessageQueue.resume`."""
        await self._store.run(self._door.resume(thread_id))

    async def forget_thread(self, thread_id: str) -> None:
        """As `AssistantMessageQueue.forget_thread`."""
        await self._store.run(self._door.forget(thread_id))

    async def get_jobs_by_thread_id(self, thread_id: str) -> list[MessageStatus]:
        """As `AssistantMessageQueue.get_jobs_by_thread_id`."""
        return await self._store.run(self._door.jobs_of(thread_id))

    async def get_queue(self) -> rq.Queue:
        """As `AssistantMessageQueue.get_queue`; RQ's own calls block."""
        import rq

        return rq.Queue(self.config.queue_prefix, connection=sync_from(self.config.redis, self.config.redis_url))

    # --- what is where ------------------------------------------------------------------------------------------------

    async def get_queue_status(self) -> QueueStatus:
        """As `AssistantMessageQueue.get_queue_status`."""
        return await self._store.run(self._door.queue_status())

    async def get_thread_status(self, thread_id: str) -> ThreadStatus:
        """As `AssistantMessageQueue.get_thread_status`."""
        return await self._store.run(self._door.thread_status(thread_id))

    # --- what has failed ----------------------------------------------------------------------------------------------

    async def list_failed(self, limit: int = 100, after: str | None = None) -> list[FailedBatch]:
        """As `AssistantMessageQueue.list_failed`."""
        return await self._store.run(self._door.list_failed(limit, after))

    async def retry_failed(self, batch_id: str) -> None:
        """As `AssistantMessageQueue.retry_failed`."""
        await self._store.run(self._door.retry_failed(batch_id))

    async def discard_failed(self, batch_id: str) -> None:
        """As `AssistantMessageQueue.discard_failed`."""
        await self._store.run(self._door.discard_failed(batch_id))

    # --- work ---------------------------------------------------------------------------------------------------------

    async def start_worker(self) -> LoopWorkerHandle:
        """Start a worker on this event loop, so that callbacks can use what belongs to it; raises as the blocking one does."""
        from assistant_queue.worker.loop_handle import LoopWorkerHandle

        self._door.warn_of_workers(sum(worker.is_alive for worker in self._workers))
        handle = LoopWorkerHandle(self.config, clock=self._clock)
        await handle.start()
        self._workers.append(handle)
        return handle
