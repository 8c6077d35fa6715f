"""A user's own queue, rehearsed: its callbacks and options, with the provider, Redis and time played by stand-ins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import fakeredis

from assistant_queue.aio import AsyncAssistantMessageQueue
from assistant_queue.models import MessageStatus, Receipt
from assistant_queue.queue import AssistantMessageQueue
from assistant_queue.testing.clock import FakeClock
from assistant_queue.testing.harness import InstantWorker
from assistant_queue.testing.provider import Personality, StandInProvider
from assistant_queue.testing.provider.script import ModelScript, echo

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

Queue = AssistantMessageQueue | AsyncAssistantMessageQueue


class Rehearsal:
    """Plays a conversation with a queue in milliseconds; nothing waits, nothing leaves the machine.

    1. `say` adds a message, as a person would
    2. `run_until_idle` works until everything is answered: windows, back-offs and leases pass on the clock
    3. `replies` and `provider` tell what was answered, and what the model was really given

    Attributes:
        queue: A blocking queue with the options and callbacks of the one that is rehearsed, on a Redis in memory.
        provider: The stand-in; `provider.model = ...` says what the model answers.
        clock: Time; `clock.advance(seconds)` lets it pass.
    """

    def __init__(self, queue: Queue, model: ModelScript = echo, *, personality: Personality | str | None = None) -> None:
        """Describe a rehearsal; it starts with the `with` block.

        Args:
            queue: The user's queue; it is not used itself, nor changed.
            model: What the model says; by default it repeats what it was told.
            personality: Which server the stand-in is: a name, `vllm` say, or a `Personality`; OpenAI's own if left out.

        Raises:
            UnknownPersonality: No server of this name is known.
        """
        self._original = queue
        self.provider = StandInProvider(model, latency=0, personality=personality)
        self.clock = FakeClock()
        self.queue: AssistantMessageQueue

    def __enter__(self) -> Self:
        self.provider.start()
        self.queue = self._twin()
        return self

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        self.queue.close()
        self.provider.stop()

    def _twin(self) -> AssistantMessageQueue:
        config = self._original.config
        # A Redis in memory has no replica to wait for.
        update: dict[str, Any] = {"redis": self._redis(), "durability": "local"}
        if config.backend is None:
            update |= {
                "openai_api_key": _secret(self.provider.api_key),
                "openai_base_url": self.provider.base_url,
                "openai_client": None,
                "assistant_id": self.provider.assistant_id if config.assistant_id is not None else None,
                "model": config.model or (None if config.assistant_id or config.prompt else "stand-in-model"),
            }
        twin = AssistantMessageQueue.__new__(AssistantMessageQueue)
        twin.config = config.model_copy(update=update)
        twin._clock = self.clock  # noqa: SLF001 - a queue of the same options with another clock
        twin._open()  # noqa: SLF001 - the same
        return twin

    def _redis(self) -> Any:
        return fakeredis.FakeRedis(server=fakeredis.FakeServer())

    def say(self, thread_id: str, message: Any, **details: Any) -> Receipt:
        """Add a message; `details` are those of `add_message_to_thread`."""
        return self.queue.add_message_to_thread(thread_id, message, **details)

    def run_until_idle(self, probe: Callable[..., Any] | None = None) -> int:
        """Answer everything that waits; the number of wake-ups it took. In a coroutine, await `arun_until_idle` instead.

        Raises:
            Stuck: It does not end.
        """
        return InstantWorker(self.queue.config, self.clock, probe=probe).run_until_idle()

    async def arun_until_idle(self) -> int:
        """`run_until_idle` for coroutines; the queue's callbacks run on this event loop."""
        return await InstantWorker(self.queue.config, self.clock).arun_until_idle()

    def ask(self, thread_id: str, message: Any, **details: Any) -> str | None:
        """Say something, work until everything is answered, and return the reply."""
        receipt = self.say(thread_id, message, **details)
        self.run_until_idle()
        return self.queue.wait_for_reply(receipt.message_id, timeout=0)

    def status(self, receipt: Receipt) -> MessageStatus | None:
        """What became of a message."""
        return self.queue.get_message(receipt.message_id)

    def replies(self, thread_id: str) -> list[str]:
        """What the model said in a thread, in order: from the provider's own records, of Chat Completions from the queue's."""
        if self.queue.config.protocol == "chat_completions":
            said = self.queue.list_messages(thread_id, limit=100, order="asc")
            return [message.text for message in said if message.role == "assistant"]
        return [text for name in self._conversations(thread_id) for text in self.provider.assistant_texts(name)]

    def _conversations(self, thread_id: str) -> list[str]:
        found: Any = self.queue.config.redis.hget(self.queue._door.space.keys.conversation(thread_id), "id")  # noqa: SLF001 - the queue's own keys
        return [found.decode()] if found else [thread_id]


def _secret(key: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(key)
