"""The front door for blocking code: `AssistantMessageQueue`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import redis
from pydantic import BaseModel
from typing_extensions import Self, Unpack

from assistant_queue import arguments
from assistant_queue.config import Config, Options, configure
from assistant_queue.direct_doors import DirectCalls
from assistant_queue.door import RECHECK_S, Door, TakesTools, settled_reply
from assistant_queue.errors import WrongQueueClass
from assistant_queue.event_doors import EventCalls
from assistant_queue.models import Content, FailedBatch, MessageStatus, QueueStatus, Receipt, ThreadStatus
from assistant_queue.store.connect import listening, sync_from
from assistant_queue.store.lane import Lane
from assistant_queue.store.refusals import translate
from assistant_queue.store.stores import SyncStore

if TYPE_CHECKING:
    import rq

    from assistant_queue.clock import Clock
    from assistant_queue.worker.handle import WorkerHandle


def options_signature() -> inspect.Signature:
    """The constructor's signature, from the options themselves."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(
        [
            inspect.Parameter(name, keyword, default=field.default, annotation=field.annotation)
            for name, field in Config.model_fields.items()
        ]
    )


def options_help() -> str:
    """Return the options for `help()`, from the options themselves: the documentation is not where a wheel is installed."""
    lines = ["", "    Options, with their defaults:"]
    for name, field in Config.model_fields.items():
        default = field.default.model_dump() if isinstance(field.default, BaseModel) else field.default
        unit = field.json_schema_extra.get("unit") if isinstance(field.json_schema_extra, dict) and default is not None else None
        lines.append(f"        {name} ({default!r}{f' {unit}' if unit else ''}): {field.description}")
    return "\n".join([*lines, "    "])


class AssistantMessageQueue(TakesTools, DirectCalls, EventCalls):
    """Gathers a thread's messages within a window and has a worker answer them in one run.

    1. takes messages: one round trip to Redis, nothing else
    2. tells what became of them, and waits for their replies
    3. shows and settles what has failed
    4. runs a worker on a thread of this process, if asked to
    5. makes direct calls on the provider's threads, beside the queue
    6. tells what happens to a thread, as it happens

    Safe to use from several threads. An error in an option raises ConfigurationError (UnknownOption for a name that does not exist) before
    anything is connected.
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
        client = sync_from(given, self.config.redis_url)
        self._owns_client = client is not given
        # Only of a client of our own: one that was given may have no connection to spare.
        execute = Lane(client).execute if given is None else None
        self._store = SyncStore(client, execute=execute, spaces=(self._door.space,))
        self._listening = listening(self._store.client)
        self._workers: list[WorkerHandle] = []
        self._open_direct()
        self._open_events()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(queue_prefix={self.config.queue_prefix!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> NoReturn:
        """Refuse; raises WrongQueueClass."""
        raise WrongQueueClass("AssistantMessageQueue blocks: use `with`, or AsyncAssistantMessageQueue with `async with`")

    async def __aexit__(self, *_: object) -> None:
        """Never reached."""

    def close(self) -> None:
        """Stop this object's workers and give its connections back (not those of a client that was given). Idempotent.

        The object stays usable: a later call connects again, so that a message that arrives while a process ends is taken and not lost.
        Close it once more after that.
        """
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.stop()
        self._close_events()
        self._close_direct()
        if self._owns_client:
            self._listening.close()
            self._store.close()

    # --- messages -----------------------------------------------------------------------------------------------------

    def add_message_to_thread(
        self,
        thread_id: str,
        message: Content,
        instructions: str | None = None,
        *,
        message_id: str | None = None,
        author: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Receipt:
        """Take a message: from now on it ends in exactly one completed run, or in the failed list.

        Args:
            thread_id: The conversation; any string of 1 to 512 characters.
            message: A non-blank text, or the provider's content parts.
            instructions: For the run over this message, instead of the default.
            message_id: Unique within the prefix; the same id, thread and content again is the same message. None generates one.
            author: Its author, as the model shall see it.
            metadata: Up to 14 pairs of strings, kept with the message.

        Raises:
            InvalidArgument: An argument is of the wrong type, empty or too long. Nothing was queued.
            MessageRefused: A validator said no (also an InvalidArgument). Nothing was queued.
            MessageIdConflict: The id is another message's. Nothing was queued.
            ThreadFull: The thread holds `max_pending` waiting messages. Nothing was queued.
            StoreUnavailable: Redis did not answer; whether the message was taken is not known. Add it again with the same `message_id`.
        """
        checked, made = self._door.make(thread_id, message, instructions, message_id=message_id, author=author, metadata=metadata)
        self._door.validate(made, checked)
        return self._store.run(self._door.add_made(checked, made))

    def ask(
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
        """Add a message and wait for the reply of its run; raises what `add_message_to_thread` and `wait_for_reply` raise.

        After a TimeoutError the message is still queued and will be answered.
        """
        arguments.check_timeout(timeout)
        receipt = self.add_message_to_thread(thread_id, message, instructions, message_id=message_id, author=author, metadata=metadata)
        return self.wait_for_reply(receipt.message_id, timeout)

    def get_message(self, message_id: str) -> MessageStatus | None:
        """What is known of a message; None if there is no record of it (any more)."""
        return self._store.run(self._door.get_message(message_id))

    def wait_for_reply(self, message_id: str, timeout: float = 60) -> str | None:
        """Wait until the message's run has ended: its messages joined by a blank line, None if it said nothing.

        The caller is woken by Redis, it does not poll. In a running event loop it blocks all coroutines; that is logged as a warning.

        Args:
            message_id: As the receipt says.
            timeout: Seconds; 0 looks once.

        Raises:
            TimeoutError: It has not ended yet. It will be answered all the same.
            MessageNotFound: There is no such message.
            MessageCancelled: It was cancelled.
            BatchFailed: Its batch is in the failed list; `batch_id` says which. With a `fallback_reply` that text is returned instead, and
                `get_message` says that it is one.
        """
        until = self._door.clock.monotonic() + arguments.check_timeout(timeout)
        status = self.get_message(message_id)
        settled, reply = settled_reply(message_id, status)
        if settled or status is None:
            return reply
        if timeout:
            self._door.warn_of_blocking("wait_for_reply")
        try:
            with self._listening.pubsub() as words:
                words.subscribe(self._door.space.keys.done(status.thread_id))
                words.get_message(timeout=RECHECK_S)  # the subscription stands; what ended before it is seen by the next look
                while True:
                    settled, reply = settled_reply(message_id, self.get_message(message_id))
                    if settled:
                        return reply
                    left = until - self._door.clock.monotonic()
                    if left <= 0:
                        raise TimeoutError(f"message {message_id!r} has no reply after {timeout:g} s; it stays queued and will be answered")
                    words.get_message(timeout=min(left, RECHECK_S))
        except (redis.RedisError, OSError) as error:
            if isinstance(error, TimeoutError) and not isinstance(error, redis.RedisError):
                raise
            raise translate(error) from error

    def add_messages(self, messages: Iterable[Mapping[str, Any]]) -> list[Receipt]:
        """Add many messages, a few hundred in one round trip; those of one thread keep their order.

        Args:
            messages: Dicts of the arguments of `add_message_to_thread`: `thread_id` and `message`, and the optional ones.

        Raises:
            InvalidArgument: A row is wrong; the message says which. Nothing was queued.
            MessageRefused: A validator said no to one of them. None of them was queued.
            MessageIdConflict, ThreadFull: Of one message; others are queued. With `message_id`s the call can be repeated.
        """
        return self._store.run(self._door.add_many(messages))

    def cancel(self, message_id: str) -> bool:
        """Take a message out that still waits: True if it is `cancelled` now, False if it is in a batch, over or unknown."""
        return self._store.run(self._door.cancel(message_id))

    def edit_message(self, message_id: str, message: Content) -> bool:
        """Replace the content of a message that still waits: True if it was, False if it is in a batch already, or over.

        Raises:
            InvalidArgument: The content is empty, too long or of the wrong type. Nothing was changed.
            MessageRefused: A validator said no to the new content. Nothing was changed.
            MessageNotFound: There is no such message.
        """
        return self._store.run(self._door.edit(message_id, message))

    # --- control ------------------------------------------------------------------------------------------------------

    def pause(self, thread_id: str | None = None) -> None:
        """Accept messages and claim nothing: of one thread, or of the whole queue. What a worker holds goes on to its end."""
        self._store.run(self._door.pause(thread_id))

    def resume(self, thread_id: str | None = None) -> None:
        """Claim again; what fell due meanwhile is answered at once."""
        self._store.run(self._door.resume(thread_id))

    def forget_thread(self, thread_id: str) -> None:
        """Remove every key of a thread, waiting and failed messages included; the provider's conversation is not touched.

        Looks through all records under the prefix: for a person's request, not for every message.

        Raises:
            ThreadBusy: A worker holds the thread. Nothing was removed.
        """
        self._store.run(self._door.forget(thread_id))

    def get_jobs_by_thread_id(self, thread_id: str) -> list[MessageStatus]:
        """What waits and what is being worked on in a thread, in order."""
        return self._store.run(self._door.jobs_of(thread_id))

    def get_queue(self) -> rq.Queue:
        """RQ's own queue of wake-ups, for its tools; messages are not in it."""
        import rq

        return rq.Queue(self.config.queue_prefix, connection=self._store.client)

    # --- what is where ------------------------------------------------------------------------------------------------

    def get_queue_status(self) -> QueueStatus:
        """How many messages are where; counters are kept, so the cost does not depend on how many there are."""
        return self._store.run(self._door.queue_status())

    def get_thread_status(self, thread_id: str) -> ThreadStatus:
        """Where one thread stands; a thread that was never used is idle."""
        return self._store.run(self._door.thread_status(thread_id))

    # --- what has failed ----------------------------------------------------------------------------------------------

    def list_failed(self, limit: int = 100, after: str | None = None) -> list[FailedBatch]:
        """The failed batches, oldest first; `after` is the last `batch_id` of the page before.

        Raises:
            BatchNotFound: `after` is not in the list any more.
        """
        return self._store.run(self._door.list_failed(limit, after))

    def retry_failed(self, batch_id: str) -> None:
        """Put a failed batch back at its thread's head, due at once.

        Raises:
            BatchNotFound: It is not in the failed list. Nothing was changed.
        """
        self._store.run(self._door.retry_failed(batch_id))

    def discard_failed(self, batch_id: str) -> None:
        """Give a failed batch up: its texts go, its messages stay `failed` for `result_ttl`.

        Raises:
            BatchNotFound: It is not in the failed list. Nothing was changed.
        """
        self._store.run(self._door.discard_failed(batch_id))

    # --- work ---------------------------------------------------------------------------------------------------------

    def start_worker(self) -> WorkerHandle:
        """Start an asyncio worker on a thread of this process, with this object's options and callbacks.

        Each call starts another one, with `concurrency` runs of its own; a warning is logged if an earlier one still runs.

        Raises:
            ConfigurationError: No backend is configured, or its key is missing. Nothing was started.
            StoreUnavailable: Redis did not answer. Nothing was started.
        """
        from assistant_queue.worker.handle import WorkerHandle

        self._door.warn_of_workers(sum(worker.is_alive for worker in self._workers))
        handle = WorkerHandle(self.config, clock=self._clock)
        self._workers.append(handle)
        return handle
