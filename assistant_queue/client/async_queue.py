"""`AsyncAssistantMessageQueue`: the queue for asyncio, with the methods of the blocking class.

Docstrings are those of the blocking class; `tests/docs/test_twins.py` compares them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NoReturn, Self, Unpack, overload

from assistant_queue.client import arguments, takeover_commands
from assistant_queue.client.approval_methods import AsyncApprovalMethods
from assistant_queue.client.commands import (
    RECHECK_S,
    Commands,
)
from assistant_queue.client.event_methods import AsyncEventMethods
from assistant_queue.client.hook_methods import TakesHooks
from assistant_queue.client.judging import judge_async, judge_content_async
from assistant_queue.client.provider_call_methods import AsyncProviderCallMethods
from assistant_queue.client.queue_core import QueueCore, open_async_core, ready_core
from assistant_queue.client.tool_decorator import TakesTools
from assistant_queue.client.waited_replies import no_reply_yet, settled_reply
from assistant_queue.client.webhook_methods import TakesWebhooksAwaited
from assistant_queue.config import Options, configure
from assistant_queue.config.signature import options_help, options_signature
from assistant_queue.errors import WrongQueueClass
from assistant_queue.metrics import Metrics
from assistant_queue.models import (
    BatchRecord,
    Content,
    Explanation,
    FailedBatch,
    FailureReason,
    MessageStatus,
    QueueStatus,
    Receipt,
    SayKind,
    ThreadFilter,
    ThreadOrder,
    ThreadStatus,
)
from assistant_queue.row_types import MessageRow, MidRun, UncheckedRow
from assistant_queue.store.transport.channels import AsyncChannelSubscription
from assistant_queue.store.transport.connect import pubsub_client, sync_from
from assistant_queue.store.transport.stores import AsyncStore

if TYPE_CHECKING:
    import rq

    from assistant_queue.worker.loop_handle import LoopWorkerHandle


class AsyncAssistantMessageQueue(
    TakesTools,
    TakesHooks,
    TakesWebhooksAwaited,
    AsyncProviderCallMethods,
    AsyncEventMethods,
    AsyncApprovalMethods,
):
    """Collect a thread's messages within a window and have a worker answer them in one run.

    The methods, options and errors of `AssistantMessageQueue`, for asyncio. Bound to the event loop
    of its first call. A cancelled call leaves nothing half-done: a message is queued or it is not.
    The documentation is installed with the package, in the folder `assistant_queue/docs`.
    """

    __doc__ = f"{__doc__ or ''}{options_help()}"

    __signature__ = options_signature()

    @overload
    def __init__(self, **options: Unpack[Options]) -> None: ...
    @overload
    def __init__(self, core: QueueCore[AsyncStore], /) -> None: ...
    def __init__(self, *core: Any, **options: Any) -> None:
        # This package alone passes a core: `queue_core.py`.
        self.core: QueueCore[AsyncStore] = (
            ready_core(core, options) if core else open_async_core(configure(options))
        )
        self.config = self.core.config
        self._store = self.core.store
        self._commands = Commands(self.config, self.core.namespace)
        self._listening = pubsub_client(self._store.client)
        self._workers: list[LoopWorkerHandle] = []
        self._open_provider_calls()
        self._open_events()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(queue_prefix={self.config.queue_prefix!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __enter__(self) -> NoReturn:
        """Refuse; raises WrongQueueClass."""
        raise WrongQueueClass(
            "AsyncAssistantMessageQueue is awaited: use `async with`, or AssistantMessageQueue with "
            "`with`"
        )

    def __exit__(self, *_: object) -> None:
        """Never reached."""

    async def close(self) -> None:
        """Stop this object's workers and close its connections. Idempotent.

        A client passed as `redis` stays open. The object stays usable: a later call connects again,
        so that a message that arrives while a process ends is queued and not lost. Close it once
        more after that.
        """
        workers, self._workers = self._workers, []
        for worker in workers:
            await worker.stop()
        await self._close_events()
        await self._close_provider_calls()
        if self.core.owns_client:
            await self._store.close(self._listening)

    # --- messages ---------------------------------------------------------------------------------

    async def add_message_to_thread(
        self,
        thread_id: str,
        message: Content,
        instructions: str | None = None,
        *,
        message_id: str | None = None,
        author: str | None = None,
        metadata: Mapping[str, str] | None = None,
        tenant: str | None = None,
        wants_reply: bool = True,
        message_delay: float | None = None,
        hold: float | None = None,
        mid_run: MidRun | None = None,
    ) -> Receipt:
        """Add a message: from now on it ends in exactly one completed run, or in the failed list.

        Args:
            thread_id: The conversation; any string of 1 to 512 characters.
            message: A non-blank text, or the provider's content parts.
            instructions: Instructions of the run over this message, instead of the default ones.
            message_id: Unique within the prefix; the same id, thread and content again is the same
                message. None generates one.
            author: The author's name, as the model sees it.
            metadata: Up to 14 pairs of strings, kept with the message.
            tenant: A label of up to 128 printable characters for the customer that the message
                belongs to; kept with it, and given to results and tools. The model does not see it.
            wants_reply: False: it opens no window, and is answered with the next message that wants
                a reply.
            message_delay: Seconds that it waits for further messages, instead of the option. A
                fixed window ends at the earliest end that its messages ask for; a sliding one
                starts again with this length.
            hold: Seconds, at most 60, for which the window stays open after this message in any
                case: for the rest of an album. A full window ends all the same.
            mid_run: The message's fate if a batch of the thread is not over. `collect`: it waits for
                the next. `interrupt`: the batch's run is cancelled, and both are answered together;
                where that cannot be, it is collected. `steer`: it joins the batch with the outputs
                of its next tool round; without one, it is collected. `reject`: it is not queued.
                None for the option.

        Raises:
            InvalidArgument: An argument is of the wrong type, empty or too long. Nothing was
                queued.
            MessageRefused: A validator refused it (also an InvalidArgument). Nothing was queued.
            MessageIdConflict: The id belongs to another message. Nothing was queued.
            ThreadFull: The thread has `max_pending` waiting messages. Nothing was queued.
            ThreadBusy: A batch of the thread is not over, and `mid_run` is `reject`. Nothing was
                queued.
            StoreUnavailable: Redis did not answer; the message may have been queued. Add it again
                with the same `message_id`.
        """
        row = self._commands.make(
            thread_id,
            message,
            instructions,
            message_id=message_id,
            author=author,
            metadata=metadata,
            tenant=tenant,
            wants_reply=wants_reply,
            message_delay=message_delay,
            hold=hold,
            mid_run=mid_run,
        )
        judged = await judge_async(self.config, row)
        return await self._store.run(self._commands.add_one(judged))

    async def add_messages(self, messages: Iterable[MessageRow | UncheckedRow]) -> list[Receipt]:
        """Add many messages, a few hundred per round trip; those of one thread keep their order.

        Args:
            messages: Dicts of the arguments of `add_message_to_thread`: `thread_id`, `message` and
                the optional ones.

        Raises:
            InvalidArgument: A row is wrong; the message names it. Nothing was queued.
            MessageRefused: A validator refused one of them. Nothing was queued.
            MessageIdConflict, ThreadFull, ThreadBusy: For one message; others are queued. With
                `message_id`s the call can be repeated.
        """
        rows = arguments.make_rows(messages)
        # All of them are judged before the first is queued.
        judged = [await judge_async(self.config, row) for row in rows]
        return await self._store.run(self._commands.add_rows(judged))

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
        tenant: str | None = None,
        message_delay: float | None = None,
        mid_run: MidRun | None = None,
    ) -> str | None:
        """Add a message and wait for the reply of its run.

        Raises the errors of `add_message_to_thread` and `wait_for_reply`. After a TimeoutError the
        message is still queued and will be answered.
        """
        arguments.check_timeout(timeout)
        receipt = await self.add_message_to_thread(
            thread_id,
            message,
            instructions,
            message_id=message_id,
            author=author,
            metadata=metadata,
            tenant=tenant,
            message_delay=message_delay,
            mid_run=mid_run,
        )
        return await self.wait_for_reply(receipt.message_id, timeout)

    async def say(
        self,
        thread_id: str,
        text: str,
        *,
        author: str | None = None,
        kind: SayKind = "reply",
    ) -> Receipt:
        """Say something in a thread without a run: on its platform and to its subscribers, at once.

        It is delivered through the outbox, in order with the replies, by the thread's channel or
        `on_reply` (with `run_id=""`), and published as the event `said`. `get_message` has its
        delivery.

        Args:
            thread_id: The conversation.
            text: The text, not blank.
            author: Its author's name, for subscribers.
            kind: `reply`: the model reads it as its own. It is written to the provider's
                conversation between two runs, in order with the thread's messages; messages before
                it that want no reply are written with it. `notice`: the model does not see it.

        Raises:
            InvalidArgument: An argument is of the wrong type, empty or too long. Nothing was said.
            NotSupported: The backend is a function of which the queue remembers no history, or
                one of your own without `Capabilities.writes`: it cannot have a reply. Nothing was
                said.
            NotReplicated: With `durability="replicated"`, no replica confirmed it in time. It was
                said, and may be lost in a failover.
            StoreUnavailable: Redis did not answer; it may have been said.
        """
        return await self._store.run(self._commands.say(thread_id, text, author, kind))

    async def get_message(self, message_id: str) -> MessageStatus | None:
        """Return a message's status; None if there is no record of it (any more)."""
        return await self._store.run(self._commands.get_message(message_id))

    async def wait_for_reply(self, message_id: str, timeout: float = 60) -> str | None:
        """Wait until the message's run has ended and return its reply.

        The caller is woken by pub/sub; it does not poll. The blocking class, called in a running
        event loop, blocks all its coroutines; that is logged as a warning.

        Args:
            message_id: The id in the receipt.
            timeout: Seconds; 0 checks once.

        Returns:
            The run's messages joined by a blank line; None if it said nothing. With a
            `fallback_reply`, a failed batch returns that text, and `get_message` marks it as one.

        Raises:
            TimeoutError: The run has not ended yet. The message will still be answered.
            MessageNotFound: There is no such message.
            MessageCancelled: It was cancelled, or its answer was stopped.
            BatchFailed: Its batch, `batch_id`, is in the failed list.
        """
        clock = self.core.clock
        until = clock.monotonic() + arguments.check_timeout(timeout)
        status = await self.get_message(message_id)
        settled, reply = settled_reply(message_id, status)
        if settled or status is None:
            return reply
        channel = self.core.namespace.keys.done(status.thread_id)
        async with AsyncChannelSubscription(self._listening, channel) as subscription:
            while True:
                # After the subscription: a run that ended before it is seen here.
                settled, reply = settled_reply(message_id, await self.get_message(message_id))
                if settled:
                    return reply
                left = until - clock.monotonic()
                if left <= 0:
                    raise no_reply_yet(message_id, timeout)
                await subscription.wait(min(left, RECHECK_S))

    async def cancel(self, message_id: str, *, running: bool = False) -> bool:
        """Cancel a waiting message.

        Args:
            message_id: The message.
            running: Also one in a batch that is under way: its run is interrupted, and sent again
                without the message. A run that ends before that stands, as does one that cannot be
                interrupted; if no other message of the batch wants a reply, it is stopped.

        Returns:
            True if it is `cancelled` now, or is to be; False if it is in a batch, has ended or is
            unknown.

        Raises:
            InvalidArgument: An argument is of the wrong type. Nothing was changed.
        """
        return await self._store.run(self._commands.cancel(message_id, running=running))

    async def edit_message(
        self, message_id: str, message: Content, *, running: bool = False
    ) -> bool:
        """Replace the content of a waiting message.

        Args:
            message_id: The message.
            message: Its new content.
            running: Also of one in a batch that is under way: its run is interrupted, and sent
                again with the new content. A run that ends before that stands, as does one that
                cannot be interrupted.

        Returns:
            True if it was replaced, or is to be; False if the message is in a batch already, or has
            ended.

        Raises:
            InvalidArgument: The content is empty, too long or of the wrong type. Nothing was
                changed.
            MessageRefused: A validator refused the new content. Nothing was changed.
            MessageNotFound: There is no such message.
        """
        arguments.check_flag(running, "running")
        made = self._commands.make_edit(message_id, message)
        await judge_content_async(self.config, made, None)
        return await self._store.run(self._commands.edit_made(made, running=running))

    async def promote(
        self, message_id: str, mid_run: Literal["interrupt", "steer"] = "interrupt"
    ) -> bool:
        """Have a waiting message interrupt, or steer, the running answer of its thread.

        As if it had been added with that `mid_run`.

        Args:
            message_id: The message.
            mid_run: `interrupt` or `steer`.

        Returns:
            True if the wish was stored; False if the message does not wait, or nothing is under
            way.

        Raises:
            InvalidArgument: An argument is of the wrong type. Nothing was changed.
        """
        return await self._store.run(self._commands.promote(message_id, mid_run))

    # --- control ----------------------------------------------------------------------------------

    async def pause(self, thread_id: str | None = None) -> None:
        """Accept messages but start no batch: of one thread, or of the whole queue.

        Batches in progress continue to their end.
        """
        await self._store.run(self._commands.pause(thread_id))

    async def resume(self, thread_id: str | None = None) -> None:
        """End a pause; messages that fell due meanwhile are answered at once."""
        await self._store.run(self._commands.resume(thread_id))

    async def flush(self, thread_id: str) -> bool:
        """Answer what waits in a thread now: the window of its messages is over.

        Messages beyond one batch, or behind a run, follow without another window. A pause and a
        back-off end as before.

        Returns:
            True if something waited, False if nothing did. Messages that want no reply wait on.

        Raises:
            InvalidArgument: The thread id is empty, too long or not a string. Nothing was changed.
        """
        return await self._store.run(self._commands.flush(thread_id))

    async def stop(self, thread_id: str) -> bool:
        """End the running answer of a thread for good, in whatever phase it is.

        The wish is stored, and obeyed within a second by the worker that has the batch, or by the
        one that takes over after a crash: the run is cancelled at the provider, nothing is
        delivered, and the thread continues with what waits. The batch's messages become
        `cancelled`, with what was said so far as their `reply`. Messages that only wait are not
        affected.

        Returns:
            True if there was a batch to stop, False if there was none.

        Raises:
            InvalidArgument: The thread id is empty, too long or not a string. Nothing was changed.
        """
        return await self._store.run(self._commands.stop(thread_id))

    async def take_over(
        self, thread_id: str, by: str, *, instead_of: str | None = None, stop: bool = True
    ) -> bool:
        """Have a person answer a thread instead of the model, until it is handed back.

        Messages that arrive are shown and kept in order. What that person says with `say` answers
        those before it: they are written to the provider's conversation with it, without a run.

        Args:
            thread_id: The conversation.
            by: The person's name, for subscribers, `get_thread_status` and `explain`.
            instead_of: The person that answers the thread, to take it over from exactly that one.
            stop: Stop the answer that is under way, as `stop` does. False: it ends first.

        Returns:
            True if this call changed the person, False if that person does already.

        Raises:
            ThreadTakenOver: Another person than `instead_of` answers the thread; the error says
                which one, and since when. Nothing was changed.
            InvalidArgument: An argument is empty, too long or of the wrong type. Nothing was
                changed.
        """
        taken = takeover_commands.take_over(
            self._commands.namespace, thread_id, by, instead_of, stop=stop
        )
        return await self._store.run(taken)

    async def hand_back(self, thread_id: str) -> bool:
        """Have the model answer a thread again that a person took over.

        It knows what was said meanwhile. Messages that came after the person's last words are
        answered, at once if their window is over. A thread that is paused, too, stays paused.

        Returns:
            True if a person answered it, False if the model did already.

        Raises:
            InvalidArgument: The thread id is empty, too long or not a string. Nothing was changed.
        """
        handed = takeover_commands.hand_back(self._commands.namespace, thread_id)
        return await self._store.run(handed)

    async def forget_thread(self, thread_id: str) -> None:
        """Delete every key of a thread, waiting and failed messages included.

        The provider's conversation is not touched. The call scans all records under the prefix: use
        it for erasure requests, not for every message.

        Raises:
            ThreadBusy: A worker holds the thread. Nothing was deleted.
        """
        await self._store.run(self._commands.forget(thread_id))

    async def get_jobs_by_thread_id(self, thread_id: str) -> list[MessageStatus]:
        """Return a thread's messages that wait or are in a batch, in order."""
        return await self._store.run(self._commands.jobs_of(thread_id))

    async def get_messages_by_job_id(self, job_id: str) -> list[MessageStatus]:
        """Return the messages with receipts that named this wake-up, in the order of their adds.

        RQ forgets the job of a wake-up when a worker takes it; the record of a message keeps its
        id, as long as `get_message` knows the message. The call scans all records under the prefix:
        it is for an operator with an id from a log or from RQ. Programs keep the `message_id`.

        Args:
            job_id: The `job_id` of a receipt. Several messages of a window share one.

        Raises:
            InvalidArgument: The id is not a string of 1 to 512 characters.
        """
        return await self._store.run(self._commands.messages_of_job(job_id))

    async def get_queue(self) -> rq.Queue:
        """Return RQ's queue of wake-ups, for RQ's tools; messages are not in it.

        Calls on the RQ queue block, also on the asyncio class.
        """
        import rq

        return rq.Queue(
            self.config.queue_prefix, connection=sync_from(self.config.redis, self.config.redis_url)
        )

    # --- what is where ----------------------------------------------------------------------------

    async def explain(self, message_or_thread_id: str) -> Explanation:
        """Return why a message has no answer (yet), or what became of it, with the evidence.

        Reads only: at most a dozen round trips, whatever is queued. Evidence that this user of
        Redis may not read is left out.

        Args:
            message_or_thread_id: The id of a message; if there is none, of a thread. Else it may be
                the `job_id` of a receipt, as long as that wake-up waits or runs.

        Raises:
            NotPermitted: This user of Redis may not read messages and threads.
        """
        return await self._store.run(self._commands.explain(message_or_thread_id))

    async def get_queue_status(self) -> QueueStatus:
        """Return the numbers of messages by state.

        Counters are kept, so the cost does not depend on the number of messages.
        """
        return await self._store.run(self._commands.queue_status())

    async def get_metrics(self) -> Metrics:
        """Return what was counted since the prefix exists, and what is now.

        The scripts that change the queue count in the same step: exact over forks, kills and
        machines. Two or three round trips, whatever is queued. `docs/metrics.md` says what each
        count means.

        Raises:
            NotPermitted: This user of Redis may not read the counts. Without the right to read
                RQ's records of workers, `workers` is empty.
        """
        return await self._store.run(self._commands.metrics())

    async def get_thread_status(self, thread_id: str) -> ThreadStatus:
        """Return one thread's status; a thread that was never used is `idle`."""
        return await self._store.run(self._commands.thread_status(thread_id))

    async def get_timeline(
        self, thread_id: str, limit: int = 50, before: str | None = None
    ) -> list[BatchRecord]:
        """Return what became of the thread's latest batches, newest first: its journal.

        Each batch that ends leaves a record without texts, and so does each text of `say`. The last
        `journal` of them are kept, for `journal_ttl`; an unknown thread has none. A batch that has
        not ended is in `get_thread_status`. One round trip.

        Args:
            thread_id: The thread.
            limit: Records to return, 1 to 1000.
            before: The last `batch_id` of the previous page, None for the first page.

        Raises:
            InvalidArgument: An argument is none of these.
            BatchNotFound: `before` is not in the journal, or not any more.
            NotPermitted: This user of Redis may not read journals.
        """
        return await self._store.run(self._commands.timeline(thread_id, limit, before))

    async def list_threads(
        self,
        state: ThreadFilter | None = None,
        limit: int = 100,
        after: str | None = None,
        order: ThreadOrder = "oldest_due",
    ) -> list[ThreadStatus]:
        """Return threads that are not idle, in the order of the time when each is next checked.

        Args:
            state: `pending`, `active`, `retrying`, `held`; `stuck` (overdue by more than 5 s: no
                worker is alive, or they are full), `paused`, `taken_over`, or `parked` (a batch of
                it waits for an answer from outside, or is in the failed list because its outcome
                is unknown). None for all but paused threads. Filters by a state, and `parked`, read
                all threads that wait.
            limit: Threads to return, 1 to 1000.
            after: The last `thread_id` of the previous page, None for the first page.
            order: `oldest_due` or `newest_due`. Of paused threads and those that are taken over
                the earliest comes first, or last.

        Raises:
            InvalidArgument: A word is none of these, or `after` is not in the list any more.
        """
        return await self._store.run(self._commands.list_threads(state, limit, after, order))

    # --- what has failed --------------------------------------------------------------------------

    async def list_failed(self, limit: int = 100, after: str | None = None) -> list[FailedBatch]:
        """Return failed batches, oldest first.

        Args:
            limit: Batches to return, 1 to 1000.
            after: The last `batch_id` of the previous page, None for the first page.

        Raises:
            BatchNotFound: `after` is no longer in the list.
        """
        return await self._store.run(self._commands.list_failed(limit, after))

    async def retry_failed(self, batch_id: str) -> None:
        """Move a failed batch back to its thread's head, due at once.

        A reply (`undelivered`, `delivery_unknown`) is delivered again at once, without another run,
        before those that wait; `RunResult.late` marks it.

        Raises:
            BatchNotFound: It is not in the failed list. Nothing was changed.
        """
        await self._store.run(self._commands.retry_failed(batch_id))

    async def discard_failed(self, batch_id: str) -> None:
        """Delete a failed batch and its texts; its messages stay `failed` for `result_ttl`.

        Of a reply: it is not delivered; its messages stay `completed`.

        Raises:
            BatchNotFound: It is not in the failed list. Nothing was changed.
        """
        await self._store.run(self._commands.discard_failed(batch_id))

    async def retry_failed_all(
        self, reason: FailureReason | None = None, thread_id: str | None = None
    ) -> int:
        """Retry every batch of the failed list, or those with this reason or of this thread.

        Returns:
            How many were retried; batches that fail again meanwhile are not counted twice.
        """
        return await self._store.run(self._commands.retry_failed_all(reason, thread_id))

    async def discard_failed_all(
        self, reason: FailureReason | None = None, thread_id: str | None = None
    ) -> int:
        """Discard every batch of the failed list, or those with this reason or of this thread.

        Returns:
            How many were discarded.
        """
        return await self._store.run(self._commands.discard_failed_all(reason, thread_id))

    # --- work -------------------------------------------------------------------------------------

    async def start_worker(self) -> LoopWorkerHandle:
        """Start an asyncio worker on this event loop, with this object's options and callbacks.

        Callbacks can use objects that belong to the loop. Each call starts another worker, with
        its own `concurrency` runs; a warning is logged if an earlier one still runs.

        Raises:
            ConfigurationError: No backend is configured, or its key is missing. Nothing was
                started.
            StoreUnavailable: Redis did not answer. Nothing was started.
        """
        from assistant_queue.worker.loop_handle import LoopWorkerHandle

        self._commands.warn_of_workers(sum(worker.is_alive for worker in self._workers))
        handle = LoopWorkerHandle(self.config, clock=self.core.clock)
        await handle.start()
        self._workers.append(handle)
        return handle
