"""Rehearsal of a user's queue: its callbacks and options, with a fake provider, Redis and clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import fakeredis

from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.client.queue_core import open_async_core, open_core
from assistant_queue.models import MessageStatus, Receipt
from assistant_queue.store.ops.conversations import find_conversation
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.testing.harness import InstantWorker
from assistant_queue.testing.provider import Personality, StandInProvider
from assistant_queue.testing.provider.script import ModelScript, echo

Queue = AssistantMessageQueue | AsyncAssistantMessageQueue


class Rehearsal:
    """Runs a conversation with a queue in milliseconds, without waiting and without a network.

    1. `say` adds a message
    2. `run_until_idle` works until everything is answered: windows, back-offs and leases pass on
       the clock
    3. `replies` and `provider` have the answers, and the requests that the model received

    Attributes:
        queue: A blocking queue with the options and callbacks of the rehearsed one, on a Redis in
            memory. `async_queue` is the asyncio queue beside it.
        provider: The stand-in; `provider.model` is a function that returns the model's answer.
        clock: The clock of the queue; `clock.advance(seconds)` moves it.
    """

    def __init__(
        self,
        queue: Queue,
        model: ModelScript = echo,
        *,
        personality: Personality | str | None = None,
    ) -> None:
        """Prepare a rehearsal; it starts with the `with` block.

        Args:
            queue: The user's queue; it is neither used nor changed.
            model: Returns the model's answers; by default it repeats its input.
            personality: The server that the stand-in imitates: a name, such as `vllm`, or a
                `Personality`; OpenAI's by default.

        Raises:
            UnknownPersonality: There is no server of this name.
        """
        self._original = queue
        self.provider = StandInProvider(model, latency=0, personality=personality)
        self.clock = FakeClock()
        self.queue: AssistantMessageQueue

    def __enter__(self) -> Self:
        self.provider.start()
        self.queue = self._twin()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.queue.close()
        self.provider.stop()

    @cached_property
    def async_queue(self) -> AsyncAssistantMessageQueue:
        """The asyncio queue beside `queue`: same options, Redis and clock.

        It belongs to the event loop that first uses it; `arun_until_idle` answers its messages.
        """
        return AsyncAssistantMessageQueue(open_async_core(self.queue.config, self.clock))

    @contextmanager
    def patched(self, queue: Queue) -> Iterator[Self]:
        """Have a queue object act on this rehearsal's Redis and clock within the block.

        For code under test that uses a queue of its module: handlers of webhooks, routes, commands.

        Args:
            queue: The object, of either class; its own connections are not used meanwhile.
        """
        is_asyncio = isinstance(queue, AsyncAssistantMessageQueue)
        twin: Queue = self.async_queue if is_asyncio else self.queue
        own = dict(vars(queue))
        vars(queue).clear()
        vars(queue).update(vars(twin))
        try:
            yield self
        finally:
            vars(queue).clear()
            vars(queue).update(own)

    def _twin(self) -> AssistantMessageQueue:
        config = self._original.config
        # A Redis in memory has no replica to wait for.
        update: dict[str, Any] = {"redis": self._redis(), "durability": "local"}
        if config.backend is None:
            update |= {
                "openai_api_key": _secret(self.provider.api_key),
                "openai_base_url": self.provider.base_url,
                "openai_client": None,
                "assistant_id": self.provider.assistant_id
                if config.assistant_id is not None
                else None,
                "model": config.model
                or (None if config.assistant_id or config.prompt else "stand-in-model"),
            }
        return AssistantMessageQueue(open_core(config.model_copy(update=update), self.clock))

    def _redis(self) -> Any:
        return fakeredis.FakeRedis(server=fakeredis.FakeServer())

    def say(self, thread_id: str, message: Any, **details: Any) -> Receipt:
        """Add a message; `details` are those of `add_message_to_thread`."""
        return self.queue.add_message_to_thread(thread_id, message, **details)

    def run_until_idle(self, probe: Callable[..., Any] | None = None) -> int:
        """Answer all pending messages; return the number of wake-ups.

        In a coroutine, await `arun_until_idle` instead.

        Raises:
            Stuck: The queue does not become idle.
        """
        return InstantWorker(self.queue.config, self.clock, probe=probe).run_until_idle()

    async def arun_until_idle(self) -> int:
        """`run_until_idle` for coroutines; the queue's callbacks run on this event loop."""
        return await InstantWorker(self.queue.config, self.clock).arun_until_idle()

    def ask(self, thread_id: str, message: Any, **details: Any) -> str | None:
        """Add a message, answer all pending ones, and return the reply."""
        receipt = self.say(thread_id, message, **details)
        self.run_until_idle()
        return self.queue.wait_for_reply(receipt.message_id, timeout=0)

    def status(self, receipt: Receipt) -> MessageStatus | None:
        """Return the status of a message."""
        return self.queue.get_message(receipt.message_id)

    def replies(self, thread_id: str) -> list[str]:
        """Return the model's messages of a thread, in order.

        They are read from the provider's records; with Chat Completions from the queue's history.
        """
        if self.queue.config.protocol == "chat_completions":
            said = self.queue.list_messages(thread_id, limit=100, order="asc")
            return [message.text for message in said if message.role == "assistant"]
        return [
            text
            for name in self._conversations(thread_id)
            for text in self.provider.assistant_texts(name)
        ]

    def _conversations(self, thread_id: str) -> list[str]:
        core = self.queue.core
        found = core.store.run(find_conversation(core.namespace, thread_id))
        return [found or thread_id]


def _secret(key: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(key)
